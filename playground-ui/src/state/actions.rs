//! What a person can do, in one place: pages, palette and shortcuts call the same functions.

use leptos::prelude::*;
use nesa_messages::{
    Document, Draft, FloatView, JobId, JobState, JobView, Lane, Task, TaskKind, ToWorker,
    WalletCommand, WalletState,
};
use nesa_page::digit::Drawing;

use super::{App, Gate, Intent, QuoteState, now_ms, read_text};
use crate::{bridge, route::Route, sample};
use nesa_page::wording::first_words;

impl App {
    /// Opens a page.
    pub(crate) fn go(self, route: Route) {
        let _ = window().location().set_hash(&route.href());
    }

    /// Sends the query, or arms it: it then goes out by itself once it can.
    pub(crate) fn ask(self) {
        match untrack(|| self.gate()) {
            Gate::Open => self.run(),
            Gate::Shut(why) => self.announce(why),
            Gate::Waiting(why) => {
                self.announce(why);
                if !self.armed.get_untracked() {
                    self.armed.set(true);
                    self.pay_for_it();
                }
            }
        }
    }

    /// On a local network, makes and funds a wallet so that a first question needs no preparation.
    fn pay_for_it(self) {
        let faucet = self.status.with_untracked(|s| s.identity.as_ref().is_some_and(|i| i.faucet));
        let state = self.wallet.with_untracked(|w| w.state);
        let poor =
            self.quote.with_untracked(|q| matches!(q, QuoteState::Ready(q) if !q.affordable));
        match state {
            WalletState::Absent if faucet => self.create_and_fund(),
            WalletState::Ready if faucet && poor => {
                bridge::send(&ToWorker::Wallet { command: WalletCommand::Faucet });
            }
            _ => {}
        }
    }

    fn run(self) {
        self.armed.set(false);
        let Some(task) = untrack(|| self.task()) else { return };
        let job = now_ms() as JobId;
        if let Task::Chat { .. } = task {
            return self.run_chat(job, task);
        }
        let (titles, options) = self.draft.with_untracked(|d| {
            let titles: Vec<_> = d.documents.iter().map(|doc| doc.title.clone()).collect();
            (titles, d.options.clone())
        });
        let kind = task.kind();
        let (question, documents) = match &task {
            Task::Search { question, .. } => (question.clone(), titles),
            Task::Float { .. } => (self.float_title(), Vec::new()),
            Task::Classify { text, pair, .. } => {
                let both: Vec<_> =
                    [Some(text), pair.as_ref()].into_iter().flatten().cloned().collect();
                (both.join("\n"), Vec::new())
            }
            _ => ("A drawn digit".to_owned(), Vec::new()),
        };
        let float = match &task {
            Task::Float { inputs, replicas, .. } => Some(FloatView {
                inputs: inputs.clone(),
                replicas: *replicas,
                ..FloatView::default()
            }),
            _ => None,
        };
        bridge::send(&ToWorker::Run { job, task, options });
        self.expect(JobView { id: job, kind, question, documents, float, ..JobView::default() });
        match kind {
            // The next run is most likely of the same inputs, changed a little.
            TaskKind::Float => {}
            TaskKind::Digit => self.drawing.update(Drawing::clear),
            TaskKind::Classify => self.draft.update(|d| {
                d.text.clear();
                d.pair.clear();
            }),
            _ => self.draft.update(|d| d.question.clear()),
        }
        self.announce("Sent. Checking begins.");
        self.go(Route::Job(job));
    }

    /// What a run is called in the history.
    fn float_title(self) -> String {
        let name = untrack(|| self.model()).map(|m| m.name).unwrap_or_default();
        format!("A run of {name}")
    }

    /// Shows a job that was just sent, until the worker tells of it.
    pub(super) fn expect(self, view: JobView) {
        let lane = match (&view.sealed, &view.float) {
            (Some(_), _) => Lane::Sealed,
            (_, Some(_)) => Lane::Float,
            _ => Lane::Masked,
        };
        let ladder = nesa_messages::Step::ladder_of(lane);
        let view = JobView { started_ms: now_ms(), state: JobState::Running, ladder, ..view };
        self.jobs.update(|all| {
            all.insert(view.id, view);
        });
    }

    /// Stops a running query.
    pub(crate) fn cancel(self, job: JobId) {
        bridge::send(&ToWorker::Cancel { job });
    }

    /// The running query on the current page.
    pub(crate) fn running(self) -> Option<JobId> {
        let id = match self.route.get() {
            Route::Job(id) => id,
            Route::Conversation(talk) => self.latest.with(|l| l.get(&talk).copied())?,
            _ => return None,
        };
        self.jobs.with(|all| all.get(&id).filter(|j| j.state == JobState::Running).map(|j| j.id))
    }

    /// Checks a finished query again.
    pub(crate) fn recheck(self, job: JobId) {
        self.rechecking.set(Some(job));
        bridge::send(&ToWorker::Recheck { job });
    }

    /// Makes a wallet and asks the faucet, in one go.
    pub(crate) fn create_and_fund(self) {
        self.fund_next.set(true);
        bridge::send(&ToWorker::Wallet { command: WalletCommand::Create { passphrase: None } });
    }

    /// Puts the sample collection into the input.
    pub(crate) fn use_sample(self) {
        let before = self.draft.get_untracked();
        self.draft.update(|d| {
            d.documents = sample::documents();
        });
        if before.documents.is_empty() {
            self.announce("Added the sample collection: 24 invented notes.");
        } else {
            self.toast("Replaced your documents with the sample collection", Some(before));
        }
    }

    /// Adds one text as a document.
    pub(crate) fn add_text(self, title: Option<String>, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if self.draft.with_untracked(|d| d.documents.iter().any(|d| d.text == text)) {
            self.toast("That document is already there", None);
            return;
        }
        let title = title.unwrap_or_else(|| first_words(text));
        let id = format!("d{}-{}", now_ms() as u64, self.next_serial());
        let document = Document { id, title, text: text.to_owned() };
        self.draft.update(|d| d.documents.push(document));
    }

    /// Adds dropped or chosen files, one document each.
    pub(crate) fn add_files(self, files: Vec<web_sys::File>) {
        leptos::task::spawn_local(async move {
            let mut refused = Vec::new();
            let mut added = 0u64;
            for file in files {
                match read_text(&file).await {
                    Ok(text) => {
                        self.add_text(Some(file.name()), &text);
                        added += 1;
                    }
                    Err(why) => refused.push(why),
                }
            }
            if !refused.is_empty() {
                self.toast(refused.join("; "), None);
            } else if added > 0 {
                self.toast(format!("Added {}", crate::format::plural(added, "file")), None);
            }
        });
    }

    /// Removes one document, with a way back.
    pub(crate) fn remove_document(self, id: &str) {
        let before = self.draft.get_untracked();
        let title = before.documents.iter().find(|d| d.id == id).map(|d| d.title.clone());
        self.draft.update(|d| d.documents.retain(|doc| doc.id != id));
        if let Some(title) = title {
            self.toast(format!("Removed {title}"), Some(before));
        }
    }

    /// Empties the input, with a way back.
    pub(crate) fn clear_documents(self) {
        let before = self.draft.get_untracked();
        self.draft.update(|d| d.documents.clear());
        self.toast("Removed all documents", Some(before));
    }

    /// Brings back what a toast offered.
    pub(crate) fn undo(self, draft: Draft) {
        self.draft.set(draft);
        self.toast.set(None);
    }

    /// Does what was confirmed.
    pub(crate) fn confirm(self, intent: Intent) {
        self.intent.set(None);
        match intent {
            Intent::DeleteJob(job) => {
                bridge::send(&ToWorker::DeleteJob { job });
                self.jobs.update(|all| {
                    all.remove(&job);
                });
                if self.route.get_untracked() == Route::Job(job) {
                    self.go(Route::Playground);
                }
            }
            Intent::DeleteHistory => {
                bridge::send(&ToWorker::DeleteHistory);
                self.jobs.update(std::collections::HashMap::clear);
                self.talks.update(std::collections::HashMap::clear);
                self.drafts.update(std::collections::HashMap::clear);
                self.draft.update(|d| d.chat.conversation = None);
                self.go(Route::Playground);
                self.toast("History deleted from this device", None);
            }
            Intent::DeleteConversation(id) => self.delete_conversation(id),
            Intent::ExportConversation(conversation) => self.export(conversation, false),
            Intent::ExportConversationOpened(conversation) => self.export(conversation, true),
            Intent::EraseWallet => {
                bridge::send(&ToWorker::Wallet { command: WalletCommand::Erase });
            }
            Intent::ExportOpened(job) => {
                bridge::send(&ToWorker::ExportOpened { job, consent: true });
            }
            Intent::ForgetChain => bridge::send(&ToWorker::ForgetChain),
        }
    }

    /// Next colour theme.
    pub(crate) fn cycle_theme(self) {
        self.theme.update(|t| *t = t.next());
        let name = self.theme.get_untracked().name();
        self.announce(format!("Colours: {name}"));
    }
}
