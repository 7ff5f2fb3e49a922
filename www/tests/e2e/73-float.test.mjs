// Models that run in floats, on the page alone, over a scripted worker: evidence is never called more.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { axe } from '../lib/browser.mjs';
import { start, stop, open, at, done, close } from '../lib/scripted.mjs';
import { hook, ladder } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

before(start);
after(stop);

const page = (scene = '', options = {}) => open(scene, { hash: '#/float', ...options });
const priced = (on) => at(on, 'quote').waitFor();
const run = async (on, state = 'done') => {
  await priced(on);
  await at(on, 'ask').click();
  await on.waitForURL(/#\/q\/\d+$/);
  await done(on, state);
};
const standing = (on) => at(on, 'standing').getAttribute('data-standing');
/** Nothing on the page is green but rungs that this device checked exactly. */
const nothingGreen = async (on) => {
  assert.equal(await on.locator('.seal.verified, .note.verified, [data-standing="agreed"]').count(), 0);
  const rungs = await ladder(on);
  assert.notEqual(rungs['answers-near'], 'verified');
  const said = await on.locator('main').innerText();
  assert.doesNotMatch(said, /every layer|all checks held|answer is right\b(?!\. It is statistical)/i);
};

test('an input that works is there; price, readers and what agreement would say come before sending', async () => {
  const on = await page();
  await on.getByRole('heading', { name: 'Run any model. See whether the nodes agree.' }).waitFor();
  const typed = JSON.parse(await at(on, 'float-inputs').inputValue());
  assert.equal(typed.x.length, 1);
  assert.equal(typed.x[0].length, 4);
  assert.match(await at(on, 'float-takes').innerText(), /x: numbers, \[batch, 4\]/);
  await priced(on);
  const quote = await at(on, 'quote').innerText();
  for (const words of ['3 nodes will see', 'every number of the inputs', '0.002 NES to each node that agrees', 'a spare of 2 takes its place', 'Nobody else will see']) assert.ok(quote.includes(words), `${words}: ${quote}`);
  assert.doesNotMatch(quote, /neither alone|noise/);
  await on.getByText('What their agreement would say').click();
  const rates = await at(on, 'float-rates').innerText();
  for (const words of ['Honest machines told apart', '1 in 500 trials', 'int8 weights passes', 'not relied on']) assert.ok(rates.includes(words), `${words}: ${rates}`);
  assert.match(await at(on, 'quote').innerText(), /this device measured nothing/);
  await at(on, 'float-replicas').selectOption('5');
  await until(async () => (await at(on, 'quote').innerText()).includes('5 nodes will see'), 5, 'the price of five');
  assert.match(await at(on, 'ask').innerText(), /Run on 5 nodes/);
  await close(on);
});

test('what is wrong with the inputs is said where they are typed, and nothing goes out', async () => {
  const on = await page();
  await priced(on);
  for (const [text, words] of [
    ['{', 'No JSON'],
    ['{"z": [[1]]}', 'no input "z". The model takes x'],
    ['{"x": [[1, 2, 3]]}', 'shape [1, 3], expected [batch, 4]'],
    ['{"x": [[1, 2, 3, "4"]]}', 'takes numbers'],
  ]) {
    await at(on, 'float-inputs').fill(text);
    await until(async () => (await at(on, 'float-wrong').innerText()).includes(words), 5, words);
    assert.equal(await at(on, 'float-inputs').getAttribute('aria-invalid'), 'true');
    assert.ok(await at(on, 'ask').isDisabled());
  }
  await at(on, 'float-example').click();
  await until(async () => at(on, 'ask').isEnabled(), 5, 'inputs that fit');
  await at(on, 'float-file').setInputFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from('{"x": [[9, 8, 7, 6], [1, 2, 3, 4]]}') });
  await until(async () => (await at(on, 'float-inputs').inputValue()).includes('9, 8'), 5, 'the file');
  assert.ok(await on.getByLabel('unmeasured').isDisabled(), 'nothing was measured of it');
  assert.match(await at(on, 'model-broken').innerText(), /Nothing was measured/);
  await on.getByLabel('encoder').check();
  await until(async () => (await at(on, 'float-inputs').inputValue()).includes('attention_mask'), 5, 'inputs of the other model');
  await close(on);
});

test('near answers are statistical evidence, with their rates, and nothing more', async () => {
  const on = await page();
  await run(on);
  await until(async () => (await standing(on)) === 'evidence', 5, 'a standing');
  assert.match(await at(on, 'standing').innerText(), /^Statistical evidence\./);
  assert.match(await at(on, 'float-agreement').innerText(), /3 of 3 nodes agree.*3\.1e-7 of the largest; honest machines may by 1\.3e-6/);
  assert.match(await at(on, 'float-evidence').innerText(), /int8 weights or a swapped model came as near in at most 0\.73.*Whoever knows the thresholds can stay within them/);
  const seal = at(on, 'seal');
  assert.equal(await seal.getAttribute('data-state'), 'statistical');
  assert.match(await seal.innerText(), /^Statistical evidence: .*They have read the inputs/);
  const rungs = await ladder(on);
  assert.equal(rungs['answers-near'], 'evidence');
  await until(async () => (await ladder(on))['answers-revealed'] === 'verified', 5, 'what they published');
  await nothingGreen(on);
  assert.match(await on.locator('.not-proven').innerText(), /That the answer is right/);
  // The greatest first, a value that is no number last, and all of them in the file.
  const rows = await at(on, 'float-output').locator('tbody tr').allInnerTexts();
  assert.equal(rows.length, 10);
  assert.match(rows[0], /0, 10\s+0\.75/);
  const [file] = await Promise.all([on.waitForEvent('download'), at(on, 'float-save').click()]);
  const saved = JSON.parse(await readFile(await file.path(), 'utf8'));
  assert.deepEqual(saved.y.shape, [1, 12]);
  assert.equal(saved.y.data.length, 12);
  assert.equal(saved.y.data[5], null);
  const line = await on.locator(hook('history-item')).first().innerText();
  assert.match(line, /A run of mlp/);
  assert.doesNotMatch(line, /all checks held/);
  await close(on);
});

test('a node that differs is shown as different, and not paid', async () => {
  const on = await page('differs');
  await run(on);
  assert.match(await at(on, 'float-agreement').innerText(), /2 of 3 nodes agree/);
  const nodes = on.locator(hook('float-node'));
  assert.deepEqual(await nodes.evaluateAll((all) => all.map((n) => n.dataset.state)), ['agrees', 'agrees', 'differs']);
  assert.match(await nodes.last().innerText(), /Differs from the others: not counted, not paid/);
  await nothingGreen(on);
  await close(on);
});

test('disagreement, a lack of answers and a broken word are no answers', async () => {
  for (const [scene, state, mark, words] of [
    ['disagree', 'failed', 'disputed', 'The nodes disagree'],
    ['undecided', 'failed', 'unverified', 'Undecided'],
    ['broken', 'done', 'disputed', 'Do not rely on this'],
    ['unrevealed', 'done', 'unverified', 'Weak evidence'],
  ]) {
    const on = await page(scene);
    await run(on, state);
    await until(async () => (await standing(on)) === mark, 5, scene);
    assert.ok((await at(on, 'standing').innerText()).startsWith(words), scene);
    assert.notEqual(await at(on, 'seal').getAttribute('data-state'), 'statistical', scene);
    if (state === 'failed') assert.equal(await on.locator(hook('float-output')).count(), 0, 'no outputs to rely on');
    await nothingGreen(on);
    assert.deepEqual(await axe(on), [], scene);
    await close(on);
  }
});

test('a spare is news, a running query says how many have answered, and Esc stops it', async () => {
  const spare = await page('spare');
  await run(spare);
  assert.match(await at(spare, 'replaced').innerText(), /gave no answer \(no answer in time\)\. A spare took its place/);
  await close(spare);
  const on = await page('slow');
  await priced(on);
  await at(on, 'float-inputs').press('Control+Enter');
  await on.waitForURL(/#\/q\/\d+$/);
  await until(async () => (await on.locator('#progress-words').innerText()) === '1 of 3 nodes have answered', 5, 'the count');
  await on.keyboard.press('Escape');
  await done(on, 'cancelled');
  assert.match(await at(on, 'seal').innerText(), /Stopped/);
  await nothingGreen(on);
  await close(on);
});

test('keyboard alone runs it, and it fits 390, 820 and 1440 px in light and dark', async () => {
  const on = await page('', { viewport: { width: 390, height: 844 } });
  const fits = async () => {
    for (const width of [390, 820, 1440]) {
      await on.setViewportSize({ width, height: 900 });
      for (const colorScheme of ['light', 'dark']) {
        await on.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        assert.deepEqual(await axe(on), [], `${width} ${colorScheme}`);
        if (process.env.SHOTS) await on.screenshot({ path: `${process.env.SHOTS}/float-${shot}-${width}-${colorScheme}.png`, fullPage: true });
      }
      assert.ok(await on.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `no sideways scrolling at ${width}`);
    }
  };
  let shot = 'input';
  await priced(on);
  await fits();
  await on.setViewportSize({ width: 390, height: 844 });
  await at(on, 'float-inputs').focus();
  for (const name of ['float-example', 'float-file', 'float-replicas', 'ask']) {
    await on.keyboard.press('Tab');
    assert.equal(await on.evaluate(() => document.activeElement.dataset.test), name);
  }
  await on.keyboard.press('Enter');
  await on.waitForURL(/#\/q\/\d+$/);
  await done(on);
  await until(async () => (await ladder(on))['answers-revealed'] === 'verified', 5, 'what they published');
  shot = 'result';
  await fits();
  await close(on);
});
