// One thread of a volunteer's pool: it holds slices of weights, and multiplies shares with them.
// A message is [id, call, ...arguments]; the answer [id, "ok" | "stopped", words]. Shares and products lie in
// memory that this worker and the one that asks both see.
import init, { Slices } from "./__POOL_GLUE__";

const ready = init({ module_or_path: new URL("./__POOL_WASM__", import.meta.url) }).then(() => new Slices());

const calls = {
  // Answered once the module is here.
  ready: () => {},
  load: (slices, weight, w, k) => slices.load(weight, w, k),
  product: (slices, weight, rows, share, product) => slices.product(weight, rows, share, product),
};

self.onmessage = async ({ data: [id, call, ...rest] }) => {
  try {
    calls[call](await ready, ...rest);
    postMessage([id, "ok"]);
  } catch (error) {
    postMessage([id, "stopped", String(error?.message ?? error)]);
  }
};
