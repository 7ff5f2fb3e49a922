//! The products of the exact engine on a graphics processor, through wgpu.
//!
//! # Design
//!
//! ```text
//! weights ─upload─▶ Weights (once)
//! [Work]  ─run────▶ one pass, one submit, one read ─▶ [Output]
//! ```
//!
//! Integers of WGSL wrap by definition, so a correct device gives the bytes of
//! [`nesa_kernels::reference`], and one that does not is refused when it is opened ([`Gpu::open`] computes
//! every kernel once and compares). Few tokens are computed by kernels in which sixteen lanes read a row of
//! weights side by side, many by tiles in workgroup memory. What exceeds a device's bindings is split
//! ([`mod@split`]).
//!
//! Masked shares are products of words of Z_2^32; a lane mod 2^k takes the low k bits. Activations of an
//! exact model are split into two bytes, so that `dot4I8Packed` serves 16 bits.
//!
//! A software adapter gives the same bytes too, slower than the processor it runs on: it is for tests, and
//! [`Purpose::Serve`] refuses it.

#![deny(missing_docs)]

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "decoder")]
pub mod decoder;
mod device;
mod input;
#[cfg(feature = "decoder")]
mod ops;
mod run;
mod self_test;
pub mod split;
mod view;
mod weights;

pub use device::{Caps, Gpu, GpuError, Info, Purpose, is_software};
pub use run::{Input, Output, Work};
pub use weights::Weights;
