// Integers of 64 bits in two words, low first. WGSL has none of its own; its 32-bit integers wrap, and
// shifts by 32 and more are avoided everywhere.

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn extended(v: i32) -> vec2<u32> {
  return vec2<u32>(bitcast<u32>(v), bitcast<u32>(v >> 31u));
}

// a · b of unsigned words, by halves.
fn times(a: u32, b: u32) -> vec2<u32> {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);              // below 2^32
  let crossed = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);       // below 2^32
  let high = (a >> 16u) * (b >> 16u) + (middle >> 16u) + (crossed >> 16u);
  return vec2<u32>((crossed << 16u) | (low & 0xffffu), high);
}

// a · b of signed words.
fn times_signed(a: i32, b: i32) -> vec2<u32> {
  let p = times(bitcast<u32>(a), bitcast<u32>(b));
  let corrected = select(0u, bitcast<u32>(b), a < 0) + select(0u, bitcast<u32>(a), b < 0);
  return vec2<u32>(p.x, p.y - corrected);
}

// 0 ≤ s < 64.
fn left(a: vec2<u32>, s: u32) -> vec2<u32> {
  if (s == 0u) { return a; }
  if (s < 32u) { return vec2<u32>(a.x << s, (a.y << s) | (a.x >> (32u - s))); }
  return vec2<u32>(0u, a.x << (s - 32u));
}

// Unsigned, 0 ≤ s < 64.
fn right(a: vec2<u32>, s: u32) -> vec2<u32> {
  if (s == 0u) { return a; }
  if (s < 32u) { return vec2<u32>((a.x >> s) | (a.y << (32u - s)), a.y >> s); }
  return vec2<u32>(a.y >> (s - 32u), 0u);
}

// Signed, 0 ≤ s < 64.
fn right_signed(a: vec2<u32>, s: u32) -> vec2<u32> {
  let high = bitcast<i32>(a.y);
  if (s == 0u) { return a; }
  if (s < 32u) { return vec2<u32>((a.x >> s) | (a.y << (32u - s)), bitcast<u32>(high >> s)); }
  return vec2<u32>(bitcast<u32>(high >> (s - 32u)), bitcast<u32>(high >> 31u));
}

// R(a, s): to the nearest, ties upwards; 1 ≤ s < 64.
fn round_right(a: vec2<u32>, s: u32) -> vec2<u32> {
  return right_signed(plus(a, left(vec2<u32>(1u, 0u), s - 1u)), s);
}

// Between −limit and limit, which is below 2^31.
fn clamped(a: vec2<u32>, limit: i32) -> i32 {
  let low = bitcast<i32>(a.x);
  if (bitcast<i32>(a.y) == (low >> 31u)) { return clamp(low, -limit, limit); }
  return select(limit, -limit, bitcast<i32>(a.y) < 0);
}

fn leading(a: vec2<u32>) -> u32 {
  return select(countLeadingZeros(a.y), 32u + countLeadingZeros(a.x), a.y == 0u);
}

// ⌊a / d⌋, which fits a word: a.y < d. Long division, for once in a row.
fn divided(a: vec2<u32>, d: u32) -> u32 {
  var rest = a.y;
  var quotient = 0u;
  for (var i = 32u; i > 0u; i--) {
    let carry = rest >> 31u;
    rest = (rest << 1u) | ((a.x >> (i - 1u)) & 1u);
    if (carry == 1u || rest >= d) {
      rest -= d;
      quotient |= 1u << (i - 1u);
    }
  }
  return quotient;
}

// ⌊√a⌋.
fn root(a: vec2<u32>) -> u32 {
  var r = 0u;
  for (var i = 32u; i > 0u; i--) {
    let t = r | (1u << (i - 1u));
    let square = times(t, t);
    if (square.y < a.y || (square.y == a.y && square.x <= a.x)) { r = t; }
  }
  return r;
}

// 2^62 − 1
const ALMOST: vec2<u32> = vec2<u32>(0xffffffffu, 0x3fffffffu);

// A product brought back to fixed point, with the scale (mantissa, exponent) of its row:
// clamp(R(y · ((mantissa · multiplier) >> 31), shift + exponent − 31) + bias, ±limit); beyond a shift of 62
// the bias alone.
fn requantized(y: i32, scale: vec2<u32>, multiplier: u32, bias: i32, shift: u32, limit: i32) -> i32 {
  let s = shift + scale.y - 31u;
  if (s > 62u) { return clamp(bias, -limit, limit); }
  let c = right(times(scale.x, multiplier), 31u).x;
  let v = round_right(times_signed(y, bitcast<i32>(c)), s);
  return clamped(plus(v, extended(bias)), limit);
}
