// The two products of the exact engine, one output per thread. `w` holds four int8 weights in each
// word, little end first, [n, k] with k a multiple of 4. WGSL's integers wrap by definition.
@group(0) @binding(0) var<storage, read> w: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

// A masked share: k words of Z_2^32 in `x`.
@compute @workgroup_size(64)
fn mask(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= arrayLength(&y)) { return; }
  let words = arrayLength(&x) / 4u;
  var sum = 0u;
  for (var i = 0u; i < words; i++) {
    let four = bitcast<i32>(w[id.x * words + i]);
    for (var j = 0u; j < 4u; j++) {
      sum += bitcast<u32>(extractBits(four, 8u * j, 8u)) * x[4u * i + j];
    }
  }
  y[id.x] = sum;
}

// A plain int8 product: k activations in `x`, packed as the weights are.
@compute @workgroup_size(64)
fn dot(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= arrayLength(&y)) { return; }
  let words = arrayLength(&x);
  var sum = 0;
  for (var i = 0u; i < words; i++) {
    sum += dot4I8Packed(w[id.x * words + i], x[i]);
  }
  y[id.x] = bitcast<u32>(sum);
}
