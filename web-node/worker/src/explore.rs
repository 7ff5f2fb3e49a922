//! The network as this device can prove it: nodes from state, blocks from headers.

use std::rc::Rc;

use nesa_chain::{
    action::{Action, AnswerDispute, CloseDispute, OpenDispute},
    keys,
    record::{NodeRecord, NodeSet},
    tx::SignedTx,
};
use nesa_messages::{
    BlockDetail, FromWorker, NetworkView, NodeRow, Problem, StepState, TxRow, Unes,
};
use nesa_platform::time::Instant;
use nesa_primitives::{Denom, Hash, decode_exact};
use nesa_wire::chain::MAX_KEYS;

use crate::{
    app::App,
    problem::{Shown as _, not_ready},
    view,
};

impl App {
    pub(crate) async fn nodes(self: Rc<Self>) {
        match self.prove_nodes().await {
            Ok(network) => self.port.send(&FromWorker::Network { network }),
            Err(problem) => self.port.fail(None, None, problem),
        }
    }

    async fn prove_nodes(&self) -> Result<NetworkView, Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let start = Instant::now();
        let (set, proven) = chain
            .light
            .record::<NodeSet>(keys::nodes(), "nodes", 0)
            .await
            .map_err(|e| e.problem())?;
        let set = set.unwrap_or_default();
        let mut checked_ms = proven.ms;
        let mut height = proven.header.header.height();
        let own = self.donation.borrow().as_ref().map(|donation| donation.address());
        let mut nodes = Vec::with_capacity(set.entries.len());
        for chunk in set.entries.chunks(MAX_KEYS) {
            let wanted: Vec<Hash> = chunk.iter().map(|entry| keys::node(&entry.node)).collect();
            let proven = chain.light.prove(&wanted).await.map_err(|e| e.problem())?;
            checked_ms += proven.ms;
            height = height.min(proven.header.header.height());
            for (entry, key) in chunk.iter().zip(&wanted) {
                let Some(bytes) = proven.value(key) else { continue };
                let Ok(record) = decode_exact::<NodeRecord>(bytes, &()) else { continue };
                nodes.push(NodeRow {
                    node: entry.node.to_string(),
                    operator: record.operator.to_string(),
                    operator_name: None,
                    bond: Unes(record.bond.0),
                    faucet_bond: record.faucet_bond(),
                    score: i64::try_from(record.score).unwrap_or(i64::MAX),
                    addresses: record.addresses.iter().map(|a| a.as_str().to_owned()).collect(),
                    this_device: own == Some(entry.node),
                });
            }
        }
        tracing::debug!(ms = start.elapsed().as_millis() as u64, "nodes proven");
        Ok(NetworkView {
            nodes,
            height,
            state: StepState::Verified,
            checked_ms,
            collusion: Some(view::collusion(set.entries.iter())),
        })
    }

    pub(crate) async fn block(self: Rc<Self>, height: u64) {
        match self.prove_block(height).await {
            Ok(block) => self.port.send(&FromWorker::Block { block: Box::new(block) }),
            Err(problem) => self.port.fail(None, None, problem),
        }
    }

    async fn prove_block(&self, height: u64) -> Result<BlockDetail, Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let start = Instant::now();
        let (item, _) = chain.light.header(height).await.map_err(|e| e.problem())?;
        let body = chain.light.block(height).await.ok();
        let checked_ms = start.elapsed().as_secs_f64() * 1000.0;
        let transactions = body.map(|(_, transactions)| {
            transactions
                .iter()
                .filter_map(|bytes| SignedTx::from_bytes(bytes).ok())
                .map(|signed| TxRow {
                    id: signed.id().to_string(),
                    kind: signed.tx.action.name().to_owned(),
                    sender: signed.tx.sender.to_string(),
                    summary: summary(&signed.tx.action),
                })
                .collect::<Vec<_>>()
        });
        let header = &item.header;
        let mut row = view::block_row(&item, checked_ms, 1, None);
        row.transactions = transactions.as_ref().map(|list| list.len() as u32);
        let certificate = item.finalization.as_ref().map(commonware_codec::Encode::encode);
        // The seed of this view is in the next header, once there is one.
        let seed = chain.light.seed(header.view()).await.ok().map(|seed| view::hex(&seed));
        Ok(BlockDetail {
            row,
            parent: view::hex(header.fields.parent.as_ref()),
            tx_root: header.fields.tx_root.to_string(),
            state_root: view::hex(header.state_root().as_ref()),
            seed,
            certificate_bytes: certificate.map_or(0, |bytes| bytes.len() as u32),
            transactions,
        })
    }
}

/// One line of what a transaction does.
fn summary(action: &Action) -> String {
    let start = |text: String| text.chars().take(8).collect::<String>();
    match action {
        Action::Transfer(transfer) => {
            let amount = match transfer.denom {
                Denom::NES => transfer.amount.in_nes().to_string(),
                denom => format!("{} of denomination {denom}", transfer.amount),
            };
            format!("{amount} to {}…", start(transfer.to.to_string()))
        }
        Action::RegisterModel(model) => {
            format!("{} at {} a token", model.name.as_str(), model.price_per_token.in_nes())
        }
        Action::RegisterNode(node) => {
            format!("node {}… with a bond of {}", start(node.node.to_string()), node.bond.in_nes())
        }
        Action::UpdateNode(update) => {
            format!("new addresses of node {}…", start(update.node.to_string()))
        }
        Action::Unbond(unbond) => format!("node {}… leaves", start(unbond.node.to_string())),
        Action::PayForQuery(pay) => {
            format!("escrow of {} for up to {} tokens", pay.max_fee.in_nes(), pay.max_tokens)
        }
        Action::Commit(commit) => format!(
            "side {}, attempt {}: {} tokens of query {}…",
            commit.side,
            commit.attempt,
            commit.served_tokens,
            start(commit.query.to_string())
        ),
        Action::Claim(claim) => format!(
            "{} for node {}… in query {}…",
            claim.voucher.total.in_nes(),
            start(claim.voucher.node.to_string()),
            start(claim.query.to_string())
        ),
        Action::CommitShard(commit) => format!(
            "shard {}, replica {}: {} tokens of query {}…",
            commit.shard,
            commit.replica,
            commit.served_tokens,
            start(commit.query.to_string())
        ),
        Action::Reveal(reveal) => format!(
            "trace of shard {}, replica {} in query {}…",
            reveal.shard,
            reveal.replica,
            start(reveal.query.to_string())
        ),
        Action::ClaimServed(claim) => format!(
            "what shard {}, replica {} served of query {}…",
            claim.shard,
            claim.replica,
            start(claim.query.to_string())
        ),
        Action::ClaimShard(claim) => format!(
            "{} for shard {}, replica {} of query {}…",
            claim.voucher.total.in_nes(),
            claim.voucher.shard,
            claim.voucher.replica,
            start(claim.query.to_string())
        ),
        Action::OpenDispute(OpenDispute { pair, .. })
        | Action::AnswerDispute(AnswerDispute { pair, .. })
        | Action::CloseDispute(CloseDispute { pair }) => format!(
            "replicas {} and {} of shard {} in query {}…",
            pair.left,
            pair.right,
            pair.shard,
            start(pair.query.to_string())
        ),
    }
}
