//! Queries as jobs: running, cancelling, settling.

use std::rc::Rc;

use futures::future::Abortable;
use nesa_light::{
    QueryOutcome,
    query::{Until, report::Listener},
    search::SearchPlan,
};
use nesa_messages::{
    ActivityKind, JobId, JobOptions, JobPhase, JobState, JobView, Lane, Passage, Problem, Step,
    Task, TaskKind,
};
use nesa_platform::time;

use crate::{
    app::{App, Chain},
    chat,
    conversations::called,
    digits, float,
    problem::{Shown as _, not_ready},
    progress::life,
    quote::{documents, options},
    sealed, view,
};

impl App {
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
                        chat::stop_as(view);
                    })
                    .await;
                }
                Err(_) => app.cancelled(id).await,
            }
            app.end_chat(id).await;
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

    async fn cancelled(self: &Rc<Self>, id: JobId) {
        self.change_job(id, |view| {
            // After the answer there is nothing left to stop but the wait for the payment.
            if view.state == JobState::Running {
                view.state = JobState::Cancelled;
                chat::stop_as(view);
                life(view, "stopped by you; what was not spent returns at the deadline", None);
            }
        })
        .await;
        self.follow_open();
    }

    async fn job(
        self: Rc<Self>,
        id: JobId,
        task: Task,
        choices: JobOptions,
    ) -> Result<(), Problem> {
        let titles = match &task {
            Task::Search { documents, .. } => documents.iter().map(|d| d.title.clone()).collect(),
            _ => Vec::new(),
        };
        let lane = sealed::lane(&task);
        let mut ladder = Step::ladder_of(lane.lane);
        if let Some(bottom) = ladder.last_mut() {
            *bottom = view::page_code(&self.origin.borrow(), &self.build.borrow());
        }
        let mut view = JobView {
            id,
            kind: task.kind(),
            started_ms: time::now_ms() as f64,
            question: called(&task),
            documents: titles,
            lane: lane.lane.name().to_owned(),
            verification: sealed::verification(lane.lane).to_owned(),
            sealed: (lane.lane == Lane::Sealed).then(|| sealed::begun(&lane)),
            attempts: 1,
            ladder,
            ..JobView::default()
        };
        if let Task::Chat { messages, sampling, conversation, model, .. } = &task {
            view.messages = messages.clone();
            view.sampling = Some(chat::drawn(sampling));
            view.conversation = *conversation;
            view.model = model.clone();
        }
        if let Task::Digit { model, .. }
        | Task::Float { model, .. }
        | Task::Classify { model, .. } = &task
        {
            view.model = model.clone();
        }
        if let Task::Float { model, inputs, replicas } = &task {
            view.question = format!("A run of {}", self.name_of(model));
            view.float = Some(float::begun(*replicas, inputs));
        }
        self.views.borrow_mut().insert(id, view.clone());
        self.keep_job(&view).await;
        self.begin_turn(id, &task).await;
        self.send_history().await;
        self.send_job(id);

        let chain = self.chain().ok_or_else(not_ready)?;
        match &task {
            Task::Search { .. } | Task::Embed { .. } => {}
            Task::Chat { .. } if lane.lane == Lane::Sealed => {
                return self.sealed_job(&chain, id, &task, &choices).await;
            }
            Task::Float { .. } => return self.float_job(&chain, id, &task, &choices).await,
            Task::Chat { .. } | Task::Digit { .. } | Task::Classify { .. } => {
                let (mut outcome, listener) = match task.kind() {
                    TaskKind::Chat => self.chat_job(&chain, id, &task, &choices).await?,
                    _ => self.classify_job(&chain, id, &task, &choices).await?,
                };
                self.answered(id, &task, &outcome, Vec::new()).await;
                self.settle_job(&chain, id, &mut outcome, &listener).await;
                return Ok(());
            }
        }
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
                    _ => Vec::new(),
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
        let ready = |model: &String| self.ready_model(model).ok().flatten();
        let digit = match task {
            Task::Digit { model, image } => digits::found(outcome, image, ready(model).as_ref()),
            _ => None,
        };
        let classified = match task {
            Task::Classify { model, .. } => digits::labelled(outcome, ready(model).as_ref()),
            _ => None,
        };
        self.change_job(id, |view| {
            view.state = JobState::Answered;
            view.progress.phase = JobPhase::Settling;
            view.passages = passages;
            if matches!(task, Task::Embed { .. }) {
                view.vectors = outcome.answer.vectors().iter().map(|v| v.to_f32()).collect();
            }
            if let Some(text) = outcome.answer.text() {
                chat::whole(view, text);
            }
            view.digit = digit;
            view.classified = classified;
            view.attempts = outcome.attempts;
            view.timings = Some(view::timings(&outcome.timings));
            view.cost = Some(view::cost(&outcome.cost));
            view.progress.bytes_up = outcome.bytes.up();
            view.progress.bytes_down = outcome.bytes.down();
            view.has_opening = opened.is_some() && kept.is_ok();
            life(view, "answer checked and shown", None);
        })
        .await;
        // The conversation has its answer before the chain has its payment.
        self.end_chat(id).await;
        self.send_history().await;
        self.refresh_wallet().await;
    }

    /// Waits for the payment. Its failure leaves the answer as it is, with the last rung pending.
    async fn settle_job(
        self: &Rc<Self>,
        chain: &Chain,
        id: JobId,
        outcome: &mut QueryOutcome,
        listener: &Listener,
    ) {
        match chain.queries.settle(outcome, Until::Paid, listener).await {
            Ok(()) => {
                let payment = outcome.receipt.as_ref().and_then(|r| r.to_json().ok());
                let kept = self.keep_receipts(id, payment.as_deref(), None).await;
                self.change_job(id, |view| {
                    view.progress.phase = JobPhase::Finished;
                    view.has_payment_receipt = payment.is_some() && kept.is_ok();
                    view.timings = Some(view::timings(&outcome.timings));
                    view.cost = Some(view::cost(&outcome.cost));
                    let settled = outcome.cost.returned.is_some();
                    life(view, if settled { "settled" } else { "both nodes paid" }, None);
                })
                .await;
                match outcome.cost.returned {
                    Some(returned) => {
                        let what = "Back from a query".to_owned();
                        let change = returned.to_string();
                        self.note(outcome.query, ActivityKind::Refund, what, change, None).await;
                    }
                    None => self.clone().follow_escrow(outcome.cost.returns_ms),
                }
            }
            Err(error) => {
                let problem = error.problem();
                self.change_job(id, |view| {
                    life(view, &format!("payment not proven yet: {}", problem.what), None);
                })
                .await;
            }
        }
    }
}
