//! The head of a conversation: its title, its model, and what can be done with the whole of it.

use leptos::{ev, html, prelude::*};
use nesa_messages::ConversationId;

use super::models::ModelLine;
use crate::state::{App, Intent};

/// Title, rename, export, delete.
#[component]
pub(super) fn Title(id: ConversationId) -> impl IntoView {
    let app = App::get();
    let title = Memo::new(move |_| {
        app.talks.with(|all| all.get(&id).map(|c| c.title.clone()).unwrap_or_default())
    });
    let openings = Memo::new(move |_| {
        app.jobs.with(|all| all.values().any(|j| j.conversation == Some(id) && j.has_opening))
    });
    let field = NodeRef::<html::Input>::new();
    Effect::new(move |_| {
        if app.renaming.get()
            && let Some(field) = field.get()
        {
            let _ = field.focus();
            field.select();
        }
    });
    let save = move |e: ev::SubmitEvent| {
        e.prevent_default();
        let typed = field.get_untracked().map(|f| f.value()).unwrap_or_default();
        app.rename(id, &typed);
    };
    view! {
        <header class="talk-head">
            <Show when=move || app.renaming.get() fallback=move || view! { <h1 class="question" data-test="title">{title}</h1> }>
                <form class="row" on:submit=save>
                    <label class="sr" for="title-field">"Title of this conversation"</label>
                    <input type="text" id="title-field" class="title-field" data-test="title-field" maxlength="80" node_ref=field
                        prop:value=move || title.get_untracked()
                        on:keydown=move |e: ev::KeyboardEvent| {
                            if e.key() == "Escape" {
                                e.stop_propagation();
                                app.renaming.set(false);
                            }
                        }/>
                    <button type="submit" class="btn">"Save"</button>
                    <button type="button" class="btn" on:click=move |_| app.renaming.set(false)>"Cancel"</button>
                </form>
            </Show>
            <ModelLine/>
            <div class="row">
                <button type="button" class="btn tiny" data-test="rename" on:click=move |_| app.renaming.set(true)>"Rename"</button>
                <button type="button" class="btn tiny" data-test="export-talk"
                    on:click=move |_| app.intent.set(Some(Intent::ExportConversation(id)))>"Export…"</button>
                <Show when=move || openings.get()>
                    <button type="button" class="btn tiny"
                        on:click=move |_| app.intent.set(Some(Intent::ExportConversationOpened(id)))>
                        "Export with opened receipts…"</button>
                </Show>
                <button type="button" class="btn tiny" data-test="delete-talk"
                    on:click=move |_| app.intent.set(Some(Intent::DeleteConversation(id)))>"Delete"</button>
            </div>
        </header>
    }
}
