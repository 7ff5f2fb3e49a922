// Three of four validators lie to light clients: a forged header, another group's certificate, a
// swapped seed. The page refuses each for what it is, and one honest validator is enough.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, ask, settled, ladder, results } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

let network, browser, context;
before(async () => {
  network = await up({ scenario: 'forger' });
  browser = await launch();
  context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
});
after(async () => {
  await browser?.close();
  await network?.down();
});

/** From here on pages of `target` are told of validator `index` alone. */
const only = (target, index) => target.route('**/v1/bootstrap', async (route) => {
  const response = await route.fetch();
  const body = await response.json();
  await route.fulfill({ response, json: { ...body, peers: [body.peers[index]] } });
});

test('a page that meets all three liars is answered through the fourth, and names them', async () => {
  const page = await open(browser, network.playground, { context });
  await ready(page);
  await ask(page, 'what does the insurance cover?');
  assert.equal(await settled(page), 'done');
  assert.match((await results(page))[0], /water damage/);
  await until(async () => (await ladder(page)).settled === 'verified', 60, 'settlement');
  await page.goto(new URL('#/network', network.playground).href);
  await until(async () => (await page.locator(hook('peer-refused')).count()) === 3, 10, 'three refused peers');
  const words = (await page.locator(hook('peer-refused')).allInnerTexts()).join('\n');
  for (const lie of ['certified digest', 'certificate', 'seed']) assert.ok(words.includes(lie), `${lie} in: ${words}`);
  assert.equal(await page.locator(hook('peer')).count(), 1, 'the honest one stays');
  assert.deepEqual(page.problems, []);
});

for (const [index, lie, words] of [[0, 'a forged header', /certified digest/], [1, 'a certificate under another group key', /certificate/]]) {
  test(`${lie} from everyone reachable: refused in words, nothing can be asked`, async () => {
    const other = await browser.newContext();
    await only(other, index);
    const page = await open(browser, network.playground, { context: other });
    await page.locator(`${hook('status')}[data-phase="failed"]`).waitFor({ timeout: 60_000 });
    const problem = page.locator('[data-code="wrong-network"]');
    assert.match(await problem.innerText(), words);
    assert.match(await problem.innerText(), /Got[\s\S]*Expected/);
    assert.match(await problem.innerText(), /Nothing private was sent/);
    assert.ok(await page.locator(hook('ask')).isDisabled());
    await other.close();
  });
}

test('a swapped seed from everyone reachable: no node is drawn, no share leaves', async () => {
  await only(context, 2);
  const page = await open(browser, network.playground, { context });
  await ready(page);
  await ask(page, 'when are pears pruned?');
  assert.equal(await settled(page), 'failed');
  const rungs = await ladder(page);
  assert.equal(rungs['header-final'], 'verified');
  for (const step of ['committee-derived', 'shares-sent', 'layers-checked']) assert.notEqual(rungs[step], 'verified', step);
  assert.match(await page.locator('.page .note.failed').first().innerText(), /seed/);
  await page.locator(`${hook('status')}[data-phase="failed"]`).waitFor({ timeout: 30_000 });
});
