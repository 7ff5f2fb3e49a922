//! Any bytes decode to a masked-lane message in their one canonical form, or are refused.
#![no_main]

use commonware_codec::Encode;
use libfuzzer_sys::fuzz_target;
use nesa_masked::{message, opened::OpenedPart, pack};
use nesa_primitives::decode_exact;

fuzz_target!(|bytes: &[u8]| {
    let limits = message::Limits { payload: 4096 };
    if let Ok(message) = message::decode_client(bytes, &limits) {
        assert_eq!(message.encode(), bytes);
    }
    if let Ok(message) = message::decode_server(bytes, &limits) {
        assert_eq!(message.encode(), bytes);
    }
    if let Ok(part) = decode_exact::<OpenedPart>(bytes, &limits) {
        assert_eq!(part.encode(), bytes);
    }
    let _ = message::decode_open(bytes);
    if let [bits, count, packed @ ..] = bytes
        && let Ok(values) = pack::unpack(packed, usize::from(*count), u32::from(*bits))
    {
        assert_eq!(pack::pack(&values, u32::from(*bits)), packed);
    }
});
