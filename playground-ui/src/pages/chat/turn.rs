//! Turns of a conversation: what was asked, and an answer with everything that hangs on it.

use leptos::prelude::*;
use nesa_messages::{
    ConversationId, JobId, JobState, JobView, SealedView, StepState, ToWorker, WrittenView, claim,
};
use nesa_page::{sealed::ended, transcript::Turn};

use super::{
    super::playground::{
        answer::{Seal, caught_node, details, state_name},
        progress::Running,
    },
    composer, standing,
};
use crate::{
    bridge,
    format::{millis, plural},
    parts::{Markdown, ProblemNote, copy, icon},
    state::{Act, App, Intent},
};

/// A question.
#[component]
pub(super) fn Asked(turn: Memo<Option<Turn>>) -> impl IntoView {
    let app = App::get();
    let text = move || turn.with(|t| t.as_ref().map(|t| t.content.clone()).unwrap_or_default());
    let edited = move || {
        let index = turn.with(|t| t.as_ref().map(|t| t.index));
        matches!(app.act.get(), Act::Edit { index: at, .. } if Some(at) == index)
    };
    view! {
        <article class="turn asked" class:edited=edited data-test="asked" aria-label="Question">
            <p class="said">{text}</p>
            <button type="button" class="link small" data-test="edit" on:click=move |_| {
                if let Some(turn) = turn.get_untracked() {
                    app.act.set(Act::Edit { index: turn.index, text: turn.content });
                    composer::focus();
                }
            }>"Edit"<span class="sr">" this question"</span></button>
        </article>
    }
}

/// An answer: running, written, stopped or failed.
#[component]
pub(super) fn Answered(talk: ConversationId, turn: Memo<Option<Turn>>) -> impl IntoView {
    let app = App::get();
    let id = Memo::new(move |_| turn.with(|t| t.as_ref().and_then(|t| t.job)));
    let versions = Memo::new(move |_| {
        turn.with(|t| t.as_ref().map(|t| t.versions.clone()).unwrap_or_default())
    });
    // After a reload the page knows the texts alone; ladders and figures are fetched.
    Effect::new(move |_| {
        for job in versions.get() {
            if app.jobs.with_untracked(|all| !all.contains_key(&job)) {
                bridge::send(&ToWorker::OpenJob { job });
            }
        }
    });
    let job = Memo::new(move |_| app.jobs.with(|all| all.get(&id.get()?).cloned()));
    let written = Memo::new(move |_| app.written.with(|all| all.get(&id.get()?).cloned()));
    let text = Memo::new(move |_| {
        let fresh = written.with(|w| w.as_ref().map(|w| w.text.clone())).filter(|t| !t.is_empty());
        fresh.unwrap_or_else(|| {
            turn.with(|t| t.as_ref().map(|t| t.content.clone()).unwrap_or_default())
        })
    });
    let some = Memo::new(move |_| text.with(|t| !t.trim().is_empty()));
    let state =
        Memo::new(move |_| job.with(|j| j.as_ref().map_or(JobState::Answered, |j| j.state)));
    let running = Memo::new(move |_| state.get() == JobState::Running);
    let known = Memo::new(move |_| job.with(Option::is_some));
    let last = Memo::new(move |_| turn.with(|t| t.as_ref().is_some_and(|t| t.last)));
    // Beside words that were checked, "no answer" would be untrue; a failed check is always said.
    let claims = Memo::new(move |_| {
        job.with(|j| {
            j.as_ref().is_some_and(|j| {
                j.state != JobState::Failed || claim(j.state, &j.ladder).state == StepState::Failed
            })
        })
    });
    let caught =
        Memo::new(move |_| job.with(|j| j.as_ref().map(|j| j.caught.clone()).unwrap_or_default()));
    let sealed = Memo::new(move |_| job.with(|j| j.as_ref().and_then(|j| j.sealed.clone())));
    let mark = Memo::new(move |_| job.with(|j| j.as_ref().and_then(standing::mark)));
    let label = StoredValue::new(format!(
        "standing-{talk}-{}",
        turn.with_untracked(|t| t.as_ref().map_or(0, |t| t.index))
    ));
    view! {
        <article class="turn answer" data-test="answer" aria-label="Answer"
            data-state=move || state_name(state.get()) aria-busy=move || running.get().to_string()>
            {move || caught.get().into_iter().map(caught_node).collect_view()}
            {move || sealed.with(|s| s.as_ref().map(standing::replaced))}
            {move || sealed.with(|s| s.as_ref().map(standing::dispute))}
            <Show when=move || running.get() && !some.get()>
                {move || id.get().map(|id| view! { <Running id=id/> })}
            </Show>
            <Show when=move || some.get()>
                <div class="marked" data-standing=move || mark.get().map(|m| m.name)>
                    <Show when=move || mark.with(Option::is_some)>
                        <standing::Label id=label.get_value() mark=mark job=job written=written/>
                    </Show>
                    <div data-test="answer-text"
                        aria-describedby=move || mark.with(Option::is_some).then(|| label.get_value())><Markdown text=text/></div>
                </div>
            </Show>
            <Show when=move || running.get() && some.get()><Writing id=id written=written/></Show>
            {move || job.with(|j| j.as_ref().filter(|j| !standing::told(j)).and_then(|j| j.problem.clone())).map(|p| view! { <ProblemNote problem=p/> })}
            <Ended state=state written=written sealed=sealed/>
            <Show when=move || known.get() && some.get() && claims.get()><Seal job=job/></Show>
            <Show when=move || !running.get()>
                <Figures job=job written=written/>
                <div class="row">
                    <Show when=move || some.get()>
                        <button type="button" class="btn tiny" data-test="copy"
                            on:click=move |_| copy(app, text.get_untracked())>"Copy"</button>
                    </Show>
                    <Show when=move || last.get()>
                        <button type="button" class="btn tiny" data-test="regenerate" on:click=move |_| {
                            app.act.set(Act::Regenerate);
                            composer::focus();
                        }>{move || if some.get() { "Write again" } else { "Try again" }}</button>
                    </Show>
                    <Versions talk=talk versions=versions shown=id last=last/>
                </div>
                <Show when=move || known.get()><Records id=id job=job/></Show>
            </Show>
        </article>
    }
}

/// While tokens come: how many, how fast, and the way to stop.
#[component]
fn Writing(id: Memo<Option<JobId>>, written: Memo<Option<WrittenView>>) -> impl IntoView {
    let app = App::get();
    let words = move || {
        written.with(|w| {
            let w = w.as_ref()?;
            let rate = w.tokens_per_second.map(|r| format!(", {r:.1} tokens a second"));
            Some(format!(
                "Writing: {}{}",
                plural(u64::from(w.tokens), "token"),
                rate.unwrap_or_default()
            ))
        })
    };
    view! {
        <div class="row between writing">
            <span class="small muted num">{words}</span>
            <button type="button" class="btn tiny" data-test="cancel" on:click=move |_| {
                if let Some(id) = id.get_untracked() { app.cancel(id); }
            }>{icon("stop")} "Stop" <kbd>"Esc"</kbd></button>
        </div>
    }
}

/// Why the answer is no longer, where that is not simply its end.
#[component]
fn Ended(
    state: Memo<JobState>,
    written: Memo<Option<WrittenView>>,
    sealed: Memo<Option<SealedView>>,
) -> impl IntoView {
    move || {
        let stop = written.with(|w| w.as_ref().and_then(|w| w.stop));
        let text = ended(stop, state.get(), sealed.with(Option::is_some))?;
        Some(view! { <p class="small muted" data-test="ended">{text}</p> })
    }
}

/// First token, speed, length, seed.
#[component]
fn Figures(job: Memo<Option<JobView>>, written: Memo<Option<WrittenView>>) -> impl IntoView {
    let parts = move || {
        let mut parts = Vec::new();
        if let Some(w) = written.get() {
            parts.extend(w.first_token_ms.map(|ms| format!("First token after {}", millis(ms))));
            parts.extend(w.tokens_per_second.map(|r| format!("{r:.1} tokens a second")));
            if w.tokens > 0 {
                let read = plural(u64::from(w.prompt_tokens), "token");
                parts.push(format!("{read} read, {} written", w.tokens));
            }
        }
        job.with(|j| {
            let sampling = j.as_ref().and_then(|j| j.sampling.as_ref());
            // Without randomness a seed chooses nothing.
            let seed = sampling.filter(|s| s.temperature > 0.0).and_then(|s| s.seed);
            parts.extend(seed.map(|seed| format!("seed {seed}")));
            if j.as_ref().is_some_and(|j| j.imported) {
                parts.push("from a file".to_owned());
            }
        });
        parts.join(" · ")
    };
    view! { <p class="small muted num" data-test="figures">{parts}</p> }
}

/// The way between the answers that were written to one question.
#[component]
fn Versions(
    talk: ConversationId,
    versions: Memo<Vec<JobId>>,
    shown: Memo<Option<JobId>>,
    last: Memo<bool>,
) -> impl IntoView {
    let app = App::get();
    let at = move || {
        let shown = shown.get();
        versions.with(|all| all.iter().position(|v| Some(*v) == shown).unwrap_or_default())
    };
    let to = move |step: isize| {
        let target = at().checked_add_signed(step);
        target.and_then(|i| versions.with(|all| all.get(i).copied()))
    };
    let go = move |step: isize| {
        if let Some(job) = untrack(|| to(step)) {
            app.choose(talk, job);
        }
    };
    view! {
        <Show when=move || versions.with(|v| v.len() > 1)>
            <span class="row versions" role="group" aria-label="Answers to this question" data-test="versions">
                <Show when=move || last.get()>
                    <button type="button" class="icon-btn" aria-label="Earlier answer" data-test="earlier"
                        disabled=move || to(-1).is_none() on:click=move |_| go(-1)>"‹"</button>
                </Show>
                <span class="small num">{move || format!("{} of {}", at() + 1, versions.with(Vec::len))}</span>
                <Show when=move || last.get()>
                    <button type="button" class="icon-btn" aria-label="Later answer" data-test="later"
                        disabled=move || to(1).is_none() on:click=move |_| go(1)>"›"</button>
                </Show>
            </span>
        </Show>
    }
}

/// Receipts, time, money and nodes, folded away.
#[component]
fn Records(id: Memo<Option<JobId>>, job: Memo<Option<JobView>>) -> impl IntoView {
    let app = App::get();
    let payment =
        Memo::new(move |_| job.with(|j| j.as_ref().is_some_and(|j| j.has_payment_receipt)));
    let opening = Memo::new(move |_| job.with(|j| j.as_ref().is_some_and(|j| j.has_opening)));
    let sealed = Memo::new(move |_| job.with(|j| j.as_ref().is_some_and(|j| j.sealed.is_some())));
    let busy = Memo::new(move |_| id.get().is_some() && app.rechecking.get() == id.get());
    let with = move |act: fn(App, JobId)| {
        move |_| {
            if let Some(id) = id.get_untracked() {
                act(app, id);
            }
        }
    };
    view! {
        <details class="records">
            <summary class="small">{move || if sealed.get() { "Nodes, traces, time and money" } else { "Receipts, time and money" }}</summary>
            <div class="stack inset">
                <div class="row">
                    <button type="button" class="btn tiny" data-test="recheck" disabled=move || busy.get()
                        on:click=with(App::recheck)>
                        {move || if busy.get() { "Checking again…" } else { "Check again" }}</button>
                    <Show when=move || !sealed.get() || payment.get()>
                        <button type="button" class="btn tiny" data-test="export-payment" disabled=move || !payment.get()
                            on:click=with(|_, job| bridge::send(&ToWorker::ExportPayment { job }))>"Export payment receipt"</button>
                    </Show>
                    <Show when=move || opening.get()>
                        <button type="button" class="btn tiny" data-test="export-opened"
                            on:click=with(|app, job| app.intent.set(Some(Intent::ExportOpened(job))))>"Export opened receipt…"</button>
                    </Show>
                </div>
                {move || job.with(|j| j.as_ref().and_then(standing::record))}
                {move || job.with(|j| j.as_ref().map(|j| details(j).into_any()))}
            </div>
        </details>
    }
}
