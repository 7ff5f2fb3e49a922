//! Drop a receipt, see what it shows and what it does not. Works offline once the page is loaded.

use leptos::{ev, prelude::*};
use nesa_messages::{ReceiptCheck, ReceiptKind, ReceiptReport, StepState, ToWorker};
use wasm_bindgen::JsCast;

use super::playground::list;
use crate::{
    bridge,
    format::millis,
    parts::{ProblemNote, icon, state_class, state_word},
    state::{App, read_bytes},
};

/// The page.
#[component]
pub(crate) fn Verify() -> impl IntoView {
    let app = App::get();
    let over = RwSignal::new(false);
    let check = move |file: web_sys::File| {
        app.checking.set(true);
        app.report.set(None);
        leptos::task::spawn_local(async move {
            match read_bytes(&file).await {
                Ok(bytes) => {
                    let request = app.next_serial();
                    bridge::send_file(&ToWorker::VerifyFile { request, name: file.name() }, &bytes);
                }
                Err(why) => {
                    app.checking.set(false);
                    app.toast(why, None);
                }
            }
        });
    };
    let dropped = move |e: ev::DragEvent| {
        e.prevent_default();
        over.set(false);
        if let Some(file) = e.data_transfer().and_then(|d| list(d.files()).into_iter().next()) {
            check(file);
        }
    };
    let chosen = move |e: ev::Event| {
        let Some(input) = e.target().and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok())
        else {
            return;
        };
        if let Some(file) = list(input.files()).into_iter().next() {
            check(file);
        }
        input.set_value("");
    };
    view! {
        <div class="frame"><div class="page">
            <header><h1>"Verify a receipt"</h1>
                <p class="lede">"Anyone’s. It is checked on this device against the trust root alone; no server is asked."</p></header>
            <div class="drop verify-drop" class:over=move || over.get() on:drop=dropped
                on:dragover=move |e| { e.prevent_default(); over.set(true); }
                on:dragleave=move |_| over.set(false)>
                <p>"Drop a receipt file here"</p>
                <input class="file-input" type="file" id="receipt" data-test="verify-file" on:change=chosen/>
                <label class="btn main" for="receipt">"Choose a file"</label>
            </div>
            <div role="status" id="receipt-result">
                <Show when=move || app.checking.get()><p class="muted">"Checking…"</p></Show>
                {move || app.report.get().map(|r| view! { <Report report=r/> })}
            </div>
            <div class="prose">
                <h2>"Two kinds"</h2>
                <p><strong>"A payment receipt"</strong>" is public. It shows that the query was paid and final, which nodes were drawn, \
                    what they committed to and how it was settled. It does not show the answer to be right: that convinces only the \
                    one who held the secret."</p>
                <p><strong>"An opened receipt"</strong>" contains the question and the masks, so anyone who has it can read them. In return, \
                    this device re-checks every layer with a fresh secret of its own."</p>
            </div>
        </div></div>
    }
}

#[component]
fn Report(report: ReceiptReport) -> impl IntoView {
    let (class, title) =
        if report.valid { ("verified", "Every check held") } else { ("failed", "Not valid") };
    let kind = match report.kind {
        ReceiptKind::Payment => "payment receipt",
        ReceiptKind::Opened => "opened receipt",
    };
    let contents = serde_json::to_string_pretty(&report.contents).unwrap_or_default();
    let has_contents = !report.contents.is_null();
    view! {
        <section class="block" data-test="verify-result" data-ok=report.valid.to_string()>
            <div class=format!("seal {class}")>
                {icon(class)} <h2>{title}</h2>
                <span class="num">{format!("{} · {kind} · {}", report.file, millis(report.checked_ms))}</span>
            </div>
            {report.problem.map(|p| view! { <ProblemNote problem=p/> })}
            <ol class="ladder" data-test="verify-checks">{report.checks.into_iter().map(check_row).collect_view()}</ol>
            {has_contents.then(|| view! {
                <details><summary>"What it says"</summary><pre class="evidence" tabindex="0">{contents}</pre></details>
            })}
            {(!report.does_not_show.is_empty()).then(|| view! {
                <section class="not-proven"><h3>"What this does not show"</h3>
                    <ul>{report.does_not_show.into_iter().map(|l| view! { <li>{l}</li> }).collect_view()}</ul></section>
            })}
        </section>
    }
}

fn check_row(c: ReceiptCheck) -> impl IntoView {
    let class = state_class(c.state);
    let time = match (c.state, c.checked_ms) {
        (StepState::Verified, Some(ms)) => format!("Verified by this device in {}", millis(ms)),
        (state, _) => state_word(state).to_owned(),
    };
    let evidence = (!c.evidence.is_null())
        .then(|| serde_json::to_string_pretty(&c.evidence).unwrap_or_default());
    view! {
        <li class=format!("rung {class}")>
            <span class="rung-icon">{icon(class)}</span>
            <div class="rung-body">
                <h3>{c.what}</h3>
                <p class=format!("state {class}")>{time}</p>
                {evidence.map(|e| view! { <details><summary>"Evidence"</summary><pre class="evidence" tabindex="0">{e}</pre></details> })}
            </div>
        </li>
    }
}
