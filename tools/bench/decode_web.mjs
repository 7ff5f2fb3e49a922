// The exact engine and wllama (llama.cpp as wasm) in one page of headless Chromium, by turns, one thread each: tokens per
// second of reading a prompt and of writing after it.
//   node tools/bench/decode_web.mjs ENGINE.wasm FOLDER PROMPT WRITTEN ROUNDS  → one JSON object
// FOLDER is one that decoders.py wrote, with exact.nesa beside q8_0.gguf. wllama's times are those that its own server takes inside
// the module, so that messages between page and worker are not in them; it samples greedily, of which the cost is in its writing.
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { here, withPage } from './page.mjs';

const [engine, folder] = process.argv.slice(2, 4).map((path) => resolve(path));
const work = process.argv.slice(4).map(Number);
const wllama = join(here, 'node_modules/@wllama/wllama');
const places = { '/wllama/': join(wllama, 'esm/') };
const files = { '/engine.wasm': engine, '/exact.nesa': join(folder, 'exact.nesa'), '/q8_0.gguf': join(folder, 'q8_0.gguf') };
const version = JSON.parse(await readFile(join(wllama, 'package.json'))).version;
await withPage({ places, files }, async (page, browser) => {
  const out = await page.evaluate(async ([prompt, written, rounds]) => {
    const { Wllama } = await import('/wllama/index.js');
    const load = async (path) => (await fetch(path)).arrayBuffer();
    const peer = new Wllama({ default: '/wllama/wasm/wllama.wasm' }, { suppressNativeLog: true });
    await peer.loadModel([new Blob([await load('/q8_0.gguf')])], {
      n_ctx: prompt + written + 8, n_batch: Math.max(prompt, 32), n_ubatch: Math.max(prompt, 32),
      n_threads: 1, n_gpu_layers: 0, n_parallel: 1,
    });
    const { exports: exact } = (await WebAssembly.instantiate(await load('/engine.wasm'), {})).instance;
    const model = new Uint8Array(await load('/exact.nesa'));
    const at = exact.reserve(model.length) >>> 0;
    new Uint8Array(exact.memory.buffer, at, model.length).set(model);
    if (exact.open_decoder() !== 1) throw new Error('the decoder did not open');

    // Without merges a letter is a token; which tokens they are makes no difference to the work.
    const text = String.fromCharCode(...Array.from({ length: prompt }, (_, i) => 97 + (i * 7919) % 26));
    const best = { exact: [0, 0], wllama: [0, 0] };
    const keep = (name, ...rates) => rates.forEach((rate, i) => { best[name][i] = Math.max(best[name][i], rate); });
    let checksum = 0n;
    // The first round warms both up.
    for (let round = 0; round <= rounds; round++) {
      let start = performance.now();
      exact.feed(0, prompt);
      const reading = performance.now() - start;
      start = performance.now();
      for (let i = 0; i < written; i++) checksum = exact.feed(prompt + i, 1);
      const writing = performance.now() - start;
      const { timings } = await peer.createCompletion({
        prompt: text, max_tokens: written + 1, n_predict: written + 1,
        temperature: 0, samplers: ['top_k'], top_k: 1, ignore_eos: true, cache_prompt: false,
      });
      // The first token comes with the prompt.
      if (timings.prompt_n !== prompt || timings.predicted_n < written) throw new Error(`wllama did other work: ${JSON.stringify(timings)}`);
      if (round === 0) continue;
      keep('exact', prompt / reading * 1e3, written / writing * 1e3);
      keep('wllama', timings.prompt_per_second, (timings.predicted_n - 1) / timings.predicted_ms * 1e3);
    }
    const rates = ([reading, writing]) => ({ prefill_tokens_per_second: reading, decode_tokens_per_second: writing });
    return {
      prompt, written, threads: 1, isolated: crossOriginIsolated, multithread: peer.isMultithread(),
      llama_cpp: Wllama.getLibllamaVersion(), exact: { ...rates(best.exact), checksum: BigInt.asUintN(64, checksum).toString(16).padStart(16, '0') },
      wllama: rates(best.wllama),
    };
  }, work);
  console.log(JSON.stringify({ peer: `wllama ${version}`, chromium: browser.version(), ...out }));
});
