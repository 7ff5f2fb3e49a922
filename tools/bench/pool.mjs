// A volunteer's products on one thread, two and three, with the threads of www/dist, in headless Chromium.
//   node tools/bench/pool.mjs FIGURES [ROUNDS]  → one JSON object; needs www/dist and www/tests' packages
// FIGURES is the folder of the worker that measures, which `cargo xtask bench pool` builds.
import { availableParallelism } from 'node:os';
import { readdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from '../../www/tests/lib/browser.mjs';
import { serve } from '../../www/tests/lib/serve.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const dist = resolve(here, '../../www/dist');
const figures = resolve(process.argv[2]);
const rounds = Number(process.argv[3] ?? 60);

const thread = (await readdir(dist)).find((name) => /^pool-worker-[0-9a-f]+\.js$/.test(name));
if (!thread) throw new Error(`no pool-worker in ${dist}; run: cargo xtask bench pool`);
const server = await serve(dist, {
  'figures/nesa_worker.js': join(figures, 'nesa_worker.js'),
  'figures/nesa_worker_bg.wasm': join(figures, 'nesa_worker_bg.wasm'),
  'figures/worker.js': join(here, 'pool_worker.mjs'),
});
const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(server.url);
  const said = await page.evaluate(([thread, rounds]) => new Promise((done, fail) => {
    const worker = new Worker('/figures/worker.js', { type: 'module' });
    worker.onmessage = ({ data }) => (data.error ? fail(new Error(data.error)) : done(data.figures));
    worker.onerror = (event) => fail(new Error(event.message));
    worker.postMessage([`/${thread}`, rounds]);
  }), [thread, rounds]);
  console.log(JSON.stringify({ cores: availableParallelism(), browser: browser.version(), ...JSON.parse(said) }, null, 2));
} finally {
  await browser.close();
  await server.close();
}
