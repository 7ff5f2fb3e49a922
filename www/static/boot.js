// Starts the page's wasm module. Names in capitals are replaced by the build.
import init from "./__GLUE__";

try {
  await init({ module_or_path: new URL("./__WASM__", import.meta.url) });
  document.documentElement.dataset.ready = "1";
} catch (error) {
  const text = document.getElementById("boot-text");
  if (text) text.textContent = `The page could not start: ${error?.message ?? error}. Reload it, or try a current browser.`;
  throw error;
}
