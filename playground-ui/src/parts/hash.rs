//! Hashes: shortened, monospace, copyable, linked where a page exists for them.

use leptos::prelude::*;
use nesa_page::wording::{Piece, pieces};
use wasm_bindgen_futures::JsFuture;

use crate::{format::short, state::App};

/// Puts text on the clipboard and says so.
pub(crate) fn copy(app: App, text: String) {
    leptos::task::spawn_local(async move {
        let promise = window().navigator().clipboard().write_text(&text);
        match JsFuture::from(promise).await {
            Ok(_) => app.toast("Copied", None),
            Err(_) => app.toast("This browser did not allow copying", None),
        }
    });
}

/// A hash with its copy button; `name` says what it is to those who cannot see the context.
#[component]
pub(crate) fn HashText(
    /// The whole hash.
    #[prop(into)]
    hash: Signal<String>,
    /// What it is the hash of.
    name: &'static str,
    /// Where to read more.
    #[prop(optional, into)]
    href: Option<String>,
) -> impl IntoView {
    let app = App::get();
    let text = move || short(&hash.get());
    view! {
        <span class="hash">
            {match href {
                Some(href) => view! { <a href=href title=hash>{text}</a> }.into_any(),
                None => view! { <span title=hash>{text}</span> }.into_any(),
            }}
            <button type="button" class="copy" aria-label=format!("Copy {name}")
                on:click=move |_| copy(app, hash.get_untracked())>
                <svg width="14" height="14" viewBox="0 0 24 24" fill="none" stroke="currentColor"
                    stroke-width="2" aria-hidden="true"><path d="M9 9h11v11H9zM15 9V4H4v11h5"></path></svg>
            </button>
        </span>
    }
}

/// A sentence in place; the hashes in it are shortened and copyable.
#[component]
pub(crate) fn Prose(
    /// The sentence.
    #[prop(into)]
    text: String,
) -> impl IntoView {
    pieces(&text)
        .into_iter()
        .map(|piece| match piece {
            Piece::Words(words) => words.into_any(),
            Piece::Hash(hash) => view! { <HashText hash=hash name="the whole hash"/> }.into_any(),
        })
        .collect_view()
}
