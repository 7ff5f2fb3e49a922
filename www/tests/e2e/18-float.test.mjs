// Models that run in floats, in the page, against a real local network in which node c0 runs 8-bit weights
// and says that it runs the real ones: it is shown as different, the answer is that of the honest nodes, and
// nothing is ever called verified that is evidence.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, settled, ladder, evidence } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';
import { nesa } from '../lib/command.mjs';

/** Numbers that nobody else would write: found anywhere, they leaked. */
const INPUTS = { input_ids: [[41, 7, 29, 83, 11]], attention_mask: [[1, 1, 1, 1, 1]] };
const model = join(root, 'models/float/encoder.onnx');
let folder, network, browser, page, culprit;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-float-'));
  network = await up({ scenario: 'quantised', args: ['--model', model, '--model', join(root, 'models/float/mlp.onnx')] });
  culprit = JSON.parse(await readFile(join(network.dir, 'network.json'), 'utf8')).nodes[0].operator;
  browser = await launch();
  page = await open(browser, new URL('#/float', network.playground).href, { acceptDownloads: true });
  await page.evaluate(() => {
    globalThis.seals = [];
    new MutationObserver(() => {
      for (const mark of document.querySelectorAll('[data-test="seal"], [data-step="answers-near"]')) {
        const now = mark.dataset.state;
        if (now && globalThis.seals.at(-1) !== now) globalThis.seals.push(now);
      }
    }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-state'] });
  });
});
after(async () => {
  await browser?.close();
  await network?.down();
  if (folder) await rm(folder, { recursive: true, force: true });
});

const at = (name) => page.locator(hook(name)).last();

async function run(replicas) {
  await page.goto(new URL('#/float', network.playground).href);
  await page.getByRole('radio', { name: /^encoder/ }).check({ timeout: 120_000 });
  await at('float-inputs').fill(JSON.stringify(INPUTS));
  await at('float-replicas').selectOption(`${replicas}`);
  // The first run makes a wallet and takes test NES by itself.
  await at('ask').click({ timeout: 60_000 });
  await page.waitForURL(/#\/q\/\d+$/, { timeout: 120_000 });
  return settled(page, ['done', 'failed', 'cancelled'], 120);
}

test('the quantised replica is shown as different, the outputs are the honest ones, and it is called evidence', async () => {
  assert.equal(await run(3), 'done');
  assert.match(await at('float-agreement').innerText(), /2 of 3 nodes agree/);
  const nodes = await page.locator(hook('float-node')).evaluateAll((all) => all.map((n) => [n.dataset.operator, n.dataset.state]));
  assert.equal(nodes.length, 3);
  for (const [operator, state] of nodes) assert.equal(state, operator === culprit ? 'differs' : 'agrees', operator);
  assert.ok(nodes.some(([operator]) => operator === culprit), 'its bond draws it');

  const [file] = await Promise.all([page.waitForEvent('download'), at('float-save').click()]);
  const saved = JSON.parse(await readFile(await file.path(), 'utf8'));
  await writeFile(join(folder, 'x.json'), JSON.stringify(INPUTS));
  const { out, err } = await nesa(['float', 'run', model, '--input', join(folder, 'x.json'), '--json'], { dir: folder });
  assert.ok(out, err);
  const alone = JSON.parse(out).outputs;
  const [name] = Object.keys(alone);
  assert.deepEqual(saved[name].shape, alone[name].shape);
  assert.deepEqual(saved[name].data.map(Math.fround), alone[name].data.map(Math.fround), 'one machine, one engine');

  await until(async () => (await ladder(page))['answers-revealed'] === 'verified', 120, 'what the nodes published');
  const rungs = await ladder(page);
  for (const step of ['request-escrowed', 'header-final', 'shards-drawn', 'envelopes-sealed']) assert.equal(rungs[step], 'verified', step);
  assert.equal(rungs['answers-near'], 'evidence');
  assert.equal((await evidence(page, 'answers-near')).calibration.length, 64);
  assert.equal(await at('seal').getAttribute('data-state'), 'statistical');
  assert.match(await at('standing').innerText(), /^Statistical evidence\./);
  await until(async () => (await ladder(page)).settled === 'verified', 120, 'the end of the escrow');
  assert.match(await at('cost').innerText(), /Burned in dispute/, 'what the culprit did not get comes back to nobody');
  assert.ok(!(await page.evaluate(() => globalThis.seals)).includes('verified'), 'never green, not for a moment');
});

test('after a reload it is still there, checked again from the chain', async () => {
  await page.reload();
  await at('float-agreement').waitFor({ timeout: 60_000 });
  assert.match(await at('float-agreement').innerText(), /2 of 3 nodes agree/);
  await at('recheck').click({ timeout: 60_000 });
  await page.getByText('Life of this query').click();
  await until(async () => (await page.locator('.life').innerText()).includes('checked again by this device'), 60, 'a second look');
  assert.equal(await at('seal').getAttribute('data-state'), 'statistical');
});

test('one honest node against the culprit: no answer', async () => {
  assert.equal(await run(2), 'failed');
  assert.match(await at('standing').innerText(), /^The nodes disagree\./);
  assert.equal(await page.locator(hook('float-output')).count(), 0);
  assert.equal(await at('seal').getAttribute('data-state'), 'failed');
  assert.deepEqual(page.problems, []);
});
