//! Conversations kept on this device: sealed, and kept up as their jobs go on.

use std::rc::Rc;

use futures::future::join_all;
use nesa_messages::{
    ChatRole, Conversation, ConversationId, ConversationItem, FromWorker, JobId, JobView, Problem,
    Task,
};
use nesa_platform::time;

use crate::{app::App, chat::question, problem::Shown as _};

const CONVERSATIONS: &str = "conversations";

fn unknown() -> Problem {
    Problem::new(
        "no-conversation",
        "This conversation is not kept on this device.",
        "It may have been deleted, or held on another device.",
    )
}

impl App {
    /// Reads every conversation and sends the list.
    pub(crate) async fn load_conversations(&self) {
        let store = self.store();
        let keys = store.list(CONVERSATIONS).await.unwrap_or_default();
        let kept = join_all(keys.iter().map(|key| store.get_secret(CONVERSATIONS, key))).await;
        for bytes in kept {
            let Ok(Some(bytes)) = bytes else { continue };
            let Ok(conversation) = serde_json::from_slice::<Conversation>(&bytes) else { continue };
            self.conversations.borrow_mut().insert(conversation.id, conversation);
        }
        self.send_conversations();
    }

    pub(crate) fn send_conversations(&self) {
        let mut items: Vec<ConversationItem> = self
            .conversations
            .borrow()
            .values()
            .map(|conversation| ConversationItem {
                id: conversation.id,
                title: conversation.title.clone(),
                model: conversation.model.clone(),
                turns: conversation
                    .messages
                    .iter()
                    .filter(|message| message.role != ChatRole::System)
                    .count() as u32,
                updated_ms: conversation.updated_ms,
            })
            .collect();
        items.sort_by(|a, b| b.updated_ms.total_cmp(&a.updated_ms));
        self.port.send(&FromWorker::Conversations { items });
    }

    pub(crate) fn open_conversation(&self, id: ConversationId) {
        let known = self.conversations.borrow().get(&id).cloned();
        match known {
            Some(conversation) => {
                let conversation = Box::new(conversation);
                self.port.send(&FromWorker::Conversation { request: None, conversation });
            }
            None => self.port.fail(None, None, unknown()),
        }
    }

    pub(crate) async fn save_conversation(self: Rc<Self>, mut conversation: Conversation) {
        let now = time::now_ms() as f64;
        conversation.name();
        if conversation.created_ms == 0.0 {
            conversation.created_ms = now;
        }
        conversation.updated_ms = now;
        self.keep_conversation(conversation).await;
        self.send_conversations();
    }

    /// Keeps a conversation, here and in the store.
    pub(crate) async fn keep_conversation(&self, conversation: Conversation) {
        let (id, bytes) = (conversation.id, serde_json::to_vec(&conversation).unwrap_or_default());
        self.conversations.borrow_mut().insert(id, conversation);
        if let Err(error) = self.store().put_secret(CONVERSATIONS, &id.to_string(), &bytes).await {
            self.port.fail(None, None, error.problem());
        }
    }

    pub(crate) async fn delete_conversation(self: Rc<Self>, id: ConversationId) {
        let jobs: Vec<JobId> = self
            .views
            .borrow()
            .values()
            .filter(|view| view.conversation == Some(id))
            .map(|view| view.id)
            .collect();
        // First, so that a job that stops finds nothing to write its answer into.
        self.conversations.borrow_mut().remove(&id);
        for job in jobs {
            self.clone().delete_job(job).await;
        }
        if let Err(error) = self.store().delete(CONVERSATIONS, &id.to_string()).await {
            self.port.fail(None, None, error.problem());
        }
        self.send_conversations();
    }

    /// Writes the turns that a job was sent with, and an answer to come.
    pub(crate) async fn begin_turn(&self, job: JobId, task: &Task) {
        let Task::Chat { model, messages, sampling, conversation: Some(id), lane } = task else {
            return;
        };
        let now = time::now_ms() as f64;
        let known = self.conversations.borrow().get(id).cloned();
        let mut conversation =
            known.unwrap_or(Conversation { id: *id, created_ms: now, ..Conversation::default() });
        conversation.asked(messages, job);
        conversation.model = model.clone();
        conversation.sampling = sampling.clone();
        conversation.lane = *lane;
        conversation.updated_ms = now;
        self.change_conversation(conversation).await;
    }

    /// Writes what was checked of a job's answer into its conversation.
    pub(crate) async fn end_turn(&self, view: &JobView) {
        let Some(id) = view.conversation else { return };
        let Some(mut conversation) = self.conversations.borrow().get(&id).cloned() else { return };
        let turn = conversation.messages.iter_mut().find(|turn| turn.job == Some(view.id));
        // Edited or regenerated in the meantime.
        let Some(turn) = turn else { return };
        let text = view.written.as_ref().map(|written| written.text.clone()).unwrap_or_default();
        if turn.content == text {
            return;
        }
        turn.content = text;
        conversation.updated_ms = time::now_ms() as f64;
        self.change_conversation(conversation).await;
    }

    /// Keeps a conversation and tells the page.
    pub(crate) async fn change_conversation(&self, conversation: Conversation) {
        self.keep_conversation(conversation.clone()).await;
        let conversation = Box::new(conversation);
        self.port.send(&FromWorker::Conversation { request: None, conversation });
        self.send_conversations();
    }

    /// Deletes all conversations; their jobs go with the history.
    pub(crate) async fn delete_conversations(&self) {
        let ids: Vec<ConversationId> = self.conversations.borrow().keys().copied().collect();
        self.conversations.borrow_mut().clear();
        for id in ids {
            if let Err(error) = self.store().delete(CONVERSATIONS, &id.to_string()).await {
                self.port.fail(None, None, error.problem());
            }
        }
        self.send_conversations();
    }
}

/// What a job is called in the history.
pub(crate) fn called(task: &Task) -> String {
    match task {
        Task::Search { question, .. } => question.clone(),
        Task::Embed { texts } => texts.first().cloned().unwrap_or_default(),
        Task::Chat { messages, .. } => question(messages),
        Task::Digit { .. } => String::new(),
        Task::Float { .. } => "A run in floats".to_owned(),
        Task::Classify { text, pair, .. } => pair_line(text, pair.as_deref()),
    }
}

/// A text and the other of its pair, if there is one.
fn pair_line(text: &str, pair: Option<&str>) -> String {
    pair.map_or_else(|| text.to_owned(), |pair| format!("{text}\n{pair}"))
}
