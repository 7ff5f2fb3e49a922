//! The payment receipt of a query of the sealed lane.

use std::time::Duration;

use nesa_chain::{committee::Windows, keys, params::Params, query::QueryRecord};
use nesa_platform::{random, time};
use nesa_primitives::Hash;
use nesa_verify::receipt::{self, PaymentReceipt};

use super::rulings::paid;
use crate::{
    AskError,
    query::{Evidence, QueryClient, QueryError, build, pay},
};

/// How long nodes may take to claim after the reveals, in ms, before the receipt is written without
/// them.
const CLAIMS_MS: u64 = 10_000;

impl QueryClient {
    /// The receipt of a query whose traces are revealed, as soon as those who can be paid are; `None`
    /// where nobody was paid.
    pub(super) async fn sealed_receipt(
        &self,
        mut evidence: Evidence,
        params: &Params,
    ) -> Result<Option<PaymentReceipt>, QueryError> {
        let record = &evidence.record;
        let disclose = record.sealed.as_ref().is_some_and(|sealed| sealed.terms.disclose);
        let windows = Windows::of(record.deadline_ms, disclose, params);
        let until = windows.reveal_ms.saturating_add(CLAIMS_MS).max(time::now_ms());
        let wanted = [keys::query(&record.id), keys::params(), keys::model(&record.model)];
        loop {
            let seen = self.light().height();
            match self.light().prove(&wanted).await {
                Ok(proven) => {
                    let found = pay::decode::<QueryRecord>(&proven, &wanted[0], "paid query")?;
                    let sealed = found.as_ref().and_then(|record| record.sealed.as_ref());
                    let late = time::now_ms() > until;
                    if let Some(sealed) = sealed.filter(|sealed| late || paid(sealed)) {
                        let mut nodes: Vec<Hash> = Vec::new();
                        for key in sealed.commits.iter().map(|commit| keys::node(&commit.node)) {
                            if !nodes.contains(&key) {
                                nodes.push(key);
                            }
                        }
                        if nodes.is_empty() {
                            return Ok(None);
                        }
                        evidence.nodes = self.light().prove(&nodes).await?;
                        let written = build(&evidence, &proven);
                        let trust = self.light().trust();
                        return match receipt::verify(&written, trust, &mut random::rng()) {
                            Ok(_) => Ok(Some(written)),
                            Err(failure) => {
                                tracing::debug!(%failure, "no receipt");
                                Ok(None)
                            }
                        };
                    }
                    if late {
                        return Ok(None);
                    }
                }
                Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.light().head_or(seen, Duration::from_millis(700)).await;
        }
    }
}
