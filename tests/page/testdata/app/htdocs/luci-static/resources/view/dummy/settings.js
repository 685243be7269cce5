'use strict';
'require view';
'require form';

return view.extend({
	render() {
		const m = new form.Map('htip', _('Settings'), _('What this home is called, and which homes it knows.'));
		let o;

		const s = m.section(form.NamedSection, 'main', 'htip', _('This home'));
		s.tab('general', _('General'));
		s.tab('more', _('More'));
		o = s.taboption('general', form.Flag, 'enabled', _('Enabled'));
		o.rmempty = false;
		o = s.taboption('general', form.Value, 'domain', _('Domain'), _('The public name of this router.'));
		o.datatype = 'hostname';
		o.rmempty = false;
		o = s.taboption('general', form.ListValue, 'log_level', _('Log level'));
		o.value('info', _('normal'));
		o.value('debug', _('much'));
		o.default = 'info';
		o = s.taboption('general', form.Value, 'mtu', _('MTU'));
		o.datatype = 'range(576,1500)';
		o.depends('log_level', 'debug');
		o = s.taboption('more', form.DynamicList, 'network', _('Networks'));
		o.datatype = 'cidr4';
		o.placeholder = '192.168.1.0/24';
		o = s.taboption('more', form.Value, 'pool', _('Pool'));
		o.value('10.0.0.0/8');
		o.value('172.16.0.0/12', _('the smaller one'));

		const g = m.section(form.GridSection, 'peer', _('Homes'));
		g.addremove = true;
		g.addbtntitle = _('Add a home');
		g.modaltitle = sid => _('Home %s').format(sid);
		o = g.option(form.Value, 'domain', _('Domain'));
		o.datatype = 'hostname';
		o = g.option(form.Value, 'port', _('Port'));
		o.datatype = 'port';
		o.placeholder = '4847';
		o = g.option(form.Value, 'key', _('Key'));
		o.modalonly = true;
		o.validate = (sid, v) => v == '' || v.length == 44 || _('A key has 44 characters.');
		o = g.option(form.MultiValue, 'protocols', _('Protocols'));
		o.modalonly = true;
		o.value('wireguard', 'WireGuard');
		o.value('l2tp', 'L2TP');

		return m.render();
	},
});
