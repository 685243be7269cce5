'use strict';
'require view';
'require poll';
'require uci';
'require ui';
'require htip.common as htip';

const { el, svg, bus, show, setText } = htip;

/* stepWords are the steps of a tunnel as people see them; see docs/protocol.md. */
const stepWords = [
	[ 'connecting', _('Find the other home') ],
	[ 'request', _('Ask for a tunnel') ],
	[ 'response', _('Propose addresses') ],
	[ 'ack', _('Agree on addresses') ],
	[ 'ready', _('Start the VPN server') ],
	[ 'tunnel', _('Tunnel up, addresses translated') ],
	[ 'up', _('Names of the other home answer') ]
];

/* stepText says what the daemon is at, where a step has more to it than its name. */
function stepText(step) {
	const text = step.text || '';
	let m;
	if ((m = /^looking up (.*)$/.exec(text)))
		return _('looking up %s').format(m[1]);
	if ((m = /^connecting to (.*)$/.exec(text)))
		return _('connecting to %s').format(m[1]);
	return step.reason ? htip.why(step) : text;
}

/*
 * steps draws an attempt as a list of what is done, what is going on and what is to come.
 * The list is read out politely as it grows.
 */
function stepList() {
	const items = {}, notes = {};
	const node = el('ol', { 'class': 'htip-steps', 'aria-label': _('Progress') }, stepWords.map(([ name, words ]) => {
		notes[name] = el('span', { 'class': 'htip-dim' });
		return items[name] = el('li', {}, words, ' ', notes[name]);
	}));
	return {
		node,
		update(steps) {
			let reached = -1, failed = null;
			const said = {};
			for (const s of steps) {
				const i = stepWords.findIndex(w => w[0] == s.step);
				if (i >= 0)
					reached = i;
				else if (s.step == 'nak') /* another round from the start */
					reached = 1;
				else
					failed = s;
				const at = stepWords[Math.max(reached, 0)][0];
				if (stepText(s) != '' && s.step != 'failed' && s.step != 'down')
					said[at] = stepText(s);
			}
			stepWords.forEach(([ name ], i) => {
				const item = items[name];
				const last = i == reached, over = name == 'up' || i < reached;
				item.toggleAttribute('data-done', i <= reached && over);
				item.toggleAttribute('data-now', last && !over && !failed);
				item.toggleAttribute('data-failed', last && !over && !!failed);
				if (last && !failed)
					item.setAttribute('aria-current', 'step');
				else
					item.removeAttribute('aria-current');
				setText(notes[name], i <= reached && said[name] ? '(' + said[name] + ')' : '');
			});
		}
	};
}

/* graph draws what passes through a tunnel over the last two minutes. */
const SAMPLES = 40;

function graph() {
	const rx = svg('path', { 'class': 'htip-rx' }), tx = svg('path', { 'class': 'htip-tx' });
	const down = el('span', { 'class': 'htip-rx' }), up = el('span', { 'class': 'htip-tx' });
	const image = svg('svg', { 'class': 'htip-graph', 'viewBox': '0 0 %d 46'.format(SAMPLES - 1), 'preserveAspectRatio': 'none', 'role': 'img', 'aria-label': _('Traffic of the last two minutes') }, rx, tx);
	const node = el('div', {}, image, el('div', { 'class': 'htip-rates' }, down, up));
	let last = null, rates = [];
	return {
		node,
		update(t) {
			const now = Date.now() / 1000;
			if (last && last.device == t.device && t.rx_bytes >= last.rx && t.tx_bytes >= last.tx && now > last.at) {
				rates.push([ (t.rx_bytes - last.rx) / (now - last.at), (t.tx_bytes - last.tx) / (now - last.at) ]);
				rates = rates.slice(-SAMPLES);
			}
			else {
				rates = [];
			}
			last = { device: t.device, rx: t.rx_bytes, tx: t.tx_bytes, at: now };
			const most = Math.max(1000, ...rates.flat());
			const line = k => rates.map((r, i) => (i ? 'L' : 'M') + '%d %.1f'.format(SAMPLES - rates.length + i, 45 - 43 * r[k] / most)).join('');
			rx.setAttribute('d', line(0));
			tx.setAttribute('d', line(1));
			const rate = rates[rates.length - 1] || [ 0, 0 ];
			setText(down, _('↓ %s/s, %s in all').format(htip.bytes(rate[0]), htip.bytes(t.rx_bytes)));
			setText(up, _('↑ %s/s, %s in all').format(htip.bytes(rate[1]), htip.bytes(t.tx_bytes)));
		}
	};
}

/* refused says what was dropped of a home, if anything was. */
function refused(t) {
	const r = t.refused || {}, n = (r.source || 0) + (r.destination || 0) + (r.host || 0) + (r.router || 0);
	return n ? N_(n, '%d packet was dropped that this home may not send.', '%d packets were dropped that this home may not send.').format(n) : '';
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return Promise.all([
			this.ask(),
			L.resolveDefault(uci.load('htip'), null)
		]).then(([ answers ]) => answers);
	},

	/* ask is the one request that is made every few seconds. */
	ask() {
		return Promise.all([ bus.status(), bus.requests() ])
			.then(([ status, requests ]) => ({ status, requests }), err => ({ err }));
	},

	render(answers) {
		this.cards = {};
		this.requests = {};
		this.banner = el('div', { 'class': 'alert-message warning htip-banner', 'role': 'alert' });
		this.troubles = el('div', { 'class': 'alert-message error htip-banner' });
		this.off = el('div', { 'class': 'cbi-section' });
		this.homeFacts = el('dl', { 'class': 'htip-facts' });
		this.outside = el('dd', {}, _('being looked at …'));
		this.requestList = el('div', { 'aria-live': 'polite' });
		this.requestBox = el('div', { 'class': 'cbi-section' }, el('h3', {}, _('Homes that ask for a tunnel')), this.requestList);
		this.cardList = el('div', { 'class': 'htip-cards' });
		this.nobody = el('p', { 'class': 'htip-dim' }, _('No other home is known here yet. Connect to one below, or invite one.'));
		this.running = el('div', {},
			this.requestBox,
			el('div', { 'class': 'cbi-section' }, el('h3', {}, _('Other homes')), this.nobody, this.cardList),
			this.connectForm(),
			el('div', { 'class': 'cbi-section' }, el('h3', {}, _('This home')), this.homeFacts));
		const page = el('div', { 'class': 'htip' },
			el('h2', {}, _('Home-to-Home')),
			el('div', { 'class': 'cbi-map-descr' }, _('Reach the devices of another home as if they were in yours, also when both homes use the same addresses.')),
			this.banner, this.off, this.troubles, this.running);
		this.update(answers);
		poll.add(() => this.ask().then(a => this.update(a)), htip.EVERY);
		/* What takes seconds comes after the first view. */
		if (!answers.err)
			window.setTimeout(() => this.look(), 200);
		window.setTimeout(() => this.jump(), 0);
		return page;
	},

	/* jump goes to the home, or the field, that a link of another view means. */
	jump() {
		const there = document.getElementById(window.location.hash.slice(1));
		there?.scrollIntoView({ block: 'center' });
		there?.focus();
	},

	update(answers) {
		const err = answers.err;
		const off = err?.gone && uci.get('htip', 'main', 'enabled') != '1';
		show(this.banner, err && !off);
		show(this.off, off);
		if (off && !this.off.firstChild)
			this.off.append(...this.switchOn());
		if (err) {
			if (!off)
				setText(this.banner, err.gone
					? _('HTIP is not running on this router. If it has been started just now, wait some seconds; this page goes on by itself. Otherwise look into Status > System Log.')
					: _('%s This page goes on by itself.').format(err.message));
			show(this.running, !off && this.status);
			show(this.troubles, false);
			return;
		}
		const fresh = !this.status;
		this.status = answers.status;
		show(this.running, true);
		this.updateHome(answers.status);
		this.updateRequests(answers.requests.requests || []);
		this.updateCards(answers.status.tunnels || []);
		if (fresh && this.off.firstChild)
			this.look();
	},

	/* switchOn is all there is to see before the first start. */
	switchOn() {
		const domain = htip.textInput({ 'placeholder': 'alice.example.org', 'inputmode': 'url' });
		const failing = htip.failing();
		domain.value = uci.get('htip', 'main', 'domain') || '';
		return [
			el('h3', {}, _('HTIP is switched off')),
			el('p', {}, _('Nothing of this home is reachable for other homes. Switch it on to connect with them.')),
			htip.field(_('Public name of this home'), domain, _('The name by which this router is found on the Internet, for example of a dynamic DNS service. May stay empty: then this home can call others, but they can not call it.')),
			failing.node,
			htip.readonly() ? el('p', {}, _('You may only look here. Ask the owner of the router to switch it on.')) : htip.button(_('Switch on'), 'apply', () => failing.during(() => {
				const name = domain.value.trim().toLowerCase().replace(/\.$/, '');
				if (name != '' && !/^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*$/.test(name))
					throw new htip.Problem(_('This is no name on the Internet. Such a name looks like alice.example.org.'));
				if (!uci.get('htip', 'main'))
					uci.add('htip', 'htip', 'main');
				uci.set('htip', 'main', 'enabled', '1');
				uci.set('htip', 'main', 'domain', name == '' ? null : name);
				return uci.save().then(() => ui.changes.apply(true));
			}))
		];
	},

	updateHome(s) {
		const lines = (s.wan || []).map(w => (w.interface || w.device) + ' ' + w.address).join(', ');
		const facts = [
			[ _('Name'), s.name ],
			[ _('Public name'), s.domain || _('none: others can not call this home, it can call them') ],
			[ _('Fingerprint'), s.fingerprint ],
			[ _('Shared networks'), (s.networks || []).join(', ') || _('none', 'networks') ],
			[ _('Internet line'), lines || _('none', 'networks') ]
		];
		const key = JSON.stringify(facts);
		if (key != this.homeKey) {
			this.homeKey = key;
			this.homeFacts.replaceChildren(...facts.flatMap(([ name, value ]) => [
				el('dt', {}, name),
				name == _('Fingerprint')
					? el('dd', {}, el('span', { 'class': 'htip-mono' }, value), ' ', htip.copyButton(value, _('fingerprint')))
					: el('dd', {}, value)
			]), el('dt', {}, _('Reachable from outside')), this.outside);
		}
		const problems = JSON.stringify(s.troubles || []);
		show(this.troubles, s.troubles?.length);
		if (problems != this.problemKey) {
			this.problemKey = problems;
			this.troubles.replaceChildren(
				el('h4', {}, _('Something is wrong on this router')),
				el('ul', {}, (s.troubles || []).map(row => el('li', {}, htip.filled(row)[0]))),
				el('a', { 'href': htip.page('diagnosis') }, _('What to do about it')));
		}
	},

	/* look asks the doctor whether others can call this home. */
	look() {
		const about = { 'wan': 1, 'name': 1, 'firewall-tcp': 1 };
		return bus.doctor().then(reply => {
			const rows = (reply.rows || []).filter(r => about[r.id] && r.level != 'ok');
			this.outside.replaceChildren(...(rows.length
				? [ el('span', {}, _('no')), ': ', rows.map(r => htip.filled(r)[0]).join('. '), ' ', el('a', { 'href': htip.page('diagnosis') }, _('What to do about it')) ].flat()
				: [ _('yes, as far as this router can tell') ]));
		}, err => setText(this.outside, _('not known: %s').format(err.message)));
	},

	connectForm() {
		const input = htip.textInput({ 'id': 'htip-connect', 'placeholder': _('bob.example.org or htip:…'), 'aria-describedby': 'htip-connect-help' });
		const failing = htip.failing();
		const go = htip.button(_('Connect'), 'action', () => failing.during(() => this.connect(input, failing)), { 'disabled': htip.readonly() ? '' : null });
		input.addEventListener('keydown', ev => {
			if (ev.key == 'Enter' && !htip.readonly()) {
				ev.preventDefault();
				go.click();
			}
		});
		return el('div', { 'class': 'cbi-section' },
			el('h3', {}, _('Connect to another home')),
			el('div', { 'class': 'htip-connect' }, el('label', { 'for': 'htip-connect' }, _('Its public name, or an invite')), input, go),
			el('div', { 'class': 'cbi-value-description', 'id': 'htip-connect-help' }, _('Ask the other home for its public name, or for an invite: a line that begins with htip:')),
			failing.node);
	},

	connect(input, failing) {
		const text = input.value.trim();
		if (text == '') {
			input.focus();
			throw new htip.Problem(_('Enter the public name of the other home, or paste its invite.'));
		}
		if (/htip:/i.test(text) || text.length > 255)
			return this.acceptInvite(text, input);
		const [ , domain, port ] = /^(.*?)(?::(\d+))?$/.exec(text);
		return bus.lookup(domain, port ? +port : undefined).then(found => {
			if (found.peer)
				return bus.connect(found.peer).then(() => { input.value = ''; return this.refresh(found.peer); });
			this.compare(found, input);
		}, err => {
			/* A home that is known here may be called by its name in the family. */
			if ((this.status?.tunnels || []).some(t => t.peer == text.toLowerCase() || t.domain == text.toLowerCase()))
				return bus.connect(text.toLowerCase()).then(() => { input.value = ''; return this.refresh(text); });
			throw err;
		});
	},

	/* compare shows whose key answers there, before anything is asked of it. */
	compare(found, input) {
		const name = htip.textInput({ 'maxlength': 63 }), share = htip.sharing(), failing = htip.failing();
		htip.dialog(_('Is this the right home?'), [
			el('p', {}, _('At %s answers a router with this fingerprint:').format(found.domain)),
			el('p', { 'class': 'htip-print htip-mono' }, found.fingerprint),
			el('p', {}, _('Call the other home and compare: it stands on their page under "This home". If it is another one, somebody has put himself in between.')),
			htip.field(_('What to call it here'), name, _('A short word, such as bob: their devices are then found as nas.bob.internal. Empty: the first part of its public name.')),
			share.node, failing.node
		], [
			htip.closeButton(), ' ',
			htip.button(_('It is the same: connect'), 'positive', () => failing.during(() => {
				const access = share.value();
				return bus.request(found.domain, found.key, name.value.trim() || undefined, htip.unlessAll(access), found.port).then(reply => {
					input.value = '';
					htip.closeDialog();
					return this.refresh(reply.peer);
				});
			}))
		]);
	},

	acceptInvite(text, input) {
		const share = htip.sharing(), failing = htip.failing();
		htip.dialog(_('Accept an invite'), [
			el('p', {}, _('The home that has invited you will be connected, now and after every restart, until one of you disconnects.')),
			share.node, failing.node
		], [
			htip.closeButton(), ' ',
			htip.button(_('Accept'), 'positive', () => failing.during(() => {
				const access = share.value();
				return bus.accept(text, undefined, htip.unlessAll(access)).then(reply => {
					input.value = '';
					htip.closeDialog();
					return this.refresh(reply.peer);
				});
			}))
		]);
	},

	/* refresh shows at once what a click has changed, and where. */
	refresh(peer) {
		return this.ask().then(a => {
			this.update(a);
			this.cards[peer]?.node.scrollIntoView?.({ block: 'nearest' });
		});
	},

	updateRequests(list) {
		show(this.requestBox, list.length);
		const keys = {};
		for (const r of list) {
			keys[r.key] = true;
			if (!this.requests[r.key])
				this.requestList.appendChild((this.requests[r.key] = this.requestCard(r)).node);
			this.requests[r.key].update(r);
		}
		for (const key in this.requests)
			if (!keys[key]) {
				this.requests[key].node.remove();
				delete this.requests[key];
			}
	},

	requestCard(r) {
		const ago = el('span', {});
		const who = r.claims || _('a home without a public name');
		const node = el('div', { 'class': 'htip-request', 'role': 'group', 'aria-label': _('Request of %s').format(who) },
			el('p', {}, el('strong', {}, _('It says it is %s').format(who)), ' ', el('span', { 'class': 'htip-dim' }, _('(not verified)'))),
			el('p', { 'class': 'htip-print htip-mono' }, r.fingerprint),
			el('p', { 'class': 'htip-dim' }, _('from %s, its networks: %s').format(r.address, (r.networks || []).join(', ') || _('not told')), '; ', ago),
			htip.readonly() ? null : el('div', { 'class': 'htip-buttons' },
				htip.button(_('Approve …'), 'positive', () => this.approve(r, who), { 'aria-label': _('Approve %s').format(who) }),
				htip.button(_('Reject'), 'negative', () => htip.confirmation(_('Reject this home?'), _('It is told so, and not shown here again.'), _('Reject'),
					() => bus.reject(r.fingerprint).then(() => this.refresh())), { 'aria-label': _('Reject %s').format(who) })));
		return {
			node,
			update: now => setText(ago, _('asked %s ago').format(htip.duration(now.last_ago)))
		};
	},

	approve(r, who) {
		const name = htip.textInput({ 'maxlength': 63 }), share = htip.sharing(), failing = htip.failing();
		name.value = r.name || '';
		htip.dialog(_('Approve a home'), [
			el('p', {}, _('It says it is %s. Anybody can say so. Call them and compare this fingerprint with the one on their page:').format(who)),
			el('p', { 'class': 'htip-print htip-mono' }, r.fingerprint),
			htip.field(_('What to call it here'), name, _('A short word, such as bob: their devices are then found as nas.bob.internal.')),
			share.node, failing.node
		], [
			htip.closeButton(), ' ',
			htip.button(_('It is the same: approve'), 'positive', () => failing.during(() => {
				const access = share.value();
				return bus.approve(r.fingerprint, name.value.trim() || undefined, htip.unlessAll(access)).then(reply => {
					htip.closeDialog();
					htip.said(_('%s is approved. Its router asks again within a minute, then the tunnel comes up by itself.').format(reply.peer));
					return this.refresh(reply.peer);
				});
			}))
		]);
	},

	updateCards(tunnels) {
		show(this.nobody, !tunnels.length);
		const names = {};
		for (const t of tunnels) {
			names[t.peer] = true;
			if (!this.cards[t.peer])
				this.cardList.appendChild((this.cards[t.peer] = this.card(t.peer)).node);
			this.cards[t.peer].update(t);
		}
		for (const name in this.cards)
			if (!names[name]) {
				this.cards[name].node.remove();
				delete this.cards[name];
			}
	},

	card(peer) {
		const word = el('span', { 'class': 'htip-state' }), since = el('span', { 'class': 'htip-dim' });
		const domain = el('p', { 'class': 'htip-dim' }), how = el('p', {}), addresses = el('div', {}), trouble = el('p', { 'class': 'htip-why' });
		const approval = el('p', {}), drops = el('p', { 'class': 'htip-dim' }), reach = el('p', { 'class': 'htip-dim' });
		const steps = stepList(), traffic = graph(), ro = htip.readonly();
		let last = {};
		const connect = htip.button(_('Connect'), 'action', () => bus.connect(peer).then(() => this.refresh(peer)), { 'aria-label': _('Connect to %s').format(peer) });
		const disconnect = htip.button(_('Disconnect'), 'negative', () => bus.disconnect(peer).then(() => this.refresh(peer)), { 'aria-label': _('Disconnect %s').format(peer) });
		const access = htip.button(_('Access …'), 'neutral', () => this.access(peer, last.access), { 'aria-label': _('What %s may reach here').format(peer) });
		const hosts = el('a', { 'class': 'btn cbi-button', 'href': htip.page('hosts'), 'aria-label': _('Hosts of %s').format(peer) }, _('Hosts'));
		const node = el('div', { 'class': 'htip-card', 'role': 'group', 'aria-label': _('Home %s').format(peer), 'id': 'htip-home-' + peer, 'tabindex': -1 },
			el('h4', {}, peer), domain,
			el('p', { 'aria-live': 'polite' }, word, ' ', since),
			trouble, approval, steps.node, addresses, how, reach, drops, traffic.node,
			el('div', { 'class': 'htip-buttons' }, ro ? hosts : [ connect, disconnect, hosts, access ]));
		return {
			node,
			update: t => {
				last = t;
				const [ kind, words ] = htip.state(t), up = t.state == 'up', waits = t.reason == 'waiting for approval' && !up;
				node.setAttribute('data-kind', kind);
				word.setAttribute('data-kind', kind);
				setText(domain, t.domain || _('without a public name: only it can connect'));
				setText(word, words);
				const age = this.status.time - t.since; /* by the router's clock; the browser has its own */
				setText(since, up && t.since ? _('for %s').format(htip.duration(age)) : '');
				/* While it is being made, and for a moment after. */
				const inTheMaking = !up && !waits && kind == 'busy' || up && age < 10;
				show(steps.node, inTheMaking && t.steps?.length);
				if (inTheMaking)
					steps.update(t.steps || []);
				setText(trouble, !up && !waits && t.error ? htip.why(t).replace(/^./, c => c.toUpperCase()) : '');
				show(trouble, trouble.textContent != '');
				setText(approval, waits ? _('Somebody there has to approve this home first. Tell them your fingerprint, %s, so that they can compare. The tunnel then comes up by itself.').format(this.status.fingerprint) : '');
				show(approval, waits);
				const lines = t.theirs?.length ? [ ...htip.theirs(t), ...htip.ours(t) ] : [];
				if (addresses.textContent != lines.join(''))
					addresses.replaceChildren(...lines.map((l, i) => el('p', { 'class': i < t.theirs.length ? '' : 'htip-dim' }, l)));
				setText(how, up ? _('By %s, %s').format(t.protocol + (t.cipher ? ' (' + t.cipher + ')' : ''), htip.secure(t)) : '');
				how.title = up ? t.protocol_reason || '' : '';
				show(how, up);
				setText(reach, t.access && t.access[0] != 'all' ? _('May reach here: %s').format(t.access[0] == 'none' ? _('nothing') : t.access.join(', ')) : '');
				show(reach, reach.textContent != '');
				setText(drops, refused(t));
				show(drops, drops.textContent != '');
				show(traffic.node, up && t.rx_bytes !== undefined);
				if (up && t.rx_bytes !== undefined)
					traffic.update(t);
				show(connect, !up && kind != 'busy' && t.domain);
				show(disconnect, up || kind == 'busy' || t.state == 'waiting');
				show(hosts, up);
			}
		};
	},

	access(peer, now) {
		const share = htip.sharing(now), failing = htip.failing();
		htip.dialog(_('Access'), [
			el('p', {}, _('This is about %s. The tunnel stays up; what is taken away stops at once.').format(peer)),
			share.node, failing.node
		], [
			htip.closeButton(), ' ',
			htip.button(_('Save'), 'positive', () => failing.during(() => bus.access(peer, share.value()).then(reply => {
				htip.closeDialog();
				if (reply.nowhere?.length)
					htip.said(_('Saved. No device of the shared networks is known as %s, so that opens nothing now.').format(reply.nowhere.join(', ')));
				return this.refresh(peer);
			})))
		]);
	}
});
