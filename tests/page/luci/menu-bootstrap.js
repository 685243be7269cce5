'use strict';
'require baseclass';
'require ui';

// The menu above the page, and the tabs between the pages of an app.

return baseclass.extend({
	__init__() {
		ui.menu.load().then(tree => {
			const top = document.querySelector('#topmenu');
			for (const place of ui.menu.getChildren(tree.children.admin)) {
				const pages = ui.menu.getChildren(place);
				top.append(E('li', { 'class': pages.length ? 'dropdown' : '' }, [
					E('a', { 'class': pages.length ? 'menu' : '', 'href': pages.length ? '#' : L.url('admin', place.name) }, [ _(place.title) ]),
					pages.length ? E('ul', { 'class': 'dropdown-menu' }, pages.map(p =>
						E('li', {}, E('a', { 'href': L.url('admin', place.name, p.name) }, [ _(p.title) ])))) : '',
				]));
			}
			top.style.display = '';
			this.tabs(tree, L.env.dispatchpath);
		});
	},

	tabs(tree, way) {
		const bar = document.querySelector('#tabmenu');
		for (let depth = 3; depth <= way.length; depth++) {
			const node = way.slice(0, depth).reduce((n, step) => n?.children?.[step], tree);
			const pages = ui.menu.getChildren(node);
			if (!pages.length)
				return;
			bar.append(E('ul', { 'class': 'tabs' }, pages.map(p => E('li', { 'class': `tabmenu-item-${p.name} ${p.name == way[depth] ? 'active' : ''}` },
				E('a', { 'href': L.url(...way.slice(0, depth), p.name) }, [ _(p.title) ])))));
			bar.style.display = '';
		}
	},
});
