//! An open device and one product on it.

use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::oneshot;
use web_time::Instant;
use wgpu::util::DeviceExt as _;

/// Threads of one workgroup, as the shader declares them.
const WORKGROUP: u32 = 64;

/// Why the adapter could not compute.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// The browser has no WebGPU here, or gave no adapter.
    #[error("the browser gave no adapter ({0})")]
    Adapter(#[from] wgpu::RequestAdapterError),
    /// The adapter gave no device.
    #[error("the adapter gave no device ({0})")]
    Device(#[from] wgpu::RequestDeviceError),
    /// The device refused the work.
    #[error("the device refused the work ({0})")]
    Refused(String),
    /// The result could not be read back.
    #[error("the result could not be read back ({0})")]
    Read(String),
}

/// A device with the shader of both products.
pub(crate) struct Device {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    shader: wgpu::ShaderModule,
    /// The first thing that the device complained of.
    complaint: Arc<Mutex<Option<String>>>,
}

impl Device {
    /// Asks the browser for an adapter and a device.
    pub(crate) async fn open() -> Result<Self, DeviceError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::BROWSER_WEBGPU,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await?;
        let (device, queue) = adapter.request_device(&wgpu::DeviceDescriptor::default()).await?;
        let complaint = Arc::new(Mutex::new(None));
        let first = complaint.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            first
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| error.to_string());
        }));
        let shader = device.create_shader_module(wgpu::include_wgsl!("products.wgsl"));
        Ok(Self { adapter, device, queue, shader, complaint })
    }

    pub(crate) fn adapter(&self) -> &wgpu::Adapter {
        &self.adapter
    }

    /// The largest storage binding the adapter offers, in bytes; a device has to ask for it.
    pub(crate) fn max_binding(&self) -> u64 {
        self.adapter.limits().max_storage_buffer_binding_size
    }

    /// Runs the entry point `name` of the shader: `[rows]` words, and the milliseconds it took.
    pub(crate) async fn product(
        &self,
        name: &str,
        weights: &[u32],
        x: &[u32],
        rows: u32,
    ) -> Result<(Vec<u32>, f64), DeviceError> {
        let start = Instant::now();
        let input = |words: &[u32]| {
            let contents: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents: &contents,
                usage: wgpu::BufferUsages::STORAGE,
            })
        };
        let size = u64::from(rows) * 4;
        let output = |usage| {
            let descriptor =
                wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            self.device.create_buffer(&descriptor)
        };
        let y = output(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
        let readback = output(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let (w, x) = (input(weights), input(x));
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: None,
            module: &self.shader,
            entry_point: Some(name),
            compilation_options: Default::default(),
            cache: None,
        });
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: w.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: x.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 2, resource: y.as_entire_binding() },
            ],
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(rows.div_ceil(WORKGROUP), 1, 1);
        }
        encoder.copy_buffer_to_buffer(&y, 0, &readback, 0, size);
        self.queue.submit([encoder.finish()]);
        let words = self.read(&readback).await?;
        Ok((words, start.elapsed().as_secs_f64() * 1000.0))
    }

    async fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u32>, DeviceError> {
        let (done, mapped) = oneshot::channel();
        buffer.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            // The reader is still there: nothing else ends it.
            let _ = done.send(result);
        });
        let mapped = mapped.await.map_err(|error| DeviceError::Read(error.to_string()))?;
        if let Some(complaint) =
            self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
        {
            return Err(DeviceError::Refused(complaint));
        }
        mapped.map_err(|error| DeviceError::Read(error.to_string()))?;
        let words = buffer
            .slice(..)
            .get_mapped_range()
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        buffer.unmap();
        Ok(words)
    }
}
