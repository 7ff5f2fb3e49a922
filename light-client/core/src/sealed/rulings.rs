//! Waiting for what the chain makes of nodes that disagree.

use std::time::Duration;

use nesa_chain::{
    committee::Windows,
    keys,
    query::{QueryRecord, Sealed},
};
use nesa_platform::time;
use nesa_primitives::Hash;

use crate::{AskError, query::QueryClient};

/// Blocks after a window in which its last transactions are seen, in ms.
const AFTER_MS: u64 = 5_000;
/// How long after the last ruling those who can be paid may take to claim, in ms.
const CLAIMS_MS: u64 = 10_000;

impl QueryClient {
    /// Waits until every dispute of a query is ruled on and those who did not lie are paid, or until
    /// nothing more can come; what the record says then. `None` if it never was a committee's.
    pub(super) async fn await_rulings(
        &self,
        query: &Hash,
        windows: &Windows,
    ) -> Result<Option<Sealed>, AskError> {
        let mut last = None;
        let mut ruled_ms = None;
        loop {
            let seen = self.light().height();
            match self.light().record::<QueryRecord>(keys::query(query), "query", 0).await {
                Ok((Some(record), _)) => last = record.sealed,
                Ok((None, _)) | Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                Err(error) => return Err(error),
            }
            let now = time::now_ms();
            let opened = windows.dispute_ms.unwrap_or(windows.reveal_ms).saturating_add(AFTER_MS);
            if let Some(sealed) = &last {
                let ruled = sealed.disputes.iter().all(|dispute| dispute.ruling().is_some());
                // Without a dispute by now there will be none.
                let begun = !sealed.disputes.is_empty() || now > opened;
                if ruled && begun {
                    let since = *ruled_ms.get_or_insert(now);
                    if paid(sealed) || now > since.saturating_add(CLAIMS_MS) {
                        return Ok(last);
                    }
                } else {
                    ruled_ms = None;
                }
            }
            if now > windows.close_ms.saturating_add(AFTER_MS) {
                return Ok(last);
            }
            self.light().head_or(seen, Duration::from_millis(700)).await;
        }
    }
}

/// Whether everybody who can be paid has been. Who was given up need not claim anything.
pub(super) fn paid(sealed: &Sealed) -> bool {
    let due = sealed
        .commits
        .iter()
        .filter(|c| c.is_due() && !c.put_out && sealed.agreement(c.shard).pays());
    due.into_iter().all(|commit| !commit.claimed().is_zero())
}
