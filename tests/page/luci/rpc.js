'use strict';
'require baseclass';
'require request';

// Calls of methods on the bus. Calls that are made before the browser draws again
// go out as one request.

const limit = 20000; // milliseconds
const interceptors = [];
let serial = 1;
let sid = L.env.sessionid ?? '00000000000000000000000000000000';
let base = L.env.ubuspath ?? '/ubus/';
let waiting = [];

function flush() {
	const batch = waiting;
	waiting = [];
	if (!batch.length)
		return;
	request.post(base, batch.map(b => b.msg), { timeout: (L.env.rpctimeout ?? limit / 1000) * 1000 }).then(res => {
		let answers = null;
		if (res.ok)
			answers = res.json();
		batch.forEach((b, i) => {
			if (!res.ok)
				b.reject(failed(b.req, 'RPC call to %s/%s failed with HTTP error %d: %s', res.status, res.statusText || '?'));
			else if (Array.isArray(answers) && answers[i] !== undefined)
				b.resolve(answers[i]);
			else
				b.reject(new Error('No related RPC reply'));
		});
	}).catch(e => batch.forEach(b => b.reject(e)));
}

function failed(req, text, ...args) {
	const e = new Error(text.format(req.object, req.method, ...args));
	e.name = 'RPCError';
	return e;
}

// send gives the answer's message, whatever it says.
function send(req, msg, alone) {
	return new Promise((resolve, reject) => {
		waiting.push({ req, msg, resolve, reject });
		if (alone)
			flush();
		else
			requestAnimationFrame(flush);
	});
}

const words = {
	0: _('Command OK'),
	1: _('Invalid command'),
	2: _('Invalid argument'),
	3: _('Method not found'),
	4: _('Resource not found'),
	5: _('No data received'),
	6: _('Permission denied'),
	7: _('Request timeout'),
	8: _('Not supported'),
	9: _('Unspecified error'),
	10: _('Connection lost'),
};

return baseclass.extend({
	/** declare makes a function of a method. Its arguments are those that params names,
	 * in order; what is given beyond goes to the filter.
	 *
	 * A status that is not 0 fails only with reject: without it the number takes the
	 * place of the data. expect is what is wanted of the data: a member (or "" for all
	 * of it) and what to give when that is missing or of another type. */
	declare({ object, method, params, expect, filter, reject, nobatch }) {
		return async (...args) => {
			const given = {};
			if (Array.isArray(params))
				params.forEach((name, i) => { given[name] = args[i]; });
			else if (L.isObject(params))
				Object.keys(params).forEach(name => { if (name in (args[0] ?? {})) given[name] = args[0][name]; });
			const rest = args.slice(Array.isArray(params) ? params.length : L.isObject(params) ? 1 : 0);
			const req = { object, method, params: given };
			const msg = await send(req, { jsonrpc: '2.0', id: serial++, method: 'call', params: [ sid, object, method, given ] }, nobatch);
			await Promise.all(interceptors.map(fn => fn(msg, req)));
			if (!L.isObject(msg) || msg.jsonrpc != '2.0')
				throw failed(req, 'RPC call to %s/%s returned invalid message frame');
			if (msg.error?.code && msg.error.message)
				throw failed(req, 'RPC call to %s/%s failed with error %d: %s', msg.error.code, msg.error.message);
			let data = null;
			if (Array.isArray(msg.result)) {
				if (reject && msg.result[0] !== 0)
					throw failed(req, 'RPC call to %s/%s failed with ubus code %d: %s', msg.result[0], this.getStatusText(msg.result[0]));
				data = msg.result.length > 1 ? msg.result[1] : msg.result[0];
			}
			for (const [ key, otherwise ] of Object.entries(expect ?? {}).slice(0, 1)) {
				const kind = v => Object.prototype.toString.call(v);
				if (data != null && key != '')
					data = data[key];
				if (data == null || kind(data) != kind(otherwise))
					data = otherwise;
			}
			return typeof filter == 'function' ? filter.call(this, data, given, ...rest) : data;
		};
	},

	async list(...patterns) {
		const msg = { jsonrpc: '2.0', id: serial++, method: 'list', params: patterns.length ? patterns : undefined };
		return (await send({}, msg)).result;
	},

	getSessionID: () => sid,
	setSessionID(id) { sid = id; },
	getBaseURL: () => base,
	setBaseURL(url) { base = url; },
	getStatusText: code => words[code] ?? _('Unknown error code'),

	addInterceptor(fn) {
		interceptors.push(fn);
		return fn;
	},
});
