// Builds elements without markup, and updates a tree in place so that focus and open details stay.

const SVG = 'http://www.w3.org/2000/svg';

function build(node, attributes, children) {
	for (const [name, value] of Object.entries(attributes)) {
		if (value === true)
			node.setAttribute(name, '');
		else if (value !== false && value !== null && value !== undefined)
			node.setAttribute(name, String(value));
	}
	node.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
	return node;
}

/* Creates an element. String children become text nodes, never markup. */
export function element(tag, attributes, ...children) {
	return build(document.createElement(tag), attributes || {}, children);
}

export function svgElement(tag, attributes, ...children) {
	return build(document.createElementNS(SVG, tag), attributes || {}, children);
}

/* Attributes that the user or a script sets, and an update must not reset. */
const KEPT = { DETAILS: ['open'], DIALOG: ['open'] };

function patchAttributes(current, wanted) {
	const kept = KEPT[current.nodeName] || [];
	for (const { name } of Array.from(current.attributes))
		if (!wanted.hasAttribute(name) && !kept.includes(name))
			current.removeAttribute(name);
	for (const { name, value } of wanted.attributes)
		if (current.getAttribute(name) !== value && !kept.includes(name))
			current.setAttribute(name, value);
}

function keyOf(node) {
	return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute('data-key') : null;
}

function sameKind(one, other) {
	return one.nodeType === other.nodeType && one.nodeName === other.nodeName &&
		keyOf(one) === keyOf(other);
}

function patchChildren(current, wanted) {
	const keyed = new Map();
	for (const child of current.childNodes)
		if (keyOf(child) !== null)
			keyed.set(keyOf(child), child);
	let place = current.firstChild;
	for (const child of Array.from(wanted.childNodes)) {
		const key = keyOf(child);
		const match = key === null ? place : keyed.get(key);
		if (match && sameKind(match, child)) {
			if (match === place)
				place = place.nextSibling;
			else
				current.insertBefore(match, place);
			patch(match, child);
		} else {
			current.insertBefore(child, place);
		}
	}
	while (place) {
		const next = place.nextSibling;
		place.remove();
		place = next;
	}
}

/*
 * Changes `current`, which is in the document, into `wanted` with as few changes as possible.
 * Elements are matched by data-key, or else by position.
 */
export function patch(current, wanted) {
	if (current.nodeType !== Node.ELEMENT_NODE) {
		if (current.nodeValue !== wanted.nodeValue)
			current.nodeValue = wanted.nodeValue;
		return;
	}
	patchAttributes(current, wanted);
	patchChildren(current, wanted);
}
