//! The servers an opened receipt names, and what each of them committed to.

use std::collections::{BTreeMap, BTreeSet};

use nesa_masked::{commitment::blinded_root, message::SignedCommit, signing};
use nesa_primitives::{Address, Hash, decode_exact};
use nesa_verify::receipt::Failure;

use super::{OpenedReceipt, OpenedServer, verify::same};
use crate::query::report::SideName;

/// Leaves of one server's commitment at most.
const MAX_LEAVES: usize = 1 << 20;

/// A server whose commitment, if it has one, was checked.
pub(super) struct CheckedServer {
    pub(super) node: Address,
    /// Statements it committed to; `None` when it left without a commitment.
    pub(super) committed: Option<BTreeSet<Hash>>,
}

/// By side and attempt.
pub(super) type Servers = BTreeMap<(SideName, u8), CheckedServer>;

impl OpenedReceipt {
    /// Every server once, its commitment signed by it and opening to its leaves.
    pub(super) fn check_servers(&self, chain: &Hash, query: &Hash) -> Result<Servers, Failure> {
        let mut servers = Servers::new();
        for server in &self.servers {
            let committed = match &server.commit {
                None => {
                    // Without a commitment nothing binds these two fields: they must be empty; and
                    // a server that signed nothing at all has no place here.
                    if server.blind != Hash::ZERO || !server.leaves.is_empty() {
                        return Err(Failure::new("leaves", "given", "none without a commitment"));
                    }
                    let signed = self.messages.iter().any(|m| match server.side {
                        SideName::A => m.a.0 == server.attempt,
                        SideName::B => m.b.0 == server.attempt,
                    });
                    if !signed {
                        return Err(Failure::new("servers", "one that signed nothing", "none"));
                    }
                    None
                }
                Some(bytes) => Some(self.check_commit(chain, query, server, &bytes.0)?),
            };
            let key = (server.side, server.attempt);
            if servers.insert(key, CheckedServer { node: server.node, committed }).is_some() {
                return Err(Failure::new("servers", "one twice", "each once"));
            }
        }
        Ok(servers)
    }

    fn check_commit(
        &self,
        chain: &Hash,
        query: &Hash,
        server: &OpenedServer,
        bytes: &[u8],
    ) -> Result<BTreeSet<Hash>, Failure> {
        let commit: SignedCommit = decode_exact(bytes, &())
            .map_err(|error| Failure::new("commitment", error, "a signed commitment"))?;
        let place = (commit.chain, commit.query, SideName::from(commit.side), commit.attempt);
        if place != (*chain, *query, server.side, server.attempt) {
            return Err(Failure::new("commitment", "of another query or part", "this one's"));
        }
        if !signing::commit_is_signed(&commit, &server.node) {
            return Err(Failure::new(
                "commitment's signature",
                "not by the node",
                format!("by {}", server.node),
            ));
        }
        if server.leaves.len() > MAX_LEAVES {
            return Err(Failure::new("leaves", server.leaves.len(), MAX_LEAVES));
        }
        same(
            "root of a commitment",
            blinded_root(chain, &server.blind, &server.leaves),
            commit.blinded_root,
        )?;
        Ok(server.leaves.iter().copied().collect())
    }
}
