'use strict';
'require rpc';
'require baseclass';

// The router's configuration, as the page has changed it. save() hands the changes
// to the router, which keeps them for this session until they are applied.

const call = (method, params, expect) => rpc.declare({ object: 'uci', method, params, expect, reject: true });

const callGet = call('get', [ 'config' ], { values: {} });
const callAdd = call('add', [ 'config', 'type', 'name', 'values' ], { section: '' });
const callSet = call('set', [ 'config', 'section', 'values' ]);
const callDelete = call('delete', [ 'config', 'section', 'options' ]);
const callOrder = call('order', [ 'config', 'sections' ]);
const callApply = call('apply', [ 'timeout', 'rollback' ]);
const callConfirm = call('confirm');

// loaded has, by configuration: what the router said (base), sections made here
// (fresh), options changed here by section, null for one that is to go (edits),
// sections that are to go (gone), and whether the order changed (moved).
const loaded = {};
const loading = {};
let serial = 0;

const truths = [ '1', 'on', 'true', 'yes', 'enabled' ];

return baseclass.extend({
	/** load reads configurations that are not there yet. */
	async load(names) {
		names = L.toArray(names).filter(n => !loaded[n]);
		await Promise.all(names.map(async n => {
			loading[n] ??= callGet(n);
			const base = await loading[n];
			loaded[n] ??= { base, fresh: {}, edits: {}, gone: new Set(), moved: false };
		}));
		if (names.length)
			document.dispatchEvent(new CustomEvent('uci-loaded'));
		return names;
	},

	loadPackage(name) {
		return loading[name] ??= callGet(name);
	},

	/** unload forgets configurations, with all changes that were not saved. */
	unload(names) {
		for (const n of L.toArray(names)) {
			delete loaded[n];
			delete loading[n];
		}
	},

	resolveSID(conf, sid) {
		const m = /^@([a-zA-Z0-9_-]+)\[(-?[0-9]+)\]$/.exec(sid);
		return m ? this.sections(conf, m[1]).at(+m[2])?.['.name'] ?? null : sid;
	},

	/** sections are those of a type, of all types for null, in their order. */
	sections(conf, type, cb) {
		const c = loaded[conf];
		if (!c)
			return [];
		const kept = Object.values(c.base).filter(s => !c.gone.has(s['.name']));
		const all = [ ...kept.map(s => ({ ...s, ...this.changed(c, s['.name']) })), ...Object.values(c.fresh).map(s => ({ ...s })) ]
			.filter(s => !type || s['.type'] == type)
			.sort((a, b) => a['.index'] - b['.index']);
		all.forEach((s, i) => { s['.index'] = i; });
		all.forEach(s => cb?.call(this, s, s['.name']));
		return all;
	},

	// changed are the options of a section that were set here.
	changed(c, sid) {
		return Object.fromEntries(Object.entries(c.edits[sid] ?? {}).filter(e => e[1] != null));
	},

	/** get is an option, or a section without one; null when it is not there. */
	get(conf, sid, opt) {
		sid = this.resolveSID(conf, sid);
		const c = loaded[conf];
		const s = c?.fresh[sid] ?? (c?.gone.has(sid) ? null : c?.base[sid]);
		if (!s)
			return null;
		const edits = c.edits[sid] ?? {};
		if (opt != null)
			return opt in edits ? edits[opt] : s[opt];
		for (const [ k, v ] of Object.entries(edits))
			if (v == null)
				delete s[k];
			else
				s[k] = v;
		return s;
	},

	get_bool(conf, sid, opt) {
		const v = this.get(conf, sid, opt);
		return typeof v == 'string' && truths.includes(v.toLowerCase());
	},

	get_first(conf, type, opt) {
		return this.get(conf, this.sections(conf, type)[0]?.['.name'], opt);
	},

	/** set changes an option; null or "" removes it. */
	set(conf, sid, opt, value) {
		sid = this.resolveSID(conf, sid);
		const c = loaded[conf];
		if (!c || sid == null || opt == null || opt[0] == '.')
			return;
		if (c.fresh[sid]) {
			if (value != null)
				c.fresh[sid][opt] = value;
			else
				delete c.fresh[sid][opt];
			return;
		}
		if (!c.base[sid] || c.gone.has(sid))
			return;
		c.edits[sid] ??= {};
		if (value != null && value !== '')
			c.edits[sid][opt] = value;
		else if (opt in c.base[sid])
			c.edits[sid][opt] = null;
		else
			delete c.edits[sid][opt];
	},

	unset(conf, sid, opt) {
		return this.set(conf, sid, opt, null);
	},

	/** add makes a section. Without a name it gets one that lasts until it is saved. */
	add(conf, type, name) {
		const sid = name || 'new%06x'.format(Math.random() * 0xFFFFFF);
		const c = loaded[conf] ??= { base: {}, fresh: {}, edits: {}, gone: new Set(), moved: false };
		c.fresh[sid] = { '.type': type, '.name': sid, '.create': name, '.anonymous': !name, '.index': 1000 + serial++ };
		return sid;
	},

	remove(conf, sid) {
		const c = loaded[conf];
		if (c?.fresh[sid]) {
			delete c.fresh[sid];
		} else if (c?.base[sid]) {
			delete c.edits[sid];
			c.gone.add(sid);
		}
	},

	/** move puts a section before another, or behind it; to the end without one. */
	move(conf, sid, other, after) {
		const c = loaded[conf];
		const order = this.sections(conf).map(s => s['.name']);
		const from = order.indexOf(this.resolveSID(conf, sid));
		if (from < 0)
			return false;
		const [ moving ] = order.splice(from, 1);
		const to = other == null ? order.length : order.indexOf(this.resolveSID(conf, other));
		if (to < 0)
			return false;
		order.splice(to + (other != null && after ? 1 : 0), 0, moving);
		order.forEach((s, i) => { (c.fresh[s] ?? c.base[s])['.index'] = i; });
		c.moved = true;
		return true;
	},

	/** save hands all changes to the router, and reads again what it then has. */
	async save() {
		const touched = [];
		const tasks = [];
		for (const [ conf, c ] of Object.entries(loaded)) {
			const before = tasks.length;
			for (const sid of c.gone)
				tasks.push(callDelete(conf, sid, null));
			for (const [ sid, edits ] of Object.entries(c.edits)) {
				const options = Object.keys(edits).filter(o => edits[o] == null);
				if (options.length)
					tasks.push(callDelete(conf, sid, options));
			}
			for (const s of Object.values(c.fresh)) {
				const values = Object.fromEntries(Object.entries(s).filter(e => e[0][0] != '.'));
				tasks.push(callAdd(conf, s['.type'], s['.create'], values).then(name => { s['.name'] = name; }));
			}
			for (const sid of Object.keys(c.edits)) {
				const values = this.changed(c, sid);
				if (Object.keys(values).length)
					tasks.push(callSet(conf, sid, values));
			}
			if (tasks.length > before || c.moved)
				touched.push(conf);
		}
		await Promise.all(tasks);
		await Promise.all(touched.filter(conf => loaded[conf].moved && !loaded[conf].gone.size).map(conf =>
			callOrder(conf, this.sections(conf).map(s => s['.name']))));
		this.unload(touched);
		return this.load(touched);
	},

	/** apply puts what was saved into force, and confirms that the router can still be
	 * reached. */
	async apply(timeout) {
		const status = await callApply(timeout > 0 ? timeout : 10, true);
		if (status != 0)
			throw status;
		setTimeout(() => callConfirm(), 1000);
	},

	/** changes is what this session has saved and not applied. */
	changes: rpc.declare({ object: 'uci', method: 'changes', expect: { changes: {} } }),
});
