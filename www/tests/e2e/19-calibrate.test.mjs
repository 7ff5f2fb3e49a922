// The calibration of a float model, between this machine and the module that browsers load, in Node.js.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../lib/network.mjs';
import { nesa } from '../lib/command.mjs';

const model = join(root, 'models/float/mlp.onnx');
let folder;

before(async () => { folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-calibrate-')); });
after(async () => { await rm(folder, { recursive: true, force: true }); });

async function calibrate(inputs) {
  const file = join(folder, `${inputs}.json`);
  const said = await nesa(['float', 'calibrate', model, '--inputs', `${inputs}`, '--out', file, '--json'], { dir: folder });
  assert.equal(said.code, 0, said.err);
  return { said: JSON.parse(said.out), written: JSON.parse(await readFile(file, 'utf8')) };
}

test('honest machines are told from other weights and inputs, at measured rates', async () => {
  const { said, written } = await calibrate(144);
  assert.match(JSON.stringify(said.decides), /yes/);
  assert.ok(written.platforms.includes('wasm simd128') && written.platforms.some((name) => name.startsWith('native')), written.platforms);
  assert.deepEqual(written.false_positive, { trials: 72, errors: 0 });
  const errors = Object.fromEntries(written.classes.map((one) => [one.name, one.false_negative]));
  for (const name of ['swapped model', 'int4 weights', 'int8 weights', 'bf16 weights', 'f16 weights', 'weights moved by 1000 ppm', 'another input']) {
    assert.equal(errors[name]?.errors, 0, name);
    assert.ok(errors[name].trials >= 70, name);
  }
  // What is nearer than honest machines are to each other passes, and the calibration says so.
  assert.ok(errors['weights moved by 1 ppm'].errors > 0);
  assert.ok(written.classes.find((one) => one.name === 'int8 weights').nearest.output_ppb > written.thresholds.output_ppb);
  // The thresholds that networks are offered hold for this machine too.
  const offered = JSON.parse(await readFile(join(root, 'models/float/mlp.calibration.json'), 'utf8'));
  assert.equal(written.model, offered.model);
  for (const [name, bound] of Object.entries(offered.thresholds)) assert.ok(written.honest[name] <= bound, `${name}: ${written.honest[name]} of ${bound}`);
});

test('too few inputs decide nothing, and say so', async () => {
  const { said, written } = await calibrate(10);
  assert.match(JSON.stringify(said.decides), /no: honest machines may be told apart/);
  assert.equal(written.false_positive.trials, 5);
});

test('without a module nothing is measured', async () => {
  const said = await nesa(['float', 'calibrate', model, '--modules', folder, '--out', join(folder, 'none.json')], { dir: folder });
  assert.equal(said.code, 2);
  assert.match(said.err, /no wasm module of the float lane in .*\n.*cargo xtask float/);
  await assert.rejects(readFile(join(folder, 'none.json')));
});
