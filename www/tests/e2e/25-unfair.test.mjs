// Unfair to a node, unfair to a client: a false complaint gains nothing, a killed node costs nothing.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, ask, settled, ladder, results, evidence, DOCUMENTS } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

let network, browser;
before(async () => {
  network = await up();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
});

/** The worker of a client that calls the first good product of a pass's last stage wrong. */
const DISHONEST = process.env.DISHONEST ?? '';

/** A page whose worker is the dishonest one: the same page, another client. */
async function openDishonest() {
  assert.ok(DISHONEST, 'DISHONEST names no worker; run: cargo xtask test --only browser');
  const context = await browser.newContext();
  await context.route(/\/nesa-worker-[0-9a-f]+\.js$/, (route) => route.fulfill({ path: join(DISHONEST, 'nesa_worker.js'), contentType: 'text/javascript' }));
  await context.route(/\/nesa-worker-[0-9a-f]+\.wasm$/, (route) => route.fulfill({ path: join(DISHONEST, 'nesa_worker_bg.wasm'), contentType: 'application/wasm' }));
  return open(browser, network.playground, { context });
}

const rpc = async (path) => (await fetch(`${network.rpc}${path}`)).json();
const node = async (key) => (await rpc('/v1/nodes')).nodes.find((n) => n.node === key);
const sum = (numbers) => numbers.reduce((total, n) => total + Number(n), 0);

/** The id of the page's query, once the page has proven that its nodes were paid. */
async function paid(page) {
  await until(async () => (await ladder(page)).settled === 'verified', 60, 'payment');
  return (await evidence(page, 'request-escrowed')).query;
}

/** Where a query's escrow went, once its deadline has passed. */
async function settlement(query) {
  const record = await until(async () => {
    const now = await rpc(`/v1/query/${query}`);
    return now.status.state !== 'open' && now;
  }, 90, 'the deadline');
  const { burned, returned } = record.status;
  const claimed = (side) => sum(record.commits.filter((c) => c.side === side).map((c) => c.claim?.voucher.total ?? 0));
  const spent = Number(record.escrow) - Number(returned);
  assert.equal(claimed('A') + claimed('B') + Number(burned), spent, 'not an une is lost');
  return { ...record, burned: Number(burned), spent, a: claimed('A'), b: claimed('B') };
}

const QUESTION = 'when should the apple trees be pruned?';
/** Queries whose money is looked at in the end, when all deadlines have passed. */
const queries = {};

test('a client that rejects a good product is served on, and its word harms nobody', async () => {
  const liar = await openDishonest();
  await ready(liar);
  await ask(liar, QUESTION);
  assert.equal(await settled(liar), 'done');
  assert.match((await results(liar))[0], /apple/);
  assert.equal(await liar.locator(hook('rejected')).count(), 1, 'it has complained, once');
  const accused = (await evidence(liar, 'committee-derived')).a[0];
  const before = await node(accused.node);
  queries.accused = accused;
  queries.lied = await paid(liar);

  // An honest client names the accused: it still serves, and is paid.
  const honest = await open(browser, network.playground, { context: await browser.newContext() });
  await ready(honest);
  await honest.locator(hook('docs-input')).fill(DOCUMENTS);
  await honest.locator(hook('question')).focus();
  await honest.locator('summary', { hasText: 'Choices' }).click();
  await honest.locator(`#named option[value="${accused.node}"]`).waitFor({ state: 'attached' });
  await honest.locator('#named').selectOption(accused.node);
  await ask(honest, QUESTION, '');
  assert.equal(await settled(honest), 'done');
  assert.equal(await honest.locator(hook('rejected')).count(), 0);
  assert.equal((await evidence(honest, 'committee-derived')).a[0].node, accused.node);
  queries.fair = await paid(honest);
  const after = await node(accused.node);
  assert.equal(after.bond, before.bond);
  assert.ok(Number(after.score) >= Number(before.score), 'a client’s word lowers no score');
  assert.deepEqual(honest.problems, []);
  await liar.context().close();
  await honest.context().close();
});

for (const side of ['a', 'b']) {
  test(`the node of side ${side.toUpperCase()}, killed in mid-query, is replaced; the answer comes`, async () => {
    const page = await open(browser, network.playground, { context: await browser.newContext() });
    await ready(page);
    // Several batches, so that the node dies between the first and the last.
    await ask(page, QUESTION, Array.from({ length: 8 }, (_, i) => `Bed ${i + 1}. ${DOCUMENTS}`).join('\n\n'));
    await page.getByText(/layer [2-4] of 6/).waitFor({ timeout: 60_000 });
    const victim = (await evidence(page, 'committee-derived'))[side][0].node;
    const pid = await network.pid(victim);
    process.kill(pid, 'SIGKILL');
    assert.equal(await settled(page), 'done');
    assert.match((await results(page))[0], /apple/);
    assert.match(await page.locator(hook('rejected')).innerText(), /no answer/);
    assert.equal((await ladder(page))['layers-checked'], 'verified');
    queries[`killed ${side}`] = await paid(page);
    await until(async () => ![undefined, pid].includes(await network.pid(victim)), 30, 'the node is back');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
}

test('the false complaint cost its author exactly what it withheld, and the accused one increment', async () => {
  const [lied, fair] = [await settlement(queries.lied), await settlement(queries.fair)];
  const earned = (record) => record.commits.filter((c) => c.node === queries.accused.node).map((c) => c.claim);
  assert.equal(fair.burned, 0);
  assert.ok(lied.burned > 0, 'what it refused to pay for is burned');
  assert.equal(lied.spent, fair.spent + lied.burned, 'nothing of it comes back');
  assert.deepEqual(earned(lied), [null], 'one increment is the accused’s whole loss');
  assert.ok(Number(earned(fair)[0].earned) > 0, 'the accused goes on earning');
});

test('a kill costs nobody: each side is paid for every batch once, the rest returns', async () => {
  for (const side of ['a', 'b']) {
    const record = await settlement(queries[`killed ${side}`]);
    assert.equal(record.burned, 0, 'nobody disputed anything');
    assert.equal(record.a, record.b, 'both halves of every batch are paid, the killed node’s too');
  }
});
