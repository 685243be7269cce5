'use strict';
'require baseclass';

// What may be typed into a field. A type is an expression such as
// or(port,range(1024,65535)).

const bytes = s => new Blob([ s ]).size;
const integer = s => /^-?\d+$/.test(s) ? +s : NaN;
const decimal = s => /^-?\d+(?:\.\d+)?$/.test(s) ? +s : NaN;

function ipv4(s) {
	const parts = /^\d{1,3}(\.\d{1,3}){3}$/.test(s) ? s.split('.').map(Number) : null;
	return parts?.every(n => n < 256) ? parts : null;
}

function ipv6(s) {
	const mapped = /^([0-9a-fA-F:]*:)(\d+\.\d+\.\d+\.\d+)$/.exec(s);
	if (mapped) {
		const v4 = ipv4(mapped[2]);
		if (!v4)
			return null;
		s = `${mapped[1]}${(v4[0] * 256 + v4[1]).toString(16)}:${(v4[2] * 256 + v4[3]).toString(16)}`;
	}
	const halves = s.split('::').map(h => h == '' ? [] : h.split(':'));
	const words = halves.flat();
	if (halves.length > 2 || !words.every(w => /^[0-9a-fA-F]{1,4}$/.test(w)) || (halves.length == 2 ? words.length > 7 : words.length != 8))
		return null;
	const gap = Array(8 - words.length).fill('0');
	return [ ...halves[0], ...gap, ...halves[1] ?? [] ].map(w => parseInt(w, 16));
}

const within = (n, low, high) => n >= low && n <= high;
const prefix = (s, most) => /^\d+$/.test(s) && within(+s, 0, most);

// address is an IP address, with a mask unless that is not wanted.
function address(s, parse, most, nomask) {
	const [ a, mask, more ] = s.split('/');
	if (more != null || !parse(a))
		return false;
	return mask == null || !nomask && (prefix(mask, most) || most == 32 && ipv4(mask) != null);
}

const cidr = (s, parse, most) => s.includes('/') && prefix(s.split('/')[1], most) && address(s, parse, most);

// types say of a value whether it is good, and what a good one is. Arguments of
// types are expressions, which say the same of a value.
const types = {
	string: [ () => true, () => '' ],
	integer: [ s => !isNaN(integer(s)), () => _('valid integer value') ],
	uinteger: [ s => integer(s) >= 0, () => _('positive integer value') ],
	float: [ s => !isNaN(decimal(s)), () => _('valid decimal value') ],
	ufloat: [ s => decimal(s) >= 0, () => _('positive decimal value') ],
	ipaddr: [ (s, nomask) => address(s, ipv4, 32, nomask) || address(s, ipv6, 128, nomask), nomask => nomask ? _('valid IP address') : _('valid IP address or prefix') ],
	ip4addr: [ (s, nomask) => address(s, ipv4, 32, nomask), nomask => nomask ? _('valid IPv4 address') : _('valid IPv4 address or network') ],
	ip6addr: [ (s, nomask) => address(s, ipv6, 128, nomask), nomask => nomask ? _('valid IPv6 address') : _('valid IPv6 address or prefix') ],
	cidr: [ s => cidr(s, ipv4, 32) || cidr(s, ipv6, 128), () => _('valid IPv4 or IPv6 CIDR') ],
	cidr4: [ s => cidr(s, ipv4, 32), () => _('valid IPv4 CIDR') ],
	cidr6: [ s => cidr(s, ipv6, 128), () => _('valid IPv6 CIDR') ],
	port: [ s => within(integer(s), 0, 65535), () => _('valid port value') ],
	portrange: [ s => {
		const [ low, high ] = s.split('-');
		return within(integer(low), 0, 65535) && (high == null || within(integer(high), +low, 65535));
	}, () => _('valid port or port range (port1-port2)') ],
	hostname: [ (s, strict) => s.length <= 253 && !(strict && s[0] == '_') &&
		(/^\w+$/.test(s) || /^\w[\w.-]*[a-zA-Z0-9]\.?$/.test(s) && /[^0-9.]/.test(s)), () => _('valid hostname') ],
	host: [ (s, v4) => types.hostname[0](s) || address(s, ipv4, 32, true) || v4 != 1 && address(s, ipv6, 128, true), () => _('valid hostname or IP address') ],
	hostport: [ (s, v4) => {
		const [ host, port, more ] = s.split(':');
		return more == null && port != null && types.host[0](host, v4) && types.port[0](port);
	}, () => _('valid host:port') ],
	macaddr: [ s => /^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(s), () => _('valid MAC address') ],
	uciname: [ s => /^[a-zA-Z0-9_]+$/.test(s), () => _('valid UCI identifier') ],
	range: [ (s, low, high) => within(decimal(s), low, high), (low, high) => _('value between %f and %f').format(low, high) ],
	min: [ (s, low) => decimal(s) >= low, low => _('value greater or equal to %f').format(low) ],
	max: [ (s, high) => decimal(s) <= high, high => _('value smaller or equal to %f').format(high) ],
	length: [ (s, n) => bytes(s) == n, n => _('value with %d characters').format(n) ],
	rangelength: [ (s, low, high) => within(bytes(s), low, high), (low, high) => _('value between %d and %d characters').format(low, high) ],
	minlength: [ (s, n) => bytes(s) >= n, n => _('value with at least %d characters').format(n) ],
	maxlength: [ (s, n) => bytes(s) <= n, n => _('value with at most %d characters').format(n) ],
};

// combiners are types that have others as arguments. They say what is wrong, or
// null.
const combiners = {
	or: args => s => {
		const wrong = args.map(a => a(s));
		return wrong.includes(null) ? null : _('One of the following: %s').format(`\n - ${wrong.join('\n - ')}`);
	},
	and: args => s => args.map(a => a(s)).find(w => w != null) ?? null,
	neg: args => s => {
		const wrong = args[0](s.replace(/^[ \t]*![ \t]*/, ''));
		return wrong == null ? null : _('Potential negation of: %s').format(wrong);
	},
	list: args => s => (s.match(/\S+/g) ?? []).map(w => args[0](w)).find(w => w != null) ?? null,
};

// literal is an argument that stands for itself: as a type it is the one good value.
function literal(v) {
	return Object.assign(s => s == v ? null : `"${v}"`, { literal: v });
}

// compile makes an expression a function that says what is wrong with a value, or
// null.
function compile(code) {
	const token = /\s*(?:"([^"]*)"|'([^']*)'|([^\s(),"']+)|([(),]))/y;
	const next = () => {
		const m = token.exec(code);
		return m && { text: m[1] ?? m[2] ?? m[3] ?? m[4], quoted: (m[1] ?? m[2]) != null, mark: m[4] };
	};
	const peek = () => {
		const at = token.lastIndex, t = next();
		token.lastIndex = at;
		return t;
	};
	const expression = () => {
		const t = next();
		if (!t || t.mark)
			L.raise('SyntaxError', 'Unhandled token "%s"', t?.text);
		if (t.quoted || t.text !== '' && !isNaN(t.text))
			return literal(t.quoted ? t.text : +t.text);
		const args = [];
		if (peek()?.mark == '(') {
			for (next(); peek() && peek().mark != ')';)
				if (peek().mark == ',')
					next();
				else
					args.push(expression());
			next();
		}
		if (combiners[t.text])
			return combiners[t.text](args);
		if (!types[t.text])
			L.raise('SyntaxError', 'Unhandled token "%s"', t.text);
		const [ good, words ] = types[t.text];
		const values = args.map(a => a.literal);
		return s => good(s, ...values) ? null : words(...values);
	};
	return expression();
}

return baseclass.extend({
	/** create watches a field. validate() marks the field, tells by an event, and
	 * returns whether the value is good. extra is one more check, which returns true or
	 * what is wrong. */
	create(field, type, optional, extra) {
		const check = compile(type);
		return {
			validate() {
				if (!field.closest('body') && !field.closest('[data-field]'))
					return true;
				const value = field.value ?? '';
				let wrong = value == '' ? (optional ? null : _('non-empty value')) : check(value);
				if (wrong != null)
					wrong = _('Expecting: %s').format(wrong);
				else if (typeof extra == 'function' && extra(value) !== true)
					wrong = extra(value);
				field.classList.toggle('cbi-input-invalid', wrong != null);
				if (wrong == null) {
					field.removeAttribute('data-tooltip');
					field.removeAttribute('data-tooltip-style');
					field.dispatchEvent(new CustomEvent('validation-success', { bubbles: true }));
					return true;
				}
				field.setAttribute('data-tooltip', wrong);
				field.setAttribute('data-tooltip-style', 'error');
				field.dispatchEvent(new CustomEvent('validation-failure', { bubbles: true, detail: { message: wrong } }));
				return false;
			},
		};
	},

	parseIPv4: ipv4,
	parseIPv6: ipv6,
	parseInteger: integer,
	parseDecimal: decimal,
});
