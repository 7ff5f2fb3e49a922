//! The graphics adapter of a browser, through wgpu: what it is, and what bits it computes.
//!
//! A module of its own, which the worker loads when a volunteer asks for the probe, so that nobody
//! else downloads it. It computes; the worker, which holds the exact kernel, compares: an adapter
//! may serve only if it gives the very same bytes.
#![cfg(target_family = "wasm")]

mod device;
mod info;

use js_sys::{Int32Array, Object, Reflect, Uint32Array};
use wasm_bindgen::prelude::*;

use device::Device;

/// Asks for an adapter and computes both products of the exact engine on it.
///
/// `weights` holds `[n, k]` int8 values, four to a word, little end first; `share` one row of `k`
/// words; `activations` one row of `k` int8 values, packed as the weights are. The answer is
/// `{name, vendor, deviceType, backend, maxBinding, mask: Uint32Array, dot: Int32Array, maskMs,
/// dotMs}`.
///
/// # Errors
/// A string for people, when there is no adapter or it fails.
#[wasm_bindgen]
pub async fn probe(
    weights: Vec<u32>,
    share: Vec<u32>,
    activations: Vec<u32>,
    rows: u32,
) -> Result<Object, JsValue> {
    let answer = Object::new();
    let set = |key: &str, value: JsValue| Reflect::set(&answer, &key.into(), &value).map(drop);
    let device = Device::open().await.map_err(|error| error.to_string())?;
    let info = info::read(device.adapter()).await;
    set("name", info.name.into())?;
    set("vendor", info.vendor.into())?;
    set("deviceType", info.device_type.into())?;
    set("backend", info.backend.into())?;
    set("maxBinding", (device.max_binding() as f64).into())?;
    let (mask, ms) =
        device.product("mask", &weights, &share, rows).await.map_err(|error| error.to_string())?;
    set("mask", Uint32Array::from(mask.as_slice()).into())?;
    set("maskMs", ms.into())?;
    let (dot, ms) = device
        .product("dot", &weights, &activations, rows)
        .await
        .map_err(|error| error.to_string())?;
    let dot: Vec<i32> = dot.into_iter().map(u32::cast_signed).collect();
    set("dot", Int32Array::from(dot.as_slice()).into())?;
    set("dotMs", ms.into())?;
    Ok(answer)
}
