'use strict';
'require view';
'require htip.common as htip';

const { el, bus, show, setText } = htip;

/* A list that a phone can draw; the filter finds the rest. */
const MOST = 300;

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	render() {
		this.body = el('tbody', {});
		this.table = htip.list([ _('Home'), _('Name'), _('Address to use here'), '' ], this.body);
		this.filter = htip.textInput({ 'type': 'search', 'id': 'htip-filter' });
		this.filter.addEventListener('input', () => this.sift());
		this.status = el('p', { 'role': 'status', 'class': 'spinning' });
		this.errors = el('ul', {});
		this.again = htip.button(_('Ask again'), 'neutral', () => this.ask());
		/* Asked after the page is there: the answers come through the tunnels. */
		window.setTimeout(() => this.ask(), 0);
		return el('div', { 'class': 'htip' },
			el('h2', {}, _('Hosts')),
			el('div', { 'class': 'cbi-map-descr' }, _('Devices of the connected homes, by the names and addresses that work in this home.')),
			el('div', { 'class': 'htip-connect' }, el('label', { 'for': 'htip-filter' }, _('Show only')), this.filter, this.again),
			this.status, this.table, this.errors);
	},

	ask() {
		setText(this.status, _('Asking the other homes …'));
		this.status.classList.add('spinning');
		return bus.hosts().then(reply => this.update(reply.hosts || [], reply.errors || []), err => {
			setText(this.status, err.message);
		}).finally(() => this.status.classList.remove('spinning'));
	},

	update(hosts, errors) {
		hosts.sort((a, b) => a.peer.localeCompare(b.peer) || a.name.localeCompare(b.name));
		this.hosts = hosts;
		this.errors.replaceChildren(...errors.map(e => el('li', {}, e.error == 'not connected'
			? _('%s is not connected: its devices are not known now.').format(e.peer)
			: _('%s did not answer: %s').format(e.peer, e.error))));
		this.sift();
	},

	row(h) {
		const url = 'http://' + h.fqdn + '/';
		return el('tr', {},
			el('td', {}, h.peer),
			el('td', {}, el('span', { 'class': 'htip-mono' }, h.fqdn), ' ', htip.copyButton(h.fqdn, h.fqdn)),
			el('td', {}, el('span', { 'class': 'htip-mono' }, h.address), ' ', htip.copyButton(h.address, h.address)),
			el('td', { 'class': 'htip-actions' },
				el('a', { 'class': 'btn cbi-button', 'href': url, 'target': '_blank', 'rel': 'noreferrer noopener', 'aria-label': _('Open the web server of %s in a new tab').format(h.fqdn) }, _('Open', 'a page'))));
	},

	sift() {
		if (!this.hosts) /* not asked yet, or in vain: that is what stands there */
			return;
		const words = this.filter.value.toLowerCase().split(/\s+/).filter(w => w);
		const fitting = this.hosts.filter(h => {
			const text = [ h.peer, h.fqdn, h.address ].join(' ').toLowerCase();
			return words.every(w => text.includes(w));
		});
		htip.keep(this.body, fitting, () => fitting.slice(0, MOST).map(h => this.row(h)));
		show(this.table, fitting.length);
		setText(this.status, this.hosts.length
			? N_(fitting.length, '%d device', '%d devices').format(fitting.length) + (fitting.length > MOST ? ' ' + _('(the first %d are shown)').format(MOST) : '')
			: _('No devices are known. Connect to a home first; devices without a name are not listed.'));
	}
});
