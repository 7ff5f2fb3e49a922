//! A running query: where it is, how much has moved, and the way to stop it.

use leptos::prelude::*;
use nesa_messages::{JobId, JobPhase, Lane};

use crate::{
    format::{bytes, millis},
    parts::icon,
    state::App,
};

const SEALED: [(JobPhase, &str); 6] = [
    (JobPhase::Tokenizing, "Count tokens on this device"),
    (JobPhase::Escrowing, "Hold the fee"),
    (JobPhase::Drawing, "Draw the nodes"),
    (JobPhase::Connecting, "Seal an envelope to each"),
    (JobPhase::Computing, "Write and compare"),
    (JobPhase::Settling, "Publish traces"),
];

const FLOAT: [(JobPhase, &str); 5] = [
    (JobPhase::Escrowing, "Hold the fee"),
    (JobPhase::Drawing, "Draw the nodes"),
    (JobPhase::Connecting, "Seal an envelope to each"),
    (JobPhase::Computing, "Run and compare"),
    (JobPhase::Settling, "Publish answers"),
];

const PHASES: [(JobPhase, &str); 7] = [
    (JobPhase::Tokenizing, "Split on this device"),
    (JobPhase::Escrowing, "Hold the fee"),
    (JobPhase::Drawing, "Draw two nodes"),
    (JobPhase::Connecting, "Connect"),
    (JobPhase::Computing, "Compute and check"),
    (JobPhase::Binding, "Collect signatures"),
    (JobPhase::Settling, "Pay"),
];

fn order(phases: &[(JobPhase, &str)], phase: JobPhase) -> usize {
    phases.iter().position(|(p, _)| *p == phase).unwrap_or(phases.len())
}

/// The panel.
#[component]
pub(crate) fn Running(id: JobId) -> impl IntoView {
    let app = App::get();
    let progress =
        Memo::new(move |_| app.progress.with(|all| all.get(&id).cloned().unwrap_or_default()));
    let lane = app
        .jobs
        .with_untracked(|all| all.get(&id).map(|job| Lane::of(&job.ladder)).unwrap_or_default());
    let phases: &'static [(JobPhase, &str)] = match lane {
        Lane::Masked => &PHASES,
        Lane::Sealed => &SEALED,
        Lane::Float => &FLOAT,
    };
    let sealed = lane != Lane::Masked;
    let told = move || {
        app.jobs.with(|all| {
            let float = all.get(&id)?.float.as_ref()?;
            let replicas = u32::from(float.replicas);
            Some(format!("{} of {replicas} nodes have answered", float.answered))
        })
    };
    let words = move || {
        let p = progress.get();
        match p.phase {
            JobPhase::Computing if lane == Lane::Float => {
                told().unwrap_or_else(|| "The nodes compute".to_owned())
            }
            JobPhase::Computing if p.layers > 0 => format!(
                "Batch {} of {}, layer {} of {}",
                (p.pass + 1).min(p.passes.max(1)),
                p.passes.max(1),
                p.layer,
                p.layers
            ),
            phase => {
                phases.iter().find(|(p, _)| *p == phase).map_or("Finishing", |(_, w)| w).to_owned()
            }
        }
    };
    view! {
        <section class="running" aria-label="Progress">
            <div class="row between">
                <p id="progress-words"><strong>{words}</strong></p>
                <button type="button" class="btn" data-test="cancel" on:click=move |_| app.cancel(id)>
                    {icon("stop")} "Stop" <kbd>"Esc"</kbd></button>
            </div>
            <progress aria-labelledby="progress-words" max="1000"
                value=move || if sealed {
                    (order(phases, progress.get().phase) * 1000 / phases.len()).to_string()
                } else {
                    progress.get().permille().to_string()
                }></progress>
            <ol class="phases">
                {phases.iter().copied().map(|(phase, name)| view! {
                    <li class={move || if order(phases, progress.get().phase) > order(phases, phase) { "done" } else { "" }}
                        aria-current=move || (progress.get().phase == phase).then_some("step")>{name}</li>
                }).collect_view()}
            </ol>
            <p class="small muted num">{move || {
                let p = progress.get();
                format!("{} sent, {} received, {}", bytes(p.bytes_up), bytes(p.bytes_down), millis(p.elapsed_ms))
            }}</p>
        </section>
    }
}
