//! Chats as jobs: the prompt, the answer as it is written, and its end.

use std::{cell::Cell, rc::Rc};

use nesa_light::{
    QueryOutcome,
    models::Prepared,
    query::{
        Fitted, Message, Prompt, Role, Said,
        report::{Listener, Progress as LightProgress, WrittenText},
        sampling, seed,
    },
};
use nesa_messages::{
    ChatMessage, ChatRole, ChatSampling, FromWorker, JobId, JobState, JobView, Problem, StopReason,
    Task, TaskKind, WrittenView,
};
use nesa_platform::{random, time::Instant};

use crate::{
    app::{App, Chain},
    problem::{Shown as _, not_ready},
};

/// What was written of answers under way, sealed: a reload keeps what was checked.
const WRITTEN: &str = "written";
/// A message about written text at most this often, in milliseconds.
const WRITTEN_EVERY_MS: f64 = 40.0;

/// Turns, and bytes of all turns, that a task may have: more is refused before anything is done.
const MAX_TURNS: usize = 1024;
const MAX_BYTES: usize = 1 << 19;

/// The last thing the user says: what a job is called.
pub(crate) fn question(messages: &[ChatMessage]) -> String {
    let asked = messages.iter().rev().find(|message| message.role == ChatRole::User);
    asked.map(|message| message.content.clone()).unwrap_or_default()
}

/// The sampling of a task with its seed drawn, where the user left that to this device.
pub(crate) fn drawn(sampling: &ChatSampling) -> ChatSampling {
    let seed = sampling.seed.unwrap_or_else(|| u64::from(u32::from_le_bytes(random::bytes())));
    ChatSampling { seed: Some(seed), ..sampling.clone() }
}

/// The prompt of a task.
pub(crate) fn prompt(messages: &[ChatMessage], how: &ChatSampling) -> Result<Prompt, Problem> {
    let bad = |what: &str, got: String, expected: &str| {
        let next = "Change the conversation or its parameters, and ask again.";
        Problem::new("prompt", what, next).with(got, expected)
    };
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    if messages.len() > MAX_TURNS || bytes > MAX_BYTES {
        let got = format!("{} turns, {bytes} bytes", messages.len());
        return Err(bad("The conversation is too long.", got, "1024 turns and 512 KiB at most"));
    }
    if messages.last().is_none_or(|last| last.role != ChatRole::User) {
        let what = "The last turn is not yours, so there is nothing to answer.";
        return Err(bad(what, format!("{} turns", messages.len()), "a message at the end"));
    }
    let turn = |message: &ChatMessage| {
        let role = match message.role {
            ChatRole::System => Role::System,
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
        };
        Message::new(role, message.content.as_str())
    };
    let fixed = sampling(how.temperature, how.top_k, how.top_p).map_err(|error| {
        let expected = format!("0 to {}", error.max);
        bad(
            &format!("The sampling parameter {} is out of range.", error.name),
            error.got.to_string(),
            &expected,
        )
    })?;
    Ok(Prompt {
        said: Said::Chat(messages.iter().map(turn).collect()),
        tokens: how.max_tokens as usize,
        sampling: fixed,
        seed: seed(how.seed.unwrap_or_default()),
        draft: 0,
    })
}

/// The prompt of a task, fitted to its model.
pub(crate) async fn fitted(
    chain: &Chain,
    prepared: &Prepared,
    messages: &[ChatMessage],
    how: &ChatSampling,
) -> Result<Fitted, Problem> {
    let prompt = prompt(messages, how)?;
    chain.queries.fit(prepared, prompt).await.map_err(|error| error.problem())
}

/// The pace of an answer, by this device's clock.
pub(crate) struct Pace {
    start: Instant,
    first_ms: Cell<Option<f64>>,
    told_ms: Cell<f64>,
}

impl Pace {
    /// From now on.
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, first_ms: Cell::new(None), told_ms: Cell::new(f64::NEG_INFINITY) }
    }

    pub(crate) fn elapsed_ms(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1000.0
    }

    /// Notes the pace of what is written, and whether it is time to tell the page.
    pub(crate) fn due(&self, written: &mut WrittenView) -> bool {
        let now = self.note(written);
        let due = now - self.told_ms.get() >= WRITTEN_EVERY_MS;
        if due {
            self.told_ms.set(now);
        }
        due
    }

    fn note(&self, written: &mut WrittenView) -> f64 {
        let now = self.elapsed_ms();
        let first = self.first_ms.get().unwrap_or(now);
        self.first_ms.set(Some(first));
        written.first_token_ms = Some(first);
        let gaps = written.tokens.saturating_sub(1);
        let spent = now - first;
        written.tokens_per_second =
            (gaps > 0 && spent > 0.0).then(|| f64::from(gaps) * 1000.0 / spent);
        now
    }
}

/// One writer at a time, and never an old state over a new one.
#[derive(Default)]
pub(crate) struct Writer {
    busy: Cell<bool>,
    dirty: Cell<bool>,
}

impl App {
    /// Writes the answer of a chat.
    pub(crate) async fn chat_job(
        self: &Rc<Self>,
        chain: &Chain,
        id: JobId,
        task: &Task,
        choices: &nesa_messages::JobOptions,
    ) -> Result<(QueryOutcome, Listener), Problem> {
        let Task::Chat { model, messages, lane, .. } = task else { return Err(not_ready()) };
        let start = Instant::now();
        let wallet = self.open_wallet()?;
        let prepared = self.clone().ready_or_prepare(model, lane.preparation).await?;
        let how = self.views.borrow().get(&id).and_then(|view| view.sampling.clone());
        let how = how.unwrap_or_else(|| drawn(&ChatSampling::default()));
        let fitted = fitted(chain, &prepared, messages, &how).await?;
        self.change_job(id, |view| {
            view.written = Some(WrittenView {
                prompt_tokens: fitted.prompt_tokens as u32,
                ..WrittenView::default()
            });
            let max_tokens = fitted.prompt.tokens as u32;
            view.sampling = Some(ChatSampling { max_tokens, ..how });
        })
        .await;
        let stages = prepared.lane.stages().len() as u32;
        let listener = self.clone().text_listener(id, start, self.clone().listener(id, stages));
        let options = crate::quote::options(choices, listener.clone())?;
        let outcome = chain
            .queries
            .write(&prepared, wallet.key(), &fitted.prompt, &options)
            .await
            .map_err(|error| error.problem())?;
        Ok((outcome, listener))
    }

    /// Takes the text as it comes, and passes everything on.
    fn text_listener(self: Rc<Self>, id: JobId, start: Instant, next: Listener) -> Listener {
        let pace = Pace::new(start);
        let writer = Rc::new(Writer::default());
        Listener::new(move |event: LightProgress| {
            if let LightProgress::Text { piece, tokens } = &event {
                let written = {
                    let mut views = self.views.borrow_mut();
                    let Some(view) = views.get_mut(&id) else { return };
                    let written = view.written.get_or_insert_default();
                    written.text.push_str(piece);
                    written.tokens = *tokens as u32;
                    pace.due(written).then(|| written.clone())
                };
                if let Some(written) = written {
                    self.port.send(&FromWorker::Written { job: id, written });
                }
                self.keep_written(id, writer.clone());
                return;
            }
            next.say(event);
        })
    }

    /// Keeps what is written of an answer, now or right after the write under way.
    pub(crate) fn keep_written(self: &Rc<Self>, id: JobId, writer: Rc<Writer>) {
        writer.dirty.set(true);
        if writer.busy.replace(true) {
            return;
        }
        Self::run(self, |app| async move {
            while writer.dirty.replace(false) {
                let written = app.views.borrow().get(&id).and_then(|view| view.written.clone());
                // Over: the job itself has all of it.
                let Some(written) = written.filter(|written| written.stop.is_none()) else { break };
                let bytes = serde_json::to_vec(&written).unwrap_or_default();
                if let Err(error) = app.store().put_secret(WRITTEN, &id.to_string(), &bytes).await {
                    tracing::warn!(%error, "written text was not kept");
                }
            }
            writer.busy.set(false);
            // Ended or deleted while it was written: nothing of it may stay behind.
            let over = |view: &JobView| view.written.as_ref().is_none_or(|w| w.stop.is_some());
            if app.views.borrow().get(&id).is_none_or(over) {
                app.forget_written(id).await;
            }
        });
    }

    /// Puts back what an answer had when the page went away.
    pub(crate) async fn restore_written(&self, view: &mut JobView) {
        if view.kind != TaskKind::Chat {
            return;
        }
        let kept = self.store().get_secret(WRITTEN, &view.id.to_string()).await;
        if let Ok(Some(bytes)) = kept
            && let Ok(written) = serde_json::from_slice::<WrittenView>(&bytes)
        {
            view.written = Some(written);
        }
        stop(view, StopReason::Interrupted);
        self.forget_written(view.id).await;
    }

    pub(crate) async fn forget_written(&self, id: JobId) {
        if let Err(error) = self.store().delete(WRITTEN, &id.to_string()).await {
            tracing::warn!(%error, "a copy of written text was not removed");
        }
    }
}

/// Says why an answer is no longer, unless that is known.
pub(crate) fn stop(view: &mut JobView, reason: StopReason) {
    if view.kind == TaskKind::Chat {
        view.written.get_or_insert_default().stop.get_or_insert(reason);
    }
}

/// The reason that fits the state of a job that is over.
pub(crate) fn stop_as(view: &mut JobView) {
    match view.state {
        JobState::Cancelled => stop(view, StopReason::Stopped),
        JobState::Failed => stop(view, StopReason::Failed),
        JobState::Interrupted => stop(view, StopReason::Interrupted),
        JobState::Running | JobState::Answered => {}
    }
}

/// The whole checked text.
pub(crate) fn whole(view: &mut JobView, text: &WrittenText) {
    let written = view.written.get_or_insert_default();
    written.text = text.text.clone();
    written.tokens = text.tokens.len() as u32;
    written.stop = Some(if text.ended { StopReason::End } else { StopReason::Length });
}
