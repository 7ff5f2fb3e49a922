// A tab runs models in floats for others: only if its owner says so, in a worker of its own, compared with
// native nodes, and paid; a run that would never end is ended, and the tab goes on.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';
import { nesa } from '../lib/command.mjs';
import { earned, operator, serve } from '../lib/volunteer.mjs';

const model = join(root, 'models/float/encoder.onnx');
let folder, slow, network, browser, volunteer, address;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-float-'));
  slow = join(folder, 'slow.onnx');
  await copyFile(join(root, 'www/tests/fixtures/slow.onnx'), slow);
  // The first is what the page prepares by itself.
  const models = [join(root, 'models/digits/digits.nesa'), model, slow].flatMap((file) => ['--model', file]);
  network = await up({ scenario: 'volunteers', args: models });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
  if (folder) await rm(folder, { recursive: true, force: true });
});

const TOKENS = { input_ids: [[41, 7, 29, 83, 11]], attention_mask: [[1, 1, 1, 1, 1]] };

/** What `nesa query float` says of `inputs`. */
async function ask(file, inputs, ...more) {
  const given = join(folder, 'inputs.json');
  await writeFile(given, JSON.stringify(inputs));
  const said = await nesa(['query', 'float', file, '--input', given, '--dir', network.dir, '--json', ...more], { dir: folder, seconds: 150 });
  return { code: said.code, answer: JSON.parse(said.out || 'null'), err: said.err };
}

const engine = (page) => page.requests.filter((url) => url.includes('nesa-float'));

test('a tab serves models in floats only when its owner says so, and downloads the engine then', async () => {
  volunteer = await open(browser, new URL('#/donate', network.playground).href);
  await ready(volunteer);
  assert.ok(!(await volunteer.locator(hook('donate-floats')).isChecked()), 'whoever reads inputs has agreed to it');
  assert.match(await volunteer.locator('label', { has: volunteer.locator(hook('donate-floats')) }).innerText(), /this device reads them/);
  await volunteer.locator(hook('donate-floats')).check();
  await serve(volunteer);
  assert.match(await volunteer.locator(hook('donate-float-models')).innerText(), /^2 models run in floats\.$/);
  assert.deepEqual(engine(volunteer), [], 'not before the first run');
  address = await operator(volunteer, network);
});

test('drawn beside native nodes, it comes as near to them as honest machines do, and is paid', async () => {
  const { code, answer, err } = await ask(model, TOKENS, '--until-settled');
  assert.equal(code, 0, err);
  const out = JSON.stringify(answer);
  assert.equal(answer.decision, 'agreed');
  const own = answer.replicas.find((replica) => replica.operator === address);
  assert.ok(own, `its bond draws it: ${out}`);
  assert.equal(own.agrees, true, out);
  assert.equal(own.revealed_what_it_told, true, out);
  assert.equal(own.claimed, '2000', out);
  assert.equal(answer.replicas.filter((replica) => replica.agrees).length, 3, out);
  await until(async () => await earned(volunteer) > 0, 60, 'the page says so');
  assert.deepEqual(volunteer.problems, []);
});

test('a run that never ends is ended, and the tab serves on', async () => {
  // Nobody can measure this model; the thresholds of another one serve to ask for it.
  const { digest, plan } = JSON.parse((await nesa(['float', 'info', slow, '--json'], { dir: folder })).out);
  const measured = JSON.parse(await readFile(join(root, 'models/float/mlp.calibration.json'), 'utf8'));
  await writeFile(join(folder, 'slow.calibration.json'), JSON.stringify({ ...measured, model: digest, plan }));
  const stuck = await ask(slow, { x: [0.5] });
  assert.equal(stuck.code, 1, stuck.err);
  assert.match(stuck.answer.decision, /^undecided/);
  const { replicas, replaced } = stuck.answer;
  const mine = [...replaced, ...replicas].find((node) => node.operator === address);
  assert.ok(mine?.reason ?? mine?.problem, `it was asked, and gave no answer: ${JSON.stringify(stuck.answer)}`);
  const { code, answer, err } = await ask(model, TOKENS);
  assert.equal(code, 0, err);
  assert.equal(answer.decision, 'agreed');
  const own = answer.replicas.find((replica) => replica.operator === address);
  assert.equal(own?.agrees, true, `a fresh engine answers: ${JSON.stringify(answer)}`);
  assert.deepEqual(volunteer.problems, []);
});
