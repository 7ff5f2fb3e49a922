//! The button that sends what a page holds, and the line that says when it will.

use leptos::prelude::*;

use super::icon;
use crate::state::{App, Gate};

/// What is said beside the button: `open` where nothing is in the way. Fields refer to it by its id, `gate`.
#[component]
pub(crate) fn GateLine(
    /// How to send, or what sending means.
    open: &'static str,
) -> impl IntoView {
    let app = App::get();
    let said = Memo::new(move |_| match app.gate() {
        Gate::Open => open,
        Gate::Waiting(why) | Gate::Shut(why) => why,
    });
    view! {
        <p class="small muted" id="gate" role="status">{move || gate_words(app, said.get())}</p>
    }
}

/// The words of the line, with what was pressed too early.
pub(crate) fn gate_words(app: App, said: &str) -> String {
    if app.armed.get() { format!("Goes out by itself. {said}") } else { said.to_owned() }
}

/// The button. What is pressed while something is still awaited goes out by itself.
#[component]
pub(crate) fn Send(
    /// What it says.
    children: Children,
) -> impl IntoView {
    let app = App::get();
    let shut = Memo::new(move |_| app.armed.get() || matches!(app.gate(), Gate::Shut(_)));
    view! {
        <button type="submit" id="send" class="btn main" data-test="ask" disabled=move || shut.get()>
            {icon("send")} {children()}
        </button>
    }
}
