// The page in Cockpit: polls the daemon and offers changes.

import { change, edit, reconcileAfterReview } from './change.js';
import { Configuration } from './configuration.js';
import { readConnections, readStatus } from './daemon.js';
import { MODES, Page, _, element, fill } from './page/page.js';
import { filesWithMode } from './uci.js';

const INTERVAL = 2000;
const INTERVAL_WITHOUT_DAEMON = 10000;
/* Listing a thousand connections takes the daemon a tenth of a second. */
const INTERVAL_OF_CONNECTIONS = 6000;

const permission = cockpit.permission({ admin: true });
const page = new Page(document.getElementById('page'), {
	gettext: cockpit.gettext,
	language: cockpit.language || 'en',
	controls: modeControl,
	onConnections: open => {
		connectionsOpen = open;
		connectionsRead = -Infinity;
		update();
	},
});

let connectionsOpen = false;
let connectionsRead = -Infinity;
let busy = false;
let timer = null;
let configuration = null;

/* -- reading -- */

function explain(error) {
	if (error.problem === 'access-denied' || error.problem === 'not-authorized')
		page.fail(_('You are not allowed to read the status of mproutd.'),
			_('Only root and members of the group mproutd are allowed to. Turn on administrative access, or log in as such a user.'));
	else if (error.problem === 'not-found' || error.problem === 'not-running')
		page.fail(_('mproutd is not running.'), error.message || '', 'systemctl start mproutd');
	else
		page.fail(_('mproutd does not answer.'), error.message || error.problem || String(error));
}

async function refreshStatus() {
	try {
		const json = await readStatus();
		if (json.error) {
			page.fail(_('mproutd does not answer.'), String(json.error));
			return INTERVAL;
		}
		const status = page.show(json);
		if (status && status.directory)
			configuration = new Configuration(status.directory);
		drawToolbar();
		return status && !status.running ? INTERVAL_WITHOUT_DAEMON : INTERVAL;
	} catch (error) {
		explain(error);
		return INTERVAL;
	}
}

async function refreshConnections() {
	connectionsRead = performance.now();
	try {
		const json = await readConnections();
		if (json.error)
			page.failConnections(String(json.error));
		else
			page.showConnections(json);
	} catch (error) {
		page.failConnections(error.message || error.problem || String(error));
	}
}

/* Reads everything, and schedules the next time unless the page is hidden. */
async function update() {
	window.clearTimeout(timer);
	timer = null;
	if (cockpit.hidden)
		return;
	const pause = await refreshStatus();
	if (connectionsOpen && performance.now() - connectionsRead >= INTERVAL_OF_CONNECTIONS)
		await refreshConnections();
	window.clearTimeout(timer);
	timer = window.setTimeout(update, pause);
}

/* -- changing -- */

async function act(what) {
	if (busy)
		return;
	busy = true;
	drawToolbar();
	try {
		await what();
	} catch (error) {
		page.fail(_('The action failed.'), error.message || String(error));
	} finally {
		busy = false;
		await update();
		page.redraw();
	}
}

async function changeMode(uplink, mode) {
	const files = await configuration.readAll();
	const texts = Object.fromEntries(files.map(file => [file.name, file.text]));
	const changed = filesWithMode(texts, uplink, mode);
	const edits = files.filter(file => file.name in changed).map(file =>
		({ name: file.name, before: file.text, text: changed[file.name], tag: file.tag }));
	if (!edits.length)
		throw new Error(fill(_('No section of the configuration is {uplink}.'), { uplink: uplink.name }));
	await change(configuration, edits, fill(_('{uplink}: mode {mode}'), { uplink: uplink.name, mode }));
}

/* A selection of the mode. It shows the current mode until a change has been applied. */
function modeControl(uplink) {
	const allowed = permission.allowed === true;
	const select = element('select', {
		'aria-label': fill(_('Mode of {uplink}'), { uplink: uplink.name }),
		'data-key': 'mode ' + uplink.mode + ' ' + (allowed && !busy),
		disabled: !allowed || busy,
	}, MODES.map(mode => element('option', { value: mode, selected: mode === uplink.mode }, mode)));
	select.addEventListener('change', () => {
		const mode = select.value;
		select.value = uplink.mode;
		act(() => changeMode(uplink, mode));
	});
	return select;
}

function button(label, what) {
	const made = element('button', { type: 'button', disabled: busy }, label);
	made.addEventListener('click', () => act(what));
	return made;
}

let drawn = '';

function drawToolbar() {
	const state = JSON.stringify([permission.allowed, busy, configuration && configuration.directory]);
	if (state === drawn)
		return;
	drawn = state;
	const toolbar = document.getElementById('toolbar');
	if (permission.allowed === false)
		toolbar.replaceChildren(element('p', {},
			_('Limited access: turn on administrative access to change anything.')));
	else if (configuration)
		toolbar.replaceChildren(
			button(_('Reconcile…'), reconcileAfterReview),
			...['network', 'mproutd'].map(name =>
				button(fill(_('Edit {file}…'), { file: name }), () => edit(configuration, name))));
	page.redraw();
}

/* -- the frame around the page -- */

function followStyle() {
	const chosen = window.localStorage.getItem('shell:style') || 'auto';
	const dark = chosen === 'dark' ||
		(chosen === 'auto' && window.matchMedia('(prefers-color-scheme: dark)').matches);
	for (const each of [document.body, ...document.querySelectorAll('.mproutd')])
		each.dataset.theme = dark ? 'dark' : 'light';
}

document.documentElement.lang = cockpit.language || 'en';
document.title = _('Uplinks');
document.getElementById('title').textContent = _('Uplinks');
window.addEventListener('storage', followStyle);
window.addEventListener('cockpit-style', followStyle);
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', followStyle);
permission.addEventListener('changed', drawToolbar);
cockpit.addEventListener('visibilitychange', update);
followStyle();
update();
