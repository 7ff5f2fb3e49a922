// A tab serves on a graphics processor: the same answer, whatever that processor does.
//
// The browser renders in software here, which the module of `www/dist` refuses; a build of it for tests
// takes software and fails on request, and is answered with in place of the real one.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { up } from '../lib/network.mjs';
import { launch } from '../lib/browser.mjs';
import { hook } from '../lib/playground.mjs';
import * as tab from '../lib/volunteer.mjs';
import { until } from '../lib/wait.mjs';

const REHEARSAL = process.env.REHEARSAL ?? '';

let network, browser, right;
before(async () => {
  network = await up({ scenario: 'volunteers' });
  browser = await launch();
  right = await tab.answer(browser, network);
});
after(async () => {
  await browser?.close();
  await network?.down();
});

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
  const page = await tab.volunteer(context, network);
  await tab.serve(page);
  return page;
}

const processor = (page) => page.locator(hook('donate-processor')).innerText();
/** The processor's are those of one thread and of several. */
const onProcessor = async (page) => await tab.products(page, 'cpu') + await tab.products(page, 'pool');
const served = (page) => async () => await tab.products(page, 'gpu') + await onProcessor(page);

test('a software adapter does not serve, and the page says why', async () => {
  const page = await volunteer(undefined);
  assert.match(await processor(page), /^CPU kernel, because .*software adapter/);
  await tab.leave(page);
});

test('a graphics processor serves, and the answer is the same', async () => {
  const page = await volunteer('');
  assert.match(await processor(page), /^GPU: /);
  await tab.answered(browser, network, right, served(page));
  assert.ok(await tab.products(page, 'gpu') > 0);
  assert.equal(await onProcessor(page), 0, 'every layer was on it');
  await tab.leave(page);
});

test('a graphics processor whose kernels give other bits never serves', async () => {
  const page = await volunteer('driver');
  assert.match(await processor(page), /^CPU kernel, because .*other bits/);
  await tab.leave(page);
});

for (const [fault, because] of [['bits', /one of its products was wrong/], ['lost', /lost|closed|destroyed/]]) {
  test(`fault "${fault}" in mid-query: the processor takes over, and nothing wrong leaves the tab`, async () => {
    const page = await volunteer(fault);
    assert.match(await processor(page), /^GPU: /);
    await tab.answered(browser, network, right, served(page));
    await until(async () => /^CPU kernel, because/.test(await processor(page)), 30, 'the processor took over');
    assert.match(await processor(page), because);
    assert.ok(await tab.products(page, 'gpu') > 0 && await onProcessor(page) > 0, 'both had part in it');
    await tab.leave(page);
  });
}
