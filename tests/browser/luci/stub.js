// As much of LuCI's client as the views of this checkout use, from its documented behaviour: the
// loader and the classes baseclass, view, rpc, poll, ui and form.  Not LuCI's code.

(() => {
	const settings = JSON.parse(document.getElementById('settings').textContent);
	const resources = '/luci-static/resources/';

	String.prototype.format = function(...values) {
		return this.replace(/%[sd]/g, () => values.shift());
	};

	window._ = text => settings.catalog[text] || text;
	window.N_ = (n, one, many) => window._(n === 1 ? one : many);

	/* Children that are a string are HTML, as in LuCI; those in an array are text. */
	window.E = (tag, attributes, children) => {
		const node = document.createElement(tag);
		for (const [name, value] of Object.entries(attributes || {})) {
			if (typeof value === 'function')
				node.addEventListener(name, value);
			else if (value !== null && value !== undefined)
				node.setAttribute(name, value);
		}
		content(node, children);
		return node;
	};

	function content(node, children) {
		if (typeof children === 'string')
			node.innerHTML = children;
		else if (Array.isArray(children))
			node.append(...children.filter(child => child !== null && child !== undefined));
		else if (children instanceof Node)
			node.append(children);
	}

	/* -- classes and the loader -- */

	const baseclass = {
		extend(properties) {
			const Made = function(...values) {
				if (this.__init__)
					this.__init__(...values);
			};
			Made.prototype = Object.create(this.prototype || Object.prototype, Object.getOwnPropertyDescriptors(properties));
			Made.extend = baseclass.extend;
			return Made;
		},
	};

	const L = window.L = {
		env: { sessionid: settings.session, pollinterval: settings.interval },
		resource: path => resources + path,
		hasViewPermission: () => settings.writable,
		loaded: {},

		/* The leading string directives name what a file needs; the rest is a function's body. */
		async require(name) {
			if (!(name in this.loaded))
				this.loaded[name] = this.compile(name).then(Made => new Made());
			return this.loaded[name];
		},

		async compile(name) {
			const answer = await fetch(resources + name.replaceAll('.', '/') + '.js');
			if (!answer.ok)
				throw new Error(name + ': ' + answer.status);
			const source = await answer.text();
			const needed = [];
			for (const line of source.split('\n')) {
				const directive = /^'(use strict|require ([\w.]+)(?: as (\w+))?)';$/.exec(line.trim());
				if (!directive)
					break;
				if (directive[2])
					needed.push([directive[3] || directive[2].replace(/[^\w]/g, '_'), directive[2]]);
			}
			const values = await Promise.all(needed.map(([, each]) => this.require(each)));
			const names = ['window', 'document', 'L', ...needed.map(([alias]) => alias)];
			const Made = new Function(...names, source)(window, document, L, ...values);
			if (typeof Made !== 'function')
				throw new TypeError(name + ' returns no class');
			return Made;
		},
	};

	/* -- view, poll, rpc, ui -- */

	const view = baseclass.extend({
		load() {},
		render() {},

		__init__() {
			Promise.resolve(this.load())
				.then(data => this.render(data))
				.then(node => document.getElementById('view').replaceChildren(node, this.footer()));
		},

		footer() {
			const footer = E('div', { 'class': 'cbi-page-actions' });
			if (this.handleSaveApply !== null)
				footer.append(E('button', { 'id': 'save', 'click': () => this.handleSaveApply() }, ['Save & Apply']));
			return footer;
		},

		async handleSaveApply() {
			const invalid = form.maps.flatMap(map => map.invalid());
			for (const title of invalid)
				ui.addNotification(null, E('p', {}, ['Option "' + title + '" contains an invalid input value.']));
			if (invalid.length)
				return;
			for (const map of form.maps)
				await map.save();
			await call('uci', 'apply', {});
			document.body.dataset.applied = 'yes';
		},
	});

	const poll = {
		add(ask) {
			window.setInterval(ask, settings.interval * 1000);
		},
	};

	let waiting = [];

	/* The calls of one frame go as one array. */
	function send(message) {
		return new Promise(resolve => {
			waiting.push([message, resolve]);
			if (waiting.length > 1)
				return;
			window.requestAnimationFrame(async() => {
				const sent = waiting;
				waiting = [];
				const answer = await fetch('/ubus/', {
					method: 'POST', body: JSON.stringify(sent.map(([each]) => each)),
				}).catch(() => null);
				const answers = answer ? await answer.json() : sent.map(() => ({ error: { code: 0, message: 'no answer' } }));
				sent.forEach(([, done], place) => done(answers[place]));
			});
		});
	}

	async function call(object, method, values, reject = true) {
		const message = {
			jsonrpc: '2.0', id: 1, method: 'call', params: [L.env.sessionid, object, method, values],
		};
		const answer = await send(message);
		if (answer.error)
			throw new Error('RPC call to %s/%s failed with error %d: %s'.format(object, method, answer.error.code, answer.error.message));
		if (answer.result[0] !== 0 && reject)
			throw new Error('RPC call to %s/%s failed with ubus code %d'.format(object, method, answer.result[0]));
		return answer.result.length > 1 ? answer.result[1] : answer.result[0];
	}

	const rpc = {
		declare: ({ object, method, params = [], reject = false }) => (...values) =>
			call(object, method, Object.fromEntries(params.map((name, place) => [name, values[place]])), reject),
	};

	const ui = {
		showModal(title, children) {
			const modal = E('div', { 'id': 'modal', 'role': 'dialog', 'aria-label': title });
			modal.append(E('h4', {}, [title]), ...children);
			document.body.append(modal);
		},
		hideModal() {
			document.getElementById('modal').remove();
		},
		addNotification(title, children, ...kinds) {
			document.getElementById('view').before(E('div', { 'class': 'alert-message ' + kinds.join(' '), 'role': 'alert' }, [children]));
		},
		createHandlerFn: (context, method, ...values) => event => context[method](...values, event),
	};

	/* -- form: what is read of uci, shown, and written back where it differs -- */

	const number = (form, low, high) => text => form.test(text) && +text >= low && +text <= high;
	const isIpv4 = text => /^\d+(\.\d+){3}$/.test(text) && text.split('.').every(part => +part < 256);
	const isIpv6 = text => text.includes(':') && URL.canParse('http://[' + text + ']');

	/* LuCI's datatypes: whether it saves a text. */
	function checker(datatype) {
		const range = /^range\((\d+), (\d+)\)$/.exec(datatype);
		if (range)
			return number(/^-?\d+$/, +range[1], +range[2]);
		return {
			'port': number(/^\d+$/, 0, 65535),
			'uinteger': number(/^\d+$/, 0, Infinity),
			'ufloat': number(/^\d+(\.\d+)?$/, 0, Infinity),
			'ip4addr("nomask")': isIpv4,
			'ip6addr("nomask")': isIpv6,
			'ipaddr("nomask")': text => isIpv4(text) || isIpv6(text),
		}[datatype];
	}

	function option(kind) {
		return class {
			constructor(section, name, title) {
				Object.assign(this, { kind, section, name, title, choices: [], enabled: '1', disabled: '0' });
			}

			value(key, label) {
				this.choices.push([key, label]);
			}

			show(id, current) {
				const label = this.title + ' (' + id + ')';
				const attributes = { 'data-option': [this.section.map.config, id, this.name].join('.'), 'aria-label': label };
				if (kind === 'Flag') {
					this.checked = current === undefined ? this.default === '1' : current === this.enabled;
					const box = E('input', { ...attributes, 'type': 'checkbox' });
					box.checked = this.checked;
					return box;
				}
				if (kind === 'ListValue') {
					const select = E('select', attributes, this.choices.map(([key, text]) => E('option', { 'value': key }, [text])));
					select.value = current || '';
					return select;
				}
				if (kind === 'DynamicList')
					return E('textarea', { ...attributes, 'rows': 2 }, [[].concat(current || []).join('\n')]);
				const input = E('input', { ...attributes, 'placeholder': this.placeholder || '' });
				input.value = current === undefined ? '' : current;
				return input;
			}

			valid(node) {
				const texts = kind === 'Flag' || !node.value ? [] : node.value.split('\n');
				return !this.datatype || texts.every(checker(this.datatype));
			}

			/* What is to be written: null for nothing, so that the option goes. */
			read(node, current) {
				if (kind === 'Flag') {
					const entered = node.checked ? this.enabled : this.disabled;
					const standard = this.default || this.disabled;
					return entered === standard && current === undefined && this.rmempty !== false ? null : entered;
				}
				if (kind === 'DynamicList')
					return node.value ? node.value.split('\n') : null;
				return node.value || null;
			}
		};
	}

	function section(kind) {
		return class {
			constructor(map, ...words) {
				Object.assign(this, { map, options: [], filter: () => true });
				[this.id, this.type] = kind === 'NamedSection' ? words : [null, words[0]];
				this.title = words[kind === 'NamedSection' ? 2 : 1] || '';
			}

			option(Kind, name, title, text) {
				this.options.push(new Kind(this, name, title, text));
				return this.options.at(-1);
			}

			tab() {}

			taboption(tab, ...words) {
				return this.option(...words);
			}

			ids() {
				const { values } = this.map;
				return this.id ? [this.id] : Object.keys(values)
					.filter(id => values[id]['.type'] === this.type && this.filter(id));
			}

			show() {
				const box = E('fieldset', {}, [E('legend', {}, [this.title || this.type])]);
				for (const id of this.ids()) {
					box.append(E('h4', {}, [id]), ...this.options.map(each => E('label', {}, [
						each.title, each.show(id, (this.map.values[id] || {})[each.name]),
					])));
				}
				if (this.addremove)
					box.append(this.adder());
				return box;
			}

			adder() {
				const input = E('input', { 'data-add': this.type, 'aria-label': 'name' });
				return E('div', {}, [input, E('button', { 'type': 'button', 'data-add-button': this.type, 'click': async() => {
					await call('uci', 'add', { config: this.map.config, type: this.type, name: input.value });
					this.map.node.replaceWith(await this.map.render());
				} }, ['Add'])]);
			}
		};
	}

	const form = {
		maps: [],
		Map: class {
			constructor(config, title) {
				Object.assign(this, { config, title, sections: [] });
				form.maps.push(this);
			}

			section(Kind, ...words) {
				this.sections.push(new Kind(this, ...words));
				return this.sections.at(-1);
			}

			async render() {
				this.values = (await call('uci', 'get', { config: this.config })).values;
				this.node = E('div', { 'class': 'cbi-map' }, [
					E('h2', {}, [this.title || this.config]), ...this.sections.map(each => each.show()),
				]);
				return this.node;
			}

			field(id, option) {
				return this.node.querySelector('[data-option="' + [this.config, id, option.name].join('.') + '"]');
			}

			/* The titles of the options that LuCI would not save. */
			invalid() {
				return this.sections.flatMap(each => each.ids().flatMap(id => each.options
					.filter(option => !option.valid(this.field(id, option))).map(option => option.title)));
			}

			async save() {
				for (const each of this.sections)
					for (const id of each.ids())
						for (const option of each.options)
							await this.write(id, each.type, option);
			}

			async write(id, type, option) {
				const current = (this.values[id] || {})[option.name];
				const entered = option.read(this.field(id, option), current);
				if (JSON.stringify(entered) === JSON.stringify(current === undefined ? null : current))
					return;
				if (entered === null)
					await call('uci', 'delete', { config: this.config, section: id, option: option.name });
				else
					await call('uci', 'set', { config: this.config, section: id, type, values: { [option.name]: entered } });
			}
		},
		NamedSection: section('NamedSection'),
		TypedSection: section('TypedSection'),
		TableSection: section('TableSection'),
		Value: option('Value'),
		Flag: option('Flag'),
		ListValue: option('ListValue'),
		DynamicList: option('DynamicList'),
	};

	for (const [name, value] of Object.entries({ baseclass, view, rpc, poll, ui, form }))
		L.loaded[name] = Promise.resolve(value);

	/* -- what the dispatcher and the overview do -- */

	async function overview(name) {
		const box = new (await L.compile(name))();
		const step = async() => {
			const node = box.render(await box.load());
			document.getElementById('view').replaceChildren(E('h3', {}, [box.title]), node);
		};
		await step();
		poll.add(step);
	}

	if (settings.view.startsWith('view.status.include.'))
		overview(settings.view);
	else
		L.compile(settings.view).then(View => new View());
})();
