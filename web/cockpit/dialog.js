// Modal dialogs.

import { element } from './page/page.js';

/*
 * Shows `content` with a button for each [answer, label], the first as default. Resolves to the
 * answer, or 'cancel' for Escape.
 */
export function ask(title, content, buttons) {
	const heading = element('h2', { id: 'dialog-title' }, title);
	const row = element('div', { class: 'buttons' }, buttons.map(([answer, label], place) =>
		element('button', { type: 'submit', value: answer, class: place ? null : 'primary' }, label)));
	const dialog = element('dialog', { class: 'mproutd', 'aria-labelledby': 'dialog-title' },
		element('form', { method: 'dialog' }, heading, content, row));
	dialog.dataset.theme = document.body.dataset.theme || '';
	document.body.append(dialog);
	return new Promise(resolve => {
		dialog.addEventListener('close', () => {
			dialog.remove();
			resolve(dialog.returnValue || 'cancel');
		});
		dialog.showModal();
	});
}

/* A list of commands, with the kernel's error for failed ones. */
export function commandList(changes) {
	return element('ul', { class: 'lines' }, changes.map(({ command, error }) =>
		element('li', { class: error ? 'why' : null }, command, error ? ' – ' + error : null)));
}
