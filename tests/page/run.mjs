// Runs flows against homes, and tells what became of each as a line of JSON:
//
//	node run.mjs CONFIG.json        or the configuration on standard input
//
//	{
//	  "flows": "flows/htip.mjs",        module, relative to this file
//	  "only": "connect",                a regular expression; all flows without it
//	  "homes": {"alice": {"url": "http://127.0.0.1:8000"}, "bob": {"url": …}},
//	  "users": {"root": "password", "guest": "password"},
//	  "artifacts": "build/page",        pictures go there
//	  "luci": true,                     it is LuCI's own JavaScript
//	  "languages": true,                ?lang= is understood
//	  "netns": "lan"                    where the browser runs; here without it
//	}
//
// A flow is a function of a module's object flows. It gets an object with homes (by
// name), config, and open(home, user), which gives a Visit. A flow fails if it
// throws, or if something went wrong on a page that it did not expect.

import { mkdirSync, readFileSync } from 'node:fs';
import { Visit, launch } from './browser.mjs';

async function run(browser, config, name, flow) {
	const visits = [];
	const start = Date.now();
	const t = {
		config, homes: config.homes,
		async open(home, user = 'root') {
			const v = await Visit.open(browser, config, config.homes[home], user);
			visits.push(v);
			return v;
		},
		note: value => { notes.push(value); },
	};
	const notes = [];
	let error = null;
	try {
		await flow(t);
		for (const v of visits)
			await v.check();
	} catch (e) {
		error = { message: e.stack ?? String(e), seen: visits.flatMap(v => v.errors), pictures: [] };
		for (const [ i, v ] of visits.entries())
			error.pictures.push(await v.shot(`failed-${name}-${i}`).catch(e => String(e)));
	}
	await Promise.all(visits.map(v => v.close()));
	return { flow: name, ok: !error, ms: Date.now() - start, ...notes.length && { notes }, ...error && { error } };
}

const config = JSON.parse(readFileSync(process.argv[2] ?? 0, 'utf8'));
mkdirSync(config.artifacts, { recursive: true });
for (const [ name, home ] of Object.entries(config.homes))
	home.name = name;
const { flows } = await import(new URL(config.flows, import.meta.url));
const browser = await launch(config);
try {
	for (const [ name, flow ] of Object.entries(flows))
		if (!config.only || new RegExp(config.only).test(name))
			console.log(JSON.stringify(await run(browser, config, name, flow)));
} finally {
	await browser.close();
}
