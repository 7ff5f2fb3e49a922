//! The little linear algebra that quantisation needs, in `f64` with fixed orders of summation.
//!
//! Each function is compiled plainly and once more with AVX2; without contraction, and with every
//! sum in explicit lanes, both give the same bits.

const LANES: usize = 8;

macro_rules! wide {
    ($(#[$meta:meta])* pub(crate) fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        pub(crate) fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn plain($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) { plain($($arg),*) }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has AVX2, checked on the line above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}

#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0f64; LANES];
    let (a, a_tail) = a.as_chunks::<LANES>();
    let (b, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let mut sum = 0.0;
    for (a, b) in a_tail.iter().zip(b_tail) {
        sum += a * b;
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h)) + sum
}

#[inline(always)]
fn add_scaled(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

wide! {
    /// Adds `Σ_t x[t]·x[t]ᵀ` to the upper triangle of `h`, `[k, k]`; `x` is `[tokens, k]`.
    pub(crate) fn add_gram(h: &mut [f64], x: &[f64], k: usize) {
        for block in x.chunks(32 * k) {
            for i in 0..k {
                let row = &mut h[i * k + i..(i + 1) * k];
                for x in block.chunks_exact(k) {
                    add_scaled(row, x[i], &x[i..]);
                }
            }
        }
    }
}

wide! {
    /// Turns a positive definite `h` (`[k, k]`, upper triangle given) into the upper triangular `u`
    /// with `h⁻¹ = uᵀ·u`, in place: factor `h = r·rᵀ` with `r` upper triangular, then `u = r⁻¹`.
    pub(crate) fn inverse_factor(h: &mut [f64], k: usize) {
        for i in (0..k).rev() {
            let (above, rest) = h.split_at_mut(i * k);
            let row = &mut rest[..k];
            let tail = dot(&row[i + 1..], &row[i + 1..]);
            let diagonal = (row[i] - tail).max(f64::MIN_POSITIVE).sqrt();
            row[i] = diagonal;
            for other in above.chunks_exact_mut(k) {
                let sum = dot(&other[i + 1..], &row[i + 1..]);
                other[i] = (other[i] - sum) / diagonal;
            }
        }
        let mut inverse = vec![0.0; k];
        for i in (0..k).rev() {
            let (upper, below) = h.split_at_mut((i + 1) * k);
            let row = &mut upper[i * k..];
            let scale = 1.0 / row[i];
            inverse[i..].fill(0.0);
            for m in i + 1..k {
                let start = (m - i - 1) * k;
                add_scaled(&mut inverse[m..], row[m], &below[start + m..start + k]);
            }
            row[i] = scale;
            for (r, v) in row[i + 1..].iter_mut().zip(&inverse[i + 1..]) {
                *r = -v * scale;
            }
        }
    }
}

wide! {
    /// Rounds rows of weights one column at a time, moving each error into the columns not yet
    /// rounded so that the product changes least (GPTQ, Frantar et al. 2022).
    ///
    /// `w` is `[rows, k]` and becomes the integers, `scales` their steps, `u` from
    /// [`inverse_factor`].
    pub(crate) fn round_compensated(w: &mut [f64], scales: &[f64], u: &[f64], k: usize) {
        for (rows, scales) in w.chunks_mut(8 * k).zip(scales.chunks(8)) {
            for i in 0..k {
                let factor = &u[i * k + i..(i + 1) * k];
                for (row, scale) in rows.chunks_exact_mut(k).zip(scales) {
                    let q = (row[i] / scale).round().clamp(-127.0, 127.0);
                    let error = (row[i] - q * scale) / factor[0];
                    row[i] = q;
                    add_scaled(&mut row[i + 1..], -error, &factor[1..]);
                }
            }
        }
    }
}

wide! {
    /// [`round_compensated`] to integers from −8 to 7, each weight with a step of its own: `steps` is
    /// `[rows, k]`.
    pub(crate) fn round_in_groups(w: &mut [f64], steps: &[f64], u: &[f64], k: usize) {
        for (rows, steps) in w.chunks_mut(8 * k).zip(steps.chunks(8 * k)) {
            for i in 0..k {
                let factor = &u[i * k + i..(i + 1) * k];
                for (row, steps) in rows.chunks_exact_mut(k).zip(steps.chunks_exact(k)) {
                    let q = crate::groups::nearest(row[i], steps[i]);
                    let error = (row[i] - q * steps[i]) / factor[0];
                    row[i] = q;
                    add_scaled(&mut row[i + 1..], -error, &factor[1..]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor_inverts() {
        let k = 13;
        let x: Vec<f64> = (0..40 * k).map(|i| f64::from((i * 7919 % 101) as i32 - 50)).collect();
        let mut h = vec![0.0; k * k];
        add_gram(&mut h, &x, k);
        for i in 0..k {
            h[i * k + i] += 1.0;
            for j in 0..i {
                h[i * k + j] = h[j * k + i];
            }
        }
        let mut u = h.clone();
        inverse_factor(&mut u, k);
        // h · uᵀ·u is the identity.
        for i in 0..k {
            for j in 0..k {
                let mut sum = 0.0;
                for m in 0..k {
                    let inverse: f64 = (0..=m.min(j)).map(|r| u[r * k + m] * u[r * k + j]).sum();
                    sum += h[i * k + m] * inverse;
                }
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((sum - expected).abs() < 1e-6, "{i} {j} {sum}");
            }
        }
    }
}
