//! Any Vulkan device, a software one too.

use std::io::Write as _;

use futures::executor::block_on;
use nesa_gpu::{Caps, Gpu, GpuError, Purpose};

/// Opens the device; `None`, said past the test harness, which keeps what passing tests print, where there is none.
pub(crate) fn open(caps: Option<Caps>) -> Option<Gpu> {
    match block_on(Gpu::open_within(Purpose::Check, caps)) {
        Ok(gpu) => Some(gpu),
        Err(GpuError::Adapter(error)) => {
            not_run(&error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Says that nothing was tested.
fn not_run(error: &dyn std::fmt::Display) {
    assert!(std::env::var_os("NESA_REQUIRE_ADAPTER").is_none(), "no adapter: {error}");
    let install = "install mesa-vulkan-drivers and libvulkan1";
    let said = format!("NOT RUN, no adapter ({error}): {install}\n");
    std::io::stderr().write_all(said.as_bytes()).unwrap();
}
