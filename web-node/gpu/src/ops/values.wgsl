// What is done to the values of a product: added to the residual stream, gated, or given out as logits. A
// thread a value; `wide.wgsl` goes before.

struct Shape {
  width: u32,   // values in a row of the result
  n: u32,       // values in a row of the product
  count: u32,   // values of all rows of the result
  shift: u32,
  limit: i32,
  table: u32,   // entries of the table
}

@group(0) @binding(0) var<storage, read> y: array<i32>;            // [tokens, n]
@group(0) @binding(1) var<storage, read> scales: array<vec2<u32>>; // [tokens]
@group(0) @binding(2) var<storage, read> to: array<vec2<u32>>;     // [n]: multiplier, bias
@group(0) @binding(3) var<storage, read_write> out: array<i32>;    // [tokens, width]
@group(0) @binding(4) var<storage, read> silu: array<u32>;
@group(0) @binding(5) var<uniform> shape: Shape;

const RESIDUAL_LIMIT: i32 = 0x3fffffff;
const GATE_LIMIT: i32 = 0x3fffff;
const UP_LIMIT: i32 = 0x3ffffff;

fn value(token: u32, column: u32, limit: i32) -> i32 {
  let t = to[column];
  return requantized(y[token * shape.n + column], scales[token], t.x, bitcast<i32>(t.y), shape.shift, limit);
}

@compute @workgroup_size(64)
fn added(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= shape.count) { return; }
  let delta = value(id.x / shape.width, id.x % shape.width, RESIDUAL_LIMIT);
  // Both are below 2^30.
  out[id.x] = clamp(out[id.x] + delta, -RESIDUAL_LIMIT, RESIDUAL_LIMIT);
}

@compute @workgroup_size(64)
fn gated(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= shape.count) { return; }
  let token = id.x / shape.width;
  let column = id.x % shape.width;
  let gate = value(token, column, GATE_LIMIT);
  let up = value(token, shape.width + column, UP_LIMIT);
  let bin = bitcast<u32>(abs(gate)) >> 2u;
  var below = 0u;
  if (bin < shape.table) { below = silu[bin]; }
  let opened = max(gate, 0) - bitcast<i32>(below);
  out[id.x] = clamped(round_right(times_signed(opened, up), 12u), RESIDUAL_LIMIT);
}

@compute @workgroup_size(64)
fn given(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= shape.count) { return; }
  out[id.x] = value(id.x / shape.width, id.x % shape.width, shape.limit);
}
