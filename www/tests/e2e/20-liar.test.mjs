// A node that flips one bit in one response is caught, blamed, replaced and not paid.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, ask, settled, ladder, results } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

let network, browser;
before(async () => {
  network = await up({ scenario: 'liar' });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
});

test('the liar is caught and shown, the answer is still right', async () => {
  const page = await open(browser, network.playground);
  await ready(page);
  await ask(page, 'what does the insurance cover?');
  assert.equal(await settled(page), 'done');
  const [best] = await results(page);
  assert.match(best, /water damage/);
  assert.ok(await page.locator(hook('rejected')).count() >= 1, 'the page names the node it caught');
  const rungs = await ladder(page);
  assert.equal(rungs['layers-checked'], 'verified');
  await until(async () => (await ladder(page)).settled === 'verified', 60, 'settlement');
  assert.deepEqual(page.problems, []);
});
