//! What one can ask for: tasks, each with its own input and its own address.

use leptos::prelude::*;
use nesa_messages::ModelFamily;

use crate::{route::Route, state::App};

const TASKS: [(Route, &str); 4] = [
    (Route::Playground, "Search documents"),
    (Route::Chat, "Ask a model"),
    (Route::Digit, "Read a digit"),
    (Route::Float, "Run any model"),
];

/// The way from one task to another.
#[component]
pub(crate) fn Tasks() -> impl IntoView {
    let app = App::get();
    // Offered where the network has a model for it, and named where one is on its page already.
    let classifies = Memo::new(move |_| {
        let offered = app
            .models
            .with(|all| all.iter().flatten().any(|m| m.family == ModelFamily::TextClassifier));
        offered || app.route.get() == Route::Classify
    });
    let task = move |(route, name): (Route, &'static str)| {
        view! {
            <li><a href=route.href() data-test="task" aria-current=move || (app.route.get() == route).then_some("page")>{name}</a></li>
        }
    };
    view! {
        <nav class="tasks" aria-label="Tasks"><ul>
            {TASKS.map(task).collect_view()}
            {move || classifies.get().then(|| task((Route::Classify, "Classify a text")))}
        </ul></nav>
    }
}
