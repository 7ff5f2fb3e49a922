//! The client's end: one [`Session`] per node, and the [`Relay`] that drives all of a query.

mod relay;
mod session;
mod shard;
mod terms;

pub use relay::Relay;
pub use session::{Event, Misbehaviour, Session};
pub use terms::{
    Action, Candidate, Config, Dispute, Link, Lost, RelayError, Served, StartError, Transcript,
};

/// What a session of the tests is for.
#[cfg(test)]
pub(crate) fn purpose_for_tests(
    artifact: &nesa_model::Artifact,
    plan: &nesa_model::decoder::ShardPlan,
    link: Link,
    node: nesa_primitives::Address,
) -> session::Purpose {
    use crate::{opening::Choice, tests::harness};
    session::Purpose {
        chain: harness::CHAIN,
        query: harness::QUERY,
        model: artifact.digest(),
        node,
        role: nesa_crypto::seal::Role { shard: link.shard, seat: link.seat },
        replica: link.seat,
        salt: nesa_primitives::Hash([6; 32]),
        plan: plan.clone(),
        d_model: 32,
        max_tokens: 40,
        choice: Choice { temperature: 0, top_k: 0, top_p: 1 << 16, seed: [0; 32] },
    }
}
