// The dedicated worker: light client, query client and volunteer node in one wasm module.
// A message is [json, Uint8Array | undefined] in both directions.
// Module and glue are fetched side by side.
const wasm = fetch(new URL("./__WASM__", import.meta.url));

const post = (json, bytes) => {
  // A copy of its own buffer, so that it can be transferred whatever the module handed over.
  const own = bytes?.slice();
  postMessage([json, own], own ? [own.buffer] : []);
};

const stopped = (error) => post(JSON.stringify({
  t: "failed", request: null, job: null,
  problem: {
    code: "worker-stopped",
    what: `The worker stopped: ${error?.message ?? error}`,
    nextStep: "Reload the page. Your wallet and history are kept on this device.",
  },
}));

self.addEventListener("error", (event) => stopped(event.error ?? event.message));
self.addEventListener("unhandledrejection", (event) => stopped(event.reason));

// The graphics adapter is a module of its own: only a volunteer who serves on it or tests it downloads it.
let loading;
const adapter = () => loading ??= (async () => {
  const module = await import("./__ADAPTER_GLUE__");
  await module.default({ module_or_path: new URL("./__ADAPTER_WASM__", import.meta.url) });
  return module;
})().catch((error) => { loading = undefined; throw error; });

// So are the tokenizers that models bring; they come from strangers and run in a worker of their own.
const text = () => new Worker(new URL("./__TEXT_WORKER__", import.meta.url), { type: "module" });

// And the engine of models that run in floats: graphs of strangers, each in a worker that can be ended.
const float = () => new Worker(new URL("./__FLOAT_WORKER__", import.meta.url), { type: "module" });

// And the kernels alone: each thread that a volunteer lends holds slices of weights in a worker of its own.
const pool = () => new Worker(new URL("./__POOL_WORKER__", import.meta.url), { type: "module" });

// Whatever the page says while the module is loading waits its turn.
const early = [];
self.onmessage = ({ data }) => early.push(data);
try {
  const { default: init, start } = await import("./__GLUE__");
  await init({ module_or_path: wasm });
  const node = start(post, adapter, text, float, pool);
  self.onmessage = ({ data: [json, bytes] }) => node.receive(json, bytes);
  for (const [json, bytes] of early) node.receive(json, bytes);
} catch (error) {
  stopped(error);
}
