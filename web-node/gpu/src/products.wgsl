// The products of the exact engine. WGSL's integers wrap by definition, so every kernel gives the bytes of
// the reference whatever its order of summation.
//
// Weights are bytes, sixteen to a vec4, [rows, width] of them, padded with zeros. `dot4(a, b)` is defined by
// what is put before this text: the built-in, or the same in plain operations.

struct Shape {
  rows: u32,    // of the weights at hand
  width: u32,   // vec4s in a row of weights
  tokens: u32,
  across: u32,  // workgroups in the first dimension of a dispatch that needs two
}

@group(0) @binding(0) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(3) var<storage, read> sums: array<i32>;  // of each row's weights
@group(0) @binding(4) var<uniform> shape: Shape;

// Weight `i` of four, its sign extended.
fn weight(four: u32, i: u32) -> u32 {
  return bitcast<u32>(extractBits(bitcast<i32>(four), 8u * i, 8u));
}

// Activations of 16 bits come as two bytes, 256·high + low + 128; see `bytes.rs` of the kernels.
fn joined(low: i32, high: i32, row: u32) -> u32 {
  return bitcast<u32>(low) + (bitcast<u32>(high) << 8u) + (bitcast<u32>(sums[row]) << 7u);
}

// ---- a few tokens: sixteen lanes read a row of weights side by side, each weight once ----

var<workgroup> parts: array<vec2<u32>, 64>;

// Adds the sixteen lanes' parts; the first of them gets the sum.
fn together(lane: u32, part: vec2<u32>) -> vec2<u32> {
  parts[lane] = part;
  workgroupBarrier();
  for (var step = 8u; step > 0u; step >>= 1u) {
    if (lane % 16u < step) { parts[lane] += parts[lane + step]; }
    workgroupBarrier();
  }
  return parts[lane];
}

// Masked shares, words of Z_2^32: x is [tokens, 4 · width].
@compute @workgroup_size(64)
fn mask_row(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let quads = (shape.rows + 3u) / 4u;
  let id = group.y * shape.across + group.x;
  let row = (id % quads) * 4u + lane / 16u;
  let token = id / quads;
  var sum = 0u;
  if (row < shape.rows && token < shape.tokens) {
    for (var i = lane % 16u; i < shape.width; i += 16u) {
      let weights = w[row * shape.width + i];
      let at = 4u * (token * shape.width + i);
      for (var c = 0u; c < 4u; c++) {
        let share = x[at + c];
        let four = weights[c];
        sum += weight(four, 0u) * share.x + weight(four, 1u) * share.y
             + weight(four, 2u) * share.z + weight(four, 3u) * share.w;
      }
    }
  }
  let all = together(lane, vec2<u32>(sum, 0u));
  if (lane % 16u == 0u && row < shape.rows && token < shape.tokens) {
    y[token * shape.rows + row] = all.x;
  }
}

// Activations of 16 bits: x is [tokens, 2, width], all low bytes of a token, then all high ones.
@compute @workgroup_size(64)
fn dot_row(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let quads = (shape.rows + 3u) / 4u;
  let id = group.y * shape.across + group.x;
  let row = (id % quads) * 4u + lane / 16u;
  let token = id / quads;
  var low = 0;
  var high = 0;
  if (row < shape.rows && token < shape.tokens) {
    for (var i = lane % 16u; i < shape.width; i += 16u) {
      let weights = w[row * shape.width + i];
      let lows = x[2u * token * shape.width + i];
      let highs = x[(2u * token + 1u) * shape.width + i];
      low += dot4(weights.x, lows.x) + dot4(weights.y, lows.y)
           + dot4(weights.z, lows.z) + dot4(weights.w, lows.w);
      high += dot4(weights.x, highs.x) + dot4(weights.y, highs.y)
            + dot4(weights.z, highs.z) + dot4(weights.w, highs.w);
    }
  }
  let all = together(lane, vec2<u32>(bitcast<u32>(low), bitcast<u32>(high)));
  if (lane % 16u == 0u && row < shape.rows && token < shape.tokens) {
    y[token * shape.rows + row] = joined(bitcast<i32>(all.x), bitcast<i32>(all.y), row);
  }
}

// ---- many tokens: tiles of 64 rows by 32 tokens, each thread four by four, 64 columns at a time ----

var<workgroup> tile_w: array<u32, 1024>;         // [16 words, 64 rows]
var<workgroup> tile_x: array<vec4<u32>, 512>;    // [32 tokens, 16]; of activations the first 256: [32, 2, 4]

// The weights of 64 rows from `row`, vec4s `column .. column + 4`; outside they are zeros.
fn load_weights(lane: u32, row: u32, column: u32) {
  for (var i = lane; i < 256u; i += 128u) {
    let r = i / 4u;
    let c = column + i % 4u;
    var four = vec4<u32>(0u);
    if (row + r < shape.rows && c < shape.width) { four = w[(row + r) * shape.width + c]; }
    let at = (i % 4u) * 256u + r;
    tile_w[at] = four.x;
    tile_w[at + 64u] = four.y;
    tile_w[at + 128u] = four.z;
    tile_w[at + 192u] = four.w;
  }
}

@compute @workgroup_size(16, 8)
fn mask_tile(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) me: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let across = (shape.rows + 63u) / 64u;
  let id = group.y * shape.across + group.x;
  let row = (id % across) * 64u;
  let token = (id / across) * 32u;
  var sum = array<vec4<u32>, 4>();  // [tokens] of four rows
  for (var column = 0u; column < shape.width; column += 4u) {
    load_weights(lane, row, column);
    for (var i = lane; i < 512u; i += 128u) {
      let t = token + i / 16u;
      let c = 4u * column + i % 16u;
      var four = vec4<u32>(0u);
      if (t < shape.tokens && c < 4u * shape.width) { four = x[4u * t * shape.width + c]; }
      tile_x[i] = four;
    }
    workgroupBarrier();
    for (var q = 0u; q < 16u; q++) {
      let at = q * 64u + me.x;
      let words = vec4<u32>(tile_w[at], tile_w[at + 16u], tile_w[at + 32u], tile_w[at + 48u]);
      let signed = bitcast<vec4<i32>>(words);
      let w0 = bitcast<vec4<u32>>(extractBits(signed, 0u, 8u));
      let w1 = bitcast<vec4<u32>>(extractBits(signed, 8u, 8u));
      let w2 = bitcast<vec4<u32>>(extractBits(signed, 16u, 8u));
      let w3 = bitcast<vec4<u32>>(extractBits(signed, 24u, 8u));
      for (var j = 0u; j < 4u; j++) {
        let share = tile_x[(me.y + 8u * j) * 16u + q];
        sum[j] += w0 * share.x + w1 * share.y + w2 * share.z + w3 * share.w;
      }
    }
    workgroupBarrier();
  }
  for (var j = 0u; j < 4u; j++) {
    let t = token + me.y + 8u * j;
    for (var i = 0u; i < 4u; i++) {
      let r = row + me.x + 16u * i;
      if (t < shape.tokens && r < shape.rows) { y[t * shape.rows + r] = sum[j][i]; }
    }
  }
}

@compute @workgroup_size(16, 8)
fn dot_tile(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) me: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let across = (shape.rows + 63u) / 64u;
  let id = group.y * shape.across + group.x;
  let row = (id % across) * 64u;
  let token = (id / across) * 32u;
  var low = array<vec4<i32>, 4>();   // [tokens] of four rows
  var high = array<vec4<i32>, 4>();
  for (var column = 0u; column < shape.width; column += 4u) {
    load_weights(lane, row, column);
    for (var i = lane; i < 256u; i += 128u) {
      let t = token + i / 8u;
      let c = column + i % 4u;
      var four = vec4<u32>(0u);
      if (t < shape.tokens && c < shape.width) {
        four = x[(2u * t + (i / 4u) % 2u) * shape.width + c];
      }
      tile_x[i] = four;
    }
    workgroupBarrier();
    for (var c = 0u; c < 4u; c++) {
      for (var q = 0u; q < 4u; q++) {
        let at = (4u * c + q) * 64u + me.x;
        let words = vec4<u32>(tile_w[at], tile_w[at + 16u], tile_w[at + 32u], tile_w[at + 48u]);
        for (var j = 0u; j < 4u; j++) {
          let from_x = (me.y + 8u * j) * 8u + c;
          let l = tile_x[from_x][q];
          let h = tile_x[from_x + 4u][q];
          low[j] += vec4<i32>(dot4(words.x, l), dot4(words.y, l), dot4(words.z, l), dot4(words.w, l));
          high[j] += vec4<i32>(dot4(words.x, h), dot4(words.y, h), dot4(words.z, h), dot4(words.w, h));
        }
      }
    }
    workgroupBarrier();
  }
  for (var j = 0u; j < 4u; j++) {
    let t = token + me.y + 8u * j;
    for (var i = 0u; i < 4u; i++) {
      let r = row + me.x + 16u * i;
      if (t < shape.tokens && r < shape.rows) {
        y[t * shape.rows + r] = joined(low[j][i], high[j][i], r);
      }
    }
  }
}

// ---- whole products of shares, 64 bits in two words: asked for only to place blame ----

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn extended(v: i32) -> vec2<u32> {
  return vec2<u32>(bitcast<u32>(v), bitcast<u32>(v >> 31u));
}

// Shares as in `mask_row`, read as 0 ≤ s < 2^32; y is [tokens, rows, 2].
@compute @workgroup_size(64)
fn full(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.y * shape.across + group.x) * 64u + lane;
  if (id >= shape.rows * shape.tokens) { return; }
  let row = id % shape.rows;
  let token = id / shape.rows;
  var low = vec2<u32>(0u);
  var high = vec2<u32>(0u);
  for (var i = 0u; i < shape.width; i++) {
    let weights = w[row * shape.width + i];
    // Sixteen products of 8 and 16 bits stay below 2^27.
    var l = 0;
    var h = 0;
    for (var c = 0u; c < 4u; c++) {
      let share = x[4u * (token * shape.width + i) + c];
      for (var b = 0u; b < 4u; b++) {
        let v = bitcast<i32>(weight(weights[c], b));
        l += v * bitcast<i32>(share[b] & 0xffffu);
        h += v * bitcast<i32>(share[b] >> 16u);
      }
    }
    low = plus(low, extended(l));
    high = plus(high, extended(h));
  }
  let all = plus(low, vec2<u32>(high.x << 16u, (high.y << 16u) | (high.x >> 16u)));
  y[2u * id] = all.x;
  y[2u * id + 1u] = all.y;
}
