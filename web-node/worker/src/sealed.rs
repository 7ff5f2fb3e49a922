//! Chats of the sealed lane: asked, compared while the nodes answer, and followed until their traces
//! are published and the escrow has ended, over reloads too.

pub(crate) mod show;

use std::{rc::Rc, sync::Arc, time::Duration};

use nesa_light::{
    QueryError,
    sealed::{
        Looked, SealedError, SealedEvent, SealedListener, SealedOptions, SealedOutcome,
        SealedQueryError, Standing as LightStanding,
    },
};
use nesa_messages::{
    ActivityKind, ChatSampling, FromWorker, JobId, JobOptions, JobPhase, JobState, JobView, Lane,
    LaneChoice, Problem, SealedReplaced, SealedView, StepId, StopReason, Task, Timings, Unes,
    WrittenView,
};
use nesa_platform::time::{self, Instant};
use nesa_primitives::{Amount, Hash};
use nesa_sealed::client::RelayError;
use serde_json::json;

use crate::{
    app::{App, Chain},
    chat::{self, Pace, Writer},
    problem::{Shown, not_ready},
    progress::life,
    view,
};
use show::{
    agreed, disagree, disputed, is_open, known, money, nodes, paid, rung, traces, verified,
};

/// How often the chain is looked at while traces or the end of an escrow are awaited.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// A settlement that does not come is given up on, ms after it was due.
const GIVE_UP_MS: u64 = 60_000;

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

    /// Follows a query of the sealed or the float lane beside everything else.
    pub(crate) fn follow_later(self: &Rc<Self>, id: JobId) {
        if self.following.borrow_mut().insert(id) {
            Self::run(self, move |app| async move {
                let float = app.views.borrow().get(&id).is_some_and(|view| view.float.is_some());
                if float {
                    app.follow_float(id).await;
                } else {
                    app.follow_sealed(id).await;
                }
                app.following.borrow_mut().remove(&id);
                app.send_history().await;
                app.refresh_wallet().await;
            });
        }
    }

    /// Takes up every query of an earlier visit whose traces, answers or settlement are still to come.
    pub(crate) fn follow_open(self: &Rc<Self>) {
        let open: Vec<JobId> = {
            let running = self.running.borrow();
            let views = self.views.borrow();
            let open = views.values().filter(|view| is_open(view));
            open.map(|view| view.id).filter(|id| !running.contains_key(id)).collect()
        };
        for id in open {
            self.follow_later(id);
        }
    }

    async fn follow_sealed(&self, id: JobId) {
        loop {
            let asked = self.views.borrow().get(&id).filter(|view| is_open(view)).map(known);
            let Some((Some(query), told, whole)) = asked else { return };
            let Some(chain) = self.chain() else { return };
            match chain.queries.look_at_traces(&query, &told, whole).await {
                Ok(Some(looked)) => {
                    self.take_look(&chain, id, &query, &looked).await;
                    let due = looked.windows.close_ms.saturating_add(GIVE_UP_MS);
                    if time::now_ms() > due {
                        return;
                    }
                }
                // Nobody can be asked just now.
                Ok(None) | Err(QueryError::Chain(_)) => {}
                Err(error) => {
                    let what = error.problem().what;
                    self.change_job(id, |view| life(view, &what, None)).await;
                    return;
                }
            }
            time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks once, for whoever asks to have it checked again.
    pub(crate) async fn recheck_sealed(&self, id: JobId) -> Result<(), Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let asked = self.views.borrow().get(&id).map(known);
        let none = || {
            let what = "There is nothing on the chain to check this text with.";
            Problem::new("no-query", what, "It was not paid for, or comes from a file.")
        };
        let Some((Some(query), told, whole)) = asked else { return Err(none()) };
        let looked = chain.queries.look_at_traces(&query, &told, whole).await;
        let looked = looked.map_err(|error| error.problem())?.ok_or_else(none)?;
        self.take_look(&chain, id, &query, &looked).await;
        let height = Some(looked.height);
        self.change_job(id, |view| life(view, "checked again by this device", height)).await;
        Ok(())
    }

    async fn take_look(&self, chain: &Chain, id: JobId, query: &Hash, looked: &Looked) {
        let bare = self.views.borrow().get(&id).is_some_and(|view| !view.has_payment_receipt);
        let done = if looked.settlement.is_some() && bare {
            self.complete_receipt(chain, id).await
        } else {
            Ok(None)
        };
        let Some(before) = self.views.borrow().get(&id).cloned() else { return };
        let mut after = before.clone();
        let now = time::now_ms();
        traces(&mut after, looked, now);
        // An escrow has ended, here, when its receipt is kept; until then the next look tries again.
        if let Ok(done) = done {
            let Looked { claimed, escrow, windows, settlement, .. } = looked;
            money(&mut after, *claimed, *escrow, windows.close_ms, settlement.as_ref());
            if let Some(done) = done {
                done.show(&mut after);
            }
        }
        let returned = |view: &JobView| view.cost.as_ref().and_then(|cost| cost.returned);
        let ended = returned(&before).is_none() && returned(&after).is_some();
        if after != before {
            self.change_job(id, |view| *view = after).await;
        }
        if let Some(settlement) = looked.settlement.as_ref().filter(|_| ended) {
            let (what, change) = ("Back from a query".to_owned(), settlement.returned.to_string());
            self.note(*query, ActivityKind::Refund, what, change, Some(settlement.height)).await;
        }
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
