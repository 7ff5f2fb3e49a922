//! The exact engine as a module without imports, for timing from JavaScript; natively, what the
//! timing program shares.
//!
//! ```js
//! const { memory, reserve, open, embed } = instance.exports;
//! new Uint8Array(memory.buffer, reserve(model.length), model.length).set(model);
//! open();            // 1: ready
//! embed(32);         // first coordinate of the embedding of 32 fixed tokens
//! ```

pub mod decode;

use nesa_model::{Artifact, EncoderRun, Model, ModelLimits, PlainEngine, TokenIds};
use std::sync::Mutex;

/// The same `tokens` ids that the peers are given (`timing.mjs`).
pub fn ids(tokens: usize) -> Vec<u32> {
    (0..tokens)
        .map(|i| match i {
            0 => 101,
            _ if i + 1 == tokens => 102,
            _ => 2000 + (i as u32 * 7919) % 20000,
        })
        .collect()
}

/// A model from the bytes of its file.
pub fn model(bytes: Vec<u8>) -> Result<Model, String> {
    let artifact = Artifact::open(bytes, &ModelLimits::default()).map_err(|e| e.to_string())?;
    Model::open(&artifact).map_err(|e| e.to_string())
}

/// The embedding of [`ids`], fixed point.
pub fn embed_ids(model: &Model, tokens: usize) -> Result<Vec<i32>, String> {
    let batch = [TokenIds { ids: ids(tokens), second: None, truncated: false }];
    let run = EncoderRun::start(model, &batch).map_err(|e| e.to_string())?;
    let mut out = run.run(&PlainEngine(model)).map_err(|e| e.to_string())?;
    Ok(out.pop().map(|e| e.values).unwrap_or_default())
}

static FILE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static MODEL: Mutex<Option<Model>> = Mutex::new(None);

/// Makes room for the model's file; returns its address.
#[unsafe(no_mangle)]
pub extern "C" fn reserve(len: usize) -> *mut u8 {
    let Ok(mut file) = FILE.lock() else { return std::ptr::null_mut() };
    *file = vec![0; len];
    file.as_mut_ptr()
}

/// Opens the model whose bytes were put at [`reserve`]'s address: 1 when it is ready.
#[unsafe(no_mangle)]
pub extern "C" fn open() -> i32 {
    let (Ok(mut file), Ok(mut place)) = (FILE.lock(), MODEL.lock()) else { return 0 };
    *place = model(std::mem::take(&mut file)).ok();
    place.is_some().into()
}

/// The first coordinate of the embedding of `tokens` fixed tokens; the lowest number if that fails.
#[unsafe(no_mangle)]
pub extern "C" fn embed(tokens: usize) -> i32 {
    let Ok(place) = MODEL.lock() else { return i32::MIN };
    let values = place.as_ref().and_then(|model| embed_ids(model, tokens).ok());
    values.and_then(|v| v.first().copied()).unwrap_or(i32::MIN)
}
