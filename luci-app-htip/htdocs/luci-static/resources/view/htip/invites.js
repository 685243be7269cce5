'use strict';
'require view';
'require poll';
'require htip.common as htip';

const { el, bus, show, setText } = htip;

const states = {
	'open': _('open'),
	'claimed': _('being used'),
	'used': _('used'),
	'cancelled': _('cancelled'),
	'expired': _('expired')
};

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return bus.invites().catch(err => ({ err }));
	},

	render(reply) {
		this.body = el('tbody', {});
		this.trouble = el('div', { 'class': 'alert-message warning htip-banner', 'role': 'alert' });
		this.nothing = el('p', { 'class': 'htip-dim' }, _('No invites have been made.'));
		this.table = htip.list([ _('Number'), _('For'), _('State'), _('May reach here'), '' ], this.body);
		this.refresh = htip.newest(() => this.load(), answer => this.update(answer));
		this.update(reply);
		poll.add(() => this.refresh(), 5 * htip.EVERY);
		return el('div', { 'class': 'htip' },
			el('h2', { 'tabindex': -1 }, _('Invites')),
			el('div', { 'class': 'cbi-map-descr' }, _('An invite lets one home in, once. Send it by a messenger or let the other home scan it; then nobody has to approve anything.')),
			this.trouble,
			htip.readonly() ? null : this.form(),
			el('div', { 'class': 'cbi-section' }, el('h3', {}, _('Invites of this home')), this.nothing, this.table));
	},

	form() {
		const name = htip.textInput({ 'maxlength': 63, 'placeholder': 'bob' });
		const expires = el('select', { 'class': 'cbi-input-select' },
			[ [ 3600, _('1 hour') ], [ 86400, _('1 day') ], [ 604800, _('1 week') ], [ 2592000, _('30 days') ] ].map(([ s, label ]) => el('option', { 'value': s, 'selected': s == 86400 ? '' : null }, label)));
		const share = htip.sharing(), failing = htip.failing();
		return el('div', { 'class': 'cbi-section htip-form' },
			el('h3', {}, _('Invite a home')),
			htip.field(_('What to call it here'), name, _('A short word, such as bob. Empty: the first part of its public name.')),
			htip.field(_('Good for'), expires),
			share.node, htip.inTheOpen(), failing.node,
			el('div', { 'class': 'htip-buttons' }, htip.button(_('Make an invite'), 'action', () => failing.during(() =>
				bus.invite(name.value.trim() || undefined, share.wanted(), +expires.value, true).then(made => {
					name.value = '';
					return htip.free().then(() => this.showInvite(made)).then(() => this.refresh());
				})))),
			el('p', { 'class': 'htip-dim' }, _('Have you got an invite?'), ' ', el('a', { 'href': htip.page('overview') + '#htip-connect' }, _('Accept it on the overview'))));
	},

	showInvite(made) {
		htip.dialog(_('The invite'), [
			el('p', {}, _('It is shown this once. Give it to nobody but the other home: who gets hold of it first is in.')),
			made.qr ? htip.qrCode(made.qr, _('QR code of the invite')) : null,
			el('div', { 'class': 'htip-string', 'tabindex': 0, 'role': 'textbox', 'aria-readonly': 'true', 'aria-label': _('The invite as text') }, made.invite),
			el('p', {}, _('Good until %s, for one home.').format(new Date(made.expires * 1000).toLocaleString()))
		], [
			htip.copyButton(made.invite, _('the invite')), ' ', htip.closeButton(_('Close'))
		]);
	},

	update(reply) {
		show(this.trouble, reply.err);
		if (reply.err) { /* what was known stays, if anything was */
			setText(this.trouble, reply.err.message);
			show(this.nothing, false);
			show(this.table, this.body.firstChild);
			return;
		}
		const list = reply.invites || [];
		show(this.nothing, !list.length);
		show(this.table, list.length);
		htip.keep(this.body, list.map(i => [ i.number, i.state, i.name, i.by, i.access, htip.duration(i.expires_in) ]), () => list.map(i => {
			let state = states[i.state] || i.state;
			if (i.state == 'open')
				state = _('%s, for another %s').format(state, htip.duration(i.expires_in));
			return el('tr', {},
				el('td', {}, i.number),
				el('td', {}, i.name || '—'),
				el('td', {}, state, i.by ? [ ' ', el('span', { 'class': 'htip-mono' }, _('by %s').format(i.by)) ] : null),
				el('td', {}, htip.reach(i.access)),
				el('td', { 'class': 'htip-actions' }, i.state == 'open' && !htip.readonly()
					? htip.button(_('Cancel'), 'negative', () => htip.confirmation(_('Cancel this invite?'), i.name ? '%d (%s)'.format(i.number, i.name) : '%d'.format(i.number), _('Who has it can not use it any more.'), _('Cancel the invite'),
						() => bus.cancelInvite(i.number), () => this.refresh()), { 'aria-label': _('Cancel invite %d').format(i.number) })
					: null));
		}));
	}
});
