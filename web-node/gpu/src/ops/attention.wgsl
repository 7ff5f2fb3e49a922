// Queries, keys and values of new tokens, and attention over the cache; `wide.wgsl` goes before.
//
// Rows are those of a whole batch; tokens are one sequence's, from row `first` on.
// Two neighbouring channels of 16 bits share a word. The cache of a layer is [kv_heads, capacity, width / 2].

struct Shape {
  n: u32,         // values in a row of the product
  shift: u32,
  limit: i32,     // of queries and keys
  heads: u32,
  kv_heads: u32,
  width: u32,     // channels of a head
  before: u32,    // tokens in the cache
  tokens: u32,    // new ones
  capacity: u32,
  window: u32,    // 0 for all
  last: u32,      // entry of the exponential table
  first: u32,     // row of the sequence's first new token
}

@group(0) @binding(0) var<storage, read> y: array<i32>;             // [rows, n]
@group(0) @binding(1) var<storage, read> scales: array<vec2<u32>>;  // [rows]
@group(0) @binding(2) var<storage, read> to: array<vec2<u32>>;      // [n]: multiplier, bias
@group(0) @binding(3) var<storage, read> turns: array<vec2<i32>>;   // [rows, width / 2]: cosine, sine
@group(0) @binding(4) var<storage, read_write> queries: array<u32>; // [rows, heads, width / 2]
@group(0) @binding(5) var<storage, read_write> keys: array<u32>;
@group(0) @binding(6) var<storage, read_write> values: array<u32>;
@group(0) @binding(7) var<uniform> shape: Shape;
@group(0) @binding(8) var<storage, read> exponentials: array<u32>;
@group(0) @binding(9) var<storage, read> scores: array<u32>;        // [heads]
@group(0) @binding(10) var<storage, read_write> out: array<i32>;    // [rows, heads, width]

const VALUE_LIMIT: i32 = 32767;

fn value(row: u32, column: u32, limit: i32) -> i32 {
  let t = to[column];
  return requantized(y[row * shape.n + column], scales[row], t.x, bitcast<i32>(t.y), shape.shift, limit);
}

// Channel `c` of the head that begins at `column`, turned with its partner half a head away.
fn turned(row: u32, column: u32, c: u32) -> i32 {
  let half = shape.width / 2u;
  let pair = c % half;
  let a = value(row, column + pair, shape.limit);
  let b = value(row, column + half + pair, shape.limit);
  let turn = turns[row * half + pair];
  if (c < half) { return bitcast<i32>(round_right(minus(times_signed(a, turn.x), times_signed(b, turn.y)), 30u).x); }
  return bitcast<i32>(round_right(plus(times_signed(b, turn.x), times_signed(a, turn.y)), 30u).x);
}

fn pair_of(low: i32, high: i32) -> u32 {
  return (bitcast<u32>(low) & 0xffffu) | (bitcast<u32>(high) << 16u);
}

// A thread a word: of all queries of a token, then its keys, then its values.
@compute @workgroup_size(64)
fn remember(@builtin(global_invocation_id) id: vec3<u32>) {
  let half = shape.width / 2u;
  let words = (shape.heads + 2u * shape.kv_heads) * half;
  if (id.x >= words * shape.tokens) { return; }
  let token = id.x / words;
  let row = shape.first + token;
  let word = id.x % words;
  let head = word / half;
  let column = head * shape.width;
  let c = 2u * (word % half);
  if (head < shape.heads) {
    queries[row * shape.heads * half + word] = pair_of(turned(row, column, c), turned(row, column, c + 1u));
    return;
  }
  let kv = (head - shape.heads) % shape.kv_heads;
  let at = (kv * shape.capacity + shape.before + token) * half + word % half;
  if (head < shape.heads + shape.kv_heads) {
    keys[at] = pair_of(turned(row, column, c), turned(row, column, c + 1u));
  } else {
    values[at] = pair_of(value(row, column + c, VALUE_LIMIT), value(row, column + c + 1u, VALUE_LIMIT));
  }
}

var<workgroup> most: array<i32, 64>;
var<workgroup> weights: array<u32, 64>;

fn low_half(word: u32) -> i32 { return extractBits(bitcast<i32>(word), 0u, 16u); }
fn high_half(word: u32) -> i32 { return bitcast<i32>(word) >> 16u; }

fn score(query: u32, key: u32) -> i32 {
  var s = 0;
  for (var i = 0u; i < shape.width / 2u; i++) {
    let q = queries[query + i];
    let k = keys[key + i];
    s += low_half(q) * low_half(k) + high_half(q) * high_half(k);
  }
  return s;
}

// A workgroup for one query of one head. A lane has a token at a time, then two words of channels.
@compute @workgroup_size(64)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let half = shape.width / 2u;
  let head = group.x;
  let token = group.y;
  let row = shape.first + token;
  let query = (row * shape.heads + head) * half;
  let cache = (head / (shape.heads / shape.kv_heads)) * shape.capacity * half;
  let end = shape.before + token + 1u;
  let from_token = select(0u, end - min(end, shape.window), shape.window != 0u);

  var mine = bitcast<i32>(0x80000000u);
  for (var u = from_token + lane; u < end; u += 64u) { mine = max(mine, score(query, cache + u * half)); }
  most[lane] = mine;
  workgroupBarrier();
  for (var step = 32u; step > 0u; step >>= 1u) {
    if (lane < step) { most[lane] = max(most[lane], most[lane + step]); }
    workgroupBarrier();
  }
  let top = most[0];

  var sum = 0u;  // below 2^32: at most 2^17 tokens of 15 bits
  var context = array<vec2<u32>, 4>();
  for (var first = from_token; first < end; first += 64u) {
    let u = first + lane;
    var e = 0u;
    if (u < end) {
      let below = bitcast<u32>(top) - bitcast<u32>(score(query, cache + u * half));
      e = exponentials[min(times(below, scores[head]).y >> 8u, shape.last)];
    }
    workgroupBarrier();
    weights[lane] = e;
    workgroupBarrier();
    let many = min(64u, end - first);
    // 64 products of 16 bits by one byte stay below 2^30.
    var low = vec4<i32>(0);
    var high = vec4<i32>(0);
    for (var i = 0u; i < many; i++) {
      let weight = weights[i];
      sum += weight;
      let at = cache + (first + i) * half;
      var v = vec4<i32>(0);
      if (lane < half) {
        let word = values[at + lane];
        v.x = low_half(word);
        v.y = high_half(word);
      }
      if (lane + 64u < half) {
        let word = values[at + lane + 64u];
        v.z = low_half(word);
        v.w = high_half(word);
      }
      low += v * bitcast<i32>(weight & 0xffu);
      high += v * bitcast<i32>(weight >> 8u);
    }
    for (var c = 0u; c < 4u; c++) {
      context[c] = plus(context[c], plus(extended(low[c]), left(extended(high[c]), 8u)));
    }
  }
  let z = countLeadingZeros(max(sum, 1u));
  let r = bitcast<i32>(divided(ALMOST, max(sum, 1u) << z));
  for (var c = 0u; c < 4u; c++) {
    let word = lane + 64u * (c / 2u);
    if (word < half) {
      let mean = bitcast<i32>(round_right(left(context[c], z), 16u).x);
      let v = round_right(times_signed(mean, r), 39u);
      out[(row * shape.heads + head) * shape.width + 2u * word + c % 2u] = bitcast<i32>(v.x);
    }
  }
}
