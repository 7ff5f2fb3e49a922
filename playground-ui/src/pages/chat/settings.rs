//! The drawer: system prompt, how the answer is written, and the choices of every query.

use leptos::{html, prelude::*};
use nesa_messages::ChatSampling;

use super::{super::playground::preflight::Options, lane::Lanes};
use crate::state::App;

/// Most tokens one may ask for here; the worker lowers it to what the model's context leaves.
const MOST_TOKENS: u32 = 4_096;

/// A modal drawer at the side; Esc closes it.
#[component]
pub(super) fn Settings(
    /// Whether the choice of lane is here; a new chat has it on its page.
    lanes: bool,
) -> impl IntoView {
    let app = App::get();
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        let Some(dialog) = dialog.get() else { return };
        match (app.settings.get(), dialog.open()) {
            (true, false) => {
                let _ = dialog.show_modal();
            }
            (false, true) => dialog.close(),
            _ => {}
        }
    });
    on_cleanup(move || app.settings.set(false));
    view! {
        <dialog class="drawer" node_ref=dialog aria-labelledby="settings-title" data-test="drawer"
            on:close=move |_| app.settings.set(false)>
            <Show when=move || app.settings.get()>
                <div class="dialog-body">
                    <div class="row between">
                        <h2 id="settings-title">"Settings of this chat"</h2>
                        <button type="button" class="btn tiny" data-test="settings-close"
                            on:click=move |_| app.settings.set(false)>"Done"</button>
                    </div>
                    <Show when=move || lanes><Lanes/></Show>
                    <System/>
                    <Sampling/>
                    <Show when=move || !app.sealed()><Options/></Show>
                </div>
            </Show>
        </dialog>
    }
}

#[component]
fn System() -> impl IntoView {
    let app = App::get();
    let deaf = Memo::new(move |_| app.model().is_some_and(|m| m.context > 0 && !m.chat_template));
    view! {
        <div class="field">
            <label for="system">"System prompt"</label>
            <textarea id="system" rows="3" data-test="system" placeholder="How the model should answer, in your words"
                disabled=move || deaf.get() aria-describedby="system-note"
                prop:value=move || app.draft.with(|d| d.chat.system.clone())
                on:input:target=move |e| {
                    let text = e.target().value();
                    app.draft.update(|d| d.chat.system = text);
                }></textarea>
            <p class="small" id="system-note">{move || if deaf.get() {
                "This model has no chat template, so it would not read one."
            } else {
                "Sent before the conversation, in the same lane."
            }}</p>
        </div>
    }
}

#[component]
fn Sampling() -> impl IntoView {
    let app = App::get();
    let now = move || app.draft.with(|d| d.chat.sampling.clone());
    let set = move |change: &dyn Fn(&mut ChatSampling)| {
        app.draft.update(|d| change(&mut d.chat.sampling));
    };
    let exact = Memo::new(move |_| app.draft.with(|d| d.chat.sampling.temperature == 0.0));
    let wrong_seed = RwSignal::new(false);
    view! {
        <div class="field">
            <label for="temperature">{move || format!("Temperature: {:.2}", now().temperature)}</label>
            <input type="range" id="temperature" data-test="temperature" min="0" max="2" step="0.05" aria-describedby="temperature-note"
                prop:value=move || now().temperature.to_string()
                on:input:target=move |e| {
                    if let Ok(t) = e.target().value().parse::<f64>() { set(&|s| s.temperature = t.clamp(0.0, 100.0)); }
                }/>
            <p class="small" id="temperature-note">"0 always takes the likeliest token; more is livelier and less sure."</p>
        </div>
        <div class="pair">
            <div class="field">
                <label for="top-k">"Top-k"</label>
                <input type="number" id="top-k" data-test="top-k" min="0" max="1000" step="1" inputmode="numeric" disabled=move || exact.get()
                    prop:value=move || now().top_k.to_string()
                    on:change:target=move |e| {
                        if let Ok(k) = e.target().value().parse::<u32>() { set(&|s| s.top_k = k); }
                    }/>
                <p class="small">"Among the k likeliest; 0 for all."</p>
            </div>
            <div class="field">
                <label for="top-p">"Top-p"</label>
                <input type="number" id="top-p" data-test="top-p" min="0" max="1" step="0.01" inputmode="decimal" disabled=move || exact.get()
                    prop:value=move || now().top_p.to_string()
                    on:change:target=move |e| {
                        if let Ok(p) = e.target().value().parse::<f64>() { set(&|s| s.top_p = p.clamp(0.0, 1.0)); }
                    }/>
                <p class="small">"Among those that reach this share."</p>
            </div>
        </div>
        <div class="pair">
            <div class="field">
                <label for="max-tokens">"Most tokens"</label>
                <input type="number" id="max-tokens" data-test="max-tokens" min="1" max=MOST_TOKENS.to_string() step="1" inputmode="numeric"
                    prop:value=move || now().max_tokens.to_string()
                    on:change:target=move |e| {
                        if let Ok(n) = e.target().value().parse::<u32>() { set(&|s| s.max_tokens = n.clamp(1, MOST_TOKENS)); }
                    }/>
                <p class="small">"The price before sending is for this many."</p>
            </div>
            <div class="field">
                <label for="seed">"Seed"</label>
                <input type="text" id="seed" data-test="seed" inputmode="numeric" placeholder="drawn anew" autocomplete="off"
                    disabled=move || exact.get() aria-invalid=move || wrong_seed.get().to_string()
                    prop:value=move || now().seed.map(|s| s.to_string()).unwrap_or_default()
                    on:change:target=move |e| {
                        let text = e.target().value();
                        let seed = text.trim().parse::<u64>().ok();
                        wrong_seed.set(seed.is_none() && !text.trim().is_empty());
                        set(&|s| s.seed = seed);
                    }/>
                <p class="small">{move || if wrong_seed.get() { "A whole number, please." } else { "A whole number; empty draws one." }}</p>
            </div>
        </div>
        <p class="small muted">"The same messages, settings, seed and model digest give the same text on every machine."</p>
        <div class="row"><button type="button" class="btn tiny" on:click=move |_| {
            set(&|s| *s = ChatSampling::default());
        }>"Back to the defaults"</button></div>
    }
}
