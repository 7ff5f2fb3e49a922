// Tokenizers and templates that models bring, in a worker of their own: they come from strangers, and
// what stops here or never ends is terminated from outside.
// A message is [id, call, ...arguments]; the answer [id, "ok" | "refused" | "stopped", value].
import init, { Model } from "./__TEXT_GLUE__";

const ready = init({ module_or_path: new URL("./__TEXT_WASM__", import.meta.url) });
const streams = new Map();
let model;

const calls = {
  // Answered once the module is here.
  ready: () => undefined,
  open: (tokenizer, template, vocab, start, ends) => {
    model = Model.open(tokenizer, template, vocab, start, ends);
  },
  text: (text) => model.text(text),
  chat: (turns) => model.chat(turns),
  stream: (stream, before) => { streams.set(stream, model.stream(before)); },
  push: (stream, token) => streams.get(stream).push(token),
  finish: (stream) => {
    const last = streams.get(stream);
    streams.delete(stream);
    return last.finish();
  },
  drop: (stream) => {
    streams.get(stream)?.free();
    streams.delete(stream);
  },
};

self.onmessage = async ({ data: [id, call, ...rest] }) => {
  try {
    await ready;
    postMessage([id, "ok", calls[call](...rest)]);
  } catch (error) {
    // An error of the module's own is words; a trap or an exhausted stack leaves it in pieces.
    const broken = error instanceof WebAssembly.RuntimeError || error instanceof RangeError
      || error instanceof WebAssembly.CompileError || error instanceof TypeError;
    postMessage([id, broken ? "stopped" : "refused", String(error?.message ?? error)]);
  }
};
