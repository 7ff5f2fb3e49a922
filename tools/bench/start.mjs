// From opening the playground to "ready", with an empty device and with everything already stored; memory then.
//   node tools/bench/start.mjs [RUNS]  → one JSON object; needs www/dist, $NESA (the node) and www/tests' packages
import { createRequire } from 'node:module';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { up } from '../../www/tests/lib/network.mjs';
import { args, executablePath } from '../../www/tests/lib/browser.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const { chromium } = createRequire(resolve(here, '../../www/tests/package.json'))('playwright-core');
const runs = Number(process.argv[2] ?? 5);
const limit = 120_000;

/** Notes when each message of the worker arrives: the first of every network and model phase. */
function listen() {
  globalThis.seen = {};
  const note = (name) => { globalThis.seen[name] ??= Math.round(performance.now()); };
  const ready = '[data-test="status"][data-phase="ready"]';
  new MutationObserver(() => { if (document.querySelector(ready)) note('ready'); })
    .observe(document, { subtree: true, childList: true, attributeFilter: ['data-phase'] });
  const Native = Worker;
  globalThis.Worker = class extends Native {
    constructor(...all) {
      super(...all);
      note('worker created');
      this.addEventListener('message', ({ data: [json] }) => {
        const message = JSON.parse(json);
        if (message.t !== 'status') return note(message.t);
        note('worker running');
        const { network, modelPhase } = message.status;
        note(`network ${network?.phase}`);
        note(`model ${modelPhase?.phase}`);
        if (modelPhase?.tookMs) globalThis.seen['model read, alone'] = Math.round(modelPhase.tookMs);
      });
    }
  };
}

/** Resident kibibytes of the largest renderer, in which page and worker are; `null` where there is no /proc. */
async function resident() {
  const read = (...path) => readFile(join('/proc', ...path), 'utf8').catch(() => '');
  const pids = (await readdir('/proc').catch(() => [])).filter((name) => /^[0-9]+$/.test(name));
  const sizes = await Promise.all(pids.map(async (pid) => {
    if (!(await read(pid, 'cmdline')).includes('--type=renderer')) return 0;
    return Number(/^VmRSS:\s+([0-9]+)/m.exec(await read(pid, 'status'))?.[1] ?? 0);
  }));
  return Math.max(0, ...sizes) || null;
}

/** One visit; the device keeps what it stored. Milliseconds since navigation started. */
async function visit(context, url) {
  const page = await context.newPage();
  await page.addInitScript(listen);
  await page.goto(url);
  await page.waitForSelector('[data-test="status"][data-phase="ready"]', { timeout: limit });
  const seen = await page.evaluate(() => globalThis.seen);
  // Let the device finish what it writes behind the page's back.
  await page.waitForTimeout(3000);
  seen.resident_kib = await resident();
  await page.close();
  return seen;
}

const profile = await mkdtemp(join(tmpdir(), 'nesa-start-'));
const network = await up();
let context;
try {
  const url = new URL('#/playground', network.playground).href;
  context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args });
  const cold = await visit(context, url);
  const warm = [];
  for (let run = 0; run < runs; run += 1) warm.push(await visit(context, url));
  const ready = warm.map((one) => one.ready).sort((a, b) => a - b);
  console.log(JSON.stringify({
    cold_ms: cold.ready, cold,
    warm_ms: ready[ready.length >> 1], warm_all_ms: ready,
    warm: warm.at(-1),
  }, null, 2));
} finally {
  await context?.close();
  await network.down();
  await rm(profile, { recursive: true, force: true });
}
