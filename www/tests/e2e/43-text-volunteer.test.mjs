// A tab writes texts for others: only if its owner says so, from weights that it fetches and checks, beside
// native nodes whose integers it must equal, in both lanes, and paid.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';
import { nesa } from '../lib/command.mjs';
import { earned, operator, serve } from '../lib/volunteer.mjs';

const model = join(root, 'models/dictionary.nesa');
const question = 'What is a lighthouse?';
let folder, network, browser, volunteer, address;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-text-'));
  // The first is what the page prepares by itself.
  const models = [join(root, 'models/digits/digits.nesa'), model].flatMap((file) => ['--model', file]);
  network = await up({ scenario: 'volunteers', args: models });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** What `nesa query generate` says. */
async function ask(...more) {
  const how = ['--chat', '--prompt', question, '--tokens', '32', '--temperature', '0', '--json'];
  const said = await nesa(['query', 'generate', ...how, '--dir', network.dir, ...more], { dir: folder, seconds: 180 });
  assert.equal(said.code, 0, said.err);
  return JSON.parse(said.out);
}

test('a tab fetches language models only when its owner says so', async () => {
  volunteer = await open(browser, new URL('#/donate', network.playground).href);
  await ready(volunteer);
  const choice = volunteer.locator(hook('donate-texts'));
  assert.ok(!(await choice.isChecked()), 'whoever reads texts has agreed to it');
  assert.match(await volunteer.locator('label', { has: choice }).innerText(), /in the sealed lane it reads the text/);
  await choice.check();
  await serve(volunteer);
  assert.equal(await volunteer.locator(hook('donate-text-models')).innerText(), '1 language model served.');
  address = await operator(volunteer, network);
});

test('drawn for a shard, it computes the same integers as native nodes and is paid', async () => {
  const alone = await nesa(['model', 'generate', model, '--chat', question, '--tokens', '32', '--temperature', '0', '--json'], { dir: folder });
  const { text } = JSON.parse(alone.out);
  assert.ok(text.length > 20, text);
  const answer = await ask('--lane', 'sealed', '--shards', '2', '--replicas', '3');
  const out = JSON.stringify(answer);
  assert.equal(answer.text, text, out);
  assert.equal(answer.standing, 'verified', out);
  assert.ok(answer.nodes.some((node) => node.operator === address), `its bond draws it: ${out}`);
  assert.deepEqual(answer.rejected, [], out);
  await until(async () => await earned(volunteer) > 0, 60, 'the page says what it was paid');
  assert.deepEqual(volunteer.problems, []);
});

test('drawn for the masked lane, its products are right', async () => {
  const before = await earned(volunteer);
  const layers = async () => Number((await volunteer.locator(hook('donate-layers')).innerText()).replace(/\D/g, ''));
  const done = await layers();
  for (let i = 0; i < 3 && await layers() === done; i += 1) {
    const answer = await ask();
    assert.deepEqual(answer.rejected ?? [], []);
    await until(async () => await layers() > done, 5, 'the meter').catch(() => {});
  }
  assert.ok(await layers() > done, 'the volunteer was never drawn');
  await until(async () => await earned(volunteer) > before, 90, 'it is paid');
  assert.deepEqual(volunteer.problems, []);
});

test('who unchecks it keeps no weights', async () => {
  const kept = () => volunteer.evaluate(() => new Promise((resolve, reject) => {
    const asked = indexedDB.open('nesa-served');
    asked.onerror = () => reject(asked.error);
    asked.onsuccess = async () => {
      const database = asked.result;
      let count = 0;
      for (const name of database.objectStoreNames) {
        count += await new Promise((done) => {
          database.transaction(name).objectStore(name).count().onsuccess = (event) => done(event.target.result);
        });
      }
      database.close();
      resolve(count);
    };
  }));
  assert.ok(await kept() > 1);
  await volunteer.locator(hook('donate-stop')).click();
  await volunteer.locator(hook('donate-start')).waitFor({ timeout: 60_000 });
  await volunteer.locator(hook('donate-texts')).uncheck();
  await serve(volunteer);
  assert.equal(await volunteer.locator(hook('donate-text-models')).count(), 0);
  assert.equal(await kept(), 0);
});
