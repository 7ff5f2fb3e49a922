//! The graphics adapter of a browser, through wgpu: what it is, and what bits it computes.
//!
//! A module of its own, which the worker loads when a volunteer serves or asks for the probe, so that nobody
//! else downloads it. It opens the device with the kernels of `nesa-gpu`, which refuse one whose bits differ
//! from the reference; the worker, which holds the exact kernel, compares once more: in the probe with the
//! reference, while serving by a check of every product.
#![cfg(target_family = "wasm")]

mod info;
#[cfg(feature = "rehearsal")]
mod rehearsal;
pub mod serve;

use js_sys::{Int32Array, Object, Reflect, Uint32Array};
use nesa_gpu::{Gpu, GpuError, Input, Output, Purpose, Work};
use wasm_bindgen::prelude::*;
use web_time::Instant;

/// Asks for an adapter, lets it prove itself, and computes both products of the exact engine on it.
///
/// `weights` holds `[rows, k]` int8 values, four to a word, little end first; `share` one row of `k`
/// words; `activations` one row of `k` int8 values, packed as the weights are. The answer is
/// `{name, vendor, deviceType, backend, maxBinding, mask: Uint32Array, dot: Int32Array, maskMs,
/// dotMs}`.
///
/// # Errors
/// A string for people, when there is no adapter, its bits are not the reference's, or it fails.
#[wasm_bindgen]
pub async fn probe(
    weights: Vec<u32>,
    share: Vec<u32>,
    activations: Vec<u32>,
    rows: u32,
) -> Result<Object, JsValue> {
    let answer = Object::new();
    let set = |key: &str, value: JsValue| Reflect::set(&answer, &key.into(), &value).map(drop);
    // A software adapter is worth a look, though it never serves.
    let gpu = Gpu::open(Purpose::Check).await.map_err(told)?;
    let info = info::read(gpu.adapter()).await;
    set("name", info.name.into())?;
    set("vendor", info.vendor.into())?;
    set("deviceType", info.device_type.into())?;
    set("backend", info.backend.into())?;
    set("maxBinding", (gpu.caps().binding as f64).into())?;
    let weights = gpu.upload(&bytes(&weights), rows as usize, share.len()).map_err(told)?;
    let start = Instant::now();
    let work = [Work { weights: &weights, input: Input::Mask(&share), tokens: 1 }];
    if let Some(Output::Mask(mask)) = gpu.run(&work).await.map_err(told)?.pop() {
        set("mask", Uint32Array::from(mask.as_slice()).into())?;
    }
    set("maskMs", milliseconds(start).into())?;
    let start = Instant::now();
    let x: Vec<i16> = bytes(&activations).into_iter().map(i16::from).collect();
    let work = [Work { weights: &weights, input: Input::Exact(&x), tokens: 1 }];
    if let Some(Output::Exact(dot)) = gpu.run(&work).await.map_err(told)?.pop() {
        set("dot", Int32Array::from(dot.as_slice()).into())?;
    }
    set("dotMs", milliseconds(start).into())?;
    Ok(answer)
}

fn told(error: GpuError) -> JsValue {
    error.to_string().into()
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// The bytes of packed words.
fn bytes(words: &[u32]) -> Vec<i8> {
    words.iter().flat_map(|word| word.to_le_bytes().map(u8::cast_signed)).collect()
}
