// The harness's own flows, on the app in testdata/app: they hold the stand-in, the
// bridge and the helpers against what LuCI does. Each must pass on LuCI's own
// JavaScript as well.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const option = (v, name) => v.page.locator(`#cbi-htip-main-${name}`);

// text is a home's configuration as it is on disk.
const text = home => readFileSync(home.config, 'utf8');

async function until(what, cond, ms = 45000) {
	for (const end = Date.now() + ms; Date.now() < end; await new Promise(done => setTimeout(done, 100)))
		if (await cond())
			return;
	assert.fail(`never: ${what}`);
}

export const flows = {
	async 'login and menu'(t) {
		const v = t.alice;
		await v.go('');
		assert.equal(await v.page.title(), 'alice | Tunnels');
		await v.page.locator('#view h2', { hasText: 'Tunnels' }).waitFor();
		await v.page.locator('#tabmenu li').first().waitFor(); // the menu is fetched for itself
		assert.deepEqual(await v.page.locator('#tabmenu li').allInnerTexts(), [ 'Tunnels', 'Settings' ], 'a page whose configuration is missing is not offered');
		assert.deepEqual(await v.page.locator('#tabmenu li.active').allInnerTexts(), [ 'Tunnels' ]);
		await v.page.locator('#tabmenu').getByText('Settings').click();
		await v.loaded();
		await v.page.locator('h2', { hasText: 'Settings' }).waitFor();
		v.expect(/^HTTP 404/);
		const res = await v.page.goto(v.url('missing'));
		assert.equal(res.status(), 404);
	},

	async 'wrong password'(t) {
		const v = await t.alice.visit('root');
		v.expect(/^HTTP 403/);
		await v.page.goto(v.url('status'));
		await v.page.locator('input[name=luci_password]').fill('wrong');
		await v.page.getByRole('button', { name: 'Log in' }).click();
		await v.page.getByText('Invalid username and/or password').waitFor();
	},

	async 'calls and polling'(t) {
		const v = t.alice;
		await v.go('status');
		const row = v.page.locator('#view tr', { hasText: 'bob' });
		assert.equal(await v.page.locator('#count').innerText(), '1 home');
		assert.match(await row.innerText(), /idle/);
		await row.getByRole('button', { name: 'Connect' }).click();
		await row.getByText('up', { exact: true }).waitFor();
		await v.page.locator('#indicators', { hasText: /refreshing/i }).click();
		await v.page.locator('#indicators', { hasText: /paused/i }).waitFor();
		const begun = []; // what was asked before may still be answered
		const note = r => begun.push(r.url());
		v.page.on('request', note);
		await v.page.waitForTimeout(2500);
		v.page.off('request', note);
		assert.deepEqual(begun, [], 'a page that is paused asks for nothing');
	},

	async 'errors of calls'(t) {
		const v = t.alice;
		await v.go('status');
		v.expect(/^call htip.key: error -32002/);
		await v.page.locator('#forbidden').click();
		await v.page.locator('.alert-message', { hasText: 'RPC call to htip/key failed with error -32002: Access denied' }).waitFor();
		await v.page.locator('.alert-message').getByRole('button', { name: 'Dismiss' }).click();
		await v.page.locator('.alert-message').waitFor({ state: 'detached' });
		await v.page.locator('#unknown').click(); // the status takes the data's place
		await v.page.locator('#state', { hasText: 'none' }).waitFor();
	},

	async 'calls of one moment are one request'(t) {
		const v = t.alice;
		await v.go('settings');
		const posts = [];
		v.page.on('request', r => r.url().includes('/ubus/') && posts.push(r.postDataJSON()));
		await v.page.evaluate(() => {
			const call = L.rpc.declare({ object: 'htip', method: 'status' });
			return Promise.all([ call(), call(), call() ]);
		});
		/* The page itself may ask for something else at the same time. */
		const ours = posts.map(p => [ p ].flat().filter(c => c.params?.[1] == 'htip' && c.params[2] == 'status').length).filter(n => n);
		assert.deepEqual(ours, [ 3 ]);
	},

	async 'a form is saved and applied'(t) {
		const v = t.alice;
		await v.go('settings');
		await option(v, 'log_level').locator('select').selectOption('debug');
		const mtu = v.page.getByLabel('MTU');
		await mtu.waitFor(); // it depends on the level
		await mtu.fill('99999');
		await mtu.blur();
		assert.match(await mtu.getAttribute('class'), /cbi-input-invalid/);
		assert.equal(await mtu.getAttribute('data-tooltip'), 'Expecting: value between 576 and 1500');
		v.expect(/^page error: TypeError: Option "MTU" contains/);
		await v.page.getByRole('button', { name: 'Save', exact: true }).click();
		await v.page.locator('.modal', { hasText: 'Option "MTU" contains an invalid input value. Expecting: value between 576 and 1500' }).waitFor();
		await v.page.locator('.modal').getByRole('button', { name: 'Dismiss' }).click();
		await mtu.fill('1400');

		await v.page.locator('.cbi-tabmenu a', { hasText: 'More' }).click();
		const network = v.page.getByLabel('Networks');
		await network.fill('10.9.0.0/16');
		await network.press('Enter');
		await network.fill('10.8.0.0/16'); // typed, and not added
		const pool = option(v, 'pool').locator('.cbi-dropdown');
		await pool.click();
		await pool.locator('.dropdown li', { hasText: 'the smaller one' }).click();

		await v.page.getByRole('button', { name: 'Save', exact: true }).click();
		await v.page.locator('#indicators', { hasText: /unsaved changes: [56]/i }).waitFor();
		assert.doesNotMatch(text(t.alice.home), /debug/, 'saved is not applied');
		await t.apply(v);
		const now = text(t.alice.home);
		for (const want of [ /option log_level 'debug'/, /option mtu '1400'/, /list network '10.9.0.0\/16'\n\tlist network '10.8.0.0\/16'/, /option pool '172.16.0.0\/12'/, /config peer 'bob'/ ])
			assert.match(now, want);
		assert.deepEqual(await v.page.locator('#indicators span').allInnerTexts(), []);

		await v.page.locator('.cbi-tabmenu a', { hasText: 'General' }).click();
		await option(v, 'log_level').locator('select').selectOption('info');
		await v.page.locator('.cbi-tabmenu a', { hasText: 'More' }).click();
		for (const item of await v.page.locator('.cbi-dynlist .item').all().then(all => all.reverse())) {
			await item.focus();
			await item.press('Delete');
		}
		await pool.click();
		await pool.locator('.dropdown li[placeholder]').click();
		await t.apply(v);
		assert.doesNotMatch(text(t.alice.home), /debug|mtu|network|pool/, 'what is not shown or is empty is removed');
	},

	async 'changes can be taken back'(t) {
		const v = t.alice;
		await v.go('settings');
		const domain = v.page.getByLabel('Domain', { exact: true }).first();
		await domain.fill('somewhere.example');
		await v.page.getByRole('button', { name: 'Reset' }).click();
		await until('reset', async () => await domain.inputValue() == 'alice.example.org');
		await domain.fill('');
		v.expect(/^page error: TypeError: Option "Domain" contains/);
		await v.page.getByRole('button', { name: 'Save', exact: true }).click();
		await v.page.locator('.modal', { hasText: 'Option "Domain" contains an invalid input value. Expecting: non-empty value' }).waitFor();
		await v.page.locator('.modal').getByRole('button', { name: 'Dismiss' }).click();
		await domain.fill('somewhere.example');
		await v.page.getByRole('button', { name: 'Save', exact: true }).click();
		await v.page.locator('#indicators', { hasText: /unsaved changes: 1/i }).click();
		const again = v.page.waitForEvent('load');
		await v.page.locator('.modal', { hasText: 'somewhere.example' }).getByRole('button', { name: 'Revert' }).click();
		await again;
		await v.loaded();
		assert.equal(await domain.inputValue(), 'alice.example.org');
		assert.doesNotMatch(text(t.alice.home), /somewhere/);
	},

	async 'a table with a dialog'(t) {
		const v = t.alice;
		await v.go('settings');
		const grid = v.page.locator('#cbi-htip-peer');
		const add = grid.getByRole('button', { name: 'Add a home' });
		assert.equal(await add.isDisabled(), true, 'a section needs a name');
		const name = grid.locator('.cbi-section-create-name');
		await name.pressSequentially('car ol');
		await name.blur();
		assert.match(await name.getAttribute('class'), /cbi-input-invalid/);
		await name.fill('');
		await name.pressSequentially('carol');
		await add.click();
		const dialog = v.page.getByRole('dialog');
		await dialog.locator('h4', { hasText: 'Home carol' }).waitFor();
		await dialog.getByLabel('Port').fill('x');
		await dialog.getByLabel('Key').fill('short');
		await dialog.getByLabel('Key').blur();
		assert.equal(await dialog.getByLabel('Key').getAttribute('data-tooltip'), 'A key has 44 characters.');
		await dialog.getByRole('button', { name: 'Save' }).click();
		await v.page.waitForTimeout(500);
		assert.equal(await dialog.isVisible(), true, 'a dialog with errors stays');
		await dialog.getByLabel('Port').fill('4848');
		await dialog.getByLabel('Key').fill('A'.repeat(43) + '=');
		await dialog.getByLabel('Domain').fill('carol.example.org');
		const protocols = dialog.locator('[data-name=protocols] .cbi-dropdown');
		await protocols.click();
		await protocols.locator('.dropdown li', { hasText: 'WireGuard' }).click();
		await protocols.locator('.dropdown li', { hasText: 'L2TP' }).click();
		await v.page.keyboard.press('Escape');
		await dialog.getByRole('button', { name: 'Save' }).click();
		const row = grid.locator('tr[data-sid=carol]');
		await row.waitFor();
		assert.deepEqual((await row.locator('td').allInnerTexts()).map(s => s.trim()).slice(0, 3), [ 'carol', 'carol.example.org', '4848' ]);
		await t.apply(v);
		assert.match(text(t.alice.home), /config peer 'carol'[^]*list protocols 'wireguard'\n\tlist protocols 'l2tp'/);

		await row.getByRole('button', { name: 'Edit' }).click();
		await dialog.getByLabel('Port').fill('4849');
		await v.page.locator('#modal_overlay').press('Escape');
		await dialog.waitFor({ state: 'hidden' });
		assert.equal(await row.locator('td').nth(2).innerText(), '4848', 'what was dismissed is forgotten');
		await row.getByRole('button', { name: 'Delete' }).click();
		await row.waitFor({ state: 'detached' });
		await t.apply(v);
		assert.doesNotMatch(text(t.alice.home), /carol/);
	},

	async 'a guest may look'(t) {
		const v = await t.alice.visit('guest');
		await v.go('settings');
		for (const what of [ option(v, 'domain').locator('input'), v.page.getByRole('button', { name: 'Save', exact: true }), v.page.locator('#cbi-htip-peer').getByRole('button', { name: 'Delete' }) ])
			assert.equal(await what.isDisabled(), true);
		await v.go('status');
		assert.equal(await v.page.locator('#view tr', { hasText: 'bob' }).getByRole('button').isDisabled(), true);
		v.expect(/^call htip.connect: error -32002/);
		await v.page.locator('#unknown').click();
		v.expect(/^page error: RPCError/);
		await until('refused', () => v.errors.some(e => e.startsWith('page error')));
	},

	async 'sessions end'(t) {
		const v = await t.alice.visit('root');
		await v.go('status');
		v.expect(/error -32002/);
		v.expect(/^page error: SessionError/);
		await v.page.evaluate(() => L.rpc.declare({ object: 'session', method: 'destroy' })().catch(() => {}));
		v.expect(/^page error: RPCError|^call session.destroy/);
		await v.page.evaluate(() => L.rpc.setSessionID('0'.repeat(31) + '1')); // as if it had been forgotten
		await v.page.getByRole('dialog').getByRole('heading', { name: 'Session expired' }).waitFor();
	},

	async 'pictures, axe and the keyboard'(t) {
		const v = t.bob;
		await v.go('status');
		await v.shot('dummy-status');
		await v.axe('status');
		await v.fits('status');
		await t.reach(v.page, 'Ask for nobody');
		await v.page.keyboard.press('Enter');
		await v.page.locator('#state').waitFor();
		await assert.rejects(t.reach(v.page, 'nothing of the kind', 20), /do not lead to nothing of the kind/);
		await v.go('settings');
		await v.shot('dummy-settings');
		await v.fits('settings');
		await v.page.evaluate(() => document.querySelector('#view').append(E('img', { 'src': 'data:,' }), E('div', { 'style': 'width:2000px' }, [ '.' ])));
		v.expect(/^axe, settings, dark: image-alt/);
		v.expect(/^axe, settings, light: image-alt/);
		v.expect(/^settings is wider than 360 px: div/);
		await v.axe('settings');
		await v.fits('settings');
	},

	async 'languages'(t) {
		if (!t.config.languages)
			return t.say('not here');
		const v = t.bob;
		await v.go('status', 'x-pseudo');
		assert.deepEqual(await t.untranslated(v.page, [ 'alice', 'idle', 'up' ]), [ 'untranslated text' ]);
		await v.go('settings', 'x-pseudo');
		assert.deepEqual(await t.untranslated(v.page, [ /[a-z]+\.example\.org/, 'alice' ], '#cbi-htip'), []);
		await v.go('status', 'de');
		assert.equal(await v.page.locator('#count').innerText(), '1 Heim');
		assert.equal(await v.page.getByRole('button', { name: 'Verbinden' }).count(), 1);
		assert.equal(await v.page.locator('h2').innerText(), 'Tunnel');
		assert.equal(await v.page.evaluate(() => N_(2, '%d home', '%d homes').format(2)), '2 Heime');
		await v.go('status', 'en');
	},

	// Where the stand-in and LuCI could easily differ, one by one.
	async 'formats and helpers'(t) {
		const v = t.bob;
		await v.go('status');
		assert.deepEqual(await v.page.evaluate(() => [
			'%s-%d-%5d-%05d-%-5dx'.format('a', 3.7, 42, 42, 42), '%.2f %f'.format(1.005, 2.5), '%x %X %o %b %c'.format(255, 255, 8, 5, 65), '%h %q'.format('<a "b">', "it's"),
			'%1024mB'.format(1536), '%1000mB'.format(999), '%.1mB'.format(1234567), '%t'.format(90061), '100%%', '%d%%'.format(50),
			String.format('%s', null), _('nothing of the kind'), N_(1, 'one', 'many'), N_(2, 'one', 'many'),
			L.url('admin', 'a/b', '?x=1'), L.resource('view/x.js'), JSON.stringify([ L.toArray(' a  b '), L.toArray(null), L.toArray({ a: 1 }).length, L.isObject([]), L.sortedKeys({ b10: 1, b9: 1 }) ]),
			E('p', {}, [ '<b>' ]).innerHTML, E('p', {}, '<b>x</b>').innerHTML, E('p', 'text').outerHTML, E('<i class="c"></i>').outerHTML, E('p', { 'a': null, 'b': '', 'c': { d: 1 } }).outerHTML,
			E('p', E('b')).outerHTML, E([ E('i'), E('b') ]).childNodes.length, L.hasViewPermission(), L.env.dispatchpath.join('/'),
		]), [
			'a-3-   42-00042-42   x', '1.00 2.5', 'ff FF 10 101 A', '&#60;a &#34;b&#34;&#62; it&#39;s',
			'1.50 KiB', '999 B', '1.2 MB', '1d 1h 1m 1s', '100%%', '50%', 'null', 'nothing of the kind', 'one', 'many',
			'/cgi-bin/luci/admin/a/b?x=1', '/luci-static/resources/view/x.js', '[["a","b"],[],1,true,["b9","b10"]]',
			'&lt;b&gt;', '<b>x</b>', '<p>text</p>', '<i class="c"></i>', '<p b="" c="{&quot;d&quot;:1}"></p>', '<p></p>', 2, true, 'admin/services/htip/status',
		]);
	},

	async 'classes'(t) {
		const v = t.bob;
		await v.go('status');
		assert.deepEqual(await v.page.evaluate(() => {
			const A = L.Class.extend({ __init__(n) { this.n = n; }, say(x) { return `A${x}${this.n}`; }, only: 5 });
			const B = A.extend({ __init__(n) { this.super('__init__', [ n + 1 ]); }, say(x) { return `B${this.super('say', [ x ])}`; } });
			const C = B.extend({ say(...args) { return `C${this.super('say', args)}`; } });
			const c = new C(1);
			return [ c.say('x'), c.say('y'), c.super('only'), c instanceof A, A.isSubclass(C), C.instantiate([ 4 ]).n, L.Class.singleton({ a: 1 }).a ];
		}), [ 'CBAx2', 'CBAy2', 5, true, true, 5, 1 ]);
	},

	async 'validation'(t) {
		const v = t.bob;
		await v.go('settings');
		const cases = await v.page.evaluate(async () => {
			const validation = await L.require('validation');
			const input = document.querySelector('#view').appendChild(E('input'));
			const check = (type, value, optional) => {
				input.value = value;
				return validation.create(input, type, optional, null).validate();
			};
			const good = { port: '0 65535', uinteger: '0 7', integer: '-3', hostname: 'a a.b a-b.c _a.b', host: 'a.b 10.0.0.1 fe80::1', ipaddr: '10.0.0.1 ::1 10.0.0.0/8',
				'ipaddr(1)': '10.0.0.1', ip4addr: '1.2.3.4 1.2.3.0/24 1.2.3.0/255.255.255.0', 'ip4addr("nomask")': '1.2.3.4', cidr4: '10.0.0.0/8', uciname: 'a_b1', 'range(1,10)': '1 10 2.5',
				'maxlength(3)': 'abc', 'minlength(3)': 'äb', 'list(port)': '1', 'or(port,"auto")': 'auto 5', 'and(uinteger,min(5))': '5', 'neg(port)': '!5', macaddr: '00:11:22:33:44:55', ip6addr: '::ffff:1.2.3.4 1:2:3:4:5:6:7:8', portrange: '1-5 7', hostport: 'a:5' };
			const bad = { port: '65536 x', uinteger: '-1 1.5', integer: 'x', hostname: '-a a_ä 1.2.3', host: '1.2.3.4.5', ipaddr: '10.0.0.256 ::1::', 'ipaddr(1)': '10.0.0.0/8', ip4addr: '1.2.3.4/33 ::1',
				'ip4addr("nomask")': '1.2.3.0/24', cidr4: '10.0.0.0 10.0.0.0/33', uciname: 'a-b', 'range(1,10)': '0 11', 'maxlength(3)': 'äbc', 'minlength(3)': 'ab', 'list(port)': 'x', 'or(port,"auto")': 'autos',
				'and(uinteger,min(5))': '4', 'neg(port)': '!x', macaddr: '00:11:22:33:44', ip6addr: '1:2:3:4:5:6:7 1::2::3', portrange: '5-1', hostport: 'a' };
			const wrong = [];
			for (const [ want, table ] of [ [ true, good ], [ false, bad ] ])
				for (const [ type, values ] of Object.entries(table))
					for (const value of values.split(' '))
						if (check(type, value, false) !== want)
							wrong.push(`${type} ${value}`);
			return [ wrong, check('port', '', true), check('port', '', false), input.getAttribute('data-tooltip') ];
		});
		assert.deepEqual(cases, [ [], true, false, 'Expecting: non-empty value' ]);
	},
};
