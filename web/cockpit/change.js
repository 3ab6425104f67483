// A change of the configuration: saved, shown as what it would do, then applied or undone.

import { ask, commandList } from './dialog.js';
import { reconcile } from './daemon.js';
import { _, element, fill, readChanges, readError } from './page/page.js';

/* What Cockpit calls a file that was changed since it was read, of old and today. */
const CONFLICTS = ['change-conflict', 'out-of-date'];

function paragraph(text) {
	return element('p', {}, text);
}

function tell(title, ...content) {
	return ask(title, content, [['close', _('Close')]]);
}

function notWritten(path, error) {
	const why = CONFLICTS.includes(error.problem)
		? _('Somebody else has changed it since it was read. Start again with the file as it is now.')
		: error.message;
	return tell(fill(_('{path} was not saved'), { path }), paragraph(why));
}

/* Puts the files back as they were. */
async function undo(configuration, saved) {
	for (const { name, before, tag } of saved) {
		try {
			await configuration.replace(name, before, tag);
		} catch (error) {
			await notWritten(configuration.path(name), error);
		}
	}
}

/* Writes the edits ({ name, before, text, tag }); null when one of them cannot be written. */
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
	return failed.length ? tell(_('Not everything could be done'), commandList(failed)) : null;
}

/* What a reconcile would do now, and the question whether to; resolves to the answer. */
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

/* Saves, shows what that would do, and applies it or undoes the saving. */
export async function change(configuration, edits, title) {
	const saved = await save(configuration, edits);
	if (!saved)
		return;
	if (await review(title, ['undo', _('Undo')]) === 'apply')
		await apply();
	else
		await undo(configuration, saved);
}

/* Shows what a reconcile would do, and does it if that is wanted. */
export async function reconcileAfterReview() {
	if (await review(_('Reconcile'), ['cancel', _('Cancel')]) === 'apply')
		await apply();
}

/* Lets the user edit a file; resolves when it is saved and applied, undone or left alone. */
export async function edit(configuration, name) {
	const { text, tag } = await configuration.read(name);
	const path = configuration.path(name);
	const area = element('textarea', { 'aria-label': path, spellcheck: 'false', autofocus: true });
	area.value = text || '';
	const answer = await ask(path, [area], [['save', _('Save')], ['cancel', _('Cancel')]]);
	if (answer === 'save' && area.value !== (text || ''))
		await change(configuration, [{ name, before: text, text: area.value, tag }], path);
}
