/*
 * What people do on the pages of luci-app-htip, by clicking as they do. The homes alice, bob
 * and carol are strangers at first. Each flow begins with what the one before has left. It
 * fails where something is not as people would expect.
 */
import assert from 'node:assert/strict';

const card = (home, peer) => home.page.getByRole('group', { name: `Home ${peer}`, exact: true });

/* connected waits until a card is green. */
async function connected(home, peer) {
	await home.page.locator(`#htip-home-${peer}[data-kind=up]`).waitFor({ timeout: 100_000 });
}

async function alert(home, text) {
	await home.page.getByRole('alert').filter({ hasText: text }).first().waitFor({ timeout: 60_000 });
}

/* copied presses a button that puts something into the clipboard, and says so: for 2 s, which a wait can miss, and aloud. */
async function copied(home, button, what) {
	await button.evaluate(b => {
		window.labels = [];
		new MutationObserver(() => window.labels.push(b.textContent)).observe(b, { childList: true });
	});
	await button.click();
	await home.page.getByRole('status').filter({ hasText: `Copied: ${what}` }).waitFor();
	assert.equal((await home.page.evaluate(() => window.labels))[0], 'Copied');
}

const name = home => home.page.getByLabel('Its public name, or an invite');
const connect = home => home.page.getByRole('button', { name: 'Connect', exact: true });

/* What was said is one sentence, and no code. */
async function sentence(locator) {
	const text = (await locator.textContent()).trim();
	assert.match(text, /[a-z]{3,}.*[.?!:a-zA-Z0-9)]$/s, text);
	assert.doesNotMatch(text, /ubus code|error -?\d|undefined|\[object|RPCError|XHR/i);
	return text;
}

export const flows = {
	/* The first thing that somebody sees who has installed the package. */
	async 'switch on'({ alice, say }) {
		await alice.control('off');
		await alice.go('overview');
		await alice.page.getByText('HTIP is switched off').waitFor();
		await alice.shot('switched-off');
		const domain = alice.page.getByLabel('Public name of this home');
		await domain.fill('not a name');
		await alice.page.getByRole('button', { name: 'Switch on' }).click();
		await alert(alice, 'This is no name on the Internet');
		await domain.fill('Alice.Example.org.');
		await alice.page.getByRole('button', { name: 'Switch on' }).click();
		await alice.page.getByText('This home', { exact: true }).waitFor();
		await alice.page.getByText('alice.example.org').first().waitFor();
		say('the daemon runs after one click');
	},

	/* A person connects two homes with the page alone. */
	async 'request and approve'({ alice, bob, say }) {
		await bob.go('overview');
		const his = await bob.page.locator('.htip-facts .htip-mono').textContent();
		await alice.go('overview');
		const hers = await alice.page.locator('.htip-facts .htip-mono').textContent();
		await name(alice).fill('bob.example.org');
		await connect(alice).click();
		const dialog = alice.page.getByRole('dialog');
		await dialog.getByText(his).waitFor();
		await alice.shot('compare');
		await alice.axe('compare');
		await dialog.getByRole('button', { name: 'It is the same: connect' }).click();
		await card(alice, 'bob').getByText('waiting for approval').waitFor();
		await card(alice, 'bob').getByText(hers).waitFor();
		await alice.shot('waiting');

		const request = bob.page.getByRole('group', { name: 'Request of alice.example.org' });
		await request.waitFor();
		await request.getByText(hers).waitFor();
		await bob.shot('request');
		await bob.axe('request');
		await request.getByRole('button', { name: 'Approve' }).click();
		const approve = bob.page.getByRole('dialog');
		await approve.getByText(hers).waitFor();
		assert.equal(await approve.getByLabel('What to call it here').inputValue(), 'alice');
		await bob.axe('approve');
		await approve.getByRole('button', { name: 'It is the same: approve' }).click();
		await bob.page.locator('#maincontent').getByText('alice is approved').waitFor();
		await Promise.all([ connected(alice, 'bob'), connected(bob, 'alice') ]);
		await card(alice, 'bob').getByText(/^bob's 192\.168\.1\.x is your \d+\.\d+\.\d+\.x$/).waitFor();
		await card(bob, 'alice').getByText(/^Your 192\.168\.1\.x is \d+\.\d+\.\d+\.x there$/).waitFor();
		assert.equal(await name(alice).inputValue(), '');
		assert.equal(await request.count(), 0);
		await alice.shot('connected');
		await alice.axe('connected');
		say('both cards are green');
	},

	async 'progress'({ alice }) {
		await card(alice, 'bob').getByRole('button', { name: 'Disconnect bob' }).click();
		await card(alice, 'bob').getByText('not connected').waitFor();
		await card(alice, 'bob').getByRole('button', { name: 'Connect to bob' }).click();
		/* All steps are there, although the page looks every 3 seconds. */
		const steps = card(alice, 'bob').getByRole('list', { name: 'Progress' });
		await steps.waitFor();
		await connected(alice, 'bob');
		await alice.page.waitForFunction(() => document.querySelectorAll('#htip-home-bob .htip-steps li[data-done]').length == 7);
		/* Not by role: the page may have hidden them by now. */
		assert.deepEqual((await card(alice, 'bob').locator('.htip-steps li').allTextContents()).map(s => s.replace(/ \(.*/, '').trim()), [
			'The routers have found each other', 'A tunnel is asked for', 'Addresses are proposed', 'Addresses are agreed on', 'The VPN starts',
			'The tunnel is up, addresses are translated', 'The other home answers',
		]);
		await steps.waitFor({ state: 'hidden' });
	},

	/* Whatever is typed: a sentence that says what to do, and nothing is lost. */
	async 'mistakes'({ alice }) {
		const errors = alice.page.locator('.htip-connect + * + [role=alert]:visible');
		for (const [ text, want ] of [
			[ '', /Enter the public name/ ],
			[ 'two words', /no name in the public DNS/ ],
			[ 'nobody.example.org', /nobody\.example\.org/ ],
			[ 'alice.example.org', /this home itself/ ]
		]) {
			await name(alice).fill(text);
			await connect(alice).click();
			await errors.filter({ hasText: want }).waitFor();
			await sentence(errors);
			assert.equal(await name(alice).inputValue(), text);
		}
		await name(alice).fill('htip:damaged');
		await name(alice).press('Enter');
		await errors.filter({ hasText: /invite/ }).waitFor();
		await sentence(errors);
		await alice.axe('damaged invite');
		await name(alice).fill('');
	},

	async 'invite'({ alice, carol, readCode, say }) {
		await alice.go('invites');
		await alice.page.getByLabel('What to call it here').fill('carol');
		await alice.page.getByLabel('Only these devices and services').check();
		await alice.page.getByRole('button', { name: 'Make an invite' }).click();
		await alert(alice, 'Say which devices');
		await alice.page.getByLabel('Devices and services, one a line').fill('nas:tcp:445\nprinter');
		await alice.page.getByRole('button', { name: 'Make an invite' }).click();
		const invite = await alice.page.getByLabel('The invite as text').textContent();
		assert.match(invite, /^htip:[a-z2-7]+$/);
		assert.equal((await readCode(alice.page.getByRole('img', { name: 'QR code of the invite' }))).toLowerCase(), invite);
		await alice.shot('invite');
		await alice.axe('invite');
		await alice.page.keyboard.press('Escape');
		await alice.page.getByRole('dialog').waitFor({ state: 'hidden' });
		await alice.page.getByRole('cell', { name: /open, for another/ }).first().waitFor();

		await carol.go('overview');
		await name(carol).fill(`"${invite.slice(0, 40)}\n ${invite.slice(40)}"`); /* as messengers break it */
		await connect(carol).click();
		await carol.page.getByRole('dialog').getByRole('button', { name: 'Accept' }).click();
		await connected(carol, 'alice');
		await alice.go('invites');
		await alice.page.getByRole('row', { name: /carol used/ }).waitFor();

		/* Once is once. */
		await alice.go('overview');
		await connected(alice, 'carol');
		await card(alice, 'carol').getByText('May reach here: nas:tcp:445, printer').waitFor();
		await alice.go('invites');
		await alice.page.getByRole('button', { name: 'Make an invite' }).click();
		await alice.page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
		await alice.page.getByRole('button', { name: 'Cancel invite 2' }).click();
		await alice.page.getByRole('dialog').getByRole('button', { name: 'Cancel the invite' }).click();
		await alice.page.getByRole('row', { name: /2 .*cancelled/ }).waitFor();
		say('an invite was made, read as a code, accepted, and another cancelled');
	},

	async 'access'({ alice }) {
		await alice.go('overview');
		const open = () => alice.page.getByRole('button', { name: 'Access of carol' }).click();
		const dialog = alice.page.getByRole('dialog');
		await open();
		assert.equal(await dialog.getByLabel('Devices and services, one a line').inputValue(), 'nas:tcp:445\nprinter');
		await dialog.getByLabel('Devices and services, one a line').fill('nas:tcp:port');
		await dialog.getByRole('button', { name: 'Save' }).click();
		await dialog.getByRole('alert').waitFor();
		await sentence(dialog.getByRole('alert'));
		await dialog.getByLabel('Nothing.').check();
		await alice.axe('access');
		await dialog.getByRole('button', { name: 'Save' }).click();
		await card(alice, 'carol').getByText('May reach here: nothing').waitFor();
		await connected(alice, 'carol');
		await open();
		await dialog.getByLabel('Every device').check();
		await dialog.getByRole('button', { name: 'Save' }).click();
		await card(alice, 'carol').getByText('May reach here').waitFor({ state: 'hidden' });
	},

	async 'hosts'({ alice }) {
		await alice.go('hosts');
		const rows = alice.page.getByRole('row').filter({ hasText: 'nas.bob.internal' });
		await rows.getByText(/^\d+\.\d+\.\d+\.\d+$/).waitFor();
		const link = rows.getByRole('link', { name: 'Open the web server of nas.bob.internal in a new tab' });
		assert.equal(await link.getAttribute('href'), 'http://nas.bob.internal/');
		assert.match(await link.getAttribute('rel'), /noopener/);
		await copied(alice, rows.getByRole('button', { name: 'Copy: nas.bob.internal' }), 'nas.bob.internal');
		await alice.page.getByLabel('Show only').fill('no such thing');
		await alice.page.getByText('0 devices').waitFor();
		await alice.page.getByLabel('Show only').fill('NAS');
		await rows.first().waitFor();
		await alice.shot('hosts');
		await alice.axe('hosts');
	},

	async 'map'({ alice }) {
		await alice.go('map');
		const map = alice.page.getByRole('group', { name: /^2 other homes, 2 connected$/ });
		await map.waitFor();
		await map.getByRole('link', { name: /^bob, connected, .*bob's 192\.168\.1\.x is your/ }).waitFor();
		await alice.shot('map');
		await alice.axe('map');
		await map.getByRole('link', { name: /^bob/ }).click();
		await card(alice, 'bob').waitFor();
		await alice.page.waitForFunction(() => document.activeElement?.id == 'htip-home-bob');
	},

	async 'phones'({ alice, readCode }) {
		await alice.go('phones');
		await alice.page.getByRole('button', { name: 'Let it in' }).click();
		await alert(alice, 'Give it a name first');
		await alice.page.getByLabel('Name', { exact: true }).fill('my phone');
		await alice.page.getByRole('button', { name: 'Let it in' }).click();
		await alert(alice, 'a word of a-z');
		await alice.page.getByLabel('Name', { exact: true }).fill('phone');
		await alice.page.getByLabel('bob', { exact: true }).check();
		/* The list of homes changes under the mouse: what was ticked stays. */
		await alice.page.route(/ubus/, async route => {
			const response = await route.fetch();
			await route.fulfill({ response, body: (await response.text()).replaceAll('"peer":"carol"', '"peer":"carla"') }).catch(() => {});
		});
		await alice.page.getByLabel('carla', { exact: true }).waitFor();
		await alice.page.unroute(/ubus/);
		assert.ok(await alice.page.getByLabel('bob', { exact: true }).isChecked());
		await alice.page.getByRole('button', { name: 'Let it in' }).click();
		const dialog = alice.page.getByRole('dialog');
		const code = await readCode(dialog.getByRole('img', { name: 'QR code of the configuration' }));
		assert.match(code, /^\[Interface\]\nPrivateKey = \S{44}\n/);
		await dialog.getByText('As text').click();
		assert.equal(await dialog.locator('.htip-string').textContent(), code);
		await alice.shot('phone');
		await alice.axe('phone');
		/* Escape closes it, also where the focus is nowhere. */
		await dialog.getByText('It is shown this once').click();
		await alice.page.keyboard.press('Escape');
		await dialog.waitFor({ state: 'hidden' });
		const row = alice.page.getByRole('row', { name: /phone .* this home, bob/ });
		await row.waitFor();
		/* An answer that does not come takes nothing away. */
		await alice.page.route(/ubus/, route => route.abort());
		await alert(alice, 'The router does not answer');
		assert.ok(await row.isVisible());
		await alice.page.unroute(/ubus/);
		alice.forgive(/Failed to load resource|net::ERR_FAILED/);
		assert.ok(!(await alice.page.content()).includes(/PrivateKey = (\S+)/.exec(code)[1]), 'the private key is still in the page');
		await alice.page.getByRole('button', { name: 'Remove phone' }).click();
		await dialog.getByRole('button', { name: 'Remove', exact: true }).click();
		await alice.page.getByText('Nobody can come in from away yet.').waitFor();
		await alice.page.waitForFunction(() => document.activeElement.tagName == 'H2'); /* what had the focus is gone */
	},

	async 'settings'({ alice, apply }) {
		await alice.go('settings');
		const main = alice.page.locator('#cbi-htip-main, [data-section-id=main]').first();
		const field = label => main.getByLabel(label, { exact: true });
		await field('Public name').fill('nonsense');
		await field('Public name').press('Tab');
		await alice.page.locator('.cbi-input-invalid').first().waitFor();
		await field('Public name').fill('alice.example.org');
		await field('Name').fill('villa');
		await alice.shot('settings');
		await alice.axe('settings');
		await apply(alice);
		await alice.go('overview');
		await alice.page.locator('.htip-facts').getByText('villa').waitFor();
		await connected(alice, 'bob');
		await alice.go('settings');
		await field('Name').fill('');
		await apply(alice);
	},

	/* A home that is kept out, by its section's dialog. */
	async 'settings of a home'({ alice, apply }) {
		await alice.go('settings');
		const row = alice.page.locator('tr, .tr').filter({ hasText: 'carol' }).last();
		await row.getByRole('button', { name: 'Edit' }).click();
		const dialog = alice.page.locator('.modal');
		await dialog.getByLabel('Key').fill('short');
		await dialog.getByLabel('Key').press('Tab');
		await dialog.locator('.cbi-input-invalid').first().waitFor();
		await dialog.getByRole('button', { name: 'Dismiss' }).click();
		await dialog.getByLabel('Key').waitFor({ state: 'hidden' });
		await row.getByRole('checkbox').first().uncheck();
		await apply(alice);
		await alice.go('overview');
		await card(alice, 'bob').waitFor();
		await card(alice, 'carol').waitFor({ state: 'detached' });
		await alice.go('settings');
		await alice.page.locator('tr, .tr').filter({ hasText: 'carol' }).last().getByRole('checkbox').first().check();
		await apply(alice);
		await alice.go('overview');
		await card(alice, 'carol').waitFor();
	},

	async 'diagnosis'({ alice }) {
		await alice.go('diagnosis');
		await alice.page.getByText(/thing is wrong|things are wrong|Nothing is wrong|Everything is fine/).waitFor();
		await alice.page.getByText('Other homes may reach 192.168.1.0/24').waitFor();
		await alice.page.getByText('What to do: ').first().waitFor();
		/* What helps is done on pages, not in a terminal. */
		for (const advice of await alice.page.locator('.htip-advice').allTextContents())
			assert.doesNotMatch(advice, /\/etc\/|\buci |\bhtip (doctor|connect|requests)\b|\boption /);
		await alice.shot('diagnosis');
		await alice.axe('diagnosis');
		await copied(alice, alice.page.getByRole('button', { name: 'Copy: the report' }), 'the report');
		const again = alice.page.waitForRequest(r => r.postData()?.includes('"doctor"'));
		await alice.page.getByRole('button', { name: 'Look again' }).click();
		await again;
	},

	/* Somebody who may only look can look, and no more: not by a button, and not by hand. */
	async 'only looking'({ alice }) {
		const page = await alice.visitor();
		await page.goto(alice.url('overview'));
		await page.getByRole('group', { name: 'Home bob' }).waitFor();
		assert.equal(await page.getByRole('button', { name: /Disconnect|Approve|Access/ }).count(), 0);
		assert.ok(await page.getByRole('button', { name: 'Connect', exact: true }).isDisabled());
		const refused = await page.evaluate(async () => {
			const out = {};
			const rpc = await L.require('rpc');
			for (const [ method, params ] of [ [ 'disconnect', { peer: 'bob' } ], [ 'invite', {} ], [ 'approve', { request: '1' } ], [ 'user_add', { name: 'x' } ] ])
				out[method] = await rpc.declare({ object: 'htip', method, params: Object.keys(params), reject: true })(...Object.values(params)).then(() => 'done', e => String(e.message));
			out.set = await rpc.declare({ object: 'uci', method: 'set', params: [ 'config', 'section', 'values' ], reject: true })('htip', 'main', { enabled: '0' }).then(() => 'done', e => String(e.message));
			return out;
		});
		for (const method in refused)
			assert.match(refused[method], /-32002|Permission denied|ubus code 6/, method + ': ' + refused[method]);
		for (const view of [ 'invites', 'phones' ]) {
			await page.goto(alice.url(view));
			await page.getByRole('heading', { level: 2 }).waitFor();
			assert.equal(await page.getByRole('button', { name: /Make|Let it in|Cancel|Remove/ }).count(), 0);
		}
		await page.context().close();
	},

	/* The page survives the daemon: it says so, goes on, and what was typed stays. */
	async 'restart of the daemon'({ alice }) {
		await alice.go('overview');
		await connected(alice, 'bob');
		await name(alice).fill('carol.exam');
		await alice.control('stop');
		await alert(alice, 'HTIP is not running on this router');
		await connect(alice).click(); /* a sentence, not a code */
		await alice.page.locator('[role=alert]').filter({ hasText: /not running/ }).nth(1).waitFor();
		await alice.shot('not-running');
		await alice.control('start');
		await alice.page.locator('.htip-banner').first().waitFor({ state: 'hidden' });
		assert.equal(await name(alice).inputValue(), 'carol.exam');
		await connected(alice, 'bob');
		await name(alice).fill('');
	},

	/* A request that is lost half-way changes nothing on the page: the same click again does it. */
	async 'lost request'({ alice }) {
		await alice.go('overview');
		const open = alice.page.getByRole('button', { name: 'Access of carol' });
		await open.click();
		const dialog = alice.page.getByRole('dialog');
		await dialog.getByLabel('Only these').check();
		await dialog.getByLabel('Devices and services, one a line').fill('printer');
		await alice.page.route(/ubus/, route => route.abort());
		await dialog.getByRole('button', { name: 'Save' }).click();
		await dialog.getByRole('alert').getByText('The router does not answer.').waitFor();
		await alice.page.unroute(/ubus/);
		assert.equal(await dialog.getByLabel('Devices and services, one a line').inputValue(), 'printer');
		await dialog.getByRole('button', { name: 'Save' }).click();
		await card(alice, 'carol').getByText('May reach here: printer').waitFor();
		alice.forgive(/Failed to load resource|net::ERR_FAILED/);
	},

	/* An answer from before a click does not undo on the page what the click has done. */
	async 'late answer'({ alice }) {
		await alice.go('overview');
		await connected(alice, 'bob');
		let open, late, held;
		const gate = new Promise(resolve => open = resolve);
		const asked = new Promise(resolve => alice.page.route(/ubus/, async route => {
			if (late || !/"status"/.test(route.request().postData()))
				return route.continue();
			held = route.request();
			late = (async () => {
				const response = await route.fetch();
				resolve();
				await gate;
				await route.fulfill({ response });
			})();
		}));
		await asked;
		const began = Date.now();
		await alice.page.getByRole('button', { name: 'Disconnect bob' }).click();
		await card(alice, 'bob').getByText('not connected').waitFor();
		const finished = alice.page.waitForEvent('requestfinished', request => request == held);
		open();
		await late;
		await finished;
		await alice.page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
		await alice.page.waitForTimeout(300); /* a poll would mend it after 3 s */
		assert.ok(Date.now() - began < 7000, 'the page had given the late answer up');
		assert.notEqual(await card(alice, 'bob').getAttribute('data-kind'), 'up');
		await alice.page.unroute(/ubus/);
		await alice.page.getByRole('button', { name: 'Connect to bob' }).click();
		await connected(alice, 'bob');
	},

	/* One small request every 3 seconds. */
	async 'polling'({ alice, say }) {
		await alice.go('overview');
		await connected(alice, 'bob');
		await alice.page.getByText('being looked at …').waitFor({ state: 'hidden' }); /* the doctor has answered */
		const sizes = [];
		const count = request => {
			if (request.url().includes('ubus'))
				sizes.push(request.sizes().then(s => s.responseBodySize + request.postData().length));
		};
		alice.page.on('request', count);
		/* By the page's clock: what is told here may be late. */
		await alice.page.evaluate(() => {
			const from = performance.now();
			window.begun = [];
			new PerformanceObserver(list => {
				window.begun.push(...list.getEntries().filter(e => e.name.includes('ubus') && e.startTime > from).map(e => e.startTime));
			}).observe({ type: 'resource' });
		});
		await alice.page.waitForFunction(() => window.begun.length >= 6, null, { timeout: 60_000 });
		alice.page.off('request', count);
		const begun = (await alice.page.evaluate(() => window.begun)).sort((a, b) => a - b).slice(0, 6);
		const gaps = begun.slice(1).map((at, i) => Math.round(at - begun[i])), median = gaps.toSorted((a, b) => a - b)[2];
		assert.ok(median >= 2500 && median <= 3900, `${gaps} ms from request to request`);
		/* A few between the others would not move the median. */
		assert.ok(begun[5] - begun[0] >= 10_000, `${gaps} ms from request to request`);
		const sent = await Promise.all(sizes), most = Math.max(...sent);
		assert.ok(sent.length >= begun.length, `${sent.length} sizes`);
		assert.ok(most < 8000, `${most} bytes`);
		say(`a request every ${median} ms, ${most} bytes each with two homes`);
	},

	/* Connecting without a mouse. */
	async 'keyboard'({ alice, bob, reach }) {
		await alice.go('overview');
		await alice.page.mouse.move(0, 0); /* under the mouse a button of LuCI looks as with the focus */
		await connected(alice, 'bob');
		await reach(alice.page, 'Disconnect bob');
		await alice.page.keyboard.press('Enter');
		await card(alice, 'bob').getByText('not connected').waitFor();
		await reach(alice.page, 'Connect to bob');
		await alice.page.keyboard.press('Space');
		await connected(alice, 'bob');
		/* A dialog takes the focus, keeps it, and gives it back. */
		await reach(alice.page, 'Access of bob');
		await alice.page.keyboard.press('Enter');
		const inside = () => alice.page.evaluate(() => !!document.activeElement.closest('.modal'));
		await alice.page.getByRole('dialog').waitFor();
		assert.ok(await inside(), 'the focus is not in the dialog');
		await alice.page.keyboard.press('Escape');
		await alice.page.getByRole('dialog').waitFor({ state: 'hidden' });
		assert.equal(await alice.page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Access of bob');
		await reach(alice.page, 'Its public name, or an invite');
		await alice.page.keyboard.type('bob.example.org');
		await alice.page.keyboard.press('Enter');
		await alice.page.waitForFunction(() => document.getElementById('htip-connect').value == '');
	},

	/* What another home or a name holds never becomes part of the page. */
	async 'hostile texts'({ alice }) {
		const evil = '<img src=x onerror="window.pwned=1">';
		await alice.page.route(/ubus/, async route => {
			const response = await route.fetch();
			let text = await response.text();
			for (const word of [ 'not connected', 'bob.example.org', 'nas', 'printer', '192.168.1.0/24', 'wireguard', 'used' ])
				text = text.replaceAll(`"${word}"`, JSON.stringify(word + evil));
			text = text.replaceAll(/"(text|advice|error|problems)":"([^"]*)"/g, (all, key, s) => JSON.stringify(key) + ':' + JSON.stringify(s + evil));
			await route.fulfill({ response, body: text }).catch(() => {}); /* the page was left */
		});
		for (const view of [ 'overview', 'map', 'hosts', 'invites', 'phones', 'diagnosis' ]) {
			await alice.go(view);
			await alice.page.waitForTimeout(1500);
			assert.equal(await alice.page.evaluate(() => window.pwned), undefined, view);
			assert.equal(await alice.page.locator('img[src=x]').count(), 0, view);
		}
		await alice.go('overview');
		await alice.page.getByText('onerror').first().waitFor(); /* it was there, as text */
		await alice.page.unroute(/ubus/);
	},

	/* Every word of the pages went through _(). */
	async 'pseudo language'({ alice, untranslated, config, say }) {
		if (!config.languages)
			return say('not here');
		const data = [ 'alice', 'villa', 'bob', 'carol', /[a-z]+\.example\.org/, /192\.168\.1\.[x\d]+(\/24)?/, /\d+\.\d+\.\d+\.[\dx]+/, /([A-Z0-9]{4}-){3}[A-Z0-9]{4}/, /[a-z]+\.[a-z]+\.internal/, /^[\d.,/%: –—-]*$/, 'HTIP', 'htip:', 'nas', 'nas:tcp:445', 'printer', 'wireguard', 'l2tp-esp', 'l2tp', 'pptp',
			'phone', 'lan', 'br-lan', 'internal' /* examples in empty fields */,
			'the best that there is, and both homes allow it' /* the daemon's own words */ ];
		for (const view of [ 'overview', 'map', 'hosts', 'invites', 'phones', 'settings', 'diagnosis' ]) {
			await alice.go(view, 'x-pseudo');
			await alice.page.waitForTimeout(view == 'diagnosis' ? 5500 : 1500);
			assert.deepEqual(await untranslated(alice.page, data), [], view);
		}
		await alice.go('overview', 'en');
	},

	/* The other languages fit on a phone. */
	async 'languages'({ alice, config, say }) {
		if (!config.languages)
			return say('not here');
		for (const [ lang, word ] of [ [ 'de', 'verbunden' ], [ 'ko', '연결' ] ]) {
			await alice.go('overview', lang);
			await alice.page.getByText(word).filter({ visible: true }).first().waitFor();
			await alice.shot('overview-' + lang);
			for (const view of [ 'overview', 'map', 'hosts', 'invites', 'phones', 'settings', 'diagnosis' ]) {
				await alice.go(view, lang);
				await alice.page.waitForTimeout(600);
				await alice.fits(view + ' in ' + lang);
			}
		}
		await alice.go('overview', 'en');
	},

	/* 30 homes, some of them in trouble: the map can be read, on a phone as well. */
	async 'thirty homes'({ alice }) {
		await alice.control('thirty');
		await alice.go('map');
		const map = alice.page.getByRole('group', { name: /^30 other homes/ });
		await map.waitFor();
		await alice.shot('map-30');
		for (const width of [ 360, 1280 ]) {
			await alice.page.setViewportSize({ width, height: 900 });
			/* 1000 is how wide the drawing for a desk is. */
			await alice.page.waitForFunction(narrow => (document.querySelector('.htip-map').viewBox.baseVal.width < 1000) == narrow, width == 360);
			const bad = await alice.page.evaluate(() => {
				const svg = document.querySelector('.htip-map'), boxes = [ ...svg.querySelectorAll('.htip-box') ].map(b => b.getBoundingClientRect());
				const out = [];
				for (const text of svg.querySelectorAll('text:not(:empty)')) {
					const t = text.getBoundingClientRect(), b = text.parentNode.querySelector('.htip-box').getBoundingClientRect();
					if (t.right > b.right + 1 || t.left < b.left || t.height < 9)
						out.push(`${text.textContent}: ${Math.round(t.width)} x ${t.height.toFixed(1)} in ${Math.round(b.width)}`);
				}
				boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
					if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
						out.push('two boxes overlap');
				}));
				return out;
			});
			assert.deepEqual(bad, [], `${width} px`);
		}
		await alice.go('overview');
		await card(alice, 'bob').waitFor();
		await alice.shot('overview-30');
		await alice.control('fewer');
	}
};
