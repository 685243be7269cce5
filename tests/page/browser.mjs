// A browser for flows: it logs in, opens pages, and takes everything that goes wrong
// on the way for an error unless a flow expects it.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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
 * config.netns names one. */
export function launch(config) {
	let executablePath = '/usr/bin/chromium';
	if (config.netns) {
		const wrapper = join(config.artifacts, 'chromium-in-namespace');
		writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec '${config.netns}' ${executablePath} "$@"\n`);
		chmodSync(wrapper, 0o755);
		executablePath = wrapper;
	}
	return chromium.launch({ executablePath, args: chromiumArgs });
}

// ubusErrors are the statuses that a page of ours has no business to get: an argument
// that is wrong, a method that is not there, a right that is missing.
const ubusErrors = [ 2, 3, 6 ];

/** Visit is one user's browser window at one home. */
export class Visit {
	static async open(browser, config, home, user) {
		const context = await browser.newContext({
			viewport: { width: 1280, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce', permissions: [ 'clipboard-read', 'clipboard-write' ],
		});
		const v = new Visit();
		Object.assign(v, { config, home, user, context, page: await context.newPage(), errors: [], expected: [], reading: [], requests: 0, bytes: 0 });
		v.page.setDefaultTimeout(15000);
		v.watch();
		return v;
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
			if (answer?.error)
				wrong(`call ${what}: error ${answer.error.code}: ${answer.error.message}`);
			else if (Array.isArray(answer?.result) && ubusErrors.includes(answer.result[0]))
				wrong(`call ${what}: status ${answer.result[0]}`);
		}
	}

	/** expect lets errors happen that a pattern fits. They must happen, too. */
	expect(pattern) {
		this.expected.push({ pattern, seen: false });
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

	url(path = '') {
		return `${this.home.url}/cgi-bin/luci/${path}`;
	}

	/** login goes to a page through the form that stands before it. */
	async login(path) {
		const before = this.errors.length;
		await this.page.goto(this.url(path));
		await this.page.locator('input[name=luci_username]').fill(this.user);
		await this.page.locator('input[name=luci_password]').fill(this.config.users[this.user]);
		await this.page.getByRole('button', { name: 'Log in' }).click();
		await this.loaded();
		// The form is shown with the status 403.
		this.errors.splice(before, Infinity, ...this.errors.slice(before).filter(t => !t.startsWith('HTTP 403: GET /cgi-bin/luci')));
	}

	/** goto opens a page of the app. */
	async goto(path) {
		await this.page.goto(this.url(path));
		await this.loaded();
	}

	/** loaded waits until the view is drawn. */
	async loaded() {
		await this.page.waitForFunction(() => {
			const view = document.querySelector('#view');
			return window.L?.loaded !== false && view && view.firstElementChild && !view.querySelector(':scope > .spinning');
		});
	}

	/** traffic is what went over the line since it was asked last. */
	traffic() {
		const t = { requests: this.requests, bytes: this.bytes };
		this.requests = this.bytes = 0;
		return t;
	}

	/** shot takes a picture into the folder of artifacts. */
	async shot(name) {
		mkdirSync(this.config.artifacts, { recursive: true });
		const path = join(this.config.artifacts, `${name}.png`);
		await this.page.screenshot({ path, fullPage: true, animations: 'disabled' });
		return path;
	}

	/** shots takes pictures in all widths, light and dark, and fails for a page that is
	 * wider than its window. */
	async shots(name) {
		const wide = [];
		for (const width of widths)
			for (const scheme of [ 'light', 'dark' ]) {
				await this.page.setViewportSize({ width, height: 900 });
				await this.page.emulateMedia({ colorScheme: scheme });
				await this.page.waitForFunction(dark => document.documentElement.dataset.darkmode == String(dark), scheme == 'dark');
				await this.shot(`${name}-${width}-${scheme}`);
				const over = await this.page.evaluate(overhang);
				if (over.length && scheme == 'light')
					wide.push(`${width} px: ${over.join(', ')}`);
			}
		await this.page.setViewportSize({ width: 1280, height: 900 });
		await this.page.emulateMedia({ colorScheme: 'light' });
		if (wide.length)
			throw new Error(`${name} is wider than its window:\n${wide.join('\n')}`);
	}

	/** axe looks for what people with other senses or tools would trip over, in a part of
	 * the page. What is serious or critical fails. */
	async axe(within = '#view', { disable = [] } = {}) {
		await this.page.addScriptTag({ path: createRequire(import.meta.url).resolve('axe-core/axe.min.js') });
		const found = await this.page.evaluate(async ([ within, disable ]) => {
			const rules = Object.fromEntries(disable.map(r => [ r, { enabled: false } ]));
			return (await window.axe.run(within, { rules, resultTypes: [ 'violations' ] })).violations
				.map(v => ({ id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => n.html.slice(0, 200)) }));
		}, [ within, disable ]);
		const bad = found.filter(v => v.impact == 'serious' || v.impact == 'critical');
		if (bad.length)
			throw new Error(`axe at ${this.page.url()}:\n${bad.map(v => `${v.id} (${v.impact}): ${v.help}\n  ${v.nodes.slice(0, 5).join('\n  ')}`).join('\n')}`);
	}

	/** untranslated is every text in a part of the page that did not go through _(), apart
	 * from data: strings and regular expressions. The page must be open in the pseudo
	 * language. */
	async untranslated(data = [], within = '#view') {
		const texts = await this.page.evaluate(unmarked, within);
		return texts.map(t => data.reduce((rest, d) => rest.replaceAll(d instanceof RegExp ? new RegExp(d.source, 'gu') : d, ' '), t).trim())
			.filter(t => /\p{L}/u.test(t));
	}

	/** tabTo presses Tab until something has the focus, and fails if that never comes or
	 * is not to be seen. */
	async tabTo(target, most = 80) {
		for (let i = 0; i < most; i++) {
			await this.page.keyboard.press('Tab');
			if (await target.evaluate(e => e === document.activeElement || e.contains(document.activeElement))) {
				if (!await this.page.evaluate(focusShows))
					throw new Error(`the focus does not show at ${await this.focused()}`);
				return;
			}
		}
		throw new Error(`${most} times Tab do not lead to ${target}; the focus is at ${await this.focused()}`);
	}

	/** focused tells what has the focus. */
	focused() {
		return this.page.evaluate(() => document.activeElement?.outerHTML.slice(0, 200) ?? 'nothing');
	}

	close() {
		return this.context.close();
	}
}

/** readAxeVersion is for the log: its findings change with it. */
export const axeVersion = JSON.parse(readFileSync(createRequire(import.meta.url).resolve('axe-core/package.json'))).version;

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

// focusShows tells whether what has the focus looks otherwise than without.
function focusShows() {
	const look = e => {
		const s = getComputedStyle(e), b = getComputedStyle(e, '::before');
		return [ s.outlineStyle, s.outlineWidth, s.outlineColor, s.boxShadow, s.borderColor, s.backgroundColor, s.textDecorationLine, b.boxShadow, b.borderColor ].join();
	};
	const e = document.activeElement, with_ = look(e);
	e.style.transition = 'none';
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
