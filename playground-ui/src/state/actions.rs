//! What a person can do, in one place: pages, palette and shortcuts call the same functions.

use leptos::prelude::*;
use nesa_messages::{
    Document, Draft, JobId, JobState, JobView, Task, ToWorker, WalletCommand, WalletState,
};

use super::{App, Gate, Intent, QuoteState, now_ms, read_text};
use crate::{bridge, route::Route, sample};
use nesa_page::wording::first_words;

impl App {
    /// Opens a page.
    pub(crate) fn go(self, route: Route) {
        let _ = window().location().set_hash(&route.href());
    }

    /// The task in the input, if there is something to search in.
    pub(crate) fn task(self) -> Option<Task> {
        self.draft.with(|d| {
            (!d.documents.is_empty()).then(|| Task::Search {
                documents: d.documents.clone(),
                question: d.question.trim().to_owned(),
            })
        })
    }

    /// Whether the query can go out now, and if not, why.
    pub(crate) fn gate(self) -> Gate {
        use nesa_messages::{ModelPhase, NetworkPhase};
        if self.draft.with(|d| d.documents.is_empty()) {
            return Gate::Shut("Add a document first.");
        }
        if self.draft.with(|d| d.question.trim().is_empty()) {
            return Gate::Shut("Ask a question.");
        }
        match self.status.with(|s| (s.network.clone(), s.model_phase.clone())) {
            (NetworkPhase::Offline { .. }, _) => {
                return Gate::Waiting("Offline: it goes out when the network is back.");
            }
            (NetworkPhase::Refused { .. }, _) => return Gate::Shut("This network was refused."),
            (NetworkPhase::Live, ModelPhase::Ready { .. }) => {}
            (NetworkPhase::Live, ModelPhase::Failed { .. }) => {
                return Gate::Shut("The model could not be checked.");
            }
            (NetworkPhase::Live, _) => return Gate::Waiting("Getting ready to check answers…"),
            _ => return Gate::Waiting("Still connecting…"),
        }
        let faucet = self.status.with(|s| s.identity.as_ref().is_some_and(|i| i.faucet));
        match self.wallet.with(|w| w.state) {
            WalletState::Ready => {}
            WalletState::Unknown => return Gate::Waiting("Looking for your wallet…"),
            WalletState::Locked => return Gate::Shut("Unlock your wallet first."),
            WalletState::Absent if faucet => {
                return Gate::Waiting(
                    "Sending makes a wallet on this device and takes test NES from the faucet.",
                );
            }
            WalletState::Absent => return Gate::Shut("A wallet is needed to pay the nodes."),
        }
        match self.quote.get() {
            QuoteState::Failed(_) => Gate::Shut("This cannot be priced."),
            _ if !self.priced.get() => Gate::Waiting("Working out the price…"),
            QuoteState::Ready(quote) if quote.affordable => Gate::Open,
            QuoteState::Ready(_) if faucet => {
                Gate::Waiting("Sending takes test NES from the faucet first.")
            }
            QuoteState::Ready(_) => Gate::Shut("Not enough NES for this."),
            QuoteState::Asking | QuoteState::Nothing => Gate::Waiting("Working out the price…"),
        }
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
        let (question, documents, options) = self.draft.with_untracked(|d| {
            let titles = d.documents.iter().map(|doc| doc.title.clone()).collect();
            (d.question.trim().to_owned(), titles, d.options.clone())
        });
        let job = now_ms() as JobId;
        bridge::send(&ToWorker::Run { job, task, options });
        let view = JobView {
            id: job,
            started_ms: now_ms(),
            question,
            documents,
            state: JobState::Running,
            ladder: nesa_messages::Step::ladder(),
            ..JobView::default()
        };
        self.jobs.update(|all| {
            all.insert(job, view);
        });
        self.draft.update(|d| d.question.clear());
        self.announce("Sent. Checking begins.");
        self.go(Route::Job(job));
    }

    /// Stops a running query.
    pub(crate) fn cancel(self, job: JobId) {
        bridge::send(&ToWorker::Cancel { job });
    }

    /// The running query on the current page.
    pub(crate) fn running(self) -> Option<JobId> {
        let Route::Job(id) = self.route.get() else { return None };
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
                self.go(Route::Playground);
                self.toast("History deleted from this device", None);
            }
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
