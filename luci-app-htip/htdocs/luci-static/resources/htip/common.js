'use strict';
'require baseclass';
'require rpc';
'require ui';

/*
 * What the views share: the calls of the ubus object htip, errors as sentences, words for
 * states and addresses, and a few elements.
 *
 * Texts of other homes and of the daemon reach the page as text only: el() always gives
 * E() a list, whose strings become text nodes (a lone string would be parsed as HTML).
 */

const SVG = 'http://www.w3.org/2000/svg';

/* LuCI's style sheets have no part for a page like this. */
document.head.appendChild(E('link', { 'rel': 'stylesheet', 'href': L.resource('htip/style.css') }));

function flat(children) {
	return children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false);
}

/* el makes an HTML element; attributes as for E(), children in any nesting. */
function el(tag, attributes, ...children) {
	return E(tag, attributes || {}, flat(children));
}

/* svg makes an SVG element. */
function svg(tag, attributes, ...children) {
	const node = document.createElementNS(SVG, tag);
	for (const name in attributes)
		if (attributes[name] !== null && attributes[name] !== undefined)
			node.setAttribute(name, attributes[name]);
	node.append(...flat(children));
	return node;
}

/* setText changes a text where it differs, so that nothing is read out twice. */
function setText(node, text) {
	if (node.textContent !== text)
		node.textContent = text;
}

function show(node, visible) {
	node.hidden = !visible;
}

/*
 * Problem is an error for people. gone: the daemon is not there; away: the router does not
 * answer.
 */
class Problem extends Error {
	constructor(text, kind) {
		super(text);
		this.gone = kind === 'gone';
		this.away = kind === 'away';
	}
}

/* explain turns what LuCI's rpc says into a sentence: an error, or a code in its text. */
function explain(err, method) {
	const text = String(err?.message ?? err);
	const code = (/(?:ubus code|with error) (-?\d+)/.exec(text) || [])[1];
	switch (code) {
	case '2':
		return new Problem(_('The daemon did not understand this. The packages htip and luci-app-htip may be of different versions: update both.'));
	case '3':
	case '-32601':
		return new Problem(_('The package htip on this router is older than this page. Update it.'));
	case '4':
	case '-32000':
		return [ 'connect', 'disconnect', 'access' ].indexOf(method) < 0
			? new Problem(_('HTIP is not running on this router.'), 'gone')
			: new Problem(_('Not found: HTIP is not running, or that home is no longer configured here.'));
	case '6':
	case '-32002':
		return new Problem(_('You are not allowed to do this. Log in as a user who may change the settings of HTIP.'));
	case '7':
		return new Problem(_('HTIP did not answer in time. Try again.'));
	case '10': /* the daemon went away while it was asked */
		return new Problem(_('HTIP is not running on this router.'), 'gone');
	}
	if (code !== undefined)
		return new Problem(_('The router could not do this. The system log may say why.'));
	if (/XHR|HTTP error|RPC reply|NetworkError|Network error|fetch/i.test(text))
		return new Problem(_('The router does not answer.'), 'away');
	return err instanceof Error ? err : new Problem(text);
}

/* call declares a method whose answer may hold "error", a sentence of the daemon. */
function call(method, params, slow) {
	const fn = rpc.declare({ object: 'htip', method, params: params || [], reject: true, nobatch: !!slow });
	return (...args) => fn(...args).then(reply => {
		if (reply?.error)
			throw new Problem(reply.error);
		return L.isObject(reply) ? reply : {};
	}, err => {
		throw explain(err, method);
	});
}

/* Slow ones have an HTTP request of their own: what is asked besides does not wait. */
const bus = {
	status: call('status'),
	peers: call('peers'),
	requests: call('requests'),
	hosts: call('hosts', [], true),
	invites: call('invites'),
	users: call('users'),
	doctor: call('doctor', [], true),
	connect: call('connect', [ 'peer' ]),
	disconnect: call('disconnect', [ 'peer' ]),
	access: call('access', [ 'peer', 'access' ]),
	lookup: call('lookup', [ 'domain', 'port' ], true),
	request: call('request', [ 'domain', 'key', 'name', 'access', 'port' ]),
	approve: call('approve', [ 'request', 'name', 'access' ]),
	reject: call('reject', [ 'request' ]),
	invite: call('invite', [ 'name', 'access', 'expires', 'qr' ]),
	cancelInvite: call('cancel_invite', [ 'number' ]),
	accept: call('accept', [ 'invite', 'name', 'access' ], true),
	addUser: call('user_add', [ 'name', 'homes', 'qr' ]),
	removeUser: call('user_remove', [ 'name' ])
};

/* tell shows an error above the page; it stays until it is dismissed. */
function tell(err) {
	const note = ui.addNotification(null, el('p', { 'role': 'alert' }, err.message ?? String(err)), 'error');
	note?.scrollIntoView?.({ block: 'nearest' });
}

/* said shows what was done, for a while. */
function said(text) {
	const note = ui.addNotification(null, el('p', { 'role': 'status' }, text), 'info');
	window.setTimeout(() => note?.remove?.(), 8000);
}

/*
 * button runs an action that may take a while: it can't be pressed twice, and what goes
 * wrong is told. style is a class of LuCI's: action, positive, negative, neutral.
 */
function button(label, style, action, attributes) {
	const node = el('button', Object.assign({ 'type': 'button', 'class': 'btn cbi-button cbi-button-' + style }, attributes), label);
	node.addEventListener('click', () => {
		if (node.getAttribute('aria-busy') == 'true')
			return;
		busy(node, true);
		Promise.resolve().then(action).catch(tell).finally(() => busy(node, false));
	});
	return node;
}

/* busy keeps the focus where it is, as disabling a button does not. */
function busy(node, on) {
	if (on)
		node.setAttribute('aria-busy', 'true');
	else
		node.removeAttribute('aria-busy');
	node.classList.toggle('spinning', on);
}

/* copy puts a text into the clipboard; without TLS there is only the old way. */
function copy(text) {
	if (window.isSecureContext && navigator.clipboard)
		return navigator.clipboard.writeText(text);
	const area = E('textarea', { 'class': 'htip-offscreen', 'readonly': '', 'aria-hidden': 'true' });
	const focused = document.activeElement;
	area.value = text;
	(document.querySelector('.modal') && document.body.classList.contains('modal-overlay-active') ? document.querySelector('.modal') : document.body).appendChild(area);
	area.select();
	const done = document.execCommand('copy');
	area.remove();
	focused?.focus();
	return done ? Promise.resolve() : Promise.reject(new Problem(_('The browser did not let this page copy it. Mark the text and copy it yourself.')));
}

function copyButton(text, what) {
	const node = button(_('Copy'), 'neutral', () => copy(typeof(text) == 'function' ? text() : text).then(() => {
		setText(node, _('Copied'));
		window.setTimeout(() => setText(node, _('Copy')), 2000);
	}), { 'aria-label': _('Copy: %s').format(what), 'aria-live': 'polite' });
	node.classList.add('htip-small');
	return node;
}

/* dialog opens a modal; the focus goes into it, and back when it is closed. */
let opener = null;

function dialog(title, children, buttons) {
	opener = document.activeElement;
	const box = ui.showModal(title, flat([
		el('div', { 'class': 'htip-dialog' }, children),
		el('div', { 'class': 'right htip-buttons' }, buttons)
	]));
	box.setAttribute('aria-label', title);
	const first = box.querySelector('input:not([type=radio]), select, textarea') || box.querySelector('button');
	first?.focus();
	box.onkeydown = ev => {
		if (ev.key == 'Escape' && !box.querySelector('[aria-busy=true]')) {
			ev.stopPropagation();
			closeDialog();
		}
	};
	return box;
}

function closeDialog() {
	ui.hideModal();
	if (opener?.isConnected)
		opener.focus();
	opener = null;
}

function closeButton(label) {
	return button(label || _('Cancel'), 'neutral', closeDialog);
}

/* confirmation asks before something that can't be taken back. */
function confirmation(title, text, label, action) {
	dialog(title, el('p', {}, text), [
		closeButton(), ' ',
		button(label, 'negative', () => Promise.resolve(action()).then(closeDialog))
	]);
}

let fields = 0;

/* field is a label, an input and, below it, what to know about it. */
function field(label, input, help) {
	input.id = input.id || 'htip-field-%d'.format(++fields);
	const hint = help ? el('div', { 'class': 'cbi-value-description', 'id': input.id + '-help' }, help) : null;
	if (hint)
		input.setAttribute('aria-describedby', hint.id);
	return el('div', { 'class': 'cbi-value htip-field' },
		el('label', { 'class': 'cbi-value-title', 'for': input.id }, label),
		el('div', { 'class': 'cbi-value-field' }, input, hint));
}

function textInput(attributes) {
	return el('input', Object.assign({ 'type': 'text', 'class': 'cbi-input-text', 'autocomplete': 'off', 'autocapitalize': 'none', 'spellcheck': 'false' }, attributes));
}

/*
 * sharing asks what another home may reach here. value() is a list as the daemon takes it;
 * it throws where nothing was written down.
 */
function sharing(access) {
	const list = access?.length ? access : [ 'all' ];
	const now = list.length == 1 && (list[0] == 'all' || list[0] == 'none') ? list[0] : 'some';
	const name = 'htip-sharing-%d'.format(++fields);
	const entries = el('textarea', { 'rows': 3, 'class': 'cbi-input-textarea', 'placeholder': 'nas:tcp:445\nprinter', 'aria-label': _('Devices and services, one a line'), 'spellcheck': 'false' });
	entries.value = now == 'some' ? list.join('\n') : '';
	const some = el('div', { 'class': 'htip-indent' }, entries, el('div', { 'class': 'cbi-value-description' },
		_('One a line: a device (nas or 192.168.1.20), or one service of it (nas:tcp:445, tv:udp:5000-5010). Devices are named as your router knows them.')));
	const choice = (value, label) => {
		const radio = el('input', { 'type': 'radio', 'name': name, 'value': value, 'id': name + '-' + value });
		radio.checked = value == now;
		radio.addEventListener('change', () => show(some, value == 'some'));
		return el('div', {}, radio, ' ', el('label', { 'for': radio.id }, label));
	};
	show(some, now == 'some');
	const node = el('fieldset', { 'class': 'htip-sharing' },
		el('legend', {}, _('What may this home reach here?')),
		choice('all', _('Every device of the shared networks')),
		choice('some', _('Only these devices and services')),
		some,
		choice('none', _('Nothing. My devices can still reach theirs')));
	return {
		node,
		value() {
			const picked = node.querySelector('input:checked').value;
			if (picked != 'some')
				return [ picked ];
			const lines = entries.value.split(/[\s,]+/).filter(s => s != '');
			if (!lines.length) {
				entries.focus();
				throw new Problem(_('Say which devices the other home may reach, one a line, or choose another answer.'));
			}
			return lines;
		}
	};
}

/* unlessAll leaves away what is so when nothing is said. */
function unlessAll(access) {
	return access[0] == 'all' ? undefined : access;
}

/* failing shows in a dialog what went wrong there. */
function failing() {
	const node = el('div', { 'class': 'alert-message error', 'role': 'alert' });
	show(node, false);
	return {
		node,
		clear: () => show(node, false),
		show(err) {
			setText(node, err.message ?? String(err));
			show(node, true);
		},
		/* during runs an action and shows its error here. */
		during(action) {
			show(node, false);
			return Promise.resolve().then(action).catch(err => this.show(err));
		}
	};
}

/* qrCode draws rows of ones and zeros, in black on white in every theme. */
function qrCode(rows, label) {
	const n = rows.length + 8;
	let path = '';
	rows.forEach((row, y) => {
		for (const run of row.matchAll(/1+/g))
			path += 'M%d %dh%dv1h-%dz'.format(run.index + 4, y + 4, run[0].length, run[0].length);
	});
	return svg('svg', { 'class': 'htip-qr', 'viewBox': '0 0 %d %d'.format(n, n), 'role': 'img', 'aria-label': label, 'shape-rendering': 'crispEdges' },
		svg('rect', { 'width': n, 'height': n, 'fill': '#fff' }),
		svg('path', { 'd': path, 'fill': '#000' }));
}

/* pattern is a prefix the way people say it: 192.168.1.x, 10.0.x.x. */
function pattern(prefix) {
	const [ address, bits ] = String(prefix).split('/');
	const parts = address.split('.');
	if (parts.length != 4 || bits % 8 != 0 || bits == 0)
		return prefix;
	return parts.map((p, i) => i < bits / 8 ? p : 'x').join('.');
}

/* theirs says where the other home's networks are found from here. */
function theirs(t) {
	return (t.theirs || []).map(m => m.network == m.substitute
		? _("%s's %s keeps its addresses").format(t.peer, pattern(m.network))
		: _("%s's %s is your %s").format(t.peer, pattern(m.network), pattern(m.substitute)));
}

function ours(t) {
	return (t.own || []).map(m => m.network == m.substitute
		? _('Your %s keeps its addresses there').format(pattern(m.network))
		: _('Your %s is %s there').format(pattern(m.network), pattern(m.substitute)));
}

function bytes(n) {
	const units = [ 'B', 'kB', 'MB', 'GB', 'TB' ];
	let i = 0;
	for (; n >= 1000 && i < units.length - 1; i++)
		n /= 1000;
	return (i ? n.toFixed(1) : String(Math.round(n))) + ' ' + units[i];
}

function duration(seconds) {
	const s = Math.max(0, Math.floor(seconds));
	if (s < 60)
		return N_(s, '%d second', '%d seconds').format(s);
	if (s < 3600)
		return N_(Math.floor(s / 60), '%d minute', '%d minutes').format(Math.floor(s / 60));
	if (s < 86400)
		return N_(Math.floor(s / 3600), '%d hour', '%d hours').format(Math.floor(s / 3600));
	return N_(Math.floor(s / 86400), '%d day', '%d days').format(Math.floor(s / 86400));
}

/* reasons are the fixed texts of the daemon, as its field reason has them. */
const reasons = {
	'address clash': _('the addresses of the two homes clash'),
	'no common VPN protocol': _('the two homes have no VPN protocol in common'),
	'HTIP version not spoken': _('the other home has a version of HTIP that this one does not speak; update both'),
	'waiting for approval': _('waiting until somebody there approves'),
	'busy': _('the other home is busy'),
	'refused': _('the other home refuses'),
	'loop': _('the request came back to this router'),
	'no substitute addresses left': _('no addresses are left that are free at both homes'),
	'malformed message': _('a message could not be understood; update both homes'),
	'VPN program failed': _('the VPN program failed'),
	'tunnel unknown to the peer': _('the other home does not know this tunnel any more'),
	'ended by a user': _('somebody ended it'),
	'no answer in time': _('no answer in time'),
	'gateway is shutting down': _('the router is shutting down'),
	'replaced by a newer tunnel': _('a newer tunnel took its place'),
	"peer can't be reached": _('the other home can not be reached'),
	'VPN tunnel does not work': _('the VPN tunnel does not work'),
	'wrong key': _('another key than expected: this may not be the right home'),
	'a tunnel stands already': _('there is a tunnel already'),
	'addresses have changed': _('addresses have changed'),
	'invite not valid': _('the invite is not valid'),
	'invite expired': _('the invite has expired'),
	'invite used up': _('the invite was used already')
};

/* why is a reason in the user's language and, behind it, what the daemon says besides. */
function why(t) {
	const error = t.error ?? t.text ?? '', reason = t.reason ?? '';
	const words = reasons[reason];
	if (!words)
		return error;
	const more = error.startsWith(reason) ? error.slice(reason.length).replace(/^: /, '') : error;
	return more ? _('%s: %s').format(words, more) : words;
}

/* state is one of a few kinds, for colours, with its words. */
function state(t) {
	switch (t.state) {
	case 'up':
		return [ 'up', _('connected') ];
	case 'idle':
		return t.error && t.reason != 'ended by a user' ? [ 'bad', _('not connected') ] : [ 'idle', _('not connected') ];
	case 'waiting':
		return t.reason == 'waiting for approval'
			? [ 'busy', _('waiting for approval') ]
			: [ 'bad', _('not connected, trying again by itself') ];
	}
	return [ 'busy', _('connecting') ];
}

/* secure says how well a tunnel keeps what is in it. */
function secure(t) {
	if (t.encrypted)
		return _('encrypted');
	return t.protocol == 'pptp' ? _('NOT safe: its encryption is broken') : _('NOT encrypted');
}

/* filled puts a row of the doctor together in the user's language: the text, and what to do. */
function filled(row) {
	const format = row.format !== undefined ? _(row.format) : null;
	if (format === null || format === row.format)
		return [ row.text, row.advice ];
	let i = 0;
	/* LuCI's compiler of translations leaves \n as it is written. */
	const [ text, ...advice ] = format.split(/\n|\\n/);
	/* An argument may begin with one of the reasons; the other home's name is none. */
	const word = a => row.id == 'peer:' + a ? a : why({ error: a, reason: Object.keys(reasons).find(r => a == r || a.startsWith(r + ': ')) });
	/* %2 is the second one, for languages with another order. */
	const fill = s => s.replace(/%([1-9])?/g, (all, n) => word(row.args?.[n ? n - 1 : i++] ?? ''));
	return [ fill(text), fill(advice.join('\n')) ];
}

/* poll's rhythm in seconds: one small request. */
const EVERY = 3;

return baseclass.extend({
	EVERY,
	Problem,
	bus,
	button,
	busy,
	bytes,
	closeButton,
	closeDialog,
	confirmation,
	copyButton,
	dialog,
	duration,
	el,
	failing,
	field,
	filled,
	ours,
	pattern,
	qrCode,
	reasons,
	said,
	secure,
	setText,
	sharing,
	show,
	state,
	svg,
	tell,
	textInput,
	theirs,
	unlessAll,
	why,

	/* readonly tells whether the user may only look. */
	readonly: () => !L.hasViewPermission(),

	/* page is a view's path. */
	page: name => L.url('admin/services/htip', name)
});
