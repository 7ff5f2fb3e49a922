//! Thin preparation over the network: two nodes drawn from the proven set, a stream to each.
//!
//! ```text
//! snapshot, seed (proven) ─ random id ─▶ draw by bond, operators disjoint ─▶ two preparers
//!       share u ──▶ first ──▶ uᵀW ┐
//!       share v ──▶ second ─▶ vᵀW ┴─▶ s, sealed, untested
//!       the next query's first pass: random rows under (r, s) ─▶ trusted, or discarded
//! ```
//!
//! Whoever prepared does not serve: a session passes over the candidates of both operators, and
//! where that leaves a side empty another preparation is made, with preparers that leave it filled.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nesa_chain::{
    committee::{self, Committee, CommitteeError, Seat},
    keys,
    params::Params,
    record::{NodeRecord, Snapshot},
    rules::snapshot_epoch,
};
use nesa_masked::{
    client::Candidate,
    origin::Standing,
    preparation::Preparation,
    spec::Lane,
    thin::{self, MAX_FRAME, Preparing},
};
use nesa_platform::{
    random,
    storage::StorageError,
    time::{self, Instant},
};
use nesa_primitives::{Address, Hash, domain};
use nesa_wire::Protocol;

use super::{
    QueryClient, QueryError,
    pay::decode,
    report::{Listener, Progress},
};
use crate::{
    AskError,
    client::{lock, since},
    models::{Kind, LoadListener, Prepared},
};

/// Reaching one preparer, and its whole answer, may take this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(12);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A seed of the newest view may be a moment away.
const SEED_LIMIT: Duration = Duration::from_secs(15);
/// Pairs of preparers tried before giving up, each with a fresh r.
const TRIES: usize = 3;

/// Why two nodes did not prepare.
#[derive(Debug, thiserror::Error)]
pub enum ThinError {
    /// The chain could not be asked.
    #[error(transparent)]
    Chain(#[from] AskError),
    /// No two preparers can be drawn.
    #[error("no two preparers of different operators can be drawn: {0}")]
    Draw(#[from] CommitteeError),
    /// The pair, or the model, does not do.
    #[error(transparent)]
    Protocol(#[from] thin::ThinError),
    /// A preparer could not be reached, or broke off.
    #[error("preparer {node}: {reason}")]
    Link {
        /// Its key.
        node: Address,
        /// In words.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl QueryClient {
    /// Makes `model` ready without its weights: s comes from two nodes, or from this device's store
    /// where they prepared before. Biases, scales, norms and tables come in checked pieces as ever.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn prepare_thin(
        &self,
        model: &Hash,
        listener: &dyn LoadListener,
    ) -> Result<Prepared, QueryError> {
        let start = Instant::now();
        let (opened, lane) = self.models().without_weights(model, self.sources(), listener).await?;
        let (preparation, cached) = match self.models().unseal(Kind::Thin, model, &lane).await? {
            Some(kept) => (kept, true),
            None => (self.make_thin(model, &lane, &[]).await?, false),
        };
        let preparation = Arc::new(preparation);
        Ok(Prepared { model: opened, lane, preparation, cached, ms: since(start) })
    }

    /// `prepared`, or the same model under another thin preparation, if both sides of `committee`
    /// do not have a candidate that is free of it.
    pub(super) async fn fitting(
        &self,
        prepared: &Prepared,
        committee: &Committee,
        say: &Listener,
    ) -> Result<Prepared, QueryError> {
        if fits(&prepared.preparation, committee) {
            return Ok(prepared.clone());
        }
        let (model, lane) = (prepared.model.digest(), &prepared.lane);
        let with =
            |preparation| Prepared { preparation: Arc::new(preparation), ..prepared.clone() };
        match self.models().unseal(Kind::Thin, &model, lane).await? {
            Some(kept) if fits(&kept, committee) => return Ok(with(kept)),
            _ => {}
        }
        say.say(Progress::Note {
            what: "those who prepared were drawn to serve: others prepare anew".into(),
            height: None,
        });
        // Best nobody who may serve at all; where there are not enough, nobody of the first seats.
        let operators = |seats: &[Seat]| seats.iter().map(|s| s.operator).collect::<Vec<_>>();
        let all = [operators(&committee.a), operators(&committee.b)].concat();
        let first = [operators(&committee.a[..1]), operators(&committee.b[..1])].concat();
        let made = match self.make_thin(&model, lane, &all).await {
            Err(ThinError::Draw(_)) => self.make_thin(&model, lane, &first).await,
            other => other,
        };
        Ok(with(made?))
    }

    /// Writes down what a query found out about a thin preparation: that it may be used from now on,
    /// or never again, in which case neither operator is asked again while there are others.
    pub(super) async fn keep_standing(
        &self,
        prepared: &Prepared,
        before: Standing,
    ) -> Result<(), QueryError> {
        let (model, preparation) = (prepared.model.digest(), &prepared.preparation);
        let standing = preparation.standing();
        if standing == before || !preparation.origin().is_thin() {
            return Ok(());
        }
        if standing == Standing::Discarded {
            let operators = preparation.origin().preparers().iter().map(|p| p.operator);
            self.models().avoid(&model, operators).await?;
            self.models().discard(Kind::Thin, &model).await?;
        } else {
            self.models().seal(&model, preparation).await?;
        }
        Ok(())
    }

    /// Has two nodes prepare, of operators that are not among `excluded`, and seals what they give.
    async fn make_thin(
        &self,
        model: &Hash,
        lane: &Lane,
        excluded: &[Address],
    ) -> Result<Preparation, ThinError> {
        let mut avoided = self.models().avoided(model).await?;
        let mut last = None;
        for _ in 0..TRIES {
            let out = |more: &[Address]| [excluded, more].concat();
            let pair = match self.draw_preparers(model, &out(&avoided)).await {
                Err(ThinError::Draw(_)) if !avoided.is_empty() => {
                    // Nobody else is left: those who failed before are better than none.
                    avoided.clear();
                    self.draw_preparers(model, &out(&[])).await
                }
                other => other,
            };
            let pair = match (pair, last.take()) {
                (Ok(pair), _) => pair,
                (Err(_), Some(error)) => return Err(error),
                (Err(error), None) => return Err(error),
            };
            match self.ask_preparers(model, lane, &pair).await {
                Ok(preparation) => {
                    self.models().seal(model, &preparation).await?;
                    return Ok(preparation);
                }
                // r is gone with it. The other half was spent too.
                Err((which, error)) => {
                    tracing::debug!(%error, "a preparer failed");
                    avoided.extend(which.map(|which| pair[which].0.operator));
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(AskError::Undecided { missing: "a preparer".into() }.into()))
    }

    /// Two nodes of different operators, drawn by bond as a query's A and B would be, under an id
    /// that only this device knows.
    async fn draw_preparers(
        &self,
        model: &Hash,
        excluded: &[Address],
    ) -> Result<[Preparer; 2], ThinError> {
        let key = keys::params();
        let (params, proven) = self.light.record::<Params>(key, "params", 0).await?;
        let params = params.ok_or(AskError::Undecided { missing: "the parameters".into() })?;
        let head = &proven.header.header;
        let key = keys::snapshot(snapshot_epoch(head.height(), &params));
        let (snapshot, _) = self.light.record::<Snapshot>(key, "snapshot", 0).await?;
        let mut snapshot =
            snapshot.ok_or(AskError::Undecided { missing: "the snapshot".into() })?;
        let view = head.view();
        let seed = async {
            loop {
                let seen = self.light.height();
                match self.light.seed(view).await {
                    Err(AskError::Undecided { .. } | AskError::NoPeer { .. }) => {}
                    decided => return decided,
                }
                self.light.head_or(seen, Duration::from_millis(300)).await;
            }
        };
        let late = |_| AskError::Timeout { what: "a seed", ms: SEED_LIMIT.as_millis() as u64 };
        let seed = time::timeout(SEED_LIMIT, seed).await.map_err(late)??;
        snapshot.set.entries.retain(|entry| !excluded.contains(&entry.operator));
        let mut id = domain("preparers", &self.light.chain());
        id.update(&random::bytes::<32>());
        let drawn = committee::derive(&seed, &id.finalize().into(), &snapshot.set, model, None)?;
        let pair = [drawn.a[0], drawn.b[0]];
        let node_keys = pair.map(|seat| keys::node(&seat.node));
        let nodes = self.light.prove(&node_keys).await?;
        let mut preparers = Vec::with_capacity(2);
        for (seat, key) in pair.iter().zip(&node_keys) {
            let record = decode::<NodeRecord>(&nodes, key, "node")?;
            let addresses = record.map(|record| record.addresses).unwrap_or_default();
            let addresses = addresses.iter().map(|a| a.as_str().to_owned()).collect();
            let candidate = Candidate { node: seat.node, operator: seat.operator };
            preparers.push(Preparer(candidate, addresses));
        }
        let empty = || AskError::Undecided { missing: "two preparers".into() };
        preparers.try_into().map_err(|_| empty().into())
    }

    /// One attempt with one pair. An error names the half that failed, where one did.
    async fn ask_preparers(
        &self,
        model: &Hash,
        lane: &Lane,
        pair: &[Preparer; 2],
    ) -> Result<Preparation, (Option<usize>, ThinError)> {
        let candidates = [pair[0].0, pair[1].0];
        let (chain, mut rng) = (self.light.chain(), random::rng());
        let preparing = Preparing::new(chain, *model, lane.clone(), candidates, &mut rng);
        let preparing = Mutex::new(preparing.map_err(nobody)?);
        let ask = |which: usize| {
            let (preparing, preparer) = (&preparing, &pair[which]);
            async move {
                let whole = self.ask_preparer(preparing, which, preparer);
                match time::timeout(ANSWER_LIMIT, whole).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err((Some(which), error)),
                    Err(elapsed) => Err((Some(which), preparer.broke(elapsed))),
                }
            }
        };
        futures::future::try_join(ask(0), ask(1)).await?;
        let preparing = preparing.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        preparing.finish().map_err(nobody)
    }

    /// Sends one half and hears its answers, both at once.
    async fn ask_preparer(
        &self,
        preparing: &Mutex<Preparing>,
        which: usize,
        preparer: &Preparer,
    ) -> Result<(), ThinError> {
        let open = self.reach(preparer);
        let stream = time::timeout(CONNECT_LIMIT, open).await.map_err(|e| preparer.broke(e))??;
        let (mut reader, mut writer) = stream.split();
        let send = async {
            loop {
                let frame = lock(preparing).next_frame(which);
                let Some(frame) = frame else { return Ok(()) };
                if let Err(error) = writer.send(&frame).await {
                    return Err(preparer.broke(error));
                }
            }
        };
        let hear = async {
            while !lock(preparing).is_complete(which) {
                match reader.recv_up_to(MAX_FRAME).await {
                    Ok(Some(frame)) => lock(preparing).received(which, &frame)?,
                    Ok(None) => return Err(preparer.broke("it closed the stream")),
                    Err(error) => return Err(preparer.broke(error)),
                }
            }
            Ok(())
        };
        let (send, hear) = (std::pin::pin!(send), std::pin::pin!(hear));
        // A refusal says more than the broken pipe it causes.
        match futures::future::select(hear, send).await {
            futures::future::Either::Left((heard, _)) => heard,
            futures::future::Either::Right((_, hear)) => hear.await,
        }
    }

    async fn reach(&self, preparer: &Preparer) -> Result<nesa_platform::net::Stream, ThinError> {
        let node = preparer.0.node;
        let mut error = preparer.broke("the node has no address");
        for address in &preparer.1 {
            // The record's addresses are its operator's word; the handshake proves the key.
            match self.network.dial(address).await {
                Ok(reached) if reached == node => {
                    match self.network.open(node, Protocol::Prepare).await {
                        Ok(stream) => return Ok(stream),
                        Err(reason) => error = preparer.broke(reason),
                    }
                }
                Ok(_) => error = preparer.broke(format!("{address} names another node")),
                Err(reason) => error = preparer.broke(reason),
            }
        }
        Err(error)
    }
}

/// An error that no preparer is to blame for.
fn nobody(error: thin::ThinError) -> (Option<usize>, ThinError) {
    (None, error.into())
}

/// A node that is to prepare, and where it is.
struct Preparer(Candidate, Vec<String>);

impl Preparer {
    fn broke(&self, reason: impl std::fmt::Display) -> ThinError {
        ThinError::Link { node: self.0.node, reason: reason.to_string() }
    }
}

/// Whether a preparation may check what this committee computes: a session passes over candidates
/// that prepared, so each side must have another.
fn fits(preparation: &Preparation, committee: &Committee) -> bool {
    let free = |seats: &[Seat]| {
        seats.iter().any(|seat| {
            let candidate = Candidate { node: seat.node, operator: seat.operator };
            !preparation.origin().prepared_by(&candidate)
        })
    };
    preparation.standing() != Standing::Discarded && free(&committee.a) && free(&committee.b)
}
