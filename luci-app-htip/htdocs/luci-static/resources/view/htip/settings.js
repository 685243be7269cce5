'use strict';
'require view';
'require form';
'require uci';
'require htip.common as htip';

/*
 * The file /etc/config/htip. Most mistakes are told beside their fields; what only
 * src/config knows, such as networks that overlap, the overview shows afterwards.
 */

const { label, publicName } = htip;

function checkPublicName(section, value) {
	return value == '' || publicName(value) || _('a name on the Internet, such as bob.example.org');
}

function checkLabel(section, value) {
	return value == '' || label.test(value) || _('a word of letters, digits and hyphens');
}

function checkDomain(section, value) {
	return value == '' || value.split('.').every(p => label.test(p)) || _('one or more words of letters, digits and hyphens, with dots between them');
}

/* A prefix of addresses that hosts may have, of a length that the protocol takes. */
function checkPrefix(section, value) {
	const m = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(value);
	if (value == '')
		return true;
	if (!m || m.slice(1, 5).some(p => +p > 255) || +m[1] == 0 || +m[1] == 127 || +m[1] > 223)
		return _('a network, such as 192.168.1.0/24');
	return m[5] >= 8 && m[5] <= 30 || _('a network with a length of 8 to 30, such as 192.168.1.0/24');
}

function checkKey(section, value) {
	return /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(value) || _('the 44 characters that "htip key" prints on the other router');
}

/* hosts and ports: nas, nas:icmp, 192.168.1.20:tcp:445, tv:udp:5000-5010, router:tcp:22 */
function checkAccess(section, value) {
	const want = _('all, none, or a device and perhaps a service of it: nas, nas:tcp:445, 192.168.1.20:udp:5000-5010');
	const [ host, protocol, ports, more ] = value.split(':');
	if (value == '' || value == 'all' || value == 'none')
		return true;
	if (more !== undefined || !label.test(host) && !/^\d+(\.\d+){3}$/.test(host))
		return want;
	if (protocol === undefined || protocol == 'icmp')
		return ports === undefined || want;
	const m = /^(\d+)(?:-(\d+))?$/.exec(ports ?? '');
	if (protocol != 'tcp' && protocol != 'udp' || ports !== undefined && !m)
		return want;
	return !m || +m[1] >= 1 && +(m[2] ?? m[1]) >= +m[1] && +(m[2] ?? m[1]) <= 65535 || want;
}

function protocols(option) {
	option.value('wireguard', _('wireguard: encrypted, fast'));
	option.value('l2tp-esp', _('l2tp-esp: encrypted, slower'));
	option.value('l2tp', _('l2tp: NOT encrypted'));
	option.value('pptp', _('pptp: NOT safe, its encryption is broken'));
	option.validate = (section, value) => value == '' || [ 'wireguard', 'l2tp-esp', 'l2tp', 'pptp' ].includes(value) || _('wireguard, l2tp-esp, l2tp or pptp');
}

/* choice gives an option its default without writing it down: a later one then counts. */
function choice(option, value) {
	option.default = value;
	option.write = function(section, v) {
		return v == value ? this.remove(section) : form.ListValue.prototype.write.call(this, section, v);
	};
}

return view.extend({
	load() {
		/* For suggestions only: what mends a daemon that hangs must not wait for it. */
		const status = Promise.race([ htip.bus.statusAlone().catch(() => ({})), new Promise(resolve => window.setTimeout(resolve, 3000, {})) ]);
		return Promise.all([ uci.load('htip'), status ]);
	},

	render([ , status ]) {
		const m = new form.Map('htip', _('Settings'), _('What is left empty has its default. Most homes need no more than a public name.'));
		let o, s = m.section(form.NamedSection, 'main', 'htip', _('This home'));

		s.tab('general', _('General'));
		s.tab('networks', _('Networks'));
		s.tab('names', _('Names'));
		s.tab('tunnels', _('Tunnels'));

		o = s.taboption('general', form.Flag, 'enabled', _('Switched on'), _('Off: no tunnels, and nobody can ask for one.'));
		o.rmempty = false;

		o = s.taboption('general', form.Value, 'domain', _('Public name'), _('The name by which this router is found on the Internet. Without one this home can call others, but they can not call it.'));
		o.placeholder = 'alice.example.org';
		o.validate = checkPublicName;

		o = s.taboption('general', form.Value, 'name', _('Name'), _('What this home calls itself. Empty: the first part of its public name.'));
		o.validate = checkLabel;

		o = s.taboption('general', form.ListValue, 'accept', _('Who may ask for a tunnel'), _('Strangers wait in any case until somebody here approves. Nobody: tunnels are asked for from here only.'));
		o.value('ask', _('everybody'));
		o.value('known', _('known homes and invited ones'));
		o.value('none', _('nobody'));
		choice(o, 'ask');

		o = s.taboption('networks', form.DynamicList, 'interface', _('Shared interfaces'), _('Other homes reach the devices in these interfaces\' networks. Empty: lan.'));
		for (const l of status.lan || [])
			o.value(l.interface, '%s (%s)'.format(l.interface, l.network));
		o.placeholder = 'lan';
		o.datatype = 'uciname';

		o = s.taboption('networks', form.DynamicList, 'lan_device', _('Shared devices'), _('Instead of interfaces, the networks of these devices.'));
		o.placeholder = 'br-lan';

		o = s.taboption('networks', form.DynamicList, 'network', _('Shared networks'), _('Instead of both, just these networks.'));
		o.placeholder = '192.168.1.0/24';
		o.validate = checkPrefix;

		o = s.taboption('networks', form.Value, 'wan_device', _('Device towards the Internet'), _('Empty: wherever a default route leads; when one line is lost, tunnels move to the next.'));

		o = s.taboption('networks', form.DynamicList, 'pool', _('Substitute addresses'), _('Where homes appear that use the same addresses as this one. Empty: all private addresses.'));
		o.placeholder = '10.0.0.0/8';
		o.validate = checkPrefix;

		o = s.taboption('networks', form.ListValue, 'candidates', _('Their order'));
		o.value('derived', _('this router\'s own, so that homes rarely meet'));
		o.value('sequential', _('from the first one on'));
		choice(o, 'derived');

		o = s.taboption('names', form.Value, 'zone', _('Names of other homes end with'), _('Devices of bob are found as nas.bob.internal.'));
		o.placeholder = 'internal';
		o.validate = checkDomain;

		o = s.taboption('names', form.Value, 'lan_domain', _('Names in this home end with'));
		o.placeholder = 'lan';
		o.validate = checkDomain;

		o = s.taboption('tunnels', form.DynamicList, 'protocol', _('Protocols'), _('What tunnels are made of, best first. Empty: wireguard, l2tp-esp and, only with homes for which encryption is not required, l2tp.'));
		protocols(o);

		o = s.taboption('tunnels', form.Value, 'port', _('TCP port'), _('Where other homes call.'));
		o.placeholder = '4847';
		o.datatype = 'port';

		o = s.taboption('tunnels', form.Value, 'l2tp_port', _('First UDP port of tunnels'), _('64 ports from this one on are used by tunnels, the one before it by phones.'));
		o.placeholder = '17010';
		o.datatype = 'range(1024,65472)';

		o = s.taboption('tunnels', form.Value, 'mtu', _('Largest packet'), _('In bytes. Empty: what suits the protocol.'));
		o.placeholder = '1420';
		o.datatype = 'range(576,1462)';

		o = s.taboption('general', form.ListValue, 'log_level', _('Log'));
		o.value('debug', _('everything'));
		o.value('info', _('what happens'));
		o.value('warn', _('warnings'));
		o.value('error', _('errors only'));
		choice(o, 'info');

		s = m.section(form.GridSection, 'peer', _('Other homes'), _('Homes come here by themselves when they are connected, approved or invited. The overview shows how they are doing.'));
		s.anonymous = false;
		s.addremove = true;
		s.addbtntitle = _('Add a home by hand');
		s.sortable = false;
		s.nodescriptions = true;
		s.sectiontitle = section => uci.get('htip', section, 'name') || section;
		/* A title is HTML, and LuCI undoes what is escaped. */
		s.modaltitle = section => {
			const name = uci.get('htip', section, 'name');
			return _('Home %s').format(label.test(name ?? '') ? name : section);
		};

		o = s.option(form.Flag, 'enabled', _('Enabled'), _('Off: the other home is kept out.'));
		o.default = '1';
		o.editable = true;

		o = s.option(form.Value, 'name', _('Name'), _('What it is called here when that is not the name of its section.'));
		o.validate = checkLabel;
		o.modalonly = true;

		o = s.option(form.Value, 'domain', _('Public name'), _('Empty: only it can connect.'));
		o.placeholder = 'bob.example.org';
		o.validate = checkPublicName;

		o = s.option(form.Value, 'key', _('Key'), _('What "htip key" prints on its router.'));
		o.rmempty = false;
		o.modalonly = true;
		o.validate = checkKey;

		o = s.option(form.Flag, 'auto', _('Connect at start'));
		o.default = '0';

		o = s.option(form.ListValue, 'encryption', _('Encryption'), _('Not required: everybody on the way can read along.'));
		o.value('required', _('required'));
		o.value('off', _('not required'));
		choice(o, 'required');
		o.textvalue = function(sid) { /* a table would show the value as it is kept */
			return this.cfgvalue(sid) == 'off' ? _('not required') : _('required');
		};

		o = s.option(form.DynamicList, 'access', _('May reach here'), _('all, none, or devices and services, one an entry: nas, nas:tcp:445. Empty: all.'));
		o.placeholder = 'all';
		o.modalonly = true;
		o.validate = checkAccess;

		o = s.option(form.DynamicList, 'protocol', _('Protocols'), _('Only these with the other home, best first. Empty: those of this home.'));
		o.modalonly = true;
		protocols(o);

		o = s.option(form.Value, 'port', _('TCP port'));
		o.placeholder = '4847';
		o.datatype = 'port';
		o.modalonly = true;

		return m.render();
	}
});
