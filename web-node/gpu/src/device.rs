//! An open device: its kernels, what it allows, and whether it may be used.

use std::sync::{Arc, Mutex, PoisonError};

use wgpu::util::DeviceExt as _;

pub use crate::split::Caps;
use crate::split::TooWide;

/// The kernels' source, without `dot4`.
const PRODUCTS: &str = include_str!("products.wgsl");
/// `dot4` where the language has it.
const BUILT_IN: &str = "fn dot4(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }\n";
/// `dot4` where it does not.
const BY_HAND: &str = "\
fn dot4(a: u32, b: u32) -> i32 {
  let p = bitcast<i32>(a);
  let q = bitcast<i32>(b);
  return extractBits(p, 0u, 8u) * extractBits(q, 0u, 8u) + extractBits(p, 8u, 8u) * extractBits(q, 8u, 8u)
       + extractBits(p, 16u, 8u) * extractBits(q, 16u, 8u) + extractBits(p, 24u, 8u) * extractBits(q, 24u, 8u);
}
";
/// The kernels.
const NAMES: [&str; 5] = ["mask_row", "mask_tile", "dot_row", "dot_tile", "full"];

/// Names of rasterisers that run on the processor, as drivers spell them, in lower case.
const SOFTWARE: [&str; 5] =
    ["swiftshader", "llvmpipe", "lavapipe", "warp", "microsoft basic render"];

/// Why a device computes nothing.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// There is no adapter.
    #[error("there is no adapter ({0})")]
    Adapter(#[from] wgpu::RequestAdapterError),
    /// The adapter gave no device.
    #[error("the adapter gave no device ({0})")]
    Device(#[from] wgpu::RequestDeviceError),
    /// It is a processor in disguise, which the kernels of the processor itself outrun.
    #[error("{0} is a software adapter")]
    Software(String),
    /// It does not compute the exact bytes.
    #[error("the device's {kernel} gives other bits than the reference")]
    Differs {
        /// The first kernel that differed.
        kernel: &'static str,
    },
    /// A slice does not have its shape.
    #[error("{what} of {got} values, {rows} by {columns} expected")]
    Shape {
        /// Which slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// Rows that it should hold.
        rows: usize,
        /// Values in each.
        columns: usize,
    },
    /// A row is too wide for a binding.
    #[error(transparent)]
    TooWide(#[from] TooWide),
    /// More workgroups than a dispatch has.
    #[error("{0} workgroups are more than a dispatch has")]
    Groups(u64),
    /// A kernel that does not exist was asked for.
    #[error("no kernel {0}")]
    Kernel(&'static str),
    /// The device refused the work.
    #[error("the device refused the work ({0})")]
    Refused(String),
    /// The result could not be read back.
    #[error("the result could not be read back ({0})")]
    Read(String),
}

/// What a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To compute: software adapters are refused.
    Serve,
    /// To see whether its bytes are right: software adapters will do.
    Check,
}

/// What an adapter says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Through which interface it is reached.
    pub backend: String,
    /// Whether it is a processor in disguise, as far as it or its name says. A browser may know better.
    pub software: bool,
    /// Whether `dot4I8Packed` is the built-in.
    pub built_in_dot: bool,
}

/// Whether an adapter of this name is a processor in disguise.
pub fn is_software(name: &str) -> bool {
    let name = name.to_lowercase();
    SOFTWARE.iter().any(|software| name.contains(software))
}

/// An open device that gave the exact bytes in its self-test.
pub struct Gpu {
    info: Info,
    adapter: wgpu::Adapter,
    pub(crate) caps: Caps,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) layout: wgpu::BindGroupLayout,
    pipelines: Vec<(&'static str, wgpu::ComputePipeline)>,
    /// The first thing that the device complained of.
    complaint: Arc<Mutex<Option<String>>>,
}

/// How a device is opened: what tests change.
pub(crate) struct Setting<'a> {
    pub(crate) purpose: Purpose,
    /// Tighter caps than the device's own.
    pub(crate) caps: Option<Caps>,
    pub(crate) source: &'a str,
    pub(crate) built_in_dot: bool,
}

impl Gpu {
    /// Opens the fastest device there is and lets it prove itself.
    ///
    /// # Errors
    /// When there is none, it is software and is to serve, or its bits are not the reference's.
    pub async fn open(purpose: Purpose) -> Result<Self, GpuError> {
        Self::open_within(purpose, None).await
    }

    /// [`Gpu::open`] with caps that may be tighter than the device's.
    ///
    /// # Errors
    /// As there.
    pub async fn open_within(purpose: Purpose, caps: Option<Caps>) -> Result<Self, GpuError> {
        let setting = Setting { purpose, caps, source: PRODUCTS, built_in_dot: true };
        match Self::open_as(setting).await {
            // A language without the built-in, or a driver with a wrong one: the same products in plain
            // operations. A browser may tell of a kernel that does not compile after its zeros were read.
            Err(GpuError::Refused(_) | GpuError::Differs { .. }) => {
                let setting = Setting { purpose, caps, source: PRODUCTS, built_in_dot: false };
                Self::open_as(setting).await
            }
            other => other,
        }
    }

    /// Opens a device as if its driver were faulty, to show that the self-test refuses it.
    ///
    /// # Errors
    /// Always, where there is a device: [`GpuError::Differs`].
    #[cfg(feature = "rehearsal")]
    pub async fn open_faulty() -> Result<Self, GpuError> {
        let source =
            PRODUCTS.replacen("weight(four, 2u) * share.z", "weight(four, 2u) * share.w", 1);
        let setting =
            Setting { purpose: Purpose::Check, caps: None, source: &source, built_in_dot: true };
        Self::open_as(setting).await
    }

    pub(crate) async fn open_as(setting: Setting<'_>) -> Result<Self, GpuError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::VULKAN | wgpu::Backends::BROWSER_WEBGPU,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await?;
        let about = adapter.get_info();
        let info = Info {
            software: about.device_type == wgpu::DeviceType::Cpu || is_software(&about.name),
            name: about.name,
            backend: format!("{:?}", about.backend),
            built_in_dot: setting.built_in_dot,
        };
        if info.software && setting.purpose == Purpose::Serve {
            return Err(GpuError::Software(info.name));
        }
        let has = adapter.limits();
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: has.max_storage_buffer_binding_size,
            max_buffer_size: has.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let descriptor =
            wgpu::DeviceDescriptor { required_limits: limits.clone(), ..Default::default() };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        let complaint = Arc::new(Mutex::new(None));
        let first = complaint.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            first
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| error.to_string());
        }));
        let first = complaint.clone();
        device.set_device_lost_callback(move |_, message| {
            let message =
                if message.is_empty() { "the device is lost".to_owned() } else { message };
            first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
        });
        let own = Caps {
            binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            groups: limits.max_compute_workgroups_per_dimension,
        };
        let caps = setting.caps.map_or(own, |caps| Caps {
            binding: caps.binding.min(own.binding),
            groups: caps.groups.min(own.groups),
        });
        let (layout, pipelines) = kernels(&device, &setting);
        let gpu = Self { info, adapter, caps, device, queue, layout, pipelines, complaint };
        gpu.self_test().await?;
        Ok(gpu)
    }

    /// What the adapter says of itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The adapter, for what a browser alone knows of it.
    pub fn adapter(&self) -> &wgpu::Adapter {
        &self.adapter
    }

    /// What the device is taken to allow.
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// Gives back all that the device holds. Whatever is asked of it from now on is refused.
    pub fn close(&self) {
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        complaint.get_or_insert_with(|| "the device was closed".to_owned());
        drop(complaint);
        self.device.destroy();
    }

    pub(crate) fn pipeline(&self, name: &'static str) -> Result<&wgpu::ComputePipeline, GpuError> {
        let found = self.pipelines.iter().find(|(other, _)| *other == name);
        found.map(|(_, pipeline)| pipeline).ok_or(GpuError::Kernel(name))
    }

    /// A module in whose text `dot4` is defined.
    #[cfg(feature = "bench")]
    pub(crate) fn module(&self, name: &str, source: &str) -> wgpu::ShaderModule {
        let dot = if self.info.built_in_dot { BUILT_IN } else { BY_HAND };
        self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(name),
            source: wgpu::ShaderSource::Wgsl(format!("{dot}{source}").into()),
        })
    }

    /// A buffer with these bytes for a kernel to read.
    pub(crate) fn storage(&self, bytes: &[u8]) -> wgpu::Buffer {
        self.buffer(bytes, wgpu::BufferUsages::STORAGE)
    }

    pub(crate) fn buffer(&self, contents: &[u8], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor = wgpu::util::BufferInitDescriptor { label: None, contents, usage };
        self.device.create_buffer_init(&descriptor)
    }

    /// Fails if the device has complained.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        complaint.map_or(Ok(()), |complaint| Err(GpuError::Refused(complaint)))
    }
}

/// The bindings of all kernels, and the kernels.
fn kernels(
    device: &wgpu::Device,
    setting: &Setting<'_>,
) -> (wgpu::BindGroupLayout, Vec<(&'static str, wgpu::ComputePipeline)>) {
    let dot = if setting.built_in_dot { BUILT_IN } else { BY_HAND };
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("products"),
        source: wgpu::ShaderSource::Wgsl(format!("{dot}{}", setting.source).into()),
    });
    let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
    let kinds = [
        storage(true),
        storage(true),
        storage(false),
        storage(true),
        wgpu::BufferBindingType::Uniform,
    ];
    let mut entries = Vec::with_capacity(kinds.len());
    for (binding, ty) in (0u32..).zip(kinds) {
        entries.push(wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        });
    }
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("products"),
        entries: &entries,
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some("products"),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipelines = NAMES.map(|name| {
        let descriptor = wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(name),
            compilation_options: Default::default(),
            cache: None,
        };
        (name, device.create_compute_pipeline(&descriptor))
    });
    (layout, pipelines.into())
}
