//! Fast integer kernels, each proven equal to the plain reference.
//!
//! Everything here is a pure function over slices: no I/O, no allocation that outside data could
//! make large, no floats. [`mod@reference`] holds the definition of every operation as a plain loop;
//! the functions at the crate root pick the fastest version the machine has ([`Path`]: AVX-512, AVX2 or
//! NEON natively, `simd128` in WebAssembly, scalar elsewhere) and return the same integers.
//!
//! Matrices are row-major. A weight matrix `w` is `[n, k]` of `i8`, activations `x` are
//! `[tokens, k]`, results `y` are `[tokens, n]`.

#![deny(missing_docs)]
#![deny(clippy::float_arithmetic)]

pub mod attention;
pub mod decoder;
pub mod nibbles;
pub mod ops;
pub mod reference;
pub mod rotary;
pub mod sample;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod bytes;
mod dispatch;
mod dot;
mod freivalds;
mod matmul;
mod matvec;
#[cfg(target_arch = "aarch64")]
mod neon;
mod packed;
mod path;
mod product;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
mod vector;
mod weight;

pub use dispatch::path_name;
pub use dot::dot_u32;
pub use freivalds::{P61, RowFold, rt_w_mod_p};
pub use matmul::{
    Strided, attention_context, attention_scores, matmul_full_i64, matmul_i8, matmul_i8_i16,
    matmul_mask_u32,
};
pub use path::Path;
pub use weight::Weight;

/// Reads bytes as signed bytes, without copying.
pub fn as_i8(bytes: &[u8]) -> &[i8] {
    // SAFETY: `u8` and `i8` have the same size and alignment and every bit pattern is valid for
    // both; the length and lifetime are those of the input.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}
