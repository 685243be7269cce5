// A browser for flows: it logs in, opens pages, and takes everything that goes wrong
// on the way for an error unless a flow expects it.

import { chmodSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const chromiumArgs = [
	'--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
	'--disable-component-update', '--disable-sync',
];

/** widths are those of a phone, a tablet and a desk, in pixels. */
export const widths = [ 360, 768, 1280 ];

/** launch starts a browser with a profile of its own; in a network namespace when
 * the home has one. */
export function launch(config, home = {}) {
	let executablePath = '/usr/bin/chromium';
	if (home.netns) {
		/* ip gives what it starts mounts of its own. */
		const wrapper = join(config.artifacts, `chromium-in-${home.netns}`);
		writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec '${home.netns}' sh -c 'mount --bind "$0" /etc/resolv.conf && exec ${executablePath} "$@"' '${home.resolv}' "$@"\n`);
		chmodSync(wrapper, 0o755);
		executablePath = wrapper;
	}
	return chromium.launch({ executablePath, args: chromiumArgs });
}

// notThere is the error for an object that is not on the bus: its daemon does not run.
const notThere = -32000;

// ubusErrors are the statuses that a page of ours has no business to get: an argument
// that is wrong, a method that is not there, a right that is missing.
const ubusErrors = [ 2, 3, 6 ];

/** Visit is a user's browser window at one home. Flows get one of root at each home. */
export class Visit {
	static async open(browser, config, home, user) {
		const context = await browser.newContext({
			viewport: { width: 1280, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce', locale: 'en-GB', permissions: [ 'clipboard-read', 'clipboard-write' ],
		});
		const v = new Visit();
		Object.assign(v, { browser, config, home, user, context, page: await context.newPage(), reading: [], others: [] });
		v.page.setDefaultTimeout(config.timeout ?? 45000);
		v.begin();
		v.watch();
		return v;
	}

	/** begin forgets what went wrong so far. */
	begin() {
		Object.assign(this, { errors: [], expected: [], requests: 0, bytes: 0 });
	}

	// watch collects what goes wrong, and counts what goes over the line.
	watch() {
		const { page } = this;
		const wrong = text => this.errors.push(text);
		page.on('pageerror', e => wrong(`page error: ${e.stack ?? e}`));
		page.on('console', m => {
			// Of a failed request the browser tells without its status: see below.
			if (m.type() == 'error' && !m.text().startsWith('Failed to load resource'))
				wrong(`console: ${m.text()}`);
		});
		// Leaving a page ends its requests.
		page.on('requestfailed', r => r.failure()?.errorText == 'net::ERR_ABORTED' || wrong(`request failed: ${r.method()} ${r.url()}: ${r.failure()?.errorText}`));
		page.on('requestfinished', async r => {
			const s = await r.sizes().catch(() => null); // the window was closed
			this.requests++;
			this.bytes += s ? s.responseBodySize + s.responseHeadersSize + s.requestBodySize + s.requestHeadersSize : 0;
		});
		page.on('response', r => {
			const url = new URL(r.url());
			if (r.status() >= 400)
				wrong(`HTTP ${r.status()}: ${r.request().method()} ${url.pathname}`);
			else if (url.pathname == '/ubus/' && r.request().method() == 'POST')
				// A page that was left takes its answers with it.
				this.reading.push(r.json().then(answers => this.watchCalls(r.request().postDataJSON(), answers, wrong), () => {}));
		});
	}

	watchCalls(asked, answers, wrong) {
		const pairs = Array.isArray(asked) ? asked.map((a, i) => [ a, answers?.[i] ]) : [ [ asked, answers ] ];
		for (const [ a, answer ] of pairs) {
			const what = `${a?.params?.[1]}.${a?.params?.[2]}`;
			if (answer?.error?.code && answer.error.code != notThere)
				wrong(`call ${what}: error ${answer.error.code}: ${answer.error.message}`);
			else if (Array.isArray(answer?.result) && ubusErrors.includes(answer.result[0]))
				wrong(`call ${what}: status ${answer.result[0]}`);
		}
	}

	/** expect lets errors happen that a pattern fits. They must happen, too. */
	expect(pattern) {
		this.expected.push({ pattern, seen: false });
	}

	/** forgive lets errors happen that a pattern fits, or not. */
	forgive(pattern) {
		this.expected.push({ pattern, seen: true });
	}

	/** check throws if something went wrong so far that was not expected. */
	async check() {
		await Promise.all(this.reading);
		const bad = this.errors.filter(text => {
			const fits = this.expected.filter(e => e.pattern.test(text));
			fits.forEach(e => { e.seen = true; });
			return !fits.length;
		});
		const missing = this.expected.filter(e => !e.seen);
		if (bad.length)
			throw new Error(`${this.user} at ${this.home.name}:\n${bad.join('\n')}`);
		if (missing.length)
			throw new Error(`expected and did not happen: ${missing.map(e => e.pattern).join(', ')}`);
	}

	/** url is the address of a view of the app. */
	url(view = '', lang) {
		return `${this.home.url}/cgi-bin/luci/${this.config.app}/${view}${lang ? `?lang=${lang}` : ''}`;
	}

	/** go opens a view, after a login if there is none yet. */
	async go(view, lang) {
		const before = this.errors.length;
		await this.page.goto(this.url(view, lang));
		const name = this.page.locator('input[name=luci_username]');
		if (await name.count()) {
			await name.fill(this.user);
			await this.page.locator('input[name=luci_password]').fill(this.config.users[this.user]);
			await this.page.getByRole('button', { name: 'Log in' }).click();
			await name.waitFor({ state: 'detached' });
			// The form is shown with the status 403.
			this.errors.splice(before, Infinity, ...this.errors.slice(before).filter(t => !t.startsWith('HTTP 403: GET /cgi-bin/luci')));
		}
		await this.loaded();
	}

	/** loaded waits until the view is drawn. */
	async loaded() {
		await this.page.waitForFunction(() => {
			const view = document.querySelector('#view');
			return window.L?.loaded && view?.firstElementChild && !view.querySelector(':scope > .spinning');
		});
	}

	/** visit is another user's window at this home; it ends with the flow. */
	async visit(user) {
		const v = await Visit.open(this.browser, this.config, this.home, user);
		this.others.push(v);
		return v;
	}

	/** visitor is the page of somebody who may only look. */
	async visitor() {
		const v = await Visit.open(this.browser, this.config, this.home, 'guest');
		await v.go('');
		return v.page;
	}

	/** control does to the home what no page can do: see Control in page.go. */
	async control(action) {
		const res = await fetch(`${this.home.control}/${action}`, { method: 'POST' });
		if (!res.ok)
			throw new Error(`control ${action}: ${await res.text()}`);
	}

	/** traffic is what went over the line since it was asked last. */
	traffic() {
		const t = { requests: this.requests, bytes: this.bytes };
		this.requests = this.bytes = 0;
		return t;
	}

	/** picture takes one into the folder of artifacts. */
	async picture(name) {
		const path = join(this.config.artifacts, `${this.home.name}-${name}.png`.replace(/[^\w.-]+/g, '-'));
		await this.page.screenshot({ path, fullPage: true, animations: 'disabled' });
		return path;
	}

	/** shot takes pictures in all widths, light and dark. */
	async shot(name) {
		for (const width of widths)
			for (const scheme of [ 'light', 'dark' ]) {
				await this.look(width, scheme);
				await this.picture(`${name}-${width}-${scheme}`);
			}
		await this.look(1280, 'light');
	}

	// look makes the window of a size, and the page light or dark.
	async look(width, scheme) {
		await this.page.setViewportSize({ width, height: 900 });
		await this.page.emulateMedia({ colorScheme: scheme });
		await this.page.waitForFunction(dark => document.documentElement.dataset.darkmode == String(dark), scheme == 'dark');
	}

	/** fits finds what makes a page wider than a phone. */
	async fits(name) {
		await this.page.setViewportSize({ width: 360, height: 900 });
		await this.page.waitForTimeout(100);
		const over = await this.page.evaluate(overhang);
		if (over.length) {
			await this.picture(`too-wide-${name}`);
			this.errors.push(`${name} is wider than 360 px: ${over.join(', ')}`);
		}
		await this.page.setViewportSize({ width: 1280, height: 900 });
	}

	/** axe looks for what people with other senses or tools would trip over, in the view or
	 * in the dialog before it, light and dark. What is serious or critical is an error,
	 * unless it is within a widget of LuCI's, about which an app can do nothing; and of
	 * colours only on our own theme. */
	async axe(name) {
		await this.page.addScriptTag({ path: library('axe-core/axe.min.js') });
		for (const scheme of [ 'light', 'dark' ]) {
			await this.look(1280, scheme);
			const bad = await this.page.evaluate(async off => {
				const include = [ [ document.body.matches('.modal-overlay-active') ? '.modal' : '#view' ] ];
				const exclude = [ '.cbi-checkbox', '.cbi-dropdown', '.cbi-dynlist', '.cbi-section-create', '.cbi-page-actions' ].map(s => [ s ]);
				const rules = Object.fromEntries(off.map(r => [ r, { enabled: false } ]));
				return (await window.axe.run({ include, exclude }, { rules, resultTypes: [ 'violations' ] })).violations
					.filter(v => v.impact == 'serious' || v.impact == 'critical')
					.map(v => `${v.id} (${v.impact}): ${v.help}\n  ${v.nodes.slice(0, 5).map(n => `${n.html.slice(0, 200)} ${n.any[0]?.message ?? ''}`).join('\n  ')}`);
			}, this.config.luci ? [ 'color-contrast', 'link-in-text-block' ] : []);
			this.errors.push(...bad.map(text => `axe, ${name}, ${scheme}: ${text}`));
		}
		await this.look(1280, 'light');
	}

	/** focused tells what has the focus. */
	focused() {
		return this.page.evaluate(() => document.activeElement?.outerHTML.slice(0, 200) ?? 'nothing');
	}

	async close() {
		await Promise.all(this.others.map(v => v.close()));
		await this.context.close();
	}
}

const library = name => createRequire(import.meta.url).resolve(name);

/** untranslated is every text of a view that did not go through _(), apart from data:
 * strings, and regular expressions. The page must be open in the pseudo language. */
export async function untranslated(page, data = [], within = '#view') {
	const texts = await page.evaluate(unmarked, within);
	const known = data.filter(d => d instanceof RegExp).map(d => new RegExp(d.source, 'gu'))
		.concat(data.filter(d => typeof d == 'string').sort((a, b) => b.length - a.length));
	return texts.map(t => known.reduce((rest, d) => rest.replaceAll(d, ' '), t).trim()).filter(t => /\p{L}/u.test(t));
}

/** reach presses Tab until something whose name is, or ends with, this has the focus, and fails if that never
 * comes, or is not to be seen. */
export async function reach(page, name, most = 80) {
	const seen = [];
	for (let i = 0; i < most; i++) {
		await page.keyboard.press('Tab');
		const at = await page.evaluate(focusName);
		if (at == name || at.endsWith(` ${name}`)) {
			if (!await page.evaluate(focusShows))
				throw new Error(`the focus does not show at ${name}`);
			return;
		}
		seen.push(at);
	}
	throw new Error(`${most} times Tab do not lead to ${name}, but to ${[ ...new Set(seen) ].join(', ')}`);
}

/** readCode reads a QR code off the page, as a phone's camera would. */
export async function readCode(locator) {
	const picture = (await locator.screenshot()).toString('base64');
	const page = locator.page();
	await page.addScriptTag({ path: library('jsqr/dist/jsQR.js') });
	const text = await page.evaluate(async picture => {
		const image = new Image();
		image.src = `data:image/png;base64,${picture}`;
		await image.decode();
		const canvas = new OffscreenCanvas(image.width * 2, image.height * 2), c = canvas.getContext('2d');
		c.imageSmoothingEnabled = false;
		c.drawImage(image, 0, 0, canvas.width, canvas.height);
		return window.jsQR(c.getImageData(0, 0, canvas.width, canvas.height).data, canvas.width, canvas.height)?.data;
	}, picture);
	if (!text)
		throw new Error('the code can not be read');
	return text;
}

/** apply saves a page's form, puts it into force, and waits until the page is there
 * again. */
export async function apply(visit) {
	const again = visit.page.waitForEvent('load', { timeout: 60000 });
	await visit.page.locator('.cbi-page-actions .cbi-button-apply').click({ position: { x: 30, y: 10 } });
	await again;
	await visit.loaded();
}

// The functions from here on run in the page.

// overhang names what sticks out of the window to the right.
function overhang() {
	if (document.documentElement.scrollWidth <= window.innerWidth)
		return [];
	return [ ...document.querySelectorAll('#maincontent *') ]
		.filter(e => e.getBoundingClientRect().right > window.innerWidth + 1)
		.map(e => `${e.tagName.toLowerCase()}${e.id ? `#${e.id}` : ''}${[ ...e.classList ].map(c => `.${c}`).join('')}`)
		.slice(0, 5);
}

// focusName is what a reader would call that which has the focus.
function focusName() {
	const e = document.activeElement;
	const labels = [ ...e.labels ?? [] ].map(l => l.textContent).join(' ');
	return (e.getAttribute('aria-label') ?? (labels || e.textContent || e.title || e.tagName)).trim();
}

// focusShows tells whether what has the focus looks otherwise than without.
function focusShows() {
	const look = e => {
		const s = getComputedStyle(e), b = getComputedStyle(e, '::before');
		return [ s.outlineStyle, s.outlineWidth, s.outlineColor, s.boxShadow, s.borderColor, s.backgroundColor, s.textDecorationLine, b.boxShadow, b.borderColor ].join();
	};
	const e = document.activeElement;
	e.style.transition = 'none'; /* or it would look as before for a moment */
	const with_ = look(e);
	e.blur();
	const without = look(e);
	e.focus();
	return with_ != without;
}

// unmarked is every text that can be seen, or read out, outside of ⟦ and ⟧. A text may
// go over several nodes, but not out of the block that it began in.
function unmarked(within) {
	const blocks = 'p,div,li,td,th,tr,table,h1,h2,h3,h4,h5,label,option,button,pre,dt,dd,ul,ol,section,summary,text,title';
	const out = [];
	const root = document.querySelector(within);
	const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
	let block = null, depth = 0;
	for (let node; (node = walk.nextNode());) {
		const parent = node.parentElement;
		if (parent.closest('script, style, [aria-hidden="true"]') || !parent.checkVisibility({ visibilityProperty: true }) && parent.tagName != 'OPTION')
			continue;
		if (parent.closest(blocks) !== block)
			[ block, depth ] = [ parent.closest(blocks), 0 ];
		let rest = '';
		for (const c of node.data)
			if (c == '⟦')
				depth++;
			else if (c == '⟧')
				depth = Math.max(0, depth - 1);
			else if (!depth)
				rest += c;
		if (rest.trim())
			out.push(rest.trim());
	}
	for (const e of [ root, ...root.querySelectorAll('*') ])
		for (const name of [ 'title', 'placeholder', 'aria-label', 'aria-description', 'alt', 'data-tooltip', 'data-title' ]) {
			const rest = (e.getAttribute(name) ?? '').replace(/⟦[^]*⟧/g, '').trim();
			if (rest)
				out.push(rest);
		}
	return out;
}
