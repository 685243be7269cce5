'use strict';
'require ui';
'require uci';
'require rpc';
'require dom';
'require baseclass';

// Forms over the router's configuration: a map holds sections, sections hold
// options, and an option makes one widget for each section of its kind.

const callAccess = rpc.declare({ object: 'session', method: 'access', params: [ 'scope', 'object', 'function' ], expect: { access: false } });

// plain is a title or description without its markup.
function plain(s) {
	const node = dom.elem(s) ? s : dom.parse(`<div>${s ?? ''}</div>`);
	return (node.textContent ?? '').trim();
}

const isText = s => typeof s == 'string' && s != '';

// same compares values of options; a regular expression is tried on the text.
function same(a, b) {
	if (b instanceof RegExp)
		return a != null && b.test(a);
	return JSON.stringify(a ?? null) == JSON.stringify(b ?? null);
}

/** Part is what maps, sections and options have in common. */
const Part = baseclass.extend({
	__init__(title, description) {
		this.title = title ?? '';
		this.description = description ?? '';
		this.children = [];
	},

	append(child) {
		this.children.push(child);
	},

	stripTags: plain,

	/** titleFn is a text that an app may also give as a function. */
	titleFn(attr, ...args) {
		const s = typeof this[attr] == 'function' ? this[attr](...args) : typeof this[attr] == 'string' ? this[attr].format(...args) : null;
		return s == null ? null : plain(s) || null;
	},
});

/** Map is a form over one configuration. */
const Map = Part.extend({
	__init__(config, title, description) {
		this.super('__init__', [ title, description ]);
		this.config = config;
		this.parsechain = [ config ];
		this.data = uci;
	},

	chain(config) {
		if (!this.parsechain.includes(config))
			this.parsechain.push(config);
	},

	section(kind, ...args) {
		const s = kind.instantiate([ this, ...args ]);
		this.append(s);
		return s;
	},

	findElements(...args) {
		return this.root.querySelectorAll(args.length == 2 ? `[${args[0]}="${args[1]}"]` : args[0]);
	},

	findElement(...args) {
		return this.root?.querySelector(args.length == 2 ? `[${args[0]}="${args[1]}"]` : args[0]) ?? null;
	},

	/** load reads the configuration and finds out whether it may be changed. */
	async load() {
		const [ writable ] = await Promise.all([
			this.readonly == null ? callAccess('uci', this.config, 'write') : true,
			...this.parsechain.map((c, i) => i ? L.resolveDefault(uci.load(c)) : uci.load(c)),
		]);
		if (writable === false)
			this.readonly = true;
		await Promise.all(this.children.map(s => s.load()));
	},

	async parse() {
		await Promise.all(this.children.map(s => s.parse()));
	},

	/** save hands the form to the router. What went wrong is shown unless silent. */
	async save(cb, silent) {
		this.checkDepends();
		try {
			await this.parse();
			await cb?.();
			await uci.save();
			await this.load();
		} catch (e) {
			if (!silent)
				ui.showModal(_('Save error'), [
					E('p', {}, [ _('An error occurred while saving the form:') ]),
					E('p', {}, [ E('em', { 'style': 'white-space:pre-wrap' }, [ e.message ]) ]),
					E('div', { 'class': 'right' }, [ E('button', { 'class': 'cbi-button', 'click': ui.hideModal }, [ _('Dismiss') ]) ]),
				]);
			throw e;
		}
		return this.draw();
	},

	reset() {
		return this.draw();
	},

	render() {
		return this.load().then(() => this.draw());
	},

	async draw() {
		this.root ??= E('div', { 'id': `cbi-${this.config}`, 'class': 'cbi-map', 'cbi-dependency-check': () => this.checkDepends() });
		dom.bindClassInstance(this.root, this);
		const sections = await Promise.all(this.children.filter(s => !s.disable).map(s => s.render()));
		dom.content(this.root, null);
		if (isText(this.title))
			this.root.append(E('h2', { 'name': 'content' }, this.title));
		if (isText(this.description))
			this.root.append(E('div', { 'class': 'cbi-map-descr' }, this.description));
		dom.append(this.root, this.tabbed ? E('div', { 'class': 'cbi-map-tabbed' }, sections) : sections);
		this.checkDepends();
		this.root.querySelectorAll('.cbi-map-tabbed, .cbi-section-node-tabbed').forEach(g => ui.tabs.initTabGroup(g.children));
		return this.root;
	},

	lookupOption(name, sid, config) {
		const id = name.includes('.') ? `cbid.${name}` : `cbid.${config ?? this.config}.${sid}.${name}`;
		const node = this.findElement('data-field', id);
		const option = node && dom.findClassInstance(node);
		return option instanceof AbstractValue ? [ option, id.split('.')[2] ] : null;
	},

	/** checkDepends shows and hides options, until that changes nothing any more. */
	checkDepends(ev, n = 0) {
		const changed = this.children.filter(s => s.checkDepends(n)).length > 0;
		if (changed && n < 10)
			this.checkDepends(ev, n + 1);
		ui.tabs.updateTabs(ev, this.root);
	},

	isDependencySatisfied(deps, config, sid) {
		const met = d => Object.entries(d).every(([ name, want ]) => {
			if (name[0] == '!')
				return name != '!default';
			const found = this.lookupOption(name, sid, config);
			const value = found?.[0].isActive(found[1]) ? found[0].formvalue(found[1]) : null;
			return d['!contains'] ? L.toArray(value).includes(want) : same(value, want);
		});
		return !deps.length || deps.some(d => met(d) != !!d['!reverse']) || deps.some(d => '!default' in d);
	},
});

/** AbstractSection is what all kinds of sections have in common. */
const AbstractSection = Part.extend({
	__init__(map, type, title, description) {
		this.super('__init__', [ title, description ]);
		Object.assign(this, { map, config: map.config, sectiontype: type, addremove: false });
	},

	conf() {
		return this.uciconfig ?? this.map.config;
	},

	filter() {
		return true;
	},

	async load() {
		await Promise.all(this.cfgsections().flatMap(sid => this.children.filter(o => !o.disable)
			.map(async o => o.cfgvalue(sid, await o.load(sid)))));
	},

	async parse() {
		await Promise.all(this.cfgsections().flatMap(sid => this.parsed().map(o => o.parse(sid))));
	},

	// parsed are the options that stand in the form itself.
	parsed() {
		return this.children;
	},

	tab(name, title, description) {
		this.tabs ??= [];
		if (this.tabs.some(t => t.name == name))
			throw new Error('Tab already declared');
		this.tabs.push({ name, title, description });
	},

	option(kind, ...args) {
		if (!AbstractValue.isSubclass(kind))
			L.error('TypeError', 'Class must be a descendant of CBIAbstractValue');
		const o = kind.instantiate([ this.map, this, ...args ]);
		this.append(o);
		return o;
	},

	taboption(tab, ...args) {
		if (!this.tabs?.some(t => t.name == tab))
			L.error('ReferenceError', 'Associated tab not declared');
		const o = this.option(...args);
		o.tab = tab;
		return o;
	},

	getOption(name) {
		return name == null ? Object.fromEntries(this.children.map(o => [ o.option, o ])) : this.children.find(o => o.option == name) ?? null;
	},

	// each is a value of one option, or of all by their names.
	each(method, sid, name) {
		return name == null ? Object.fromEntries(this.children.map(o => [ o.option, o[method](sid) ])) : this.getOption(name)?.[method](sid) ?? null;
	},

	cfgvalue(sid, name) {
		return this.each('cfgvalue', sid, name);
	},

	formvalue(sid, name) {
		return this.each(this.map.root ? 'formvalue' : 'cfgvalue', sid, name);
	},

	getUIElement(sid, name) {
		return this.each('getUIElement', sid, name);
	},

	async options(sid, tab) {
		const nodes = await Promise.all(this.children.filter(o => !o.disable && (tab == null || o.tab == tab)).map((o, i) => o.render(i, sid, false)));
		return E([], nodes);
	},

	/** renderUCISection draws one section with its options. */
	async renderUCISection(sid) {
		if (!this.tabs)
			return this.options(sid, null);
		return E([], await Promise.all(this.tabs.map(async t => E('div', {
			'id': `container.${this.conf()}.${sid}.${t.name}`, 'data-tab': t.name, 'data-tab-title': t.title,
			'data-tab-active': t.name === this.selected_tab,
		}, [ isText(t.description) ? E('div', { 'class': 'cbi-tab-descr' }, t.description) : '', await this.options(sid, t.name) ]))));
	},

	checkDepends(n) {
		let changed = false;
		for (const sid of this.cfgsections())
			for (const o of this.children) {
				const wanted = o.checkDepends(sid);
				if (o.isActive(sid) != wanted)
					changed = o.setActive(sid, wanted) || changed;
				if (!n && wanted)
					o.triggerValidation(sid);
			}
		return changed;
	},

	// frame is the box of all sections, with title and description.
	frame(cls, nodes) {
		const tabbed = this.map.tabbed;
		const node = E('div', {
			'id': `cbi-${this.conf()}-${this.sectiontype}`, 'class': cls,
			'data-tab': tabbed ? this.sectiontype : null, 'data-tab-title': tabbed ? this.title || this.sectiontype : null,
		}, [
			isText(this.title) && !this.hidetitle ? E('h3', {}, this.title) : '',
			isText(this.description) ? E('div', { 'class': 'cbi-section-descr' }, this.description) : '',
			...nodes,
		]);
		dom.bindClassInstance(node, this);
		return node;
	},

	node(sid, content) {
		return E('div', {
			'id': `cbi-${this.conf()}-${sid}`, 'class': this.tabs ? 'cbi-section-node cbi-section-node-tabbed' : 'cbi-section-node', 'data-section-id': sid,
		}, content);
	},

	button(cls, label, handler, ...args) {
		return E('button', {
			'class': cls, 'title': label, 'disabled': this.map.readonly || null, 'click': ui.createHandlerFn(this, handler, ...args),
		}, [ label ]);
	},
});

/** TypedSection is all sections of a type, one below the other. */
const TypedSection = AbstractSection.extend({
	cfgsections() {
		return uci.sections(this.conf(), this.sectiontype).map(s => s['.name']).filter(sid => this.filter(sid));
	},

	handleAdd(ev, name) {
		uci.add(this.conf(), this.sectiontype, name);
		return this.map.save(null, true);
	},

	handleRemove(sid) {
		uci.remove(this.conf(), sid);
		return this.map.save(null, true);
	},

	/** renderSectionAdd is the button for one more section, with a field for its name if
	 * it is to have one. */
	renderSectionAdd(cls) {
		if (!this.addremove)
			return '';
		const label = this.titleFn('addbtntitle') ?? _('Add');
		const box = E('div', { 'class': `cbi-section-create ${cls ?? ''}` });
		if (this.anonymous) {
			box.append(this.button('cbi-button cbi-button-add', label, 'handleAdd'));
			return box;
		}
		const name = E('input', { 'type': 'text', 'class': 'cbi-section-create-name', 'disabled': this.map.readonly || null });
		const add = this.button('cbi-button cbi-button-add', label, ev => {
			if (!name.classList.contains('cbi-input-invalid'))
				return this.handleAdd(ev, name.value);
		});
		add.disabled = true;
		dom.append(box, [ E('div', {}, name), add ]);
		if (!this.map.readonly)
			ui.addValidator(name, 'uciname', true, v => {
				add.disabled = v == '';
				return v != '' || _('Expecting: %s').format(_('non-empty value'));
			}, 'blur', 'keyup');
		return box;
	},

	renderSectionPlaceholder() {
		return E('em', {}, [ _('This section contains no values yet') ]);
	},

	async render() {
		const ids = this.cfgsections();
		const nodes = await Promise.all(ids.map(sid => this.renderUCISection(sid)));
		return this.frame('cbi-section', [
			...ids.flatMap((sid, i) => [
				this.addremove ? E('div', { 'class': 'cbi-section-remove right' },
					this.button('cbi-button', this.titleFn('delbtntitle', sid) ?? _('Delete'), 'handleRemove', sid)) : '',
				this.anonymous ? '' : E('h3', {}, [ sid.toUpperCase() ]),
				this.node(sid, nodes[i]),
			]),
			ids.length ? '' : this.renderSectionPlaceholder(),
			this.renderSectionAdd(),
		]);
	},
});

/** TableSection is all sections of a type as rows of a table. */
const TableSection = TypedSection.extend({
	// columns are the options that have one.
	columns() {
		return this.children.filter(o => !o.disable && !o.modalonly);
	},

	named() {
		return !this.anonymous || this.sectiontitle;
	},

	cell(o, sid) {
		return o.render(0, sid, true);
	},

	async row(sid, i) {
		const title = this.named() ? this.titleFn('sectiontitle', sid) ?? sid : null;
		const cells = await Promise.all(this.columns().map(o => this.cell(o, sid)));
		return E('tr', {
			'id': `cbi-${this.conf()}-${sid}`, 'class': `tr cbi-section-table-row cbi-rowstyle-${i % 2 + 1}`, 'data-sid': sid, 'data-section-id': sid, 'data-title': title,
		}, [
			title ? E('td', { 'class': 'td cbi-value-field cbi-section-table-titles' }, [ title ]) : '',
			...cells,
			this.hasActions() ? E('td', { 'class': 'td cbi-section-table-cell nowrap cbi-section-actions' }, E('div', {}, this.renderRowActions(sid))) : '',
		]);
	},

	hasActions() {
		return this.addremove || this.extedit;
	},

	renderRowActions(sid) {
		return [
			this.extedit ? E('button', { 'class': 'btn cbi-button cbi-button-edit', 'title': _('Edit'), 'click': typeof this.extedit == 'function'
				? ev => this.extedit(ev, sid) : () => { location.href = this.extedit.format(sid); } }, [ _('Edit') ]) : '',
			this.addremove ? this.button('btn cbi-button cbi-button-remove', this.titleFn('delbtntitle', sid) ?? _('Delete'), 'handleRemove', sid) : '',
		];
	},

	head(text, cls) {
		return E('tr', { 'class': `tr ${cls} ${this.named() ? 'named' : 'anonymous'}` }, [
			this.named() ? E('th', { 'class': 'th cbi-section-table-cell' }, [ cls == 'cbi-section-table-titles' ? _('Name') : '' ]) : '',
			...this.columns().map(o => E('th', { 'class': 'th cbi-section-table-cell', 'data-widget': o.__name__ }, text(o))),
			this.hasActions() ? E('th', { 'class': 'th cbi-section-table-cell cbi-section-actions' }) : '',
		]);
	},

	async render() {
		const ids = this.cfgsections();
		const rows = await Promise.all(ids.map((sid, i) => this.row(sid, i)));
		const described = this.columns().some(o => o.description) && !this.nodescriptions;
		return this.frame('cbi-section cbi-tblsection', [
			E('table', { 'class': 'table cbi-section-table' }, [
				E('thead', { 'class': 'thead cbi-section-thead' }, [
					this.head(o => o.title, 'cbi-section-table-titles'),
					described ? this.head(o => o.description, 'cbi-section-table-descr') : '',
				]),
				E('tbody', { 'class': 'tbody cbi-section-tbody' }, ids.length ? rows
					: [ E('tr', { 'class': 'tr cbi-section-table-row placeholder' }, E('td', { 'class': 'td' }, this.renderSectionPlaceholder())) ]),
			]),
			this.renderSectionAdd('cbi-tblsection-create'),
		]);
	},
});

/** GridSection is a table of texts; a dialog edits a row. */
const GridSection = TableSection.extend({
	parsed() {
		return this.children.filter(o => o.editable && !o.modalonly);
	},

	hasActions() {
		return true;
	},

	cell(o, sid) {
		if (o.editable)
			return o.render(0, sid, true);
		const value = o.textvalue(sid);
		return E('td', {
			'class': 'td cbi-value-field', 'data-title': plain(o.title) || null, 'data-description': plain(o.description) || null,
			'data-name': o.option, 'data-widget': 'CBI.DummyValue',
		}, value ?? E('em', {}, [ _('none') ]));
	},

	renderRowActions(sid) {
		return [
			E('button', { 'class': 'btn cbi-button cbi-button-edit', 'title': _('Edit'), 'click': ui.createHandlerFn(this, 'renderMoreOptionsModal', sid) }, [ _('Edit') ]),
			...this.super('renderRowActions', [ sid ]),
		];
	},

	handleAdd(ev, name) {
		const sid = uci.add(this.conf(), this.sectiontype, name);
		this.map.addedSection = sid;
		return this.renderMoreOptionsModal(sid);
	},

	addModalOptions() {},

	async renderMoreOptionsModal(sid, ev) {
		const m = new Map(this.map.config);
		Object.assign(m, { parent: this.map, readonly: this.map.readonly });
		const s = m.section(NamedSection, sid, this.sectiontype);
		Object.assign(s, { tabs: this.tabs && [ ...this.tabs ] });
		for (const o of this.children) {
			if (o.modalonly === false)
				continue;
			const copy = s.option(o.constructor, o.option, o.title, o.description);
			for (const key of Object.keys(o))
				if (![ 'map', 'section', 'option', 'title', 'description' ].includes(key))
					copy[key] = o[key];
		}
		await this.addModalOptions(s, sid, ev);
		const nodes = await m.render();
		const name = this.titleFn('sectiontitle', sid) ?? (this.anonymous ? null : sid);
		ui.showModal(this.titleFn('modaltitle', sid) ?? (name ? `${this.map.title} - ${name}` : this.map.title), [
			nodes,
			E('div', { 'class': 'button-row' }, [
				E('button', { 'class': 'btn cbi-button', 'click': ui.createHandlerFn(this, 'handleModalCancel', m) }, [ _('Dismiss') ]), ' ',
				E('button', { 'class': 'btn cbi-button cbi-button-positive important', 'disabled': m.readonly || null, 'click': ui.createHandlerFn(this, 'handleModalSave', m) }, [ _('Save') ]),
			]),
		], 'cbi-modal');
	},

	/** handleModalCancel forgets a section that was only just added. */
	async handleModalCancel(m, ev, saved) {
		if (this.map.addedSection != null && !saved)
			uci.remove(this.conf(), this.map.addedSection);
		delete this.map.addedSection;
		ui.hideModal();
	},

	/** handleModalSave leaves the dialog open when something in it is wrong. */
	async handleModalSave(m, ev) {
		try {
			await m.save(null, true);
			await this.map.load();
			await this.map.reset();
		} catch {
			return;
		}
		return this.handleModalCancel(m, ev, true);
	},
});

/** NamedSection is one section, by its name. */
const NamedSection = AbstractSection.extend({
	__init__(map, sid, ...args) {
		this.super('__init__', [ map, ...args ]);
		this.section = sid;
	},

	cfgsections() {
		return [ this.section ];
	},

	handleAdd() {
		uci.add(this.conf(), this.sectiontype, this.section);
		return this.map.save(null, true);
	},

	handleRemove() {
		uci.remove(this.conf(), this.section);
		return this.map.save(null, true);
	},

	async render() {
		const there = uci.get(this.conf(), this.section);
		const nodes = await this.renderUCISection(this.section);
		const frame = this.frame('cbi-section', there ? [
			this.addremove ? E('div', { 'class': 'cbi-section-remove right' },
				this.button('cbi-button', this.titleFn('delbtntitle', this.section) ?? _('Delete'), 'handleRemove')) : '',
			this.node(this.section, nodes),
		] : [ this.addremove ? this.button('cbi-button cbi-button-add', this.titleFn('addbtntitle', this.section) ?? _('Add'), 'handleAdd') : '' ]);
		if (there)
			frame.removeAttribute('id');
		else
			frame.id = `cbi-${this.conf()}-${this.section}`;
		return frame;
	},
});

/** AbstractValue is what all options have in common. */
const AbstractValue = Part.extend({
	__init__(map, section, option, title, description) {
		this.super('__init__', [ title, description ]);
		Object.assign(this, { map, section, option, config: map.config, deps: [], rmempty: true, optional: false, retain: false, default: null });
	},

	conf() {
		return this.uciconfig ?? this.section.uciconfig ?? this.map.config;
	},

	// at is where the value lies: configuration, section, option.
	at(sid) {
		return [ this.conf(), this.ucisection ?? sid, this.ucioption ?? this.option ];
	},

	cbid(sid) {
		return `cbid.${this.conf()}.${sid}.${this.option}`;
	},

	depends(field, value) {
		this.deps.push(typeof field == 'string' ? { [field]: value } : field);
	},

	checkDepends(sid) {
		return this.map.isDependencySatisfied(this.deps, this.conf(), sid);
	},

	load(sid) {
		return uci.get(...this.at(sid));
	},

	cfgvalue(sid, ...set) {
		this.data ??= {};
		if (set.length)
			this.data[sid] = set[0];
		return this.data[sid];
	},

	getUIElement(sid) {
		const w = dom.findClassInstance(this.map.findElement('id', this.cbid(sid)));
		return w instanceof ui.AbstractElement ? w : null;
	},

	formvalue(sid) {
		return this.getUIElement(sid)?.getValue() ?? null;
	},

	/** textvalue is the value as HTML, for a table. */
	textvalue(sid) {
		const v = this.cfgvalue(sid) ?? this.default;
		return v == null ? null : '%h'.format(Array.isArray(v) ? v.join(' ') : v);
	},

	validate() {
		return true;
	},

	validator(sid) {
		return v => this.validate(sid, v);
	},

	isValid(sid) {
		return this.getUIElement(sid)?.isValid() ?? true;
	},

	getValidationError(sid) {
		return this.getUIElement(sid)?.getValidationError() ?? '';
	},

	triggerValidation(sid) {
		return this.getUIElement(sid)?.triggerValidation() ?? true;
	},

	field(sid) {
		return this.map.findElement('data-field', this.cbid(sid));
	},

	isActive(sid) {
		const f = this.field(sid);
		return f != null && !f.classList.contains('hidden');
	},

	setActive(sid, active) {
		const f = this.field(sid);
		if (!f || f.classList.contains('hidden') != active)
			return false;
		f.classList.toggle('hidden', !active);
		if (f.parentNode.matches('.td.cbi-value-field'))
			f.parentNode.classList.toggle('inactive', !active);
		return true;
	},

	wrong(text) {
		return Promise.reject(new TypeError(text.format(plain(this.title) || this.option)));
	},

	/** parse brings what is in the form into the configuration. */
	async parse(sid) {
		if (!this.isActive(sid)) {
			if (!this.retain)
				await this.remove(sid);
			return;
		}
		if (!this.isValid(sid))
			return this.wrong(`${_('Option "%s" contains an invalid input value.')} ${this.getValidationError(sid).replaceAll('%', '%%')}`);
		const value = this.formvalue(sid);
		if (value == null || value == '') {
			if (!this.rmempty && !this.optional)
				return this.wrong(_('Option "%s" must not be empty.'));
			return this.remove(sid);
		}
		if (this.forcewrite || !same(this.cfgvalue(sid), value))
			return this.write(sid, value);
	},

	write(sid, value) {
		return uci.set(...this.at(sid), value);
	},

	/** remove takes the value away, unless another option in use stands for the same. */
	remove(sid) {
		const [ conf, s, opt ] = this.at(sid);
		const shared = this.section.children.some(o => o !== this && o.ucioption != null && same(o.at(sid), [ conf, s, opt ]) && o.isActive(sid));
		if (!shared)
			uci.unset(conf, s, opt);
	},
});

/** Value is a field for text, or a list into which one may type once it has values
 * to choose from. */
const Value = AbstractValue.extend({
	__name__: 'CBI.Value',

	value(key, label) {
		this.keylist ??= [];
		this.vallist ??= [];
		this.keylist.push(String(key));
		this.vallist.push(dom.elem(label) ? label : String(label ?? key));
	},

	choices() {
		return this.keylist?.length ? Object.fromEntries(this.keylist.map((k, i) => [ k, this.vallist[i] ])) : null;
	},

	// shared are the options that every widget takes.
	shared(sid) {
		const locked = this.readonly ?? this.map.readonly;
		return {
			id: this.cbid(sid), sort: this.keylist, optional: this.optional || this.rmempty, datatype: this.datatype,
			placeholder: this.placeholder, validate: this.validator(sid), disabled: locked,
		};
	},

	async render(index, sid, inTable) {
		return this.renderFrame(sid, inTable, index, await this.renderWidget(sid, index, await this.cfgvalue(sid)));
	},

	/** renderFrame puts label and description around a widget. */
	renderFrame(sid, inTable, index, widget) {
		const id = `cbi-${this.conf()}-${sid}-${this.option}`;
		const marks = { 'data-name': this.option, 'data-widget': this.__name__ };
		const field = { id, 'data-index': index, 'data-field': this.cbid(sid), 'data-depends': this.deps };
		const hidden = this.deps.length ? ' hidden' : '';
		let node;
		if (inTable) {
			node = E('td', { 'class': 'td cbi-value-field', 'data-title': plain(this.title) || null, 'data-description': plain(this.description) || null, ...marks },
				E('div', { ...field, 'class': hidden.trim() || null }, widget));
		} else {
			const described = isText(this.description) ? E('div', { 'class': 'cbi-value-description' }, this.description.trim()) : '';
			node = E('div', { 'class': `cbi-value${hidden}`, ...field, ...marks }, isText(this.title) ? [
				E('label', {
					'class': 'cbi-value-title', 'for': `widget.${this.cbid(sid)}`,
					'click': ev => this.enter(ev.currentTarget),
				}, this.titleref ? E('a', { 'class': 'cbi-title-ref', 'href': this.titleref }, this.title) : this.title),
				E('div', { 'class': 'cbi-value-field' }, [ widget, described ]),
			] : [ widget, described ]);
		}
		const seen = {};
		node.addEventListener('widget-change', ev => {
			this.map.checkDepends();
			const value = this.formvalue(sid);
			if (typeof this.onchange == 'function' && !same(value, seen.value))
				this.onchange(ev, sid, seen.value = value);
		});
		dom.bindClassInstance(node, this);
		return node;
	},

	// enter goes from a label to its widget: a checkbox has an id of its own.
	enter(label) {
		const id = label.getAttribute('for');
		const w = label.nextElementSibling.querySelector(`[data-widget-id="${id}"]`);
		w?.click();
		w?.focus();
	},

	renderWidget(sid, index, cfgvalue) {
		const v = cfgvalue ?? this.default;
		const text = Array.isArray(v) ? v.join(' ') : v;
		const choices = this.choices();
		if (!choices)
			return new ui.Textfield(text, { ...this.shared(sid), password: this.password }).render();
		return new ui.Combobox(text, choices, {
			...this.shared(sid),
			select_placeholder: this.placeholder ?? (this.optional || this.rmempty ? E('em', {}, [ _('unspecified') ]) : _('-- Please choose --')),
		}).render();
	},
});

const DynamicList = Value.extend({
	__name__: 'CBI.DynamicList',

	renderWidget(sid, index, cfgvalue) {
		return new ui.DynamicList(L.toArray(cfgvalue ?? this.default), this.choices(), { ...this.shared(sid), allowduplicates: this.allowduplicates }).render();
	},
});

const ListValue = Value.extend({
	__name__: 'CBI.ListValue',
	widget: 'select',
	orientation: 'horizontal',

	renderWidget(sid, index, cfgvalue) {
		return new ui.Select(cfgvalue ?? this.default, this.choices(), {
			...this.shared(sid), datatype: null, optional: this.optional, size: this.size, widget: this.widget, orientation: this.orientation,
		}).render();
	},
});

const Flag = Value.extend({
	__name__: 'CBI.FlagValue',

	__init__(...args) {
		this.super('__init__', args);
		Object.assign(this, { enabled: '1', disabled: '0', default: '0' });
	},

	renderWidget(sid, index, cfgvalue) {
		return new ui.Checkbox(cfgvalue ?? this.default, {
			...this.shared(sid), datatype: null, value_enabled: this.enabled, value_disabled: this.disabled,
		}).render();
	},

	formvalue(sid) {
		return this.getUIElement(sid)?.isChecked() ? this.enabled : this.disabled;
	},

	textvalue(sid) {
		return (this.cfgvalue(sid) ?? this.default) == this.enabled ? _('Yes') : _('No');
	},

	/** parse writes nothing for what is so without a word. */
	async parse(sid) {
		if (!this.isActive(sid)) {
			if (!this.retain)
				await this.remove(sid);
			return;
		}
		if (!this.isValid(sid))
			return this.wrong(`${_('Option "%s" contains an invalid input value.')} ${this.getValidationError(sid).replaceAll('%', '%%')}`);
		const value = this.formvalue(sid);
		return value == this.default && (this.optional || this.rmempty) ? this.remove(sid) : this.write(sid, value);
	},
});

const MultiValue = DynamicList.extend({
	__name__: 'CBI.MultiValue',

	__init__(...args) {
		this.super('__init__', args);
		this.placeholder = _('-- Please choose --');
	},

	renderWidget(sid, index, cfgvalue) {
		return new ui.Dropdown(L.toArray(cfgvalue ?? this.default), this.choices(), {
			...this.shared(sid), datatype: null, multiple: true, select_placeholder: this.placeholder, create: this.create,
			display_items: this.display_size ?? this.size ?? 3,
		}).render();
	},
});

const TextValue = Value.extend({
	__name__: 'CBI.TextValue',

	renderWidget(sid, index, cfgvalue) {
		const o = this.shared(sid);
		return new ui.Textarea(cfgvalue ?? this.default, {
			...o, datatype: null, readonly: o.disabled, disabled: null, monospace: this.monospace, cols: this.cols, rows: this.rows, wrap: this.wrap,
		}).render();
	},
});

const DummyValue = Value.extend({
	__name__: 'CBI.DummyValue',

	renderWidget(sid, index, cfgvalue) {
		const v = cfgvalue ?? this.default;
		const hidden = new ui.Hiddenfield(v, { id: this.cbid(sid) });
		const out = E('output', { 'for': this.cbid(sid), 'style': this.hidden ? 'display:none' : null });
		dom.append(this.href ? out.appendChild(E('a', { 'href': this.href })) : out, this.rawhtml ? v : [ v ]);
		return E([], [ out, hidden.render() ]);
	},

	remove() {},

	write() {},
});

const Button = Value.extend({
	__name__: 'CBI.ButtonValue',

	renderWidget(sid, index, cfgvalue) {
		const v = cfgvalue ?? this.default;
		const hidden = new ui.Hiddenfield(v, { id: this.cbid(sid) });
		const out = E('output', { 'for': this.cbid(sid) }, v === false ? [ ' - ' ] : [ E('button', {
			'class': `cbi-button cbi-button-${this.inputstyle ?? 'button'}`, 'disabled': (this.readonly ?? this.map.readonly) || null,
			'click': ui.createHandlerFn(this, ev => this.onclick ? this.onclick(ev, sid) : this.map.save()),
		}, [ this.titleFn('inputtitle', sid) ?? this.titleFn('title', sid) ]) ]);
		return E([], [ out, hidden.render() ]);
	},
});

const HiddenValue = Value.extend({
	__name__: 'CBI.HiddenValue',

	renderWidget(sid, index, cfgvalue) {
		return new ui.Hiddenfield(cfgvalue ?? this.default, { id: this.cbid(sid) }).render();
	},
});

return baseclass.extend({
	Map, AbstractSection, AbstractValue, TypedSection, TableSection, GridSection, NamedSection,
	Value, DynamicList, ListValue, Flag, MultiValue, TextValue, DummyValue, Button, HiddenValue,
});
