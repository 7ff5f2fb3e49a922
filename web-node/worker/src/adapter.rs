//! Looks for a graphics adapter and runs the bit self-test on it.
//!
//! The masked lane's kernel is a wrapping product of 32-bit words. An adapter may serve it only if
//! it gives the very bytes of the reference; this probe computes one on the adapter and one here
//! and compares their digests. Serving on WebGPU comes later; its place is `nesa-node`'s kernel.

use std::rc::Rc;

use js_sys::{Array, Function, Object, Promise, Reflect, Uint32Array};
use nesa_messages::{AdapterReport, FromWorker, Problem, SelfTest};
use nesa_platform::time::Instant;
use nesa_primitives::Hash;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::app::App;

/// Shape of the self-test: `[N, K]` weights times one row of `K` words.
const N: usize = 64;
const K: usize = 384;

/// GPUBufferUsage and GPUMapMode, from the WebGPU specification.
const MAP_READ: u32 = 0x1;
const COPY_SRC: u32 = 0x4;
const COPY_DST: u32 = 0x8;
const STORAGE: u32 = 0x80;
const MAP_MODE_READ: u32 = 0x1;

const SHADER: &str = "
@group(0) @binding(0) var<storage, read> w: array<i32>;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= 64u) { return; }
  var sum: u32 = 0u;
  for (var k: u32 = 0u; k < 384u; k = k + 1u) {
    sum = sum + bitcast<u32>(w[id.x * 384u + k]) * x[k];
  }
  y[id.x] = sum;
}";

/// Why an adapter could not be used, as JavaScript said it.
struct Gone(String);

impl From<JsValue> for Gone {
    fn from(error: JsValue) -> Self {
        let text = error
            .dyn_ref::<js_sys::Error>()
            .map_or_else(|| format!("{error:?}"), |error| String::from(error.message()));
        Self(text)
    }
}

fn get(object: &JsValue, key: &str) -> Result<JsValue, Gone> {
    Ok(Reflect::get(object, &key.into())?)
}

fn call(object: &JsValue, method: &str, arguments: &[JsValue]) -> Result<JsValue, Gone> {
    let function: Function =
        get(object, method)?.dyn_into().map_err(|_| Gone(format!("{method} is not there")))?;
    let arguments: Array = arguments.iter().collect();
    Ok(Reflect::apply(&function, object, &arguments)?)
}

async fn wait(promise: JsValue) -> Result<JsValue, Gone> {
    let promise: Promise = promise.dyn_into().map_err(|_| Gone("not a promise".into()))?;
    Ok(JsFuture::from(promise).await?)
}

fn object(fields: &[(&str, JsValue)]) -> Result<JsValue, Gone> {
    let object = Object::new();
    for (key, value) in fields {
        Reflect::set(&object, &(*key).into(), value)?;
    }
    Ok(object.into())
}

fn text(object: &JsValue, key: &str) -> String {
    get(object, key).ok().and_then(|value| value.as_string()).unwrap_or_default()
}

/// Test data that needs no file: a counter through BLAKE3.
fn words(tag: &str, count: usize) -> Vec<u32> {
    let mut words = vec![0u32; count];
    for (index, word) in words.iter_mut().enumerate() {
        let hash =
            Hash::of_bytes("adapter self-test", &Hash::ZERO, format!("{tag}{index}").as_bytes());
        *word = u32::from_le_bytes([hash.0[0], hash.0[1], hash.0[2], hash.0[3]]);
    }
    words
}

fn digest(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Hash::of_bytes("adapter self-test", &Hash::ZERO, &bytes).to_string()
}

/// The definition: wrapping 32-bit arithmetic.
fn reference(w: &[i8], x: &[u32]) -> Vec<u32> {
    w.chunks_exact(K)
        .map(|row| {
            row.iter()
                .zip(x)
                .fold(0u32, |sum, (&w, &x)| sum.wrapping_add((i32::from(w) as u32).wrapping_mul(x)))
        })
        .collect()
}

impl App {
    pub(crate) async fn probe_adapter(self: Rc<Self>) {
        let running = AdapterReport { running: true, ..AdapterReport::default() };
        self.port.send(&FromWorker::Adapter { adapter: running });
        let w: Vec<i8> = words("w", N * K).into_iter().map(|word| word as i8).collect();
        let x = words("x", K);
        let expected = digest(&reference(&w, &x));
        let start = Instant::now();
        let mut y = vec![0u32; N];
        nesa_kernels::matmul_mask_u32(&w, &x, N, K, 1, &mut y);
        let what = format!("u32 wrapping product {N}×{K}");
        let mut report = AdapterReport {
            tests: vec![self_test(&what, "wasm simd128", digest(&y), &expected, start)],
            ..AdapterReport::default()
        };
        let start = Instant::now();
        match on_adapter(&w, &x, &mut report).await {
            Ok(y) => {
                report.tests.push(self_test(&what, "WebGPU", digest(&y), &expected, start));
                report.available = true;
            }
            Err(Gone(reason)) => {
                report.problem = Some(Problem::new(
                    "no-adapter",
                    format!("No usable graphics adapter: {reason}."),
                    "Nothing to do: this browser serves on its processor.",
                ));
            }
        }
        report.conclusion = if report.tests.iter().all(|test| test.equal) {
            "serves on the CPU kernel; the same bytes everywhere it was tried".to_owned()
        } else {
            "serves on the CPU kernel; the adapter's bytes differ and will not be used".to_owned()
        };
        self.port.send(&FromWorker::Adapter { adapter: report });
    }
}

fn self_test(what: &str, on: &str, got: String, expected: &str, start: Instant) -> SelfTest {
    SelfTest {
        what: what.to_owned(),
        on: on.to_owned(),
        equal: got == expected,
        got,
        expected: expected.to_owned(),
        took_ms: start.elapsed().as_secs_f64() * 1000.0,
    }
}

/// Fills in what the adapter says of itself and computes the product on it.
async fn on_adapter(w: &[i8], x: &[u32], report: &mut AdapterReport) -> Result<Vec<u32>, Gone> {
    let navigator = get(&js_sys::global(), "navigator")?;
    let gpu = get(&navigator, "gpu")?;
    if !gpu.is_truthy() {
        return Err(Gone("this browser offers no WebGPU here".into()));
    }
    let adapter = wait(call(&gpu, "requestAdapter", &[])?).await?;
    if !adapter.is_truthy() {
        return Err(Gone("the browser gave no adapter".into()));
    }
    if let Ok(info) = get(&adapter, "info") {
        report.name = [text(&info, "description"), text(&info, "device")]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_else(|| "unnamed".to_owned());
        report.vendor = text(&info, "vendor");
        let fallback = get(&info, "isFallbackAdapter").is_ok_and(|value| value.is_truthy());
        report.device_type = if fallback { "Cpu" } else { "Gpu" }.to_owned();
    }
    let limits = get(&adapter, "limits")?;
    let binding = get(&limits, "maxStorageBufferBindingSize")?.as_f64().unwrap_or_default();
    report.max_binding = binding as u64;
    let device = wait(call(&adapter, "requestDevice", &[])?).await?;
    let queue = get(&device, "queue")?;

    let wide: Vec<u32> = w.iter().map(|&w| i32::from(w) as u32).collect();
    let buffer = |words: usize, usage: u32| -> Result<JsValue, Gone> {
        let descriptor = object(&[("size", ((words * 4) as u32).into()), ("usage", usage.into())])?;
        call(&device, "createBuffer", &[descriptor])
    };
    let inputs = [(wide.as_slice(), STORAGE | COPY_DST), (x, STORAGE | COPY_DST)];
    let mut bindings = Vec::new();
    for (data, usage) in inputs {
        let target = buffer(data.len(), usage)?;
        let data = Uint32Array::from(data);
        call(&queue, "writeBuffer", &[target.clone(), 0.into(), data.into()])?;
        bindings.push(target);
    }
    let output = buffer(N, STORAGE | COPY_SRC)?;
    bindings.push(output.clone());
    let readback = buffer(N, MAP_READ | COPY_DST)?;

    let module = call(&device, "createShaderModule", &[object(&[("code", SHADER.into())])?])?;
    let stage = object(&[("module", module), ("entryPoint", "main".into())])?;
    let descriptor = object(&[("layout", "auto".into()), ("compute", stage)])?;
    let pipeline = wait(call(&device, "createComputePipelineAsync", &[descriptor])?).await?;
    let layout = call(&pipeline, "getBindGroupLayout", &[0.into()])?;
    let entries = Array::new();
    for (index, bound) in bindings.into_iter().enumerate() {
        let resource = object(&[("buffer", bound)])?;
        entries.push(&object(&[("binding", (index as u32).into()), ("resource", resource)])?);
    }
    let group = object(&[("layout", layout), ("entries", entries.into())])?;
    let group = call(&device, "createBindGroup", &[group])?;

    let encoder = call(&device, "createCommandEncoder", &[])?;
    let pass = call(&encoder, "beginComputePass", &[])?;
    call(&pass, "setPipeline", &[pipeline])?;
    call(&pass, "setBindGroup", &[0.into(), group])?;
    call(&pass, "dispatchWorkgroups", &[1.into()])?;
    call(&pass, "end", &[])?;
    let size = JsValue::from((N * 4) as u32);
    call(&encoder, "copyBufferToBuffer", &[output, 0.into(), readback.clone(), 0.into(), size])?;
    let commands = call(&encoder, "finish", &[])?;
    call(&queue, "submit", &[Array::of1(&commands).into()])?;
    wait(call(&readback, "mapAsync", &[MAP_MODE_READ.into()])?).await?;
    let mapped = call(&readback, "getMappedRange", &[])?;
    let y = Uint32Array::new(&mapped).to_vec();
    call(&readback, "unmap", &[])?;
    call(&device, "destroy", &[])?;
    Ok(y)
}
