//! The history rail: kept on this device, deletable.

use leptos::prelude::*;
use nesa_messages::{HistoryItem, JobState};

use super::icon;
use crate::{
    format::day,
    route::Route,
    state::{App, Intent},
};

/// The rail beside the playground, or a drawer above it on narrow screens.
#[component]
pub(crate) fn Rail() -> impl IntoView {
    view! {
        <nav class="rail" aria-label="History">
            <div class="stack"><List/></div>
        </nav>
        <details class="rail-drawer">
            <summary>{icon("history")} "History on this device"</summary>
            <nav aria-label="History drawer"><List/></nav>
        </details>
    }
}

#[component]
fn List() -> impl IntoView {
    let app = App::get();
    view! {
        <div class="row between">
            <a class="btn tiny" href=Route::Playground.href()>{icon("plus")} "New search"</a>
            <Show when=move || app.history.with(|h| h.as_ref().is_some_and(|h| !h.is_empty()))>
                <button type="button" class="btn tiny"
                    on:click=move |_| app.intent.set(Some(Intent::DeleteHistory))>"Delete all"</button>
            </Show>
        </div>
        {move || match app.history.get() {
            None => view! { <p class="small muted">"Reading this device’s history…"</p> }.into_any(),
            Some(items) if items.is_empty() => view! {
                <p class="small muted">"Questions you ask appear here. They are kept on this device and nowhere else."</p>
            }.into_any(),
            Some(items) => view! {
                <ul class="rail-list">{items.into_iter().map(entry).collect_view()}</ul>
            }.into_any(),
        }}
    }
}

fn entry(item: HistoryItem) -> impl IntoView {
    let app = App::get();
    let id = item.id;
    let end = match item.state {
        JobState::Running => "running",
        JobState::Answered if item.all_verified => "all checks held",
        JobState::Answered => "answered",
        JobState::Failed => "failed",
        JobState::Cancelled => "stopped",
        JobState::Interrupted => "interrupted",
    };
    let question = item.question.clone();
    view! {
        <li class="rail-item" data-test="history-item">
            <a href=Route::Job(id).href() title=question.clone()
                aria-current=move || (app.route.get() == Route::Job(id)).then_some("page")>
                <span>{item.question}</span>
                <span class="small">{day(item.started_ms)} " · " {end}</span>
            </a>
            <button type="button" class="icon-btn" data-test="history-delete" aria-label=format!("Delete: {question}")
                on:click=move |_| app.intent.set(Some(Intent::DeleteJob(id)))>{icon("trash")}</button>
        </li>
    }
}
