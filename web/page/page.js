// The page: renders a status and the connections. Both shells use it.

import { connectionList } from './connections.js';
import { element, patch } from './dom.js';
import { readConnections, readStatus } from './fields.js';
import { History } from './graph.js';
import { _, fill, printable, rate, useLanguage } from './text.js';
import { name, phraseElement, since, stateBadge, uplinkCard } from './uplink.js';

export { element, patch } from './dom.js';
export { MODES, readChanges, readError, readStatus } from './fields.js';
export { _, fill, useLanguage } from './text.js';

const epochSeconds = () => Date.now() / 1000;

function notice(kind, title, ...paragraphs) {
	return element('div', { class: 'notice ' + kind, 'data-key': 'notice ' + title },
		element('p', {}, element('strong', {}, title)),
		paragraphs.filter(text => text).map(text => element('p', {}, text)));
}

function otherVersionNotice(version) {
	return notice('error', _('The daemon and this page have different versions.'),
		fill(_('Its status has version {version}. Reload the page. If this does not help, install ' +
			'the page and the daemon from the same release.'), { version }));
}

/* The duration is hidden from screen readers, which would announce every change of it. */
function problemItem(problem, now) {
	const long = since(problem.since, now);
	if (long)
		long.setAttribute('aria-hidden', 'true');
	return element('li', { class: problem.severity },
		element('p', { class: 'problem' }, phraseElement('span', {}, problem.text), long ? [' ', long] : null),
		problem.others.length ? element('p', { class: 'aside' }, problem.others.join(', ')) : null,
		problem.advice.text ? phraseElement('p', { class: 'advice' }, problem.advice) : null);
}

function problemSection({ problems, now }) {
	const list = problems.length
		? element('ul', { class: 'problems' }, problems.map(problem => problemItem(problem, now)))
		: element('p', { class: 'fine' }, _('Everything is as configured.'));
	return element('section', { 'aria-labelledby': 'mproutd-problems' },
		element('h2', { id: 'mproutd-problems' }, _('Problems')),
		element('div', { 'aria-live': 'polite' }, list));
}

function uplinkSection(status, history, controls) {
	const cards = status.uplinks.map(uplink => uplinkCard(uplink, status.now,
		history.of(uplink), controls ? controls(uplink) : null));
	return element('section', { 'aria-labelledby': 'mproutd-uplinks' },
		element('h2', { id: 'mproutd-uplinks' }, _('Uplinks')),
		element('div', { class: 'uplinks' }, cards));
}

function share(carrier, byMain) {
	const parts = [name(carrier.name)];
	if (carrier.percent !== null)
		parts.push(' ' + Math.round(carrier.percent) + ' %');
	if (byMain)
		parts.push(' (main)');
	return element('dd', {}, parts);
}

function otherSection(other) {
	const rows = other.map(flow => element('div', { class: 'fact' },
		element('dt', {}, flow.origin ? [flow.family + ' ', name(flow.origin)] : flow.family),
		flow.shares.length ? flow.shares.map(carrier => share(carrier, flow.byMain))
			: element('dd', {}, _('unreachable'))));
	return element('section', { 'aria-labelledby': 'mproutd-other' },
		element('h2', { id: 'mproutd-other' }, _('Other traffic')),
		rows.length ? element('dl', { class: 'facts other' }, rows)
			: element('p', {}, _('Routed by the main table.')));
}

function headline(status) {
	const count = fill(_('{usable} of {count} uplinks usable'),
		{ usable: status.usable, count: status.uplinks.length });
	if (!status.running)
		return element('p', { class: 'headline' }, [count, ' – ',
			_('mproutd is not running; this is what it would find when started.')]);
	return element('p', { class: 'headline' }, status.standby
		? [count, ' – ', _('in standby: the other gateway of the pair carries the traffic.')] : count);
}

/* Renders into `root`, in the shell's language. */
export class Page {
	/*
	 * `controls(uplink)` returns an element that replaces the mode of an uplink's card.
	 * `onConnections(open)` is called when the user opens or closes the connections.
	 */
	constructor(root, { gettext, language, controls = null, onConnections = null }) {
		useLanguage(gettext, language);
		this.root = root;
		this.controls = controls;
		this.history = new History();
		this.status = null;
		this.connections = null;
		this.allConnections = false;
		root.classList.add('mproutd');
		root.lang = language;
		this.notices = element('div', { 'aria-live': 'assertive' });
		this.body = element('div', {}, element('p', {}, _('Loading…')));
		this.list = element('div', {});
		this.section = this.connectionSection(onConnections);
		this.section.hidden = true;
		root.replaceChildren(this.notices, this.body, this.section);
	}

	connectionSection(onConnections) {
		const details = element('details', {}, element('summary', {},
			element('h2', {}, _('Connections'))), this.list);
		details.addEventListener('toggle', () => {
			if (onConnections)
				onConnections(details.open);
		});
		details.addEventListener('click', event => {
			if (event.target.closest('[data-action="all-connections"]')) {
				this.allConnections = true;
				this.drawConnections();
			}
		});
		return element('section', {}, details);
	}

	/* Shows the JSON of a status. */
	show(json) {
		const status = readStatus(json, epochSeconds());
		if (status.otherVersion !== null) {
			this.draw(otherVersionNotice(status.otherVersion));
			return null;
		}
		this.status = status;
		this.history.record(status.uplinks);
		this.fine();
		this.redraw();
		return status;
	}

	/* Renders the last status again, after a control has changed. */
	redraw() {
		if (this.status)
			this.draw(...this.sections(this.status));
	}

	sections(status) {
		if (!status.enabled)
			return [notice('plain', _('Multipath is not enabled.'),
				_('mproutd installs nothing until `multipath` is set to `enable` in the section ' +
					'`globals` of the file `network`.'))];
		if (!status.uplinks.length)
			return [headline(status), notice('plain', _('No uplink is configured.'))];
		return [
			headline(status),
			problemSection(status),
			uplinkSection(status, this.history, this.controls),
			otherSection(status.other),
		];
	}

	draw(...sections) {
		patch(this.body, element('div', {}, sections));
		this.section.hidden = !this.status;
	}

	/* Reports why there is no new status. The last one stays, dimmed. */
	fail(title, ...paragraphs) {
		this.root.classList.toggle('stale', this.status !== null);
		patch(this.notices, element('div', { 'aria-live': 'assertive' },
			notice('error', title, ...paragraphs.map(printable))));
		if (!this.status)
			this.body.replaceChildren();
	}

	fine() {
		this.root.classList.remove('stale');
		patch(this.notices, element('div', { 'aria-live': 'assertive' }));
	}

	/* Shows the JSON of the connections. */
	showConnections(json) {
		this.connections = readConnections(json);
		this.drawConnections();
	}

	drawConnections() {
		patch(this.list, element('div', {}, connectionList(this.connections, this.allConnections)));
	}

	failConnections(text) {
		patch(this.list, element('div', {}, notice('error', _('The connections cannot be listed.'), printable(text))));
	}
}

/* A short table of the uplinks, for the overview of a router. */
export function summary(json, { gettext, language }) {
	useLanguage(gettext, language);
	const status = readStatus(json, epochSeconds());
	if (status.otherVersion !== null)
		return element('div', { class: 'mproutd' }, otherVersionNotice(status.otherVersion));
	const heads = [_('Uplink'), _('Mode'), _('State'), _('In'), _('Out')];
	const rows = status.uplinks.map(uplink => {
		const current = uplink.rate || { received: null, sent: null };
		const why = status.problems.length && !uplink.usable && !uplink.unused
			? uplink.families.map(family => family.why).find(why => why.text) : null;
		return element('tr', {},
			element('th', { scope: 'row' }, name(uplink.name)),
			element('td', {}, uplink.mode),
			element('td', {}, stateBadge(uplink), why ? [' ', phraseElement('span', {}, why)] : null),
			element('td', {}, rate(current.received)),
			element('td', {}, rate(current.sent)));
	});
	return element('div', { class: 'mproutd summary', lang: language },
		element('table', {},
			element('thead', {}, element('tr', {}, heads.map(head =>
				element('th', { scope: 'col' }, head)))),
			element('tbody', {}, rows)),
		status.problems.length ? element('p', {}, fill(_('Problems: {count}'),
			{ count: status.problems.length })) : null);
}
