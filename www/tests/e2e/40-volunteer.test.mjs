// One tab serves another tab's query, is paid, and may be closed at any time.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, ask, settled, results } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

let network, browser, volunteer, client;
before(async () => {
  network = await up({ scenario: 'volunteers' });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
});

const layers = async () => Number((await volunteer.locator(hook('donate-layers')).innerText()).replace(/\D/g, '') || 0);

test('one button makes a tab a node, and the bit self-test of its adapter is shown', async () => {
  volunteer = await open(browser, new URL('#/donate', network.playground).href);
  await ready(volunteer);
  await volunteer.locator(hook('donate-start')).click();
  await volunteer.locator(hook('donate-stop')).waitFor({ timeout: 120_000 });
  await volunteer.locator(hook('adapter')).first().waitFor({ timeout: 30_000 });
});

test('another tab draws it, is answered, and pays it', async () => {
  const context = await browser.newContext();
  client = await open(browser, network.playground, { context });
  await ready(client);
  await ask(client, 'when should the apple trees be pruned?');
  assert.equal(await settled(client, undefined, 180), 'done');
  assert.match((await results(client))[0], /apple/);
  await until(async () => (await layers()) > 0, 30, 'the volunteer served layers');
});

test('closed in mid-query, the volunteer is replaced and the answer still comes', async () => {
  const before = await layers();
  await ask(client, 'what is the deductible of the policy?');
  await until(async () => (await layers()) > before, 60, 'the volunteer works on it');
  await volunteer.close();
  assert.equal(await settled(client, undefined, 180), 'done');
  assert.match((await results(client))[0], /deductible/);
});
