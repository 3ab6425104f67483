'use strict';
'require baseclass';
'require rpc';
'require mproutd.loader as loader';

var callStatus = rpc.declare({ object: 'mproutd', method: 'status' });

return baseclass.extend({
	title: _('Uplinks'),

	load: function() {
		return Promise.all([ loader.load(), callStatus() ]);
	},

	render: function(data) {
		var module = data[0], json = data[1];
		if (!json || !json.uplinks)
			return E('p', {}, [ module.readError(json) || _('mproutd does not answer.') ]);
		return loader.adapt(module.summary(json, loader.options()));
	}
});
