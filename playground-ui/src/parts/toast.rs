//! Short messages with a way back.

use leptos::prelude::*;

use super::icon;
use crate::state::App;

/// The corner where they appear.
#[component]
pub(crate) fn Toasts() -> impl IntoView {
    let app = App::get();
    view! {
        <div class="toasts" role="status">
            {move || app.toast.get().map(|toast| {
                let undo = toast.undo;
                view! {
                    <div class="toast">
                        <span>{toast.text}</span>
                        <span class="row">
                            {undo.map(|draft| view! {
                                <button type="button" class="link"
                                    on:click=move |_| app.undo(draft.clone())>"Undo"</button>
                            })}
                            <button type="button" class="icon-btn" aria-label="Dismiss"
                                on:click=move |_| app.toast.set(None)>{icon("close")}</button>
                        </span>
                    </div>
                }
            })}
        </div>
    }
}
