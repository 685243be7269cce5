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
document.head.appendChild(E('link', { 'rel': 'stylesheet', 'href': L.resource('htip/style.css') + '?v=' + (L.env.resource_version ?? '') }));

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

/* Problem is an error for people. gone: the daemon is not there. */
class Problem extends Error {
	constructor(text, gone) {
		super(text);
		this.gone = !!gone;
	}
}

/* announce has a text read out, once, and shown nowhere. */
const voice = document.body.appendChild(E('div', { 'class': 'htip-offscreen', 'role': 'status' }));

function announce(text) {
	voice.textContent = '';
	window.setTimeout(() => { voice.textContent = text; }, 50);
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
		return method == 'status'
			? new Problem(_('HTIP is not running on this router.'), true)
			: new Problem(_('Not found: HTIP is not running, or is older than this page, or that home is no longer configured here.'), method == 'requests');
	case '6':
	case '-32002':
		return new Problem(_('You are not allowed to do this. Log in as a user who may change the settings of HTIP.'));
	case '7':
		return new Problem(_('HTIP did not answer in time. Try again.'));
	case '10': /* the daemon went away while it was asked */
		return new Problem(_('HTIP is not running on this router.'), true);
	}
	if (code !== undefined)
		return new Problem(_('The router could not do this. The system log may say why.'));
	if (/XHR|HTTP error|RPC reply|NetworkError|Network error|fetch/i.test(text))
		return new Problem(_('The router does not answer.'));
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
	statusAlone: call('status', [], true),
	peers: call('peers'),
	requests: call('requests'),
	hosts: call('hosts', [], true),
	invites: call('invites'),
	users: call('users'),
	doctor: call('doctor', [ 'homes' ], true),
	connect: call('connect', [ 'peer' ]),
	disconnect: call('disconnect', [ 'peer' ]),
	access: call('access', [ 'peer', 'access' ]),
	lookup: call('lookup', [ 'domain', 'port' ], true),
	request: call('request', [ 'domain', 'key', 'name', 'access', 'port' ]),
	approve: call('approve', [ 'request', 'claims', 'name', 'access' ]),
	reject: call('reject', [ 'request' ]),
	invite: call('invite', [ 'name', 'access', 'expires', 'qr' ]),
	cancelInvite: call('cancel_invite', [ 'number' ]),
	readInvite: call('read_invite', [ 'invite' ]),
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
	const note = ui.addNotification(null, el('p', {}, text), 'info');
	announce(text);
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
		announce(_('Copied: %s').format(what));
		window.setTimeout(() => setText(node, _('Copy')), 2000);
	}), { 'aria-label': _('Copy: %s').format(what) });
	node.classList.add('htip-small');
	return node;
}

/*
 * dialog opens a modal; the focus goes into it, and back when it is closed. What is shown
 * there may be secret: closing takes it out of the page. closed is called then.
 */
let opener = null, open = null, closed = null;

function dialogIsOpen() {
	return document.body.classList.contains('modal-overlay-active');
}

function dialog(title, children, buttons, whenClosed) {
	closed?.();
	closed = whenClosed;
	opener = document.activeElement;
	const box = ui.showModal(title, flat([
		el('div', { 'class': 'htip-dialog' }, children),
		el('div', { 'class': 'right htip-buttons' }, buttons)
	]));
	open = box.firstElementChild;
	box.setAttribute('aria-label', title);
	/* What is hidden, such as a list that is not asked for, can't have it. */
	const seen = what => [ ...box.querySelectorAll(what) ].find(e => e.offsetParent);
	const first = seen('input:not([type=radio]), select, textarea') || seen('input:checked') || seen('button');
	first?.focus();
	return open;
}

/* free waits until no dialog is open: what is shown only once must not be closed by another's end. */
function free() {
	return dialogIsOpen() ? new Promise(resolve => window.setTimeout(resolve, 200)).then(free) : Promise.resolve();
}

/* keepFocus brings it back to the page where what had it is gone. */
function keepFocus() {
	if (!document.activeElement || document.activeElement == document.body)
		document.querySelector('.htip h2')?.focus();
}

/*
 * Escape cancels a dialog of ours, wherever the focus is: LuCI would press the first button
 * at the right, or close it at once.
 */
document.addEventListener('keydown', ev => {
	if (ev.key == 'Escape' && open?.isConnected && dialogIsOpen()) {
		ev.stopPropagation();
		cancelDialog();
	}
}, true);

function closeDialog(mine) {
	if (mine instanceof Element && mine != open) /* another one of ours has taken its place */
		return;
	/* Or LuCI's own. */
	if (open?.isConnected && dialogIsOpen()) {
		const box = open.closest('.modal');
		ui.hideModal();
		box.replaceChildren();
		/* What opened it may have been drawn anew; a stranger's request is not what it was. */
		const mark = opener?.closest('.htip-request') ? null : opener?.getAttribute('aria-label');
		const again = opener?.isConnected || !mark ? opener : [ ...document.querySelectorAll('.htip [aria-label]') ].find(e => e.getAttribute('aria-label') == mark);
		const back = again?.isConnected && again.checkVisibility?.() !== false ? again : document.querySelector('.htip h2');
		back?.focus();
	}
	closed?.();
	opener = open = closed = null;
}

/* Going back must not bring it up again. */
window.addEventListener('pagehide', () => closeDialog());

/* What has been begun is not cancelled by closing its dialog. */
function cancelDialog() {
	if (!document.querySelector('.modal [aria-busy=true]:not(.htip-close)'))
		closeDialog();
}

function closeButton(label) {
	return button(label || _('Cancel'), 'neutral', cancelDialog, { 'class': 'btn cbi-button cbi-button-neutral htip-close' });
}

/*
 * trust asks about another home before it gets in: whose fingerprint to compare, what to
 * call it here (unless name is left out) and what it may reach. action gets the name and
 * the access as the daemon takes them.
 */
function trust(o) {
	const name = textInput({ 'maxlength': 63 }), share = sharing(), trouble = failing();
	name.value = o.name ?? '';
	const mine = dialog(o.title, [
		el('p', {}, o.before),
		el('p', { 'class': 'htip-print htip-mono' }, o.fingerprint),
		o.after ? el('p', {}, o.after) : null,
		o.doubts,
		field(_('What to call it here'), name, _('A short word, such as bob: its devices are then found as nas.bob.%s. Empty: the first part of its public name.').format(o.zone || 'internal')),
		share.node, trouble.node
	], [
		closeButton(), ' ',
		button(o.label, 'positive', () => trouble.during(() => {
			return o.action(name.value.trim() || undefined, share.wanted()).then(reply => {
				closeDialog(mine);
				return reply;
			}).then(o.then).finally(keepFocus);
		}))
	]);
}

/* keep redraws a part of the page when what it shows has changed, and leaves the focus. */
function keep(node, data, draw) {
	const key = JSON.stringify(data);
	if (node.shown === key)
		return;
	node.shown = key;
	const name = e => e.id || e.getAttribute('aria-label');
	const mark = node.contains(document.activeElement) ? name(document.activeElement) : null;
	node.replaceChildren(...flat([ draw() ]));
	if (mark)
		[ ...node.querySelectorAll('[id], [aria-label]') ].find(e => name(e) == mark)?.focus();
}

/*
 * renew keeps a list of nodes as the daemon's: what is still there stays the same element,
 * with the focus that it may have.
 */
function renew(parent, nodes, list, key, make) {
	const keys = new Set(list.map(key));
	for (const [ k, old ] of nodes)
		if (!keys.has(k)) {
			old.node.remove();
			nodes.delete(k);
		}
	for (const item of list) {
		const k = key(item);
		if (!nodes.has(k)) {
			nodes.set(k, make(item));
			parent.appendChild(nodes.get(k).node);
		}
		nodes.get(k).update(item);
	}
}

/*
 * newest asks and hands the answer on, unless a later question was answered before: what a
 * click has changed is not undone by an answer from before it.
 */
function newest(ask, update) {
	let asked = 0, answered = 0;
	return () => {
		const turn = ++asked;
		return ask().then(answer => {
			if (turn > answered) {
				answered = turn;
				update(answer);
			}
		});
	};
}

/* list is a table with a line of headings. */
function list(headings, body) {
	return el('table', { 'class': 'htip-list' },
		el('thead', {}, el('tr', {}, headings.map(h => el('th', { 'scope': 'col' }, h)))), body);
}

/* reach says what another home may reach here. */
function reach(access) {
	if (!access?.length || access[0] == 'all')
		return _('every device');
	return access[0] == 'none' ? _('nothing') : access.join(', ');
}

/*
 * confirmation asks before something that can't be taken back. whom says what it is about:
 * lists move while somebody clicks. then is for what comes when all is done.
 */
function confirmation(title, whom, text, label, action, then) {
	const trouble = failing();
	const mine = dialog(title, [ el('p', { 'class': 'htip-print htip-mono' }, whom), el('p', {}, text), trouble.node ], [
		closeButton(), ' ',
		button(label, 'negative', () => trouble.during(() => Promise.resolve(action()).then(() => closeDialog(mine)).then(then).finally(keepFocus)))
	]);
}

/* publicName tells whether a text may be a name in the public DNS. */
const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i;

function publicName(text) {
	const parts = text.length <= 254 ? text.replace(/\.$/, '').split('.') : [];
	return parts.length > 1 && parts.every(p => label.test(p)) && /[a-z]/i.test(parts[parts.length - 1]);
}

/* inTheOpen warns where others in the network may read along what this page shows. */
function inTheOpen() {
	return window.isSecureContext ? null : el('p', { 'class': 'htip-dim' },
		_('This page is not encrypted: whoever can listen in this network can read what it shows. Open it with https:// where the router offers that.'));
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
		el('legend', {}, _('What may the other home reach here?')),
		choice('all', _('Every device of the shared networks')),
		choice('some', _('Only these devices and services')),
		some,
		choice('none', _('Nothing. My devices can still reach theirs')));
	return {
		node,
		/* Everything is what is so when nothing is said. */
		wanted() {
			const access = this.value();
			return access[0] == 'all' ? undefined : access;
		},
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

/* failing shows in a dialog what went wrong there. */
function failing() {
	const node = el('div', { 'class': 'alert-message error', 'role': 'alert' });
	show(node, false);
	return {
		node,
		show(err) {
			if (!node.isConnected)
				return tell(err);
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
		if (t.reason != 'waiting for approval')
			return [ 'bad', _('not connected, trying again by itself') ];
	}
	return asking(t) ? [ 'busy', _('waiting for approval') ] : [ 'busy', _('connecting') ];
}

/* asking tells whether this home goes on asking until somebody at the other one approves. */
function asking(t) {
	return t.reason == 'waiting for approval' && [ 'waiting', 'dialing', 'requested' ].includes(t.state);
}

/* secure says how well a tunnel keeps what is in it. */
function secure(t) {
	if (t.encrypted)
		return _('encrypted');
	return t.protocol == 'pptp' ? _('NOT safe: its encryption is broken') : _('NOT encrypted');
}

/*
 * advices is what people do on pages where the doctor names commands and files: its advice,
 * and theirs. % is the argument whose turn it is, %1 the first of the whole row.
 */
const advices = {
	'htip doctor there says whether its port is open; or let % connect': 'the page Diagnosis there says whether its port is open; or let % connect',
	'correct it in /etc/config/htip, then /etc/init.d/htip reload': 'correct it under Settings',
	'ifstatus with its name says more; list interface names those that are shared': 'Network > Interfaces says more; those that are shared are chosen under Settings > Networks',
	'htip connect % --wait shows what happens': 'connect % under Overview: you see there what happens',
	'compare the keys by telephone: htip key there, htip peers here, and the other way round': 'has that home got a new router? Remove it under Settings and connect anew; the page then shows a fingerprint: compare it by telephone before you agree. Otherwise see under Settings there whether this home is switched on',
	'one of the homes lacks a package, or does not permit what both have: htip doctor at both': 'one of the homes lacks a package, or does not permit what both have: look at this page in both',
	'somebody there has to approve this home: htip requests': 'somebody there has to approve this home, under Overview',
	'the UDP ports are closed at the home that is called: htip doctor there': 'the UDP ports are closed at the home that is called: look at this page there',
	'/etc/init.d/dnsmasq restart, then /etc/init.d/htip restart. Nothing in /etc/config/dhcp may name that zone': 'restart dnsmasq, and then htip, under System > Startup. No setting of DHCP and DNS may name that zone',
	'if htip has started just now, wait some seconds; otherwise /etc/init.d/dnsmasq restart, then /etc/init.d/htip restart': 'if HTIP has started just now, wait some seconds; otherwise restart dnsmasq, and then htip, under System > Startup',
	'make the zone anew: /usr/share/htip/firewall.sh remove; /usr/share/htip/firewall.sh add; /etc/init.d/firewall reload; /etc/init.d/htip restart': 'under Network > Firewall add a zone htip: input and forward reject, the covered device htip-+, forwarding to and from the zone of your devices. Then under Traffic Rules accept TCP and UDP ports 53 and 4853, and ICMP echo requests, from that zone to this device',
	'make the rules anew: /usr/share/htip/firewall.sh remove; /usr/share/htip/firewall.sh add; /etc/init.d/firewall reload; /etc/init.d/htip restart': 'under Network > Firewall > Traffic Rules switch on the rule that is named, or accept %1 from zone %2 to this device before any rule that turns it away',
	'a section forwarding with option src % and option dest % is missing, then /etc/init.d/firewall reload': 'under Network > Firewall edit the zone % so that it may forward to the zone %',
	'/etc/init.d/htip restart makes the rule follow the option': 'restart htip under System > Startup: the rule then follows the setting',
	'fw4 check says what it thinks of it': 'look at Network > Firewall and at Status > System Log',
	'take option masq out of the zone %, then /etc/init.d/firewall reload': 'under Network > Firewall switch (IPv4) Masquerading off in the zone %',
	'the Internet line or its name servers are down; ifstatus wan shows them': 'the Internet line or its name servers are down; Network > Interfaces shows them',
	"option domain of % must be that home's own name": "the public name of % under Settings must be that home's own",
	'look at the WAN in LuCI under Network > Interfaces, and at option wan_device': 'look at the WAN under Network > Interfaces, and at Settings > Networks > Device towards the Internet',
	'get a name with dynamic DNS (ddns-scripts), then: uci set htip.main.domain=NAME; uci commit htip; /etc/init.d/htip reload': 'get a name with dynamic DNS (package luci-app-ddns), and enter it under Settings > Public name',
	"look at the dynamic DNS (ddns-scripts) or at the name's A record, and at option domain": "look at the dynamic DNS or at the name's A record, and at Settings > Public name",
	'install kmod-wireguard, then /etc/init.d/htip restart': 'install kmod-wireguard under System > Software, then restart htip under System > Startup',
	'set it: /etc/init.d/sysntpd restart, and list server in /etc/config/system': 'set it under System > System, and choose time servers there'
};

/* filled puts a row of the doctor together in the user's language: the text, and what to do. */
function filled(row) {
	if (typeof row.format != 'string')
		return [ row.text ?? '', row.advice ];
	let i = 0;
	const [ sentence, commands ] = row.format.split('\n');
	/* LuCI's compiler of translations leaves \n as it is written. */
	const [ text, ...advice ] = Object.prototype.hasOwnProperty.call(advices, commands) ? [ _(sentence), _(advices[commands]) ] : _(row.format).split(/\n|\\n/);
	/* An argument may begin with one of the reasons; the other home's name is none. */
	const word = a => row.id == 'peer:' + a ? a : why({ error: a, reason: Object.keys(reasons).find(r => a == r || a.startsWith(r + ': ')) });
	/* %2 is the second one, for languages with another order. */
	const fill = s => s.replace(/%([1-9])?/g, (all, n) => word(String(row.args?.[n ? n - 1 : i++] ?? '')));
	return [ fill(text), fill(advice.join('\n')) ];
}

/* poll's rhythm in seconds: one small request. */
const EVERY = 3;

return baseclass.extend({
	EVERY,
	Problem,
	announce,
	asking,
	bus,
	button,
	bytes,
	closeButton,
	closeDialog,
	confirmation,
	copyButton,
	dialog,
	dialogIsOpen,
	duration,
	el,
	failing,
	field,
	filled,
	free,
	inTheOpen,
	keep,
	label,
	list,
	newest,
	ours,
	pattern,
	publicName,
	qrCode,
	reach,
	renew,
	said,
	secure,
	setText,
	sharing,
	show,
	state,
	svg,
	textInput,
	theirs,
	trust,
	why,

	/* readonly tells whether the user may only look. */
	readonly: () => !L.hasViewPermission(),

	/* page is a view's path. */
	page: name => L.url('admin/services/htip', name)
});
