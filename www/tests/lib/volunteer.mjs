// A tab that serves, and what others ask of it.
import assert from 'node:assert/strict';
import { open } from './browser.mjs';
import { hook, ready, ask, settled, results } from './playground.mjs';
import { until } from './wait.mjs';

const QUESTION = 'when should the apple trees be pruned?';

/** What a new client is answered, which has no vector from earlier. */
export async function answer(browser, network) {
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

/** Opens the page of volunteers. */
export async function volunteer(context, network) {
  const page = await open(context.browser(), new URL('#/donate', network.playground).href, { context });
  await ready(page);
  return page;
}

/** Serves, until the network can draw it. */
export async function serve(page) {
  await page.locator(hook('donate-start')).click();
  await until(async () => /^Serving/.test(await page.locator(hook('donate-phase')).innerText()), 120, 'it serves');
}

const height = async (network) => (await (await fetch(`${network.rpc}/v1/status`)).json()).head.height;

/** The operator's address of a page that serves, once queries can draw it. */
export async function operator(page, network) {
  // Queries draw from a snapshot that is at least one interval of four blocks old.
  const registered = await height(network);
  await page.goto(new URL('#/wallet', network.playground).href);
  const address = (await page.locator(hook('wallet-address')).innerText()).trim();
  await page.goto(new URL('#/donate', network.playground).href);
  await until(async () => (await height(network)) >= registered + 8, 60, 'the volunteer is in the snapshot');
  return address;
}

/** What the page says that the chain has paid. */
export const earned = async (page) => Number.parseFloat(await page.locator(hook('donate-earned')).innerText());

/** Stops serving. */
export async function leave(page) {
  await page.locator(hook('donate-stop')).click();
  await page.locator(hook('donate-start')).waitFor({ timeout: 60_000 });
  assert.deepEqual(page.problems, []);
  await page.context().close();
}

/** Products computed `of` a kind: gpu, cpu or pool. */
export const products = async (page, of) => Number((await page.locator(hook(`donate-${of}-products`)).innerText()).replace(/\D/g, ''));

/** Others ask the same until the tab has `served`: each gets the `right` answer. */
export async function answered(browser, network, right, served) {
  for (let i = 0; i < 4 && await served() === 0; i += 1) {
    assert.deepEqual(await answer(browser, network), right);
    await until(async () => await served() > 0, 5, 'the meter').catch(() => {});
  }
  assert.ok(await served() > 0, 'the volunteer was never drawn');
}
