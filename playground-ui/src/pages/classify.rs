//! Classify a text: write or paste it, have its class found unseen.

use leptos::{ev, prelude::*};
use nesa_messages::{ClassView, TaskKind};
use nesa_page::classes;

use super::{
    chat::Models,
    playground::{Tasks, preflight::Preflight, price},
};
use crate::{
    format::thousands,
    parts::{GateLine, Rail, Send, icon},
    route::Route,
    shell::Standby,
    state::App,
};

/// The text and everything around it.
#[component]
pub(crate) fn Classify() -> impl IntoView {
    let app = App::get();
    price::attend(app, TaskKind::Classify);
    let send = move |e: ev::SubmitEvent| {
        e.prevent_default();
        app.ask();
    };
    let keys = move |e: ev::KeyboardEvent| {
        if e.key() == "Enter" && (e.ctrl_key() || e.meta_key()) {
            e.prevent_default();
            app.ask();
        }
    };
    let pairs = Memo::new(move |_| app.model().is_some_and(|m| m.pairs));
    view! {
        <div class="frame two">
            <Rail/>
            <div class="page">
                <Tasks/>
                <header>
                    <h1>"Have a text classified. Nobody else reads it."</h1>
                    <p class="lede">"Two strangers’ computers do the work, each on a half that is noise to it. \
                        Which classes there are, the model says."</p>
                </header>
                <form class="block" on:submit=send>
                    <label for="text">"Text"</label>
                    <div class="ask">
                        <textarea id="text" rows="6" data-test="text" aria-describedby="gate"
                            placeholder="Write or paste a text"
                            prop:value=move || app.draft.with(|d| d.text.clone())
                            on:input:target=move |e| {
                                let text = e.target().value();
                                app.armed.set(false);
                                app.draft.update(|d| d.text = text);
                            }
                            on:keydown=keys></textarea>
                        <Show when=move || pairs.get()>
                            <label class="small" for="pair">"The other text of a pair, if there is one"</label>
                            <textarea id="pair" rows="3" data-test="pair" aria-describedby="gate"
                                prop:value=move || app.draft.with(|d| d.pair.clone())
                                on:input:target=move |e| {
                                    let text = e.target().value();
                                    app.armed.set(false);
                                    app.draft.update(|d| d.pair = text);
                                }
                                on:keydown=keys></textarea>
                        </Show>
                        <div class="row between">
                            <GateLine open="Ctrl Enter sends. Only halves of it leave this device."/>
                            <Send>"Classify privately"</Send>
                        </div>
                    </div>
                    <Standby/>
                    <Preflight open=true options=true/>
                </form>
                <Models/>
            </div>
        </div>
    }
}

/// Classes shown, the most likely first.
const SHOWN: usize = 20;

/// What was found: the class, and how sure the model is of each.
#[component]
pub(crate) fn FoundClass(found: ClassView) -> impl IntoView {
    let best = found.class as usize;
    let label = found.labels.get(best).cloned().unwrap_or_default();
    let ranked = classes::ranked(&found.logits);
    let more = ranked.len().saturating_sub(SHOWN);
    let rows = ranked
        .into_iter()
        .take(SHOWN)
        .map(|(class, share)| {
            let name = found.labels.get(class).cloned().unwrap_or_else(|| class.to_string());
            view! {
                <li class:best=class == best data-test="share">
                    <span>{name}</span>
                    <span class="meter" aria-hidden="true"><progress max="100" value=format!("{:.0}", share * 100.0)></progress></span>
                    <span class="score num">{format!("{:.1}\u{a0}%", share * 100.0)}</span>
                </li>
            }
        })
        .collect_view();
    view! {
        <div class="found-class stack">
            <p class="class" data-test="class"><span class="sr">"It was classified as "</span>{label}</p>
            <section class="stack" aria-labelledby="shares">
                <h3 id="shares">"How sure the model is"</h3>
                <ol class="scores">{rows}</ol>
                {(more > 0).then(|| view! { <p class="small muted">{format!("and {} less likely", thousands(more as u64))}</p> })}
                <p class="small muted">"Shares of the model’s own belief, from its exact scores. \
                    That they were computed rightly was checked; whether the model is right was not."</p>
            </section>
        </div>
        <p><a class="btn" href=Route::Classify.href()>{icon("plus")} "Classify another"</a></p>
    }
}
