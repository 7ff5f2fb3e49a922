//! Evidence that a leader signed two different headers for one round.
//!
//! Threshold votes name nobody (any quorum can make any member's share), so the ed25519 signature
//! on the header is what makes a leader answerable.

use nesa_chain::header::Header;
use nesa_primitives::Hash;

/// Two headers that one leader signed for one round. Check it with [`Evidence::holds`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The header with the smaller digest.
    pub first: Header,
    /// The header with the larger digest.
    pub second: Header,
}

impl Evidence {
    /// Whether the evidence convicts, on the chain with trust root digest `chain`.
    pub fn holds(&self, chain: &Hash) -> bool {
        equivocation(chain, &self.first, &self.second).as_ref() == Some(self)
    }
}

/// Evidence, if `a` and `b` are different, of one round, and both signed by the round's leader.
///
/// Headers that differ in nothing but the signature are no evidence: ed25519 keys may sign one
/// message twice.
pub fn equivocation(chain: &Hash, a: &Header, b: &Header) -> Option<Evidence> {
    let same_leader = a.fields.context.leader == b.fields.context.leader;
    let same_round = a.fields.context.round == b.fields.context.round;
    if !same_leader || !same_round || a.is_genesis() || a.fields == b.fields {
        return None;
    }
    if !a.leader_signed(chain) || !b.leader_signed(chain) {
        return None;
    }
    let (first, second) = if a.digest() < b.digest() { (a, b) } else { (b, a) };
    Some(Evidence { first: first.clone(), second: second.clone() })
}
