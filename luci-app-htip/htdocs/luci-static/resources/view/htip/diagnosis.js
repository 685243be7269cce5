'use strict';
'require view';
'require htip.common as htip';

const { el, bus, show, setText } = htip;

const levels = { 'ok': _('fine'), 'warn': _('to be considered'), 'bad': _('wrong') };

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	render() {
		this.status = el('p', { 'role': 'status', 'class': 'spinning' });
		this.list = el('ul', { 'class': 'htip-rows' });
		this.again = htip.button(_('Look again'), 'action', () => this.look());
		this.copy = htip.copyButton(() => this.report, _('the report'));
		show(this.copy, false);
		window.setTimeout(() => this.look(), 0);
		return el('div', { 'class': 'htip' },
			el('h2', {}, _('Diagnosis')),
			el('div', { 'class': 'cbi-map-descr' }, _('What is wrong with this home and its tunnels, and what to do about it. Nothing is changed. Whether your port is open from outside only another home can see: ask a friend to look at this page there.')),
			el('div', { 'class': 'htip-buttons', 'style': 'justify-content:flex-start' }, this.again, this.copy),
			this.status, this.list);
	},

	look() {
		setText(this.status, _('Looking; this takes up to 5 seconds …'));
		this.status.classList.add('spinning');
		return bus.doctor().then(reply => this.update(reply.rows || []), err => {
			this.list.replaceChildren();
			show(this.copy, false);
			setText(this.status, err.message);
		}).finally(() => this.status.classList.remove('spinning'));
	},

	update(rows) {
		/* What is wrong comes first. */
		const order = [ 'bad', 'warn', 'ok' ];
		const sorted = rows.map((r, i) => [ order.indexOf(r.level), i, r ]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(x => x[2]);
		const wrong = rows.filter(r => r.level == 'bad').length, warn = rows.filter(r => r.level == 'warn').length;
		setText(this.status, wrong
			? N_(wrong, '%d thing is wrong.', '%d things are wrong.').format(wrong)
			: warn ? _('Nothing is wrong. Some things are worth a look.') : _('Everything is fine.'));
		show(this.copy, true);
		this.report = rows.map(r => '%s %s%s'.format(r.level, r.text, r.advice ? '\n     -> ' + r.advice : '')).join('\n') + '\n';
		this.list.replaceChildren(...sorted.map(r => {
			const [ text, advice ] = htip.filled(r);
			return el('li', { 'data-level': r.level, 'data-id': r.id },
				el('span', { 'class': 'htip-offscreen' }, levels[r.level] + ': '), text.replace(/^./, c => c.toUpperCase()),
				advice ? el('p', { 'class': 'htip-advice htip-dim' }, _('What to do: %s').format(advice)) : null);
		}));
	}
});
