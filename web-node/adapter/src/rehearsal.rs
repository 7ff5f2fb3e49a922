//! Devices that serve though they are software, and fail when a test asks them to. The browser tests answer
//! with this build in place of the real module; it is not in `www/dist`.

use js_sys::Reflect;
use nesa_gpu::{Gpu, GpuError, Purpose};

/// Batches that are served before a fault strikes: a query is well under way.
const BEFORE: u32 = 3;

/// What goes wrong, by what a test put into `nesaFault` of the worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `undefined`.
    None,
    /// `"bits"`: one bit of a product, after so many batches.
    FlipsABit {
        /// Batches left.
        after: u32,
    },
    /// `"lost"`: the device is lost, after so many batches.
    IsLost {
        /// Batches left.
        after: u32,
    },
}

fn asked_for() -> Option<String> {
    Reflect::get(&js_sys::global(), &"nesaFault".into()).ok()?.as_string()
}

/// A software adapter will do; with `"driver"` its kernels are wrong from the start.
pub(crate) async fn device() -> Result<Gpu, GpuError> {
    if asked_for().as_deref() == Some("driver") {
        return Gpu::open_faulty().await;
    }
    Gpu::open(Purpose::Check).await
}

impl Fault {
    pub(crate) fn asked_for() -> Self {
        match asked_for().as_deref() {
            Some("bits") => Self::FlipsABit { after: BEFORE },
            Some("lost") => Self::IsLost { after: BEFORE },
            _ => Self::None,
        }
    }

    /// Spoils the products of a batch, or the device, when it is time.
    pub(crate) fn strike(&mut self, gpu: &Gpu, mut products: Vec<u32>) -> Vec<u32> {
        match self {
            Self::FlipsABit { after: 0 } => {
                if let Some(first) = products.first_mut() {
                    *first ^= 1;
                }
            }
            // The batch at hand is served; the next one finds the device gone.
            Self::IsLost { after: 0 } => gpu.close(),
            Self::FlipsABit { after } | Self::IsLost { after } => *after -= 1,
            Self::None => {}
        }
        products
    }
}
