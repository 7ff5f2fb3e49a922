//! What an adapter says of itself, and whether it is a processor in disguise.

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

use nesa_gpu::is_software;

/// What the probe reports of an adapter.
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) vendor: String,
    /// `Cpu`, `DiscreteGpu`, `IntegratedGpu`, … or `Gpu` where the browser does not say which.
    pub(crate) device_type: String,
    pub(crate) backend: String,
}

/// Reads what wgpu knows, and from the browser what wgpu 29 leaves out on the web: the vendor, and
/// whether this is the fallback adapter, which is a processor.
pub(crate) async fn read(adapter: &wgpu::Adapter) -> Info {
    let known = adapter.get_info();
    let browser = browser_info().await.unwrap_or(JsValue::UNDEFINED);
    let text = |key: &str| field(&browser, key).and_then(|value| value.as_string());
    let fallback = field(&browser, "isFallbackAdapter").is_some_and(|value| value.is_truthy());
    let name = [Some(known.name), text("device"), text("architecture")]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "unnamed".to_owned());
    let vendor = text("vendor").unwrap_or_default();
    let spelled = format!("{name} {vendor} {}", text("architecture").unwrap_or_default());
    let device_type = if fallback || is_software(&spelled) {
        "Cpu".to_owned()
    } else {
        match known.device_type {
            // Browsers hide which kind it is; with no word to the contrary it is a graphics device.
            wgpu::DeviceType::Other => "Gpu".to_owned(),
            kind => format!("{kind:?}"),
        }
    };
    Info { name, vendor, device_type, backend: format!("{:?}", known.backend) }
}

fn field(object: &JsValue, key: &str) -> Option<JsValue> {
    Reflect::get(object, &key.into()).ok().filter(|value| !value.is_undefined())
}

/// `(await navigator.gpu.requestAdapter()).info`.
async fn browser_info() -> Option<JsValue> {
    let navigator = field(&js_sys::global(), "navigator")?;
    let gpu = field(&navigator, "gpu")?;
    let request: Function = field(&gpu, "requestAdapter")?.dyn_into().ok()?;
    let promise: Promise = request.call0(&gpu).ok()?.dyn_into().ok()?;
    let adapter = JsFuture::from(promise).await.ok()?;
    field(&adapter, "info")
}
