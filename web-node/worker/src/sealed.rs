//! Chats of the sealed lane: asked, compared while the nodes answer, and followed until their traces
//! are published and the escrow has ended, over reloads too.

pub(crate) mod show;

use std::{rc::Rc, sync::Arc};

use nesa_light::{
    QueryError,
    sealed::{
        Looked, SealedError, SealedEvent, SealedListener, SealedOptions, SealedOutcome,
        SealedQueryError, Standing as LightStanding,
    },
};
use nesa_messages::{
    ActivityKind, ChatSampling, FromWorker, JobId, JobOptions, JobPhase, JobState, Lane,
    LaneChoice, Problem, SealedReplaced, SealedView, StepId, StopReason, Task, Timings, Unes,
    WrittenView,
};
use nesa_platform::time::{self, Instant};
use nesa_primitives::Amount;
use nesa_sealed::client::RelayError;
use serde_json::json;

use crate::{
    app::{App, Chain},
    chat::{self, Pace, Writer},
    follow::Seen,
    problem::{Shown, not_ready},
    progress::life,
    view,
};
use show::{agreed, disagree, disputed, known, money, nodes, paid, rung, traces, verified};

impl Shown for SealedQueryError {
    fn problem(&self) -> Problem {
        let failed = |code: &str, next: &str| Problem::new(code, format!("{self}."), next);
        match self {
            Self::Query(error) => error.problem(),
            Self::Plan(_) => failed("plan", "Choose fewer shards, or another model."),
            Self::Start(_) => failed("committee", "Choose fewer nodes, or ask something shorter."),
            Self::Nodes(SealedError::Relay(RelayError::Disputed(_))) => disagree(),
            Self::Nodes(SealedError::Relay(RelayError::NoSpare { .. })) => failed(
                "no-node",
                "What was not spent comes back. Ask again: other nodes are drawn.",
            ),
            Self::Nodes(SealedError::Deadline) => {
                failed("deadline", "What was not spent comes back. Ask again.")
            }
        }
    }
}

/// What the page chose, as the query client takes it.
pub(crate) fn options(
    lane: &LaneChoice,
    choices: &JobOptions,
    listener: Arc<dyn SealedListener>,
) -> SealedOptions {
    SealedOptions {
        shards: lane.shards.into(),
        replicas: lane.replicas,
        disclose: lane.disclose,
        max_fee: choices.max_fee.map(|fee| Amount(fee.0)),
        deadline: None,
        // The page shows the text before the chain has the traces.
        answer_only: true,
        listener,
    }
}

/// The lane's part of a view that begins.
pub(crate) fn begun(lane: &LaneChoice) -> SealedView {
    SealedView { replicas: lane.replicas, disclose: lane.disclose, ..SealedView::default() }
}

impl App {
    /// Asks, and shows the text as it comes; then follows its traces.
    pub(crate) async fn sealed_job(
        self: &Rc<Self>,
        chain: &Chain,
        id: JobId,
        task: &Task,
        choices: &JobOptions,
    ) -> Result<(), Problem> {
        let Task::Chat { model, messages, lane, .. } = task else { return Err(not_ready()) };
        let start = Instant::now();
        let wallet = self.open_wallet()?;
        let model = self.offered(chain, model)?;
        let how = self.views.borrow().get(&id).and_then(|view| view.sampling.clone());
        let how = how.unwrap_or_else(|| chat::drawn(&ChatSampling::default()));
        let prompt = chat::prompt(messages, &how)?;
        let listener: Arc<dyn SealedListener> = self.clone().sealed_listener(id, start);
        let options = options(lane, choices, listener);
        let quote = chain.queries.sealed_quote(&model, prompt, &options).await;
        let quote = quote.map_err(|error| error.problem())?;
        let fees = quote.draw_fee.checked_add(quote.tx_fee).unwrap_or_default();
        self.change_job(id, |view| {
            let prompt_tokens = quote.fitted.prompt_tokens as u32;
            view.written = Some(WrittenView { prompt_tokens, ..WrittenView::default() });
            let max_tokens = quote.fitted.prompt.tokens as u32;
            view.sampling = Some(ChatSampling { max_tokens, ..how });
            view.progress.phase = JobPhase::Escrowing;
            let sealed = view.sealed.get_or_insert_with(|| begun(lane));
            let layers = (0..quote.plan.len()).filter_map(|shard| quote.plan.layers(shard));
            sealed.shards = layers.map(|l| (l.start as u32, l.end as u32)).collect();
            view.cost.get_or_insert_default().fees = Unes(fees.0);
        })
        .await;
        let written =
            chain.queries.write_sealed(&model, wallet.key(), &quote.fitted.prompt, &options).await;
        match written {
            Ok(outcome) => {
                let problem = self.sealed_answered(id, &outcome, start).await;
                self.follow_later(id);
                problem.map_or(Ok(()), Err)
            }
            Err(error) => {
                if let SealedQueryError::Nodes(SealedError::Relay(RelayError::Disputed(dispute))) =
                    &error
                {
                    self.change_job(id, |view| disputed(view, Some(dispute))).await;
                }
                self.follow_later(id);
                Err(error.problem())
            }
        }
    }

    fn sealed_listener(self: Rc<Self>, id: JobId, start: Instant) -> Arc<dyn SealedListener> {
        let pace = Pace::new(start);
        let writer = Rc::new(Writer::default());
        Arc::new(move |event: SealedEvent| self.heard(id, &pace, &writer, event))
    }

    /// Takes what a running query tells.
    fn heard(self: &Rc<Self>, id: JobId, pace: &Pace, writer: &Rc<Writer>, event: SealedEvent) {
        // What is written streams by itself, a few times a second; everything else changes the view.
        let (mut streams, mut streamed) = (false, None);
        {
            let mut views = self.views.borrow_mut();
            let Some(view) = views.get_mut(&id) else { return };
            view.progress.elapsed_ms = pace.elapsed_ms();
            match event {
                SealedEvent::Paid { query, escrow } => {
                    paid(view, &query, escrow);
                    let app = self.clone();
                    let what = format!("Escrow of query {}…", view::short(&query));
                    wasm_bindgen_futures::spawn_local(async move {
                        let change = format!("-{escrow}");
                        app.note(query, ActivityKind::Escrow, what, change, None).await;
                    });
                }
                SealedEvent::Drawn { view: drawn, seats } => {
                    let count: usize = seats.iter().map(Vec::len).sum();
                    let named: Vec<Vec<_>> = seats
                        .iter()
                        .map(|seats| seats.iter().map(|seat| seat.node.to_string()).collect())
                        .collect();
                    let detail = format!("{count} candidates, spares included");
                    let evidence = json!({ "draw_view": drawn, "candidates": named });
                    rung(view, verified(StepId::ShardsDrawn, "the chain", detail, evidence));
                    life(view, "nodes drawn for every shard", None);
                    view.progress.phase = JobPhase::Connecting;
                }
                SealedEvent::Receipt(draft) => {
                    let app = self.clone();
                    wasm_bindgen_futures::spawn_local(async move {
                        if let Ok(json) = draft.to_json() {
                            app.keep_draft_receipt(id, &json).await;
                        }
                    });
                    return;
                }
                SealedEvent::Token(_) | SealedEvent::Text(_) | SealedEvent::Agreed(_) => {
                    view.progress.phase = JobPhase::Computing;
                    let written = view.written.get_or_insert_default();
                    match event {
                        SealedEvent::Text(piece) => {
                            written.text.push_str(&piece);
                            self.keep_written(id, writer.clone());
                        }
                        SealedEvent::Agreed(tokens) => written.agreed = tokens as u32,
                        _ => written.tokens += 1,
                    }
                    streams = true;
                    streamed = pace.due(written).then(|| written.clone());
                }
                SealedEvent::Replaced { link, candidate, reason } => {
                    let tokens = view.written.as_ref().map_or(0, |written| written.tokens);
                    let at = u32::from(link.shard) + 1;
                    life(view, &format!("a node of shard {at} was replaced: {reason}"), None);
                    view.sealed.get_or_insert_default().replaced.push(SealedReplaced {
                        shard: link.shard,
                        node: candidate.node.to_string(),
                        operator: candidate.operator.to_string(),
                        reason,
                        tokens,
                    });
                }
            }
        }
        match streamed {
            Some(written) => self.port.send(&FromWorker::Written { job: id, written }),
            None if streams => {}
            None => self.send_job(id),
        }
    }

    /// Shows the whole text. `Some` when nodes disagree about it.
    async fn sealed_answered(
        self: &Rc<Self>,
        id: JobId,
        outcome: &SealedOutcome,
        start: Instant,
    ) -> Option<Problem> {
        let transcript = &outcome.transcript;
        self.change_job(id, |view| {
            let written = view.written.get_or_insert_default();
            written.text.clone_from(&outcome.text);
            written.tokens = transcript.tokens.len() as u32;
            written.agreed = transcript.agreed as u32;
            let sealed = view.sealed.get_or_insert_default();
            sealed.expected = u32::from(sealed.replicas) * sealed.shards.len() as u32;
            sealed.nodes = nodes(outcome);
            let cost = view.cost.get_or_insert_default();
            cost.held = Unes(outcome.escrowed.0);
            view.progress.bytes_up = outcome.timings.bytes_up;
            view.progress.bytes_down = outcome.timings.bytes_down;
            let total_ms = start.elapsed().as_secs_f64() * 1000.0;
            view.timings = Some(Timings {
                total_ms,
                network_ms: outcome.timings.total_ms,
                chain_ms: (total_ms - outcome.timings.total_ms).max(0.0),
                ..Timings::default()
            });
        })
        .await;
        if !matches!(outcome.standing, LightStanding::Agreed { .. }) || !outcome.is_whole() {
            self.change_job(id, |view| disputed(view, transcript.dispute.as_ref())).await;
            return Some(disagree());
        }
        self.change_job(id, |view| {
            let written = view.written.get_or_insert_default();
            written.stop =
                Some(if transcript.ended { StopReason::End } else { StopReason::Length });
            view.state = JobState::Answered;
            view.progress.phase = JobPhase::Settling;
            agreed(view, outcome);
            life(view, "all nodes agree; their traces are awaited", None);
        })
        .await;
        self.end_chat(id).await;
        self.send_history().await;
        self.refresh_wallet().await;
        None
    }

    /// Shows the traces and the money of a query as the chain has them now.
    pub(crate) async fn look_at_sealed(&self, id: JobId) -> Result<Option<Seen>, QueryError> {
        let asked = self.views.borrow().get(&id).map(known);
        let Some(((Some(query), told, whole), chain)) = asked.zip(self.chain()) else {
            return Ok(None);
        };
        let looked = chain.queries.look_at_traces(&query, &told, whole).await?;
        let Some(looked) = looked else { return Ok(None) };
        let bare = self.views.borrow().get(&id).is_some_and(|view| !view.has_payment_receipt);
        let done = if looked.settlement.is_some() && bare {
            self.complete_receipt(&chain, id).await
        } else {
            Ok(None)
        };
        let Looked { claimed, escrow, windows, settlement, height, .. } = &looked;
        let seen = Seen { height: *height, close_ms: windows.close_ms };
        let Some(before) = self.views.borrow().get(&id).cloned() else { return Ok(Some(seen)) };
        let mut after = before.clone();
        traces(&mut after, &looked, time::now_ms());
        // An escrow has ended, here, when its receipt is kept; until then the next look tries again.
        if let Ok(done) = done {
            money(&mut after, *claimed, *escrow, windows.close_ms, settlement.as_ref());
            if let Some(done) = done {
                done.show(&mut after);
            }
        }
        self.take_look(&query, before, after, settlement.as_ref()).await;
        Ok(Some(seen))
    }
}

/// The lane of a task.
pub(crate) fn lane(task: &Task) -> LaneChoice {
    match task {
        // A chat is of the masked or the sealed lane, whatever a page says.
        Task::Chat { lane, .. } if lane.lane != Lane::Float => *lane,
        Task::Float { replicas, .. } => {
            LaneChoice { lane: Lane::Float, replicas: *replicas, ..LaneChoice::default() }
        }
        _ => LaneChoice::default(),
    }
}

/// What is said of who checks what in a lane.
pub(crate) const fn verification(lane: Lane) -> &'static str {
    match lane {
        Lane::Masked => "freivalds",
        Lane::Sealed => "committee",
        Lane::Float => "statistical",
    }
}
