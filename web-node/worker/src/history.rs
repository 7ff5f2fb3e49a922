//! What is kept of jobs: sealed, since it contains questions and passages.

use std::{rc::Rc, time::Duration};

use futures::future::join_all;
use nesa_chain::query::{QueryRecord, Settlement};
use nesa_light::query::journal::Journal;
use nesa_messages::{
    ActivityKind, Cost, Draft, FromWorker, HistoryItem, JobId, JobState, JobView, LifeEvent,
    Problem, StepId, StepState, TaskKind, Unes,
};
use nesa_platform::{
    storage::StorageError,
    time::{self, Instant},
};
use nesa_primitives::Hash;
use nesa_verify::receipt::{Failure, PaymentReceipt, PaymentSummary, Report};

use crate::{
    app::{App, Chain},
    problem::Shown as _,
};

const JOBS: &str = "jobs";
const RECEIPTS: &str = "receipts";
const OPENED: &str = "opened";
const UNSETTLED: &str = "unsettled";
const DRAFTS: &str = "drafts";

/// The settlement of a query is in a block this long after its deadline, mostly.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// How often it is looked for.
const SETTLED_LOOKS: u32 = 20;

/// A receipt that could not be completed now: the chain has not settled the query, or cannot be asked.
pub(crate) struct Unfinished;

/// A completed payment receipt, checked here.
pub(crate) struct Completed {
    /// The query's settled record.
    pub(crate) record: QueryRecord,
    verdict: Result<Report<PaymentSummary>, Failure>,
    checked_ms: f64,
}

impl Completed {
    /// Shows what the check found.
    pub(crate) fn show(&self, view: &mut JobView) {
        view.has_payment_receipt = self.verdict.is_ok();
        let step = view.ladder.iter_mut().find(|step| step.id == StepId::Settled);
        let Some(step) = step else { return };
        match &self.verdict {
            Ok(report) => {
                step.state = StepState::Verified;
                step.checked_ms = Some(self.checked_ms);
                step.who = "the chain".to_owned();
                step.detail = report.checks.last().map_or_else(String::new, |c| c.what.clone());
                step.evidence = serde_json::to_value(&report.summary).unwrap_or_default();
            }
            Err(failure) => {
                step.state = StepState::Failed;
                step.detail = failure.what.clone();
                step.got = Some(failure.got.clone());
                step.expected = Some(failure.expected.clone());
            }
        }
    }
}

/// Whether the whole escrow of a job is accounted for.
fn returned(view: &JobView) -> bool {
    view.cost.as_ref().is_some_and(|cost| cost.returned.is_some())
}

/// The end of an escrow.
fn ended(cost: &mut Cost, settlement: &Settlement) {
    cost.burned = Unes(settlement.burned.0);
    cost.returned = Some(Unes(settlement.returned.0));
    cost.held = Unes(0);
}

impl App {
    /// Reads every job, marks those interrupted that were running, and sends history and draft.
    pub(crate) async fn load_history(&self) {
        let store = self.store();
        let keys = store.list(JOBS).await.unwrap_or_default();
        let jobs = join_all(keys.iter().map(|key| store.get_secret(JOBS, key))).await;
        for bytes in jobs {
            let Ok(Some(bytes)) = bytes else { continue };
            let Ok(mut view) = serde_json::from_slice::<JobView>(&bytes) else { continue };
            if view.state == JobState::Running {
                view.state = JobState::Interrupted;
                view.problem = Some(Problem::new(
                    "interrupted",
                    "The page went away in the middle of this query.",
                    "Nothing is sent again under old masks. What was not spent returns at the deadline.",
                ));
                self.restore_written(&mut view).await;
                self.keep_job(&view).await;
                self.end_turn(&view).await;
            }
            self.views.borrow_mut().insert(view.id, view);
        }
        self.send_history().await;
        if let Ok(Some(bytes)) = store.get_secret(DRAFTS, "draft").await
            && let Ok(draft) = serde_json::from_slice::<Draft>(&bytes)
        {
            self.port.send(&FromWorker::Draft { draft });
        }
    }

    pub(crate) async fn send_history(&self) {
        let items = self
            .views
            .borrow()
            .values()
            .rev()
            .map(|view| HistoryItem {
                id: view.id,
                kind: view.kind,
                conversation: view.conversation,
                started_ms: view.started_ms,
                question: view.question.clone(),
                documents: view.documents.len() as u32,
                state: view.state,
                all_verified: !view.ladder.is_empty()
                    && view
                        .ladder
                        .iter()
                        .filter(|step| step.id != StepId::PageCode)
                        .all(|step| step.state == StepState::Verified),
            })
            .collect();
        self.port.send(&FromWorker::History { items });
    }

    /// Writes a job. A failure is shown once: without storage nothing survives a reload.
    pub(crate) async fn keep_job(&self, view: &JobView) {
        let bytes = serde_json::to_vec(view).unwrap_or_default();
        if let Err(error) = self.store().put_secret(JOBS, &view.id.to_string(), &bytes).await {
            tracing::warn!(%error, "a job was not kept");
        }
    }

    /// Sends a job's view.
    pub(crate) fn send_job(&self, id: JobId) {
        if let Some(view) = self.views.borrow().get(&id) {
            self.port.send(&FromWorker::Job { job: Box::new(view.clone()) });
        }
    }

    /// Changes a job's view, sends it and keeps it.
    pub(crate) async fn change_job(&self, id: JobId, change: impl FnOnce(&mut JobView)) {
        let view = {
            let mut views = self.views.borrow_mut();
            let Some(view) = views.get_mut(&id) else { return };
            change(view);
            view.clone()
        };
        self.keep_job(&view).await;
        self.port.send(&FromWorker::Job { job: Box::new(view) });
    }

    /// Ends an answer in its conversation, and forgets the copy that a reload would have needed.
    pub(crate) async fn end_chat(&self, id: JobId) {
        let Some(view) = self.views.borrow().get(&id).cloned() else { return };
        if view.kind == TaskKind::Chat {
            self.end_turn(&view).await;
            self.forget_written(id).await;
        }
    }

    pub(crate) async fn open_job(self: Rc<Self>, job: JobId) {
        // A page that was reloaded asks before what is kept has been read.
        self.loaded().await;
        if self.views.borrow().contains_key(&job) {
            self.send_job(job);
        } else {
            let problem = Problem::new(
                "no-job",
                "This question is not kept on this device.",
                "It may have been deleted, or asked on another device.",
            );
            self.port.fail(None, Some(job), problem);
        }
    }

    pub(crate) async fn delete_job(self: Rc<Self>, job: JobId) {
        self.cancel(job);
        self.views.borrow_mut().remove(&job);
        self.forget_written(job).await;
        for namespace in [JOBS, RECEIPTS, OPENED, UNSETTLED] {
            if let Err(error) = self.store().delete(namespace, &job.to_string()).await {
                self.port.fail(None, Some(job), error.problem());
            }
        }
        self.send_history().await;
    }

    pub(crate) async fn delete_history(self: Rc<Self>) {
        let ids: Vec<JobId> = self.views.borrow().keys().copied().collect();
        for id in ids {
            self.clone().delete_job(id).await;
        }
        self.delete_conversations().await;
        let cleared = async {
            let store = self.store();
            store.delete(DRAFTS, "draft").await?;
            nesa_light::search::VectorCache::new(store).clear().await
        };
        if let Err(error) = cleared.await {
            self.port.fail(None, None, error.problem());
        }
    }

    pub(crate) async fn save_draft(self: Rc<Self>, draft: &Draft) {
        let bytes = serde_json::to_vec(draft).unwrap_or_default();
        if let Err(error) = self.store().put_secret(DRAFTS, "draft", &bytes).await {
            tracing::warn!(%error, "the draft was not kept");
        }
    }

    /// Keeps a job's receipts.
    pub(crate) async fn keep_receipts(
        &self,
        job: JobId,
        payment: Option<&str>,
        opened: Option<&str>,
    ) -> Result<(), StorageError> {
        let key = job.to_string();
        if let Some(text) = payment {
            self.store().put(RECEIPTS, &key, text.as_bytes()).await?;
        }
        if let Some(text) = opened {
            self.store().put_secret(OPENED, &key, text.as_bytes()).await?;
        }
        Ok(())
    }

    /// Keeps the start of a payment receipt until the whole escrow is accounted for, so that a reload
    /// does not lose it.
    pub(crate) async fn keep_draft_receipt(&self, job: JobId, draft: &str) {
        if let Err(error) = self.store().put(UNSETTLED, &job.to_string(), draft.as_bytes()).await {
            tracing::warn!(%error, "an unsettled receipt was not kept");
        }
    }

    /// After the deadline: accounts for the rest of an escrow.
    pub(crate) fn follow_escrow(self: Rc<Self>, returns_ms: Option<u64>) {
        Self::run(&self, move |app| async move {
            let left = returns_ms.unwrap_or_default().saturating_sub(time::now_ms());
            time::sleep(Duration::from_millis(left) + SETTLED_AFTER).await;
            for _ in 0..SETTLED_LOOKS {
                app.complete_receipts().await;
                if !app.has_open_ends() {
                    break;
                }
                time::sleep(SETTLED_AFTER).await;
            }
            app.refresh_wallet().await;
        });
    }

    /// Completes the receipts of answered jobs whose deadline has passed.
    async fn complete_receipts(&self) {
        let Some(chain) = self.chain() else { return };
        let waiting: Vec<JobId> = self
            .views
            .borrow()
            .values()
            .filter(|view| view.state == JobState::Answered && !returned(view) && !view.imported)
            .filter(|view| view.sealed.is_none())
            .map(|view| view.id)
            .filter(|id| !self.running.borrow().contains_key(id))
            .collect();
        for id in waiting {
            let Ok(Some(done)) = self.complete_receipt(&chain, id).await else { continue };
            let record = &done.record;
            let Some(settlement) = record.status.settlement().copied() else { continue };
            self.change_job(id, |view| {
                done.show(view);
                view.progress.phase = nesa_messages::JobPhase::Finished;
                let cost = view.cost.get_or_insert_default();
                cost.paid = Unes(record.claimed().unwrap_or_default().0);
                ended(cost, &settlement);
                view.life.push(LifeEvent {
                    at_ms: (time::now_ms() as f64 - view.started_ms).max(0.0),
                    what: format!("settled: {} returned", settlement.returned.in_nes()),
                    height: Some(settlement.height),
                });
            })
            .await;
            let (what, change) = ("Back from a query".to_owned(), settlement.returned.to_string());
            let height = Some(settlement.height);
            self.note(record.id, ActivityKind::Refund, what, change, height).await;
        }
    }

    /// Completes and checks the payment receipt that was begun for a job, and keeps it if it holds. `None`
    /// where none was begun.
    ///
    /// # Errors
    /// [`Unfinished`]: to be tried again.
    pub(crate) async fn complete_receipt(
        &self,
        chain: &Chain,
        id: JobId,
    ) -> Result<Option<Completed>, Unfinished> {
        let bytes = self.store().get(UNSETTLED, &id.to_string()).await.map_err(|_| Unfinished)?;
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let draft = text.and_then(|text| PaymentReceipt::from_json(&text).ok());
        let Some(draft) = draft else { return Ok(None) };
        let completed = chain.queries.complete(draft).await.map_err(|_| Unfinished)?;
        let (receipt, record) = completed.ok_or(Unfinished)?;
        let start = Instant::now();
        let verdict = nesa_verify::receipt::verify(
            &receipt,
            chain.light.trust(),
            &mut nesa_platform::random::rng(),
        );
        let checked_ms = start.elapsed().as_secs_f64() * 1000.0;
        if verdict.is_ok() {
            let json = receipt.to_json().map_err(|_| Unfinished)?;
            self.keep_receipts(id, Some(&json), None).await.map_err(|_| Unfinished)?;
        }
        Ok(Some(Completed { record, verdict, checked_ms }))
    }

    /// The stored payment receipt of a job.
    pub(crate) async fn payment_receipt(&self, job: JobId) -> Option<Vec<u8>> {
        let bytes = self.store().get(RECEIPTS, &job.to_string()).await.ok()??;
        Some(bytes.to_vec())
    }

    /// The stored opened receipt of a job.
    pub(crate) async fn opened_receipt(&self, job: JobId) -> Option<Vec<u8>> {
        let bytes = self.store().get_secret(OPENED, &job.to_string()).await.ok()??;
        Some(bytes.to_vec())
    }

    pub(crate) async fn export_payment(self: Rc<Self>, job: JobId) {
        match self.payment_receipt(job).await {
            Some(bytes) => {
                let name = format!("nesa-payment-{job}.json");
                self.port.file(&name, "application/json", &bytes);
            }
            None => self.port.fail(
                None,
                Some(job),
                Problem::new(
                    "no-receipt",
                    "There is no payment receipt yet.",
                    "It exists once the chain has paid the nodes, about a second after the answer.",
                ),
            ),
        }
    }

    pub(crate) async fn export_opened(self: Rc<Self>, job: JobId, consent: bool) {
        let refused = |what: &str, next: &str| Problem::new("no-opening", what, next);
        if !consent {
            let problem =
                refused("An opened receipt contains the prompt.", "Agree in words first.");
            return self.port.fail(None, Some(job), problem);
        }
        match self.store().get_secret(OPENED, &job.to_string()).await {
            Ok(Some(bytes)) => {
                let name = format!("nesa-opened-{job}.json");
                self.port.file(&name, "application/json", &bytes);
            }
            Ok(None) => self.port.fail(
                None,
                Some(job),
                refused(
                    "Nothing was kept to open this query with.",
                    "Choose to keep the opening before asking.",
                ),
            ),
            Err(error) => self.port.fail(None, Some(job), error.problem()),
        }
    }

    /// Whether some query of an earlier visit still waits for its settlement.
    pub(crate) fn has_open_ends(&self) -> bool {
        let running = self.running.borrow();
        let views = self.views.borrow();
        // Those of the sealed lane are followed one by one.
        let own = views.values().filter(|view| !view.imported && view.sealed.is_none());
        own.filter(|view| !running.contains_key(&view.id)).any(|view| match view.state {
            JobState::Answered => !returned(view),
            JobState::Interrupted | JobState::Cancelled => view.query.is_some() && !returned(view),
            _ => false,
        })
    }

    /// Looks up what became of queries that were running when this device went away.
    pub(crate) async fn look_up_interrupted(&self) {
        let Some(chain) = self.chain() else { return };
        let journal: &Journal = chain.queries.journal();
        if let Err(error) = journal.mark_interrupted().await {
            tracing::warn!(%error, "the journal cannot be read");
        }
        let open: Vec<(JobId, Hash)> = self
            .views
            .borrow()
            .values()
            .filter(|view| matches!(view.state, JobState::Interrupted | JobState::Cancelled))
            .filter(|view| !returned(view) && !view.imported && view.sealed.is_none())
            .filter_map(|view| Some((view.id, view.query.as_ref()?.parse().ok()?)))
            .collect();
        for (id, query) in open {
            let Ok(Some(record)) = chain.queries.fate(&query).await else { continue };
            let settled = record.status.settlement().copied();
            self.change_job(id, |view| {
                let cost = view.cost.get_or_insert_default();
                cost.escrowed = Unes(record.escrow.0);
                if let Some(settlement) = &settled {
                    ended(cost, settlement);
                    view.life.push(LifeEvent {
                        at_ms: (time::now_ms() as f64 - view.started_ms).max(0.0),
                        what: format!("settled: {} returned", settlement.returned.in_nes()),
                        height: Some(settlement.height),
                    });
                }
            })
            .await;
        }
        self.complete_receipts().await;
    }
}
