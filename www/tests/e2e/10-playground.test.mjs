// The happy path and everything that does not harm the network it runs on.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFile, writeFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { up } from '../lib/network.mjs';
import { launch, open, axe } from '../lib/browser.mjs';
import { hook, ready, ask, settled, ladder, results, evidence, SECRET } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';
import { nesa } from '../lib/command.mjs';

const CHECKED = ['request-escrowed', 'header-final', 'committee-derived', 'shares-sent', 'layers-checked', 'output-bound', 'settled'];
let network, browser, page, interrupted;

before(async () => {
  network = await up();
  browser = await launch();
  page = await open(browser, network.playground, { acceptDownloads: true });
});
after(async () => {
  await browser?.close();
  await network?.down();
});

test('the page is served with strict headers and asks nobody else', async () => {
  const response = await fetch(network.playground);
  const csp = response.headers.get('content-security-policy') ?? '';
  assert.match(csp, /default-src 'none'/);
  assert.doesNotMatch(csp, /unsafe-inline|'unsafe-eval'|\*/);
  assert.equal(response.headers.get('cross-origin-opener-policy'), 'same-origin');
  assert.equal(response.headers.get('cross-origin-embedder-policy'), 'require-corp');
  await ready(page);
  const origin = new URL(network.playground).origin;
  assert.deepEqual(page.requests.filter((u) => !u.startsWith(origin) && !u.startsWith('data:') && !u.startsWith('blob:')), []);
});

test('a private question is answered and every rung is checked by this device', async () => {
  await ask(page, 'what is the secret phrase about a bird?');
  assert.equal(await settled(page), 'done');
  const [best] = await results(page);
  assert.match(best, /blue heron/);
  await until(async () => (await ladder(page)).settled === 'verified', 60, 'settlement');
  const rungs = await ladder(page);
  for (const step of CHECKED) assert.equal(rungs[step], 'verified', step);
  assert.equal(rungs['page-code'], 'notChecked');
  assert.deepEqual(page.problems, []);
});

test('the payment receipt verifies on the command line, and not after a change', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator(hook('export-payment')).last().click()]);
  const file = join(network.dir, 'payment.json');
  await download.saveAs(file);
  const good = await nesa(['receipt', 'verify', file, '--trust-root', network.trust_root, '--json'], { dir: network.dir });
  assert.equal(good.code, 0, good.err + good.out);
  const text = await readFile(file, 'utf8');
  assert.ok(!text.includes('blue heron'), 'a payment receipt holds no prompt');
  const broken = text.replace(/"([0-9a-f]{40,})"/, (_, hex) => `"${hex[0] === '0' ? '1' : '0'}${hex.slice(1)}"`);
  assert.notEqual(broken, text);
  await writeFile(file, broken);
  const bad = await nesa(['receipt', 'verify', file, '--trust-root', network.trust_root, '--json'], { dir: network.dir });
  assert.equal(bad.code, 1, bad.out);
});

test('a receipt of another network is refused', async () => {
  const file = join(network.dir, 'payment2.json');
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator(hook('export-payment')).last().click()]);
  await download.saveAs(file);
  const other = network.trust_root.slice(0, 200) + (network.trust_root[200] === '0' ? '1' : '0') + network.trust_root.slice(201);
  const bad = await nesa(['receipt', 'verify', file, '--trust-root', other, '--json'], { dir: network.dir });
  assert.equal(bad.code, 1, bad.out);
});

test('the Verify page checks the same receipt offline', async () => {
  const file = join(network.dir, 'payment2.json');
  await page.goto(new URL('#/verify', network.playground).href);
  await page.locator(hook('verify-file')).setInputFiles(file);
  await page.locator(`${hook('verify-result')}[data-ok="true"]`).waitFor({ timeout: 60_000 });
});

test('blocks tick on the network page, each verified here', async () => {
  await page.goto(new URL('#/network', network.playground).href);
  const verified = page.locator(`${hook('block')}[data-state="verified"]`);
  await verified.first().waitFor({ timeout: 30_000 });
  const height = async () => Number(await verified.first().getAttribute('data-height'));
  const first = await height();
  await until(async () => (await height()) > first, 30, 'a newer block');
});

test('a reload in mid-query loses nothing: the history tells what became of it', async () => {
  await page.goto(new URL('#/playground', network.playground).href);
  await ready(page);
  await ask(page, 'when should I prune the apple trees?');
  await page.locator(`${hook('answer')}[data-state="running"]`).last().waitFor({ timeout: 30_000 });
  // Paid, and not answered.
  await evidence(page, 'request-escrowed');
  interrupted = page.url();
  await page.reload();
  await ready(page);
  await until(async () => (await page.locator(hook('history-item')).count()) >= 2, 30, 'both questions in the history');
  assert.equal(await settled(page, ['interrupted', 'done', 'failed']), 'interrupted');
  const rungs = await ladder(page);
  assert.equal(rungs['request-escrowed'], 'verified', 'what was checked stays checked');
  assert.notEqual(rungs['output-bound'], 'verified', 'and nothing is claimed beyond it');
});

for (const [name, hash] of [['playground', '#/playground'], ['network', '#/network'], ['donate', '#/donate'], ['wallet', '#/wallet'], ['verify', '#/verify'], ['about', '#/about']]) {
  test(`axe finds nothing on ${name}, at 390 and 1280 px, light and dark`, async () => {
    await page.goto(new URL(hash, network.playground).href);
    for (const colorScheme of ['light', 'dark']) {
      for (const width of [390, 1280]) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await page.setViewportSize({ width, height: 900 });
        assert.deepEqual(await axe(page), [], `${colorScheme} ${width}`);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(overflow <= 0, `${name} scrolls sideways by ${overflow} px at ${width}`);
      }
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 1280, height: 900 });
  });
}

test('the interrupted query ended without the page: what it held came back', async () => {
  await page.goto(interrupted);
  const cost = page.locator(hook('cost'));
  await until(async () => /Returned\s+[0-9.]+ NES/.test(await cost.innerText().catch(() => '')) && !/held/.test(await cost.innerText()), 60, 'the return of the escrow');
  assert.deepEqual(page.problems, []);
});

test('no word of the documents in any log, transaction, data file or URL', async () => {
  const needles = [SECRET, 'blue heron', 'marmalade', 'flowerpot'].map((s) => Buffer.from(s));
  assert.deepEqual(page.requests.filter((u) => /heron|marmalade|flowerpot/.test(decodeURIComponent(u))), []);
  for (const entry of await readdir(network.dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    // A running validator prunes its journals while we read.
    const bytes = await readFile(path).catch((e) => { if (e.code === 'ENOENT') return Buffer.alloc(0); throw e; });
    for (const needle of needles) assert.equal(bytes.indexOf(needle), -1, `${needle} in ${path}`);
  }
});
