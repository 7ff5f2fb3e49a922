//! The sealed lane before it is used: its price, its odds, and who serves a model now.

use std::{collections::BTreeSet, rc::Rc, sync::Arc};

use nesa_chain::{
    committee::{Odds, Terms},
    limits::{MAX_REPLICAS, MAX_SHARDS},
};
use nesa_light::sealed::{Online, SealedQuote as LightQuote};
use nesa_messages::{
    FromWorker, JobOptions, OddsRow, OddsView, OnlineView, Problem, Quote, RequestId, SealedQuote,
    ShardRow, Task, Unes,
};
use nesa_model::decoder::ShardPlan;
use nesa_platform::time;

use crate::{
    app::{App, Chain},
    chat,
    problem::{Shown as _, not_ready},
    sealed,
};

/// The shares of the stake that an adversary is assumed to hold: one in so many.
const ONE_IN: [u32; 4] = [10, 5, 3, 2];

/// The odds of a committee. They decide nothing, so what the chain would refuse is told all the same.
fn odds(replicas: u8, shards: u8) -> OddsView {
    let terms = Terms { cuts: (1..u16::from(shards.max(1))).collect(), replicas, disclose: false };
    let row = |one_in: u32| {
        let odds = Odds::by_stake(1.0 / f64::from(one_in), &terms);
        OddsRow {
            one_in,
            lies: odds.all_of_some_shard,
            withholds: odds.majority_of_some_shard,
            reads: odds.reads,
        }
    };
    OddsView { replicas, shards, rows: ONE_IN.map(row).to_vec() }
}

/// Most replicas of a shard that so many operators can fill, of whom less than half may have faucet bonds.
fn most_replicas(clean: usize, faucet: usize) -> u8 {
    let fits = |k: &usize| clean + faucet.min((k - 1) / 2) >= *k;
    (1..=MAX_REPLICAS).rev().find(fits).unwrap_or_default() as u8
}

/// Shards of a plan, each served by every node that is there.
fn rows(plan: &ShardPlan, bytes: &[u64], there: Option<(u32, u32)>) -> Vec<ShardRow> {
    (0..plan.len())
        .filter_map(|shard| plan.layers(shard))
        .zip(bytes)
        .map(|(layers, bytes)| ShardRow {
            first: layers.start as u32,
            end: layers.end as u32,
            bytes: *bytes,
            nodes: there.map(|(nodes, _)| nodes),
            operators: there.map(|(_, operators)| operators),
        })
        .collect()
}

/// Operators with a clean node, and operators with faucet bonds alone, among the nodes that are there.
fn operators(online: &Online) -> (usize, usize) {
    let there = || online.nodes.iter().filter(|node| node.online);
    let clean: BTreeSet<_> = there().filter(|n| !n.faucet_bond).map(|n| n.operator).collect();
    let all: BTreeSet<_> = there().map(|node| node.operator).collect();
    (clean.len(), all.len() - clean.len())
}

impl App {
    pub(crate) fn odds(&self, replicas: u8, shards: u8) {
        let replicas = replicas.min(MAX_REPLICAS as u8);
        let shards = shards.min(MAX_SHARDS as u8);
        self.port.send(&FromWorker::Odds { odds: odds(replicas, shards) });
    }

    pub(crate) async fn online(self: Rc<Self>, model: String, shards: u8) {
        match self.ask_around(&model, shards).await {
            Ok(online) => self.port.send(&FromWorker::Online { online }),
            Err(problem) => self.port.fail(None, None, problem),
        }
    }

    async fn ask_around(&self, model: &str, shards: u8) -> Result<OnlineView, Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let digest = self.offered(&chain, model)?;
        let models = chain.queries.models();
        let header = models.header(&digest, chain.queries.sources()).await;
        let header = header.map_err(|error| error.problem())?;
        let online = chain.queries.online(&digest).await.map_err(|error| error.problem())?;
        let nodes = online.nodes.iter().filter(|node| node.online).count() as u32;
        let (clean, faucet) = operators(&online);
        let there = Some((nodes, (clean + faucet) as u32));
        let layers = header.manifest().decoder().map_or(0, |d| d.config.layers as usize);
        let most_shards = layers.min(MAX_SHARDS);
        // A model that is no decoder has one part.
        let wanted = usize::from(shards).clamp(1, most_shards.max(1));
        let plan = ShardPlan::even(&header, wanted).ok();
        let shards = plan.and_then(|plan| Some(rows(&plan, &plan.bytes(&header).ok()?, there)));
        Ok(OnlineView {
            model: model.to_owned(),
            registered: online.registered as u32,
            online: nodes,
            operators: (clean + faucet) as u32,
            most_replicas: most_replicas(clean, faucet),
            shards: shards.unwrap_or_default(),
            most_shards: most_shards as u8,
            at_ms: time::now_ms() as f64,
            height: online.height,
        })
    }

    /// The committee's price of a chat.
    pub(crate) async fn sealed_price(
        &self,
        chain: &Chain,
        request: RequestId,
        task: &Task,
        choices: &JobOptions,
    ) -> Result<Quote, Problem> {
        let Task::Chat { model, messages, sampling, lane, .. } = task else {
            return Err(not_ready());
        };
        let model = self.offered(chain, model)?;
        let options = sealed::options(lane, choices, Arc::new(|_| {}));
        let prompt = chat::prompt(messages, sampling)?;
        let quote = chain.queries.sealed_quote(&model, prompt, &options).await;
        let LightQuote { fitted, plan, shard_bytes, compute, escrow, draw_fee, tx_fee, deadline } =
            quote.map_err(|error| error.problem())?;
        let fees = draw_fee.checked_add(tx_fee).unwrap_or_default();
        let needed = escrow.checked_add(fees).unwrap_or(escrow);
        let (affordable, set) = self.means(chain, needed).await?;
        Ok(Quote {
            request,
            padded_tokens: (fitted.prompt_tokens + fitted.prompt.tokens) as u32,
            prompt_tokens: fitted.prompt_tokens as u32,
            max_tokens: fitted.prompt.tokens as u32,
            compute: Unes(compute.0),
            draw_fee: Unes(draw_fee.0),
            tx_fee: Unes(tx_fee.0),
            max_fee: Unes(escrow.0),
            affordable,
            candidates: set.serving(&model).count() as u32,
            sealed: Some(SealedQuote {
                replicas: lane.replicas,
                shards: rows(&plan, &shard_bytes, None),
                deadline_ms: deadline.as_millis() as u64,
            }),
            ..Quote::default()
        })
    }
}
