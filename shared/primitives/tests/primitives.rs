//! The promises of the smallest types.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use commonware_codec::Encode;
use nesa_primitives::{
    Address, Amount, ChainId, DecodeError, Denom, Hash, Text, Verdict, codec_struct, codec_tag,
    decode_exact, domain,
};
use proptest::prelude::*;

#[test]
fn domains_separate_tags_and_chains() {
    let chain = Hash([1; 32]);
    let digest = |tag, chain: &Hash| Hash::from(domain(tag, chain).update(b"x").finalize());
    assert_ne!(digest("tx", &chain), digest("voucher", &chain));
    assert_ne!(digest("tx", &chain), digest("tx", &Hash::ZERO));
    assert_eq!(digest("tx", &chain), Hash::of_bytes("tx", &chain, b"x"));
    // The tag is the key-derivation context, so no message can imitate another tag.
    let spelled = blake3::derive_key("nesa/1 tx", &[&chain.0[..], b"x"].concat());
    assert_eq!(digest("tx", &chain), Hash(spelled));
}

#[test]
fn amounts_read_as_nes() {
    let texts = [0, 41, 420_000, 1_250_000, 1_200_000_000].map(|n| Amount(n).in_nes().to_string());
    assert_eq!(texts, ["0 NES", "0.000041 NES", "0.42 NES", "1.25 NES", "1200 NES"]);
}

#[test]
fn amounts_never_wrap() {
    let max = Amount(u64::MAX);
    assert_eq!(max.checked_add(Amount(1)), None);
    assert_eq!(Amount(1).checked_sub(Amount(2)), None);
    assert_eq!(max.checked_mul(2), None);
    assert_eq!(max.ratio(1, 0), None);
    assert_eq!(max.ratio(2, 1), None);
    assert_eq!(max.ratio(u64::MAX, u64::MAX), Some(max));
    assert_eq!(Amount(10).ratio(1, 3), Some(Amount(3)));
    assert_eq!(Amount::nes(2), Some(Amount(2_000_000)));
    assert_eq!(Amount::nes(u64::MAX), None);
}

#[test]
fn json_is_for_people_and_keeps_every_digit() {
    let json = serde_json::to_string(&Amount(u64::MAX)).unwrap();
    assert_eq!(json, "\"18446744073709551615\"");
    assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), Amount(u64::MAX));
    assert!(serde_json::from_str::<Amount>("5").is_err(), "numbers lose digits in JavaScript");
    assert!(serde_json::from_str::<Amount>("\"-1\"").is_err());
    let hash = Hash([0xab; 32]);
    let json = serde_json::to_string(&hash).unwrap();
    assert_eq!(json, format!("\"{}\"", "ab".repeat(32)));
    assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), hash);
    assert!("ab".parse::<Hash>().is_err());
    assert!("zz".repeat(32).parse::<Address>().is_err());
}

#[test]
fn chain_ids_keep_to_their_alphabet() {
    for good in ["a", "nesa-local-1", &"x".repeat(48)] {
        assert_eq!(good.parse::<ChainId>().unwrap().as_str(), good);
    }
    for bad in ["", "Nesa", "a b", "ä", "a\0", &"x".repeat(49)] {
        assert!(bad.parse::<ChainId>().is_err(), "{bad:?}");
        let bytes = Text::<64>::new(bad).unwrap().encode();
        assert!(decode_exact::<ChainId>(&bytes, &()).is_err(), "{bad:?}");
    }
}

#[test]
fn text_is_bounded_utf_8() {
    assert!(Text::<3>::new("äa").is_ok());
    assert!(Text::<3>::new("ää").is_err());
    assert!(decode_exact::<Text<3>>(&[2, 0xc3, 0x28], &()).is_err(), "broken UTF-8");
    assert!(decode_exact::<Text<3>>(&[4, 65, 65, 65, 65], &()).is_err(), "too long");
    assert!(decode_exact::<Text<300>>(&[0x81, 0x00, 65], &()).is_err(), "overlong length");
}

#[derive(Debug, PartialEq)]
struct Both {
    tag: Tag,
    amount: Amount,
}
#[derive(Debug, PartialEq)]
enum Tag {
    One,
    Five,
}
codec_tag!(Tag { One = 1, Five = 5 });
codec_struct!(Both { tag, amount });

#[test]
fn derived_codecs_refuse_what_they_do_not_know() {
    for tag in [Tag::One, Tag::Five] {
        let value = Both { tag, amount: Amount(7) };
        let bytes = value.encode();
        assert_eq!(bytes.len(), 9);
        assert_eq!(decode_exact::<Both>(&bytes, &()).unwrap(), value);
        assert!(matches!(
            decode_exact::<Both>(&bytes[..8], &()),
            Err(DecodeError::Malformed(commonware_codec::Error::EndOfBuffer))
        ));
        let tail = [&bytes[..], &[0]].concat();
        assert!(decode_exact::<Both>(&tail, &()).is_err());
    }
    assert!(decode_exact::<Tag>(&[2], &()).is_err());
}

#[test]
fn verdicts_go_on_only_from_valid() {
    let valid = Verdict::Valid(2).and_then(|n| Verdict::Valid(n + 1));
    assert_eq!(valid, Verdict::Valid(3));
    let invalid: Verdict<i32> = Verdict::invalid("root", 1, 2);
    assert_eq!(invalid.to_string(), "invalid root: got 1, expected 2");
    assert!(invalid.map(|n| n + 1).is_invalid());
    let open: Verdict<i32> = Verdict::undecided("header 7");
    assert!(!open.is_valid() && !open.is_invalid());
    assert_eq!(open.valid(), None);
}

proptest! {
    #[test]
    fn no_decoder_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = decode_exact::<Hash>(&bytes, &());
        let _ = decode_exact::<Amount>(&bytes, &());
        let _ = decode_exact::<Denom>(&bytes, &());
        if let Ok(id) = decode_exact::<ChainId>(&bytes, &()) {
            prop_assert_eq!(&id.encode()[..], &bytes[..]);
        }
        if let Ok(text) = decode_exact::<Text<40>>(&bytes, &()) {
            prop_assert_eq!(&text.encode()[..], &bytes[..]);
        }
    }

    #[test]
    fn ratios_are_floors(amount in any::<u64>(), part in 0u64..=10_000) {
        let value = Amount(amount).ratio(part, 10_000).unwrap();
        prop_assert_eq!(u128::from(value.0), u128::from(amount) * u128::from(part) / 10_000);
    }
}
