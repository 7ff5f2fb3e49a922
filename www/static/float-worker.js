// One model that runs in floats, in a worker of its own: graph and inputs come from strangers, and what
// traps or never ends is terminated from outside.
// A message is [id, call, bytes]; the answer [id, "ok" | "refused" | "stopped", value].
import init, { FloatModel } from "./__FLOAT_GLUE__";

const ready = init({ module_or_path: new URL("./__FLOAT_WASM__", import.meta.url) });
let model;

const calls = {
  open: (file) => { model = FloatModel.open(file); },
  run: (inputs) => model.run(inputs),
};

self.onmessage = async ({ data: [id, call, bytes] }) => {
  try {
    await ready;
    postMessage([id, "ok", calls[call](bytes)]);
  } catch (error) {
    // An error of the module's own is words; a trap or an exhausted stack leaves it in pieces.
    const broken = error instanceof WebAssembly.RuntimeError || error instanceof RangeError
      || error instanceof WebAssembly.CompileError || error instanceof TypeError;
    postMessage([id, broken ? "stopped" : "refused", String(error?.message ?? error)]);
  }
};
