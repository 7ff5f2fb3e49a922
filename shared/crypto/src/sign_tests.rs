//! RFC 8032 vectors, and the attacks that strict verification is there to stop.

use super::*;

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex_array::parse(text).unwrap()
}

/// RFC 8032, section 7.1, tests 1, 2 and 3: (secret, public, message, signature).
const RFC8032: [(&str, &str, &str, &str); 3] = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
];

#[test]
fn rfc_8032_vectors() {
    for (secret, public, message, signature) in RFC8032 {
        let key = SecretKey::from_seed(&bytes(secret));
        let message = hex::decode(message).unwrap();
        assert_eq!(key.public(), Address(bytes(public)));
        let made = Signature(key.0.sign(&message).to_bytes());
        assert_eq!(made, Signature(bytes(signature)));
        verify_bytes(&key.public(), &message, &made).unwrap();
        let mut flipped = message.clone();
        flipped.push(0);
        assert!(verify_bytes(&key.public(), &flipped, &made).is_err());
    }
}

#[test]
fn a_signature_serves_one_tag_one_chain_one_message_one_key() {
    let key = SecretKey::from_seed(&[7; 32]);
    let other = SecretKey::from_seed(&[8; 32]).public();
    let chain = Hash([1; 32]);
    let signature = key.sign("tx", &chain, b"pay");
    verify_strict(&key.public(), "tx", &chain, b"pay", &signature).unwrap();
    for (signer, tag, chain, message) in [
        (key.public(), "voucher", chain, b"pay"),
        (key.public(), "tx", Hash([2; 32]), b"pay"),
        (key.public(), "tx", chain, b"pax"),
        (other, "tx", chain, b"pay"),
    ] {
        assert!(verify_strict(&signer, tag, &chain, message, &signature).is_err());
    }
}

#[test]
fn every_flipped_bit_of_a_signature_is_refused() {
    let key = SecretKey::from_seed(&[9; 32]);
    let signature = key.sign("tx", &Hash::ZERO, b"message");
    for bit in 0..512 {
        let mut forged = signature;
        forged.0[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_strict(&key.public(), "tx", &Hash::ZERO, b"message", &forged).is_err());
    }
}

/// The neutral element and other small-order points verify trivial forgeries under the lax rule:
/// R = identity, s = 0 satisfies sB = R + hA for every message.
#[test]
fn small_order_keys_sign_nothing() {
    let mut identity = [0u8; 32];
    identity[0] = 1;
    let mut forged = [0u8; 64];
    forged[..32].copy_from_slice(&identity);
    let result = verify_strict(&Address(identity), "tx", &Hash::ZERO, b"any", &Signature(forged));
    assert!(result.is_err());
}

/// Adding the group order to s keeps the equation true; strict verification refuses the twin.
#[test]
fn a_malleated_twin_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let key = SecretKey::from_seed(&[3; 32]);
    let mut twin = key.sign("tx", &Hash::ZERO, b"m");
    let mut carry = 0u16;
    for (byte, order) in twin.0[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert!(verify_strict(&key.public(), "tx", &Hash::ZERO, b"m", &twin).is_err());
}
