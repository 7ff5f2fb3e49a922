#![no_main]
//! JSON of a `nesa_chain::Genesis`: whatever is read can be written and read again to the same value.

use nesa_chain::Genesis;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(value) = serde_json::from_slice::<Genesis>(data) {
        let text = serde_json::to_vec(&value).expect("writes");
        assert_eq!(serde_json::from_slice::<Genesis>(&text).expect("reads"), value);
    }
});
