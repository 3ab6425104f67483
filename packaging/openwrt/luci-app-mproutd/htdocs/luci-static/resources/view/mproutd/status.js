'use strict';
'require view';
'require rpc';
'require poll';
'require ui';
'require mproutd.loader as loader';

var callStatus = rpc.declare({ object: 'mproutd', method: 'status', reject: true });
var callConnections = rpc.declare({ object: 'mproutd', method: 'connections', reject: true });
var callReconcile = rpc.declare({ object: 'mproutd', method: 'reconcile', params: [ 'dry_run' ], reject: true });

/* Without a daemon each call starts a program, and listing connections takes time: only every
   such poll makes the call. */
var POLLS_WITHOUT_DAEMON = 6;
var POLLS_OF_CONNECTIONS = 2;

function why(error) {
	return error.message || String(error);
}

return view.extend({
	load: function() {
		return loader.load();
	},

	showStatus: function(module, page, json) {
		var error = module.readError(json);
		if (error) {
			page.fail(_('mproutd does not answer.'), error);
			return;
		}
		var status = page.show(json);
		this.skipped = 0;
		this.running = !status || status.running;
	},

	refresh: function(module, page) {
		var self = this;
		if (!this.running && ++this.skipped < POLLS_WITHOUT_DAEMON)
			return Promise.resolve();
		return callStatus().then(function(json) {
			self.showStatus(module, page, json);
		}).catch(function(error) {
			page.fail(_('The status of mproutd cannot be read.'), why(error));
		}).then(function() {
			return self.connections && ++self.polls % POLLS_OF_CONNECTIONS === 0
				? self.refreshConnections(module, page) : null;
		});
	},

	refreshConnections: function(module, page) {
		return callConnections().then(function(json) {
			var error = module.readError(json);
			if (error)
				page.failConnections(error);
			else
				page.showConnections(json);
		}).catch(function(error) {
			page.failConnections(why(error));
		});
	},

	/* Shows the commands of a reconciliation and runs it if the user agrees. */
	reconcile: function(module, page) {
		var self = this;
		return callReconcile(true).then(function(json) {
			var refused = module.readError(json), changes = module.readChanges(json);
			var commands = changes.map(function(change) { return module.element('li', {}, change.command); });
			ui.showModal(_('Reconcile'), [
				module.element('p', {}, refused || (changes.length
					? _('These commands would be executed:') : _('Nothing would change in the kernel.'))),
				module.element('ul', {}, commands),
				E('div', { 'class': 'right' }, [
					E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Cancel') ]), ' ',
					E('button', {
						'class': 'btn cbi-button-action important',
						'disabled': refused ? 'disabled' : null,
						'click': ui.createHandlerFn(self, 'apply', module, page)
					}, [ _('Apply') ])
				])
			]);
		}).catch(function(error) {
			ui.addNotification(null, module.element('p', {}, why(error)), 'error');
		});
	},

	apply: function(module, page) {
		var self = this;
		return callReconcile(false).then(function(json) {
			ui.hideModal();
			var refused = module.readError(json);
			var failed = module.readChanges(json).filter(function(change) { return change.error; });
			if (refused)
				ui.addNotification(null, module.element('p', {}, refused), 'error');
			failed.forEach(function(change) {
				ui.addNotification(null, module.element('p', {}, change.command + ' – ' + change.error), 'error');
			});
			return self.refresh(module, page);
		}).catch(function(error) {
			ui.hideModal();
			ui.addNotification(null, module.element('p', {}, why(error)), 'error');
		});
	},

	render: function(module) {
		var self = this, root = loader.adapt(E('div', {}));
		var options = loader.options();
		options.onConnections = function(open) {
			self.connections = open;
			if (open)
				self.refreshConnections(module, page);
		};
		var page = new module.Page(root, options);
		this.running = true;
		this.skipped = 0;
		this.polls = 0;
		this.refresh(module, page);
		poll.add(function() { return self.refresh(module, page); });
		return E('div', {}, [
			E('h2', {}, [ _('Uplinks') ]),
			E('div', { 'class': 'cbi-page-actions' }, [
				E('button', {
					'class': 'btn cbi-button-action',
					'disabled': L.hasViewPermission() === false ? 'disabled' : null,
					'click': ui.createHandlerFn(this, 'reconcile', module, page)
				}, [ _('Reconcile…') ])
			]),
			root
		]);
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
