//! Inputs and answers as bytes.

use super::{inputs, open};
use commonware_codec::Encode as _;
use nesa_float::{
    Data, Limits, Tensor,
    web::{decode_answer, decode_inputs, encode_inputs, run},
};
use proptest::{collection::vec, prelude::*};

#[test]
fn an_answer_crosses_as_bytes() {
    let limits = Limits::default();
    let mut graph = open("encoder");
    let x = inputs(&graph, 5);
    let bytes = encode_inputs(&x);
    assert_eq!(decode_inputs(&bytes, &limits).expect("own"), x);
    let answer = run(&mut graph, &bytes, &limits).expect("runs");
    assert_eq!(decode_answer(&answer, &limits).expect("own"), graph.run(&x).expect("runs"));
    assert!(decode_answer(&answer[1..], &limits).is_err());
    assert!(decode_answer(&[&answer[..], &[0]].concat(), &limits).is_err());
    let small = Limits { tensor: 3, ..limits };
    assert!(decode_answer(&answer, &small).is_err());
    assert!(decode_inputs(&bytes, &small).is_err());
}

proptest! {
    #[test]
    fn tensors_round_trip(bits in vec(any::<u32>(), 0..40), integers in vec(any::<i64>(), 0..20),
                          booleans in vec(any::<bool>(), 0..20)) {
        let limits = Limits::default();
        let floats: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let tensors = [
            Tensor::new("f", &[floats.len() as u32, 1], Data::F32(floats)).expect("whole"),
            Tensor::new("i", &[integers.len() as u32], Data::I64(integers)).expect("whole"),
            Tensor::new("b", &[1, booleans.len() as u32], Data::Bool(booleans)).expect("whole"),
        ];
        let bytes = encode_inputs(&tensors);
        let again = decode_inputs(&bytes, &limits).expect("own");
        // Not `==`: a NaN is none.
        prop_assert_eq!(again.encode(), bytes);
    }

    #[test]
    fn any_bytes_are_inputs_or_refused(bytes in vec(any::<u8>(), 0..120)) {
        let limits = Limits::default();
        if let Ok(tensors) = decode_inputs(&bytes, &limits) {
            prop_assert_eq!(encode_inputs(&tensors), bytes.clone());
        }
        let _ = decode_answer(&bytes, &limits);
    }
}
