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

/** The settled record of the page's newest query, once its last rung is verified. */
async function record(page) {
  await until(async () => (await ladder(page)).settled === 'verified', 60, 'settlement');
  const { query } = await evidence(page, 'request-escrowed');
  const { escrow, ...rest } = await rpc(`/v1/query/${query}`);
  const { paid, treasury, burned, returned } = await evidence(page, 'settled');
  const nodes = paid.reduce((sum, p) => sum + Number(p.amount), 0);
  assert.equal(nodes + Number(treasury) + Number(burned) + Number(returned), Number(escrow), 'not an une is lost');
  return { ...rest, escrow: Number(escrow), spent: Number(escrow) - Number(returned), burned: Number(burned), paid };
}

const QUESTION = 'when should the apple trees be pruned?';

test('a client that rejects a good product pays for it all the same, and more', async () => {
  const liar = await openDishonest();
  await ready(liar);
  await ask(liar, QUESTION);
  assert.equal(await settled(liar), 'done');
  assert.match((await results(liar))[0], /apple/);
  assert.equal(await liar.locator(hook('rejected')).count(), 1, 'it has complained, once');
  const accused = (await evidence(liar, 'committee-derived')).a[0];
  const before = await node(accused.node);

  // An honest client names the accused: it still serves, and is paid.
  const honest = await open(browser, network.playground, { context: await browser.newContext() });
  await ready(honest);
  await honest.locator('summary', { hasText: 'Choices' }).click();
  await honest.locator('#named').locator(`option[value="${accused.node}"]`).waitFor({ state: 'attached' });
  await honest.locator('#named').selectOption(accused.node);
  await ask(honest, QUESTION);
  assert.equal(await settled(honest), 'done');
  assert.equal(await honest.locator(hook('rejected')).count(), 0);
  assert.equal((await evidence(honest, 'committee-derived')).a[0].node, accused.node);

  const [lied, fair] = [await record(liar), await record(honest)];
  assert.equal(fair.burned, 0);
  assert.ok(lied.burned > 0, 'what it refused to pay for is burned');
  assert.equal(lied.spent, fair.spent + lied.burned, 'the lie costs exactly what it withheld');
  assert.ok(!lied.paid.some((p) => p.role === 'compute' && p.to === accused.operator), 'one increment is the accused’s whole loss');
  assert.ok(fair.paid.some((p) => p.role === 'compute' && p.to === accused.operator), 'the accused goes on earning');
  const after = await node(accused.node);
  assert.equal(after.bond, before.bond);
  assert.ok(Number(after.score) >= Number(before.score), 'a client’s word lowers no score');
  assert.deepEqual(honest.problems, []);
  await liar.context().close();
  await honest.context().close();
});

for (const side of ['a', 'b']) {
  test(`the node of side ${side.toUpperCase()}, killed in mid-query, is replaced; nothing is lost`, async () => {
    const page = await open(browser, network.playground, { context: await browser.newContext() });
    await ready(page);
    // Several batches, so that the node dies between the first and the last.
    await ask(page, QUESTION, Array.from({ length: 8 }, (_, i) => `Bed ${i + 1}. ${DOCUMENTS}`).join('\n\n'));
    await page.getByText(/layer [2-6] of 6/).waitFor({ timeout: 60_000 });
    const victim = (await evidence(page, 'committee-derived'))[side][0].node;
    const pid = await network.pid(victim);
    process.kill(pid, 'SIGKILL');
    assert.equal(await settled(page), 'done');
    assert.match((await results(page))[0], /apple/);
    assert.match(await page.locator(hook('rejected')).innerText(), /no answer/);
    assert.equal((await ladder(page))['layers-checked'], 'verified');
    assert.equal((await record(page)).burned, 0, 'nobody disputed anything');
    await until(async () => ![undefined, pid].includes(await network.pid(victim)), 30, 'the node is back');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
}
