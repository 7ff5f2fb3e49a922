//! Documents and a question.

use leptos::{ev, html, prelude::*};
use nesa_messages::TaskKind;
use wasm_bindgen::JsCast;

use super::{preflight::Preflight, price};
use crate::{
    format::plural,
    parts::{GateLine, Send, icon},
    sample,
    shell::Standby,
    state::App,
};

/// The input. `first` shows the examples; a follow-up under an answer does without.
#[component]
pub(crate) fn Compose(first: bool) -> impl IntoView {
    let app = App::get();
    price::attend(app, TaskKind::Search);
    let count = move || match app.draft.with(|d| d.documents.len()) {
        0 => "Documents".to_owned(),
        n => plural(n as u64, "document"),
    };
    let question = NodeRef::<html::Textarea>::new();
    let send = move |e: ev::SubmitEvent| {
        e.prevent_default();
        app.ask();
    };
    let keys = move |e: ev::KeyboardEvent| {
        if e.key() == "Enter" && !e.shift_key() && !e.is_composing() {
            e.prevent_default();
            app.ask();
        }
    };
    view! {
        {if first {
            view! {
                <section class="block" aria-labelledby="documents-title">
                    <h2 id="documents-title">{count}</h2>
                    <Sources/>
                    <DropZone/>
                </section>
            }.into_any()
        } else {
            view! {
                <section class="stack" aria-label="Documents">
                    <details><summary>{count}</summary><div class="stack inset"><Sources/></div></details>
                    <DropZone/>
                </section>
            }.into_any()
        }}
        <form class="block" on:submit=send>
            <label for="question">{if first { "Question" } else { "Ask another question of these documents" }}</label>
            <div class="ask">
                <textarea id="question" rows="2" node_ref=question
                    placeholder="Ask in plain words" aria-describedby="gate" data-test="question"
                    prop:value=move || app.draft.with(|d| d.question.clone())
                    on:input:target=move |e| {
                        let text = e.target().value();
                        app.armed.set(false);
                        app.draft.update(|d| d.question = text);
                    }
                    on:keydown=keys></textarea>
                <div class="row between">
                    <GateLine open="Enter sends, Shift Enter starts a new line."/>
                    <Send>"Search privately"</Send>
                </div>
            </div>
            <Show when=move || first>
                <div class="stack">
                    <p class="small muted">"Or try one on the sample collection:"</p>
                    <div class="examples">
                        {sample::QUESTIONS.map(|(q, _)| view! {
                            <button type="button" class="example" on:click=move |_| {
                                app.draft.update(|d| {
                                    if d.documents.is_empty() { d.documents = sample::documents(); }
                                    q.clone_into(&mut d.question);
                                });
                                if let Some(field) = question.get_untracked() { let _ = field.focus(); }
                            }>{q}</button>
                        }).collect_view()}
                    </div>
                </div>
            </Show>
            <Standby/>
            <Preflight open=first options=true/>
        </form>
    }
}

/// What is searched, and every way to add to it.
#[component]
fn Sources() -> impl IntoView {
    let app = App::get();
    let empty = Memo::new(move |_| app.draft.with(|d| d.documents.is_empty()));
    view! {
        <div class="row">
            <button type="button" class="btn tiny" data-test="use-samples" on:click=move |_| app.use_sample()>
                "Use the sample collection"</button>
            <Show when=move || !empty.get()>
                <button type="button" class="btn tiny" on:click=move |_| app.clear_documents()>"Remove all"</button>
            </Show>
        </div>
        <Documents/>
    }
}

#[component]
fn Documents() -> impl IntoView {
    let app = App::get();
    let documents = Memo::new(move |_| {
        app.draft.with(|d| {
            d.documents.iter().map(|d| (d.id.clone(), d.title.clone())).collect::<Vec<_>>()
        })
    });
    view! {
        <Show when=move || documents.with(|d| !d.is_empty())>
            <ul class="docs" tabindex="0" aria-label="Documents to search">
                <For each=move || documents.get() key=|d| d.0.clone() let((id, title))>
                    <li class="doc">
                        <span class="doc-title">{title.clone()}</span>
                        <button type="button" class="icon-btn" aria-label=format!("Remove {title}")
                            on:click=move |_| app.remove_document(&id)>{icon("close")}</button>
                    </li>
                </For>
            </ul>
        </Show>
    }
}

#[component]
fn DropZone() -> impl IntoView {
    let app = App::get();
    let over = RwSignal::new(false);
    let pasted = RwSignal::new(String::new());
    let add = move || {
        let text = pasted.get_untracked();
        if !text.trim().is_empty() {
            app.add_text(None, &text);
            pasted.set(String::new());
            app.announce("Document added.");
        }
    };
    let dropped = move |e: ev::DragEvent| {
        e.prevent_default();
        over.set(false);
        let Some(data) = e.data_transfer() else { return };
        let files = list(data.files());
        if files.is_empty() {
            if let Ok(text) = data.get_data("text/plain") {
                app.add_text(None, &text);
            }
        } else {
            app.add_files(files);
        }
    };
    let chosen = move |e: ev::Event| {
        let Some(input) = e.target().and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok())
        else {
            return;
        };
        app.add_files(list(input.files()));
        input.set_value("");
    };
    view! {
        <div class="drop" class:over=move || over.get() on:drop=dropped
            on:dragover=move |e| { e.prevent_default(); over.set(true); }
            on:dragleave=move |_| over.set(false)>
            <label class="sr" for="paste">"Paste text to search in"</label>
            <textarea id="paste" rows="2" data-test="docs-input" placeholder="Paste text here, or drop text and markdown files"
                prop:value=pasted on:input:target=move |e| pasted.set(e.target().value())
                // Moving on means "this is it"; leaving the window does not.
                on:blur=move |_| if document().has_focus().unwrap_or(false) { add() }
                on:keydown=move |e: ev::KeyboardEvent| {
                    if e.key() == "Enter" && (e.ctrl_key() || e.meta_key()) { e.prevent_default(); add(); }
                }></textarea>
            <div class="row">
                <button type="button" class="btn tiny" disabled=move || pasted.with(|p| p.trim().is_empty())
                    on:click=move |_| add()>"Add as a document"</button>
                <input class="file-input" type="file" id="files" data-test="docs-file" multiple accept=".txt,.md,.markdown,text/plain,text/markdown"
                    on:change=chosen/>
                <label class="btn tiny" for="files">"Choose files"</label>
            </div>
        </div>
    }
}

/// Files of a drop or a picker.
pub(crate) fn list(files: Option<web_sys::FileList>) -> Vec<web_sys::File> {
    let Some(files) = files else { return Vec::new() };
    (0..files.length()).filter_map(|i| files.get(i)).collect()
}
