//! A part of a buffer, as kernels are given it.

use std::num::NonZeroU64;

/// Some words of a buffer. Where it does not begin with the buffer it begins at a multiple of [`ALIGNED`].
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    buffer: &'a wgpu::Buffer,
    offset: u64,
    size: Option<NonZeroU64>,
}

/// Words to which parts of a buffer that are bound apart are aligned: 256 bytes, which every device allows.
#[cfg(feature = "decoder")]
pub(crate) const ALIGNED: usize = 64;

impl<'a> View<'a> {
    /// `words` words from word `at` on; an empty view takes one.
    #[cfg(feature = "decoder")]
    pub(crate) fn new(buffer: &'a wgpu::Buffer, at: usize, words: usize) -> Self {
        let size = NonZeroU64::new(4 * words.max(1) as u64);
        Self { buffer, offset: 4 * at as u64, size }
    }

    pub(crate) fn binding(self) -> wgpu::BindingResource<'a> {
        let Self { buffer, offset, size } = self;
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
    }
}

impl<'a> From<&'a wgpu::Buffer> for View<'a> {
    fn from(buffer: &'a wgpu::Buffer) -> Self {
        Self { buffer, offset: 0, size: NonZeroU64::new(buffer.size()) }
    }
}
