// The exact engine and onnxruntime-web in one page of headless Chromium, by turns, one thread, wasm simd.
//   node tools/bench/ort_web.mjs FOLDER_WITH_ONNX ENGINE.wasm MODEL.nesa  → one JSON object
import { join, resolve } from 'node:path';
import { here, withPage } from './page.mjs';

const [folder, engine, model] = process.argv.slice(2).map((path) => resolve(path));
const places = { '/ort/': join(here, 'node_modules/onnxruntime-web/dist/'), '/model/': folder + '/', '/own/': here + '/' };
const files = { '/engine.wasm': engine, '/model.nesa': model };
await withPage({ places, files }, async (page) => {
  const out = await page.evaluate(async () => {
    const ort = await import('/ort/ort.wasm.min.mjs');
    const { byTurns, inputs } = await import('/own/timing.mjs');
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = '/ort/';
    const load = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
    const { exports: exact } = (await WebAssembly.instantiate(await load('/engine.wasm'), {})).instance;
    const model = await load('/model.nesa');
    const at = exact.reserve(model.length) >>> 0;
    new Uint8Array(exact.memory.buffer, at, model.length).set(model);
    if (exact.open() !== 1) throw new Error('the exact model did not open');

    const out = { peer: `onnxruntime-web ${ort.env.versions?.web ?? ''}`.trim(), threads: 1 };
    const sessions = {};
    for (const kind of ['f32', 'int8']) {
      sessions[kind] = await ort.InferenceSession.create(await load(`/model/minilm-${kind}.onnx`), { executionProviders: ['wasm'] });
    }
    for (const tokens of [32, 256]) {
      const feed = inputs(ort, tokens);
      const first = (await sessions.f32.run(feed)).embedding.data[0];
      // Different engines, one model: the first coordinates must be close for the times to compare.
      out[`difference_${tokens}`] = Math.abs(exact.embed(tokens) / 2 ** 24 - first);
      await byTurns({
        [`exact_${tokens}`]: () => exact.embed(tokens),
        [`f32_${tokens}`]: () => sessions.f32.run(feed),
        [`int8_${tokens}`]: () => sessions.int8.run(feed),
      }, out, 20);
    }
    return out;
  });
  console.log(JSON.stringify(out));
});
