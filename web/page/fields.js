// Reads the JSON of `mproutd status` and `mproutd connections`. Only this file knows its names.
//
// The rest of the module uses the results of readStatus() and readConnections(). A value of an
// undocumented type counts as missing. All text is made printable here.

import { _, N_, fill, isForeign, printable } from './text.js';

/* The supported version of the status. */
const VERSION = 1;

function text(value) {
	return typeof value === 'string' ? printable(value) : '';
}

function number(value) {
	return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function object(value) {
	return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
}

function list(value) {
	return Array.isArray(value) ? value : [];
}

function texts(value) {
	return list(value).map(text);
}

const FAMILIES = { ipv4: 'IPv4', ipv6: 'IPv6' };

function familyName(value) {
	return FAMILIES[value] || text(value);
}

export const MODES = ['on', 'master', 'backup', 'handover', 'off'];

const GATEWAY_SOURCES = {
	configuration: N_('configured'),
	netifd: N_('netifd'),
	lease: N_('lease'),
	ifupdown: N_('ifupdown'),
	main: N_('main table'),
	remembered: N_('last known'),
	'point-to-point': N_('point-to-point'),
	local: N_('own subnets only'),
};

const ENDPOINT_STATES = {
	missing: N_('missing'),
	differs: N_('differs'),
	foreign: N_('of another program'),
	misrouted: N_('withheld'),
};

/* Translates one of the daemon's codes by a table; unknown codes are shown as they are. */
function word(table, value) {
	return typeof value === 'string' && Object.hasOwn(table, value) ? _(table[value]) : text(value);
}

/* Text and its language; null is the language of the page. */
function phrase(words, isEnglish) {
	return { text: words, lang: isEnglish && isForeign() ? 'en' : null };
}

/* Translates a fixed English sentence of the daemon. */
function sentence(value, replace = whole => whole) {
	const english = text(value), translation = english ? _(english) : '';
	return phrase(replace(translation), translation === english);
}

/* "{name} and 3 others" in a template: one problem that stands for several. */
const OTHERS = /(\{(\w+)\}) and (\d+) others/;

/* Translates a sentence with values: looks up its `template` and inserts `values`. */
function filledSentence(value, template, values) {
	const known = typeof template === 'string' ? template : '';
	const single = known.replace(OTHERS, '$1');
	if (!single || _(single) === single)
		return phrase(text(value), true);
	const printed = {};
	for (const [name, each] of Object.entries(values))
		printed[name] = typeof each === 'number' ? Math.round(each) : text(each);
	const others = OTHERS.exec(known);
	if (others)
		printed[others[2]] += ' ' + fill(_('and {count} others'), { count: others[3] });
	return phrase(fill(_(single), printed), false);
}

function readFamily(raw, device) {
	return {
		name: familyName(raw.family),
		usable: raw.usable === true,
		since: number(raw.since),
		reason: text(raw.reason),
		why: sentence(raw.text),
		advice: sentence(raw.advice, whole => whole.replaceAll('DEVICE', () => device)),
		addresses: texts(raw.addresses),
		oldAddresses: texts(raw.sources).filter(each => !texts(raw.addresses).includes(each)),
		prefixes: texts(raw.prefixes),
		gateway: text(raw.gateway),
		gatewaySource: word(GATEWAY_SOURCES, raw.gateway_from),
		hasGateway: typeof raw.gateway_from === 'string',
		lookups: list(raw.lookups).map(object).map(each => ({
			command: text(each.command),
			answer: text(each.result),
			right: each.matches === true,
		})),
	};
}

function readEndpoint(raw) {
	return {
		address: text(raw.address),
		id: number(raw.id),
		flags: texts(raw.flags).join(', '),
		ok: raw.state === 'ok',
		state: word(ENDPOINT_STATES, raw.state),
	};
}

function readCheck(raw) {
	return {
		family: familyName(raw.family),
		method: text(raw.method),
		failed: raw.failed === true,
		running: raw.running === true,
		since: number(raw.since),
		inUse: raw.in_use === true,
		error: text(raw.error),
		hosts: list(raw.hosts).map(object).map(host => ({
			name: text(host.host),
			answers: typeof host.reachable === 'boolean' ? host.reachable : null,
			error: sentence(host.error),
			loss: number(host.loss),
			latency: number(host.latency),
		})),
	};
}

function readRate(raw) {
	const received = number(object(raw).received), sent = number(object(raw).sent);
	return received === null || sent === null ? null : { received, sent };
}

function readAction(raw) {
	if (raw === null || typeof raw !== 'object')
		return null;
	return {
		event: text(raw.event),
		program: text(raw.program),
		text: text(raw.text),
		output: text(raw.output),
	};
}

function readQuota(raw) {
	const used = number(object(raw).used), limit = number(object(raw).limit);
	return used === null || limit === null ? null : { used, limit, end: number(raw.end) };
}

function readOverflow(raw) {
	const { carrying, reason } = object(raw);
	return carrying === true ? { reason: text(reason) } : null;
}

/* Compares desired and actual lines: [mark, line], where + is missing and - not desired. */
function compare(raw) {
	const wanted = texts(object(raw).desired), found = texts(object(raw).actual);
	return [
		...wanted.map(line => [found.includes(line) ? '=' : '+', line]),
		...found.filter(line => !wanted.includes(line)).map(line => ['-', line]),
	];
}

function readUplink(raw) {
	const device = text(raw.device);
	return {
		name: text(raw.name),
		key: String(raw.name),
		device,
		mode: text(raw.mode),
		usable: raw.usable === true,
		unused: raw.mode === 'off',
		since: number(raw.since),
		table: number(raw.table),
		mark: text(raw.mark),
		families: list(raw.families).map(object).map(each => readFamily(each, device)),
		endpoints: list(raw.endpoints).map(object).map(readEndpoint),
		health: list(raw.health).map(object).map(readCheck),
		received: number(raw.received),
		sent: number(raw.sent),
		rate: readRate(raw.rate),
		action: readAction(raw.action),
		flows: number(raw.flows),
		quota: readQuota(raw.quota),
		overflow: readOverflow(raw.overflow),
		effectiveMode: typeof raw.effective_mode !== 'string' || raw.effective_mode === raw.mode
			? '' : text(raw.effective_mode),
		routes: compare(raw.routes),
		rules: compare(raw.rules),
	};
}

const TABLE_MAIN = 254;

/*
 * Where other traffic leaves, by family and, where that differs, by LAN: the uplinks or devices,
 * with their shares in percent if there are several.
 */
function readOther(raw) {
	return list(raw).map(object).map(flow => {
		const shares = list(flow.shares).map(object).map(carrier => ({
			name: text(carrier.uplink) || text(carrier.device),
			weight: number(carrier.weight) || 0,
		}));
		const total = shares.reduce((sum, carrier) => sum + carrier.weight, 0);
		return {
			family: familyName(flow.family),
			origin: text(flow.origin),
			byMain: flow.table === TABLE_MAIN,
			shares: shares.map(carrier => ({
				name: carrier.name,
				percent: shares.length > 1 && total > 0 ? carrier.weight * 100 / total : null,
			})),
		};
	});
}

/* The families whose reasons explain an unusable uplink: those with addresses, else the first. */
function tellingFamilies(uplink) {
	const telling = uplink.families.filter(family => family.addresses.length ||
		['tentative', 'duplicate'].includes(family.reason));
	const chosen = telling.length ? telling : uplink.families.slice(0, 1);
	return chosen.filter((family, at) =>
		chosen.findIndex(other => other.reason === family.reason) === at);
}

function unusable(uplink) {
	return tellingFamilies(uplink).map(family => ({
		severity: 'error',
		text: phrase(fill(_('{uplink} is not usable: {reason}'),
			{ uplink: uplink.name, reason: family.why.text }), false),
		advice: family.advice,
		since: uplink.since,
		others: [],
	}));
}

function readProblem(raw, uplinks) {
	const uplink = uplinks.find(each => each.key === raw.uplink);
	const device = uplink && uplink.device || 'DEVICE';
	return {
		severity: 'error',
		text: filledSentence(raw.text, raw.template, raw),
		advice: sentence(raw.advice, whole => whole.replaceAll('DEVICE', () => device)),
		since: null,
		others: texts(raw.others),
	};
}

function driftItem(command, running) {
	const template = running ? _('Drift, repairing: {command}') : _('Drift: {command}');
	const words = phrase(fill(template, { command }), false);
	return { severity: 'error', text: words, advice: phrase('', false), since: null, others: [] };
}

function warningItem(warning) {
	return { severity: 'note', text: phrase(warning, true), advice: phrase('', false), since: null, others: [] };
}

function readProblems(raw, uplinks) {
	return [
		...uplinks.filter(uplink => !uplink.usable && !uplink.unused).flatMap(unusable),
		...list(raw.problems).map(object).map(each => readProblem(each, uplinks)),
		...texts(raw.drift).map(command => driftItem(command, raw.running === true)),
		...texts(raw.warnings).map(warningItem),
	];
}

/*
 * Parses a status. If its version is not supported, the result has only `otherVersion`. `moment`
 * is the browser's time in epoch seconds, for a status without a time of its own.
 */
export function readStatus(json, moment) {
	const raw = object(json);
	if (raw.version !== VERSION)
		return { otherVersion: raw.version === undefined ? '?' : printable(String(raw.version)) };
	const now = number(raw.time) === null ? moment : raw.time;
	const uplinks = list(raw.uplinks).map(object).map(readUplink);
	const usable = uplinks.filter(uplink => uplink.usable).length;
	return {
		otherVersion: null,
		program: text(raw.mproutd),
		now,
		running: raw.running === true,
		enabled: raw.enabled === true,
		standby: raw.standby === true,
		uplinks,
		usable,
		other: readOther(raw.other_traffic),
		problems: readProblems(raw, uplinks),
		directory: typeof object(raw.configuration).directory === 'string'
			? raw.configuration.directory : '',
	};
}

function readSubflow(raw) {
	return {
		uplink: text(raw.uplink),
		device: text(raw.device),
		local: text(raw.local),
		remote: text(raw.remote),
		state: text(raw.state),
		backup: raw.backup === true,
		backupByPeer: raw.backup_by_peer === true,
		rtt: number(raw.rtt_ms),
		retransmitted: number(raw.retransmitted),
		sent: number(raw.sent),
		received: number(raw.received),
	};
}

/* Parses the connections, sorted by traffic. */
export function readConnections(json) {
	const found = list(object(json).connections).map(object).map((raw, place) => ({
		key: text(raw.token) || 'plain-' + place,
		remote: text(raw.remote),
		state: text(raw.state),
		fallback: raw.fallback === true,
		sent: number(raw.sent),
		received: number(raw.received),
		subflows: list(raw.subflows).map(object).map(readSubflow),
	}));
	return found.sort((one, other) =>
		other.sent + other.received - one.sent - one.received);
}

/* Parses the changes of a reconciliation: commands, with the kernel's error for failed ones. */
export function readChanges(json) {
	return list(object(json).changes).map(object).map(change => ({
		command: text(change.command),
		error: text(change.error),
	}));
}

/* The error message of a reply; '' if there is none. */
export function readError(json) {
	const raw = object(json);
	return text(raw.error) || text(raw.refused);
}
