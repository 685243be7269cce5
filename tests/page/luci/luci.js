'use strict';

// The core: classes, the loader of modules, requests, polling, the DOM, views.

(() => {

const env = {};

// --- classes ---------------------------------------------------------------------

// running tells for each object which of its inherited methods run at the moment,
// and on which level: what super() goes on from.
const running = new WeakMap();

function owner(proto, name) {
	while (proto && !Object.hasOwn(proto, name))
		proto = Object.getPrototypeOf(proto);
	return proto;
}

/** Class is what all classes come from. They are made by extend(). */
class Class {
	constructor(...args) {
		this.__init__(...args);
	}

	__init__() {}

	/** extend makes a class with members of its own. */
	static extend(members) {
		const Child = class extends this {};
		Object.defineProperties(Child.prototype, Object.fromEntries(Object.keys(members).map(key =>
			[ key, { value: members[key], writable: true, configurable: true } ])));
		return Child;
	}

	static singleton(members, ...args) {
		return this.extend(members).instantiate(args);
	}

	static instantiate(args) {
		return new this(...args);
	}

	static isSubclass(c) {
		return typeof c == 'function' && c.prototype instanceof this;
	}

	/** super calls what the class above has under that name, or returns it when no
	 * arguments are given. */
	super(name, ...args) {
		if (!running.has(this))
			running.set(this, {});
		const levels = running.get(this), own = Object.getPrototypeOf(this);
		const from = levels[name] ?? (args.length ? owner(own, name) : own);
		const above = from && owner(Object.getPrototypeOf(from), name);
		if (!above || !args.length)
			return above?.[name] ?? null;
		if (Array.isArray(args[0]) || Object.prototype.toString.call(args[0]) == '[object Arguments]')
			args = [ ...args[0] ];
		const before = levels[name];
		levels[name] = above;
		try {
			return above[name].apply(this, args);
		} finally {
			if (before)
				levels[name] = before;
			else
				delete levels[name];
		}
	}
}

// --- requests --------------------------------------------------------------------

/** Response is the answer to a request, read to its end. */
class Response {
	constructor(res, text, url, duration) {
		Object.assign(this, { ok: res.ok, status: res.status, statusText: res.statusText, headers: res.headers, responseText: text, url, duration });
	}

	json() {
		return this.parsed ??= JSON.parse(this.responseText);
	}

	text() {
		return this.responseText;
	}
}

const interceptors = [];

const Request = {
	/** request asks for something; a URL is asked only once, caches are not used. */
	async request(url, options = {}) {
		const start = Date.now();
		const init = { method: (options.method ?? 'GET').toUpperCase(), headers: { ...options.headers }, credentials: 'same-origin' };
		const query = Object.entries(options.query ?? {}).map(([ k, v ]) => `${encodeURIComponent(k)}=${encodeURIComponent(v)}`);
		if (!options.cache)
			query.push(start);
		if (query.length)
			url += (url.includes('?') ? '&' : '?') + query.join('&');
		if (options.timeout)
			init.signal = AbortSignal.timeout(options.timeout);
		if (typeof options.content == 'object' && options.content) {
			init.headers['Content-Type'] ??= 'application/json';
			init.body = JSON.stringify(options.content);
		} else if (options.content != null) {
			init.body = String(options.content);
		}
		let res, text;
		try {
			res = await fetch(url, init);
			text = await res.text();
		} catch (e) {
			throw new Error(e.name == 'TimeoutError' ? 'XHR request timed out' : 'XHR request aborted by browser');
		}
		const answer = new Response(res, text, res.url, Date.now() - start);
		await Promise.all(interceptors.map(fn => fn(answer)));
		return answer;
	},

	get(url, options) {
		return this.request(url, { method: 'GET', ...options });
	},

	post(url, content, options) {
		return this.request(url, { method: 'POST', content, ...options });
	},

	addInterceptor(fn) {
		interceptors.push(fn);
		return fn;
	},
};

// --- polling ---------------------------------------------------------------------

const Poll = {
	queue: [],

	/** add has a function called every so many seconds; one that has not ended is
	 * left alone. The first entry is called at once. */
	add(fn, interval) {
		interval = interval > 0 ? interval : env.pollinterval;
		if (typeof fn != 'function' || isNaN(interval))
			throw new TypeError('Invalid argument to LuCI.poll.add()');
		if (this.queue.some(e => e.fn === fn))
			return false;
		this.queue.push({ fn, every: interval >>> 0, busy: false });
		if (this.tick != null && !this.active())
			this.start();
		return true;
	},

	remove(fn) {
		const before = this.queue.length;
		this.queue = this.queue.filter(e => e.fn !== fn);
		if (!this.queue.length && this.stop())
			this.tick = 0;
		return this.queue.length != before;
	},

	start() {
		if (this.active())
			return false;
		this.tick = 0;
		if (this.queue.length) {
			this.timer = setInterval(() => this.step(), 1000);
			this.step();
			document.dispatchEvent(new CustomEvent('poll-start'));
		}
		return true;
	},

	stop() {
		if (!this.active())
			return false;
		document.dispatchEvent(new CustomEvent('poll-stop'));
		clearInterval(this.timer);
		delete this.timer;
		delete this.tick;
		return true;
	},

	step() {
		for (const e of [ ...this.queue ]) {
			if (this.tick % e.every || e.busy)
				continue;
			e.busy = true;
			Promise.resolve(e.fn()).finally(() => { e.busy = false; });
		}
		this.tick++;
	},

	active() {
		return this.timer != null;
	},
};

// --- the DOM ---------------------------------------------------------------------

const instances = new WeakMap();

const dom = {
	elem(e) {
		return e != null && typeof e == 'object' && 'nodeType' in e;
	},

	parse(html) {
		return new DOMParser().parseFromString(html, 'text/html').body.firstChild;
	},

	matches(node, selector) {
		return this.elem(node) && !!node.matches?.(selector);
	},

	parent(node, selector) {
		return this.elem(node) ? node.closest?.(selector) ?? null : null;
	},

	/** append adds children. In a list, strings are text; one alone is HTML. */
	append(node, children) {
		if (!this.elem(node) || children == null)
			return null;
		if (typeof children == 'function')
			return this.append(node, children(node));
		if (Array.isArray(children)) {
			for (const c of children)
				if (c != null)
					node.appendChild(this.elem(c) ? c : document.createTextNode(`${c}`));
		} else if (this.elem(children)) {
			return node.appendChild(children);
		} else {
			node.innerHTML = `${children}`;
		}
		return node.lastChild;
	},

	/** content puts children in the place of those that are there. */
	content(node, children) {
		if (!this.elem(node))
			return null;
		while (node.firstChild)
			node.firstChild.remove();
		return this.append(node, children);
	},

	/** attr sets attributes; a function becomes a listener, an object JSON, and what
	 * is null is left out. */
	attr(node, key, value) {
		for (const [ k, v ] of Object.entries(typeof key == 'object' ? key ?? {} : { [key]: value })) {
			if (v == null)
				continue;
			if (typeof v == 'function')
				node.addEventListener(k, v);
			else
				node.setAttribute(k, typeof v == 'object' ? JSON.stringify(v) : v);
		}
	},

	/** create makes an element of a tag, of HTML, of another element, or a fragment of
	 * a list of these. Attributes may be left out before a list or a text, but not
	 * before an element. */
	create(what, attr, children) {
		if (!(attr instanceof Object) || Array.isArray(attr))
			[ attr, children ] = [ null, attr ];
		let node;
		if (Array.isArray(what)) {
			node = document.createDocumentFragment();
			for (const w of what)
				node.appendChild(this.create(w));
		} else if (this.elem(what)) {
			node = what;
		} else {
			node = what[0] == '<' ? this.parse(what) : document.createElement(what);
		}
		if (!node)
			return null;
		this.attr(node, attr);
		this.append(node, children);
		return node;
	},

	bindClassInstance(node, instance) {
		instances.set(node, instance);
		return instance;
	},

	findClassInstance(node) {
		while (node && !instances.has(node))
			node = node.parentNode;
		return node ? instances.get(node) : null;
	},

	callClassMethod(node, method, ...args) {
		const instance = this.findClassInstance(node);
		return typeof instance?.[method] == 'function' ? instance[method](...args) : null;
	},

	isEmpty(node, ignore) {
		return ![ ...node?.children ?? [] ].some(c => !c.classList.contains('hidden') && !ignore?.(c));
	},
};

// --- the session -----------------------------------------------------------------

const store = 'luci-session-store';

const session = {
	getID: () => env.sessionid ?? '00000000000000000000000000000000',
	getToken: () => env.token ?? null,

	/** getLocalData is something that this login has kept in the browser. */
	getLocalData(key) {
		const all = JSON.parse(sessionStorage.getItem(store))?.[this.getID()] ?? {};
		return key == null ? all : all[key] ?? null;
	},

	setLocalData(key, value) {
		const all = { ...this.getLocalData(), [key]: value };
		if (value == null)
			delete all[key];
		sessionStorage.setItem(store, JSON.stringify({ [this.getID()]: all }));
		return true;
	},
};

// --- views -----------------------------------------------------------------------

/** View is a page of an app. */
const View = Class.extend({
	__init__() {
		const at = document.getElementById('view');
		dom.content(at, E('div', { 'class': 'spinning' }, [ _('Loading view…') ]));
		(L.loaded ? Promise.resolve() : new Promise(done => document.addEventListener('luci-loaded', done, { once: true })))
			.then(() => this.load())
			.then(data => this.render(data))
			.then(nodes => {
				dom.content(at, nodes);
				dom.append(at, this.addFooter());
			})
			.catch(e => L.error(e));
	},

	load() {},

	render() {},

	/** maps are the forms of the page. */
	maps() {
		return [ ...document.querySelectorAll('#maincontent .cbi-map') ];
	},

	handleSave() {
		return Promise.all(this.maps().map(m => dom.callClassMethod(m, 'save')));
	},

	handleSaveApply(ev, mode) {
		return this.handleSave(ev).then(() => { L.ui.changes.apply(mode == '0'); });
	},

	handleReset() {
		return Promise.all(this.maps().map(m => dom.callClassMethod(m, 'reset')));
	},

	/** addFooter makes the buttons for all forms of the page. A handler that is null
	 * has none. */
	addFooter() {
		const footer = E([]);
		const forms = this.maps().map(m => dom.findClassInstance(m)).filter(m => m);
		const readonly = (forms.length ? forms.every(m => m.readonly) : !L.hasViewPermission()) || null;
		if (!this.handleSaveApply && !this.handleSave && !this.handleReset)
			return footer;
		const button = (kind, handler, label) => this[handler] ? E('button', {
			'class': `cbi-button cbi-button-${kind}`,
			'click': L.ui.createHandlerFn(this, handler),
			'disabled': readonly,
		}, [ label ]) : '';
		footer.appendChild(E('div', { 'class': 'cbi-page-actions' }, [
			this.handleSaveApply ? L.ui.applyButton(L.ui.createHandlerFn(this, 'handleSaveApply'), 'cbi-button-apply', readonly) : '', ' ',
			button('save', 'handleSave', _('Save')), ' ',
			button('reset', 'handleReset', _('Reset')),
		]));
		return footer;
	},
});

// --- the loader ------------------------------------------------------------------

// What is loaded, or being loaded, by name.
const modules = { baseclass: Class, dom, poll: Poll, request: Request, session, view: View };

// preamble finds the modules that a source begins by asking for.
function preamble(source) {
	const out = [];
	const token = /(?:\s|;|\/\/[^\n]*|\/\*[^]*?\*\/)*(?:'([^'\n]*)'|"([^"\n]*)")/y;
	for (let m; (m = token.exec(source)) != null;) {
		const text = m[1] ?? m[2];
		const found = /^require[ \t]+(\S+)(?:[ \t]+as[ \t]+([a-zA-Z_]\S*))?$/.exec(text);
		if (found)
			out.push({ name: found[1], as: found[2] ?? found[1].replace(/\W/g, '_') });
		else if (!/^use[ \t]+strict$/.test(text))
			break;
	}
	return out;
}

async function load(name, from) {
	const url = `${env.resource}/${name.replaceAll('.', '/')}.js`;
	const res = await Request.get(url, { cache: true });
	if (!res.ok)
		L.raise('NetworkError', 'HTTP error %d while loading class file "%s"', res.status, url);
	const needs = preamble(res.text());
	const loaded = await Promise.all(needs.map(n => L.require(n.name, [ name, ...from ])));
	let factory;
	try {
		factory = new Function('window', 'document', 'L', ...needs.map(n => n.as), `${res.text()}\n//# sourceURL=${url}`);
	} catch (e) {
		L.raise('SyntaxError', '%s\n  in %s', e.message, url);
	}
	const made = factory(window, document, L, ...loaded);
	if (!Class.isSubclass(made))
		L.raise('TypeError', '"%s" factory yields invalid constructor', name);
	const instance = modules[name] = new made();
	const path = name.split('.'), last = path.pop();
	const at = path.reduce((o, step) => o?.[step], LuCI.prototype);
	if (at)
		at[last] = instance;
	return instance;
}

// --- L ---------------------------------------------------------------------------

const compare = new Intl.Collator(undefined, { numeric: true }).compare;

const urlPart = /^(?:[a-zA-Z0-9_.%,;-]+\/)*[a-zA-Z0-9_.%,;-]+$|^\?[a-zA-Z0-9_.%=&;-]+$/;

function path(prefix, parts) {
	return prefix + (parts.flat(Infinity).filter(p => urlPart.test(p)).map(p => p[0] == '?' ? p : `/${p}`).join('') || '/');
}

class LuCI {
	constructor(given) {
		Object.assign(env, given, { cgi_base: given.scriptname.replace(/\/[^/]+$/, '') });
		const ready = new Promise(done => document.addEventListener('DOMContentLoaded', done));
		// L is set when this has returned.
		Promise.resolve()
			.then(() => Promise.all([ ready, this.require('ui'), this.require('rpc'), this.require('form') ]))
			.then(() => this.start())
			.catch(e => this.error(e));
	}

	start() {
		const { rpc, ui } = modules;
		rpc.addInterceptor((msg, req) => {
			if (msg?.error?.code != -32002 || req?.object == 'session' && req?.method == 'access')
				return;
			return rpc.declare({ object: 'session', method: 'access', params: [ 'scope', 'object', 'function' ], expect: { access: true } })
				('uci', 'luci', 'read').catch(() => this.sessionExpired());
		});
		Request.addInterceptor(res => {
			if (res.status == 403 && res.headers.get('X-LuCI-Login-Required') == 'yes')
				this.sessionExpired();
		});
		document.addEventListener('poll-start', () => ui.showIndicator('poll-status', _('Refreshing'), () => Poll.active() ? Poll.stop() : Poll.start()));
		document.addEventListener('poll-stop', () => ui.showIndicator('poll-status', _('Paused'), null, 'inactive'));
		Poll.start();
		this.loaded = true;
		document.dispatchEvent(new CustomEvent('luci-loaded'));
	}

	sessionExpired() {
		Poll.stop();
		modules.ui.showModal(_('Session expired'), [
			E('div', { 'class': 'alert-message warning' }, [ _('A new login is required since the authentication session expired.') ]),
			E('div', { 'class': 'right' }, [
				E('div', { 'class': 'btn primary', 'click': () => { location.href = location.pathname + location.search; } }, [ _('Log in…') ]),
			]),
		]);
		this.raise('SessionError', 'Login session is expired');
	}

	/** require loads a module, unless it is there. */
	require(name, from = []) {
		if (from.includes(name))
			this.raise('DependencyError', 'Circular dependency: class "%s" depends on "%s"', name, from.join('" which depends on "'));
		return Promise.resolve(modules[name] ??= load(name, from));
	}

	raise(type, fmt, ...args) {
		const text = fmt ? String(fmt).format(...args) : null;
		let e = type;
		if (!(e instanceof Error)) {
			e = new (window[type ?? 'Error'] ?? Error)(text ?? 'Unspecified error');
			e.name = type ?? 'Error';
		} else if (text) {
			e.message = `${text}: ${e.message}`;
		}
		throw e;
	}

	/** error shows an error to the user, once, and throws it. */
	error(...args) {
		try {
			this.raise(...args);
		} catch (e) {
			if (!e.reported && modules.ui?.addNotification)
				modules.ui.addNotification(e.name || _('Runtime error'), E('pre', {}, [ e.message ]), 'danger');
			e.reported = true;
			throw e;
		}
	}

	bind(fn, self, ...args) {
		return fn.bind(self, ...args);
	}

	url(...parts) {
		return path(env.scriptname, parts);
	}

	resource(...parts) {
		return path(env.resource, parts);
	}

	media(...parts) {
		return path(env.media, parts);
	}

	location() {
		return path(env.scriptname, env.requestpath);
	}

	isObject(v) {
		return v != null && typeof v == 'object';
	}

	isArguments(v) {
		return Object.prototype.toString.call(v) == '[object Arguments]';
	}

	toArray(v) {
		if (v == null)
			return [];
		if (typeof v == 'object')
			return Array.isArray(v) ? v : [ v ];
		return String(v).trim().split(/\s+/).filter(s => s != '');
	}

	sortedKeys(o, key) {
		const entries = Object.keys(o ?? {}).map(k => [ k, key != null ? o[k][key] : k ]);
		return entries.filter(e => e[1] != null).sort((a, b) => compare(a[1], b[1])).map(e => e[0]);
	}

	sortedArray(v) {
		return this.toArray(v).sort(compare);
	}

	resolveDefault(value, otherwise) {
		return Promise.resolve(value).catch(() => otherwise);
	}

	/** hasViewPermission tells whether the user may change something on this page; null
	 * when not even that is known. */
	hasViewPermission() {
		return env.nodespec?.satisfied ? !env.nodespec.readonly : null;
	}

	hasSystemFeature() {
		return false;
	}
}

Object.assign(LuCI.prototype, { env, dom, view: View, Poll, Request, Class, naturalCompare: compare, loaded: false });
window.LuCI = LuCI;

})();
