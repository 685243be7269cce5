'use strict';
'require view';
'require poll';
'require htip.common as htip';

const { el, svg, bus, show, setText } = htip;

/* Sizes in pixels; the drawing shrinks with the page, but its text is never below 11. */
const BOX = { w: 250, h: 62 }, GAP = 16, EDGE = 6;

/*
 * layout places the homes: on a wide page to the left and right of this home, on a narrow
 * one along a line below it. So there is room for the names of two homes and of thirty.
 * It returns the drawing's size, the place of this home and, for each other one, its place
 * and the way of its tunnel.
 */
function layout(count, wide) {
	if (!wide) {
		const here = { x: EDGE, y: EDGE }, trunk = EDGE + 14;
		const homes = Array.from({ length: count }, (_, i) => {
			const y = EDGE + (BOX.h + GAP) * (i + 1), middle = y + BOX.h / 2;
			return { x: EDGE + 40, y, path: 'M%d %dV%dQ%d %d %d %dH%d'.format(trunk, here.y + BOX.h, middle - 8, trunk, middle, trunk + 8, middle, EDGE + 40) };
		});
		return { w: EDGE * 2 + 40 + BOX.w, h: EDGE * 2 + (BOX.h + GAP) * (count + 1) - GAP, here, homes };
	}
	const w = 1000, perSide = Math.ceil(count / 2), h = Math.max(BOX.h, perSide * (BOX.h + GAP) - GAP) + EDGE * 2;
	const here = { x: (w - BOX.w) / 2, y: (h - BOX.h) / 2 };
	const homes = Array.from({ length: count }, (_, i) => {
		const right = i % 2, side = right ? Math.floor(count / 2) : perSide, row = Math.floor(i / 2);
		const x = right ? w - EDGE - BOX.w : EDGE, y = (h - side * (BOX.h + GAP) + GAP) / 2 + row * (BOX.h + GAP);
		const from = right ? here.x + BOX.w : here.x, to = right ? x : x + BOX.w, half = (from + to) / 2;
		return { x, y, path: 'M%d %dC%d %d %d %d %d %d'.format(from, h / 2, half, h / 2, half, y + BOX.h / 2, to, y + BOX.h / 2) };
	});
	return { w, h, here, homes };
}

/* cut shortens a text that would leave its box; the title has all of it. */
function cut(text, most) {
	return text.length > most ? text.slice(0, most - 1) + '…' : text;
}

function box(place, name, word, note, kind, here) {
	return svg('g', { 'data-kind': kind },
		svg('rect', { 'class': 'htip-box' + (here ? ' htip-here' : ''), 'x': place.x, 'y': place.y, 'width': BOX.w, 'height': BOX.h, 'rx': 7 }),
		svg('text', { 'class': 'htip-name', 'x': place.x + 12, 'y': place.y + 20 }, cut(name, 26)),
		svg('text', { 'class': 'htip-word', 'x': place.x + 12, 'y': place.y + 37 }, cut(word, 36)),
		svg('text', { 'class': 'htip-note', 'x': place.x + 12, 'y': place.y + 53 }, cut(note, 38)));
}

/* addresses is what a home's devices are called here: 192.168.1.x → 10.83.4.x. */
function addresses(t) {
	return (t.theirs || []).map(m => m.network == m.substitute ? htip.pattern(m.network) : htip.pattern(m.network) + ' → ' + htip.pattern(m.substitute)).join(', ');
}

const marks = { 'up': '● ', 'busy': '◐ ', 'bad': '✖ ', 'idle': '○ ' };

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return this.ask();
	},

	ask() {
		return bus.status().catch(err => ({ err }));
	},

	render(status) {
		this.banner = el('div', { 'class': 'alert-message warning htip-banner', 'role': 'alert' });
		this.drawing = el('div', {});
		this.nobody = el('p', { 'class': 'htip-dim' }, _('No other home is known here yet.'), ' ', el('a', { 'href': htip.page('overview') }, _('Connect to one')));
		this.narrow = window.matchMedia('(max-width: 700px)');
		this.narrow.addEventListener('change', () => this.update(this.status));
		this.update(status);
		poll.add(() => this.ask().then(s => this.update(s)), htip.EVERY);
		return el('div', { 'class': 'htip' },
			el('h2', {}, _('Map')),
			el('div', { 'class': 'cbi-map-descr' }, _('This home, the homes it knows, and the tunnels between them. Arrows show which addresses their devices have here.')),
			this.banner, this.nobody, this.drawing);
	},

	update(status) {
		show(this.banner, status?.err);
		if (status?.err) {
			setText(this.banner, _('%s This page goes on by itself.').format(status.err.message));
			if (!this.status)
				show(this.nobody, false);
			return;
		}
		if (!status)
			return;
		this.status = status;
		const homes = status.tunnels || [], wide = !this.narrow.matches;
		show(this.nobody, !homes.length);
		/* Drawn anew only when something has changed: the focus stays where it is. */
		const key = JSON.stringify([ wide, status.name, status.networks, homes.map(t => [ t.peer, t.state, t.reason, t.error, t.theirs, t.protocol, t.encrypted ]) ]);
		if (key == this.key)
			return;
		this.key = key;
		const focused = document.activeElement?.closest?.('.htip-map a')?.getAttribute('href');
		this.drawing.replaceChildren(this.draw(status, homes, wide));
		if (focused)
			[ ...this.drawing.querySelectorAll('a') ].find(a => a.getAttribute('href') == focused)?.focus();
	},

	draw(status, homes, wide) {
		const at = layout(homes.length, wide);
		const lines = svg('g', { 'aria-hidden': 'true' }), boxes = svg('g', {});
		homes.forEach((t, i) => {
			const [ kind, words ] = htip.state(t), place = at.homes[i], up = t.state == 'up';
			const word = marks[kind] + words + (up ? ', ' + htip.secure(t) : '');
			const note = addresses(t);
			const told = [ t.peer, words, up ? htip.secure(t) : '', ...htip.theirs(t) ].filter(s => s).join(', ');
			lines.append(svg('g', { 'data-kind': kind }, svg('path', { 'class': 'htip-line', 'd': place.path })));
			boxes.append(svg('a', { 'href': htip.page('overview') + '#htip-home-' + t.peer },
				svg('title', {}, told + (t.domain ? ' (' + t.domain + ')' : '')), box(place, t.peer, word, note, kind)));
		});
		boxes.append(box(at.here, status.name, _('this home'), (status.networks || []).map(htip.pattern).join(', '), '', true));
		const up = homes.filter(t => t.state == 'up').length;
		return svg('svg', {
			'class': 'htip-map', 'viewBox': '0 0 %d %d'.format(at.w, at.h), 'role': 'group', 'style': 'max-width:%dpx'.format(wide ? at.w * 1.2 : at.w * 1.3),
			'aria-label': N_(homes.length, '%d other home, %d connected', '%d other homes, %d connected').format(homes.length, up)
		}, lines, boxes);
	}
});
