// The worker of pool.mjs: measures in the place where a volunteer's tab computes.
import init, { pool_figures } from '/figures/nesa_worker.js';

self.onmessage = async ({ data: [thread, rounds] }) => {
  try {
    await init({ module_or_path: '/figures/nesa_worker_bg.wasm' });
    const make = () => new Worker(thread, { type: 'module' });
    postMessage({ figures: await pool_figures(make, rounds) });
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
};
