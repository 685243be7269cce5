'use strict';
'require view';
'require poll';
'require htip.common as htip';

const { el, bus, show, setText } = htip;

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return Promise.all([ bus.users(), bus.peers() ]).then(([ users, peers ]) => ({ users: users.users || [], peers: peers.peers || [] }), err => ({ err }));
	},

	render(reply) {
		this.trouble = el('div', { 'class': 'alert-message warning htip-banner', 'role': 'alert' });
		this.body = el('tbody', {});
		this.nothing = el('p', { 'class': 'htip-dim' }, _('Nobody can come in from away yet.'));
		this.table = htip.list([ _('Name'), _('Address'), _('Last seen'), _('Reaches'), '' ], this.body);
		this.homes = el('div', {});
		this.rows = new Map();
		this.refresh = htip.newest(() => this.load(), reply => this.update(reply));
		const form = htip.readonly() ? null : this.form();
		this.update(reply);
		poll.add(() => this.refresh(), 5 * htip.EVERY);
		return el('div', { 'class': 'htip' },
			el('h2', { 'tabindex': -1 }, _('Phones')),
			el('div', { 'class': 'cbi-map-descr' }, _('Your phone or computer, away from home, reaches this home and, if you say so, the connected homes. It needs the app WireGuard.')),
			this.trouble, form,
			el('div', { 'class': 'cbi-section' }, el('h3', {}, _('Who may come in')), this.nothing, this.table));
	},

	form() {
		const name = htip.textInput({ 'maxlength': 63, 'placeholder': 'phone' }), failing = htip.failing();
		return el('div', { 'class': 'cbi-section htip-form' },
			el('h3', {}, _('Let a phone in')),
			htip.field(_('Name'), name, _('A word of a-z, 0-9 and hyphens.')),
			el('fieldset', { 'class': 'htip-sharing' }, el('legend', {}, _('May it reach other homes, too?')), this.homes),
			htip.inTheOpen(), failing.node,
			el('div', { 'class': 'htip-buttons' }, htip.button(_('Let it in'), 'action', () => failing.during(() => {
				if (name.value.trim() == '') {
					name.focus();
					throw new htip.Problem(_('Give it a name first, such as phone.'));
				}
				const homes = [ ...this.homes.querySelectorAll('input:checked') ].map(i => i.value);
				return bus.addUser(name.value.trim(), homes.length ? homes : undefined, true).then(made => {
					name.value = '';
					return htip.free().then(() => this.showConfig(made)).then(() => this.refresh());
				});
			}))));
	},

	showConfig(made) {
		const file = URL.createObjectURL(new Blob([ made.config ], { type: 'text/plain' })); /* until the dialog is closed */
		htip.dialog(_('Scan this with the app WireGuard'), [
			el('p', {}, _('In the app: "Add a tunnel", then "from QR code". It is shown this once, and kept nowhere; give it to nobody else.')),
			made.qr ? htip.qrCode(made.qr, _('QR code of the configuration')) : el('p', {}, _('It is too long for a QR code: take the file.')),
			el('details', {}, el('summary', {}, _('As text')), el('div', { 'class': 'htip-string', 'tabindex': 0, 'role': 'textbox', 'aria-readonly': 'true', 'aria-label': _('As text') }, made.config))
		], [
			htip.copyButton(made.config, _('the configuration')), ' ',
			el('a', { 'class': 'btn cbi-button', 'href': file, 'download': 'home.conf' }, _('Save as a file')), ' ',
			htip.closeButton(_('Close'))
		], () => URL.revokeObjectURL(file));
	},

	update(reply) {
		show(this.trouble, reply.err);
		if (reply.err) { /* what was known stays, if anything was */
			setText(this.trouble, reply.err.message);
			show(this.nothing, false);
			show(this.table, this.rows.size);
			return;
		}
		const ticked = [ ...this.homes.querySelectorAll('input:checked') ].map(i => i.value);
		const box = (value, label) => {
			const input = el('input', { 'type': 'checkbox', 'value': value, 'id': 'htip-to-' + value });
			input.checked = ticked.includes(value);
			return el('div', {}, input, ' ', el('label', { 'for': input.id }, label));
		};
		const homes = reply.peers.filter(p => p.enabled).map(p => p.peer);
		htip.keep(this.homes, homes, () => [ homes.map(h => box(h, h)), box('all', _('all homes, also those to come')) ]);
		show(this.nothing, !reply.users.length);
		show(this.table, reply.users.length);
		htip.renew(this.body, this.rows, reply.users, u => u.name, u => this.row(u.name));
	},

	row(name) {
		const address = el('td', { 'class': 'htip-mono' }), seen = el('td', {}), reaches = el('td', {});
		const node = el('tr', {}, el('td', {}, name), address, seen, reaches,
			el('td', { 'class': 'htip-actions' }, htip.readonly() ? null : htip.button(_('Remove'), 'negative',
				() => htip.confirmation(_('Remove this phone?'), name, _('What it has open stops at once. To let it in again, it has to scan a new code.'), _('Remove'),
					() => bus.removeUser(name), () => this.refresh()), { 'aria-label': _('Remove %s').format(name) })));
		return {
			node,
			update: u => {
				setText(address, u.address);
				setText(seen, u.seen_ago === undefined
					? _('not since the start')
					: _('%s ago, from %s; %s in, %s out').format(htip.duration(u.seen_ago), u.endpoint, htip.bytes(u.rx_bytes), htip.bytes(u.tx_bytes)));
				setText(reaches, [ _('this home'), ...(u.homes || []).map(h => h == 'all' ? _('all homes') : h) ].join(', '));
			}
		};
	}
});
