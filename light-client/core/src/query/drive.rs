//! Driving the masked session: links, clocks and accounting around a state machine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nesa_chain::action::Side;
use nesa_masked::{
    Run,
    client::{Action, Candidate, Committee, Config, Link, Reason, Session},
    freivalds,
    spec::ROWS_PER_PART,
    transcript::Transcript,
};
use nesa_platform::{
    random, task,
    time::{self, Instant},
};
use nesa_primitives::Address;
use nesa_wire::Protocol;
use serde_json::json;

use super::{
    Planned, QueryClient, QueryError, QueryOptions,
    classify::Classes,
    drafts::Drafts,
    links::{Input, Links},
    pay::{DrawnCommittee, Paid},
    report::{
        Answer, BytesMoved, NodeRef, Phase, PreparationUsed, Progress, Rejected, SideName,
        StageProgress, Timings,
    },
    settle::Evidence,
    text::Text,
    work::{Gather, Vectors, Work},
};
use crate::{
    client::since,
    ladder::{Ladder, LadderStep, StepId},
    models::Prepared,
    receipt::OpenedReceipt,
};

/// A server that owes an answer and is silent for this long is replaced.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Stages B is asked for ahead of A: enough to hide its share of a round trip, and little enough
/// that a replaced B has not wasted much.
const AHEAD: usize = 3;
/// Time kept before the deadline for commitments and claims to reach a block.
const MARGIN_MS: u64 = 2_500;

/// What the servers computed, checked.
pub(super) struct Driven {
    pub(super) answer: Arc<Answer>,
    pub(super) opened: Option<OpenedReceipt>,
    pub(super) timings: Timings,
    pub(super) bytes: BytesMoved,
    pub(super) rejected: Vec<Rejected>,
    pub(super) nodes: Vec<NodeRef>,
    pub(super) evidence: Evidence,
}

/// What is gathered while the session runs.
struct Driver<'a, G> {
    options: &'a QueryOptions,
    addresses: BTreeMap<Address, Vec<String>>,
    named: Option<Address>,
    links: Links<Link>,
    gather: G,
    passes: u32,
    rejected: Vec<Rejected>,
    current: BTreeMap<SideName, NodeRef>,
    operators: BTreeMap<Address, Address>,
    transcript: Option<Transcript>,
    prepare: bool,
    computing: bool,
    round_trip: Duration,
    connect_ms: f64,
}

impl QueryClient {
    pub(super) async fn drive(
        &self,
        prepared: &Prepared,
        planned: &Planned,
        paid: &Paid,
        drawn: DrawnCommittee,
        options: &QueryOptions,
        ladder: &mut Ladder,
    ) -> Result<Driven, QueryError> {
        match &planned.work {
            Work::Read { texts, plan } => {
                let gather = Vectors::new(prepared.reader()?, texts, plan);
                self.converse(prepared, planned, paid, drawn, options, ladder, gather).await
            }
            Work::Classify { images, plan } => {
                let gather = Classes::new(prepared.classifier()?, images, plan);
                self.converse(prepared, planned, paid, drawn, options, ladder, gather).await
            }
            Work::Write { request, codec } => {
                let listener = options.listener.clone();
                let drafts = Drafts::of(options.draft_model.as_ref());
                let gather = Text::new(prepared.decoder()?, codec, request, drafts, listener);
                self.converse(prepared, planned, paid, drawn, options, ladder, gather).await
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn converse<G: Gather>(
        &self,
        prepared: &Prepared,
        planned: &Planned,
        paid: &Paid,
        drawn: DrawnCommittee,
        options: &QueryOptions,
        ladder: &mut Ladder,
        gather: G,
    ) -> Result<Driven, QueryError> {
        let begin = Instant::now();
        let say = &options.listener;
        say.say(Progress::Phase(Phase::Connecting));
        let config = Config {
            chain: self.light.chain(),
            query: paid.entry.query,
            model: prepared.model.digest(),
            price_per_token: planned.price,
            client_key: paid.client_key.clone(),
            ahead: AHEAD,
            open_receipt: options.open_receipt,
        };
        let candidates = |seats: &[nesa_chain::committee::Seat]| -> Vec<Candidate> {
            seats.iter().map(|s| Candidate { node: s.node, operator: s.operator }).collect()
        };
        let committee =
            Committee { a: candidates(&drawn.committee.a), b: candidates(&drawn.committee.b) };
        let operators =
            committee.a.iter().chain(&committee.b).map(|c| (c.node, c.operator)).collect();
        let mut session = Session::new(
            config,
            (*prepared.lane).clone(),
            committee,
            prepared.preparation.clone(),
            gather.passes()?,
            random::rng(),
        )?;

        let mut run = Driver {
            options,
            addresses: drawn.addresses.clone(),
            named: options.named.map(|named| named.node),
            links: Links::new(self.network.clone(), Protocol::Masked),
            gather,
            passes: 0,
            rejected: Vec::new(),
            current: BTreeMap::new(),
            operators,
            transcript: None,
            prepare: false,
            computing: false,
            round_trip: Duration::ZERO,
            connect_ms: 0.0,
        };
        let mut device_ms = 0.0;
        let clock = Instant::now();
        let mut actions = session.start();
        device_ms += since(clock);
        loop {
            run.apply(actions)?;
            run.gather.flush(session.is_over()).await?;
            if session.is_over() {
                break;
            }
            if time::now_ms() + MARGIN_MS > paid.record.deadline_ms {
                return Err(QueryError::Deadline { rejected: run.rejected });
            }
            if std::mem::take(&mut run.prepare) {
                let digest = prepared.model.digest();
                self.models().discard_preparation(&digest).await?;
                let again = self.models().prepare(&digest, self.sources(), &|_| {}).await?;
                actions = session.prepared(again.preparation);
                continue;
            }
            let waiting = session.waiting_on();
            let patience = waiting
                .iter()
                .map(|link| ANSWER_LIMIT.saturating_sub(run.links.silence(*link)))
                .min()
                .unwrap_or(ANSWER_LIMIT);
            let input = run.links.next(patience.max(Duration::from_millis(1))).await;
            let clock = Instant::now();
            actions = match input {
                Some(Input::Received(link, frame)) => session.received(link, &frame),
                Some(Input::Lost(link, reason)) => {
                    tracing::debug!(?link, reason, "a link ended");
                    run.links.abandon(link);
                    session.lost(link)
                }
                Some(Input::Connected(_, took)) => {
                    run.round_trip = run.round_trip.max(took);
                    if run.rejected.is_empty() {
                        run.connect_ms = since(begin);
                    }
                    Vec::new()
                }
                None => {
                    let overdue =
                        waiting.into_iter().find(|link| run.links.silence(*link) >= ANSWER_LIMIT);
                    match overdue {
                        Some(link) => {
                            run.links.abandon(link);
                            session.lost(link)
                        }
                        None => Vec::new(),
                    }
                }
            };
            device_ms += since(clock);
            // In the browser there is one thread: let the links and the page breathe.
            task::yield_now().await;
        }
        run.finish(self, prepared, planned, paid, drawn, ladder, device_ms, since(begin))
    }
}

impl<G: Gather> Driver<'_, G> {
    fn apply(&mut self, actions: Vec<Action<<G::Run as Run>::Output>>) -> Result<(), QueryError> {
        let say = self.options.listener.clone();
        for action in actions {
            match action {
                Action::Connect { link, candidate } => {
                    let addresses = self.addresses.get(&candidate.node).cloned();
                    self.links.connect(link, candidate.node, addresses.unwrap_or_default());
                    let node = NodeRef {
                        side: link.side.into(),
                        node: candidate.node,
                        operator: candidate.operator,
                        named: self.named == Some(candidate.node),
                    };
                    self.current.insert(link.side.into(), node);
                    if self.current.len() == 2 {
                        let attempt = 1 + self.rejected.len() as u32;
                        let nodes = self.current.values().cloned().collect();
                        say.say(Progress::Nodes { attempt, nodes });
                    }
                }
                Action::Send { link, message } => {
                    self.links.send(link, message);
                    self.links.touch(link);
                }
                Action::Close { link } => self.links.close(link),
                Action::Progress(progress) => {
                    if !self.computing {
                        self.computing = true;
                        say.say(Progress::Phase(Phase::Computing));
                    }
                    let (up, down) =
                        self.links.bytes().fold((0, 0), |(u, d), (_, up, down)| (u + up, d + down));
                    say.say(Progress::Stage(StageProgress {
                        pass: progress.pass as usize,
                        passes: progress.passes as usize,
                        stage: progress.verified as usize,
                        stages: progress.stages as usize,
                        bytes_up: up,
                        bytes_down: down,
                    }));
                }
                // One opaque word for the caller too: neither check nor coordinate.
                Action::Rejected { .. } => say.say(Progress::Note {
                    what: "a product was refused; blame is being placed".into(),
                    height: None,
                }),
                Action::Replaced(rejection) => {
                    let reason = match rejection.reason {
                        Reason::Rejected => "wrong product",
                        Reason::Unavailable => "no answer",
                    };
                    let operator = self.operators.get(&rejection.node).copied();
                    let rejected = Rejected {
                        node: rejection.node,
                        operator: operator.unwrap_or(rejection.node),
                        side: rejection.link.side.into(),
                        reason: reason.into(),
                    };
                    self.rejected.push(rejected.clone());
                    say.say(Progress::Rejected(rejected));
                }
                Action::Prepare => self.prepare = true,
                Action::PassDone { pass, output } => {
                    self.passes += 1;
                    self.gather.take(pass, output)?;
                }
                Action::Done(transcript) => self.transcript = Some(*transcript),
                Action::Failed(error) => {
                    return Err(QueryError::Session {
                        error,
                        rejected: std::mem::take(&mut self.rejected),
                    });
                }
            }
        }
        Ok(())
    }

    fn bytes(&self) -> BytesMoved {
        let mut moved = BytesMoved::default();
        for (link, up, down) in self.links.bytes() {
            match link.side {
                Side::A => {
                    moved.a_up += up;
                    moved.a_down += down;
                }
                Side::B => {
                    moved.b_up += up;
                    moved.b_down += down;
                }
            }
        }
        moved
    }

    #[allow(clippy::too_many_arguments)]
    fn finish(
        self,
        client: &QueryClient,
        prepared: &Prepared,
        planned: &Planned,
        paid: &Paid,
        drawn: DrawnCommittee,
        ladder: &mut Ladder,
        device_ms: f64,
        total_ms: f64,
    ) -> Result<Driven, QueryError> {
        let say = &self.options.listener;
        let bytes = self.bytes();
        say.say(Progress::Phase(Phase::Binding));
        let Some(transcript) = self.transcript else {
            return Err(QueryError::Deadline { rejected: self.rejected });
        };
        let bind = Instant::now();
        let guesses = self.gather.guesses();
        let answer = Arc::new(self.gather.answer(&prepared.model.digest())?);
        let bind_ms = since(bind);

        let nodes: Vec<NodeRef> = self.current.into_values().collect();
        let seeds = transcript.checks;
        let check_ms = check_cost(prepared, transcript.tokens.into()).min(device_ms);
        let sent = LadderStep::verified(
            StepId::SharesSent,
            "this device",
            format!("{:.1} MB to A as noise, fresh 32-byte seeds to B", bytes.a_up as f64 / 1e6),
            0.0,
            json!({
                "a": { "up": bytes.a_up, "down": bytes.a_down },
                "b": { "up": bytes.b_up, "down": bytes.b_down },
                "nodes": nodes, "messages": seeds,
            }),
        );
        let used = PreparationUsed::of(&prepared.preparation);
        let checked = LadderStep::verified(
            StepId::LayersChecked,
            "this device",
            format!(
                "{} products of {} padded tokens passed range and Freivalds checks{}",
                transcript.checks,
                transcript.tokens,
                if prepared.preparation.origin().is_thin() {
                    ", under an s that two other nodes prepared"
                } else {
                    ""
                }
            ),
            check_ms,
            json!({
                "stages": prepared.lane.stages().len(),
                "passes": self.passes,
                "padded_tokens": transcript.tokens,
                "messages_checked": transcript.checks,
                "field": "2^61 - 1",
                "miss_probability": "at most q / (p - q) for q rows checked",
                "preparation": used.words(),
                "prepared_by": used,
                "preparation_discarded": transcript.preparation_discarded,
                "rejected": self.rejected,
            }),
        );
        let commits: Vec<_> = transcript
            .served
            .iter()
            .map(|served| {
                json!({
                    "side": SideName::from(served.link.side),
                    "node": served.candidate.node,
                    "attempt": served.link.attempt,
                    "blinded_root": served.commit.as_ref().map(|c| c.blinded_root),
                    "served_tokens": served.served_tokens,
                    "paid": served.paid,
                })
            })
            .collect();
        let bound = LadderStep::verified(
            StepId::OutputBound,
            "this device",
            format!("{} with digest {}", answer.summary(), answer.digest),
            bind_ms,
            json!({ "digest": answer.digest, "commits": commits }),
        );
        for step in [sent, checked, bound] {
            ladder.set(step.clone());
            say.say(Progress::Step(Box::new(step)));
        }

        let opened = self.options.open_receipt.then(|| {
            OpenedReceipt::new(
                client.light.chain(),
                paid.signed.clone(),
                paid.opening.salt,
                planned.texts.clone(),
                guesses,
                &transcript,
                answer.digest,
            )
        });
        let waited = (total_ms - device_ms).max(0.0);
        let rounds = prepared.lane.stages().len() * self.passes as usize;
        let network_ms = (self.round_trip.as_secs_f64() * 1000.0 * rounds as f64).min(waited);
        let timings = Timings {
            network_ms,
            nodes_ms: waited - network_ms,
            connect_ms: self.connect_ms,
            device_ms: (device_ms - check_ms).max(0.0),
            check_ms,
            ..Timings::default()
        };
        let evidence = Evidence {
            trust: client.light.trust().clone(),
            signed: paid.signed.clone(),
            included: paid.included.clone(),
            before: paid.before.clone(),
            record: paid.record.clone(),
            seed: drawn.seed,
            snapshot: drawn.snapshot,
            nodes: drawn.nodes,
            served: transcript
                .served
                .iter()
                .map(|served| (served.candidate.node, served.commit, served.paid))
                .collect(),
            links: transcript.served.iter().map(|served| served.link).collect::<Vec<Link>>(),
        };
        Ok(Driven { answer, opened, timings, bytes, rejected: self.rejected, nodes, evidence })
    }
}

/// What the range and Freivalds checks of a query cost on this device, in milliseconds.
///
/// The session has no clock; but a check takes the same time whatever it checks, so one part of
/// each stage is checked again, with zeros, and scaled to the rows of the query.
fn check_cost(prepared: &Prepared, padded: u64) -> f64 {
    let rows = u64::from(ROWS_PER_PART).min(padded.max(1));
    let mut spent = Duration::ZERO;
    for (index, stage) in prepared.lane.stages().iter().enumerate() {
        let Some(secrets) = prepared.preparation.stage(index) else { continue };
        let x = vec![0i32; rows as usize * stage.k as usize];
        let y = vec![0i32; rows as usize * stage.n as usize];
        let start = Instant::now();
        let accepted = bool::from(freivalds::accepts(secrets, &x, &y));
        spent += start.elapsed();
        debug_assert!(accepted, "zero times anything is zero");
    }
    spent.as_secs_f64() * 1000.0 * padded as f64 / rows as f64
}
