// A tab lends more than one core: threads with slices of the weights, the same answer whatever they do.
//
// A thread that fails is a real one, with a fault put between it and the tab's worker.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { up } from '../lib/network.mjs';
import { launch } from '../lib/browser.mjs';
import { hook } from '../lib/playground.mjs';
import * as tab from '../lib/volunteer.mjs';
import { until } from '../lib/wait.mjs';

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
  right = await tab.answer(browser, network);
});
after(async () => {
  await browser?.close();
  await network?.down();
});

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
  return tab.volunteer(context, network);
}

const threads = (page) => page.locator(hook('donate-threads')).innerText();
/** Others ask until the threads have had part in it. */
const answered = (page) => tab.answered(browser, network, right, () => tab.products(page, 'pool'));

test('a tab with a thread beside its own serves, the answer is the same, and it is paid', { skip }, async () => {
  const page = await volunteer();
  await tab.serve(page);
  await until(async () => /^2 with the node’s own$/.test(await threads(page)), 30, 'the thread is there');
  await answered(page);
  await until(async () => Number.parseFloat(await page.locator(hook('donate-earned')).innerText()) > 0, 60, 'it is paid');
  await tab.leave(page);
});

test('a volunteer who lends one core starts no thread', { skip }, async () => {
  const page = await volunteer();
  await page.locator('#threads').fill('0');
  await tab.serve(page);
  await until(async () => await threads(page) === 'one, because you lend one core', 30, 'the page says so');
  assert.equal(page.requests.filter((url) => /\/(nesa-pool|pool-worker)-/.test(url)).length, 0, 'nothing is downloaded for it');
  await tab.leave(page);
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
  await tab.serve(page);
  await until(async () => await threads(page) === 'one, because this page is not cross-origin isolated', 30, 'the page says so');
  await tab.leave(page);
});

for (const [fault, because] of [['terminated', /longer than/], ['silent', /longer than/], ['bits', /one of its slices was wrong/], ['nonsense', /because/]]) {
  test(`fault "${fault}" of a thread in mid-query: its slice is computed here, and nothing wrong leaves the tab`, { skip }, async () => {
    const page = await volunteer({ fault });
    await tab.serve(page);
    await until(async () => /^2 with/.test(await threads(page)), 30, 'the thread is there');
    await answered(page);
    await until(async () => /^one, because/.test(await threads(page)), 30, 'the thread is ended');
    assert.match(await threads(page), because);
    await tab.leave(page);
  });
}
