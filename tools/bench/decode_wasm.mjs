// The exact engine's wasm module (simd128) in V8, one thread: tokens per second of reading a prompt and of writing after it.
//   node tools/bench/decode_wasm.mjs ENGINE.wasm MODEL.nesa PROMPT WRITTEN ROUNDS  → one JSON object
import { readFile } from 'node:fs/promises';

const [engine, file] = process.argv.slice(2);
const [prompt, written, rounds] = process.argv.slice(4).map(Number);
const { exports: exact } = (await WebAssembly.instantiate(await readFile(engine), {})).instance;
const model = await readFile(file);
const at = exact.reserve(model.length) >>> 0;
new Uint8Array(exact.memory.buffer, at, model.length).set(model);
if (exact.open_decoder() !== 1) throw new Error('the decoder did not open');

let [reading, writing, checksum] = [Infinity, Infinity, 0n];
for (let round = 0; round < rounds; round++) {
  let start = performance.now();
  exact.feed(0, prompt);
  reading = Math.min(reading, performance.now() - start);
  start = performance.now();
  for (let i = 0; i < written; i++) checksum = exact.feed(prompt + i, 1);
  writing = Math.min(writing, performance.now() - start);
}
console.log(JSON.stringify({
  v8: process.versions.v8, prompt, written, threads: 1,
  prefill_tokens_per_second: prompt / reading * 1e3,
  decode_tokens_per_second: written / writing * 1e3,
  checksum: BigInt.asUintN(64, checksum).toString(16).padStart(16, '0'),
}));
