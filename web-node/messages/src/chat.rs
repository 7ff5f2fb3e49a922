//! Conversations with a model that writes text.
//!
//! A chat task ([`crate::Task::Chat`]) holds the whole conversation up to the answer that is wanted.
//! To regenerate an answer or to edit a question is to run another task with other messages: a new
//! query, under new masks.
//!
//! What the model reads:
//!
//! * a model with a chat template ([`crate::ModelOffer::chat_template`]) reads all messages as its
//!   template writes them, so that nothing said can make a special token;
//! * a model without one reads the last user message and a line feed (`"What is a lighthouse?\n"`),
//!   and nothing else: system prompt and earlier turns do not reach it.

use serde::{Deserialize, Serialize};

use crate::{JobId, LaneChoice};

/// One conversation. Chosen by the page, unique on the device, as [`JobId`] is.
pub type ConversationId = u64;

/// Who says something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChatRole {
    /// Instructions that precede the conversation.
    System,
    /// Whoever asks.
    #[default]
    User,
    /// The model.
    Assistant,
}

/// One turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChatMessage {
    /// Who says it.
    pub role: ChatRole,
    /// What is said.
    pub content: String,
    /// The job that wrote it, where one did: its view has ladder, cost and receipts. Nothing of it
    /// reaches the model.
    pub job: Option<JobId>,
    /// Jobs whose answers this turn had before it was regenerated, oldest first.
    pub earlier: Vec<JobId>,
}

impl ChatMessage {
    /// A turn that no job wrote.
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), ..Self::default() }
    }
}

/// How an answer is written, as in `nesa query generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChatSampling {
    /// Randomness, 0 to 100; 0 always takes the likeliest token.
    pub temperature: f64,
    /// Choose among the K likeliest; 0 for all.
    pub top_k: u32,
    /// Choose among the likeliest that together reach this share, 0 to 1.
    pub top_p: f64,
    /// Most tokens to write, from 1. The worker lowers it to what the model's context leaves, and
    /// reports what it took.
    pub max_tokens: u32,
    /// Messages, sampling, seed and model give the same text on every machine. `None`: the worker
    /// draws one (below 2³²) and reports it in [`crate::JobView::sampling`].
    pub seed: Option<u64>,
}

impl Default for ChatSampling {
    /// The likeliest tokens, 128 at most.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, max_tokens: 128, seed: None }
    }
}

/// Why an answer is no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// The model ended it.
    End,
    /// It has the most tokens that were asked for.
    Length,
    /// The user stopped it. What is shown was checked, but for the sealed lane.
    Stopped,
    /// The page went away in the middle. As above.
    Interrupted,
    /// The query failed in the middle. As above.
    Failed,
}

/// An answer as far as it is written. In the masked lane every token is in it only after all its layers
/// were checked; in the sealed lane [`crate::SealedView::standing`] says how far it can be relied on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WrittenView {
    /// The text so far, never half a character.
    pub text: String,
    /// Tokens written so far.
    pub tokens: u32,
    /// Sealed lane: of those, how many all nodes of every shard agree on.
    pub agreed: u32,
    /// Tokens of the prompt, as the model reads it.
    pub prompt_tokens: u32,
    /// From the button to the first token, payment and draw included.
    pub first_token_ms: Option<f64>,
    /// Tokens a second between the first token and the last; `None` before the second.
    pub tokens_per_second: Option<f64>,
    /// Why it is no longer; `None` while it is written.
    pub stop: Option<StopReason>,
}

/// A conversation as it is kept on this device, sealed.
///
/// The worker keeps it up by itself: a chat task that names a conversation writes its messages and,
/// when the job ends for whatever reason, what was checked of the answer. The page saves one only to
/// rename it, or to keep settings and turns that were not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// For the list; the first words of the first question unless the user gave another.
    pub title: String,
    /// Digest of the model last used.
    pub model: String,
    /// Sampling last chosen: its seed is what the user chose, not what was drawn.
    pub sampling: ChatSampling,
    /// Lane last chosen.
    pub lane: LaneChoice,
    /// All turns, a system message first if there is one.
    pub messages: Vec<ChatMessage>,
    /// Milliseconds since the epoch.
    pub created_ms: f64,
    /// Milliseconds since the epoch.
    pub updated_ms: f64,
}

impl Conversation {
    /// Characters of a first question that name a conversation.
    const TITLE: usize = 60;

    /// Takes the turns that `job` was sent with and adds the answer to come. An answer to the same turns
    /// that it replaces is remembered in [`ChatMessage::earlier`], under another system prompt too.
    pub fn asked(&mut self, sent: &[ChatMessage], job: JobId) {
        let mut answer = ChatMessage::new(ChatRole::Assistant, "");
        answer.job = Some(job);
        let same =
            |(a, b): (&ChatMessage, &ChatMessage)| a.role == b.role && a.content == b.content;
        let turn = |message: &&ChatMessage| message.role != ChatRole::System;
        let mut before = self.messages.iter().filter(turn);
        let turns = sent.iter().filter(turn);
        let repeated = turns.clone().all(|sent| before.next().is_some_and(|old| same((old, sent))));
        let replaced = before.next().filter(|old| repeated && old.role == ChatRole::Assistant);
        if let Some(replaced) = replaced {
            answer.earlier = replaced.earlier.iter().copied().chain(replaced.job).collect();
        }
        self.messages = sent.to_vec();
        self.messages.push(answer);
        self.name();
    }

    /// Names a conversation that has no title after the first thing the user says.
    pub fn name(&mut self) {
        if self.title.trim().is_empty() {
            let first = self.messages.iter().find(|message| message.role == ChatRole::User);
            let words = first.map(|first| first.content.split_whitespace().collect::<Vec<_>>());
            self.title = words.unwrap_or_default().join(" ").chars().take(Self::TITLE).collect();
        }
    }
}

/// One line of the list of conversations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConversationItem {
    /// The conversation.
    pub id: ConversationId,
    /// Its title.
    pub title: String,
    /// Digest of the model last used.
    pub model: String,
    /// Turns, a system message not counted.
    pub turns: u32,
    /// Milliseconds since the epoch.
    pub updated_ms: f64,
}

/// What is typed but not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChatDraft {
    /// The conversation it is for; `None` for a new one.
    pub conversation: Option<ConversationId>,
    /// Digest of the model chosen.
    pub model: Option<String>,
    /// System prompt.
    pub system: String,
    /// The message.
    pub text: String,
    /// Sampling chosen.
    pub sampling: ChatSampling,
    /// Lane chosen.
    pub lane: LaneChoice,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_needs_only_role_and_content() {
        let turn: ChatMessage =
            serde_json::from_str(r#"{"role":"assistant","content":"a tower"}"#).unwrap();
        assert_eq!(turn, ChatMessage::new(ChatRole::Assistant, "a tower"));
    }

    #[test]
    fn a_regenerated_answer_remembers_the_ones_before_and_an_edit_does_not() {
        let user = |text: &str| ChatMessage::new(ChatRole::User, text);
        let mut conversation = Conversation::default();
        conversation.asked(&[user(" What is\na lighthouse? ")], 1);
        assert_eq!(conversation.title, "What is a lighthouse?");
        conversation.messages[1].content = "a tower".into();
        conversation.asked(&[user(" What is\na lighthouse? ")], 2);
        conversation.asked(&[user(" What is\na lighthouse? ")], 3);
        assert_eq!(conversation.messages.len(), 2);
        assert_eq!(
            (conversation.messages[1].job, &conversation.messages[1].earlier[..]),
            (Some(3), &[1, 2][..])
        );
        let longer = [&conversation.messages[..], &[user("and a boat?")]].concat();
        conversation.asked(&longer, 4);
        assert_eq!(conversation.messages[1].earlier, [1, 2], "earlier turns stay as they are");
        assert!(conversation.messages[3].earlier.is_empty());
        conversation.asked(&[user("What is a boat?")], 5);
        assert!(conversation.messages[1].earlier.is_empty(), "another question");
        assert_eq!(conversation.title, "What is a lighthouse?");
    }

    #[test]
    fn another_system_prompt_keeps_the_earlier_answers() {
        let system = |text: &str| ChatMessage::new(ChatRole::System, text);
        let user = ChatMessage::new(ChatRole::User, "What is a lighthouse?");
        let mut conversation = Conversation::default();
        conversation.asked(std::slice::from_ref(&user), 1);
        conversation.asked(&[system("In verse."), user.clone()], 2);
        conversation.asked(&[system("Be brief."), user.clone()], 3);
        conversation.asked(std::slice::from_ref(&user), 4);
        assert_eq!(conversation.messages.len(), 2, "and no prompt is left behind");
        assert_eq!(conversation.messages[1].earlier, [1, 2, 3]);
    }

    #[test]
    fn a_seed_keeps_all_its_bits() {
        let sampling = ChatSampling { seed: Some(u64::MAX), ..ChatSampling::default() };
        let json = serde_json::to_string(&sampling).unwrap();
        assert!(json.contains("topK"), "{json}");
        assert_eq!(serde_json::from_str::<ChatSampling>(&json).unwrap(), sampling);
    }
}
