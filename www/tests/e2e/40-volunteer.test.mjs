// One tab serves another tab's query, is paid, and may be closed at any time.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, ask, settled, results } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

let network, browser, volunteer, client, address;
before(async () => {
  network = await up({ scenario: 'volunteers' });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
});

const height = async () => (await (await fetch(`${network.rpc}/v1/status`)).json()).head.height;
/** What the chain says the volunteer's wallet holds, in unes: a validator's word, not the page's. */
async function balance() {
  const account = await (await fetch(`${network.rpc}/v1/account/${address}`)).json();
  return Number(account.balances['0'] ?? 0);
}
const layers = async () => Number((await volunteer.locator(hook('donate-layers')).innerText()).replace(/\D/g, '') || 0);

test('one button makes a tab a node, and the bit self-test of its adapter is shown', async () => {
  volunteer = await open(browser, new URL('#/donate', network.playground).href);
  await ready(volunteer);
  await volunteer.locator(hook('donate-start')).click();
  await volunteer.locator(hook('donate-stop')).waitFor({ timeout: 120_000 });
  const adapter = volunteer.locator(hook('adapter'));
  await adapter.locator(hook('probe')).click();
  const tests = adapter.locator('tbody tr');
  await until(async () => (await tests.count()) === 4, 60, 'both products on the processor and through wgpu');
  const rows = await tests.allInnerTexts();
  assert.equal(rows.filter((row) => /wgpu/.test(row)).length, 2, rows.join(' | '));
  for (const row of rows) assert.match(row, /Identical/);
  assert.match(await adapter.innerText(), /Cpu/, 'headless Chromium renders on the processor, and the page says so');
  await volunteer.goto(new URL('#/wallet', network.playground).href);
  address = (await volunteer.locator(hook('wallet-address')).innerText()).trim();
  await volunteer.goto(new URL('#/donate', network.playground).href);
  await volunteer.locator(hook('donate-stop')).waitFor();
  await until(async () => /^Serving/.test(await volunteer.locator(hook('donate-phase')).innerText()), 120, 'it is registered');
});

test('another tab draws it, is answered, and pays it', async () => {
  const context = await browser.newContext();
  client = await open(browser, network.playground, { context });
  await ready(client);
  // Queries draw from a snapshot that is at least one interval of four blocks old.
  const registered = await height();
  await until(async () => (await height()) >= registered + 8, 60, 'the volunteer is in the snapshot');
  const before = await balance();
  await ask(client, 'when should the apple trees be pruned?');
  assert.equal(await settled(client, undefined, 180), 'done');
  assert.match((await results(client))[0], /apple/);
  await until(async () => (await layers()) > 0, 30, 'the volunteer served layers');
  // More than it spent on the transactions that claim it.
  await until(async () => (await balance()) > before, 60, 'its balance rises');
  await until(async () => Number.parseFloat(await volunteer.locator(hook('donate-earned')).innerText()) > 0, 30, 'the page says so');
});

test('closed in mid-query, the volunteer is replaced and the answer still comes', async () => {
  const before = await layers();
  await ask(client, 'what is the deductible of the policy?');
  await until(async () => (await layers()) > before, 60, 'the volunteer works on it');
  await volunteer.close();
  assert.equal(await settled(client, undefined, 180), 'done');
  assert.match((await results(client))[0], /deductible/);
});
