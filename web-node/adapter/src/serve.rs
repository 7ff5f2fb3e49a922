//! A device that serves: weights that stay on it, and batches of products.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use nesa_gpu::{Gpu, GpuError, Input, Output, Weights, Work};
use wasm_bindgen::prelude::*;

use crate::{info, told};

/// A device with weights on it.
#[wasm_bindgen]
pub struct Server {
    // Promises outlive the call that made them.
    inner: Rc<Inner>,
}

pub(crate) struct Inner {
    name: String,
    gpu: Gpu,
    weights: RefCell<HashMap<u32, Rc<Weights>>>,
    #[cfg(feature = "rehearsal")]
    fault: RefCell<crate::rehearsal::Fault>,
}

/// Opens the adapter to serve: it has given the reference's bits for every kernel and is no processor in
/// disguise.
///
/// # Errors
/// A string for people that says why the processor serves instead.
#[wasm_bindgen]
pub async fn open() -> Result<Server, JsValue> {
    let gpu = device().await.map_err(told)?;
    let info = info::read(gpu.adapter()).await;
    if info.device_type == "Cpu" && cfg!(not(feature = "rehearsal")) {
        gpu.close();
        return Err(told(GpuError::Software(info.name)));
    }
    let inner = Inner {
        name: info.name,
        gpu,
        weights: RefCell::default(),
        #[cfg(feature = "rehearsal")]
        fault: RefCell::new(crate::rehearsal::Fault::asked_for()),
    };
    Ok(Server { inner: Rc::new(inner) })
}

#[cfg(not(feature = "rehearsal"))]
async fn device() -> Result<Gpu, GpuError> {
    Gpu::open(nesa_gpu::Purpose::Serve).await
}

#[cfg(feature = "rehearsal")]
async fn device() -> Result<Gpu, GpuError> {
    crate::rehearsal::device().await
}

#[wasm_bindgen]
impl Server {
    /// What the adapter is called.
    #[must_use]
    pub fn name(&self) -> String {
        self.inner.name.clone()
    }

    /// Brings an `[n, k]` weight to the device, under a number of its own.
    ///
    /// # Errors
    /// A string for people, when it does not fit.
    pub fn load(&self, weight: u32, w: Vec<i8>, n: u32, k: u32) -> Result<(), JsValue> {
        let weights = self.inner.gpu.upload(&w, n as usize, k as usize).map_err(told)?;
        self.inner.weights.borrow_mut().insert(weight, Rc::new(weights));
        Ok(())
    }

    /// Computes masked products in one submit: of weight `weights[i]` with the next `rows[i]` rows of
    /// `shares`. All products, one after the other.
    ///
    /// # Errors
    /// A string for people, when the device is lost or a weight is not there.
    pub async fn products(
        &self,
        weights: Vec<u32>,
        rows: Vec<u32>,
        shares: Vec<u32>,
    ) -> Result<Vec<u32>, JsValue> {
        let inner = self.inner.clone();
        let products = inner.products(&weights, &rows, &shares).await?;
        #[cfg(feature = "rehearsal")]
        let products = inner.fault.borrow_mut().strike(&inner.gpu, products);
        Ok(products)
    }

    /// Gives back all that the device holds.
    pub fn close(&self) {
        self.inner.weights.borrow_mut().clear();
        self.inner.gpu.close();
    }
}

impl Inner {
    async fn products(
        &self,
        weights: &[u32],
        rows: &[u32],
        mut shares: &[u32],
    ) -> Result<Vec<u32>, JsValue> {
        let held: Option<Vec<Rc<Weights>>> = {
            let all = self.weights.borrow();
            weights.iter().map(|weight| all.get(weight).cloned()).collect()
        };
        let held = held.ok_or_else(|| JsValue::from("a weight is not on the device"))?;
        let mut work = Vec::with_capacity(held.len());
        for (weights, &rows) in held.iter().zip(rows) {
            let tokens = rows as usize;
            let split =
                tokens.checked_mul(weights.k()).and_then(|len| shares.split_at_checked(len));
            let (share, rest) =
                split.ok_or_else(|| JsValue::from("a share is shorter than its rows"))?;
            work.push(Work { weights, input: Input::Mask(share), tokens });
            shares = rest;
        }
        let outputs = self.gpu.run(&work).await.map_err(told)?;
        let words = outputs.into_iter().filter_map(|output| match output {
            Output::Mask(words) => Some(words),
            _ => None,
        });
        Ok(words.flatten().collect())
    }
}
