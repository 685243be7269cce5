'use strict';

// The page's globals: translation, the formats of strings, E() and tables. They are
// there before anything else is loaded.

// TR holds the texts of the page's language by what they are in English, those that
// depend on a context behind it, plurals by their number.
window.TR ??= {};

const trKey = s => String(s).trim().replace(/[ \t\n]+/g, ' ');
const trContext = c => c != null ? trKey(c) + '\u0001' : '';

/** _ is a text in the language of the page. */
function _(text, context) {
	return TR[trContext(context) + trKey(text)] ?? text;
}

let pluralRule = null;

/** N_ is a text that depends on a number. */
function N_(n, one, many, context) {
	pluralRule ??= new Function('n', (TR[''] ?? 'nplurals=2; plural=(n != 1);').replace(/nplurals[^;]*;/, 'let plural; ') + 'return +plural');
	const which = pluralRule(n);
	return TR[trContext(context) + trKey(one) + '\u0002' + which] ?? (which ? many : one);
}

const escapes = { '&': '&#38;', '"': '&#34;', "'": '&#39;', '<': '&#60;', '>': '&#62;' };

// conversions are what may follow a percent sign; o has the width, padding and
// precision that stand between.
const conversions = {
	b: v => Math.floor(+v || 0).toString(2),
	c: v => String.fromCharCode(+v || 0),
	d: v => Math.floor(+v || 0).toFixed(0),
	f: (v, o) => o.precision == null ? String(+v || 0) : (+v || 0).toFixed(o.precision),
	h: v => escape(v, /[&"'<>]/g),
	j: v => String(v),
	m: (v, o) => sized(+v || 0, o.width ?? 1000, o.precision ?? 2),
	o: v => Math.floor(+v || 0).toString(8),
	q: v => escape(v, /["']/g),
	s: v => String(v),
	t: v => lasting(v || 0),
	u: v => (Math.floor(+v || 0) >>> 0).toFixed(0),
	x: v => Math.floor(+v || 0).toString(16),
	X: v => Math.floor(+v || 0).toString(16).toUpperCase(),
};

function escape(v, which) {
	return v == null || typeof v == 'object' || typeof v == 'function' ? '' : String(v).replace(which, c => escapes[c]);
}

function sized(v, base, digits) {
	const units = [ ' ', ' K', ' M', ' G', ' T', ' P', ' E' ];
	let i = 0;
	for (; i < units.length - 1 && v > base; i++)
		v /= base;
	return i ? v.toFixed(digits) + units[i] + (base == 1024 ? 'i' : '') : v + ' ';
}

function lasting(seconds) {
	const [ d, h, m, s ] = [ Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60 ];
	return (d ? `${d}d ` : '') + `${h}h ${m}m ${s}s`;
}

/** format puts arguments into a string, as C's printf. */
String.prototype.format = function(...args) {
	return this.replace(/%('.|0| )?(-)?(\d+)?(?:\.(\d+))?([%a-zA-Z])/g, (all, pad, left, width, precision, kind) => {
		if (kind == '%')
			return '%';
		if (!conversions[kind])
			return all;
		const o = { width: width && +width, precision: precision && +precision };
		const text = conversions[kind](args.shift(), o);
		const fill = pad ? pad.slice(-1) : ' ';
		if (kind == 'm' || !width)
			return text;
		return left ? text.padEnd(+width) : text.padStart(+width, fill);
	});
};

String.format = (text, ...args) => String(text).format(...args);

/** E makes an element. */
function E(...args) {
	return L.dom.create(...args);
}

const isElem = e => L.dom.elem(e);
const findParent = (node, selector) => L.dom.parent(node, selector);
const matchesElem = (node, selector) => L.dom.matches(node, selector);

/** cbi_update_table fills a table with rows, or shows that there are none. */
function cbi_update_table(table, rows, placeholder) {
	const node = isElem(table) ? table : document.querySelector(table);
	if (!node)
		return;
	let t = L.dom.findClassInstance(node);
	if (!(t instanceof L.ui.Table)) {
		t = new L.ui.Table(node);
		L.dom.bindClassInstance(node, t);
	}
	t.update(rows, placeholder);
}
