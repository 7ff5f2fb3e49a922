//! A conversation's turns when one asks on, regenerates, edits, or goes back to an earlier answer.
//!
//! ```text
//!   ask on       … question answer │ question′            same conversation
//!   regenerate   … question        │ (answer → earlier)   same conversation, another answer
//!   edit         … question′       │                      a new conversation; the old one stays
//!   choose       … question answer′│ (answer → earlier)   nothing is sent
//! ```
//!
//! Every one of them that sends is a new query under new masks. Nothing a person wrote is lost: an edit
//! never cuts the conversation it starts from.

use nesa_messages::{ChatMessage, ChatRole, JobId};

/// Why there is nothing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The text is empty.
    Empty,
    /// The turn is not a question.
    NotAQuestion,
    /// There is no answer at the end.
    NoAnswer,
}

/// A turn to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Index into the messages, for editing.
    pub index: usize,
    /// Whose it is; never the system's.
    pub role: ChatRole,
    /// What is kept of it. A running answer's text is elsewhere.
    pub content: String,
    /// The job that wrote it.
    pub job: Option<JobId>,
    /// All jobs that answered here, oldest first, the shown one among them.
    pub versions: Vec<JobId>,
    /// Whether it is the answer at the end: it can be regenerated.
    pub last: bool,
}

/// The system prompt of these turns.
pub fn system(messages: &[ChatMessage]) -> &str {
    match messages.first() {
        Some(m) if m.role == ChatRole::System => &m.content,
        _ => "",
    }
}

/// The turns with one more question at their end, under this system prompt.
///
/// # Errors
/// [`Refusal::Empty`] for a question of nothing but white space.
pub fn ask(
    messages: &[ChatMessage],
    system: &str,
    text: &str,
) -> Result<Vec<ChatMessage>, Refusal> {
    let mut turns = under(messages, system);
    // A question that was never answered still has its turn; roles alternate.
    if turns.last().is_some_and(|m| m.role == ChatRole::User) {
        turns.push(ChatMessage::new(ChatRole::Assistant, ""));
    }
    turns.push(question(text)?);
    Ok(turns)
}

/// The turns up to the last question, to have it answered again.
///
/// # Errors
/// [`Refusal::NoAnswer`] when there is no question yet.
pub fn regenerate(messages: &[ChatMessage], system: &str) -> Result<Vec<ChatMessage>, Refusal> {
    let mut turns = under(messages, system);
    if turns.last().is_some_and(|m| m.role == ChatRole::Assistant) {
        turns.pop();
    }
    match turns.last() {
        Some(m) if m.role == ChatRole::User => Ok(turns),
        _ => Err(Refusal::NoAnswer),
    }
}

/// The turns before a question, and the question as it reads now.
///
/// # Errors
/// [`Refusal::NotAQuestion`] for another turn, [`Refusal::Empty`] for an empty text.
pub fn edit(
    messages: &[ChatMessage],
    system: &str,
    index: usize,
    text: &str,
) -> Result<Vec<ChatMessage>, Refusal> {
    if messages.get(index).is_none_or(|m| m.role != ChatRole::User) {
        return Err(Refusal::NotAQuestion);
    }
    let mut turns = under(messages.get(..index).unwrap_or_default(), system);
    turns.push(question(text)?);
    Ok(turns)
}

/// The turns with an earlier answer at their end instead.
///
/// # Errors
/// [`Refusal::NoAnswer`] unless `job` is one of the last turn's answers.
pub fn choose(
    messages: &[ChatMessage],
    job: JobId,
    content: &str,
) -> Result<Vec<ChatMessage>, Refusal> {
    let mut turns = messages.to_vec();
    let last = turns.last_mut().filter(|m| m.role == ChatRole::Assistant);
    let last = last.ok_or(Refusal::NoAnswer)?;
    let mut all = versions(last);
    if !all.contains(&job) {
        return Err(Refusal::NoAnswer);
    }
    all.retain(|other| *other != job);
    last.earlier = all;
    last.job = Some(job);
    content.clone_into(&mut last.content);
    Ok(turns)
}

/// What to show: all turns but the system's, and the answer that `running` writes if no turn holds it
/// yet.
pub fn turns(messages: &[ChatMessage], running: Option<JobId>) -> Vec<Turn> {
    let mut shown: Vec<Turn> = messages
        .iter()
        .enumerate()
        .filter(|(_, m)| m.role != ChatRole::System)
        .map(|(index, m)| Turn {
            index,
            role: m.role,
            content: m.content.clone(),
            job: m.job,
            versions: versions(m),
            last: false,
        })
        .collect();
    if let Some(job) = running
        && shown.last().is_none_or(|t| t.role == ChatRole::User)
    {
        let (content, versions) = (String::new(), vec![job]);
        let index = messages.len();
        let role = ChatRole::Assistant;
        shown.push(Turn { index, role, content, job: Some(job), versions, last: false });
    }
    if let Some(turn) = shown.last_mut() {
        turn.last = turn.role == ChatRole::Assistant;
    }
    shown
}

/// All jobs that answered a turn, in the order they were asked.
fn versions(message: &ChatMessage) -> Vec<JobId> {
    let mut all: Vec<JobId> = message.earlier.iter().copied().chain(message.job).collect();
    // Ids are moments, so their order is the order of asking, whichever is shown.
    all.sort_unstable();
    all.dedup();
    all
}

fn question(text: &str) -> Result<ChatMessage, Refusal> {
    let text = text.trim();
    if text.is_empty() { Err(Refusal::Empty) } else { Ok(ChatMessage::new(ChatRole::User, text)) }
}

/// The turns under another system prompt; none at all if it is empty.
fn under(messages: &[ChatMessage], system: &str) -> Vec<ChatMessage> {
    let system = system.trim();
    let prompt = (!system.is_empty()).then(|| ChatMessage::new(ChatRole::System, system));
    let rest = messages.iter().filter(|m| m.role != ChatRole::System).cloned();
    prompt.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use nesa_messages::Conversation;

    use super::*;

    fn said(role: ChatRole, text: &str, job: Option<JobId>) -> ChatMessage {
        ChatMessage { job, ..ChatMessage::new(role, text) }
    }

    fn two_turns() -> Vec<ChatMessage> {
        vec![
            ChatMessage::new(ChatRole::System, "Be brief."),
            said(ChatRole::User, "What is a lighthouse?", None),
            said(ChatRole::Assistant, "a tower", Some(10)),
            said(ChatRole::User, "And a buoy?", None),
            said(ChatRole::Assistant, "a float", Some(20)),
        ]
    }

    fn texts(messages: &[ChatMessage]) -> Vec<&str> {
        messages.iter().map(|m| m.content.as_str()).collect()
    }

    #[test]
    fn asking_on_keeps_what_was_said_and_takes_the_new_system_prompt() {
        let turns = ask(&two_turns(), " In verse. ", " A dock? ").unwrap();
        let expected =
            ["In verse.", "What is a lighthouse?", "a tower", "And a buoy?", "a float", "A dock?"];
        assert_eq!(texts(&turns), expected);
        assert_eq!(system(&turns), "In verse.");
        assert_eq!(system(&ask(&two_turns(), "", "A dock?").unwrap()), "");
        assert_eq!(ask(&two_turns(), "", " \n "), Err(Refusal::Empty));
        assert_eq!(ask(&[], "", "First?").unwrap(), [said(ChatRole::User, "First?", None)]);
    }

    #[test]
    fn an_unanswered_question_keeps_its_turn() {
        let turns = ask(&two_turns()[..4], "", "Well?").unwrap();
        assert_eq!(texts(&turns), ["What is a lighthouse?", "a tower", "And a buoy?", "", "Well?"]);
        let roles: Vec<ChatRole> = turns.iter().map(|m| m.role).collect();
        assert!(roles.windows(2).all(|w| w[0] != w[1]), "{roles:?}");
    }

    #[test]
    fn regenerating_keeps_every_earlier_answer() {
        let before = two_turns();
        let sent = regenerate(&before, "Be brief.").unwrap();
        assert_eq!(sent.last().unwrap().content, "And a buoy?");
        let mut talk = Conversation { messages: before.clone(), ..Conversation::default() };
        talk.asked(&sent, 30);
        talk.asked(&regenerate(&talk.messages, "Be brief.").unwrap(), 40);
        let answer = talk.messages.last().unwrap();
        assert_eq!((answer.job, answer.earlier.as_slice()), (Some(40), &[20, 30][..]));
        assert_eq!(talk.messages.len(), before.len());
        assert_eq!(regenerate(&[], ""), Err(Refusal::NoAnswer));
        assert_eq!(regenerate(&before[..1], "Be brief."), Err(Refusal::NoAnswer));
        // A failed query wrote no turn; it can be asked again all the same.
        assert_eq!(regenerate(&before[..4], "").unwrap().len(), 3);
    }

    #[test]
    fn an_edit_keeps_what_came_before_it() {
        let before = two_turns();
        let sent = edit(&before, "Be brief.", 3, "And a bell?").unwrap();
        assert_eq!(texts(&sent), ["Be brief.", "What is a lighthouse?", "a tower", "And a bell?"]);
        assert_eq!(edit(&before, "", 4, "x"), Err(Refusal::NotAQuestion));
        assert_eq!(edit(&before, "", 9, "x"), Err(Refusal::NotAQuestion));
        assert_eq!(edit(&before, "", 0, "x"), Err(Refusal::NotAQuestion));
        assert_eq!(edit(&before, "", 1, " "), Err(Refusal::Empty));
    }

    #[test]
    fn an_earlier_answer_can_be_taken_and_left_again() {
        let mut turns = two_turns();
        turns[4].earlier = vec![18];
        let older = choose(&turns, 18, "a ball").unwrap();
        assert_eq!((older[4].job, older[4].content.as_str()), (Some(18), "a ball"));
        assert_eq!(super::turns(&older, None)[3].versions, [18, 20]);
        assert_eq!(choose(&older, 20, "a float").unwrap(), turns);
        assert_eq!(choose(&turns, 99, "lies"), Err(Refusal::NoAnswer));
        assert_eq!(choose(&turns[..4], 18, ""), Err(Refusal::NoAnswer));
    }

    #[test]
    fn a_running_answer_is_shown_once() {
        let kept = two_turns();
        let shown = turns(&kept[..4], Some(20));
        assert_eq!(shown.len(), 4);
        assert_eq!((shown[3].job, shown[3].last), (Some(20), true));
        let shown = turns(&kept, Some(20));
        assert_eq!(shown.len(), 4);
        assert!(shown.iter().all(|t| t.role != ChatRole::System));
        assert_eq!(shown.iter().filter(|t| t.last).count(), 1);
        assert_eq!(shown[0].index, 1, "indices are those of the messages");
    }
}
