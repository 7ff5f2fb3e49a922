// Shared by the peers' scripts: fixed inputs, and how a run is timed.

/** The tokens that `engines/src/lib.rs` gives the exact engine too. */
export function inputs(ort, tokens) {
  const ids = BigInt64Array.from({ length: tokens }, (_, i) => BigInt(i === 0 ? 101 : i === tokens - 1 ? 102 : 2000 + ((i * 7919) % 20000)));
  const tensor = (data) => new ort.Tensor('int64', data, [1, tokens]);
  return { input_ids: tensor(ids), attention_mask: tensor(new BigInt64Array(tokens).fill(1n)) };
}

const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];

/**
 * Runs the engines by turns, so that all see the same disturbances, and adds to `out` each one's median
 * wall time (`NAME_ms`) and, where the process can ask, its least processor time (`NAME_cpu_ms`).
 * `engines` is `{ NAME: async () => … }`; each is run once before it counts.
 */
export async function byTurns(engines, out, rounds = 40) {
  const cpu = globalThis.process?.cpuUsage
    ? () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; }
    : null;
  const wall = {}, spent = {};
  for (let round = 0; round <= rounds; round++) {
    for (const [name, run] of Object.entries(engines)) {
      const before = cpu?.(), start = performance.now();
      await run();
      const ms = performance.now() - start, used = cpu && cpu() - before;
      if (round === 0) continue;
      (wall[name] ??= []).push(ms);
      if (cpu) (spent[name] ??= []).push(used);
    }
  }
  for (const name of Object.keys(engines)) {
    out[`${name}_ms`] = median(wall[name]);
    if (cpu) out[`${name}_cpu_ms`] = Math.min(...spent[name]);
  }
}
