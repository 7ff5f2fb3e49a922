//! Products on a device: any number of them in one pass and one submit.

use futures::channel::oneshot;

use crate::device::{Gpu, GpuError};
use crate::input::Kind;
#[cfg(feature = "decoder")]
use crate::ops::Dispatch;
use crate::view::View;
use crate::weights::{Part, Weights};

/// The other factor of a product, `[tokens, k]`.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A share: words of Z_2^32.
    Mask(&'a [u32]),
    /// A share whose whole product is wanted, over the integers with `0 ≤ s < 2^32`.
    Full(&'a [u32]),
    /// Activations of an exact model.
    Exact(&'a [i16]),
}

/// A product, `[tokens, n]`, of its input's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// As [`nesa_kernels::matmul_mask_u32`].
    Mask(Vec<u32>),
    /// As [`nesa_kernels::matmul_full_i64`].
    Full(Vec<i64>),
    /// As [`nesa_kernels::matmul_i8_i16`].
    Exact(Vec<i32>),
}

/// One product to compute.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The weight.
    pub weights: &'a Weights,
    /// The other factor.
    pub input: Input<'a>,
    /// Rows of it.
    pub tokens: usize,
}

/// One dispatch: some rows of a weight by some tokens.
struct Step {
    /// Which product it belongs to.
    product: usize,
    kind: Kind,
    first_row: usize,
    rows: usize,
    first_token: usize,
    tokens: usize,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    groups: [u32; 2],
    y: wgpu::Buffer,
}

impl Step {
    fn bytes(&self) -> u64 {
        (self.rows * self.tokens * self.kind.words() * 4) as u64
    }
}

impl Gpu {
    /// Computes products, in one pass and one submit, and reads them back.
    ///
    /// # Errors
    /// When an input does not have its shape or the device fails.
    pub async fn run(&self, work: &[Work<'_>]) -> Result<Vec<Output>, GpuError> {
        self.check()?;
        let mut outputs = Vec::with_capacity(work.len());
        let mut steps = Vec::new();
        for (product, work) in work.iter().enumerate() {
            let Work { weights, input, tokens } = work;
            if tokens.checked_mul(weights.k) != Some(input.len()) {
                let (got, rows, columns) = (input.len(), *tokens, weights.k);
                return Err(GpuError::Shape { what: "an input", got, rows, columns });
            }
            outputs.push(input.kind().output(tokens * weights.n));
            let mut first_row = 0;
            for part in &weights.parts {
                self.steps(product, work, first_row, part, &mut steps)?;
                first_row += part.rows;
            }
        }
        if steps.is_empty() {
            return Ok(outputs);
        }
        let readbacks = self.submit(&steps);
        for (step, readback) in steps.iter().zip(&readbacks) {
            let (output, n) = (&mut outputs[step.product], work[step.product].weights.n);
            let bytes = self.read(readback).await?;
            let row = step.rows * step.kind.words() * 4;
            for (t, row) in bytes.chunks_exact(row).enumerate() {
                output.write((step.first_token + t) * n + step.first_row, row);
            }
            step.y.destroy();
            readback.destroy();
        }
        Ok(outputs)
    }

    /// The dispatches of one part of a weight, whose tokens are cut to what the bindings hold.
    fn steps(
        &self,
        product: usize,
        work: &Work<'_>,
        first_row: usize,
        part: &Part,
        steps: &mut Vec<Step>,
    ) -> Result<(), GpuError> {
        let Work { weights, input, tokens } = *work;
        let kind = input.kind();
        let read = self.caps.rows(kind.row_bytes(weights.k))?;
        let written = self.caps.rows((part.rows * kind.words() * 4) as u64)?;
        let most = read.min(written);
        for first_token in (0..tokens).step_by(most) {
            let count = most.min(tokens - first_token);
            let x = self.storage(&input.bytes(weights.k, first_token, count));
            let (name, groups) = kind.kernel(part.rows, count);
            let groups = self.caps.dispatch(groups).ok_or(GpuError::Groups(groups))?;
            let shape = self.shape([part.rows, weights.width, count, groups[0] as usize]);
            let y = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("product"),
                size: (part.rows * count * kind.words() * 4) as u64,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            let buffers = [&part.weights, &x, &y, &part.sums, &shape].map(View::from);
            let group = self.group(name, buffers);
            let pipeline = self.pipeline(name)?.clone();
            steps.push(Step {
                product,
                kind,
                first_row,
                rows: part.rows,
                first_token,
                tokens: count,
                pipeline,
                group,
                groups,
                y,
            });
        }
        Ok(())
    }

    /// A product of a weight in one part whose other factor and result stay on the device: `x` is as
    /// [`Input::bytes`] lays it out, `y` is `[tokens, n]`.
    #[cfg(feature = "decoder")]
    pub(crate) fn product_on<'a>(
        &self,
        kind: Kind,
        weights: &Weights,
        x: &wgpu::Buffer,
        y: impl Into<View<'a>>,
        tokens: usize,
    ) -> Result<Dispatch, GpuError> {
        let [part] = &weights.parts[..] else { return Err(GpuError::Kernel("of several parts")) };
        let (name, groups) = kind.kernel(part.rows, tokens);
        let groups = self.caps.dispatch(groups).ok_or(GpuError::Groups(groups))?;
        let shape = self.shape([part.rows, weights.width, tokens, groups[0] as usize]);
        let [w, x, sums, shape] = [&part.weights, x, &part.sums, &shape].map(View::from);
        let group = self.group(name, [w, x, y.into(), sums, shape]);
        Ok(Dispatch { pipeline: self.pipeline(name)?.clone(), group, groups })
    }

    /// The numbers of a product.
    fn shape(&self, numbers: [usize; 4]) -> wgpu::Buffer {
        let bytes = numbers.map(|v| u32::try_from(v).unwrap_or(0).to_le_bytes());
        self.buffer(bytes.as_flattened(), wgpu::BufferUsages::UNIFORM)
    }

    fn group(&self, name: &'static str, buffers: [View<'_>; 5]) -> wgpu::BindGroup {
        let entries = [0, 1, 2, 3, 4].map(|binding| wgpu::BindGroupEntry {
            binding: binding as u32,
            resource: buffers[binding].binding(),
        });
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(name),
            layout: &self.layout,
            entries: &entries,
        })
    }

    /// Records all steps and the copies of their results, and hands them over at once.
    fn submit(&self, steps: &[Step]) -> Vec<wgpu::Buffer> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for step in steps {
                pass.set_pipeline(&step.pipeline);
                pass.set_bind_group(0, &step.group, &[]);
                pass.dispatch_workgroups(step.groups[0], step.groups[1], 1);
            }
        }
        let mut readbacks = Vec::with_capacity(steps.len());
        for step in steps {
            let readback = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("readback"),
                size: step.bytes(),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(&step.y, 0, &readback, 0, step.bytes());
            readbacks.push(readback);
        }
        self.queue.submit([encoder.finish()]);
        readbacks
    }

    /// The bytes of a buffer that can be mapped, once the device is done with it.
    pub(crate) async fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, GpuError> {
        let (done, mapped) = oneshot::channel();
        buffer.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            // The reader is still there: nothing else ends it.
            let _ = done.send(result);
        });
        // Natively this waits; a browser calls back by itself.
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|error| GpuError::Read(error.to_string()))?;
        let mapped = mapped.await.map_err(|error| GpuError::Read(error.to_string()))?;
        self.check()?;
        mapped.map_err(|error| GpuError::Read(error.to_string()))?;
        let bytes = buffer.slice(..).get_mapped_range().to_vec();
        buffer.unmap();
        Ok(bytes)
    }
}
