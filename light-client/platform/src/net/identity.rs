//! A node's address on the chain and its libp2p peer id are the same ed25519 key.

use libp2p::{
    Multiaddr, PeerId,
    identity::{Keypair, PublicKey, ed25519},
    multiaddr::Protocol as Part,
};
use nesa_primitives::Address;
use zeroize::Zeroizing;

/// The key pair of a 32-byte ed25519 secret.
pub(super) fn keypair(secret: &[u8; 32]) -> Keypair {
    let mut copy = Zeroizing::new(*secret);
    let secret = ed25519::SecretKey::try_from_bytes(copy.as_mut_slice());
    match secret {
        Ok(secret) => ed25519::Keypair::from(secret).into(),
        // Any 32 bytes are an ed25519 secret.
        Err(_) => unreachable!("a 32-byte array is an ed25519 secret"),
    }
}

/// The peer id of a node key; `None` if the bytes are no point on the curve.
pub(super) fn peer_id(address: &Address) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&address.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The node key of a peer id; `None` for a peer whose key is not ed25519.
pub(super) fn address(peer: &PeerId) -> Option<Address> {
    // Short keys are embedded whole (identity multihash, code 0) in the peer id.
    let hash = peer.as_ref();
    if hash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(Address(key.try_into_ed25519().ok()?.to_bytes()))
}

/// Parses a multiaddress that must end in the peer's id, and returns both.
pub(super) fn target(text: &str) -> Option<(Multiaddr, PeerId, Address)> {
    let multiaddr: Multiaddr = text.parse().ok()?;
    let Some(Part::P2p(peer)) = multiaddr.iter().last() else { return None };
    let address = address(&peer)?;
    Some((multiaddr, peer, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_peer_ids_are_one_to_one() {
        let key = keypair(&[7; 32]);
        let peer = key.public().to_peer_id();
        let node = address(&peer).unwrap();
        assert_eq!(peer_id(&node), Some(peer));
        let text = format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{peer}");
        let (multiaddr, found, node_again) = target(&text).unwrap();
        assert_eq!((multiaddr.to_string(), found, node_again), (text, peer, node));
        assert!(target("/ip4/127.0.0.1/tcp/1/ws").is_none());
        assert!(target("nonsense").is_none());
    }
}
