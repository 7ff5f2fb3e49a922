// onnxruntime on this processor, one thread: milliseconds per embedding of 32 and 256 tokens.
//   node tools/bench/ort_node.mjs FOLDER_WITH_ONNX  → one JSON object
import ort from 'onnxruntime-node';
import { join } from 'node:path';
import { byTurns, inputs } from './timing.mjs';

const folder = process.argv[2];
const out = { peer: `onnxruntime-node ${ort.env.versions?.node ?? ''}`.trim(), threads: 1 };
const sessions = {};
for (const kind of ['f32', 'int8']) {
  sessions[kind] = await ort.InferenceSession.create(join(folder, `minilm-${kind}.onnx`), {
    intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3,
  });
}
for (const tokens of [32, 256]) {
  const feed = inputs(ort, tokens);
  await byTurns({
    [`f32_${tokens}`]: () => sessions.f32.run(feed),
    [`int8_${tokens}`]: () => sessions.int8.run(feed),
  }, out);
}
console.log(JSON.stringify(out));
