// MPTCP connections with their subflows.

import { element } from './dom.js';
import { _, bytes, fill, milliseconds } from './text.js';
import { badge, name } from './uplink.js';

/* How many connections are shown until the user requests all. */
export const SHOWN = 25;

function notes(subflow, connection) {
	const found = [];
	if (subflow.state !== 'established')
		found.push(subflow.state);
	if (subflow.backup)
		found.push(_('backup'));
	if (subflow.backupByPeer)
		found.push(_('backup (peer)'));
	if (subflow.retransmitted)
		found.push(fill(_('{count} retransmitted'), { count: subflow.retransmitted }));
	if (subflow.remote !== connection.remote)
		found.push(fill(_('to {address}'), { address: subflow.remote }));
	return found.join(', ');
}

function cell(label, content) {
	return element('td', { role: 'cell', 'data-label': label }, content || null);
}

function subflowRow(subflow, connection) {
	const carrier = subflow.uplink || (subflow.device ? '(' + subflow.device + ')' : '–');
	return element('tr', { role: 'row' },
		element('th', { role: 'rowheader', scope: 'row' }, name(carrier)),
		cell(_('Local address'), element('span', { class: 'address' }, subflow.local)),
		cell(_('RTT'), subflow.rtt === null ? '–' : milliseconds(subflow.rtt)),
		cell(_('In'), bytes(subflow.received)),
		cell(_('Out'), bytes(subflow.sent)),
		cell(_('Notes'), notes(subflow, connection)));
}

function connectionItem(connection) {
	const heads = [_('Uplink'), _('Local address'), _('RTT'), _('In'), _('Out'), _('Notes')];
	return element('li', { 'data-key': connection.key },
		element('h3', {}, element('span', { class: 'address' }, connection.remote),
			connection.fallback ? [' ', badge('bad', _('plain TCP'))] : null,
			connection.state === 'established' ? null : [' ', badge('off', connection.state)]),
		element('p', { class: 'aside' }, fill(_('{received} in, {sent} out'),
			{ received: bytes(connection.received), sent: bytes(connection.sent) })),
		connection.fallback
			? element('p', { class: 'why' }, _('The peer or a middlebox does not support MPTCP.')) : null,
		element('table', { role: 'table', 'aria-label': fill(_('Subflows to {address}'),
			{ address: connection.remote }) },
		element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, heads.map(head =>
			element('th', { role: 'columnheader', scope: 'col' }, head)))),
		element('tbody', { role: 'rowgroup' },
			connection.subflows.map(subflow => subflowRow(subflow, connection)))));
}

/* The result of readConnections(), or null before the first one; `all`, or the first SHOWN. */
export function connectionList(connections, all) {
	if (connections === null)
		return element('p', {}, _('Loading…'));
	if (!connections.length)
		return element('p', {}, _('There is no MPTCP connection.'));
	const shown = all ? connections : connections.slice(0, SHOWN);
	return element('div', {},
		element('ul', { class: 'connections' }, shown.map(connectionItem)),
		shown.length === connections.length ? null : element('p', {},
			element('button', { type: 'button', 'data-action': 'all-connections' },
				fill(_('Show all {count}'), { count: connections.length }))));
}
