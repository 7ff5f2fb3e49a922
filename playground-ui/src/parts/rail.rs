//! The history rail: kept on this device, deletable.

use leptos::{ev, prelude::*};
use nesa_messages::{ConversationItem, HistoryItem, JobState, TaskKind};
use wasm_bindgen::JsCast;

use super::icon;
use crate::{
    format::{day, plural},
    pages::list,
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
    let lines = Memo::new(move |_| {
        let jobs = app.history.get()?;
        let mut all: Vec<Line> = jobs
            .into_iter()
            // What belongs to a conversation is found there.
            .filter(|item| item.conversation.is_none())
            .map(Line::job)
            .chain(app.conversations.get().unwrap_or_default().into_iter().map(Line::talk))
            .collect();
        all.sort_by(|a, b| b.at_ms.total_cmp(&a.at_ms));
        Some(all)
    });
    let chosen = move |e: ev::Event| {
        let input = e.target().and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok());
        let Some(input) = input else { return };
        if let Some(file) = list(input.files()).into_iter().next() {
            app.import(file);
        }
        input.set_value("");
    };
    let field = format!("import-{}", app.next_serial());
    view! {
        <div class="row">
            <a class="btn tiny" href=Route::Chat.href()>{icon("plus")} "New chat"</a>
            <a class="btn tiny" href=Route::Playground.href()>{icon("plus")} "New search"</a>
        </div>
        {move || match lines.get() {
            None => view! { <p class="small muted">"Reading this device’s history…"</p> }.into_any(),
            Some(lines) if lines.is_empty() => view! {
                <p class="small muted">"Conversations and answers appear here. They are kept on this device and nowhere else."</p>
            }.into_any(),
            Some(lines) => view! {
                <ul class="rail-list">{lines.into_iter().map(entry).collect_view()}</ul>
            }.into_any(),
        }}
        <div class="row between">
            <span>
                <input class="file-input" type="file" id=field.clone() data-test="import" accept=".nesa,.json,application/octet-stream" on:change=chosen/>
                <label class="btn tiny" for=field>
                    {move || if app.importing.get().is_some() { "Checking the file…" } else { "Import…" }}</label>
            </span>
            <Show when=move || lines.with(|l| l.as_ref().is_some_and(|l| !l.is_empty()))>
                <button type="button" class="btn tiny"
                    on:click=move |_| app.intent.set(Some(Intent::DeleteHistory))>"Delete all"</button>
            </Show>
        </div>
    }
}

/// A line of the history: a job of its own, or a conversation.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    route: Route,
    title: String,
    /// What it was and how it ended.
    note: String,
    at_ms: f64,
    delete: Intent,
}

impl Line {
    fn job(item: HistoryItem) -> Self {
        let end = match item.state {
            JobState::Running => "running",
            // Evidence is no check that holds.
            JobState::Answered if item.kind == TaskKind::Float => "answered",
            JobState::Answered if item.all_verified => "all checks held",
            JobState::Answered => "answered",
            JobState::Failed => "failed",
            JobState::Cancelled => "stopped",
            JobState::Interrupted => "interrupted",
        };
        Self {
            route: Route::Job(item.id),
            title: item.question,
            note: end.to_owned(),
            at_ms: item.started_ms,
            delete: Intent::DeleteJob(item.id),
        }
    }

    fn talk(item: ConversationItem) -> Self {
        Self {
            route: Route::Conversation(item.id),
            title: item.title,
            note: plural(u64::from(item.turns), "turn"),
            at_ms: item.updated_ms,
            delete: Intent::DeleteConversation(item.id),
        }
    }
}

fn entry(line: Line) -> impl IntoView {
    let app = App::get();
    let Line { route, title, note, at_ms, delete } = line;
    view! {
        <li class="rail-item" data-test="history-item">
            <a href=route.href() title=title.clone()
                aria-current=move || (app.route.get() == route).then_some("page")>
                <span>{title.clone()}</span>
                <span class="small">{day(at_ms)} " · " {note}</span>
            </a>
            <button type="button" class="icon-btn" data-test="history-delete" aria-label=format!("Delete: {title}")
                on:click=move |_| app.intent.set(Some(delete))>{icon("trash")}</button>
        </li>
    }
}
