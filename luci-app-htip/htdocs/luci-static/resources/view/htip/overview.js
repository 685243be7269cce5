'use strict';
'require view';
'require poll';
'require uci';
'require ui';
'require htip.common as htip';

const { el, svg, bus, show, setText } = htip;

/* stepWords are the steps of a tunnel as people see them; see docs/protocol.md. */
const stepWords = [
	[ 'connecting', _('The routers have found each other') ],
	[ 'request', _('A tunnel is asked for') ],
	[ 'response', _('Addresses are proposed') ],
	[ 'ack', _('Addresses are agreed on') ],
	[ 'ready', _('The VPN starts') ],
	[ 'tunnel', _('The tunnel is up, addresses are translated') ],
	[ 'up', _('The other home answers') ]
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

/* stepList draws an attempt: what is done, what is going on and what is to come. */
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
		/* time is the daemon's, in whole seconds from its start; it counts where an answer was late. */
		update(t, time) {
			const now = Date.now() / 1000;
			const here = now - last?.at, there = time - last?.time;
			if (last && last.device == t.device && t.rx_bytes >= last.rx && t.tx_bytes >= last.tx && here > 0 && there >= 0) {
				const took = Math.abs(here - there) > 1.5 ? there : here;
				if (took == 0)
					return;
				rates.push([ (t.rx_bytes - last.rx) / took, (t.tx_bytes - last.tx) / took ]);
				rates = rates.slice(-SAMPLES);
			}
			else {
				rates = [];
			}
			last = { device: t.device, rx: t.rx_bytes, tx: t.tx_bytes, at: now, time };
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

/* refused says how often a home tried what it may not, if it did. */
function refused(t) {
	const r = t.refused || {}, n = (r.source || 0) + (r.destination || 0) + (r.host || 0) + (r.router || 0);
	return n ? N_(n, 'It tried %d time to reach what is not open to it.', 'It tried %d times to reach what is not open to it.').format(n) : '';
}

/* doubts are reasons not to believe what a home says it is. */
function doubts(r, twice) {
	return [
		r.like ? el('p', { 'class': 'htip-why' }, _('%s is known here already, and has another fingerprint: this is another router.').format(r.like)) : null,
		twice ? el('p', { 'class': 'htip-why' }, _('More than one home says so. At most one of them is right.')) : null
	];
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return Promise.all([ this.ask(), uci.load('htip').then(() => true, () => false) ]).then(([ answers, loaded ]) => {
			this.loaded = loaded;
			return answers;
		});
	},

	/*
	 * ask is the one request that is made every few seconds. Of a daemon that is killed while
	 * it is asked nobody hears.
	 */
	ask() {
		const late = new Promise((resolve, reject) => window.setTimeout(() => reject(new htip.Problem(_('HTIP did not answer in time. Try again.'))), 8000));
		return Promise.race([ Promise.all([ bus.status(), bus.requests() ]), late ])
			.then(([ status, requests ]) => ({ status, requests }), err => ({ err }));
	},

	render(answers) {
		this.cards = new Map();
		this.requests = new Map();
		this.banner = el('div', { 'class': 'alert-message warning htip-banner', 'role': 'alert' });
		this.troubles = el('div', { 'class': 'alert-message error htip-banner' });
		this.off = el('div', { 'class': 'cbi-section' });
		this.homeFacts = el('dl', { 'class': 'htip-facts' });
		this.outside = el('dd', {}, _('being looked at …'));
		this.requestList = el('div', {});
		this.rejected = el('div', {});
		this.requestBox = el('div', { 'class': 'cbi-section', 'id': 'htip-requests', 'tabindex': -1 }, el('h3', {}, _('Homes that ask for a tunnel')), this.requestList, this.rejected);
		this.asking = el('a', { 'class': 'htip-asking', 'href': '#htip-requests' });
		this.cardList = el('div', { 'class': 'htip-cards' });
		this.nobody = el('p', { 'class': 'htip-dim' }, _('No other home is known here yet. Connect to one above, or invite one.'));
		this.running = el('div', {},
			this.connectForm(),
			/* Requests come below the cards: what strangers do moves no button under the mouse. */
			el('div', { 'class': 'cbi-section' }, el('h3', {}, _('Other homes'), ' ', this.asking), this.nobody, this.cardList),
			this.requestBox,
			el('div', { 'class': 'cbi-section' }, el('h3', {}, _('This home')), this.homeFacts));
		const page = el('div', { 'class': 'htip' },
			el('h2', { 'tabindex': -1 }, _('Home-to-Home')),
			el('div', { 'class': 'cbi-map-descr' }, _('Reach the devices of another home as if they were in yours, also when both homes use the same addresses.')),
			this.banner, this.off, this.troubles, this.running);
		this.update(answers);
		this.again = htip.newest(() => this.ask(), a => this.update(a));
		poll.add(this.again, htip.EVERY);
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
		/* One request that fails takes nothing from under somebody's fingers. */
		const off = this.isOff = !!err && (err.gone ? this.loaded && uci.get('htip', 'main', 'enabled') != '1' : !!this.isOff);
		show(this.banner, err && !(off && err.gone));
		show(this.off, off);
		if (off && !this.off.firstChild)
			this.off.append(...this.switchOn());
		if (err) {
			if (!off || !err.gone)
				setText(this.banner, err.gone
					? _('HTIP is not running on this router. If it has been started just now, wait some seconds; this page goes on by itself. Otherwise look into Status > System Log.')
					: _('%s This page goes on by itself.').format(err.message));
			show(this.running, !off && this.status);
			show(this.troubles, false);
			return;
		}
		const fresh = !this.status;
		this.status = answers.status;
		this.loaded = false; /* it runs, whatever the file said when this page was opened */
		show(this.running, true);
		this.updateHome(answers.status);
		this.updateRequests(answers.requests.requests || [], answers.requests.rejected || []);
		this.updateCards(answers.status.tunnels || []);
		/* What takes seconds comes after the first view. */
		if (fresh)
			window.setTimeout(() => this.look(), 200);
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
				if (name != '' && !htip.publicName(name))
					throw new htip.Problem(_('This is no name on the Internet. Such a name looks like alice.example.org.'));
				if (!uci.get('htip', 'main'))
					uci.add('htip', 'htip', 'main');
				uci.set('htip', 'main', 'enabled', '1');
				uci.set('htip', 'main', 'domain', name == '' ? null : name);
				return uci.changes().then(changes => {
					if (Object.keys(changes || {}).some(config => config != 'htip'))
						throw new htip.Problem(_('There are unsaved changes of other pages. Apply or revert them first (above, at the right).'));
					return uci.save();
				}).then(() => ui.changes.apply(true));
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
					? el('dd', {}, el('span', { 'class': 'htip-mono' }, value), ' ', htip.copyButton(value, _('fingerprint')), ' ', el('span', { 'class': 'htip-dim' }, _('(to compare by telephone)')))
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
	look(failed = 0) {
		const about = [ 'wan', 'name', 'firewall', 'firewall-tcp', 'firewall-udp' ];
		return bus.doctor(false).then(reply => {
			const rows = (reply.rows || []).filter(r => about.includes(r.id) && r.level != 'ok');
			/* A private address alone says little: the box before may forward the ports. */
			const word = !rows.length ? _('yes, as far as this router can tell')
				: rows.some(r => r.level == 'bad') || !this.status?.domain ? _('no') : _('perhaps');
			this.outside.replaceChildren(word, ...(rows.length
				? [ ': ', rows.map(r => htip.filled(r)[0]).join('. '), '. ', el('a', { 'href': htip.page('diagnosis') }, _('What to do about it')) ]
				: []));
		}, err => {
			setText(this.outside, _('not known: %s').format(err.message));
			if (failed < 4)
				window.setTimeout(() => this.look(failed + 1), 10000);
		});
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
			htip.readonly() ? el('p', { 'class': 'htip-dim' }, _('You may only look here.')) : null,
			failing.node);
	},

	connect(input, failing) {
		const text = input.value.trim();
		if (text == '') {
			input.focus();
			throw new htip.Problem(_('Enter the public name of the other home, or paste its invite.'));
		}
		if (/^[\s"'<]*htip:/i.test(text) || text.length > 255)
			return bus.readInvite(text).then(invite => {
				this.mayAsk(invite.domain);
				this.acceptInvite(text, invite, input);
			});
		/* A home that is known here may be called by its name in the family. */
		const known = (this.status?.tunnels || []).find(t => t.domain && (t.peer == text.toLowerCase() || t.domain == text.toLowerCase()));
		if (known)
			return bus.connect(known.peer).then(() => this.added(known, input, text));
		const [ , domain, port ] = /^(?:https?:\/\/)?([^]*?)(?::(\d+))?\/?$/.exec(text);
		return bus.lookup(domain, port ? +port : undefined).then(found => {
			if (found.peer)
				return bus.connect(found.peer).then(() => {
					htip.said(_('%s is a home that is known here: %s.').format(found.domain, found.peer));
					return this.added(found, input, text);
				});
			this.mayAsk(found.domain);
			this.compare(text, found, input);
		});
	},

	/* mayAsk keeps an answer that comes late from taking the place of another dialog. */
	mayAsk(domain) {
		if (htip.dialogIsOpen())
			throw new htip.Problem(_('%s answers. Press Connect again to go on.').format(domain));
	},

	/* compare shows whose key answers there, before anything is asked of it. */
	compare(text, found, input) {
		htip.trust({
			title: _('Is this the right home?'),
			before: _('At %s answers a router with this fingerprint:').format(found.domain),
			fingerprint: found.fingerprint,
			after: _('Call the other home and compare all of it: it stands on their page under "This home". If it is another one, somebody has put himself in between.'),
			zone: this.status?.zone,
			label: _('It is the same: connect'),
			action: (name, access) => bus.request(found.domain, found.key, name, access, found.port),
			then: reply => this.added(reply, input, text)
		});
	},

	acceptInvite(text, invite, input) {
		htip.trust({
			title: _('Accept an invite'),
			before: _('This is an invite of %s, with the fingerprint').format(invite.domain),
			fingerprint: invite.fingerprint,
			after: _('The two homes will be connected, now and after every restart, until one of you disconnects.'),
			zone: this.status?.zone,
			label: _('Accept'),
			action: (name, access) => bus.accept(text, name, access),
			then: reply => this.added(reply, input, text)
		});
	},

	added(reply, input, text) {
		if (input.value.trim() == text) /* somebody may be at the next one */
			input.value = '';
		return this.refresh(reply.peer);
	},

	/* refresh shows at once what a click has changed, and where. */
	refresh(peer) {
		return this.again().then(() => this.cards.get(peer)?.node.scrollIntoView?.({ block: 'nearest' }));
	},

	updateRequests(list, rejected) {
		show(this.requestBox, list.length || rejected.length);
		for (const r of list)
			if (this.told && !this.told.has(r.key))
				htip.announce(_('%s asks for a tunnel.').format(r.claims || _('a home without a public name')));
		this.told = new Set(list.map(r => r.key));
		htip.keep(this.rejected, rejected, () => rejected.length ? el('details', {}, el('summary', {}, _('Rejected homes')), el('ul', {}, rejected.map(f =>
			el('li', {}, el('span', { 'class': 'htip-mono' }, f), ' ', htip.readonly() ? null : htip.button(_('Approve …'), 'neutral',
				() => this.approve({ key: f, fingerprint: f }, _('another home'), false), { 'aria-label': _('Approve %s').format(f) }))))) : []);
		setText(this.asking, list.length ? N_(list.length, '%d home asks for a tunnel', '%d homes ask for a tunnel').format(list.length) : '');
		show(this.asking, list.length);
		const said = r => r.claims != '' && list.filter(other => other.claims == r.claims).length > 1;
		htip.renew(this.requestList, this.requests, list, r => JSON.stringify([ r.key, r.claims, r.networks, r.address, r.name, r.like, said(r) ]), r => this.requestCard(r, said(r)));
	},

	requestCard(r, twice) {
		const ago = el('span', {});
		const who = r.claims || _('a home without a public name');
		const node = el('div', { 'class': 'htip-request', 'role': 'group', 'aria-label': _('Request of %s').format(who) },
			el('p', {}, el('strong', {}, _('It says it is %s').format(who)), ' ', el('span', { 'class': 'htip-dim' }, _('(not verified)'))),
			el('p', { 'class': 'htip-print htip-mono' }, r.fingerprint),
			doubts(r, twice),
			el('p', { 'class': 'htip-dim' }, _('from %s, its networks: %s').format(r.address, (r.networks || []).join(', ') || _('not told')), '; ', ago),
			htip.readonly() ? null : el('div', { 'class': 'htip-buttons' },
				htip.button(_('Approve …'), 'positive', () => this.approve(r, who, twice), { 'aria-label': _('Approve %s').format(who) }),
				htip.button(_('Reject'), 'negative', () => htip.confirmation(_('Reject this home?'), r.fingerprint + (r.claims ? ' (' + r.claims + ')' : ''), _('It is told so, and not shown here again.'), _('Reject'),
					() => bus.reject(r.key), () => this.refresh()), { 'aria-label': _('Reject %s').format(who) })));
		return {
			node,
			update: now => setText(ago, _('asked %s ago').format(htip.duration(now.last_ago)))
		};
	},

	approve(r, who, twice) {
		htip.trust({
			title: _('Approve a home'),
			before: _('It says it is %s. Anybody can say so. Call them and compare all of this fingerprint with the one on their page:').format(who),
			fingerprint: r.fingerprint,
			doubts: doubts(r, twice),
			name: r.name,
			zone: this.status?.zone,
			label: _('It is the same: approve'),
			action: (name, access) => bus.approve(r.key, r.claims, name, access),
			then: reply => {
				htip.said(reply.added === false ? _('%s was let in before; nothing was changed.').format(reply.peer) : _('%s is approved. Its router asks again within a minute, or ten if it has waited for long; then the tunnel comes up by itself.').format(reply.peer));
				return this.refresh(reply.peer);
			}
		});
	},

	updateCards(tunnels) {
		show(this.nobody, !tunnels.length);
		htip.renew(this.cardList, this.cards, tunnels, t => t.peer, t => this.card(t.peer));
	},

	card(peer) {
		const word = el('span', { 'class': 'htip-state' }), since = el('span', { 'class': 'htip-dim' });
		const domain = el('p', { 'class': 'htip-dim' }), how = el('p', {}), because = el('p', { 'class': 'htip-dim' }), addresses = el('div', {}), trouble = el('p', { 'class': 'htip-why' });
		const approval = el('p', {}), drops = el('p', { 'class': 'htip-dim' }), reach = el('p', { 'class': 'htip-dim' });
		const steps = stepList(), traffic = graph(), ro = htip.readonly();
		let last = {};
		const connect = htip.button(_('Connect'), 'action', () => bus.connect(peer).then(() => this.refresh(peer)), { 'aria-label': _('Connect to %s').format(peer) });
		const end = () => bus.disconnect(peer), ended = () => this.refresh(peer);
		/* Of a home that can't be called there is no way back from here. */
		const disconnect = htip.button(_('Disconnect'), 'negative', () => last.domain ? end().then(ended) : htip.confirmation(_('Disconnect?'), peer,
			_('It has no public name: only somebody there can connect again.'), _('Disconnect'), end, ended), { 'aria-label': _('Disconnect %s').format(peer) });
		const access = htip.button(_('Access …'), 'neutral', () => this.access(peer, last.access), { 'aria-label': _('Access of %s').format(peer) });
		const hosts = el('a', { 'class': 'btn cbi-button', 'href': htip.page('hosts'), 'aria-label': _('Hosts of %s').format(peer) }, _('Hosts'));
		const node = el('div', { 'class': 'htip-card', 'role': 'group', 'aria-label': _('Home %s').format(peer), 'id': 'htip-home-' + peer, 'tabindex': -1 },
			el('h4', {}, peer), domain,
			el('p', {}, el('span', { 'aria-live': 'polite' }, word), ' ', since),
			trouble, approval, steps.node, addresses, how, because, reach, drops, traffic.node,
			el('div', { 'class': 'htip-buttons' }, ro ? hosts : [ connect, disconnect, hosts, access ]));
		return {
			node,
			update: t => {
				last = t;
				const [ kind, words ] = htip.state(t), up = t.state == 'up', waits = htip.asking(t), end = t.steps?.length ? t.steps[t.steps.length - 1] : null;
				node.setAttribute('data-kind', kind);
				word.setAttribute('data-kind', kind);
				setText(domain, t.domain || _('without a public name: only it can connect'));
				setText(word, words);
				const age = this.status.time - t.since; /* by the router's clock; the browser has its own */
				setText(since, up && t.since ? _('for %s').format(htip.duration(age))
					: t.state == 'waiting' && end?.retry_ms ? _('(the next attempt comes %s after the last one)').format(htip.duration(end.retry_ms / 1000)) : '');
				/* While it is being made, a moment after, and where it failed. */
				const showSteps = end && !waits && (up ? age < 10 : kind == 'busy' || end.step == 'failed');
				show(steps.node, showSteps);
				if (showSteps)
					steps.update(t.steps);
				setText(trouble, t.error && (kind == 'bad' || kind == 'idle') ? htip.why(t).replace(/^./, c => c.toUpperCase()) : '');
				show(trouble, trouble.textContent != '');
				setText(approval, waits ? _('Somebody there has to approve this home first. Tell them your fingerprint, %s, so that they can compare. The tunnel then comes up by itself.').format(this.status.fingerprint) : '');
				show(approval, waits);
				const lines = t.theirs?.length ? [ ...htip.theirs(t), ...htip.ours(t) ] : [];
				if (addresses.textContent != lines.join(''))
					addresses.replaceChildren(...lines.map((l, i) => el('p', { 'class': i < t.theirs.length ? '' : 'htip-dim' }, l)));
				setText(how, up ? _('By %s, %s').format(t.protocol + (t.cipher ? ' (' + t.cipher + ')' : ''), htip.secure(t)) : '');
				/* Nobody needs to be told why it is the best one. */
				setText(because, up && !/^the best that there is/.test(t.protocol_reason ?? '') ? _('Why not a better one: %s').format(t.protocol_reason ?? '') : '');
				show(because, because.textContent != '');
				show(how, up);
				setText(reach, t.access && t.access[0] != 'all' ? _('May reach here: %s').format(htip.reach(t.access)) : '');
				show(reach, reach.textContent != '');
				setText(drops, refused(t));
				show(drops, drops.textContent != '');
				show(traffic.node, up && t.rx_bytes !== undefined);
				if (up && t.rx_bytes !== undefined)
					traffic.update(t, this.status.uptime);
				const [ ends, connects ] = [ up || kind == 'busy' || t.state == 'waiting', !up && kind != 'busy' && t.domain ];
				const focused = document.activeElement;
				show(connect, connects);
				show(disconnect, ends);
				if (focused == connect && !connects)
					disconnect.focus();
				else if (focused == disconnect && !ends)
					connect.focus();
				show(hosts, up);
			}
		};
	},

	access(peer, now) {
		const share = htip.sharing(now), failing = htip.failing();
		const mine = htip.dialog(_('Access'), [
			el('p', {}, _('This is about %s. The tunnel stays up; what is taken away stops at once.').format(peer)),
			share.node, failing.node
		], [
			htip.closeButton(), ' ',
			htip.button(_('Save'), 'positive', () => failing.during(() => bus.access(peer, share.value()).then(reply => {
				htip.closeDialog(mine);
				if (reply.nowhere?.length)
					htip.said(_('Saved. No device of the shared networks is known as %s, so that opens nothing now.').format(reply.nowhere.join(', ')));
				return this.refresh(peer);
			})))
		]);
	}
});
