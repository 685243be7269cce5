// Runs flows against homes, and tells what became of each as a line of JSON:
//
//	node run.mjs CONFIG.json        or the configuration on standard input
//
//	{
//	  "flows": "flows/htip.mjs",        module, relative to this file
//	  "app": "admin/services/htip",     where the app's views are
//	  "only": "connect",                a regular expression; all flows without it
//	  "homes": {"alice": {"url": "http://…", "config": FILE, "control": "http://…"}, …},
//	  "users": {"root": "password", "guest": "password"},
//	  "artifacts": "build/page",        pictures go there
//	  "luci": true,                     it is LuCI's own JavaScript
//	  "languages": true,                ?lang= is understood
//	  "timeout": 60000,                 how long a page is waited for, in ms; 45000 without it
//	  "firstView": 1000,                the most that opening a page may take, in ms
//	  "noisy": true                     other work runs beside it: the best time counts, not the median
//	}
//
// A home may have "netns", the network namespace in which its browser is, and "resolv",
// the resolv.conf that it has there. Homes without share one browser.
//
// A flow is a function of a module's object flows. It gets the homes by their names,
// each a Visit of root, and the tools say, apply, readCode, reach, untranslated. Flows
// run one after the other, in the same windows. A flow fails if it throws, or if
// something went wrong on a page that it did not expect.

import { mkdirSync, readFileSync } from 'node:fs';
import { Visit, apply, launch, readCode, reach, untranslated } from './browser.mjs';

// What fails while nobody waits for it counts for the flow that runs.
const forgotten = [];
process.on('unhandledRejection', e => forgotten.push(e));

async function run(name, flow, visits, config) {
	const start = Date.now(), notes = [];
	let error = null;
	forgotten.length = 0;
	const all = () => visits.flatMap(v => [ v, ...v.others ]);
	visits.forEach(v => v.begin());
	try {
		await flow({
			...Object.fromEntries(visits.map(v => [ v.home.name, v ])),
			config, apply, readCode, reach, untranslated, say: note => notes.push(note),
		});
		for (const v of all())
			await v.check();
		if (forgotten.length)
			throw forgotten[0];
	} catch (e) {
		error = { message: e.stack ?? String(e), seen: all().flatMap(v => v.errors), pictures: [] };
		for (const v of all())
			error.pictures.push(await v.picture(`failed-${name}-${v.user}`).catch(e => String(e)));
	}
	for (const v of visits)
		await Promise.all(v.others.splice(0).map(o => o.close()));
	return { flow: name, ok: !error, ms: Date.now() - start, notes, ...error && { error } };
}

const config = JSON.parse(readFileSync(process.argv[2] ?? 0, 'utf8'));
mkdirSync(config.artifacts, { recursive: true });
const { flows } = await import(new URL(config.flows, import.meta.url));
const browsers = {};
try {
	const visits = [];
	for (const [ name, home ] of Object.entries(config.homes)) {
		const browser = browsers[home.netns ?? ''] ??= await launch(config, home);
		visits.push(await Visit.open(browser, config, { ...home, name }, 'root'));
	}
	for (const [ name, flow ] of Object.entries(flows))
		if (!config.only || new RegExp(config.only).test(name))
			console.log(JSON.stringify(await run(name, flow, visits, config)));
} finally {
	await Promise.all(Object.values(browsers).map(b => b.close()));
}
