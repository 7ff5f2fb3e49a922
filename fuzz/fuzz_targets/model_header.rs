#![no_main]
//! The header of a compiled model: what is accepted keeps its bytes and a layout within limits.

use nesa_model::{Header, ModelLimits};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = ModelLimits { max_bytes: 1 << 24, max_header_bytes: 1 << 16 };
    if let Ok(header) = Header::decode(data, &limits) {
        assert_eq!(&header.bytes()[..], data);
        assert!(header.layout().total_bytes <= limits.max_bytes);
    }
});
