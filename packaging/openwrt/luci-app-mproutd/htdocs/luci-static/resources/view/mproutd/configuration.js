'use strict';
'require view';
'require form';

var MODES = [ 'on', 'master', 'backup', 'handover', 'off' ];

/*
 * The options of mproutd: name, form class or list of choices, title, description, default and
 * datatype.
 */
var GLOBALS = [
	[ 'role', [ 'client', 'server', 'both' ], _('Role'), _('client opens subflows from its addresses, server announces them to the peer.'), 'client' ],
	[ 'subflows', form.Value, _('Subflows'), _('Additional subflows per connection.'), '8', 'range(0, 255)' ],
	[ 'add_addr_accepted', form.Value, _('Announced addresses'), _('Addresses announced by the peer that a connection accepts.'), '8', 'range(0, 255)' ],
	[ 'main_routes', form.Flag, _('Prefer specific routes of the main table'), '', '1' ],
	[ 'pin_flows', form.Flag, _('Connections keep their uplink'), _('Forwarded connections stay where they began, and port forwards work on every uplink.'), '1' ],
	[ 'deprecate_prefixes', form.Flag, _('Hosts leave the IPv6 prefix of a failed uplink'), _('The addresses of the LAN from its prefix are deprecated while it is out.'), '1' ],
	[ 'pair', form.Flag, _('One of two gateways'), _('It starts in standby, and tables and marks follow the order of the file.'), '0' ],
	[ 'virtual_address', form.DynamicList, _('Virtual addresses'), _('Addresses that VRRP gives to the active gateway.'), '', 'ipaddr("nomask")' ],
	[ 'rule_priority', form.Value, _('First rule priority'), '', '7000', 'uinteger' ],
	[ 'table_base', form.Value, _('First routing table'), '', '7000', 'uinteger' ],
	[ 'mark_mask', form.Value, _('Mark mask'), _('The bits of a packet mark that belong to mproutd.'), '0x7f000000' ],
	[ 'policy_mask', form.Value, _('Policy mask'), _('The bits of a packet mark that policies use.'), '0x00003f00' ]
];

var GENERAL = [
	[ 'multipath', MODES, _('Mode'), _('Only if there is no interface with this name.') ],
	[ 'device', form.Value, _('Device'), _('Overrides the device of the interface.') ],
	[ 'gateway', form.Value, _('IPv4 gateway'), _('Only if it is not found automatically.'), '', 'ip4addr("nomask")' ],
	[ 'gateway6', form.Value, _('IPv6 gateway'), _('Only if it is not found automatically.'), '', 'ip6addr("nomask")' ],
	[ 'default_route', form.Flag, _('Default route'), _('Off: it leads only to the hosts on its subnets, as a direct cable does.'), '1' ],
	[ 'role', [ 'client', 'server', 'both' ], _('Role'), _('Overrides the global role.') ],
	[ 'port', form.Value, _('Announced port'), _('Only in role server: clients join at this port.'), '', 'range(1, 65535)' ],
	[ 'table', form.Value, _('Routing table'), '', _('automatic'), 'uinteger' ],
	[ 'mark', form.Value, _('Packet mark'), _('MARK or MARK/MASK; packets with this mark leave via the uplink.'), _('automatic') ],
	[ 'dns', form.DynamicList, _('Resolvers'), _('Instead of those that netifd names; queries to them leave via this uplink.'), '', 'ipaddr("nomask")' ],
	[ 'iif', form.DynamicList, _('Incoming devices'), _('Traffic that arrives on these devices leaves via this uplink.') ],
	[ 'prefix', form.DynamicList, _('Source prefixes'), _('Traffic from these prefixes leaves via this uplink.') ],
	[ 'nat6', [ 'prefix', 'masquerade' ], _('IPv6 translation'), _('Sources that are not from its own prefixes become ones of its prefix, or its own address.') ],
	[ 'weight', form.Value, _('Weight'), _('Its share of other traffic, in proportion to the other weights.'), '1', 'range(1, 255)' ],
	[ 'metric', form.Value, _('Metric'), _('The usable uplinks with the lowest metric share other traffic.'), '1', 'range(1, 256)' ],
	[ 'strict', form.Flag, _('Strict'), _('Traffic selected by its rules never uses another uplink.'), '0' ],
	[ 'ula', form.Flag, _('Endpoints for unique local addresses'), '', '0' ],
	[ 'fullmesh', form.Flag, _('Full mesh'), _('Connect to every address of the peer.'), '0' ],
	[ 'laminar', form.Flag, _('Laminar'), _('Answer each announced address with one subflow (Linux 6.18).'), '0' ],
	[ 'flush_conntrack', form.Flag, _('Flush connection tracking'), _('Forget forwarded connections when the uplink is lost.'), '0' ],
	[ 'failback', [ 'keep', 'move' ], _('Failback'), _('Forwarded connections keep this uplink, or move when a better one is usable again.'), 'keep' ]
];

var HEALTH = [
	[ 'track_ip', form.DynamicList, _('Hosts'), _('Addresses, names, gateway or gateway6. Without any, nothing is checked.') ],
	[ 'track_method', [ 'ping', 'tcp', 'http', 'https', 'dns' ], _('Method'), '', 'ping' ],
	[ 'track_port', form.Value, _('Port'), '', _('automatic'), 'range(1, 65535)' ],
	[ 'track_path', form.Value, _('Path'), _('For http and https.'), '/' ],
	[ 'track_name', form.Value, _('Name'), _('For dns; . asks for the name servers of the root.'), '.' ],
	[ 'track_status', form.Value, _('Expected status'), _('For http and https; 204 finds captive portals.'), '', 'range(100, 599)' ],
	[ 'track_verify', form.Flag, _('Verify certificates'), '', '1' ],
	[ 'track_family', [ 'ipv4', 'ipv6' ], _('Address family of names'), '', 'ipv4' ],
	[ 'initial_state', [ 'online', 'offline' ], _('Initial state'), _('offline: not used before the first checks have passed.'), 'online' ],
	[ 'reliability', form.Value, _('Hosts that have to answer'), '', '1', 'uinteger' ],
	[ 'count', form.Value, _('Probes per host and round'), '', '1', 'uinteger' ],
	[ 'size', form.Value, _('Ping size'), '', '56', 'uinteger' ],
	[ 'max_ttl', form.Value, _('Maximum TTL'), '', '60', 'range(1, 255)' ],
	[ 'timeout', form.Value, _('Timeout (s)'), '', '2', 'ufloat' ],
	[ 'interval', form.Value, _('Interval (s)'), '', '5', 'ufloat' ],
	[ 'failure_interval', form.Value, _('Interval after a failed round (s)'), '', '1', 'ufloat' ],
	[ 'recovery_interval', form.Value, _('Interval while out (s)'), '', '5', 'ufloat' ],
	[ 'down', form.Value, _('Failed rounds until out'), '', '3', 'uinteger' ],
	[ 'up', form.Value, _('Passed rounds until back'), '', '3', 'uinteger' ],
	[ 'check_quality', form.Flag, _('Check loss and latency'), '', '0' ],
	[ 'failure_loss', form.Value, _('Loss that fails (%)'), '', '40', 'range(0, 100)' ],
	[ 'recovery_loss', form.Value, _('Loss that recovers (%)'), '', '10', 'range(0, 100)' ],
	[ 'failure_latency', form.Value, _('Latency that fails (ms)'), '', '1000', 'uinteger' ],
	[ 'recovery_latency', form.Value, _('Latency that recovers (ms)'), '', '500', 'uinteger' ],
	[ 'quality_window', form.Value, _('Probes measured'), '', '10', 'uinteger' ],
	[ 'hold', form.Value, _('Hold after repeated failures (s)'), '', '10', 'ufloat' ],
	[ 'hold_max', form.Value, _('Longest hold (s)'), '', '300', 'ufloat' ]
];

var COST = [
	[ 'download', form.Value, _('Download (kbit/s)'), _('The capacity of a regular uplink.'), _('learned'), 'uinteger' ],
	[ 'upload', form.Value, _('Upload (kbit/s)'), _('The capacity of a regular uplink.'), _('learned'), 'uinteger' ],
	[ 'overflow', form.Value, _('Overflow (%)'), _('Mode backup or handover: carry while all others exceed this share of their capacity.'), '', 'range(1, 100)' ],
	[ 'metered', form.Flag, _('Metered'), _('Rare health checks while it only stands by.'), '0' ],
	[ 'quota', form.Value, _('Quota'), _('Data that a period includes, in and out, such as 20G.'), _('unlimited') ],
	[ 'quota_period', [ 'month', 'week', 'day' ], _('Period'), '', 'month' ],
	[ 'quota_start', form.Value, _('Start of the period'), _('Day of the month, day of the week (1 is Monday), or hour.'), '', 'range(0, 31)' ],
	[ 'quota_warn', form.Value, _('Warn at (%)'), '', '80', 'range(1, 100)' ],
	[ 'quota_action', [ 'backup', 'handover', 'off' ], _('Mode from the limit on'), '', 'backup' ],
	[ 'quota_hard', form.Flag, _('Hard limit'), _('Off from the limit on, even as the last usable uplink.'), '0' ]
];

var SCRIPTS = [
	[ 'on_up', form.Value, _('When it becomes usable'), _('A program with its absolute path.') ],
	[ 'on_down', form.Value, _('When it is lost'), _('A program with its absolute path.') ],
	[ 'on_quota', form.Value, _('At a quota'), _('A program with its absolute path.') ],
	[ 'action_timeout', form.Value, _('Timeout (s)'), '', '30', 'range(1, 3600)' ]
];

/* Adds the options of a table with `add`, a method of the section. */
function addOptions(table, add) {
	table.forEach(function(row) {
		var choice = Array.isArray(row[1]);
		var option = add(choice ? form.ListValue : row[1], row[0], row[2], row[3]);
		option.optional = true;
		if (choice) {
			option.value('', row[4] ? _('default') + ' (' + row[4] + ')' : _('not set'));
			row[1].forEach(function(word) { option.value(word, word); });
		} else if (row[1] === form.Flag) {
			option.default = row[4];
		} else {
			option.placeholder = row[4] || '';
		}
		if (row[5])
			option.datatype = row[5];
	});
}

function networkMap() {
	var map = new form.Map('network', _('Uplinks'),
		_('Which interfaces carry MPTCP and other traffic, and in which order.'));

	var globals = map.section(form.NamedSection, 'globals', 'globals');
	var enabled = globals.option(form.Flag, 'multipath', _('Enable'),
		_('Otherwise mproutd removes everything it installed.'));
	enabled.enabled = 'enable';
	enabled.disabled = 'disable';
	enabled.rmempty = false;

	var interfaces = map.section(form.TableSection, 'interface', _('Interfaces'));
	interfaces.filter = function(name) { return name !== 'loopback'; };
	var mode = interfaces.option(form.ListValue, 'multipath', _('Mode'));
	mode.value('', _('not managed'));
	MODES.forEach(function(word) { mode.value(word, word); });
	mode.rmempty = true;
	return map;
}

function ownMap() {
	var map = new form.Map('mproutd');
	var globals = map.section(form.NamedSection, 'globals', 'mproutd', _('Global options'));
	addOptions(GLOBALS, function(kind, name, title, text) {
		return globals.option(kind, name, title, text);
	});

	var uplinks = map.section(form.TypedSection, 'uplink', _('Options of an uplink'),
		_('Named after the interface.'));
	uplinks.addremove = true;
	[
		[ 'general', _('General'), GENERAL ],
		[ 'health', _('Health check'), HEALTH ],
		[ 'cost', _('Costs'), COST ],
		[ 'scripts', _('Scripts'), SCRIPTS ]
	].forEach(function(tab) {
		uplinks.tab(tab[0], tab[1]);
		addOptions(tab[2], function(kind, name, title, text) {
			return uplinks.taboption(tab[0], kind, name, title, text);
		});
	});
	return map;
}

return view.extend({
	render: function() {
		return Promise.all([ networkMap().render(), ownMap().render() ]).then(function(maps) {
			return E('div', {}, [ maps[0], maps[1] ]);
		});
	}
});
