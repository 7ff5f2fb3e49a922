//! The chat's input: ask on, ask otherwise, or have the last question answered again.

use leptos::{ev, prelude::*};
use wasm_bindgen::JsCast;

use super::{
    super::playground::preflight::{Preflight, PreflightLine},
    models::forgets,
};
use crate::{
    parts::{Send, gate_words, icon},
    shell::{ModelProgress, Standby},
    state::{Act, App, Gate},
};

/// The field's id, for whoever brings the focus there.
const FIELD: &str = "message";

/// Puts the cursor where the next words go, once the page shows it.
pub(super) fn focus() {
    request_animation_frame(|| {
        let find = |id: &str| document().get_element_by_id(id);
        let target = find(FIELD).or_else(|| find("send"));
        if let Some(element) = target.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
            let _ = element.focus();
        }
    });
}

/// The input. `first` shows the price in full; under a conversation it is one line that unfolds.
#[component]
pub(super) fn Composer(first: bool) -> impl IntoView {
    let app = App::get();
    let gate = Memo::new(move |_| app.gate());
    let running = Memo::new(move |_| app.running());
    let again = Memo::new(move |_| app.act.get() == Act::Regenerate);
    let editing = Memo::new(move |_| matches!(app.act.get(), Act::Edit { .. }));
    if running.get_untracked().is_some() {
        // The question that opened this page was typed here.
        focus();
    }
    let said = move || match gate.get() {
        // Under a conversation the field says so itself.
        Gate::Shut(_)
            if !first
                && app.draft.with(|d| d.chat.text.trim().is_empty())
                && running.get().is_none() =>
        {
            ""
        }
        Gate::Open => "Enter sends, Shift Enter starts a new line.",
        Gate::Waiting(why) | Gate::Shut(why) => why,
    };
    let send = move |e: ev::SubmitEvent| {
        e.prevent_default();
        app.ask();
    };
    let keys = move |e: ev::KeyboardEvent| {
        if e.key() == "Enter" && !e.shift_key() && !e.is_composing() {
            e.prevent_default();
            app.ask();
        } else if e.key() == "Escape" && app.act.get_untracked() != Act::Ask {
            e.stop_propagation();
            app.act.set(Act::Ask);
        }
    };
    let value = move || match app.act.get() {
        Act::Edit { text, .. } => text,
        _ => app.draft.with(|d| d.chat.text.clone()),
    };
    let typed = move |text: String| {
        app.armed.set(false);
        if editing.get_untracked() {
            app.act.update(|act| {
                if let Act::Edit { text: old, .. } = act {
                    *old = text;
                }
            });
        } else {
            app.draft.update(|d| d.chat.text = text);
        }
    };
    let label = move || match (editing.get(), first) {
        (true, _) => "Ask it otherwise. A new conversation starts; this one stays as it is.",
        (false, true) => "Your message",
        (false, false) => "Ask on",
    };
    view! {
        <form class="composer" class:docked=!first on:submit=send>
            <Show when=move || again.get() fallback=move || view! {
                <label for=FIELD class:sr=move || !first && !editing.get()>{label}</label>
            }>
                <p>{move || if app.sealed() {
                    "The last question is answered again, by nodes drawn anew. The answer that stands there is kept beside it."
                } else {
                    "The last question is answered again, under new masks. The answer that stands there is kept beside it."
                }}</p>
            </Show>
            <div class="ask">
                <Show when=move || !again.get()>
                    <textarea id=FIELD rows={if first { "2" } else { "1" }} data-test="message"
                        placeholder="Write in plain words" aria-describedby="gate"
                        prop:value=value on:input:target=move |e| typed(e.target().value())
                        on:keydown=keys></textarea>
                </Show>
                <div class="row between">
                    <p class="small muted" id="gate" role="status">
                        {move || gate_words(app, said())}
                    </p>
                    <div class="row">
                        <button type="button" class="btn" data-test="settings" aria-haspopup="dialog"
                            on:click=move |_| app.settings.set(true)>{icon("settings")} <span class="label">"Settings"</span></button>
                        <Show when=move || again.get() || editing.get()>
                            <button type="button" class="btn" on:click=move |_| app.act.set(Act::Ask)>"Cancel"</button>
                        </Show>
                        <Send>{move || match (again.get(), app.sealed()) {
                                (true, _) => "Write again",
                                (false, false) => "Ask privately",
                                (false, true) => "Ask the committee",
                            }}</Send>
                    </div>
                </div>
            </div>
            {if first {
                view! { <Standby/> <Preflight open=true options=false/> }.into_any()
            } else {
                view! { <ModelProgress/> <Memory/> <PreflightLine/> }.into_any()
            }}
        </form>
    }
}

/// What the model will not read, where that surprises. A new chat has it beside the model.
#[component]
fn Memory() -> impl IntoView {
    let app = App::get();
    let short = Memo::new(move |_| app.model().is_some_and(|m| forgets(&m)));
    view! {
        <Show when=move || short.get()>
            <p class="small muted">"This model reads only the last message."</p>
        </Show>
    }
}
