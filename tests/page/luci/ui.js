'use strict';
'require baseclass';
'require request';
'require session';
'require poll';
'require dom';
'require rpc';
'require uci';
'require validation';

// What a page is made of beside its view: dialogs, notices, tabs, the menu, and the
// widgets of forms.

let overlay, tooltip;

// --- widgets ---------------------------------------------------------------------

/** Widget is what all widgets come from. node is what stands in the page. */
const Widget = baseclass.extend({
	getValue() {
		return this.node.value;
	},

	setValue(v) {
		this.node.value = v;
	},

	isChanged() {
		return this.node.getAttribute('data-changed') == 'true';
	},

	isValid() {
		return this.validState !== false;
	},

	getValidationError() {
		return this.validationError ?? '';
	},

	/** triggerValidation looks again, and tells whether that changed anything. */
	triggerValidation() {
		const before = this.isValid();
		this.vfunc?.();
		return before != this.isValid();
	},

	// bind makes a node the widget's: it is checked at some events, and the form told at
	// others.
	bind(node, field, check, change) {
		this.node = node;
		dom.bindClassInstance(node, this);
		const tell = name => () => node.dispatchEvent(new CustomEvent(name, { bubbles: true }));
		check.forEach(e => field.addEventListener(e, tell('widget-update')));
		change.forEach(e => field.addEventListener(e, () => node.setAttribute('data-changed', true)));
		change.forEach(e => field.addEventListener(e, tell('widget-change')));
		const { datatype, validate, optional = true } = this.options;
		if (datatype || validate) {
			node.addEventListener('validation-success', () => { this.validState = true; this.validationError = ''; });
			node.addEventListener('validation-failure', ev => { this.validState = false; this.validationError = ev.detail.message; });
			this.vfunc = addValidator(field, datatype ?? 'string', optional, validate, ...check);
		}
		return node;
	},

	widgetID() {
		return this.options.id ? `widget.${this.options.id}` : null;
	},
});

const flag = b => b ? '' : null;

const Textfield = Widget.extend({
	__init__(value, options) {
		this.value = value;
		this.options = { optional: true, ...options };
	},

	render() {
		const o = this.options;
		this.input = E('input', {
			'id': this.widgetID(), 'name': o.name, 'type': o.password ? 'password' : 'text', 'class': o.password ? 'cbi-input-password' : 'cbi-input-text',
			'readonly': flag(o.readonly), 'disabled': flag(o.disabled), 'maxlength': o.maxlength, 'placeholder': o.placeholder, 'value': this.value,
		});
		const node = E('div', { 'id': o.id }, o.password ? E('div', { 'class': 'control-group' }, [ this.input, E('button', {
			'class': 'cbi-button cbi-button-neutral', 'title': _('Reveal/hide password'), 'aria-label': _('Reveal/hide password'),
			'click': ev => {
				this.input.type = this.input.type == 'password' ? 'text' : 'password';
				ev.preventDefault();
			},
		}, [ '∗' ]) ]) : this.input);
		return this.bind(node, this.input, [ 'keyup', 'blur' ], [ 'change' ]);
	},

	getValue() {
		return this.input.value;
	},

	setValue(v) {
		this.input.value = v;
	},
});

const Textarea = Textfield.extend({
	render() {
		const o = this.options, style = o.cols ? null : 'width:100%';
		this.input = E('textarea', {
			'id': this.widgetID(), 'name': o.name, 'class': 'cbi-input-textarea', 'readonly': flag(o.readonly), 'disabled': flag(o.disabled),
			'placeholder': o.placeholder, 'style': style, 'cols': o.cols, 'rows': o.rows, 'wrap': o.wrap ? 'soft' : 'off',
		}, [ this.value ?? '' ]);
		if (o.monospace)
			this.input.style.fontFamily = 'monospace';
		return this.bind(E('div', { 'id': o.id, 'style': style }, this.input), this.input, [ 'keyup', 'blur' ], [ 'change' ]);
	},
});

const Checkbox = Widget.extend({
	__init__(value, options) {
		this.value = value;
		this.options = { value_enabled: '1', value_disabled: '0', ...options };
	},

	render() {
		const o = this.options, id = 'cb%08x'.format(Math.random() * 0xffffffff);
		this.input = E('input', {
			'id': id, 'name': o.name, 'type': 'checkbox', 'value': o.value_enabled, 'checked': flag(this.value == o.value_enabled),
			'disabled': flag(o.disabled), 'data-widget-id': this.widgetID(),
		});
		const node = E('div', { 'id': o.id, 'class': 'cbi-checkbox' }, [ this.input, E('label', { 'for': id }) ]);
		return this.bind(node, this.input, [ 'click', 'blur' ], [ 'change' ]);
	},

	isChecked() {
		return this.input.checked;
	},

	getValue() {
		return this.isChecked() ? this.options.value_enabled : this.options.value_disabled;
	},

	setValue(v) {
		this.input.checked = v == this.options.value_enabled;
	},
});

// ordered are the keys of choices as the options want them.
function ordered(choices, sort) {
	if (Array.isArray(sort))
		return [ ...sort ];
	return sort === true ? Object.keys(choices).sort(L.naturalCompare) : Object.keys(choices);
}

const Select = Widget.extend({
	__init__(value, choices, options) {
		this.values = L.toArray(Array.isArray(value) || !value ? value : [ value ]);
		this.choices = choices ?? {};
		this.options = { widget: 'select', orientation: 'horizontal', ...options };
		if ('' in this.choices)
			this.options.optional = true;
	},

	render() {
		const o = this.options, node = E('div', { 'id': o.id });
		const keys = ordered(this.choices, o.sort);
		if (o.widget == 'radio') {
			keys.forEach((k, i) => {
				const id = o.id ? `widget.${o.id}.${i}` : null;
				const input = E('input', {
					'id': id, 'name': o.id ?? o.name, 'type': 'radio', 'class': 'cbi-input-radio', 'value': k,
					'checked': flag(this.values.includes(k)), 'disabled': flag(o.disabled),
				});
				node.append(E('span', { 'class': 'cbi-radio' }, [
					input, E('label', { 'for': id }), E('span', { 'click': () => input.click() }, [ this.choices[k] ?? k ]),
				]), o.orientation == 'horizontal' ? document.createTextNode(' \xa0 ') : E('br'));
			});
			return this.bind(node, node, [ 'change' ], [ 'change' ]);
		}
		const select = E('select', { 'id': this.widgetID(), 'name': o.name, 'size': o.size, 'class': 'cbi-input-select', 'disabled': flag(o.disabled) });
		if (o.optional)
			select.append(E('option', { 'value': '', 'selected': flag(!this.values[0]) }, [ this.choices[''] ?? o.placeholder ?? _('-- Please choose --') ]));
		for (const k of keys)
			if (k != '')
				select.append(E('option', { 'value': k, 'selected': flag(this.values.includes(k)) }, [ this.choices[k] ?? k ]));
		node.append(select);
		return this.bind(node, select, [ 'change', 'click', 'blur' ], [ 'change' ]);
	},

	getValue() {
		return this.options.widget == 'radio' ? this.node.querySelector('input:checked')?.value ?? null : this.node.firstChild.value;
	},

	setValue(v) {
		if (this.options.widget == 'radio')
			this.node.querySelectorAll('input').forEach(i => { i.checked = i.value == v; });
		else
			this.node.firstChild.value = v ?? '';
	},
});

/** Dropdown is a list that opens: of single choices, or of several. With create, one
 * may type what is not in the list. */
const Dropdown = Widget.extend({
	__init__(value, choices, options) {
		this.values = Array.isArray(value) ? [ ...value ] : value != null && value != '' ? [ value ] : [];
		this.choices = choices ?? {};
		this.options = {
			sort: true, multiple: Array.isArray(value), optional: true, display_items: 3, create: false,
			select_placeholder: _('-- Please choose --'), custom_placeholder: _('-- custom --'), ...options,
		};
	},

	render() {
		const o = this.options;
		this.list = E('ul', { 'tabindex': -1 });
		this.hidden = E('div');
		const node = E('div', {
			'id': o.id, 'class': 'cbi-dropdown', 'multiple': flag(o.multiple), 'optional': flag(o.optional), 'disabled': flag(o.disabled), 'tabindex': 0,
		}, [ this.list, E('span', { 'class': 'more', 'tabindex': -1 }, [ '···' ]), E('span', { 'class': 'open', 'tabindex': -1 }, [ '▾' ]), this.hidden ]);
		this.node = node;
		const keys = ordered(this.choices, o.sort);
		if (o.create)
			keys.push(...this.values.filter(v => !(v in this.choices)));
		if (!o.multiple && o.optional && !keys.includes(''))
			this.list.append(E('li', { 'placeholder': '' }, dom.elem(o.select_placeholder) ? o.select_placeholder : [ o.select_placeholder ]));
		keys.forEach(k => this.list.append(this.item(k, this.choices[k])));
		if (o.create) {
			this.input = E('input', { 'type': 'text', 'class': 'create-item-input', 'placeholder': o.custom_placeholder, 'keydown': ev => this.typed(ev) });
			this.list.append(E('li', { 'data-value': '-', 'unselectable': '' }, this.input));
			if (o.datatype || o.validate)
				addValidator(this.input, o.datatype ?? 'string', true, o.validate, 'blur', 'keyup');
		}
		for (const li of this.items())
			li.toggleAttribute('selected', this.values.includes(li.getAttribute('data-value')));
		if (!o.multiple && !this.list.querySelector('[selected]'))
			this.list.firstElementChild?.setAttribute('selected', '');
		this.show();
		node.addEventListener('click', ev => this.clicked(ev));
		node.addEventListener('keydown', ev => this.pressed(ev));
		node.addEventListener('cbi-dropdown-close', () => this.close());
		return this.bind(node, node, [ 'cbi-dropdown-open', 'cbi-dropdown-close' ], [ 'cbi-dropdown-change', 'cbi-dropdown-close' ]);
	},

	items() {
		return [ ...this.list.querySelectorAll('li[data-value]:not([unselectable])') ];
	},

	item(key, label) {
		const text = dom.elem(label) ? label.cloneNode(true) : label ?? key;
		return E('li', { 'data-value': key }, this.options.multiple
			? [ E('form', {}, E('input', { 'type': 'checkbox', 'tabindex': -1 })), E('label', {}, [ text ]) ] : [ text ]);
	},

	// show brings what is seen, and what a form reads, in line with what is selected.
	show() {
		const chosen = [ ...this.list.querySelectorAll('li[selected]') ];
		const most = this.options.multiple ? this.options.display_items : 1;
		this.list.querySelectorAll('li').forEach(li => {
			li.removeAttribute('display');
			const box = li.querySelector('input[type="checkbox"]');
			if (box)
				box.checked = li.hasAttribute('selected');
		});
		chosen.slice(0, most).forEach((li, i) => li.setAttribute('display', i));
		const none = this.options.multiple && !chosen.length;
		this.node.toggleAttribute('empty', none);
		this.node.toggleAttribute('more', chosen.length > most);
		dom.content(this.node.querySelector('.more'), [ none ? this.options.select_placeholder : '···' ]);
		const values = chosen.filter(li => !li.hasAttribute('placeholder')).map(li => li.getAttribute('data-value'));
		dom.content(this.hidden, values.map(v => E('input', { 'type': 'hidden', 'name': this.options.name, 'value': v })));
		this.node.value = values.join(' ');
	},

	choose(li, state) {
		if (li.hasAttribute('unselectable'))
			return;
		if (this.options.multiple) {
			const last = this.list.querySelectorAll('[selected]').length == 1;
			const on = state ?? !li.hasAttribute('selected');
			if (on || !last || this.options.optional)
				li.toggleAttribute('selected', on);
		} else {
			this.list.querySelectorAll('[selected]').forEach(s => s.removeAttribute('selected'));
			li.setAttribute('selected', '');
			this.close();
		}
		this.show();
		this.node.dispatchEvent(new CustomEvent('cbi-dropdown-change', { bubbles: true, detail: { instance: this, element: this.node, value: this.chosen(li) } }));
	},

	// chosen is an item as the event tells it; the placeholder is none.
	chosen(li) {
		return li.hasAttribute('placeholder') ? null : { element: li, value: li.getAttribute('data-value'), text: li.innerText };
	},

	open() {
		closeDropdowns();
		this.node.setAttribute('open', '');
		const preview = this.list.cloneNode(true);
		preview.classList.add('preview');
		this.list.classList.add('dropdown');
		this.list.style.top = `${this.node.offsetHeight}px`;
		this.list.after(preview);
		this.list.querySelectorAll('li:not([unselectable])').forEach(li => li.setAttribute('tabindex', 0));
		this.focus(this.list.querySelector('[selected]') ?? this.list.firstElementChild);
	},

	close() {
		if (!this.node.hasAttribute('open'))
			return;
		this.node.removeAttribute('open');
		this.node.querySelector('ul.preview')?.remove();
		this.list.classList.remove('dropdown');
		this.list.querySelectorAll('li').forEach(li => li.removeAttribute('tabindex'));
		this.node.focus();
	},

	focus(li) {
		this.list.querySelectorAll('.focus').forEach(e => e.classList.remove('focus'));
		li?.classList.add('focus');
		(li?.querySelector('.create-item-input') ?? li)?.focus();
	},

	clicked(ev) {
		if (this.node.hasAttribute('disabled'))
			return;
		const li = ev.target.closest('li');
		if (!this.node.hasAttribute('open'))
			this.open();
		else if (ev.target === this.input)
			this.input.focus();
		else if (li?.parentNode === this.list)
			this.choose(li);
		else
			this.close();
		ev.preventDefault();
		ev.stopPropagation();
	},

	pressed(ev) {
		if (ev.target === this.input || this.node.hasAttribute('disabled'))
			return;
		const open = this.node.hasAttribute('open'), at = document.activeElement.closest('li');
		const act = {
			ArrowDown: () => open ? this.focus(at?.nextElementSibling ?? at) : this.open(),
			ArrowUp: () => open ? this.focus(at?.previousElementSibling ?? at) : this.open(),
			Escape: open && (() => { this.close(); ev.stopPropagation(); }),
			Enter: open && at && (() => { if (!at.hasAttribute('selected')) this.choose(at); this.close(); }),
			' ': open && at && (() => this.choose(at)),
		}[ev.key];
		if (act) {
			act();
			ev.preventDefault();
		}
	},

	typed(ev) {
		if (ev.key == 'Enter') {
			ev.preventDefault();
			if (!this.input.classList.contains('cbi-input-invalid'))
				this.create(this.input.value);
		} else if (ev.key == 'Escape') {
			ev.stopPropagation();
			this.close();
		} else if (ev.key == 'ArrowUp') {
			this.focus(this.input.closest('li').previousElementSibling);
		}
	},

	// create takes a value that is not in the list.
	create(text) {
		this.input.value = '';
		for (const v of this.options.multiple ? L.toArray(text) : [ text.trim() ].filter(s => s)) {
			let li = this.items().find(i => i.getAttribute('data-value') == v);
			if (!li) {
				li = this.item(v, this.choices[v]);
				li.setAttribute('created', '');
				this.list.lastElementChild.before(li);
			}
			this.choose(li, true);
		}
	},

	addChoices(values, labels) {
		for (const v of L.toArray(values))
			if (!this.items().some(li => li.getAttribute('data-value') == v))
				this.list.insertBefore(this.item(v, labels?.[v]), this.options.create ? this.list.lastElementChild : null);
	},

	clearChoices() {
		this.items().forEach(li => li.remove());
		this.show();
	},

	getValue() {
		const values = [ ...this.hidden.querySelectorAll('input') ].map(i => i.value);
		return this.options.multiple ? values : values[0];
	},

	setValue(v) {
		const values = Array.isArray(v) ? v : v != null && v != '' ? [ v ] : [];
		if (this.options.create)
			this.addChoices(values);
		this.list.querySelectorAll('li').forEach(li => li.toggleAttribute('selected', values.includes(li.getAttribute('data-value'))));
		if (!values.length && !this.options.multiple)
			this.list.querySelector('[placeholder]')?.setAttribute('selected', '');
		this.show();
	},
});

function closeDropdowns() {
	document.querySelectorAll('.cbi-dropdown[open]').forEach(d => d.dispatchEvent(new CustomEvent('cbi-dropdown-close')));
}

/** Combobox is a list into which one may type. */
const Combobox = Dropdown.extend({
	__init__(value, choices, options) {
		this.super('__init__', [ value, choices, { ...options, multiple: false, create: true, optional: true } ]);
	},
});

/** ComboButton is a button with a list of things that it may do. */
const ComboButton = Dropdown.extend({
	__init__(value, choices, options) {
		this.super('__init__', [ value, choices, { ...options, multiple: false, create: false, optional: false } ]);
	},

	show() {
		this.super('show', []);
		this.node.setAttribute('class', `cbi-dropdown ${this.options.classes?.[this.getValue()] ?? ''}`);
	},

	clicked(ev) {
		if (this.node.hasAttribute('open') || ev.target.matches('span.open'))
			return this.super('clicked', [ ev ]);
		if (!this.node.hasAttribute('disabled'))
			this.options.click?.call(this.node, ev, this.getValue());
	},
});

/** DynamicList is a list of values that can be added to. */
const DynamicList = Widget.extend({
	__init__(values, choices, options) {
		this.values = Array.isArray(values) ? values : values != null && values != '' ? [ values ] : [];
		this.choices = choices;
		this.options = { ...options, multiple: false, optional: true };
	},

	render() {
		const o = this.options;
		this.adder = E('div', { 'class': 'add-item control-group' });
		const node = this.node = E('div', { 'id': o.id, 'class': 'cbi-dynlist', 'disabled': flag(o.disabled) }, this.adder);
		if (this.choices) {
			this.box = new Combobox(null, this.choices, { ...o, select_placeholder: o.placeholder });
			this.adder.append(this.box.render());
			node.addEventListener('cbi-dropdown-change', ev => this.picked(ev.detail.value));
		} else {
			this.input = E('input', { 'id': this.widgetID(), 'type': 'text', 'class': 'cbi-input-text', 'placeholder': o.placeholder, 'disabled': flag(o.disabled) });
			this.adder.append(this.input, E('div', { 'class': 'btn cbi-button cbi-button-add' }, [ '+' ]));
			if (o.datatype || o.validate)
				addValidator(this.input, o.datatype ?? 'string', true, o.validate, 'blur', 'keyup');
		}
		this.values.forEach(v => this.add(v));
		node.addEventListener('click', ev => this.clicked(ev));
		node.addEventListener('keydown', ev => this.pressed(ev));
		// What was typed and not added yet is checked like any other field.
		dom.bindClassInstance(node, this);
		const tell = name => () => node.dispatchEvent(new CustomEvent(name, { bubbles: true }));
		node.addEventListener('cbi-dynlist-change', tell('widget-update'));
		node.addEventListener('cbi-dynlist-change', tell('widget-change'));
		node.addEventListener('validation-success', () => { this.validState = true; this.validationError = ''; });
		node.addEventListener('validation-failure', ev => { this.validState = false; this.validationError = ev.detail.message; });
		return node;
	},

	items() {
		return [ ...this.node.querySelectorAll(':scope > .item') ];
	},

	add(value, label) {
		label ??= this.choices?.[value] ?? value;
		if (!this.getItems().includes(value) || this.options.allowduplicates)
			this.adder.before(E('div', { 'class': 'item', 'tabindex': 0 }, [
				E('span', {}, [ dom.elem(label) ? label.cloneNode(true) : label ]),
				E('input', { 'type': 'hidden', 'name': this.options.name, 'value': value }),
			]));
		this.changed(value);
	},

	remove(item) {
		const value = item.querySelector('input').value;
		item.remove();
		this.changed(value);
	},

	changed(value) {
		this.node.dispatchEvent(new CustomEvent('cbi-dynlist-change', { bubbles: true, detail: { instance: this, element: this.node, value } }));
	},

	take() {
		if (this.input.value == '' || this.input.classList.contains('cbi-input-invalid'))
			return;
		this.add(this.input.value);
		this.input.value = '';
	},

	picked(chosen) {
		if (chosen == null)
			return;
		this.box.setValue(null);
		this.add(chosen.value, chosen.text);
	},

	// clicked removes an item by the cross at its right end, which is drawn by the theme.
	clicked(ev) {
		const item = ev.target.closest('.item');
		if (this.options.disabled)
			return;
		if (item && item.getBoundingClientRect().right - ev.clientX <= (parseFloat(getComputedStyle(item, '::after').width) || 0))
			this.remove(item);
		else if (ev.target.matches('.cbi-button-add'))
			this.take();
	},

	pressed(ev) {
		const item = ev.target.closest('.item');
		if (item && (ev.key == 'Delete' || ev.key == 'Backspace')) {
			(ev.key == 'Delete' ? item.nextElementSibling : item.previousElementSibling)?.focus();
			this.remove(item);
		} else if (ev.target === this.input && ev.key == 'Enter') {
			this.take();
			ev.preventDefault();
		}
	},

	getItems() {
		return this.items().map(i => i.querySelector('input').value);
	},

	/** getValue takes in what was typed and not added. */
	getValue() {
		const values = this.getItems(), typed = this.input?.value ?? '';
		if (/\S/.test(typed) && !this.input.classList.contains('cbi-input-invalid') && !values.includes(typed))
			values.push(typed);
		return values;
	},

	setValue(values) {
		this.items().forEach(i => i.remove());
		L.toArray(values).forEach(v => this.add(v));
	},
});

const Hiddenfield = Widget.extend({
	__init__(value, options) {
		this.value = value;
		this.options = { ...options };
	},

	render() {
		return this.bind(E('input', { 'id': this.options.id, 'type': 'hidden', 'value': this.value }), document.createElement('i'), [], []);
	},
});

/** Table is a table that is filled again and again. Its head stays. */
const Table = baseclass.extend({
	__init__(what, options, placeholder) {
		this.options = options ?? {};
		this.node = !Array.isArray(what) ? what : E('table', { 'id': this.options.id, 'class': 'table' }, [
			E('tr', { 'class': 'tr table-titles' }, what.map(c => E('th', { 'class': 'th' }, [ c ]))),
		]);
		if (placeholder)
			this.update([], placeholder);
	},

	update(rows, placeholder = this.options.placeholder ?? _('No data', 'empty table placeholder')) {
		const head = this.node.querySelector('tr'), titles = [ ...head.querySelectorAll('th') ];
		this.node.querySelectorAll('tr').forEach(tr => { if (tr !== head) tr.remove(); });
		const body = this.node.tBodies[0] ?? this.node;
		rows.forEach((row, i) => body.append(E('tr', { 'class': `tr cbi-rowstyle-${i % 2 + 1}` }, titles.map((th, j) => {
			const cell = Array.isArray(row[j]) ? row[j][1] : row[j];
			return E('td', { 'class': 'td', 'data-title': th.innerText.trim() || null }, cell ?? '');
		}))));
		if (!rows.length && placeholder)
			body.append(E('tr', { 'class': 'tr placeholder' }, E('td', { 'class': 'td' }, placeholder)));
		return this.node;
	},

	render() {
		return this.node;
	},
});

// --- dialogs and notices ---------------------------------------------------------

function showModal(title, children, ...classes) {
	const dialog = overlay.firstElementChild;
	dialog.setAttribute('class', [ 'modal', ...classes ].join(' '));
	dom.content(dialog, E('h4', {}, title));
	dom.append(dialog, children);
	document.body.classList.add('modal-overlay-active');
	overlay.scrollTop = 0;
	overlay.focus();
	return dialog;
}

function hideModal() {
	document.body.classList.remove('modal-overlay-active');
	overlay.blur();
}

function addNotification(title, children, ...classes) {
	const note = E('div', { 'class': [ 'alert-message', ...classes ].join(' '), 'style': 'display:flex' }, [
		E('div', { 'style': 'flex:10' }, title != null ? E('h4', {}, title) : null),
		E('div', { 'style': 'flex:1 1 auto; display:flex' }, [
			E('button', { 'class': 'btn', 'style': 'margin-left:auto; margin-top:auto', 'click': () => note.remove() }, [ _('Dismiss') ]),
		]),
	]);
	dom.append(note.firstElementChild, children);
	(document.querySelector('#maincontent') ?? document.body).prepend(note);
	return note;
}

function addTimeLimitedNotification(title, children, timeout, ...classes) {
	const note = addNotification(title, children, ...classes);
	if (timeout > 0)
		setTimeout(() => note.remove(), timeout);
	return note;
}

function showTooltip(ev) {
	const target = ev.target.closest?.('[data-tooltip]');
	if (!target)
		return;
	const at = target.getBoundingClientRect();
	tooltip.className = `cbi-tooltip ${target.getAttribute('data-tooltip-style') ?? ''}`;
	dom.content(tooltip, [ `▲ ${target.getAttribute('data-tooltip')}` ]);
	Object.assign(tooltip.style, { top: `${at.bottom + scrollY}px`, left: `${at.left + scrollX}px`, opacity: 1 });
}

function hideTooltip() {
	tooltip.removeAttribute('style');
}

function addValidator(field, type, optional, extra, ...events) {
	const v = validation.create(field, type, optional, extra);
	for (const e of events.length ? events : [ 'blur', 'keyup' ])
		field.addEventListener(e, () => v.validate());
	v.validate();
	return () => v.validate();
}

/** createHandlerFn makes a handler under which a button is out of use until what it
 * does has ended. */
function createHandlerFn(ctx, fn, ...args) {
	if (typeof fn == 'string')
		fn = ctx[fn];
	if (typeof fn != 'function')
		return null;
	return (...rest) => {
		const button = rest[0].currentTarget;
		button.classList.add('spinning');
		button.disabled = true;
		button.blur?.();
		Promise.resolve(fn.call(ctx, ...args, ...rest)).finally(() => {
			button.classList.remove('spinning');
			button.disabled = false;
		});
	};
}

function showIndicator(id, label, handler, style) {
	const bar = document.querySelector('#indicators');
	if (!bar)
		return false;
	let sign = bar.querySelector(`[data-indicator="${id}"]`);
	if (!sign) {
		sign = E('span', { 'data-indicator': id, 'data-clickable': handler ? true : null, 'click': handler });
		bar.append(sign);
	}
	sign.textContent = label;
	sign.setAttribute('data-style', style == 'inactive' ? 'inactive' : 'active');
	return true;
}

function hideIndicator(id) {
	const sign = document.querySelector(`#indicators [data-indicator="${id}"]`);
	sign?.remove();
	return sign != null;
}

// --- tabs ------------------------------------------------------------------------

const tabs = {
	/** initTabGroup makes panes that stand beside each other ones of which one is seen. */
	initTabGroup(panes) {
		panes = [ ...panes ];
		const group = panes[0]?.parentNode;
		if (!group || group.getAttribute('data-initialized') == 'true')
			return;
		const menu = E('ul', { 'class': 'cbi-tabmenu' }, panes.map(p => E('li', { 'data-tab': p.getAttribute('data-tab') }, E('a', {
			'href': '#',
			'click': ev => {
				ev.preventDefault();
				this.show(group, menu, p);
			},
		}, p.getAttribute('data-tab-title')))));
		group.before(menu);
		group.setAttribute('data-initialized', true);
		const wanted = panes.find(p => p.getAttribute('data-tab-active') == 'true') ?? panes[this.state()[this.place(group)]];
		this.show(group, menu, wanted && !this.isEmptyPane(wanted) ? wanted : panes.find(p => !this.isEmptyPane(p)) ?? panes[0]);
		this.updateTabs();
	},

	// show remembers what is seen: the page may be drawn again.
	show(group, menu, pane) {
		const name = pane.getAttribute('data-tab');
		menu.querySelectorAll('li').forEach(li => { li.className = li.getAttribute('data-tab') == name ? 'cbi-tab' : 'cbi-tab-disabled'; });
		const all = [ ...group.children ].filter(p => p.hasAttribute('data-tab'));
		all.forEach(p => p.setAttribute('data-tab-active', p === pane));
		session.setLocalData('tab', { page: document.body.dataset.page, paths: { ...this.state(), [this.place(group)]: all.indexOf(pane) } });
		pane.dispatchEvent(new CustomEvent('cbi-tab-active', { detail: { tab: name } }));
	},

	state() {
		const kept = session.getLocalData('tab');
		return kept?.page == document.body.dataset.page ? kept.paths : {};
	},

	place(group) {
		const way = [];
		for (let n = group; n?.dataset; n = n.parentNode)
			way.unshift(n.dataset.tab ?? n.dataset.sectionId);
		return way.filter(w => w).join('/');
	},

	isEmptyPane: pane => dom.isEmpty(pane, n => n.classList.contains('cbi-tab-descr')),

	/** updateTabs shows at each tab what is wrong in its pane. */
	updateTabs(ev, root) {
		(root ?? document).querySelectorAll('[data-tab-title]').forEach(pane => {
			const tab = pane.parentNode.previousElementSibling?.querySelector(`:scope > [data-tab="${pane.getAttribute('data-tab')}"]`);
			if (!tab)
				return;
			const wrong = pane.querySelectorAll('.cbi-input-invalid').length;
			tab.style.display = this.isEmptyPane(pane) ? 'none' : '';
			if (wrong) {
				tab.setAttribute('data-errors', wrong);
				tab.setAttribute('data-tooltip', _('%d invalid field(s)').format(wrong));
			} else {
				tab.removeAttribute('data-errors');
				tab.removeAttribute('data-tooltip');
			}
		});
	},
};

// --- the menu --------------------------------------------------------------------

const menu = {
	/** load is the tree of pages that this user may see. */
	load() {
		return this.tree ??= request.get(L.url('admin/menu')).then(res => this.tree = scrub(res.json()));
	},

	getChildren(node) {
		return Object.entries(node?.children ?? {})
			.filter(([ , c ]) => c.satisfied && c.title)
			.map(([ name, c ]) => ({ ...c, name }))
			.sort((a, b) => (a.order ?? 1000) - (b.order ?? 1000) || L.naturalCompare(a.name, b.name));
	},
};

// scrub takes out places in the menu that lead nowhere.
function scrub(node) {
	const open = Object.values(node.children ?? {}).map(scrub).some(c => c.title && !c.firstchild_ineligible && c.satisfied);
	if (node.action?.type == 'firstchild' && !open)
		node.satisfied = false;
	return node;
}

// --- changes that wait -----------------------------------------------------------

/** applyButton is the button that puts saved changes into force. */
function applyButton(click, kind, disabled) {
	return new ComboButton('0', { 0: _('Save & Apply'), 1: _('Apply unchecked') }, {
		classes: { 0: `btn cbi-button ${kind} important`, 1: 'btn cbi-button cbi-button-negative important' },
		sort: [ '0', '1' ], click, disabled,
	}).render();
}

const ask = (what, query) => request.request(L.url('admin/uci', what), { method: 'POST', query });
const pause = ms => new Promise(done => setTimeout(done, ms));

const changes = {
	init() {
		if (L.env.sessionid)
			return uci.changes().then(all => this.renderChangeIndicator(all));
	},

	renderChangeIndicator(all) {
		this.changes = all;
		this.setIndicator(Object.values(all).flat().length);
	},

	setIndicator(n) {
		if (n > 0)
			showIndicator('uci-changes', `${_('Unsaved Changes')}: ${n}`, () => this.displayChanges());
		else
			hideIndicator('uci-changes');
	},

	displayChanges() {
		const lines = Object.entries(this.changes).flatMap(([ conf, list ]) => [
			E('h5', {}, [ `# /etc/config/${conf}` ]),
			...list.map(c => E('ins', {}, [ `uci ${c[0]} ${conf}.${c.slice(1).join('.')}` ])),
		]);
		showModal(`${_('Configuration')} / ${_('Changes')}`, [
			E('div', { 'class': 'cbi-section' }, [
				E('div', { 'class': 'uci-change-list' }, lines),
				E('div', { 'class': 'button-row' }, [
					E('button', { 'class': 'btn cbi-button', 'click': hideModal }, [ _('Close') ]), ' ',
					applyButton((ev, mode) => this.apply(mode == '0'), 'cbi-button-positive'), ' ',
					E('button', { 'class': 'btn cbi-button cbi-button-reset', 'click': () => this.revert() }, [ _('Revert') ]),
				]),
			]),
		], 'uci-dialog');
	},

	displayStatus(kind, content) {
		if (kind) {
			dom.content(showModal('', '', 'alert-message', ...kind.split(' ')), content);
			this.wasPolling ||= poll.stop();
			return;
		}
		hideModal();
		if (this.wasPolling)
			poll.start();
		this.wasPolling = false;
	},

	/** apply puts saved changes into force. Checked: they are taken back unless this page
	 * can still reach the router afterwards. */
	async apply(checked) {
		this.displayStatus('notice spinning', E('p', {}, [ _('Starting configuration apply…') ]));
		const res = await ask(checked ? 'apply_rollback' : 'apply_unchecked', { sid: L.env.sessionid, token: L.env.token });
		if (res.status == (checked ? 200 : 204) || !checked && res.ok)
			return this.confirm(checked ? res.json() : null);
		this.displayStatus(res.status == 204 ? 'notice' : 'warning', E('p', {}, [ res.status == 204
			? _('There are no changes to apply') : _('Apply request failed with status <code>%h</code>').format(res.responseText || res.status) ]));
		await pause(L.env.apply_display * 1000);
		this.displayStatus(false);
	},

	async confirm(token) {
		const deadline = Date.now() + L.env.apply_rollback * 1000;
		await pause(L.env.apply_holdoff * 1000);
		while (Date.now() < deadline) {
			this.displayStatus('notice spinning', E('p', {}, [ _('Applying configuration changes… %ds').format((deadline - Date.now()) / 1000) ]));
			const res = await L.resolveDefault(ask('confirm', token), null);
			if (res?.status == 200 || res?.status == 204) {
				document.dispatchEvent(new CustomEvent('uci-applied'));
				this.setIndicator(0);
				this.displayStatus('notice', E('p', {}, [ _('Configuration changes applied.') ]));
				await pause(L.env.apply_display * 1000);
				location.href = location.href.split('#')[0];
				return;
			}
			await pause(1000);
		}
		this.displayStatus('warning', E('h4', {}, [ _('Configuration changes have been rolled back!') ]));
	},

	async revert() {
		this.displayStatus('notice spinning', E('p', {}, [ _('Reverting configuration…') ]));
		const res = await ask('revert', { sid: L.env.sessionid, token: L.env.token });
		if (res.status == 200) {
			document.dispatchEvent(new CustomEvent('uci-reverted'));
			this.setIndicator(0);
			this.displayStatus('notice', E('p', {}, [ _('Changes have been reverted.') ]));
		} else {
			this.displayStatus('warning', E('p', {}, [ _('Revert request failed with status <code>%h</code>').format(res.status) ]));
		}
		await pause(L.env.apply_display * 1000);
		if (res.status == 200)
			location.href = location.href.split('#')[0];
		else
			this.displayStatus(false);
	},
};

/** itemlist shows names and values, the pairs without a value left out. */
function itemlist(node, items, separator) {
	const pairs = [];
	for (let i = 0; i < items.length; i += 2)
		if (items[i + 1] != null)
			pairs.push(E('span', { 'class': 'nowrap' }, [ items[i] ? E('strong', {}, [ `${items[i]}: ` ]) : '', items[i + 1] ]));
	dom.content(node, pairs.flatMap((p, i) => i ? [ dom.elem(separator) ? separator.cloneNode(true) : separator ?? E('br'), p ] : [ p ]));
	return node;
}

return baseclass.extend({
	__init__() {
		overlay = E('div', {
			'id': 'modal_overlay', 'tabindex': -1,
			// Escape is the same as the first button, which by custom does nothing.
			'keydown': ev => { if (ev.key == 'Escape') overlay.querySelector('.right > button, .right > .btn, .button-row > .btn')?.click(); },
		}, [ E('div', { 'class': 'modal', 'role': 'dialog', 'aria-modal': true }) ]);
		tooltip = E('div', { 'class': 'cbi-tooltip' });
		document.body.append(overlay, tooltip);
		for (const e of [ 'mouseover', 'focus' ])
			document.addEventListener(e, showTooltip, true);
		for (const e of [ 'mouseout', 'blur' ])
			document.addEventListener(e, hideTooltip, true);
		window.addEventListener('click', closeDropdowns);
		for (const e of [ 'luci-loaded', 'uci-loaded' ])
			document.addEventListener(e, () => changes.init());
	},

	/** instantiateView loads the view of a page. */
	instantiateView(path) {
		return L.require(`view.${path.replaceAll('/', '.')}`).then(v => {
			if (!(v instanceof L.view))
				throw new TypeError(`Loaded class ${path} is not a descendant of View`);
			return v;
		}).catch(e => {
			dom.content(document.querySelector('#view'), null);
			L.error(e);
		});
	},

	showModal, hideModal, addNotification, addTimeLimitedNotification, showTooltip, hideTooltip, showIndicator, hideIndicator,
	addValidator, createHandlerFn, itemlist, applyButton, tabs, menu, changes, Table,
	AbstractElement: Widget, Textfield, Textarea, Checkbox, Select, Dropdown, Combobox, ComboButton, DynamicList, Hiddenfield,
});
