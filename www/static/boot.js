// Starts the worker and the page's wasm module side by side. Names in capitals are replaced by the build.
const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

// The page takes over these messages once its own module runs.
const worker = new Worker(meta("node-worker"), { type: "module" });
const early = [];
worker.onmessage = (event) => early.push(event);
worker.onerror = (event) => early.push(event);
worker.postMessage([JSON.stringify({ t: "start", origin: location.origin, build: meta("nesa-build") })]);
globalThis.nesaWorker = { worker, early };

try {
  const wasm = fetch(new URL("./__WASM__", import.meta.url));
  const { default: init } = await import("./__GLUE__");
  await init({ module_or_path: wasm });
  document.documentElement.dataset.ready = "1";
} catch (error) {
  const text = document.getElementById("boot-text");
  if (text) text.textContent = `The page could not start: ${error?.message ?? error}. Reload it, or try a current browser.`;
  throw error;
}
