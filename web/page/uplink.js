// The card of an uplink.

import { element } from './dom.js';
import { graph } from './graph.js';
import { _, bytes, duration, fill, milliseconds, percent, rate, when } from './text.js';

/* A name from the configuration or the kernel, isolated from the text direction around it. */
export function name(text) {
	return element('bdi', {}, text);
}

/* A term with its details, without those that are null. */
function fact(term, ...details) {
	return element('div', { class: 'fact' }, element('dt', {}, term),
		details.filter(detail => detail !== null).map(detail => element('dd', {}, detail)));
}

export function badge(kind, text, lang = null) {
	return element('span', { class: 'badge ' + kind, lang }, text);
}

/* The state of an uplink as a word and a symbol. */
export function stateBadge(uplink) {
	if (uplink.usable)
		return badge('good', _('up'));
	return uplink.unused ? badge('off', _('not usable')) : badge('bad', _('not usable'));
}

/* An element for a phrase of fields.js, with its lang attribute. */
export function phraseElement(tag, attributes, phrase) {
	return element(tag, { ...attributes, lang: phrase.lang }, phrase.text);
}

export function since(moment, now) {
	if (moment === null)
		return null;
	const datetime = new Date(moment * 1000).toISOString();
	return element('time', { class: 'since', title: when(moment), datetime },
		fill(_('for {duration}'), { duration: duration(now - moment) }));
}

function header(uplink, now, controls) {
	return element('header', {},
		element('h3', {}, name(uplink.name)),
		stateBadge(uplink),
		since(uplink.since, now),
		element('span', { class: 'mode' }, controls || badge('plain', uplink.mode)));
}

function endpointOf(uplink, address) {
	const endpoint = uplink.endpoints.find(each => each.address === address);
	if (!endpoint)
		return uplink.unused ? null : [_('no endpoint')];
	const words = [fill(_('endpoint {id} {flags}'),
		{ id: endpoint.id === null ? '' : endpoint.id, flags: endpoint.flags })];
	return endpoint.ok ? words : [words[0] + ' ', badge('bad', endpoint.state)];
}

function gatewayOf(family) {
	if (!family.hasGateway)
		return _('no gateway');
	if (!family.gateway)
		return _('no gateway needed');
	return [fill(_('via {gateway}'), { gateway: family.gateway }),
		' ', element('span', { class: 'aside' }, family.gatewaySource)];
}

function familyFacts(uplink, family) {
	const details = family.addresses.map(address => [
		element('span', { class: 'address' }, address), ' ',
		element('span', { class: 'aside' }, endpointOf(uplink, address)),
	]);
	details.push(...family.oldAddresses.map(address => [
		element('span', { class: 'address' }, address), ' ',
		element('span', { class: 'aside' }, _('for existing connections')),
	]));
	details.push(...family.prefixes.map(prefix => [
		element('span', { class: 'address' }, prefix), ' ',
		element('span', { class: 'aside' }, _('for the hosts behind')),
	]));
	if (details.length || family.hasGateway)
		details.push(gatewayOf(family));
	if (!family.usable && (details.length || !uplink.usable))
		details.push(phraseElement('span', { class: 'why' }, family.why));
	return details.length ? fact(family.name, ...details) : null;
}

function hostLine(host) {
	const words = [];
	if (host.latency !== null)
		words.push(milliseconds(host.latency * 1000));
	if (host.loss)
		words.push(fill(_('{loss} lost'), { loss: percent(host.loss) }));
	const state = host.answers === null ? null
		: host.answers ? badge('good', _('answers'))
			: badge('bad', host.error.text || _('no answer'), host.error.lang);
	return [name(host.name), ' ', state, ' ', element('span', { class: 'aside' }, words.join(', '))];
}

function checkFact(check) {
	const state = !check.running ? badge('off', _('not running'))
		: check.failed ? badge('bad', _('failed')) : badge('good', _('passed'));
	return fact(_('Health'),
		[fill(_('{family} by {method}'), { family: check.family, method: check.method }), ' ', state,
			check.inUse ? ' ' + _('still in use: no other uplink is usable') : null],
		check.error ? element('span', { class: 'why' }, check.error) : null,
		...check.hosts.map(hostLine));
}

function traffic(uplink, samples) {
	const current = uplink.rate || { received: null, sent: null };
	return element('div', { class: 'traffic' },
		graph(samples),
		element('dl', { class: 'rates' },
			element('div', { class: 'received' }, element('dt', {}, _('in')),
				element('dd', {}, rate(current.received))),
			element('div', { class: 'sent' }, element('dt', {}, _('out')),
				element('dd', {}, rate(current.sent)))));
}

function quotaFact(quota, now) {
	const { used, limit, end } = quota;
	const label = fill(_('{used} of {limit}'), { used: bytes(used), limit: bytes(limit) });
	return fact(_('Quota'), [
		element('meter', { min: 0, max: limit, value: Math.min(used, limit), 'aria-label': label }),
		' ', label,
	], end === null ? null : element('span', { class: 'aside' },
		fill(_('a new period in {duration}'), { duration: duration(Math.max(0, end - now)) })));
}

function overflowFact(overflow) {
	return fact(_('Overflow'), [badge('plain', _('carries')), ' ',
		element('span', { lang: 'en' }, overflow.reason)]);
}

function compared(title, rows) {
	if (!rows.length)
		return null;
	const meanings = { '=': _('present'), '+': _('missing'), '-': _('unexpected') };
	return [element('h4', {}, title), element('ul', { class: 'lines' }, rows.map(([mark, line]) =>
		element('li', { class: mark === '=' ? null : 'why' },
			element('span', { class: 'mark', 'aria-hidden': 'true' }, mark),
			element('span', { class: 'hidden' }, meanings[mark] + ': '), line)))];
}

function lookups(uplink) {
	const rows = uplink.families.flatMap(family => family.lookups);
	if (!rows.length)
		return null;
	return [element('h4', {}, _('Route lookups')), element('ul', { class: 'lines' }, rows.map(each =>
		element('li', {}, each.command, element('br', {}), each.answer || _('no route'), ' ',
			each.right ? badge('good', _('matches')) : badge('bad', _('does not match')))))];
}

function details(uplink) {
	return element('details', {},
		element('summary', {}, _('Routes and rules'),
			element('span', { class: 'hidden' }, ' ', name(uplink.name))),
		element('p', {}, fill(_('Table {table}'), { table: uplink.table }),
			uplink.mark ? ', ' + fill(_('mark {mark}'), { mark: uplink.mark }) : null),
		lookups(uplink),
		compared(_('Routes'), uplink.routes),
		compared(_('Rules'), uplink.rules));
}

function actionFact(action) {
	return fact(fill(_('Last script ({event})'), { event: action.event }),
		[name(action.program), ' ', action.text],
		action.output ? element('span', { class: 'aside' }, action.output) : null);
}

/*
 * `samples` is the history of its rates, `controls` an element that replaces the mode, or null.
 */
export function uplinkCard(uplink, now, samples, controls) {
	const total = fill(_('{received} in, {sent} out'),
		{ received: bytes(uplink.received), sent: bytes(uplink.sent) });
	return element('article', { class: 'uplink', 'data-key': uplink.key },
		header(uplink, now, controls),
		traffic(uplink, samples),
		element('dl', { class: 'facts' },
			fact(_('Device'), uplink.device ? name(uplink.device) : '–'),
			uplink.families.map(family => familyFacts(uplink, family)),
			uplink.health.map(checkFact),
			uplink.received === null ? null : fact(_('Total'), total),
			uplink.flows === null ? null : fact(_('Flows'), String(uplink.flows)),
			uplink.effectiveMode ? fact(_('Mode in use'), uplink.effectiveMode) : null,
			uplink.overflow === null ? null : overflowFact(uplink.overflow),
			uplink.quota === null ? null : quotaFact(uplink.quota, now),
			uplink.action === null ? null : actionFact(uplink.action)),
		details(uplink));
}
