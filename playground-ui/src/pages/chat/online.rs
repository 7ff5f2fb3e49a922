//! Which nodes serve the shards of the chosen model at this moment: asked, not only looked up.

use leptos::prelude::*;
use nesa_messages::{NetworkPhase, OnlineView, ToWorker};
use nesa_page::sealed;

use crate::{bridge, format::clock, state::App};

/// The shards of the plan and who is there for each; asked once by itself, and again on request.
#[component]
pub(super) fn Shards() -> impl IntoView {
    let app = App::get();
    let wanted = Memo::new(move |_| {
        let model = app.model().map(|m| m.digest)?;
        let live = app.status.with(|s| s.network == NetworkPhase::Live);
        live.then(|| (model, app.lane().shards))
    });
    Effect::new(move |_| {
        if let Some((model, shards)) = wanted.get() {
            ask(app, model, shards);
        }
    });
    let online = Memo::new(move |_| {
        let (model, _) = wanted.get()?;
        app.online.with(|all| all.get(&model).cloned())
    });
    let busy = Memo::new(move |_| app.asking.with(Option::is_some));
    let verdict = move || {
        let online = online.get()?;
        let said = sealed::enough(&online, app.lane().replicas);
        let class = if said.is_ok() { "small" } else { "small warn" };
        let words = said.unwrap_or_else(|words| words);
        let at = clock(online.at_ms);
        Some(
            view! { <p class=class data-test="online">{words} <span class="muted">{format!(" Asked at {at}.")}</span></p> },
        )
    };
    view! {
        <section class="stack" aria-labelledby="online-title" data-test="online-shards">
            <h2 class="minor" id="online-title">"Who is there"</h2>
            {move || online.get().map(|online| list(&online))}
            {verdict}
            <div class="row"><button type="button" class="btn tiny" data-test="ask-around"
                disabled=move || busy.get() || wanted.with(Option::is_none)
                on:click=move |_| {
                    if let Some((model, shards)) = wanted.get_untracked() { ask(app, model, shards); }
                }>{move || if busy.get() { "Asking the nodes…" } else { "Ask the nodes again" }}</button></div>
        </section>
    }
}

fn ask(app: App, model: String, shards: u8) {
    app.asking.set(Some(model.clone()));
    bridge::send(&ToWorker::Online { model, shards });
}

fn list(online: &OnlineView) -> impl IntoView + use<> {
    let rows = online.shards.iter().enumerate();
    let rows = rows.map(|(index, row)| {
        let words = sealed::shard(index, row);
        view! { <li data-test="online-shard">{words}</li> }
    });
    view! { <ul class="small num shards">{rows.collect_view()}</ul> }
}
