// The sealed lane and thin preparation in the page, against real local networks: the committee's text is the
// one that this machine alone writes, a lie never turns green, a node that dies costs no word, nothing of a
// chat is found in the clear, and a thin preparation fetches no weights.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, settled, ladder, evidence } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';
import { worker } from '../lib/worker.mjs';
import { nesa } from '../lib/command.mjs';
import { compile } from '../lib/checkpoint.mjs';

/** A rare word, so that finding it anywhere means that it leaked. */
const QUESTION = 'What is a zanzibarite?';
const TOKENS = 24;
let folder, args, network, browser, page, alone, model;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-sealed-'));
  const writer = await compile(folder, 'two-layers', { layers: 2 });
  const { out, err } = await nesa(['model', 'generate', writer, '--chat', QUESTION, '--tokens', `${TOKENS}`, '--json'], { dir: folder });
  assert.ok(out, err);
  alone = JSON.parse(out);
  // The first is what the page prepares by itself.
  args = [join(root, 'models/digits/digits.nesa'), writer].flatMap((file) => ['--model', file]);
  network = await up({ args });
  model = network.models[1];
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
const standing = (on) => on.locator(hook('standing')).last().getAttribute('data-standing').catch(() => null);

/** A new chat in the sealed lane, with as many tokens as this machine wrote alone. */
async function choose(on, net) {
  await go(on, net, '#/chat');
  await on.locator(hook('lane-sealed')).check();
  await on.evaluate(() => {
    globalThis.stood = [];
    new MutationObserver(() => {
      for (const mark of document.querySelectorAll('[data-test="standing"]')) {
        const now = mark.dataset.standing;
        if (now && globalThis.stood.at(-1) !== now) globalThis.stood.push(now);
      }
    }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-standing'] });
  });
  await on.locator(hook('settings')).click();
  await on.locator(hook('max-tokens')).fill(`${TOKENS}`);
  await on.locator(hook('max-tokens')).blur();
  await on.locator(hook('settings-close')).click();
}

async function say(on, text = QUESTION) {
  await on.locator(hook('message')).fill(text);
  await on.locator(hook('message')).press('Enter');
  await on.waitForURL(/#\/c\/\d+$/, { timeout: 120_000 });
}

/** The answer byte for byte, as the conversation keeps it. */
async function words(on) {
  await on.locator(hook('export-talk')).click();
  const [download] = await Promise.all([on.waitForEvent('download'), on.getByRole('button', { name: 'I agree, export it' }).click()]);
  const file = JSON.parse(await readFile(await download.path(), 'utf8'));
  return { file, text: file.conversation.messages.at(-1).content };
}

/** Keys of everything this origin keeps, and whether any value of it holds `needle`. */
const kept = (on, needle) => on.evaluate((needle) => new Promise((done, fail) => {
  const request = indexedDB.open('nesa');
  request.onerror = () => fail(request.error);
  request.onsuccess = () => {
    const store = request.result.transaction('entries').objectStore('entries');
    const keys = [];
    let found = false;
    const text = (value) => {
      if (value instanceof ArrayBuffer) return new TextDecoder('latin1').decode(value);
      if (ArrayBuffer.isView(value)) return new TextDecoder('latin1').decode(value);
      if (value !== null && typeof value === 'object') return Object.values(value).map(text).join('\n');
      return String(value);
    };
    store.openCursor().onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor) { request.result.close(); return done({ keys, found }); }
      keys.push(text(cursor.key));
      found ||= text(cursor.value).includes(needle) || text(cursor.key).includes(needle);
      cursor.continue();
    };
  };
}), needle);

test('a committee writes what this machine alone writes, marked until all traces are out and equal', async () => {
  await choose(page, network);
  await until(async () => (await page.locator(hook('online-shard')).count()) === 2, 60, 'the shards of the plan');
  assert.match(await page.locator(hook('online')).innerText(), /5 of 5 registered nodes answered just now/);
  assert.match(await page.locator(hook('odds')).innerText(), /If one in three of the stake .* is 7\.3/);
  await page.locator(hook('message')).fill(QUESTION);
  await page.locator(hook('quote')).waitFor({ timeout: 60_000 });
  assert.match(await page.locator(hook('quote')).innerText(), /6 nodes will see/);
  await say(page);
  assert.equal(await settled(page, ['done', 'failed', 'cancelled'], 180), 'done');
  assert.equal((await words(page)).text, alone.text);
  assert.notEqual(await page.locator(hook('seal')).last().getAttribute('data-state'), 'verified', 'not before the traces');
  await until(async () => (await standing(page)) === 'agreed', 120, 'equal traces on the chain');
  assert.deepEqual(await page.evaluate(() => globalThis.stood), ['provisional', 'agreed']);
  const rungs = await ladder(page);
  for (const step of ['request-escrowed', 'header-final', 'shards-drawn', 'envelopes-sealed', 'replicas-agreed', 'traces-equal']) assert.equal(rungs[step], 'verified', step);
  assert.equal((await evidence(page, 'traces-equal')).roots.length, 2);
  assert.equal(await page.locator(hook('seal')).last().getAttribute('data-state'), 'verified');
  assert.deepEqual(page.problems, []);
});

test('it is kept with its record over a reload, settled, and a file of it is believed nothing', async () => {
  await page.reload();
  await ready(page);
  await until(async () => (await standing(page)) === 'agreed', 60, 'the record');
  await until(async () => (await ladder(page)).settled === 'verified', 120, 'the end of the escrow');
  const { file } = await words(page);
  assert.equal(file.jobs[0].view.sealed.nodes.length, 6);
  assert.equal(file.jobs[0].view.sealed.standing, 'verified');
  assert.ok(file.jobs[0].payment, 'the file holds the payment receipt');
  const url = page.url();
  await page.locator(hook('import')).first().setInputFiles({ name: 'c.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(file)) });
  await page.waitForURL((now) => now.href !== url, { timeout: 60_000 });
  await until(async () => (await standing(page)) !== null, 30, 'the imported answer');
  assert.equal(await standing(page), 'unverified');
  // What the receipt in the file shows was checked here; that the traces were equal, to this device, was not.
  const shown = await ladder(page);
  for (const step of ['request-escrowed', 'header-final', 'shards-drawn', 'settled']) assert.equal(shown[step], 'verified', step);
  for (const step of ['envelopes-sealed', 'replicas-agreed', 'traces-equal']) assert.equal(shown[step], 'notChecked', step);
  assert.notEqual(await page.locator(hook('seal')).last().getAttribute('data-state'), 'verified');
  assert.deepEqual(page.problems, []);
});

test('its payment receipt is exported, holds here and on the command line, and not with one byte changed', async () => {
  await page.goBack();
  await until(async () => (await standing(page)) === 'agreed', 60, 'the answer of this device');
  await page.locator('details.records > summary').last().click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator(hook('export-payment')).last().click()]);
  const text = await readFile(await download.path(), 'utf8');
  assert.ok(!text.includes('zanzibarite') && !text.includes(alone.text), 'no word of the text');
  let checked = 0;
  const verify = async (bytes) => {
    const name = `payment-${++checked}.json`;
    const file = join(folder, name);
    await writeFile(file, bytes);
    const line = await nesa(['receipt', 'verify', file, '--trust-root', network.trust_root, '--json'], { dir: folder });
    await go(page, network, '#/verify');
    await page.locator(hook('verify-file')).setInputFiles(file);
    const shown = page.locator(hook('verify-result')).filter({ hasText: name });
    await shown.waitFor({ timeout: 60_000 });
    return [line.code, await shown.getAttribute('data-ok'), line.out];
  };
  const good = await verify(text);
  assert.deepEqual(good.slice(0, 2), [0, 'true'], good[2]);
  assert.match(good[2], /3 of 3 replicas of shard 1 revealed the same trace/);
  // A byte of the payment, of the seed, of the settled record and of its proof.
  const receipt = JSON.parse(text);
  const flip = (hex) => { const at = hex.length >> 1; return hex.slice(0, at) + (hex[at] === '0' ? '1' : '0') + hex.slice(at + 1); };
  for (const bend of [
    (r) => { r.payment = flip(r.payment); },
    (r) => { r.seed = flip(r.seed); },
    (r) => { r.paid.entries[0].value = flip(r.paid.entries[0].value); },
    (r) => { r.paid.entries[0].proof = flip(r.paid.entries[0].proof); },
  ]) {
    const other = structuredClone(receipt);
    bend(other);
    const bad = await verify(JSON.stringify(other));
    assert.deepEqual(bad.slice(0, 2), [1, 'false'], bend.toString());
  }
  assert.deepEqual(page.problems, []);
});

test('no word of it on this device in the clear, in a URL, in a log or in a file of the network', async () => {
  assert.ok(!(await kept(page, 'zanzibarite')).found, 'IndexedDB');
  assert.deepEqual(page.requests.filter((u) => /zanzibarite/.test(decodeURIComponent(u))), []);
  const needle = Buffer.from('zanzibarite');
  for (const entry of await readdir(network.dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const bytes = await readFile(path).catch((e) => { if (e.code === 'ENOENT') return Buffer.alloc(0); throw e; });
    assert.equal(bytes.indexOf(needle), -1, path);
  }
});

test('a thin preparation fetches no weights, checks the same words, and the ladder says who prepared', async () => {
  const thin = await worker(browser, network);
  const pieces = async () => (await kept(thin.page, QUESTION)).keys.filter((key) => key.includes(`model-${model}`)).length;
  const offer = () => thin.see((seen, digest) => seen.models.models.find((m) => m.digest === digest), model);
  const prepared = async (preparation) => {
    await thin.send({ t: 'prepareModel', model, preparation });
    await until(async () => { const { phase } = await offer(); return phase.phase === 'ready' && phase.thin === (preparation === 'thin'); }, 120, preparation);
    return pieces();
  };
  const without = await prepared('thin');
  const messages = [{ role: 'user', content: QUESTION }], lane = { lane: 'masked', preparation: 'thin' };
  await thin.send({ t: 'run', job: 9, task: { kind: 'chat', model, messages, sampling: { maxTokens: TOKENS }, lane }, options: {} });
  const job = () => thin.see((seen) => seen.jobs[9]);
  await until(async () => !['running', undefined].includes((await job())?.state), 240, 'the end of a chat');
  const { written, ladder: rungs, problem } = await job();
  assert.equal(written?.text, alone.text, JSON.stringify(problem));
  const checked = rungs.find((rung) => rung.id === 'layers-checked');
  assert.equal(checked.state, 'verified');
  assert.match(checked.detail, /under an s that two other nodes prepared/);
  assert.equal(checked.evidence.prepared_by.preparers.length, 2);
  assert.equal(await pieces(), without, 'the chat fetched nothing more');
  // The same device preparing by itself has to fetch the weights: so they were not here.
  const { bytes, thinBytes } = await offer();
  assert.ok(thinBytes < bytes, `${thinBytes} of ${bytes} bytes`);
  const all = await prepared('local');
  assert.ok(all > without, `${without} pieces, ${all} with the weights`);
  await thin.close();
});

test('a liar is caught, and the text never turns green', async () => {
  // Nodes have deadlines: one network at a time.
  await page.close();
  await network.down();
  network = undefined;
  const lying = await up({ scenario: 'liar', args });
  try {
    const other = await open(browser, lying.playground);
    await ready(other);
    await choose(other, lying);
    await say(other);
    assert.equal(await settled(other, ['done', 'failed', 'cancelled'], 240), 'failed');
    assert.ok(await other.locator(hook('rejected')).count() >= 1, 'the page shows where nodes contradict each other');
    assert.equal((await ladder(other))['replicas-agreed'], 'failed');
    await other.waitForTimeout(3_000);
    const stood = await other.evaluate(() => globalThis.stood);
    assert.ok(!stood.includes('agreed'), stood.join());
    assert.notEqual(await standing(other), 'agreed');
    assert.deepEqual(other.problems, []);
  } finally {
    await lying.down();
  }
});

test('a node that dies in mid-text is replaced, and not a byte changes', async () => {
  const dying = await up({ scenario: 'crash', args });
  try {
    const other = await open(browser, dying.playground, { acceptDownloads: true });
    await ready(other);
    await choose(other, dying);
    await say(other);
    assert.equal(await settled(other, ['done', 'failed', 'cancelled'], 240), 'done');
    assert.ok(await other.locator(hook('replaced')).count() >= 1, 'it is told');
    assert.equal(await other.locator('.note.failed').count(), 0, 'and is no error');
    assert.equal((await words(other)).text, alone.text);
    await until(async () => !['provisional', null].includes(await standing(other)), 120, 'an end of waiting');
    // The part that the dead one committed to does not stand against the others.
    const told = await Promise.all([hook('replaced'), '[data-step="traces-equal"]'].map((part) => other.locator(part).allInnerTexts()));
    assert.equal(await standing(other), 'agreed', told.flat().join('; '));
    assert.deepEqual(other.problems, []);
  } finally {
    await dying.down();
  }
});
