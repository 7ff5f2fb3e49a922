// Chats and digits through the worker itself, without the page: streamed, stopped, interrupted, kept, moved
// to a file and back; and a model whose tokenizer never ends.
import test, { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { nesa } from '../lib/command.mjs';
import { compile, endless } from '../lib/checkpoint.mjs';
import { until } from '../lib/wait.mjs';

const TEMPLATE = '{% for m in messages %}{{ bos_token + m.role + \':\' + m.content|trim + eos_token }}{% endfor %}'
  + '{% if add_generation_prompt %}{{ bos_token }}{% endif %}';
const QUESTION = 'What is a light</s>house?';
const DIGITS = join(root, 'models/digits/digits.nesa');
const HOW = { temperature: 1, maxTokens: 24, seed: 5 };

let folder, network, browser, page, digests, alone;
let jobs = 100;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nesa-e2e-chat-'));
  const tiny = await compile(folder, 'tiny', { template: TEMPLATE });
  const plain = await compile(folder, 'plain');
  const hostile = await compile(folder, 'hostile', { normalizer: endless });
  const how = ['--tokens', '24', '--temperature', '1', '--seed', '5', '--json'];
  const said = ['--chat', QUESTION, '--system', 'Be brief.'];
  const written = await Promise.all([tiny, plain].map((file) => nesa(['model', 'generate', file, ...said, ...how])));
  alone = written.map(({ out, err }) => { assert.ok(out, err); return JSON.parse(out); });
  const encoder = join(root, 'models/all-minilm-l6-v2.nesa');
  const models = [encoder, tiny, plain, hostile, DIGITS].flatMap((file) => ['--model', file]);
  network = await up({ dir: join(folder, 'net'), args: models });
  digests = network.models;
  browser = await launch();
  // An address of the same origin that is not the page: its own worker would share the store.
  page = await open(browser, new URL('/v1/status', network.playground).href);
  await start();
  await send({ t: 'wallet', command: { c: 'create', passphrase: null } });
  await until(() => see((seen) => seen.wallet?.wallet.state === 'ready'), 60, 'a wallet');
  await until(() => see((seen) => seen.models?.models.length === 5), 60, 'five models');
  await send({ t: 'wallet', command: { c: 'faucet' } });
  await until(() => see((seen) => Number(seen.wallet.wallet.balances[0]?.amount) > 0), 60, 'money');
});

after(async () => {
  await browser?.close();
  await network?.down();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Starts the worker that the page would start; `seen` holds the last message of each kind. */
async function start() {
  await page.evaluate(async () => {
    globalThis.node?.terminate();
    const html = await (await fetch('/')).text();
    const [name] = html.match(/node-worker-[0-9a-f]+\.js/);
    globalThis.seen = { jobs: {}, written: {}, failed: [], conversation: {}, files: [] };
    globalThis.node = new Worker(`/${name}`, { type: 'module' });
    globalThis.node.onmessage = ({ data: [json, bytes] }) => {
      const message = JSON.parse(json);
      const seen = globalThis.seen;
      switch (message.t) {
        case 'job': seen.jobs[message.job.id] = message.job; break;
        case 'written': (seen.written[message.job] ??= []).push(message.written.text); break;
        case 'failed': seen.failed.push(message); break;
        case 'conversation': seen.conversation[message.conversation.id] = message.conversation; seen.last = message; break;
        case 'file': seen.files.push(new TextDecoder().decode(bytes)); break;
        default: seen[message.t] = message;
      }
    };
    globalThis.node.postMessage([JSON.stringify({ t: 'start', origin: location.origin, build: 'test' })]);
  });
  await until(() => see((seen) => seen.status?.status.network.phase === 'live'), 90, 'the network');
}

const send = (message, text) => page.evaluate(([json, text]) => {
  globalThis.node.postMessage([json, text === undefined ? undefined : new TextEncoder().encode(text)]);
}, [JSON.stringify(message), text]);
const see = (look, with_) => page.evaluate(`(${look})(globalThis.seen, ${JSON.stringify(with_ ?? null)})`);
const job = (id) => see((seen, id) => seen.jobs[id], id);

const turns = (...said) => said.map(([role, content]) => ({ role, content }));
const CHAT = turns(['system', 'Be brief.'], ['user', QUESTION]);

async function ask(model, messages, { conversation = null, sampling = HOW, wait = true } = {}) {
  const id = jobs++;
  await send({ t: 'run', job: id, task: { kind: 'chat', model, messages, sampling, conversation }, options: {} });
  if (wait) await until(async () => !['running', undefined].includes((await job(id))?.state), 120, 'the end of a chat');
  return id;
}

test('a chat is the one that this machine alone would write, token by token', async () => {
  const offers = (await see((seen) => seen.models)).models;
  assert.deepEqual(offers.map((m) => m.family), ['encoder', 'decoder', 'decoder', 'decoder', 'classifier']);
  assert.deepEqual(offers.map((m) => m.chatTemplate), [false, true, false, false, false]);
  assert.ok(offers.every((m) => m.nodes >= 2 && m.operators >= 2 && m.lanes.includes('masked')));

  const quote = { t: 'quote', request: 7, options: {}, task: { kind: 'chat', model: digests[1], messages: CHAT, sampling: HOW } };
  await send(quote);
  await until(() => see((seen) => seen.failed.some((f) => f.request === 7 && f.problem.code === 'model-not-prepared')), 30, 'no price before the model is here');
  await send({ t: 'prepareModel', model: digests[1] });
  await until(() => see((seen) => seen.models.models[1].phase.phase === 'ready'), 60, 'a ready model');
  await send(quote);
  await until(() => see((seen) => seen.quote?.quote.request === 7), 30, 'a price');
  const priced = (await see((seen) => seen.quote)).quote;
  assert.equal(priced.promptTokens, alone[0].prompt_tokens);
  assert.equal(priced.maxTokens, 24);
  assert.ok(priced.affordable);

  const id = await ask(digests[1], CHAT, { conversation: 1 });
  const done = await job(id);
  assert.equal(done.state, 'answered', JSON.stringify(done.problem));
  assert.equal(done.written.text, alone[0].text);
  assert.equal(done.written.tokens, alone[0].tokens);
  assert.ok(['end', 'length'].includes(done.written.stop));
  assert.equal(done.sampling.seed, 5);
  const pieces = await see((seen, id) => seen.written[id], id);
  assert.ok(pieces.every((text) => done.written.text.startsWith(text)), 'never more than the answer');
  const kept = await see((seen) => seen.conversation[1]);
  assert.deepEqual(kept.messages.map((m) => m.content), ['Be brief.', QUESTION, alone[0].text]);
  assert.equal(kept.messages[2].job, id);

  // Without a template: the last question and a line feed.
  const plain = await job(await ask(digests[2], CHAT));
  assert.equal(plain.written?.text, alone[1].text, JSON.stringify(plain.problem));
  // Regenerated without a seed: another query, which says how to repeat it.
  const again = await job(await ask(digests[1], CHAT, { conversation: 1, sampling: { temperature: 1, maxTokens: 8 } }));
  assert.notEqual(again.query, done.query);
  assert.equal(typeof again.sampling.seed, 'number');
  assert.deepEqual((await see((seen) => seen.conversation[1])).messages[2].earlier, [id]);
});

test('a tokenizer that never ends costs an answer, not the worker', async () => {
  const id = await ask(digests[3], turns(['user', '☃'.repeat(8_000)]));
  const lost = await job(id);
  assert.equal(lost.state, 'failed');
  assert.equal(lost.problem.code, 'tokenizer-slow', JSON.stringify(lost.problem));
  assert.equal(lost.query, null, 'nothing was paid');
  const next = await job(await ask(digests[1], CHAT));
  assert.equal(next.written.text, alone[0].text);
});

test('a digit has the class and the logits that this machine alone gives it', async () => {
  const { image: shape } = (await see((seen) => seen.models)).models[4];
  assert.deepEqual([shape.channels, shape.height, shape.width, shape.greatest], [1, 8, 8, 16]);
  const held = await readFile(join(root, 'models/digits/held_out.npy'));
  const image = [...held.subarray(10 + held.readUInt16LE(8)).subarray(0, 64)];
  const file = join(folder, 'digit.pgm');
  await writeFile(file, `P2 8 8 16\n${image.join(' ')}\n`);
  const { out, err } = await nesa(['model', 'classify', DIGITS, '--image', file, '--json'], { dir: folder });
  assert.ok(out, err);
  const here = JSON.parse(out);
  const run = async (id, values) => {
    await send({ t: 'run', job: id, task: { kind: 'digit', model: digests[4], image: values }, options: {} });
    await until(async () => !['running', undefined].includes((await job(id))?.state), 120, 'the end of a digit');
    return job(id);
  };
  const found = await run(jobs++, image);
  assert.equal(found.state, 'answered', JSON.stringify(found.problem));
  assert.deepEqual([found.digit.class, found.digit.logits], [here.class, here.logits]);
  assert.deepEqual([found.digit.image, found.digit.shape.classes], [image, 10]);
  for (const bad of [[], image.slice(1), image.map(() => 17)]) {
    assert.equal((await run(jobs++, bad)).problem.code, 'image');
  }
});

test('stopping and reloading keep what was checked', async () => {
  const long = { ...HOW, maxTokens: 200 };
  const some = (id) => see((seen, id) => seen.written[id]?.some((text) => text.length > 4), id);
  const stopped = await ask(digests[1], CHAT, { conversation: 2, sampling: long, wait: false });
  await until(() => some(stopped), 60, 'a few words');
  await send({ t: 'cancel', job: stopped });
  await until(async () => (await job(stopped)).state !== 'running', 30, 'an end');
  const half = await job(stopped);
  if (half.state === 'cancelled') assert.equal(half.written.stop, 'stopped');
  assert.ok(half.written.text.length > 4);

  const cut = await ask(digests[1], CHAT, { conversation: 3, sampling: long, wait: false });
  await until(() => some(cut), 60, 'a few words');
  await start();
  await until(async () => (await job(cut)) !== undefined || (await send({ t: 'openJob', job: cut })), 30, 'the job');
  const kept = await job(cut);
  assert.ok(['interrupted', 'answered'].includes(kept.state));
  if (kept.state === 'interrupted') assert.equal(kept.written.stop, 'interrupted');
  assert.ok(kept.written.text.length > 4, 'what was checked is here');
  await send({ t: 'openConversation', conversation: 3 });
  await until(() => see((seen) => seen.conversation[3]), 30, 'the conversation');
  assert.equal((await see((seen) => seen.conversation[3])).messages[2].content, kept.written.text);
});

test('a conversation moves by file, and a file is believed nothing', async () => {
  await until(() => see((seen) => seen.conversations?.items.some((item) => item.id === 1)), 30, 'the list');
  await send({ t: 'exportConversation', conversation: 1, openings: false, consent: false });
  await until(() => see((seen) => seen.failed.some((f) => f.problem.code === 'no-consent')), 30, 'a refusal');
  await send({ t: 'exportConversation', conversation: 1, openings: false, consent: true });
  await until(() => see((seen) => seen.files.length > 0), 30, 'a file');
  const file = JSON.parse(await see((seen) => seen.files[0]));
  assert.ok(file.jobs.length === 2 && file.jobs.every((j) => j.payment), 'both answers with their receipts');

  // Forged: every rung green, one receipt gone, one of another query.
  for (const { view } of file.jobs) for (const step of view.ladder) step.state = 'verified';
  file.jobs[0].payment = null;
  const read = async (request, text) => {
    await send({ t: 'importConversation', request, name: 'x.json' }, text);
    await until(() => see((seen, r) => seen.last?.request === r || seen.failed.some((f) => f.request === r), request), 30, 'an answer');
    return see((seen, r) => (seen.last?.request === r ? seen.last.conversation : seen.failed.find((f) => f.request === r).problem), request);
  };
  const again = await read(41, JSON.stringify(file));
  assert.notEqual(again.id, 1);
  const earlier = await job(again.messages[2].earlier[0]), last = await job(again.messages[2].job);
  const rungs = (view) => Object.fromEntries(view.ladder.map((step) => [step.id, step.state]));
  assert.ok(Object.values(rungs(earlier)).every((state) => state === 'notChecked'), JSON.stringify(rungs(earlier)));
  assert.equal(rungs(last)['layers-checked'] ?? rungs(last).layersChecked, 'notChecked');
  assert.equal(rungs(last)['header-final'] ?? rungs(last).headerFinal, 'verified', 'its receipt holds here');
  const bad = ['', '{}', '{"format":"nesa-conversation/2","conversation":{},"jobs":[]}', '[1'];
  for (const [at, text] of bad.entries()) {
    assert.equal((await read(50 + at, text)).code, 'not-a-conversation', text);
  }
});
