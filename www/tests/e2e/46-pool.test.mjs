// A tab lends more than one core: threads with slices of the weights, the same answer whatever they do.
//
// A thread that fails is a real one, with a fault put between it and the tab's worker.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, ask, settled, results } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

const QUESTION = 'when should the apple trees be pruned?';
const skip = availableParallelism() < 2 && 'a machine with one core has none to lend';

/** What goes wrong with a thread after a few products: what is done when one is asked for, and when it is there. */
const FAULTS = {
  terminated: { asked: 'this.terminate();' },
  silent: { asked: 'return;' },
  bits: { answered: 'product[product.length >> 1] ^= 1;' },
  nonsense: { asked: 'this.dispatchEvent(new MessageEvent("message", { data: [message[0], "well", { length: -1 }] })); return;' },
};

let network, browser, right;
before(async () => {
  if (skip) return;
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

/** Between the tab's worker and its threads, with their fault; comes before the glue of the worker's module. */
const spoiled = ({ asked = '', answered = '' }) => `
const Thread = self.Worker;
self.Worker = class extends Thread {
  count = 0;
  constructor(url, options) {
    super(url, options);
    this.addEventListener('message', () => {
      const { count, product } = this;
      if (product && count > 3) { ${answered} }
    });
  }
  postMessage(message) {
    this.product = message[1] === 'product' ? message[5] : undefined;
    if (this.product) this.count += 1;
    if (this.product && this.count > 3) { ${asked} }
    super.postMessage(message);
  }
};
`;

/** A tab that serves, whose threads have `fault`. */
async function volunteer({ fault, prepare } = {}) {
  const context = await browser.newContext();
  if (fault) {
    await context.route(/\/nesa-worker-[0-9a-f]+\.js$/, async (route) => {
      const real = await route.fetch();
      await route.fulfill({ response: real, body: spoiled(FAULTS[fault]) + await real.text() });
    });
  }
  await prepare?.(context);
  const page = await open(browser, new URL('#/donate', network.playground).href, { context });
  await ready(page);
  return page;
}

async function serve(page) {
  await page.locator(hook('donate-start')).click();
  await until(async () => /^Serving/.test(await page.locator(hook('donate-phase')).innerText()), 120, 'it serves');
}

const threads = (page) => page.locator(hook('donate-threads')).innerText();
const products = async (page, of) => Number((await page.locator(hook(`donate-${of}-products`)).innerText()).replace(/\D/g, ''));

/** Others ask the same, until the threads have had part in it: each gets the same answer. */
async function answered(page) {
  for (let i = 0; i < 4 && await products(page, 'pool') === 0; i += 1) {
    assert.deepEqual(await answer(), right);
    await until(async () => await products(page, 'pool') > 0, 5, 'the meter').catch(() => {});
  }
  assert.ok(await products(page, 'pool') > 0, 'the volunteer was never drawn');
}

async function leave(page) {
  await page.locator(hook('donate-stop')).click();
  await page.locator(hook('donate-start')).waitFor({ timeout: 60_000 });
  assert.deepEqual(page.problems, []);
  await page.context().close();
}

test('a tab with a thread beside its own serves, the answer is the same, and it is paid', { skip }, async () => {
  const page = await volunteer();
  await serve(page);
  await until(async () => /^2 with the node’s own$/.test(await threads(page)), 30, 'the thread is there');
  await answered(page);
  await until(async () => Number.parseFloat(await page.locator(hook('donate-earned')).innerText()) > 0, 60, 'it is paid');
  await leave(page);
});

test('a volunteer who lends one core starts no thread', { skip }, async () => {
  const page = await volunteer();
  await page.locator('#threads').fill('0');
  await serve(page);
  await until(async () => await threads(page) === 'one, because you lend one core', 30, 'the page says so');
  assert.equal(page.requests.filter((url) => /\/(nesa-pool|pool-worker)-/.test(url)).length, 0, 'nothing is downloaded for it');
  await leave(page);
});

test('a page that is not isolated starts no thread, and says why', { skip }, async () => {
  const page = await volunteer({
    prepare: (context) => context.route(new URL('/', network.playground).href, async (route) => {
      const real = await route.fetch();
      const headers = real.headers();
      delete headers['cross-origin-opener-policy'];
      delete headers['cross-origin-embedder-policy'];
      await route.fulfill({ response: real, headers });
    }),
  });
  assert.equal(await page.evaluate(() => globalThis.crossOriginIsolated), false);
  await serve(page);
  await until(async () => await threads(page) === 'one, because this page is not cross-origin isolated', 30, 'the page says so');
  await leave(page);
});

for (const [fault, because] of [['terminated', /longer than/], ['silent', /longer than/], ['bits', /one of its slices was wrong/], ['nonsense', /because/]]) {
  test(`fault "${fault}" of a thread in mid-query: its slice is computed here, and nothing wrong leaves the tab`, { skip }, async () => {
    const page = await volunteer({ fault });
    await serve(page);
    await until(async () => /^2 with/.test(await threads(page)), 30, 'the thread is there');
    await answered(page);
    await until(async () => /^one, because/.test(await threads(page)), 30, 'the thread is ended');
    assert.match(await threads(page), because);
    await leave(page);
  });
}
