// A node that never answers costs time, not money.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { ready, ask, settled, results } from '../lib/playground.mjs';

let network, browser;
before(async () => {
  network = await up({ scenario: 'silent' });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
});

test('another node of the same side answers instead', async () => {
  const page = await open(browser, network.playground);
  await ready(page);
  await ask(page, 'when are pears pruned?');
  assert.equal(await settled(page, undefined, 180), 'done');
  assert.match((await results(page))[0], /pears/);
});
