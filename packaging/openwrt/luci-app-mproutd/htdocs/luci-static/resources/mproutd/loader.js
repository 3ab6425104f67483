'use strict';
'require baseclass';

/* Whether the background of `node` is dark, by its computed style: themes differ. */
function isDark(node) {
	for (var each = node; each; each = each.parentElement) {
		var parts = getComputedStyle(each).backgroundColor.match(/[\d.]+/g) || [];
		if (parts.length >= 3 && (parts.length < 4 || +parts[3] > 0.5))
			return 0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2] < 128;
	}
	return false;
}

/* Loads the module that Cockpit's page uses too, and its style sheet. */
return baseclass.extend({
	load: function() {
		var href = L.resource('mproutd/page.css');
		if (!document.querySelector('link[href="' + href + '"]'))
			document.head.appendChild(E('link', { 'rel': 'stylesheet', 'href': href }));
		return import(L.resource('mproutd/page.js'));
	},

	options: function() {
		return { gettext: _, language: document.documentElement.lang || 'en' };
	},

	/* Adapts an element to the theme. */
	adapt: function(node) {
		node.dataset.theme = isDark(document.body) ? 'dark' : 'light';
		return node;
	}
});
