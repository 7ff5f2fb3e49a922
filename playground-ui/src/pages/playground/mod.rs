//! Private search: compose, see the price, send, read, check.

pub(crate) mod answer;
mod committee;
mod compose;
pub(crate) mod preflight;
pub(crate) mod price;
pub(crate) mod progress;
mod tasks;

use leptos::prelude::*;
use nesa_messages::{JobId, JobState, JobView, Step, StepId, StepState, TaskKind, ToWorker};

pub(crate) use compose::list;
pub(crate) use tasks::Tasks;

use crate::{bridge, parts::Rail, route::Route, state::App};

/// The input, ready to be used.
#[component]
pub(crate) fn Playground() -> impl IntoView {
    view! {
        <div class="frame two">
            <Rail/>
            <div class="page">
                <Tasks/>
                <header>
                    <h1>"Search your documents. Nobody else reads them."</h1>
                    <p class="lede">
                        "Two strangers’ computers do the work, each on a half that is noise to it. \
                        This device puts the halves together and checks every layer."
                    </p>
                </header>
                <compose::Compose first=true/>
            </div>
        </div>
    }
}

/// One query: running, answered or failed, with its ladder beside it.
#[component]
pub(crate) fn Answer(id: JobId) -> impl IntoView {
    let app = App::get();
    if app.jobs.with_untracked(|all| !all.contains_key(&id)) {
        bridge::send(&ToWorker::OpenJob { job: id });
    }
    let job = Memo::new(move |_| app.jobs.with(|all| all.get(&id).cloned()));
    let known = Memo::new(move |_| job.with(Option::is_some));
    let kind = Memo::new(move |_| job.with(|j| j.as_ref().map(|j| j.kind)));
    let ended = Memo::new(move |_| {
        let search = matches!(kind.get(), Some(TaskKind::Search | TaskKind::Embed));
        search && job.with(|j| j.as_ref().is_some_and(|j| j.state != JobState::Running))
    });
    // An answer of a conversation is shown where it was given.
    Effect::new(move |_| {
        if let Some(talk) = job.with(|j| j.as_ref().and_then(|j| j.conversation)) {
            app.inspected.set(Some(id));
            app.go(Route::Conversation(talk));
        }
    });
    let steps = Signal::derive(move || job.with(|j| j.as_ref().map(rungs).unwrap_or_default()));
    view! {
        <div class="frame three">
            <Rail/>
            <div class="page">
                {move || if known.get() {
                    view! { <answer::Body id=id job=job/> }.into_any()
                } else {
                    view! {
                        <header><h1>"Looking on this device…"</h1>
                        <p class="muted">"Answers are kept only on the device that asked. \
                            If this link came from another one, there is nothing here to show."</p></header>
                    }.into_any()
                }}
            </div>
            <aside class="side stack" id="ladder" data-test="ladder" tabindex="-1" aria-labelledby="ladder-title">
                <Show when=move || known.get()>
                    <h2 id="ladder-title">"What this device checked"</h2>
                    <crate::parts::Ladder steps=steps/>
                </Show>
            </aside>
            <Show when=move || ended.get()>
                <section class="page again" aria-label="Next question"><compose::Compose first=false/></section>
            </Show>
        </div>
    }
}

/// The ladder to show. Once a query ended without an answer nothing is pending any more, except the
/// return of what was not spent.
pub(crate) fn rungs(job: &JobView) -> Vec<Step> {
    let over = !matches!(job.state, JobState::Running | JobState::Answered);
    let mut steps = job.ladder.clone();
    for step in &mut steps {
        if over && step.state == StepState::Pending && step.id != StepId::Settled {
            step.state = StepState::NotChecked;
        }
    }
    steps
}
