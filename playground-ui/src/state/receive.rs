//! What each message from the worker changes.

use js_sys::Uint8Array;
use leptos::prelude::*;
use nesa_messages::{
    Draft, FromWorker, JobId, JobState, JobView, LaneChoice, Problem, RequestId, Standing,
    TaskKind, ToWorker, WalletCommand, WalletState, WalletView,
};
use nesa_page::sealed::mark;

use super::{App, BLOCKS_KEPT, QuoteState, download};
use crate::bridge;

impl App {
    /// Applies one message.
    pub(crate) fn receive(self, message: FromWorker, bytes: Option<Uint8Array>) {
        match message {
            FromWorker::Status { status } => self.status.set(status),
            FromWorker::Blocks { blocks } => self.blocks.update(|kept| {
                for row in blocks {
                    // A reconnect may repeat the last few; the list stays strictly increasing.
                    if kept.back().is_none_or(|last| last.height < row.height) {
                        kept.push_back(row);
                    }
                }
                let surplus = kept.len().saturating_sub(BLOCKS_KEPT);
                kept.drain(..surplus);
            }),
            FromWorker::Block { block } => self.block.set(Some(*block)),
            FromWorker::Conflict { conflict } => {
                self.announce("Two different final blocks were seen at one height.");
                self.conflict.set(Some(conflict));
            }
            FromWorker::Network { network } => self.network.set(Some(network)),
            FromWorker::Wallet { wallet } => self.receive_wallet(wallet),
            FromWorker::Quote { quote } => {
                if quote.request == self.quote_request.get_untracked() {
                    self.quote.set(QuoteState::Ready(quote));
                    self.priced.set(true);
                }
            }
            FromWorker::Job { job } => self.receive_job(*job),
            FromWorker::Progress { job, progress } => {
                self.progress.update(|all| {
                    all.insert(job, progress);
                });
            }
            FromWorker::Written { job, written } => self.receive_written(job, written),
            FromWorker::Models { models } => self.models.set(Some(models)),
            FromWorker::Online { online } => {
                self.asking.set(None);
                self.online.update(|all| {
                    all.insert(online.model.clone(), online);
                });
            }
            FromWorker::Odds { odds } => self.odds.set(Some(odds)),
            FromWorker::Conversations { items } => self.conversations.set(Some(items)),
            FromWorker::Conversation { request, conversation } => {
                self.receive_conversation(request, *conversation);
            }
            FromWorker::History { items } => self.history.set(Some(items)),
            FromWorker::Draft { draft } => {
                // What was typed or chosen while the worker was starting wins over what was stored.
                let untouched = self.draft.with_untracked(|d| {
                    let lane = d.chat.lane == LaneChoice::default();
                    let empty = d.documents.is_empty() && d.question.is_empty();
                    lane && empty && d.chat.text.is_empty()
                });
                if untouched {
                    self.receive_draft(draft);
                }
            }
            FromWorker::File { name, mime } => match bytes {
                Some(bytes) if download(&name, &mime, &bytes).is_ok() => {
                    self.toast(format!("Saved {name}"), None);
                }
                _ => self.problem.set(Some(Problem::new(
                    "no-file",
                    format!("{name} could not be saved."),
                    "Allow downloads for this page and try again.",
                ))),
            },
            FromWorker::Receipt { report } => {
                self.checking.set(false);
                self.announce(if report.valid {
                    "Every check of this receipt held."
                } else {
                    "This receipt is not valid."
                });
                self.report.set(Some(*report));
            }
            FromWorker::Donate { donate } => self.donate.set(donate),
            FromWorker::Adapter { adapter } => self.adapter.set(Some(adapter)),
            FromWorker::Failed { request, job, problem } => self.fail(request, job, problem),
        }
    }

    /// A draft of another conversation than the one on the page waits for its turn.
    fn receive_draft(self, draft: Draft) {
        let here = self.draft.with_untracked(|d| d.chat.conversation);
        let Draft { documents, question, options, chat, float, text, pair } = draft;
        // Made-up inputs may stand there by now; an empty draft does not take them away.
        let now = self.draft.with_untracked(|d| d.float.clone());
        let float = if float.text.is_empty() { now } else { float };
        if self.mode.get_untracked() == TaskKind::Chat && chat.conversation != here {
            self.drafts.update(|all| {
                all.insert(chat.conversation, chat);
            });
            self.draft.update(|d| {
                (d.documents, d.question, d.options) = (documents, question, options);
                d.float = float;
                (d.text, d.pair) = (text, pair);
            });
        } else {
            self.draft.set(Draft { documents, question, options, chat, float, text, pair });
        }
    }

    fn receive_wallet(self, wallet: WalletView) {
        let ready = wallet.state == WalletState::Ready;
        self.wallet.set(wallet);
        if ready && self.fund_next.get_untracked() {
            self.fund_next.set(false);
            bridge::send(&ToWorker::Wallet { command: WalletCommand::Faucet });
        }
    }

    fn receive_job(self, job: JobView) {
        let before = self.jobs.with_untracked(|all| all.get(&job.id).map(|j| j.state));
        self.announce_standing(&job);
        if before == Some(JobState::Running) && job.state != JobState::Running {
            self.announce(match job.state {
                JobState::Answered => spoken(&job),
                JobState::Cancelled => "Stopped.".to_owned(),
                _ => "The query ended without an answer.".to_owned(),
            });
        }
        if self.rechecking.get_untracked() == Some(job.id) {
            self.rechecking.set(None);
            self.announce("Checked again.");
        }
        self.progress.update(|all| {
            all.insert(job.id, job.progress.clone());
        });
        if let Some(written) = job.written.clone() {
            self.receive_written(job.id, written);
        }
        if let (Some(talk), JobState::Running) = (job.conversation, job.state) {
            self.latest.update(|all| {
                all.insert(talk, job.id);
            });
        }
        self.jobs.update(|all| {
            all.insert(job.id, job);
        });
    }

    /// Says aloud when what is known of a sealed text changes.
    fn announce_standing(self, job: &JobView) {
        let Some(sealed) = &job.sealed else { return };
        let before = self.jobs.with_untracked(|all| {
            all.get(&job.id).and_then(|j| j.sealed.as_ref().map(|sealed| sealed.standing))
        });
        let Some(before) = before.filter(|before| *before != sealed.standing) else { return };
        if !matches!((before, sealed.standing), (Standing::Provisional, Standing::Agreed)) {
            let mark = mark(sealed, job.state);
            self.announce(format!("{}. {}", mark.label, mark.words));
        }
    }

    fn fail(self, request: Option<RequestId>, job: Option<JobId>, problem: Problem) {
        if request.is_some() && request == self.importing.get_untracked() {
            self.importing.set(None);
            self.announce(problem.what.clone());
            self.problem.set(Some(problem));
            return;
        }
        if request.is_some_and(|r| r == self.quote_request.get_untracked()) {
            // The model is on its way; the price follows by itself.
            if problem.code == "model-not-prepared" {
                self.quote.set(QuoteState::Nothing);
                return;
            }
            self.quote.set(QuoteState::Failed(problem));
            self.priced.set(true);
            self.armed.set(false);
            return;
        }
        // An older quote's refusal concerns nobody any more.
        if request.is_some_and(|r| r < self.quote_request.get_untracked())
            && !self.checking.get_untracked()
        {
            return;
        }
        self.checking.set(false);
        self.rechecking.set(None);
        self.asking.set(None);
        self.fund_next.set(false);
        self.armed.set(false);
        if let Some(id) = job {
            let known = self.jobs.with_untracked(|all| all.get(&id).map(|j| j.state));
            if known == Some(JobState::Running) {
                self.jobs.update(|all| {
                    if let Some(view) = all.get_mut(&id) {
                        view.state = JobState::Failed;
                        view.problem = Some(problem);
                    }
                });
                self.announce("The query ended without an answer.");
                return;
            }
        }
        self.announce(problem.what.clone());
        self.problem.set(Some(problem));
    }
}

/// An answer for those who listen: whole once it is whole, never token by token.
fn spoken(job: &JobView) -> String {
    /// Longest answer read out by itself, in characters; a longer one is read in place.
    const READ_OUT: usize = 600;
    let said: String = match (&job.written, &job.digit, &job.classified) {
        (Some(written), ..) => written.text.chars().take(READ_OUT).collect(),
        (_, Some(digit), _) => digit.class.to_string(),
        (.., Some(found)) => found.labels.get(found.class as usize).cloned().unwrap_or_default(),
        _ => String::new(),
    };
    if said.is_empty() {
        "The answer is here.".to_owned()
    } else if job.sealed.is_some() {
        format!("The answer is here, not yet verified: {said}")
    } else {
        format!("The answer is here: {said}")
    }
}
