/*
 * What people do on the pages of two real routers, each with a browser in its own LAN:
 * alice's home has the device pc, bob's has nas, with a web server that tells who asks.
 */
import assert from 'node:assert/strict';
import { flows as app } from './htip.mjs';

/* The overview can be used once this home and the form are there. */
async function firstView(home) {
	const began = Date.now();
	await home.page.goto(home.url('overview'));
	await home.page.locator('.htip-facts .htip-mono').waitFor();
	return Date.now() - began;
}

export const flows = {
	async 'first view'({ alice, say }) {
		await alice.go('overview'); /* logs in */
		const times = [];
		for (let i = 0; i < 5; i++)
			times.push(await firstView(alice));
		times.sort((a, b) => a - b);
		say(`opened in ${times[2]} ms, the median of ${times.join(', ')}`);
		assert.ok(times[2] < 5000, `${times[2]} ms`);
	},

	'request and approve': app['request and approve'],

	async 'web server of the other home'({ alice, say }) {
		await alice.go('hosts');
		const link = alice.page.getByRole('link', { name: 'Open the web server of nas.bob.internal in a new tab' });
		await link.waitFor({ timeout: 30_000 });
		const [ tab ] = await Promise.all([ alice.page.waitForEvent('popup'), link.click() ]);
		await tab.waitForLoadState();
		assert.equal(await tab.title(), 'the disk of bob');
		say(await tab.locator('body').textContent());
		await tab.close();
	},

	/* bob sees alice's devices, too. */
	async 'hosts at the other home'({ bob }) {
		await bob.go('hosts');
		await bob.page.getByRole('row').filter({ hasText: 'pc.alice.internal' }).waitFor({ timeout: 30_000 });
	}
};
