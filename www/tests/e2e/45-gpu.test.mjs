// A tab serves on a graphics processor: the same answer, whatever that processor does.
//
// The browser renders in software here, which the module of `www/dist` refuses; a build of it for tests
// takes software and fails on request, and is answered with in place of the real one.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, ask, settled, results } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

const QUESTION = 'when should the apple trees be pruned?';
const REHEARSAL = process.env.REHEARSAL ?? '';

let network, browser, right;
before(async () => {
  network = await up({ scenario: 'volunteers' });
  browser = await launch();
  right = await answer();
});
after(async () => {
  await browser?.close();
  await network?.down();
});

/** What a new client is answered, which has no vector from earlier. */
async function answer() {
  const client = await open(browser, network.playground, { context: await browser.newContext() });
  await ready(client);
  await ask(client, QUESTION);
  assert.equal(await settled(client, undefined, 180), 'done');
  assert.equal(await client.locator(hook('rejected')).count(), 0, 'no product was wrong');
  const answered = await results(client);
  assert.deepEqual(client.problems, []);
  await client.context().close();
  return answered;
}

/** A tab that serves; `fault` asks the module for tests to fail, `undefined` leaves the real module. */
async function volunteer(fault) {
  const context = await browser.newContext();
  if (fault !== undefined) {
    assert.ok(REHEARSAL, 'REHEARSAL names no module; run: cargo xtask test --only browser');
    const glue = await readFile(join(REHEARSAL, 'nesa_adapter.js'), 'utf8');
    const body = `globalThis.nesaFault = ${JSON.stringify(fault)};\n${glue}`;
    await context.route(/\/nesa-adapter-[0-9a-f]+\.js$/, (route) => route.fulfill({ body, contentType: 'text/javascript' }));
    await context.route(/\/nesa-adapter-[0-9a-f]+\.wasm$/, (route) => route.fulfill({ path: join(REHEARSAL, 'nesa_adapter_bg.wasm'), contentType: 'application/wasm' }));
  }
  const page = await open(browser, new URL('#/donate', network.playground).href, { context });
  await ready(page);
  await page.locator(hook('donate-start')).click();
  await until(async () => /^Serving/.test(await page.locator(hook('donate-phase')).innerText()), 120, 'it serves');
  return page;
}

const processor = (page) => page.locator(hook('donate-processor')).innerText();
const counted = async (page, of) => Number((await page.locator(hook(`donate-${of}-products`)).innerText()).replace(/\D/g, ''));
/** The processor's are those of one thread and of several. */
const products = async (page, of) => await counted(page, of) + (of === 'cpu' ? await counted(page, 'pool') : 0);

/** Others ask the same, until the volunteer has been drawn: each gets the same answer. */
async function answered(page) {
  const served = async () => await products(page, 'gpu') + await products(page, 'cpu');
  for (let i = 0; i < 4 && await served() === 0; i += 1) {
    assert.deepEqual(await answer(), right);
    await until(async () => await served() > 0, 5, 'the meter').catch(() => {});
  }
  assert.ok(await served() > 0, 'the volunteer was never drawn');
}

async function leave(page) {
  await page.locator(hook('donate-stop')).click();
  await page.locator(hook('donate-start')).waitFor({ timeout: 60_000 });
  assert.deepEqual(page.problems, []);
  await page.context().close();
}

test('a software adapter does not serve, and the page says why', async () => {
  const page = await volunteer(undefined);
  assert.match(await processor(page), /^CPU kernel, because .*software adapter/);
  await leave(page);
});

test('a graphics processor serves, and the answer is the same', async () => {
  const page = await volunteer('');
  assert.match(await processor(page), /^GPU: /);
  await answered(page);
  assert.ok(await products(page, 'gpu') > 0);
  assert.equal(await products(page, 'cpu'), 0, 'every layer was on it');
  await leave(page);
});

test('a graphics processor whose kernels give other bits never serves', async () => {
  const page = await volunteer('driver');
  assert.match(await processor(page), /^CPU kernel, because .*other bits/);
  await leave(page);
});

for (const [fault, because] of [['bits', /one of its products was wrong/], ['lost', /lost|closed|destroyed/]]) {
  test(`fault "${fault}" in mid-query: the processor takes over, and nothing wrong leaves the tab`, async () => {
    const page = await volunteer(fault);
    assert.match(await processor(page), /^GPU: /);
    await answered(page);
    await until(async () => /^CPU kernel, because/.test(await processor(page)), 30, 'the processor took over');
    assert.match(await processor(page), because);
    assert.ok(await products(page, 'gpu') > 0 && await products(page, 'cpu') > 0, 'both had part in it');
    await leave(page);
  });
}
