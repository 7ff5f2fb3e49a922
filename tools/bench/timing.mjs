// Shared by the peers' scripts: fixed inputs and the median of several runs.
export function inputs(ort, tokens) {
  const ids = BigInt64Array.from({ length: tokens }, (_, i) => BigInt(i === 0 ? 101 : i === tokens - 1 ? 102 : 2000 + ((i * 7919) % 20000)));
  const tensor = (data) => new ort.Tensor('int64', data, [1, tokens]);
  return { input_ids: tensor(ids), attention_mask: tensor(new BigInt64Array(tokens).fill(1n)) };
}

/** Median milliseconds of `run`, after one warm-up, over at least 9 runs or 2 seconds. */
export async function timeIt(run) {
  await run();
  const times = [];
  const end = performance.now() + 2000;
  while (times.length < 9 || (performance.now() < end && times.length < 200)) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return times[times.length >> 1];
}
