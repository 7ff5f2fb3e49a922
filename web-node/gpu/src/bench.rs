//! How near the products come to what the device can do, measured beside kernels that do nothing else.
//!
//! Reading one row of activations (decoding) is bound by memory: its peer is a kernel that copies. Reading a
//! prompt is bound by arithmetic: its peers are kernels that only multiply and add in registers. A time is
//! the slope between few and many dispatches in one submit, so that what a submit costs is left out.

pub mod steps;

use std::time::Instant;

use crate::device::{Gpu, GpuError};
use crate::input::Kind;
use crate::ops::Dispatch;
use crate::run::Input;
use crate::self_test::words;
use crate::weights::Weights;

/// Dispatches in the smaller submit, at least and at most; the larger one has three times as many.
const FEW: usize = 2;
const MANY: usize = 256;
/// Seconds that the smaller submit should take.
const LONG: f64 = 0.02;
/// Turns, of which the fastest counts.
const TURNS: usize = 5;
/// Iterations and accumulators of a peak kernel's thread, and products of each step.
const ROUNDS: u64 = 512;
const ACCUMULATORS: u64 = 8;
/// Threads of a peak kernel.
const THREADS: u64 = 64 * 4096;

const PEERS: &str = "
@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> b: array<vec4<u32>>;
@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  for (var i = id.x; i < arrayLength(&a); i += 64u * groups.x) { b[i] = a[i]; }
}
@compute @workgroup_size(64)
fn dots(@builtin(global_invocation_id) id: vec3<u32>) {
  let seed = a[id.x % arrayLength(&a)];
  var low = vec4<i32>(0);
  var high = vec4<i32>(0);
  for (var i = 0u; i < 512u; i++) {
    let w = seed.x ^ i;
    low += vec4<i32>(dot4(w, seed.x), dot4(w, seed.y), dot4(w, seed.z), dot4(w, seed.w));
    high += vec4<i32>(dot4(w, ~seed.x), dot4(w, ~seed.y), dot4(w, ~seed.z), dot4(w, ~seed.w));
  }
  b[id.x % arrayLength(&b)] = bitcast<vec4<u32>>(low + high);
}
@compute @workgroup_size(64)
fn words(@builtin(global_invocation_id) id: vec3<u32>) {
  let seed = a[id.x % arrayLength(&a)];
  var low = vec4<u32>(0u);
  var high = vec4<u32>(0u);
  for (var i = 0u; i < 512u; i++) {
    low += seed * (seed.x ^ i);
    high += seed.wzyx * (seed.y ^ i);
  }
  b[id.x % arrayLength(&b)] = low + high;
}
";

/// Shape of what is measured.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Outputs per row.
    pub n: usize,
    /// Inputs per row.
    pub k: usize,
    /// Rows of a prompt.
    pub tokens: usize,
}

/// Rates of a product and of the kernel that bounds it.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The product's: bytes of weights, or multiplications and additions, per second.
    pub product: f64,
    /// The peer's: bytes read and written, or multiplications and additions, per second.
    pub peer: f64,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// One row of activations, beside a copy.
    pub exact_row: Rate,
    /// One row of a share, beside a copy.
    pub mask_row: Rate,
    /// A prompt of activations, beside byte dot products in registers.
    pub exact_tile: Rate,
    /// Rows of a share, beside products of words in registers.
    pub mask_tile: Rate,
}

/// Measures products of this shape.
///
/// # Errors
/// When the device fails or a weight does not fit one binding.
pub async fn figures(gpu: &Gpu, shape: Shape) -> Result<Figures, GpuError> {
    let Shape { n, k, tokens } = shape;
    let w: Vec<i8> = words(1, n * k).into_iter().map(|w| w as i8).collect();
    let weights = gpu.upload(&w, n, k)?;
    let peers = Peers::new(gpu, w.len());
    let bytes = (n * k) as f64;
    let copied =
        2.0 * peers.bytes as f64 / seconds(gpu, || peers.dispatch(gpu, "copy", 4096)).await?;
    let groups = (THREADS / 64) as u32;
    let peak = (THREADS * ROUNDS * ACCUMULATORS) as f64;
    let dots = 4.0 * peak / seconds(gpu, || peers.dispatch(gpu, "dots", groups)).await?;
    let multiplied = peak / seconds(gpu, || peers.dispatch(gpu, "words", groups)).await?;
    let row = |kind| Job::new(gpu, &weights, kind, 1);
    let exact_row = bytes / row(Kind::Exact).seconds(gpu).await?;
    let mask_row = bytes / row(Kind::Mask).seconds(gpu).await?;
    let tile = |kind| Job::new(gpu, &weights, kind, tokens);
    let all = bytes * tokens as f64;
    // Both bytes of an activation meet the weight.
    let exact_tile = 2.0 * all / tile(Kind::Exact).seconds(gpu).await?;
    let mask_tile = all / tile(Kind::Mask).seconds(gpu).await?;
    Ok(Figures {
        exact_row: Rate { product: exact_row, peer: copied },
        mask_row: Rate { product: mask_row, peer: copied },
        exact_tile: Rate { product: exact_tile, peer: dots },
        mask_tile: Rate { product: mask_tile, peer: multiplied },
    })
}

/// A product with its buffers.
struct Job<'a> {
    weights: &'a Weights,
    kind: Kind,
    x: wgpu::Buffer,
    y: wgpu::Buffer,
    tokens: usize,
}

impl<'a> Job<'a> {
    fn new(gpu: &Gpu, weights: &'a Weights, kind: Kind, tokens: usize) -> Self {
        let len = tokens * weights.k();
        let share: Vec<u32> = words(2, len).into_iter().map(|w| w as u32).collect();
        let narrow: Vec<i16> = share.iter().map(|&w| w as i16).collect();
        let input = match kind {
            Kind::Exact => Input::Exact(&narrow),
            _ => Input::Mask(&share),
        };
        let x = gpu.storage(&input.bytes(weights.k(), 0, tokens));
        Self { weights, kind, x, y: gpu.room(tokens * weights.n()), tokens }
    }

    async fn seconds(&self, gpu: &Gpu) -> Result<f64, GpuError> {
        seconds(gpu, || gpu.product_on(self.kind, self.weights, &self.x, &self.y, self.tokens))
            .await
    }
}

struct Peers {
    pipelines: Vec<(&'static str, wgpu::ComputePipeline)>,
    from: wgpu::Buffer,
    to: wgpu::Buffer,
    bytes: u64,
}

impl Peers {
    fn new(gpu: &Gpu, bytes: usize) -> Self {
        let module = gpu.module("peers", PEERS);
        let pipeline = |name| {
            let descriptor = wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: None,
                module: &module,
                entry_point: Some(name),
                compilation_options: Default::default(),
                cache: None,
            };
            (name, gpu.device.create_compute_pipeline(&descriptor))
        };
        let bytes = bytes.next_multiple_of(16);
        Self {
            pipelines: ["copy", "dots", "words"].map(pipeline).into(),
            from: gpu.room(bytes / 4),
            to: gpu.room(bytes / 4),
            bytes: bytes as u64,
        }
    }

    fn dispatch(&self, gpu: &Gpu, name: &'static str, groups: u32) -> Result<Dispatch, GpuError> {
        let found = self.pipelines.iter().find(|(other, _)| *other == name);
        let (_, pipeline) = found.ok_or(GpuError::Kernel(name))?;
        let buffers = [&self.from, &self.to];
        let entries: Vec<_> = (0u32..)
            .zip(buffers)
            .map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: b.as_entire_binding() })
            .collect();
        let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Ok(Dispatch { pipeline: pipeline.clone(), group, groups: [groups, 1] })
    }
}

/// Seconds that one dispatch takes; not a number where the clock of a busy machine shows no difference.
async fn seconds(
    gpu: &Gpu,
    dispatch: impl Fn() -> Result<Dispatch, GpuError>,
) -> Result<f64, GpuError> {
    let end = gpu.room(1);
    let submit = async |count: usize| {
        let dispatches = (0..count).map(|_| dispatch()).collect::<Result<Vec<_>, _>>()?;
        let began = Instant::now();
        gpu.run_all(&dispatches, &[(&end, 1)]).await?;
        Ok::<_, GpuError>(began.elapsed().as_secs_f64())
    };
    submit(1).await?;
    let once = submit(1).await?;
    let few = ((LONG / once) as usize).clamp(FEW, MANY);
    let (mut short, mut long) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TURNS {
        short = short.min(submit(few).await?);
        long = long.min(submit(3 * few).await?);
    }
    Ok(if long > short { (long - short) / (2 * few) as f64 } else { f64::NAN })
}
