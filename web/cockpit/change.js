// Changes the configuration: saves it, shows the resulting commands, then applies or undoes it.

import { ask, commandList } from './dialog.js';
import { reconcile } from './daemon.js';
import { _, element, fill, readChanges, readError } from './page/page.js';

/* Cockpit's problem codes for a file that has changed since it was read. */
const CONFLICTS = ['change-conflict', 'out-of-date'];

function paragraph(text) {
	return element('p', {}, text);
}

function tell(title, ...content) {
	return ask(title, content, [['close', _('Close')]]);
}

function notWritten(path, error) {
	const why = CONFLICTS.includes(error.problem)
		? _('The file has changed since it was read. Start again with the current version.')
		: error.message;
	return tell(fill(_('{path} was not saved'), { path }), paragraph(why));
}

/* Restores the files. */
async function undo(configuration, saved) {
	for (const { name, before, tag } of saved) {
		try {
			await configuration.replace(name, before, tag);
		} catch (error) {
			await notWritten(configuration.path(name), error);
		}
	}
}

/* Writes all edits ({ name, before, text, tag }); null, with nothing changed, if one fails. */
async function save(configuration, edits) {
	const saved = [];
	for (const edit of edits) {
		try {
			const tag = await configuration.replace(edit.name, edit.text, edit.tag);
			saved.push({ ...edit, tag });
		} catch (error) {
			await undo(configuration, saved);
			await notWritten(configuration.path(edit.name), error);
			return null;
		}
	}
	return saved;
}

async function apply() {
	const result = await reconcile(false);
	const refused = readError(result);
	if (refused)
		return tell(_('The configuration was refused'), paragraph(refused));
	const failed = readChanges(result).filter(change => change.error);
	return failed.length ? tell(_('Some changes failed'), commandList(failed)) : null;
}

/* Shows the commands of a reconciliation and returns the user's choice. */
async function review(title, otherwise) {
	const plan = await reconcile(true);
	const refused = readError(plan);
	if (refused)
		return ask(_('The configuration would be refused'), [paragraph(refused)], [otherwise]);
	const changes = readChanges(plan);
	const content = changes.length
		? [paragraph(_('These commands would be executed:')), commandList(changes)]
		: [paragraph(_('Nothing would change in the kernel.'))];
	return ask(title, content, [['apply', _('Apply')], otherwise]);
}

/* Saves the edits, shows the resulting commands, and applies or restores as the user chooses. */
export async function change(configuration, edits, title) {
	const saved = await save(configuration, edits);
	if (!saved)
		return;
	if (await review(title, ['undo', _('Undo')]) === 'apply')
		await apply();
	else
		await undo(configuration, saved);
}

/* Shows the commands of a reconciliation and runs it if the user agrees. */
export async function reconcileAfterReview() {
	if (await review(_('Reconcile'), ['cancel', _('Cancel')]) === 'apply')
		await apply();
}

/* Edits a file as text, with the same steps. */
export async function edit(configuration, name) {
	const { text, tag } = await configuration.read(name);
	const path = configuration.path(name);
	const area = element('textarea', { 'aria-label': path, spellcheck: 'false', autofocus: true });
	area.value = text || '';
	const answer = await ask(path, [area], [['save', _('Save')], ['cancel', _('Cancel')]]);
	if (answer === 'save' && area.value !== (text || ''))
		await change(configuration, [{ name, before: text, text: area.value, tag }], path);
}
