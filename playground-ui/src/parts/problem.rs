//! A failure, designed: what, got, expected, what to do.

use leptos::prelude::*;
use nesa_messages::Problem;

use super::Prose;

/// A problem in place. The caller decides whether it interrupts.
#[component]
pub(crate) fn ProblemNote(problem: Problem) -> impl IntoView {
    let details = problem.got.is_some() || problem.expected.is_some();
    view! {
        <div class="note failed" data-code=problem.code>
            <p><strong><Prose text=problem.what/></strong></p>
            <Show when=move || details>
                <dl>
                    {problem.got.clone().map(|g| view! { <dt>"Got"</dt><dd class="mono"><Prose text=g/></dd> })}
                    {problem.expected.clone().map(|e| view! { <dt>"Expected"</dt><dd class="mono"><Prose text=e/></dd> })}
                </dl>
            </Show>
            <p>{problem.next_step}</p>
        </div>
    }
}
