// Formats text, numbers and times in the language of the page.

let gettext = text => text;
let language = 'en';

/* Sets the shell's gettext function and its language as a BCP 47 tag. */
export function useLanguage(translate, tag) {
	gettext = translate;
	language = tag || 'en';
}

export function _(text) {
	return gettext(text);
}

/* Marks a text for extraction; it is translated where it is used. */
export function N_(text) {
	return text;
}

/* Whether the page is in another language than English, the daemon's. */
export function isForeign() {
	return language.split(/[-_]/)[0] !== 'en';
}

/* Inserts values for each {name} of a translated text. */
export function fill(text, values) {
	return text.replace(/\{(\w+)[^}]*\}/g, (whole, name) =>
		(Object.hasOwn(values, name) ? String(values[name]) : whole));
}

/* Escapes invisible characters and those that change the direction of text. */
export function printable(text) {
	return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, character =>
		'\\u{' + character.codePointAt(0).toString(16) + '}');
}

function decimal(value, digits) {
	const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
	return new Intl.NumberFormat(language, format).format(value);
}

const STEPS = ['', 'k', 'M', 'G', 'T', 'P'];

function scaled(value, unit) {
	let step = 0;
	for (; value >= 999.5 && step < STEPS.length - 1; step++)
		value /= 1000;
	return decimal(value, step && value < 9.95 ? 1 : 0) + ' ' + STEPS[step] + unit;
}

/* Bytes, in powers of ten. */
export function bytes(count) {
	return count === null ? '–' : scaled(count, 'B');
}

/* Bits a second. */
export function rate(bits) {
	return bits === null ? '–' : scaled(bits, 'bit/s');
}

export function milliseconds(value) {
	return decimal(value, value < 9.95 ? 1 : 0) + ' ms';
}

export function percent(value) {
	return decimal(value, 0) + ' %';
}

const PERIODS = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];

/* A duration in its two largest units: 3 d 2 h. */
export function duration(seconds) {
	const left = Math.max(0, Math.floor(seconds));
	const at = Math.max(0, PERIODS.findIndex(([, size]) => left >= size));
	const [unit, size] = left ? PERIODS[at] : PERIODS[3];
	const parts = [Math.floor(left / size) + ' ' + unit];
	if (size > 60) {
		const [smaller, step] = PERIODS[at + 1];
		const rest = Math.floor(left % size / step);
		if (rest)
			parts.push(rest + ' ' + smaller);
	}
	return parts.join(' ');
}

/* A date with its time of day; `moment` in epoch seconds. */
export function when(moment) {
	return new Date(moment * 1000).toLocaleString(language);
}
