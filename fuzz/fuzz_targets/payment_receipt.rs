#![no_main]
//! Text that claims to be a payment receipt: reading it never panics, and what is read is written
//! back to the same value.

use nesa_verify::receipt::PaymentReceipt;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(receipt) = PaymentReceipt::from_json(text) else { return };
    let again = receipt.to_json().expect("a receipt that was read can be written");
    assert_eq!(PaymentReceipt::from_json(&again).expect("and read again"), receipt);
});
