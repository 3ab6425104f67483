// History of the rates, and a small graph of it.

import { svgElement } from './dom.js';
import { _, fill, rate } from './text.js';

const SAMPLES = 60;
const WIDTH = 120;
const HEIGHT = 32;

/* The latest rates of each uplink, one sample per status. */
export class History {
	constructor() {
		this.samples = new Map();
	}

	/* Adds a sample for each uplink and drops the history of removed uplinks. */
	record(uplinks) {
		const samples = new Map();
		for (const { key, rate: current } of uplinks) {
			const kept = (this.samples.get(key) || []).slice(1 - SAMPLES);
			samples.set(key, [...kept, current]);
		}
		this.samples = samples;
	}

	of(uplink) {
		return this.samples.get(uplink.key) || [];
	}
}

/* SVG points; the newest sample is at the right edge. */
function points(samples, direction, top) {
	const start = SAMPLES - samples.length;
	return samples.map((sample, place) => {
		const value = sample ? sample[direction] : 0;
		const x = (start + place) * WIDTH / (SAMPLES - 1);
		const y = HEIGHT - 1 - value / top * (HEIGHT - 2);
		return x.toFixed(1) + ',' + y.toFixed(1);
	});
}

/* An area for received, a line for sent: distinguishable without colour. */
export function graph(samples) {
	const known = samples.filter(sample => sample !== null);
	const top = Math.max(1, ...known.map(sample => Math.max(sample.received, sample.sent)));
	const received = points(samples, 'received', top), sent = points(samples, 'sent', top);
	const left = received.length ? received[0].split(',')[0] : '0';
	return svgElement('svg', {
		class: 'graph',
		viewBox: '0 0 ' + WIDTH + ' ' + HEIGHT,
		preserveAspectRatio: 'none',
		role: 'img',
		'aria-label': fill(_('Rates of the last {count} updates, at most {rate}'), {
			count: samples.length,
			rate: rate(top === 1 ? 0 : top),
		}),
	},
	svgElement('polygon', {
		class: 'received',
		points: [left + ',' + HEIGHT, ...received, WIDTH + ',' + HEIGHT].join(' '),
	}),
	svgElement('polyline', { class: 'sent', points: sent.join(' ') }));
}
