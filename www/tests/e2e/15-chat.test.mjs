// Chat and digits on the page, against a real local network: text appears as it is checked, and a liar is
// caught in mid-answer.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, settled, ladder } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';
import { nesa } from '../lib/command.mjs';
import { compile } from '../lib/checkpoint.mjs';

const CHECKED = ['request-escrowed', 'header-final', 'committee-derived', 'shares-sent', 'layers-checked', 'output-bound'];
/** Rare words, so that finding them anywhere means that they leaked. */
const QUESTION = 'What is a lighthouse zanzibarite?';
const DICTIONARY = join(root, 'models/dictionary.nesa');
let folder, args, network, browser, page;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-page-'));
  // Any model that writes will do; what it writes is the models' own tests' concern.
  const writer = existsSync(DICTIONARY) ? DICTIONARY : await compile(folder, 'plain');
  const models = [join(root, 'models/all-minilm-l6-v2.nesa'), writer, join(root, 'models/digits/digits.nesa')];
  args = models.flatMap((file) => ['--model', file]);
  network = await up({ args });
  browser = await launch();
  page = await open(browser, network.playground, { acceptDownloads: true });
  await ready(page);
});
after(async () => {
  await browser?.close();
  await network?.down();
  if (folder) await rm(folder, { recursive: true, force: true });
});

const go = (on, net, hash) => on.goto(new URL(hash, net.playground).href);
const say = async (on, text) => {
  await on.locator(hook('message')).fill(text);
  await on.locator(hook('message')).press('Enter');
  await on.waitForURL(/#\/c\/\d+$/, { timeout: 120_000 });
};
const text = (on) => on.locator(hook('answer-text')).last().innerText();

test('a model answers privately, word by word, and every rung is checked by this device', async () => {
  await go(page, network, '#/chat');
  await page.locator(`${hook('model')} input[name="model"]:checked`).waitFor({ timeout: 60_000 });
  await page.locator(hook('message')).fill(QUESTION);
  await page.locator(hook('quote')).waitFor({ timeout: 120_000 });
  await say(page, QUESTION);
  await page.locator(hook('answer-text')).last().waitFor({ timeout: 120_000 });
  assert.equal(await settled(page, ['done', 'failed', 'cancelled'], 240), 'done');
  assert.match(await text(page), /\S/);
  const rungs = await ladder(page);
  for (const step of CHECKED) assert.equal(rungs[step], 'verified', step);
  assert.equal(await page.locator(hook('seal')).last().getAttribute('data-state'), 'verified');
  assert.match(await page.locator(hook('figures')).last().innerText(), /First token after/);
  assert.deepEqual(page.problems, []);
});

test('the payment receipt of an answer verifies on the command line and holds no word of it', async () => {
  await until(async () => (await ladder(page)).settled === 'verified', 90, 'settlement');
  await page.locator('.records > summary').last().click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator(hook('export-payment')).last().click()]);
  const file = join(network.dir, 'chat-payment.json');
  await download.saveAs(file);
  const good = await nesa(['receipt', 'verify', file, '--trust-root', network.trust_root, '--json'], { dir: network.dir });
  assert.equal(good.code, 0, good.err + good.out);
  assert.ok(!(await readFile(file, 'utf8')).includes('zanzibarite'));
});

test('the same question at temperature 0 is answered with the same words', async () => {
  const first = await text(page);
  await page.locator(hook('regenerate')).last().click();
  await page.locator(`${hook('ask')}:not([disabled])`).last().click();
  await until(async () => /2 of 2/.test(await page.locator(hook('versions')).last().innerText().catch(() => '')), 60, 'a second answer');
  assert.equal(await settled(page, ['done', 'failed', 'cancelled'], 240), 'done');
  assert.equal(await text(page), first);
});

test('a conversation outlives a reload, and goes out and comes back as a file', async () => {
  const before = await text(page);
  await page.reload();
  await ready(page);
  await until(async () => (await text(page).catch(() => '')) === before, 60, 'the conversation');
  await page.locator(hook('export-talk')).click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'I agree, export it' }).click()]);
  const url = page.url();
  await page.locator(hook('import')).first().setInputFiles(await download.path());
  await page.waitForURL((now) => now.href !== url, { timeout: 60_000 });
  await until(async () => (await text(page).catch(() => '')) === before, 60, 'the imported conversation');
  assert.deepEqual(page.problems, []);
});

test('a drawn digit is read, and every rung is checked by this device', async () => {
  await go(page, network, '#/digit');
  const box = await page.locator(hook('pad')).boundingBox();
  const to = (x, y) => [box.x + box.width * x, box.y + box.height * y];
  await page.mouse.move(...to(0.3, 0.15));
  await page.mouse.down();
  await page.mouse.move(...to(0.7, 0.13), { steps: 6 });
  await page.mouse.move(...to(0.58, 0.45), { steps: 6 });
  await page.mouse.move(...to(0.45, 0.88), { steps: 6 });
  await page.mouse.up();
  await page.locator(`${hook('ask')}:not([disabled])`).waitFor({ timeout: 120_000 });
  await page.locator(hook('ask')).click();
  await page.waitForURL(/#\/q\/\d+$/, { timeout: 120_000 });
  assert.equal(await settled(page, ['done', 'failed', 'cancelled'], 120), 'done');
  assert.match(await page.locator(hook('digit-class')).innerText(), /7/);
  const rungs = await ladder(page);
  for (const step of CHECKED) assert.equal(rungs[step], 'verified', step);
  assert.deepEqual(page.problems, []);
});

test('no word of a chat in any log, transaction, data file or URL', async () => {
  assert.deepEqual(page.requests.filter((u) => /zanzibarite/.test(decodeURIComponent(u))), []);
  const needle = Buffer.from('zanzibarite');
  for (const entry of await readdir(network.dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    // A running validator prunes its journals while we read.
    const bytes = await readFile(path).catch((e) => { if (e.code === 'ENOENT') return Buffer.alloc(0); throw e; });
    assert.equal(bytes.indexOf(needle), -1, path);
  }
});

test('a liar in mid-answer is caught and shown, and the answer is still right', async () => {
  const lying = await up({ scenario: 'liar', args });
  try {
    const other = await open(browser, lying.playground);
    await ready(other);
    await go(other, lying, '#/chat');
    await say(other, 'What is a lighthouse?');
    assert.equal(await settled(other, ['done', 'failed', 'cancelled'], 240), 'done');
    assert.ok(await other.locator(hook('rejected')).count() >= 1, 'the page names the node it caught');
    assert.equal((await ladder(other))['layers-checked'], 'verified');
    assert.match(await text(other), /\S/);
    assert.deepEqual(other.problems, []);
  } finally {
    await lying.down();
  }
});
