// A row becomes the input of a linear stage: normalised or smoothed, then quantised to its own largest
// magnitude. A workgroup a row; `wide.wgsl` goes before.

struct Shape {
  width: u32,      // values in a row
  padded: u32,     // words of four that the stage reads of it
  q_max: u32,
  smoothing: u32,  // whether there are factors
  epsilon: vec2<u32>,
  first: u32,      // row that is read first
  into: u32,       // row that is written first
}

@group(0) @binding(0) var<storage, read> rows: array<i32>;      // [tokens, width]
@group(0) @binding(1) var<storage, read> factors: array<i32>;   // gains, or smoothing factors
@group(0) @binding(2) var<storage, read_write> x: array<u32>;   // [tokens, 2, padded]: low bytes, high bytes
@group(0) @binding(3) var<storage, read_write> scales: array<vec2<u32>>;  // mantissa, exponent
@group(0) @binding(4) var<uniform> shape: Shape;

const GAIN_SHIFT: u32 = 26u;
const NORM_BITS: u32 = 24u;
const SMOOTH_BITS: u32 = 14u;
const RESIDUAL_LIMIT: i32 = 0x3fffffff;

var<workgroup> most: array<u32, 64>;
var<workgroup> sums: array<vec2<u32>, 64>;

// |v|, 2^31 for the most negative.
fn magnitude(v: i32) -> u32 {
  return select(bitcast<u32>(v), ~bitcast<u32>(v) + 1u, v < 0);
}

fn greatest(lane: u32, mine: u32) -> u32 {
  workgroupBarrier();
  most[lane] = mine;
  workgroupBarrier();
  for (var step = 32u; step > 0u; step >>= 1u) {
    if (lane < step) { most[lane] = max(most[lane], most[lane + step]); }
    workgroupBarrier();
  }
  return most[0];
}

fn total(lane: u32, mine: vec2<u32>) -> vec2<u32> {
  workgroupBarrier();
  sums[lane] = mine;
  workgroupBarrier();
  for (var step = 32u; step > 0u; step >>= 1u) {
    if (lane < step) { sums[lane] = plus(sums[lane], sums[lane + step]); }
    workgroupBarrier();
  }
  return sums[0];
}

struct Quantizer { mantissa: u32, exponent: u32, factor: i32, shift: u32 }

// For a row whose largest magnitude is m.
fn quantizer(largest: u32) -> Quantizer {
  let m = clamp(largest, 1u, 0x7fffffffu);
  let exponent = countLeadingZeros(m) - 1u;
  let mantissa = m << exponent;
  let factor = divided(left(vec2<u32>(shape.q_max, 0u), 46u), mantissa);
  return Quantizer(mantissa, exponent, bitcast<i32>(factor), 46u - exponent);
}

fn quantized(v: i32, q: Quantizer) -> i32 {
  return bitcast<i32>(round_right(times_signed(v, q.factor), q.shift).x);
}

// What is quantised of value `i` of the row that begins at `at`.
fn normed(v: i32, s: u32, half: i32, gain: i32) -> i32 {
  let a = (v + half) >> s;
  return bitcast<i32>(round_right(times_signed(a, gain), GAIN_SHIFT).x);
}

fn smoothed(v: i32, i: u32) -> i32 {
  if (shape.smoothing == 0u) { return v; }
  return clamped(round_right(times_signed(v, factors[i]), SMOOTH_BITS), RESIDUAL_LIMIT);
}

// Word `w` of a row's bytes: x = 256·high + low + 128, both signed.
fn store(token: u32, w: u32, four: vec4<i32>) {
  let bits = bitcast<vec4<u32>>(four);
  let low = (bits & vec4<u32>(0xffu)) ^ vec4<u32>(0x80u);
  let high = (bits >> vec4<u32>(8u)) & vec4<u32>(0xffu);
  let at = 2u * token * shape.padded + w;
  x[at] = low.x | (low.y << 8u) | (low.z << 16u) | (low.w << 24u);
  x[at + shape.padded] = high.x | (high.y << 8u) | (high.z << 16u) | (high.w << 24u);
}

// RMSNorm, its gain, and quantisation.
@compute @workgroup_size(64)
fn norm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let token = group.x;
  let at = (shape.first + token) * shape.width;
  var mine = 0u;
  for (var i = lane; i < shape.width; i += 64u) { mine = max(mine, magnitude(rows[at + i])); }
  let bits = 32u - countLeadingZeros(greatest(lane, mine));
  let s = select(0u, bits - NORM_BITS, bits > NORM_BITS);
  let half = select(0i, 1i << (max(s, 1u) - 1u), s > 0u);
  var squares = vec2<u32>(0u);
  mine = 0u;
  for (var i = lane; i < shape.width; i += 64u) {
    let a = (rows[at + i] + half) >> s;
    squares = plus(squares, times_signed(a, a));
    mine = max(mine, magnitude(normed(rows[at + i], s, half, factors[i])));
  }
  let q = quantizer(greatest(lane, mine));
  let v = plus(total(lane, squares), right(shape.epsilon, 2u * s));
  for (var w = lane; w < shape.padded; w += 64u) {
    var four = vec4<i32>(0);
    for (var c = 0u; c < 4u; c++) {
      let i = 4u * w + c;
      if (i < shape.width) { four[c] = quantized(normed(rows[at + i], s, half, factors[i]), q); }
    }
    store(shape.into + token, w, four);
  }
  if (lane == 0u) {
    // 1/√v, and its product with the row's magnitude.
    let one = select(v, vec2<u32>(1u, 0u), v.x == 0u && v.y == 0u);
    let half_shift = leading(one) / 2u;
    let inverse = divided(ALMOST, root(left(one, 2u * half_shift)));
    let product = times(q.mantissa, inverse);
    let large = (product.y >> 29u) != 0u;
    let mantissa = right(product, select(30u, 31u, large)).x;
    scales[shape.into + token] = vec2<u32>(mantissa, q.exponent + select(32u, 31u, large) - half_shift);
  }
}

// Smoothing, where there are factors, and quantisation.
@compute @workgroup_size(64)
fn offer(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let token = group.x;
  let at = (shape.first + token) * shape.width;
  var mine = 0u;
  for (var i = lane; i < shape.width; i += 64u) { mine = max(mine, magnitude(smoothed(rows[at + i], i))); }
  let q = quantizer(greatest(lane, mine));
  for (var w = lane; w < shape.padded; w += 64u) {
    var four = vec4<i32>(0);
    for (var c = 0u; c < 4u; c++) {
      let i = 4u * w + c;
      if (i < shape.width) { four[c] = quantized(smoothed(rows[at + i], i), q); }
    }
    store(shape.into + token, w, four);
  }
  if (lane == 0u) { scales[shape.into + token] = vec2<u32>(q.mantissa, q.exponent); }
}
