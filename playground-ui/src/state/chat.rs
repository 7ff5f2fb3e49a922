//! Conversations: what is sent, what is kept, which answer is shown.

use leptos::prelude::*;
use nesa_messages::{
    ChatDraft, ChatMessage, Conversation, ConversationId, JobId, JobView, Lane, RequestId,
    SealedView, Task, TaskKind, ToWorker, WrittenView,
};
use nesa_page::{transcript, wording::first_words};

use super::{App, now_ms, read_bytes};
use crate::{bridge, route::Route};

/// What the chat's button will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Act {
    /// Send the message in the input.
    #[default]
    Ask,
    /// Have the last question answered again.
    Regenerate,
    /// Ask an earlier question otherwise, in a new conversation.
    Edit {
        /// The message.
        index: usize,
        /// How it reads now.
        text: String,
    },
}

impl App {
    /// The conversation on this page.
    pub(crate) fn talk(self) -> Option<ConversationId> {
        match self.route.get() {
            Route::Conversation(id) => Some(id),
            _ => None,
        }
    }

    /// All messages of the conversation on this page, none for a new one.
    fn messages(self) -> Vec<ChatMessage> {
        let Some(id) = self.talk() else { return Vec::new() };
        self.talks.with(|all| all.get(&id).map(|c| c.messages.clone()).unwrap_or_default())
    }

    /// The messages to send, if there is something to ask.
    fn turns_to_send(self) -> Option<Vec<ChatMessage>> {
        let before = self.messages();
        let (system, text) = self.draft.with(|d| (d.chat.system.clone(), d.chat.text.clone()));
        match self.act.get() {
            Act::Ask => transcript::ask(&before, &system, &text),
            Act::Regenerate => transcript::regenerate(&before, &system),
            Act::Edit { index, text } => transcript::edit(&before, &system, index, &text),
        }
        .ok()
    }

    /// Whether there is something to ask.
    pub(super) fn has_message(self) -> bool {
        self.turns_to_send().is_some()
    }

    /// The chat in the input as a task.
    pub(super) fn chat_task(self) -> Option<Task> {
        let messages = self.turns_to_send()?;
        let offer = self.model()?;
        let sampling = self.draft.with(|d| d.chat.sampling.clone());
        let mut lane = self.lane();
        if lane.lane == Lane::Masked {
            lane.preparation = Some(self.preparation(&offer));
        }
        let model = offer.digest;
        Some(Task::Chat { model, messages, sampling, conversation: self.talk(), lane })
    }

    /// Sends a chat and shows its conversation: a new one for a first or an edited question.
    pub(super) fn run_chat(self, job: JobId, task: Task) {
        let Task::Chat { model, messages, sampling, conversation, lane } = task else { return };
        let act = self.act.get_untracked();
        let id = match (&act, conversation) {
            (Act::Ask | Act::Regenerate, Some(id)) => id,
            // The moment of the question, as a job's id; the two kinds are counted apart.
            _ => job,
        };
        let question = messages.last().map(|m| m.content.clone()).unwrap_or_default();
        let options = self.draft.with_untracked(|d| d.options.clone());
        // As the worker will keep it; its own view replaces this one.
        let fresh = || Conversation {
            id,
            title: first_words(&question),
            created_ms: now_ms(),
            ..Conversation::default()
        };
        let kept = self.talks.with_untracked(|all| all.get(&id).cloned());
        let mut talk = kept.unwrap_or_else(fresh);
        talk.model.clone_from(&model);
        talk.sampling = sampling.clone();
        talk.lane = self.draft.with_untracked(|d| d.chat.lane);
        talk.updated_ms = now_ms();
        talk.asked(&messages, job);
        let conversation = Some(id);
        self.expect(JobView {
            id: job,
            kind: TaskKind::Chat,
            question,
            conversation,
            model: model.clone(),
            messages: messages.clone(),
            sampling: Some(sampling.clone()),
            sealed: (lane.lane == Lane::Sealed).then(|| SealedView {
                replicas: lane.replicas,
                disclose: lane.disclose,
                ..SealedView::default()
            }),
            ..JobView::default()
        });
        let task = Task::Chat { model: model.clone(), messages, sampling, conversation, lane };
        bridge::send(&ToWorker::Run { job, task, options });
        self.talks.update(|all| {
            all.insert(id, talk);
        });
        self.latest.update(|all| {
            all.insert(id, job);
        });
        self.inspected.set(None);
        self.draft.update(|d| {
            d.chat.conversation = conversation;
            d.chat.model = Some(model);
            if act == Act::Ask {
                d.chat.text.clear();
            }
        });
        self.act.set(Act::Ask);
        self.announce(match lane.lane {
            Lane::Masked => "Sent. The answer appears as its tokens are checked.",
            Lane::Sealed | Lane::Float => {
                "Sent. The answer appears as it is written, not yet verified."
            }
        });
        self.go(Route::Conversation(id));
    }

    /// Makes the input that of a conversation, or of a new one. What was typed elsewhere stays there.
    pub(crate) fn enter(self, conversation: Option<ConversationId>) {
        let current = self.draft.with_untracked(|d| d.chat.clone());
        if current.conversation == conversation {
            return;
        }
        let typed = self.drafts.try_update(|all| all.remove(&conversation)).flatten();
        let kept = conversation
            .and_then(|id| self.talks.with_untracked(|all| all.get(&id).cloned()))
            .map(|c| ChatDraft {
                conversation,
                model: Some(c.model).filter(|m| !m.is_empty()),
                system: transcript::system(&c.messages).to_owned(),
                text: String::new(),
                sampling: c.sampling,
                lane: c.lane,
            });
        let next = typed.or(kept).unwrap_or_else(|| ChatDraft {
            conversation,
            text: String::new(),
            ..current.clone()
        });
        self.drafts.update(|all| {
            all.insert(current.conversation, current);
        });
        self.act.set(Act::Ask);
        self.draft.update(|d| d.chat = next);
    }

    /// Keeps a conversation as it is now, here and in the worker.
    fn keep(self, id: ConversationId, change: impl FnOnce(&mut Conversation)) {
        let mut changed = None;
        self.talks.update(|all| {
            if let Some(talk) = all.get_mut(&id) {
                change(talk);
                changed = Some(Box::new(talk.clone()));
            }
        });
        if let Some(conversation) = changed {
            bridge::send(&ToWorker::SaveConversation { conversation });
        }
    }

    /// Gives a conversation another title.
    pub(crate) fn rename(self, id: ConversationId, title: &str) {
        let title = first_words(title);
        if !title.is_empty() {
            self.keep(id, |talk| talk.title = title);
            self.announce("Renamed.");
        }
        self.renaming.set(false);
    }

    /// Takes another of the last turn's answers.
    pub(crate) fn choose(self, id: ConversationId, job: JobId) {
        let text = self.written.with_untracked(|all| all.get(&job).map(|w| w.text.clone()));
        let messages = self.talks.with_untracked(|all| all.get(&id).map(|c| c.messages.clone()));
        let (Some(text), Some(messages)) = (text, messages) else { return };
        if let Ok(messages) = transcript::choose(&messages, job, &text) {
            self.keep(id, |talk| talk.messages = messages);
            self.inspected.set(Some(job));
        }
    }

    /// The answer whose ladder is shown beside the conversation: the one looked at, or the last.
    pub(crate) fn shown_answer(self) -> Option<JobId> {
        let id = self.talk()?;
        let shown = transcript::turns(&self.messages(), self.latest.with(|l| l.get(&id).copied()));
        let looked_at =
            self.inspected.get().filter(|job| shown.iter().any(|t| t.versions.contains(job)));
        looked_at.or_else(|| shown.iter().rev().find_map(|t| t.job))
    }

    /// Notes how far an answer is.
    pub(super) fn receive_written(self, job: JobId, written: WrittenView) {
        let first = self.written.with_untracked(|all| !all.contains_key(&job));
        let known = self.jobs.with_untracked(|all| all.contains_key(&job));
        if first && known && written.stop.is_none() {
            self.announce("The model is writing.");
        }
        self.written.update(|all| {
            // A view that was overtaken must not take words back.
            if all.get(&job).is_none_or(|w| w.tokens <= written.tokens) {
                all.insert(job, written);
            }
        });
    }

    pub(super) fn receive_conversation(self, request: Option<RequestId>, talk: Conversation) {
        let id = talk.id;
        self.talks.update(|all| {
            all.insert(id, talk);
        });
        if request.is_some() && request == self.importing.get_untracked() {
            self.importing.set(None);
            self.toast("Imported. Its receipts were checked again on this device.", None);
            self.go(Route::Conversation(id));
        }
    }

    pub(super) fn delete_conversation(self, id: ConversationId) {
        bridge::send(&ToWorker::DeleteConversation { conversation: id });
        self.talks.update(|all| {
            all.remove(&id);
        });
        self.drafts.update(|all| {
            all.remove(&Some(id));
        });
        if self.route.get_untracked() == Route::Conversation(id) {
            self.go(Route::Chat);
        }
    }

    /// Called only after a yes in words.
    pub(super) fn export(self, conversation: ConversationId, openings: bool) {
        bridge::send(&ToWorker::ExportConversation { conversation, openings, consent: true });
    }

    /// Reads an exported conversation.
    pub(crate) fn import(self, file: web_sys::File) {
        leptos::task::spawn_local(async move {
            match read_bytes(&file).await {
                Ok(bytes) => {
                    let request = self.next_serial();
                    self.importing.set(Some(request));
                    let name = file.name();
                    bridge::send_file(&ToWorker::ImportConversation { request, name }, &bytes);
                }
                Err(why) => self.toast(why, None),
            }
        });
    }
}
