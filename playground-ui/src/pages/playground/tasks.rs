//! What one can ask for: four tasks, each with its own input and its own address.

use leptos::prelude::*;

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
    view! {
        <nav class="tasks" aria-label="Tasks"><ul>
            {TASKS.map(|(route, name)| view! {
                <li><a href=route.href() data-test="task" aria-current=move || (app.route.get() == route).then_some("page")>{name}</a></li>
            }).collect_view()}
        </ul></nav>
    }
}
