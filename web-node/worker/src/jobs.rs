//! Queries as jobs: quoting, running, cancelling, checking again.

use std::rc::Rc;

use futures::future::Abortable;
use nesa_chain::{action::Named, keys, record::NodeSet};
use nesa_light::{
    QueryOptions, QueryOutcome,
    query::report::{Listener, Progress as LightProgress},
    search::{Document as LightDocument, SearchPlan},
};
use nesa_messages::{
    ActivityKind, FromWorker, JobId, JobOptions, JobPhase, JobState, JobView, LifeEvent, Passage,
    Problem, Progress, Quote, RequestId, Side, Step, StepState, Task, Unes,
};
use nesa_platform::time::{self, Instant};
use nesa_primitives::{Address, Amount, Denom};
use nesa_verify::receipt::PaymentReceipt;

use crate::{
    app::{App, Chain},
    problem::{Shown as _, not_ready},
    view,
};

/// Linear stages per encoder layer: the page counts layers.
const STAGES_PER_LAYER: u32 = 4;
/// A progress message at most this often, in milliseconds.
const PROGRESS_EVERY_MS: f64 = 120.0;

fn options(options: &JobOptions, listener: Listener) -> Result<QueryOptions, Problem> {
    let named = options
        .named
        .as_ref()
        .map(|named| {
            let node: Address = named.node.parse().map_err(|_| {
                Problem::new("bad-node", "The named node is not a node key.", "Choose it again.")
            })?;
            let side = match named.side {
                Side::A => nesa_chain::Side::A,
                Side::B => nesa_chain::Side::B,
            };
            Ok(Named { side, node })
        })
        .transpose()?;
    Ok(QueryOptions {
        named,
        open_receipt: options.keep_opening,
        max_fee: options.max_fee.map(|fee| Amount(fee.0)),
        listener,
        answer_only: true,
        ..QueryOptions::default()
    })
}

fn documents(task: &Task) -> Option<(Vec<LightDocument>, String)> {
    match task {
        Task::Search { documents, question } => Some((
            documents
                .iter()
                .map(|d| LightDocument { title: d.title.clone(), text: d.text.clone() })
                .collect(),
            question.clone(),
        )),
        Task::Embed { .. } => None,
    }
}

impl App {
    pub(crate) async fn quote(self: Rc<Self>, request: RequestId, task: Task, choices: JobOptions) {
        match self.price(request, &task, &choices).await {
            Ok(quote) => self.port.send(&FromWorker::Quote { quote }),
            Err(problem) => self.port.fail(Some(request), None, problem),
        }
    }

    async fn price(
        &self,
        request: RequestId,
        task: &Task,
        choices: &JobOptions,
    ) -> Result<Quote, Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let prepared = self.prepared().ok_or_else(not_ready)?;
        let options = options(choices, Listener::none())?;
        let (quote, texts, passages, cached) = match documents(task) {
            Some((documents, question)) => {
                let plan = SearchPlan::new(&prepared, &chain.cache, &documents, &question)
                    .await
                    .map_err(|e| e.problem())?;
                let quote = chain
                    .queries
                    .search_quote(&prepared, &plan, &options)
                    .await
                    .map_err(|e| e.problem())?;
                (quote, plan.texts().to_vec(), plan.passages(), plan.cached())
            }
            None => {
                let Task::Embed { texts } = task else { return Err(not_ready()) };
                let quote = chain
                    .queries
                    .quote(&prepared, texts, &options)
                    .await
                    .map_err(|e| e.problem())?;
                (quote, texts.clone(), texts.len(), 0)
            }
        };
        let (set, _) = chain
            .light
            .record::<NodeSet>(keys::nodes(), "nodes", 0)
            .await
            .map_err(|e| e.problem())?;
        let set = set.unwrap_or_default();
        let model = prepared.model.digest();
        let fees = Amount(quote.draw_fee.0.saturating_add(quote.tx_fee.0));
        let needed = quote.max_fee.checked_add(fees).unwrap_or(quote.max_fee);
        let address = self.wallet.borrow().as_ref().map(|wallet| wallet.address());
        let affordable = match address {
            Some(address) => {
                let account =
                    chain.accounts.account(&address).await.map_err(|e| e.problem())?.account;
                account.balance(Denom::NES) >= needed
            }
            None => false,
        };
        Ok(Quote {
            request,
            passages: passages as u32,
            cached: cached as u32,
            padded_tokens: quote.padded_tokens as u32,
            truncated: quote.truncated.iter().filter_map(|i| texts.get(*i).cloned()).collect(),
            bytes_up: quote.bytes_up,
            bytes_down: quote.bytes_down,
            round_trips: (quote.stages * quote.passes.len()) as u32,
            compute: Unes(quote.compute.0),
            draw_fee: Unes(quote.draw_fee.0),
            tx_fee: Unes(quote.tx_fee.0),
            max_fee: Unes(quote.max_fee.0),
            affordable,
            candidates: set.serving(&model).count() as u32,
            collusion: Some(view::collusion(set.serving(&model))),
        })
    }

    /// Starts a job. The page has shown it already.
    pub(crate) fn run_job(self: &Rc<Self>, id: JobId, task: Task, choices: JobOptions) {
        if self.running.borrow().contains_key(&id) {
            return;
        }
        let (handle, registration) = futures::future::AbortHandle::new_pair();
        self.running.borrow_mut().insert(id, handle);
        Self::run(self, |app| async move {
            let work = Abortable::new(app.clone().job(id, task, choices), registration);
            let ended = work.await;
            app.running.borrow_mut().remove(&id);
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => {
                    app.change_job(id, |view| {
                        view.state = JobState::Failed;
                        view.problem = Some(problem);
                    })
                    .await;
                }
                Err(_) => app.cancelled(id).await,
            }
            app.send_history().await;
            app.refresh_wallet().await;
        });
    }

    /// Stops a running job at its next await; its links close, its masks are gone.
    pub(crate) fn cancel(&self, job: JobId) {
        if let Some(handle) = self.running.borrow().get(&job) {
            handle.abort();
        }
    }

    async fn cancelled(&self, id: JobId) {
        self.change_job(id, |view| {
            // After the answer there is nothing left to stop but the wait for settlement.
            if view.state == JobState::Running {
                view.state = JobState::Cancelled;
                life(view, "stopped by you; what was not spent returns at the deadline", None);
            }
        })
        .await;
    }

    async fn job(
        self: Rc<Self>,
        id: JobId,
        task: Task,
        choices: JobOptions,
    ) -> Result<(), Problem> {
        let question = match &task {
            Task::Search { question, .. } => question.clone(),
            Task::Embed { texts } => texts.first().cloned().unwrap_or_default(),
        };
        let titles = match &task {
            Task::Search { documents, .. } => documents.iter().map(|d| d.title.clone()).collect(),
            Task::Embed { .. } => Vec::new(),
        };
        let mut ladder = Step::ladder();
        if let Some(bottom) = ladder.last_mut() {
            *bottom = view::page_code(&self.origin.borrow(), &self.build.borrow());
        }
        let view = JobView {
            id,
            started_ms: time::now_ms() as f64,
            question,
            documents: titles,
            lane: "masked".to_owned(),
            verification: "freivalds".to_owned(),
            attempts: 1,
            ladder,
            ..JobView::default()
        };
        self.views.borrow_mut().insert(id, view.clone());
        self.keep_job(&view).await;
        self.send_history().await;
        self.send_job(id);

        let chain = self.chain().ok_or_else(not_ready)?;
        let prepared = self.prepared().ok_or_else(not_ready)?;
        let wallet = self.open_wallet()?;
        let digest = prepared.model.digest().to_string();
        self.views.borrow_mut().entry(id).and_modify(|view| view.model = digest);
        let listener = self.clone().listener(id, prepared.lane.stages().len() as u32);
        let options = options(&choices, listener.clone())?;

        let (mut outcome, passages) = match documents(&task) {
            Some((docs, question)) => {
                let plan = SearchPlan::new(&prepared, &chain.cache, &docs, &question)
                    .await
                    .map_err(|e| e.problem())?;
                let ids: Vec<String> = match &task {
                    Task::Search { documents, .. } => {
                        documents.iter().map(|d| d.id.clone()).collect()
                    }
                    Task::Embed { .. } => Vec::new(),
                };
                let found = chain
                    .queries
                    .search(&prepared, wallet.key(), &chain.cache, plan, &options)
                    .await
                    .map_err(|e| e.problem())?;
                let passages = found
                    .ranked
                    .into_iter()
                    .map(|ranked| Passage {
                        rank: ranked.rank as u32,
                        document: ids.get(ranked.document).cloned().unwrap_or_default(),
                        title: ranked.title,
                        text: ranked.text,
                        score: ranked.score,
                        cached: ranked.cached,
                    })
                    .collect();
                (found.query, passages)
            }
            None => {
                let Task::Embed { texts } = &task else { return Err(not_ready()) };
                let outcome = chain
                    .queries
                    .embed(&prepared, wallet.key(), texts, &options)
                    .await
                    .map_err(|e| e.problem())?;
                (outcome, Vec::new())
            }
        };
        self.answered(id, &task, &outcome, passages).await;
        self.settle_job(&chain, id, &mut outcome, &listener).await;
        Ok(())
    }

    /// Shows the checked answer; settlement is still to come.
    async fn answered(
        &self,
        id: JobId,
        task: &Task,
        outcome: &QueryOutcome,
        passages: Vec<Passage>,
    ) {
        if let Some(draft) = outcome.pending.as_ref().and_then(|p| p.draft().to_json().ok()) {
            self.keep_draft_receipt(id, &draft).await;
        }
        let opened = outcome.opened.as_ref().and_then(|opened| opened.to_json().ok());
        let kept = self.keep_receipts(id, None, opened.as_deref()).await;
        self.change_job(id, |view| {
            view.state = JobState::Answered;
            view.progress.phase = JobPhase::Settling;
            view.passages = passages;
            if matches!(task, Task::Embed { .. }) {
                view.vectors = outcome.answer.vectors.iter().map(|v| v.to_f32()).collect();
            }
            view.attempts = outcome.attempts;
            view.timings = Some(view::timings(&outcome.timings));
            view.cost = Some(view::cost(&outcome.cost));
            view.progress.bytes_up = outcome.bytes.up();
            view.progress.bytes_down = outcome.bytes.down();
            view.has_opening = opened.is_some() && kept.is_ok();
            life(view, "answer checked and shown", None);
        })
        .await;
        self.send_history().await;
        self.refresh_wallet().await;
    }

    /// Waits for settlement. Its failure leaves the answer as it is, with the last rung pending.
    async fn settle_job(
        &self,
        chain: &Chain,
        id: JobId,
        outcome: &mut QueryOutcome,
        listener: &Listener,
    ) {
        match chain.queries.settle(outcome, listener).await {
            Ok(()) => {
                let payment = outcome.receipt.as_ref().and_then(|r| r.to_json().ok());
                let kept = self.keep_receipts(id, payment.as_deref(), None).await;
                self.change_job(id, |view| {
                    view.progress.phase = JobPhase::Finished;
                    view.has_payment_receipt = payment.is_some() && kept.is_ok();
                    view.timings = Some(view::timings(&outcome.timings));
                    view.cost = Some(view::cost(&outcome.cost));
                    life(view, "settled", None);
                })
                .await;
                if let Some(returned) = outcome.cost.returned {
                    let what = "Back from a query".to_owned();
                    let change = returned.to_string();
                    self.note(outcome.query, ActivityKind::Refund, what, change, None).await;
                }
            }
            Err(error) => {
                let problem = error.problem();
                self.change_job(id, |view| {
                    life(view, &format!("settlement not proven yet: {}", problem.what), None);
                })
                .await;
            }
        }
    }

    /// Turns the query's progress into the job's view.
    fn listener(self: Rc<Self>, id: JobId, stages: u32) -> Listener {
        let start = Instant::now();
        let last = std::cell::Cell::new(f64::NEG_INFINITY);
        Listener::new(move |event: LightProgress| {
            let elapsed_ms = start.elapsed().as_secs_f64() * 1000.0;
            let app = self.clone();
            let mut small = false;
            {
                let mut views = app.views.borrow_mut();
                let Some(view) = views.get_mut(&id) else { return };
                view.progress.elapsed_ms = elapsed_ms;
                match event {
                    LightProgress::Phase(phase) => view.progress.phase = view::phase(phase),
                    LightProgress::Quote(quote) => {
                        view.progress.passes = quote.passes.len() as u32;
                        view.progress.stages = stages;
                        view.progress.layers = stages.div_ceil(STAGES_PER_LAYER);
                    }
                    LightProgress::Paid { query, max_fee } => {
                        view.query = Some(query.to_string());
                        life(view, "payment signed and sent", None);
                        let app = app.clone();
                        let what = format!("Escrow of query {}…", view::short(&query));
                        wasm_bindgen_futures::spawn_local(async move {
                            let change = format!("-{max_fee}");
                            app.note(query, ActivityKind::Escrow, what, change, None).await;
                        });
                    }
                    LightProgress::Nodes { attempt, nodes } => {
                        view.attempts = attempt;
                        view.nodes = nodes.iter().map(view::node).collect();
                        life(view, "two nodes drawn", None);
                    }
                    LightProgress::Stage(stage) => {
                        view.progress = Progress {
                            phase: JobPhase::Computing,
                            pass: stage.pass as u32,
                            passes: stage.passes as u32,
                            stage: stage.stage as u32,
                            stages: stage.stages as u32,
                            layer: (stage.stage as u32).div_ceil(STAGES_PER_LAYER).max(1),
                            layers: (stage.stages as u32).div_ceil(STAGES_PER_LAYER),
                            bytes_up: stage.bytes_up,
                            bytes_down: stage.bytes_down,
                            elapsed_ms,
                        };
                        small = true;
                    }
                    LightProgress::Rejected(rejected) => {
                        view.caught.push(view::caught(&rejected));
                        life(view, &format!("a node was replaced: {}", rejected.reason), None);
                    }
                    LightProgress::Step(step) => {
                        let step = view::step(&step);
                        if let Some(slot) = view.ladder.iter_mut().find(|s| s.id == step.id) {
                            *slot = step;
                        }
                    }
                    LightProgress::Answer(_) => {}
                    LightProgress::Note { what, height } => life(view, &what, height),
                }
            }
            if small {
                if elapsed_ms - last.get() < PROGRESS_EVERY_MS {
                    return;
                }
                last.set(elapsed_ms);
                let progress = app.views.borrow().get(&id).map(|view| view.progress.clone());
                if let Some(progress) = progress {
                    app.port.send(&FromWorker::Progress { job: id, progress });
                }
                return;
            }
            app.send_job(id);
            let kept = app.views.borrow().get(&id).cloned();
            if let Some(view) = kept {
                wasm_bindgen_futures::spawn_local(async move { app.keep_job(&view).await });
            }
        })
    }

    /// Checks everything stored about a job again, from the stored bytes and a fresh state proof.
    pub(crate) async fn recheck(self: Rc<Self>, job: JobId) {
        match self.check_again(job).await {
            Ok(()) => {}
            Err(problem) => self.port.fail(None, Some(job), problem),
        }
        self.send_job(job);
    }

    async fn check_again(&self, job: JobId) -> Result<(), Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let bytes = self.payment_receipt(job).await.ok_or_else(|| {
            Problem::new(
                "no-receipt",
                "There is nothing to check again yet.",
                "The receipt exists once the chain has settled the query.",
            )
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let receipt = PaymentReceipt::from_json(&text).map_err(|error| {
            Problem::new("bad-receipt", format!("{error}."), "It was altered on this device.")
        })?;
        let start = Instant::now();
        let verdict = nesa_verify::receipt::verify(
            &receipt,
            chain.light.trust(),
            &mut nesa_platform::random::rng(),
        );
        let checked_ms = start.elapsed().as_secs_f64() * 1000.0;
        let now = chain.queries.recheck(&receipt).await.map_err(|e| e.problem())?;
        let failure = match (verdict, now) {
            (Err(failure), _) => Some((failure.what, failure.got, failure.expected)),
            (Ok(_), nesa_primitives::Verdict::Invalid { what, got, expected }) => {
                Some((what.to_owned(), got, expected))
            }
            (Ok(_), _) => None,
        };
        self.change_job(job, |view| {
            for step in &mut view.ladder {
                use nesa_messages::StepId::{
                    CommitteeDerived, HeaderFinal, RequestEscrowed, Settled,
                };
                if !matches!(step.id, RequestEscrowed | HeaderFinal | CommitteeDerived | Settled) {
                    continue;
                }
                match &failure {
                    None => {
                        step.state = StepState::Verified;
                        step.checked_ms = Some(checked_ms / 4.0);
                    }
                    Some((what, got, expected)) => {
                        step.state = StepState::Failed;
                        step.detail = what.clone();
                        step.got = Some(got.clone());
                        step.expected = Some(expected.clone());
                    }
                }
            }
            life(view, "checked again by this device", Some(chain.light.height()));
        })
        .await;
        Ok(())
    }
}

/// Adds a moment to a query's life.
fn life(view: &mut JobView, what: &str, height: Option<u64>) {
    let at_ms = (time::now_ms() as f64 - view.started_ms).max(0.0);
    view.life.push(LifeEvent { at_ms, what: what.to_owned(), height });
}
