//! The adapter probe: which graphics adapter this browser has, and whether it computes the exact
//! kernel's bytes.
//!
//! An adapter may serve only if it gives the very bytes of the reference. The module that speaks to
//! it (`nesa-adapter`, with the kernels of `nesa-gpu`) refuses a device whose bits differ; two products are
//! compared once more here, beside the processor's kernel. Serving is in [`crate::gpu`].

use std::rc::Rc;

use js_sys::{Array, Int32Array, Reflect, Uint32Array};
use nesa_messages::{AdapterReport, FromWorker, Problem, SelfTest};
use nesa_platform::time::Instant;
use nesa_primitives::Hash;
use wasm_bindgen::JsValue;

use crate::{
    app::App,
    gpu::{call, said},
};

/// Shape of the self-tests: `[N, K]` weights times one row of `K` values; MiniLM's width.
const N: usize = 64;
const K: usize = 384;

/// Why an adapter could not be used, as JavaScript said it.
struct Gone(String);

impl From<JsValue> for Gone {
    fn from(error: JsValue) -> Self {
        Self(said(&error))
    }
}

/// What is computed on every kernel.
struct Work {
    weights: Vec<i8>,
    share: Vec<u32>,
    activations: Vec<i8>,
}

impl Work {
    fn new() -> Self {
        let bytes = |tag, count| words(tag, count).into_iter().map(|word| word as i8).collect();
        Self { weights: bytes("w", N * K), share: words("x", K), activations: bytes("a", K) }
    }

    /// The masked product by definition: wrapping 32-bit arithmetic.
    fn mask(&self) -> Vec<u32> {
        let times = |(w, x): (&i8, &u32)| (i32::from(*w) as u32).wrapping_mul(*x);
        let row = |row: &[i8]| row.iter().zip(&self.share).map(times).fold(0, u32::wrapping_add);
        self.weights.chunks_exact(K).map(row).collect()
    }

    /// The plain int8 product by definition.
    fn dot(&self) -> Vec<i32> {
        let times = |(w, x): (&i8, &i8)| i32::from(*w) * i32::from(*x);
        let row = |row: &[i8]| row.iter().zip(&self.activations).map(times).sum();
        self.weights.chunks_exact(K).map(row).collect()
    }
}

impl App {
    pub(crate) async fn probe_adapter(self: Rc<Self>) {
        let running = AdapterReport { running: true, ..AdapterReport::default() };
        self.port.send(&FromWorker::Adapter { adapter: running });
        let work = Work::new();
        let mut report = AdapterReport { tests: on_this_kernel(&work), ..AdapterReport::default() };
        match self.on_adapter(&work, &mut report).await {
            Ok(()) => report.available = true,
            Err(Gone(reason)) => {
                report.problem = Some(Problem::new(
                    "no-adapter",
                    format!("No usable graphics adapter: {reason}."),
                    "Nothing to do: this browser serves on its processor.",
                ));
            }
        }
        let equal = report.tests.iter().all(|test| test.equal);
        report.conclusion = match (equal, report.available, report.device_type.as_str()) {
            (false, ..) => "serves on the CPU kernel; the adapter's bytes differ, so it is not used",
            (true, true, "Cpu") => {
                "serves on the CPU kernel; this adapter is a processor too, and gives the same bytes"
            }
            (true, true, _) => "the adapter gives the same bytes, so it serves where you allow it memory",
            (true, false, _) => "serves on the CPU kernel",
        }
        .to_owned();
        self.port.send(&FromWorker::Adapter { adapter: report });
    }

    /// Fills in what the adapter says of itself, and both products computed on it.
    async fn on_adapter(&self, work: &Work, report: &mut AdapterReport) -> Result<(), Gone> {
        let arguments = Array::of4(
            &Uint32Array::from(packed(&work.weights).as_slice()),
            &Uint32Array::from(work.share.as_slice()),
            &Uint32Array::from(packed(&work.activations).as_slice()),
            &(N as u32).into(),
        );
        let answer = call(&self.adapter, "probe", &arguments).await?;
        let get = |key: &str| Reflect::get(&answer, &key.into());
        let text = |key: &str| Ok::<_, Gone>(get(key)?.as_string().unwrap_or_default());
        let number = |key: &str| Ok::<_, Gone>(get(key)?.as_f64().unwrap_or_default());
        report.name = text("name")?;
        report.vendor = text("vendor")?;
        report.device_type = text("deviceType")?;
        report.max_binding = number("maxBinding")? as u64;
        let on = format!("wgpu, {}", text("backend")?);
        let mask = Uint32Array::new(&get("mask")?).to_vec();
        let dot = Int32Array::new(&get("dot")?).to_vec();
        report.tests.push(mask_test(work, &on, &mask, number("maskMs")?));
        report.tests.push(dot_test(work, &on, &dot, number("dotMs")?));
        Ok(())
    }
}

/// Both products on the kernel that serves.
fn on_this_kernel(work: &Work) -> Vec<SelfTest> {
    let on = "wasm simd128";
    let start = Instant::now();
    let mut mask = vec![0u32; N];
    nesa_kernels::matmul_mask_u32(&work.weights, &work.share, N, K, 1, &mut mask);
    let mask = mask_test(work, on, &mask, milliseconds(start));
    let x: Vec<i32> = work.activations.iter().map(|x| i32::from(*x)).collect();
    let start = Instant::now();
    let mut dot = vec![0i32; N];
    nesa_kernels::matmul_i8(&work.weights, &x, N, K, 1, &mut dot);
    vec![mask, dot_test(work, on, &dot, milliseconds(start))]
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn mask_test(work: &Work, on: &str, got: &[u32], took_ms: f64) -> SelfTest {
    let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    self_test("u32 wrapping product", on, bytes(got), bytes(&work.mask()), took_ms)
}

fn dot_test(work: &Work, on: &str, got: &[i32], took_ms: f64) -> SelfTest {
    let bytes = |words: &[i32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    self_test("int8 dot product", on, bytes(got), bytes(&work.dot()), took_ms)
}

fn self_test(what: &str, on: &str, got: Vec<u8>, expected: Vec<u8>, took_ms: f64) -> SelfTest {
    SelfTest {
        what: format!("{what} {N}×{K}"),
        on: on.to_owned(),
        equal: got == expected,
        got: digest(&got),
        expected: digest(&expected),
        took_ms,
    }
}

/// Test data that needs no file: a counter through BLAKE3.
fn words(tag: &str, count: usize) -> Vec<u32> {
    let word = |index| {
        let hash =
            Hash::of_bytes("adapter self-test", &Hash::ZERO, format!("{tag}{index}").as_bytes());
        u32::from_le_bytes([hash.0[0], hash.0[1], hash.0[2], hash.0[3]])
    };
    (0..count).map(word).collect()
}

/// Four values to a word, little end first.
fn packed(values: &[i8]) -> Vec<u32> {
    values
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]].map(i8::cast_unsigned)))
        .collect()
}

fn digest(bytes: &[u8]) -> String {
    Hash::of_bytes("adapter self-test", &Hash::ZERO, bytes).to_string()
}
