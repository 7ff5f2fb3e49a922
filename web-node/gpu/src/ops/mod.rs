//! What decoders do between their products, on a device: norms, quantisation, rotation, attention, SwiGLU.
//!
//! Integers of 64 bits are pairs of words (`wide.wgsl`), divisions and roots are long ones, once in a row.
//! Each operation gives the bytes of [`nesa_kernels`]; [`check`] holds them against each other, in tests and
//! when a decoder is placed.

pub(crate) mod check;

use crate::device::{Gpu, GpuError};
use crate::view::View;

const WIDE: &str = include_str!("wide.wgsl");
const ROWS: &str = include_str!("rows.wgsl");
const VALUES: &str = include_str!("values.wgsl");
const ATTENTION: &str = include_str!("attention.wgsl");

/// Threads of a workgroup.
pub(crate) const LANES: usize = 64;
/// Widest head: a lane holds two words of two channels.
pub(crate) const MAX_HEAD_WIDTH: usize = 256;

/// An operation: an entry point of one of the modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// RMSNorm and quantisation, a workgroup a row.
    Norm,
    /// Smoothing and quantisation, a workgroup a row.
    Offer,
    /// A product onto the residual stream, a thread a value.
    Added,
    /// SwiGLU of a fused product, a thread a value.
    Gated,
    /// A product as it is, a thread a value.
    Given,
    /// Queries, keys and values, a thread a word.
    Remember,
    /// Attention, a workgroup a query.
    Attend,
}

impl Op {
    const ALL: [Op; 7] =
        [Op::Norm, Op::Offer, Op::Added, Op::Gated, Op::Given, Op::Remember, Op::Attend];

    fn entry(self) -> &'static str {
        match self {
            Op::Norm => "norm",
            Op::Offer => "offer",
            Op::Added => "added",
            Op::Gated => "gated",
            Op::Given => "given",
            Op::Remember => "remember",
            Op::Attend => "attend",
        }
    }

    fn source(self) -> &'static str {
        match self {
            Op::Norm | Op::Offer => ROWS,
            Op::Added | Op::Gated | Op::Given => VALUES,
            Op::Remember | Op::Attend => ATTENTION,
        }
    }

    /// Bindings that the entry point reads or writes; the last is that of its numbers in `numbers`.
    fn bindings(self) -> &'static [u32] {
        match self {
            Op::Norm | Op::Offer => &[0, 1, 2, 3],
            Op::Added | Op::Given => &[0, 1, 2, 3],
            Op::Gated => &[0, 1, 2, 3, 4],
            Op::Remember => &[0, 1, 2, 3, 4, 5, 6],
            Op::Attend => &[4, 5, 6, 8, 9, 10],
        }
    }

    /// Binding of the numbers.
    fn numbers(self) -> u32 {
        match self {
            Op::Norm | Op::Offer => 4,
            Op::Added | Op::Gated | Op::Given => 5,
            Op::Remember | Op::Attend => 7,
        }
    }
}

/// One dispatch, ready to be recorded.
pub(crate) struct Dispatch {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) group: wgpu::BindGroup,
    pub(crate) groups: [u32; 2],
}

/// The compiled operations.
pub(crate) struct Ops {
    pipelines: Vec<wgpu::ComputePipeline>,
}

impl Ops {
    pub(crate) fn compile(gpu: &Gpu) -> Self {
        Self::compile_with(gpu, |source| source.to_owned())
    }

    /// [`Ops::compile`] of sources that `change` has gone over.
    pub(crate) fn compile_with(gpu: &Gpu, change: impl Fn(&str) -> String) -> Self {
        let modules = [ROWS, VALUES, ATTENTION].map(|source| {
            let text = change(&format!("{WIDE}{source}"));
            let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some("operations"),
                source: wgpu::ShaderSource::Wgsl(text.into()),
            });
            (source, module)
        });
        let pipelines = Op::ALL.iter().filter_map(|op| {
            let (_, module) = modules.iter().find(|(source, _)| *source == op.source())?;
            let descriptor = wgpu::ComputePipelineDescriptor {
                label: Some(op.entry()),
                layout: None,
                module,
                entry_point: Some(op.entry()),
                compilation_options: Default::default(),
                cache: None,
            };
            Some(gpu.device.create_compute_pipeline(&descriptor))
        });
        Self { pipelines: pipelines.collect() }
    }

    /// A dispatch of `groups` workgroups over these buffers, in the order of the bindings.
    pub(crate) fn dispatch<'a>(
        &self,
        gpu: &Gpu,
        op: Op,
        buffers: &[impl Into<View<'a>> + Copy],
        numbers: &[u32],
        groups: [usize; 2],
    ) -> Result<Dispatch, GpuError> {
        let pipeline = &self.pipelines[op as usize];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let uniform = gpu.buffer(&bytes, wgpu::BufferUsages::UNIFORM);
        let mut entries = Vec::with_capacity(buffers.len() + 1);
        for (&binding, &buffer) in op.bindings().iter().zip(buffers) {
            let view: View<'_> = buffer.into();
            entries.push(wgpu::BindGroupEntry { binding, resource: view.binding() });
        }
        entries.push(wgpu::BindGroupEntry {
            binding: op.numbers(),
            resource: uniform.as_entire_binding(),
        });
        let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(op.entry()),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let most = gpu.caps.groups as usize;
        let [first, second] = groups;
        if first > most || second > most {
            return Err(GpuError::Groups(first.max(second) as u64));
        }
        let groups = [first as u32, second as u32];
        Ok(Dispatch { pipeline: pipeline.clone(), group, groups })
    }
}

impl Gpu {
    /// A buffer of so many words that kernels write and read.
    pub(crate) fn room(&self, words: usize) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * words.max(1) as u64,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// A buffer of these words.
    pub(crate) fn words(&self, words: impl IntoIterator<Item = u32>) -> wgpu::Buffer {
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        if bytes.is_empty() {
            bytes = vec![0; 4];
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        self.buffer(&bytes, usage)
    }

    /// Runs dispatches one after another, in one pass and one submit, and reads the first `words` words of
    /// each of these buffers.
    pub(crate) async fn run_all(
        &self,
        dispatches: &[Dispatch],
        wanted: &[(&wgpu::Buffer, usize)],
    ) -> Result<Vec<Vec<u32>>, GpuError> {
        self.check()?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for dispatch in dispatches {
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.group, &[]);
                pass.dispatch_workgroups(dispatch.groups[0], dispatch.groups[1], 1);
            }
        }
        let mut readbacks = Vec::with_capacity(wanted.len());
        for (buffer, words) in wanted {
            let size = 4 * *words as u64;
            let readback = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("readback"),
                size,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(buffer, 0, &readback, 0, size);
            readbacks.push(readback);
        }
        self.queue.submit([encoder.finish()]);
        let mut read = Vec::with_capacity(readbacks.len());
        for readback in readbacks {
            let bytes = self.read(&readback).await?;
            let (words, _) = bytes.as_chunks::<4>();
            read.push(words.iter().map(|&word| u32::from_le_bytes(word)).collect());
            readback.destroy();
        }
        Ok(read)
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
