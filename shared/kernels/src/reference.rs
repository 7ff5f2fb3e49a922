//! The plain definition of each kernel. Slow on purpose; every fast path is tested against it.

/// `y[t, j] = Σ_i w[j, i] · x[t, i]` in exact integers.
///
/// `w` is `[n, k]`, `x` is `[tokens, k]`, `y` is `[tokens, n]`. The caller guarantees the
/// accumulator bound `Σ|w|·max|x| < 2^31` per row; sums outside it wrap modulo 2^32.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_i8(w: &[i8], x: &[i32], n: usize, k: usize, tokens: usize, y: &mut [i32]) {
    check_shapes(w.len(), x.len(), y.len(), n, k, tokens);
    for t in 0..tokens {
        for j in 0..n {
            let mut sum = 0i32;
            for i in 0..k {
                sum = sum.wrapping_add(i32::from(w[j * k + i]).wrapping_mul(x[t * k + i]));
            }
            y[t * n + j] = sum;
        }
    }
}

/// `scores[t, u] = Σ_i q[t, i] · k[u, i]`, wrapping modulo 2^32; all `[tokens, width]`.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn attention_scores(q: &[i16], k: &[i16], tokens: usize, width: usize, scores: &mut [i32]) {
    check_shapes(k.len(), q.len(), scores.len(), tokens, width, tokens);
    for t in 0..tokens {
        for u in 0..tokens {
            let mut sum = 0i32;
            for i in 0..width {
                let product = i32::from(q[t * width + i]) * i32::from(k[u * width + i]);
                sum = sum.wrapping_add(product);
            }
            scores[t * tokens + u] = sum;
        }
    }
}

/// `context[t, i] = Σ_u p[t, u] · v[u, i]`, wrapping modulo 2^32; `p` is `[tokens, tokens]`, the others
/// `[tokens, width]`.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn attention_context(p: &[i16], v: &[i16], tokens: usize, width: usize, context: &mut [i32]) {
    check_shapes(v.len(), p.len(), context.len(), width, tokens, tokens);
    for t in 0..tokens {
        for i in 0..width {
            let mut sum = 0i32;
            for u in 0..tokens {
                let product = i32::from(p[t * tokens + u]) * i32::from(v[u * width + i]);
                sum = sum.wrapping_add(product);
            }
            context[t * width + i] = sum;
        }
    }
}

/// `out[t, j] = Σ_i w[j, i] · share[t, i] mod 2^32`: a server's product over one additive share.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_mask_u32(
    w: &[i8],
    share: &[u32],
    n: usize,
    k: usize,
    tokens: usize,
    out: &mut [u32],
) {
    check_shapes(w.len(), share.len(), out.len(), n, k, tokens);
    for t in 0..tokens {
        for j in 0..n {
            let mut sum = 0u32;
            for i in 0..k {
                sum = sum.wrapping_add((w[j * k + i] as u32).wrapping_mul(share[t * k + i]));
            }
            out[t * n + j] = sum;
        }
    }
}

/// `out[t, j] = Σ_i w[j, i] · share[t, i]` over the integers, each share read as `0 ≤ s < 2^32`.
///
/// The low 32 bits equal [`matmul_mask_u32`]; the whole value lets a client check one server's
/// answer alone (private blame). `|out| < 2^50` for the widest layer here.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn matmul_full_i64(
    w: &[i8],
    share: &[u32],
    n: usize,
    k: usize,
    tokens: usize,
    out: &mut [i64],
) {
    check_shapes(w.len(), share.len(), out.len(), n, k, tokens);
    for t in 0..tokens {
        for j in 0..n {
            let mut sum = 0i64;
            for i in 0..k {
                sum += i64::from(w[j * k + i]) * i64::from(share[t * k + i]);
            }
            out[t * n + j] = sum;
        }
    }
}

/// `s[i] = Σ_j r[j] · w[j, i] mod p`, `p = 2^61 − 1`, results in `0..p`.
///
/// # Panics
/// When a slice does not have the length its shape says.
pub fn rt_w_mod_p(r: &[u64], w: &[i8], n: usize, k: usize) -> Vec<u64> {
    assert_eq!(r.len(), n, "r is [n]");
    assert_eq!(w.len(), n * k, "w is [n, k]");
    let p = i128::from(crate::P61);
    (0..k)
        .map(|i| {
            let mut sum = 0i128;
            for j in 0..n {
                sum = (sum + i128::from(r[j]) * i128::from(w[j * k + i])) % p;
            }
            sum.rem_euclid(p) as u64
        })
        .collect()
}

pub(crate) fn check_shapes(w: usize, x: usize, y: usize, n: usize, k: usize, tokens: usize) {
    assert_eq!(w, n * k, "w is [n, k]");
    assert_eq!(x, tokens * k, "x is [tokens, k]");
    assert_eq!(y, tokens * n, "y is [tokens, n]");
}
