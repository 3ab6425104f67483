// The rates of the last minutes, and a small graph of them.

import { svgElement } from './dom.js';
import { _, fill, rate } from './text.js';

const SAMPLES = 60;
const WIDTH = 120;
const HEIGHT = 32;

/* The latest rates of each uplink, one for each status that was shown. */
export class History {
	constructor() {
		this.samples = new Map();
	}

	/* Adds what a status says, and forgets uplinks that are gone. */
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

/* "x,y x,y …", the newest sample at the right edge. */
function points(samples, direction, top) {
	const start = SAMPLES - samples.length;
	return samples.map((sample, place) => {
		const value = sample ? sample[direction] : 0;
		const x = (start + place) * WIDTH / (SAMPLES - 1);
		const y = HEIGHT - 1 - value / top * (HEIGHT - 2);
		return x.toFixed(1) + ',' + y.toFixed(1);
	});
}

/* Received as an area, sent as a line: told apart without colours. */
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
