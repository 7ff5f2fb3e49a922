// onnxruntime-web in headless Chromium, one thread, wasm simd: the same model and inputs as ort_node.mjs.
//   node tools/bench/ort_web.mjs FOLDER_WITH_ONNX  → one JSON object
import { chromium } from 'playwright-core';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join, dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const folder = resolve(process.argv[2]);
const places = { '/ort/': join(here, 'node_modules/onnxruntime-web/dist/'), '/model/': folder + '/', '/own/': here + '/' };
const types = { js: 'text/javascript', mjs: 'text/javascript', wasm: 'application/wasm', html: 'text/html' };
const server = createServer(async (request, response) => {
  const path = new URL(request.url, 'http://local').pathname;
  try {
    if (path === '/') { response.setHeader('content-type', 'text/html'); return response.end('<!doctype html>'); }
    const prefix = Object.keys(places).find((p) => path.startsWith(p));
    const body = await readFile(join(places[prefix], path.slice(prefix.length).replaceAll('..', '')));
    response.setHeader('content-type', types[path.split('.').pop()] ?? 'application/octet-stream');
    response.end(body);
  } catch { response.statusCode = 404; response.end(); }
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const origin = `http://127.0.0.1:${server.address().port}`;
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-background-networking'] });
try {
  const page = await browser.newPage();
  await page.goto(origin);
  const out = await page.evaluate(async () => {
    const ort = await import('/ort/ort.wasm.min.mjs');
    const { timeIt, inputs } = await import('/own/timing.mjs');
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = '/ort/';
    const out = { peer: `onnxruntime-web ${ort.env.versions?.web ?? ''}`.trim(), threads: 1 };
    for (const kind of ['f32', 'int8']) {
      const bytes = await (await fetch(`/model/minilm-${kind}.onnx`)).arrayBuffer();
      const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'] });
      for (const tokens of [32, 256]) {
        const feed = inputs(ort, tokens);
        out[`${kind}_${tokens}_ms`] = await timeIt(() => session.run(feed));
      }
    }
    return out;
  });
  console.log(JSON.stringify(out));
} finally {
  await browser.close();
  server.close();
}
