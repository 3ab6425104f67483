// Changes the mode of an uplink in the text of the UCI files and leaves the rest as it is.

const SPACE = ' \t\n\v\f\r';
const END = SPACE + '\'"\\#';

/* The value of the quoted string at `at`, and its end. */
function quoted(text, at) {
	const quote = text[at];
	let value = '', next = at + 1;
	while (next < text.length && text[next] !== quote) {
		if (quote === '"' && text[next] === '\\')
			next++;
		value += text[next] === undefined ? '' : text[next];
		next++;
	}
	return [value, next + 1];
}

/* The words of the statement at `at` with their positions, and the start of the next line. */
function words(text, at) {
	const found = [];
	let word = null;
	const extend = (value, start, end) => {
		word = word || { value: '', start, end };
		word.value += value;
		word.end = end;
	};
	while (at < text.length && !(text[at] === '\n')) {
		const character = text[at];
		if (SPACE.includes(character)) {
			if (word)
				found.push(word);
			word = null;
			at++;
		} else if (character === '#') {
			while (at < text.length && text[at] !== '\n')
				at++;
		} else if (character === '\'' || character === '"') {
			const [value, end] = quoted(text, at);
			extend(value, at, end);
			at = end;
		} else if (character === '\\') {
			const broken = text.startsWith('\n', at + 1) ? 2 : text.startsWith('\r\n', at + 1) ? 3 : 0;
			extend(broken ? '' : text.slice(at + 1, at + 2), at, at + (broken || 2));
			at += broken || 2;
		} else {
			const start = at;
			while (at < text.length && !END.includes(text[at]))
				at++;
			extend(text.slice(start, at), start, at);
		}
	}
	if (word)
		found.push(word);
	return [found, at + 1];
}

const KEYWORDS = { c: 'config', o: 'option', l: 'list', p: 'package' };

/* The sections of a file: type, name, options (name → statements) and the end of the first line. */
export function sections(text) {
	const found = [];
	for (let at = 0; at < text.length;) {
		const [statement, next] = words(text, at);
		at = next;
		if (!statement.length)
			continue;
		const keyword = KEYWORDS[statement[0].value] || statement[0].value;
		const values = statement.map(word => word.value);
		if (keyword === 'config') {
			found.push({ type: values[1] || '', name: values[2] || '', options: new Map(), head: next - 1 });
		} else if (keyword === 'option' && found.length && statement.length > 1) {
			const { options } = found[found.length - 1];
			options.set(values[1], [...(options.get(values[1]) || []), statement]);
		}
	}
	return found;
}

function lastValue(section, option) {
	const statements = section.options.get(option);
	const value = statements && statements[statements.length - 1][2];
	return value ? value.value : '';
}

const TYPES = { network: 'interface', mproutd: 'uplink' };

/* Sections with the same device are one uplink, and their modes must agree. */
function belongs(section, type, uplink) {
	if (section.type !== type)
		return false;
	const device = lastValue(section, 'device') || lastValue(section, 'ifname');
	return section.name === uplink.key ||
		(section.options.has('multipath') && device !== '' &&
			[uplink.device, '@' + uplink.key].includes(device));
}

function replaceMode(text, members, mode) {
	const edits = [];
	for (const section of members) {
		const statement = (section.options.get('multipath') || []).at(-1);
		if (!statement)
			continue;
		const [, option, value] = statement;
		edits.push(value ? [value.start, value.end, '\'' + mode + '\'']
			: [option.end, option.end, ' \'' + mode + '\'']);
	}
	return edits.reverse().reduce((changed, [start, end, replacement]) =>
		changed.slice(0, start) + replacement + changed.slice(end), text);
}

function addMode(text, section, mode) {
	return text.slice(0, section.head) + '\n\toption multipath \'' + mode + '\'' + text.slice(section.head);
}

/*
 * The files (name → new text) that change when the uplink gets this mode. Empty if no section
 * belongs to it.
 */
export function filesWithMode(files, uplink, mode) {
	const changed = {};
	const members = {};
	for (const [file, type] of Object.entries(TYPES)) {
		const text = files[file] || '';
		members[file] = sections(text).filter(section => belongs(section, type, uplink));
		const replaced = replaceMode(text, members[file], mode);
		if (members[file].some(section => section.options.has('multipath')))
			changed[file] = replaced;
	}
	if (!Object.keys(changed).length) {
		const file = Object.keys(TYPES).find(each => members[each].length);
		if (file)
			changed[file] = addMode(files[file], members[file][0], mode);
	}
	return changed;
}
