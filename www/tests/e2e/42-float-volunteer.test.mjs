// A tab runs models in floats for others: only if its owner says so, in a worker of its own, compared with
// native nodes, and paid.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';
import { nesa } from '../lib/command.mjs';

const model = join(root, 'models/float/encoder.onnx');
let folder, network, browser, volunteer, address;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-float-'));
  // The first is what the page prepares by itself.
  network = await up({ scenario: 'volunteers', args: ['--model', join(root, 'models/digits/digits.nesa'), '--model', model] });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
  if (folder) await rm(folder, { recursive: true, force: true });
});

const height = async () => (await (await fetch(`${network.rpc}/v1/status`)).json()).head.height;
const engine = (page) => page.requests.filter((url) => url.includes('nesa-float'));

test('a tab serves models in floats only when its owner says so, and downloads the engine then', async () => {
  volunteer = await open(browser, new URL('#/donate', network.playground).href);
  await ready(volunteer);
  assert.ok(!(await volunteer.locator(hook('donate-floats')).isChecked()), 'whoever reads inputs has agreed to it');
  assert.match(await volunteer.locator('label', { has: volunteer.locator(hook('donate-floats')) }).innerText(), /this device reads them/);
  await volunteer.locator(hook('donate-floats')).check();
  await volunteer.locator(hook('donate-start')).click();
  await volunteer.locator(hook('donate-stop')).waitFor({ timeout: 120_000 });
  await until(async () => /^Serving/.test(await volunteer.locator(hook('donate-phase')).innerText()), 120, 'it is registered');
  assert.match(await volunteer.locator(hook('donate-float-models')).innerText(), /^1 model run in floats\.$/);
  assert.deepEqual(engine(volunteer), [], 'not before the first run');
  await volunteer.goto(new URL('#/wallet', network.playground).href);
  address = (await volunteer.locator(hook('wallet-address')).innerText()).trim();
  await volunteer.goto(new URL('#/donate', network.playground).href);
});

test('drawn beside native nodes, it comes as near to them as honest machines do, and is paid', async () => {
  // Queries draw from a snapshot that is at least one interval of four blocks old.
  const registered = await height();
  await until(async () => (await height()) >= registered + 8, 60, 'the volunteer is in the snapshot');
  const input = join(folder, 'x.json');
  await writeFile(input, JSON.stringify({ input_ids: [[41, 7, 29, 83, 11]], attention_mask: [[1, 1, 1, 1, 1]] }));
  const ask = ['query', 'float', model, '--input', input, '--dir', network.dir, '--until-settled', '--json'];
  const { code, out, err } = await nesa(ask, { dir: folder, seconds: 150 });
  assert.equal(code, 0, err);
  const answer = JSON.parse(out);
  assert.equal(answer.decision, 'agreed');
  const own = answer.replicas.find((replica) => replica.operator === address);
  assert.ok(own, `its bond draws it: ${out}`);
  assert.equal(own.agrees, true, out);
  assert.equal(own.revealed_what_it_told, true, out);
  assert.equal(own.claimed, '2000', out);
  assert.equal(answer.replicas.filter((replica) => replica.agrees).length, 3, out);
  await until(async () => Number.parseFloat(await volunteer.locator(hook('donate-earned')).innerText()) > 0, 60, 'the page says so');
  assert.deepEqual(volunteer.problems, []);
});
