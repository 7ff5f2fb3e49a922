//! What came of a run: how far it is evidence, the outputs, and which node said what.

use js_sys::Uint8Array;
use leptos::prelude::*;
use nesa_messages::{FloatNode, FloatTensor, FloatView, JobState};
use nesa_page::{
    float::{self, Shown},
    sealed::Mark,
};

use super::price::Rates;
use crate::{
    format::{plural, short, thousands},
    parts::icon,
    route::Route,
    state::{App, download},
};

/// Values of an output that are shown before the rest.
const SHOWN: usize = 10;

/// The result of a float query, as far as it is.
#[component]
pub(crate) fn Outputs(view: FloatView, state: JobState) -> impl IntoView {
    let mark = float::mark(&view, state);
    let compared = state != JobState::Running && view.nodes.iter().any(|n| n.problem.is_none());
    let near = view.worst_ppb.map(|worst| {
        format!(
            "The outputs of those that agree differ by at most {}; honest machines may by {}.",
            float::parts(worst),
            float::parts(view.allowed_ppb)
        )
    });
    let evidence = view.rates.as_ref().map(float::evidence);
    let kept: usize = view.outputs.iter().map(|output| output.values.len()).sum();
    let cut = (view.values > kept as u64).then(|| {
        format!(
            "Of {} values this device kept the first {}.",
            thousands(view.values),
            thousands(kept as u64)
        )
    });
    let text = float::json(&view.outputs);
    let has_outputs = !view.outputs.is_empty();
    view! {
        <section class="stack" aria-labelledby="float-standing">
            <h2 class="sr" id="float-standing">"How far this can be relied on"</h2>
            {label(mark)}
            {compared.then(|| view! {
                <p data-test="float-agreement"><strong>{float::agreement(&view)}"."</strong>
                    {near.clone().map(|near| format!(" {near}"))}</p>
            })}
            {view.missing.clone().map(|missing| view! { <p class="small">{format!("Missing: {missing}.")}</p> })}
            {(mark.name == "evidence").then(|| evidence.map(|words| view! {
                <p class="small" data-test="float-evidence">{words}
                    " Whoever knows the thresholds can stay within them, and a majority may lie alike."</p>
            }))}
        </section>
        {has_outputs.then(|| view! {
            <section class="stack" aria-labelledby="float-outputs">
                <div class="row between">
                    <h2 id="float-outputs">"Outputs"</h2>
                    <Save text=text/>
                </div>
                {view.outputs.iter().map(output).collect_view()}
                {cut.map(|cut| view! { <p class="small muted">{cut}</p> })}
            </section>
        })}
        {nodes(&view)}
        {view.rates.clone().map(|rates| view! {
            <details><summary>"Measured error rates"</summary>
                <div class="inset stack"><Rates rates=rates/></div></details>
        })}
        <p><a class="btn" href=Route::Float.href()>{icon("plus")} "Run again"</a></p>
    }
}

fn label(mark: Mark) -> impl IntoView {
    let drawn = match mark.name {
        "evidence" => "statistical",
        "disputed" => "failed",
        "provisional" => "pending",
        _ => "not-checked",
    };
    view! {
        <p class="mark" data-test="standing" data-standing=mark.name>
            {icon(drawn)} <span><strong>{mark.label}"."</strong> " " {mark.words}</span>
        </p>
    }
}

/// All outputs as a file.
#[component]
fn Save(text: String) -> impl IntoView {
    let app = App::get();
    let save = move |_| {
        let bytes = Uint8Array::from(text.as_bytes());
        match download("outputs.json", "application/json", &bytes) {
            Ok(()) => app.announce("The outputs are saved as a file."),
            Err(_) => app.toast("The browser did not save the file.", None),
        }
    };
    view! { <button type="button" class="btn tiny" data-test="float-save" on:click=save>"Save all as JSON"</button> }
}

fn output(output: &FloatTensor) -> impl IntoView + use<> {
    let count = output.values.len();
    let shown = float::greatest(output, SHOWN);
    let name = output.name.clone();
    let shape = format!("{:?}, {}", output.shape, plural(count as u64, "value"));
    let more = count > SHOWN;
    view! {
        <div class="stack" data-test="float-output">
            <h3><code>{name.clone()}</code> " " <span class="small muted num">{shape}</span></h3>
            <table class="values">
                <caption class="sr">{format!("The greatest values of {name}")}</caption>
                <thead class="sr"><tr><th scope="col">"Place"</th><th scope="col">"Size"</th><th scope="col">"Value"</th></tr></thead>
                <tbody>{shown.into_iter().map(row).collect_view()}</tbody>
            </table>
            {more.then(|| view! { <p class="small muted">{format!("The {SHOWN} greatest of {}.", thousands(count as u64))}</p> })}
        </div>
    }
}

fn row(shown: Shown) -> impl IntoView {
    view! {
        <tr>
            <th scope="row" class="num small">{shown.place}</th>
            <td><span class="meter" aria-hidden="true"><progress max="100" value=shown.percent.to_string()></progress></span></td>
            <td class="num">{shown.value}</td>
        </tr>
    }
}

/// Who ran it, who differs, who left.
fn nodes(view: &FloatView) -> impl IntoView + use<> {
    let lines = view.nodes.iter().map(node).collect_view();
    let left = view.replaced.iter().map(|one| {
        let words = format!(
            "Node {} of operator {} gave no answer ({}). A spare took its place.",
            short(&one.node),
            short(&one.operator),
            one.reason
        );
        view! { <li class="small" data-test="replaced">{words}</li> }
    });
    let left = left.collect_view();
    (!view.nodes.is_empty() || !view.replaced.is_empty()).then(|| {
        view! {
            <section class="stack" aria-labelledby="float-nodes">
                <h2 id="float-nodes">"The nodes"</h2>
                <ul class="stack float-nodes">{lines}{left}</ul>
            </section>
        }
    })
}

fn node(node: &FloatNode) -> impl IntoView + use<> {
    let (class, drawn, words) = match (&node.problem, node.agrees, node.revealed) {
        (Some(_), ..) => ("missing", "not-checked", "Gave no answer."),
        (None, true, Some(true)) => ("agrees", "statistical", "Agrees, and stands by it."),
        (None, true, None) => {
            ("agrees", "statistical", "Agrees. It has yet to publish that it stands by it.")
        }
        (None, _, Some(false)) => {
            ("broken", "failed", "Published another answer than it told you.")
        }
        (None, false, _) => {
            ("differs", "failed", "Differs from the others: not counted, not paid.")
        }
    };
    let name = format!("Node {} of operator {}", short(&node.node), short(&node.operator));
    let why = node.problem.clone().map(|why| format!(" ({why})"));
    view! {
        <li class="row" data-test="float-node" data-state=class data-operator=node.operator.clone()>
            <span class=format!("state {drawn}")>{icon(drawn)}</span>
            <span><strong>{words}</strong> <span class="small muted">" " {name}{why}</span></span>
        </li>
    }
}
