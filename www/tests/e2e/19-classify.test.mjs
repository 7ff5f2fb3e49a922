// Classifying a text on the page, against a real local network: the class that one machine alone finds, by
// nodes that cannot read the text, with every rung checked and records that others can check.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, settled, ladder } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';
import { nesa } from '../lib/command.mjs';
import { compileClassifier } from '../lib/checkpoint.mjs';

const CHECKED = ['request-escrowed', 'header-final', 'committee-derived', 'shares-sent', 'layers-checked', 'output-bound'];
const LABELS = ['bad', 'so so', 'good'];
/** Rare words, so that finding them anywhere means that they leaked. */
const TEXT = 'What a zanzibarite day, said the quillwright';
let folder, model, roberta, network, browser, page, alone;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-classify-'));
  model = await compileClassifier(folder, 'moods', { labels: LABELS });
  roberta = await compileClassifier(folder, 'topics', { labels: ['sea', 'land'], kind: 'roberta' });
  const { out, err } = await nesa(['model', 'classify', model, '--text', TEXT, '--json'], { dir: folder });
  assert.ok(out, err);
  alone = JSON.parse(out);
  const models = [join(root, 'models/all-minilm-l6-v2.nesa'), model, roberta].flatMap((file) => ['--model', file]);
  network = await up({ args: models });
  browser = await launch();
  page = await open(browser, network.playground, { acceptDownloads: true });
  await ready(page);
});
after(async () => {
  await browser?.close();
  await network?.down();
  if (folder) await rm(folder, { recursive: true, force: true });
});

const save = async (button, name, confirm) => {
  const download = page.waitForEvent('download');
  await page.locator(hook(button)).last().click();
  if (confirm) await page.getByRole('button', { name: confirm }).click();
  const file = join(folder, name);
  await (await download).saveAs(file);
  return file;
};
const verify = (file, more = []) => nesa(['receipt', 'verify', file, '--trust-root', network.trust_root, '--json', ...more], { dir: folder });

test('a text gets the class and the shares that one machine alone gives it', async () => {
  await page.locator(hook('task'), { hasText: 'Classify a text' }).click();
  await page.waitForURL(/#\/classify$/);
  await page.locator(`${hook('model')} input[name="model"]:checked`).waitFor({ timeout: 60_000 });
  await page.locator(hook('text')).fill(TEXT);
  await page.locator(hook('quote')).waitFor({ timeout: 120_000 });
  await page.getByText('Choices', { exact: true }).click();
  await page.locator(hook('allow-opened')).check();
  await page.locator(hook('ask')).click();
  await page.waitForURL(/#\/q\/\d+$/, { timeout: 120_000 });
  assert.equal(await settled(page, ['done', 'failed', 'cancelled'], 240), 'done');
  assert.ok((await page.locator(hook('class')).innerText()).endsWith(alone.label));
  const shown = (await page.locator(hook('share')).allInnerTexts()).map((row) => row.replace(/[\s\u00a0]+/g, ' '));
  const expected = alone.probabilities.map((share, i) => [share, LABELS[i]]).sort(([a], [b]) => b - a);
  assert.deepEqual(shown, expected.map(([share, label]) => `${label} ${(share * 100).toFixed(1)} %`));
  const rungs = await ladder(page);
  for (const step of CHECKED) assert.equal(rungs[step], 'verified', step);
  assert.equal(await page.locator(hook('seal')).last().getAttribute('data-state'), 'verified');
  assert.deepEqual(page.problems, []);
});

test('both records verify on the command line; the opened one finds the class again', async () => {
  await until(async () => (await ladder(page)).settled === 'verified', 90, 'settlement');
  const payment = await save('export-payment', 'payment.json');
  const paid = await verify(payment);
  assert.equal(paid.code, 0, paid.err + paid.out);
  assert.ok(!(await readFile(payment, 'utf8')).includes('zanzibarite'));
  const opened = await save('export-opened', 'opened.json', 'I agree, export it');
  const found = await verify(opened, ['--model', model]);
  assert.equal(found.code, 0, found.err + found.out);
  assert.equal(JSON.parse(found.out).summary.classes[0].label, alone.label);
  await writeFile(opened, (await readFile(opened, 'utf8')).replace('quillwright', 'quillwrong'));
  assert.equal((await verify(opened, ['--model', model])).code, 1);
});

test('an answer outlives a reload', async () => {
  await page.reload();
  await ready(page);
  await page.locator(hook('class')).waitFor({ timeout: 60_000 });
  assert.ok((await page.locator(hook('class')).innerText()).endsWith(alone.label));
  assert.equal(await page.locator(hook('seal')).last().getAttribute('data-state'), 'verified');
});

test('a pair of texts gets the shares that one machine alone gives it', async () => {
  const [text, pair] = [TEXT, 'an animal moves'];
  const { out, err } = await nesa(['model', 'classify', model, '--text', text, '--pair', pair, '--json'], { dir: folder });
  assert.ok(out, err);
  const both = JSON.parse(out);
  assert.notDeepEqual(both.logits, alone.logits);
  await page.goto(new URL('#/classify', network.playground).href);
  await page.locator(hook('text')).fill(text);
  await page.locator(hook('pair')).fill(pair);
  await page.locator(hook('quote')).waitFor({ timeout: 120_000 });
  await page.locator(hook('ask')).click();
  await page.waitForURL(/#\/q\/\d+$/, { timeout: 120_000 });
  assert.equal(await settled(page, ['done', 'failed', 'cancelled'], 240), 'done');
  const [best] = (await page.locator(hook('share')).allInnerTexts()).map((row) => row.replace(/[\s\u00a0]+/g, ' '));
  assert.equal(best, `${both.label} ${(Math.max(...both.probabilities) * 100).toFixed(1)} %`);
});

test('a model with a tokenizer of its own reads the text as one machine does', async () => {
  const { out, err } = await nesa(['model', 'classify', roberta, '--text', TEXT, '--json'], { dir: folder });
  assert.ok(out, err);
  const here = JSON.parse(out);
  await page.goto(new URL('#/classify', network.playground).href);
  await page.locator(hook('model'), { hasText: 'topics' }).locator('input[name="model"]').check();
  await page.locator(hook('text')).fill(TEXT);
  await page.locator(hook('quote')).waitFor({ timeout: 120_000 });
  await page.locator(hook('ask')).click();
  await page.waitForURL(/#\/q\/\d+$/, { timeout: 120_000 });
  assert.equal(await settled(page, ['done', 'failed', 'cancelled'], 240), 'done');
  const [best] = (await page.locator(hook('share')).allInnerTexts()).map((row) => row.replace(/[\s\u00a0]+/g, ' '));
  assert.equal(best, `${here.label} ${(Math.max(...here.probabilities) * 100).toFixed(1)} %`);
  assert.deepEqual(page.problems, []);
});

test('no word of the text in any log, transaction, data file or URL', async () => {
  assert.deepEqual(page.requests.filter((u) => /zanzibarite|quillwright/.test(decodeURIComponent(u))), []);
  for (const entry of await readdir(network.dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const bytes = await readFile(path).catch((e) => { if (e.code === 'ENOENT') return Buffer.alloc(0); throw e; });
    for (const word of ['zanzibarite', 'quillwright']) assert.equal(bytes.indexOf(word), -1, `${word} in ${path}`);
  }
});
