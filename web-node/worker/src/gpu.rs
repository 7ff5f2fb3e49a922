//! The browser's graphics processor beside the node's kernel.
//!
//! The module that speaks to it (`nesa-adapter`) is loaded when a volunteer allows it memory. It opens no
//! device that is software or whose bits differ; why it did not is shown. What it computes is checked by
//! the node before it is signed, and lost devices are the node's to survive.

use js_sys::{Array, Function, Int8Array, Promise, Reflect, Uint32Array};
use nesa_node::{Accelerator, Failed, Product};
use nesa_platform::BoxFuture;
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    /// `nesa_adapter::Server`, in its own module.
    #[derive(Clone)]
    type Server;
    #[wasm_bindgen(method)]
    fn name(this: &Server) -> String;
    #[wasm_bindgen(method, catch)]
    fn load(this: &Server, weight: u32, w: &Int8Array, n: u32, k: u32) -> Result<(), JsValue>;
    #[wasm_bindgen(method, catch)]
    fn products(
        this: &Server,
        weights: &Uint32Array,
        rows: &Uint32Array,
        shares: &Uint32Array,
    ) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn close(this: &Server) -> Result<(), JsValue>;
}

/// Calls a function of the adapter's module, which `module` loads.
///
/// # Errors
/// What JavaScript threw.
pub(crate) async fn call(
    module: &Function,
    function: &str,
    arguments: &Array,
) -> Result<JsValue, JsValue> {
    let loading: Promise = module.call0(&JsValue::NULL)?.unchecked_into();
    let module = JsFuture::from(loading).await?;
    let function: Function = Reflect::get(&module, &function.into())?.dyn_into()?;
    let promise: Promise = Reflect::apply(&function, &module, arguments)?.unchecked_into();
    JsFuture::from(promise).await
}

/// What JavaScript said went wrong.
pub(crate) fn said(error: &JsValue) -> String {
    let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    message.or_else(|| error.as_string()).unwrap_or_else(|| format!("{error:?}"))
}

/// An open device. Dropped, it gives back what it holds.
pub(crate) struct OnGpu {
    server: Server,
    /// Outputs of each weight, by its number.
    outputs: std::cell::RefCell<Vec<usize>>,
}

impl OnGpu {
    /// Opens the adapter to serve.
    ///
    /// # Errors
    /// Why the processor serves instead, for people.
    pub(crate) async fn open(module: &Function) -> Result<Self, String> {
        let server = call(module, "open", &Array::new()).await.map_err(|error| said(&error))?;
        Ok(Self { server: server.unchecked_into(), outputs: std::cell::RefCell::default() })
    }
}

impl Drop for OnGpu {
    fn drop(&mut self) {
        // A module that trapped has nothing left to give back.
        let _ = self.server.close();
    }
}

fn failed(error: JsValue) -> Failed {
    Failed(said(&error))
}

impl Accelerator for OnGpu {
    fn name(&self) -> String {
        self.server.name()
    }

    fn load<'a>(
        &'a self,
        weight: u32,
        w: &'a [i8],
        n: usize,
        k: usize,
    ) -> BoxFuture<'a, Result<(), Failed>> {
        Box::pin(async move {
            // The node numbers its weights from 0 on.
            self.outputs.borrow_mut().push(n);
            self.server.load(weight, &Int8Array::from(w), n as u32, k as u32).map_err(failed)
        })
    }

    fn products(&self, batch: Vec<Product>) -> BoxFuture<'_, Result<Vec<Vec<u32>>, Failed>> {
        Box::pin(async move {
            let weights: Vec<u32> = batch.iter().map(|product| product.weight).collect();
            let rows: Vec<u32> = batch.iter().map(|product| product.rows as u32).collect();
            let len: usize = batch.iter().map(|product| product.share.len()).sum();
            let shares = Uint32Array::new_with_length(len as u32);
            let mut at = 0;
            for product in &batch {
                let end = at + product.share.len() as u32;
                shares.subarray(at, end).copy_from(&product.share);
                at = end;
            }
            let weights = Uint32Array::from(weights.as_slice());
            let rows = Uint32Array::from(rows.as_slice());
            let promise = self.server.products(&weights, &rows, &shares).map_err(failed)?;
            let answer = JsFuture::from(promise).await.map_err(failed)?;
            let all: Uint32Array =
                answer.dyn_into().map_err(|_| Failed("it gave no words".into()))?;
            let mut products = Vec::with_capacity(batch.len());
            let mut at = 0;
            for product in &batch {
                let n = self.outputs.borrow().get(product.weight as usize).copied();
                let n = n.ok_or_else(|| Failed("a weight is not on the device".into()))?;
                let end = at + (n * product.rows) as u32;
                products.push(all.subarray(at, end).to_vec());
                at = end;
            }
            if at != all.length() {
                return Err(Failed(format!("it gave {} words of {at}", all.length())));
            }
            Ok(products)
        })
    }
}
