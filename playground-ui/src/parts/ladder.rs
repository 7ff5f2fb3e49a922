//! The verification ladder: steps in the order they happen, and what they do not show.

use leptos::prelude::*;
use nesa_messages::{
    Lane, NOT_PROVEN, NOT_PROVEN_FLOAT, NOT_PROVEN_SEALED, Step, StepId, StepState,
};

use super::{Prose, copy, icon, state_class, state_word};
use crate::{bridge, format::millis, state::App};

/// A ladder. The bottom rung is the page's own doing: it is never shown as verified.
#[component]
pub(crate) fn Ladder(#[prop(into)] steps: Signal<Vec<Step>>) -> impl IntoView {
    let lane = Memo::new(move |_| steps.with(|all| Lane::of(all)));
    view! {
        <ol class="ladder">
            {move || StepId::of(lane.get()).map(|id| {
                // Each rung by itself: news of one must not close the evidence open on another.
                let step = Memo::new(move |_| {
                    let step = steps.with(|all| all.iter().find(|s| s.id == id).cloned());
                    let step = step.unwrap_or_else(|| Step::pending(id));
                    if id == StepId::PageCode { page_code(step) } else { step }
                });
                move || rung(step.get())
            })}
        </ol>
        <NotProven lane=lane/>
    }
}

/// What no rung shows, always there.
#[component]
fn NotProven(lane: Memo<Lane>) -> impl IntoView {
    let lines = move || match lane.get() {
        Lane::Masked => &NOT_PROVEN[..],
        Lane::Sealed => &NOT_PROVEN_SEALED[..],
        Lane::Float => &NOT_PROVEN_FLOAT[..],
    };
    view! {
        <section class="not-proven" aria-labelledby="not-proven">
            <h3 id="not-proven">"What this does not show"</h3>
            <ul>{move || lines().iter().map(|line| view! { <li>{*line}</li> }).collect_view()}</ul>
        </section>
    }
}

/// Whatever the worker said, code cannot vouch for itself.
fn page_code(mut step: Step) -> Step {
    let origin = window().location().origin().unwrap_or_default();
    let build = bridge::meta("nesa-build").unwrap_or_else(|| "unknown".to_owned());
    step.state = StepState::NotChecked;
    step.checked_ms = None;
    step.who = origin.clone();
    step.detail = "Everything above was checked by code from this address. \
        It cannot check itself: compare the digest with a build of your own."
        .to_owned();
    step.evidence = serde_json::json!({ "origin": origin, "build": build });
    step
}

/// The serialised name of a rung or state, as the protocol spells it.
fn name(value: impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

fn rung(step: Step) -> impl IntoView {
    let app = App::get();
    let class = state_class(step.state);
    let checked = match (step.state, step.checked_ms) {
        (StepState::Verified, Some(ms)) => format!("Verified by this device in {}", millis(ms)),
        (StepState::Verified, None) => "Verified by this device".to_owned(),
        (StepState::NotChecked, _) if step.id == StepId::PageCode => {
            "Not checked by itself".to_owned()
        }
        (state, _) => state_word(state).to_owned(),
    };
    let has_evidence = !step.evidence.is_null();
    let pretty = serde_json::to_string_pretty(&step.evidence).unwrap_or_default();
    let copied = pretty.clone();
    view! {
        <li class=format!("rung {class}") data-test="rung" data-step=name(step.id)
            data-state=name(step.state)>
            <span class="rung-icon">{icon(class)}</span>
            <div class="rung-body">
                <h3>{step.id.title()}</h3>
                <p class=format!("state {class}")>{checked}</p>
                {(!step.detail.is_empty()).then(|| view! { <p class="small"><Prose text=step.detail.clone()/></p> })}
                {step.got.clone().map(|got| view! {
                    <p class="small">"Got " <code><Prose text=got/></code></p>
                })}
                {step.expected.clone().map(|expected| view! {
                    <p class="small">"Expected " <code><Prose text=expected/></code></p>
                })}
                <p class="term">
                    {(!step.who.is_empty()).then(|| format!("By {} · ", step.who))}
                    {step.id.term()}
                </p>
                <Show when=move || has_evidence>
                    <details>
                        <summary>"Evidence"<span class="sr">" for: " {step.id.title()}</span></summary>
                        <pre class="evidence" tabindex="0">{pretty.clone()}</pre>
                        <button type="button" class="link small" on:click={
                            let copied = copied.clone();
                            move |_| copy(app, copied.clone())
                        }>"Copy evidence"</button>
                    </details>
                </Show>
            </div>
        </li>
    }
}
