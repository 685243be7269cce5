'use strict';
'require view';
'require rpc';
'require poll';
'require ui';

const callStatus = rpc.declare({ object: 'htip', method: 'status' });
const callConnect = rpc.declare({ object: 'htip', method: 'connect', params: [ 'peer' ], reject: true });
const callKey = rpc.declare({ object: 'htip', method: 'key' }); // not among the rights
const callNothing = rpc.declare({ object: 'htip', method: 'connect', params: [ 'peer' ], expect: { state: 'none' } });

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return callStatus();
	},

	render(status) {
		const table = E('table', { 'class': 'table' }, [
			E('tr', { 'class': 'tr table-titles' }, [ E('th', { 'class': 'th' }, [ _('Home') ]), E('th', { 'class': 'th' }, [ _('State') ]), E('th', { 'class': 'th' }, [ '\u00a0' ]) ]),
		]);
		const fill = s => cbi_update_table(table, s.tunnels.map(t => [ t.peer, t.state, E('button', {
			'class': 'btn cbi-button cbi-button-action',
			'disabled': L.hasViewPermission() ? null : true,
			'click': ui.createHandlerFn(this, 'handleConnect', t.peer),
		}, [ _('Connect') ]) ]), E('em', [ _('There are no homes.') ]));
		fill(status);
		poll.add(() => callStatus().then(fill), 1);
		return E([], [
			E('h2', [ _('Tunnels') ]),
			E('p', { 'id': 'count' }, [ N_(status.tunnels.length, '%d home', '%d homes').format(status.tunnels.length) ]),
			table,
			E('button', { 'class': 'btn', 'id': 'forbidden', 'click': ui.createHandlerFn(this, () => callKey().then(
				() => ui.addNotification(null, E('p', [ _('allowed') ])),
				e => ui.addNotification(null, E('p', [ e.message ]), 'warning'))) }, [ _('Ask for the key') ]),
			E('button', { 'class': 'btn', 'id': 'unknown', 'click': ui.createHandlerFn(this, () => callNothing('nobody').then(
				state => ui.addNotification(null, E('p', { 'id': 'state' }, [ state ])))) }, [ _('Ask for nobody') ]),
			E('p', { 'class': 'untranslated' }, [ 'untranslated text' ]),
		]);
	},

	handleConnect(peer) {
		return callConnect(peer).catch(e => ui.showModal(_('Not connected'), [
			E('p', [ e.message ]),
			E('div', { 'class': 'right' }, [ E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Close') ]) ]),
		]));
	},
});
