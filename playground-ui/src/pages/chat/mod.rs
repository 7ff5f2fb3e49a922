//! Chat: begin, ask, read as it is written, check, go on.

mod composer;
mod lane;
mod models;
mod online;
mod settings;
mod standing;
mod title;
mod turn;

use leptos::prelude::*;
use nesa_messages::{ChatRole, ConversationId, TaskKind, ToWorker};
use nesa_page::transcript;

pub(crate) use models::Models;

use super::playground::{Tasks, price, rungs};
use crate::{
    bridge,
    parts::{Ladder, Rail},
    state::App,
};

/// Said once on each page that streams.
const CHECKED_FIRST: &str =
    "A token appears only after this device has checked every layer that made it.";

/// The same for the sealed lane, where nothing is checked first.
const MARKED_FIRST: &str = "Words appear as the fastest nodes write them, marked “not yet verified” until all nodes agree and stand by it.";

/// What is said of how words appear in the lane of this page.
fn streamed(app: App) -> &'static str {
    if app.sealed() { MARKED_FIRST } else { CHECKED_FIRST }
}

/// Questions that the demo model, a dictionary, can answer.
const EXAMPLES: [&str; 3] = ["What is a lighthouse?", "What is a violin?", "What is a bicycle?"];

/// A conversation that has not begun.
#[component]
pub(crate) fn NewChat() -> impl IntoView {
    let app = App::get();
    app.enter(None);
    price::attend(app, TaskKind::Chat);
    view! {
        <div class="frame two">
            <Rail/>
            <div class="page">
                <Tasks/>
                <header>
                    <h1>{move || if app.sealed() {
                        "Ask a model. Only its committee reads along."
                    } else {
                        "Ask a model. Nobody else reads along."
                    }}</h1>
                    <p class="lede">{move || if app.sealed() {
                        "Nodes that the chain draws run it on your text, and must agree. "
                    } else {
                        "Two strangers’ computers run it, each on a half that is noise to it. "
                    }} {move || streamed(app)}</p>
                </header>
                <composer::Composer first=true/>
                <div class="stack">
                    <p class="small muted">"Or try one:"</p>
                    <div class="examples">
                        {EXAMPLES.map(|q| view! {
                            <button type="button" class="example" on:click=move |_| {
                                app.draft.update(|d| q.clone_into(&mut d.chat.text));
                                composer::focus();
                            }>{q}</button>
                        }).collect_view()}
                    </div>
                </div>
                <lane::Lanes/>
                <Models/>
            </div>
            <settings::Settings lanes=false/>
        </div>
    }
}

/// One conversation, with the ladder of one of its answers beside it.
#[component]
pub(crate) fn Talk(id: ConversationId) -> impl IntoView {
    let app = App::get();
    let listed = Memo::new(move |_| {
        app.conversations.with(|c| c.as_ref().map(|all| all.iter().any(|item| item.id == id)))
    });
    // Not before the worker has read what it keeps: until then it knows of none.
    Effect::new(move |_| {
        let here = listed.get() == Some(true);
        if here && app.talks.with_untracked(|all| !all.contains_key(&id)) {
            bridge::send(&ToWorker::OpenConversation { conversation: id });
        }
    });
    app.renaming.set(false);
    price::attend(app, TaskKind::Chat);
    let known = Memo::new(move |_| app.talks.with(|all| all.contains_key(&id)));
    // Settings and model are those of the conversation, so they wait for it.
    Effect::new(move |_| {
        if known.get() {
            app.enter(Some(id));
        }
    });
    let running = Memo::new(move |_| app.latest.with(|l| l.get(&id).copied()));
    let turns = Memo::new(move |_| {
        app.talks.with(|all| {
            all.get(&id).map(|c| transcript::turns(&c.messages, running.get())).unwrap_or_default()
        })
    });
    let count = Memo::new(move |_| turns.with(Vec::len));
    let shown = Memo::new(move |_| app.shown_answer());
    let job =
        Memo::new(move |_| shown.get().and_then(|job| app.jobs.with(|all| all.get(&job).cloned())));
    let steps = Signal::derive(move || job.with(|j| j.as_ref().map(rungs).unwrap_or_default()));
    let of = move || job.with(|j| j.as_ref().map(|j| j.question.clone()).unwrap_or_default());
    follow(app);
    view! {
        <div class="frame three">
            <Rail/>
            <div class="page talk">
                {move || if known.get() {
                    view! {
                        <title::Title id=id/>
                        <p class="small muted">{move || streamed(app)}</p>
                        <div class="turns">
                            <For each=move || 0..count.get() key=|i| *i let(i)>
                                {
                                    let one = Memo::new(move |_| turns.with(|all| all.get(i).cloned()));
                                    let asked = one.with_untracked(|t| t.as_ref().is_some_and(|t| t.role == ChatRole::User));
                                    if asked {
                                        view! { <turn::Asked turn=one/> }.into_any()
                                    } else {
                                        view! { <turn::Answered talk=id turn=one/> }.into_any()
                                    }
                                }
                            </For>
                        </div>
                        <composer::Composer first=false/>
                    }.into_any()
                } else {
                    view! {
                        <header><h1>{move || if listed.get() == Some(false) {
                            "This conversation is not on this device"
                        } else {
                            "Looking on this device…"
                        }}</h1>
                        <p class="muted">"Conversations are kept only on the device that had them. \
                            If this link came from another one, there is nothing here to show: \
                            ask for an export, and import it."</p></header>
                    }.into_any()
                }}
            </div>
            <aside class="side stack" id="ladder" data-test="ladder" tabindex="-1" aria-labelledby="ladder-title">
                <Show when=move || shown.get().is_some()>
                    <h2 id="ladder-title">"What this device checked"</h2>
                    <p class="small muted">"Of the answer to: " {of}</p>
                    <Ladder steps=steps/>
                </Show>
            </aside>
            <settings::Settings lanes=true/>
        </div>
    }
}

/// Keeps the end of a growing answer in sight of whoever was reading it, and of nobody else: it never
/// hides behind the input, which stays at the bottom.
fn follow(app: App) {
    /// How far below the edge the end may be for its reader to count as there, in CSS pixels.
    const NEAR: f64 = 240.0;
    /// Room left between the end and the input.
    const ROOM: f64 = 16.0;
    let length = Memo::new(move |_| {
        let job = app.running()?;
        app.written.with(|all| all.get(&job).map(|w| w.text.len()))
    });
    let edge = |selector: &str| document().query_selector(selector).ok().flatten();
    Effect::new(move |_| {
        if length.get().is_none() {
            return;
        }
        // After the new words are laid out.
        request_animation_frame(move || {
            let (Some(turns), Some(input)) = (edge(".turns"), edge(".composer.docked")) else {
                return;
            };
            let hidden = turns.get_bounding_client_rect().bottom() + ROOM
                - input.get_bounding_client_rect().top();
            if hidden > 0.0 && hidden < NEAR {
                window().scroll_by_with_x_and_y(0.0, hidden);
            }
        });
    });
}
