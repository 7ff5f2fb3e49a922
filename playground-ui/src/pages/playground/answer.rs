//! An answer and everything that hangs on it.

use leptos::prelude::*;
use nesa_messages::{
    Caught, Cost, JobId, JobState, JobView, NodeRef as Drawn, Passage, Side, TaskKind, ToWorker,
    claim,
};
use nesa_page::wording::first_words;
use wasm_bindgen::JsCast;

use super::progress::Running;
use crate::{
    bridge,
    format::{clock, millis, short, thousands},
    parts::{HashText, Markdown, ProblemNote, Prose, SplitBar, icon, state_class},
    route::Route,
    state::{App, Intent},
};

/// The main column of one query.
#[component]
pub(crate) fn Body(id: JobId, job: Memo<Option<JobView>>) -> impl IntoView {
    let view = move || job.get().unwrap_or_default();
    let running =
        Memo::new(move |_| job.with(|j| j.as_ref().is_some_and(|j| j.state == JobState::Running)));
    let passages = Memo::new(move |_| {
        job.with(|j| j.as_ref().map(|j| j.passages.clone()).unwrap_or_default())
    });
    let caught =
        Memo::new(move |_| job.with(|j| j.as_ref().map(|j| j.caught.clone()).unwrap_or_default()));
    // A chat kept without a conversation has its text here.
    let written = Memo::new(move |_| {
        job.with(|j| Some(j.as_ref()?.written.as_ref()?.text.clone()).filter(|t| !t.is_empty()))
    });
    let float = Memo::new(move |_| job.with(|j| j.as_ref().and_then(|j| j.float.clone())));
    let digit = Memo::new(move |_| job.with(|j| j.as_ref().and_then(|j| j.digit.clone())));
    let classified =
        Memo::new(move |_| job.with(|j| j.as_ref().and_then(|j| j.classified.clone())));
    view! {
        <header data-test="answer" data-state=move || state_name(view().state)>
            <h1 class="question">{move || match view() {
                // The text itself may be long.
                v if v.kind == TaskKind::Classify => first_words(&v.question),
                v => v.question,
            }}</h1>
            <p class="small muted">{move || {
                let v = view();
                let what = match (v.kind, v.documents.as_slice()) {
                    (TaskKind::Digit, _) => "an image of 8 × 8".to_owned(),
                    (TaskKind::Chat, _) => "a chat".to_owned(),
                    (TaskKind::Float, _) => "a run in floats".to_owned(),
                    (TaskKind::Classify, _) => "a text to classify".to_owned(),
                    (_, [one]) => one.clone(),
                    (_, many) => format!("{} documents", many.len()),
                };
                format!("{} · {what}", clock(v.started_ms))
            }}</p>
        </header>
        <Show when=move || running.get()><Running id=id/></Show>
        {move || job.with(|j| j.as_ref().and_then(|j| j.problem.clone())).map(|p| view! { <ProblemNote problem=p/> })}
        {move || caught.get().into_iter().map(caught_node).collect_view()}
        <Show when=move || !passages.with(Vec::is_empty)>
            <section class="stack" aria-labelledby="best">
                <h2 class="sr" id="best">"Best passages"</h2>
                <Seal job=job/>
                <ol class="results" id="results">
                    {move || passages.get().into_iter().take(SHOWN).map(passage).collect_view()}
                </ol>
                <More passages=passages/>
            </section>
        </Show>
        {move || digit.get().map(|d| view! {
            <section class="stack" aria-labelledby="read">
                <h2 class="sr" id="read">"What was read"</h2>
                <Seal job=job/>
                <crate::pages::ReadDigit digit=d/>
            </section>
        })}
        {move || float.get().map(|f| view! {
            <Show when=move || !running.get()><Seal job=job/></Show>
            <crate::pages::Outputs view=f state=view().state/>
        })}
        {move || classified.get().map(|found| view! {
            <section class="stack" aria-labelledby="found">
                <h2 class="sr" id="found">"What was found"</h2>
                <Seal job=job/>
                <crate::pages::FoundClass found=found/>
                <details><summary>"The text"</summary><p class="inset" data-test="whole-text">{move || view().question}</p></details>
            </section>
        })}
        {move || written.get().map(|text| view! {
            <section class="stack" aria-label="Answer"><Seal job=job/><Markdown text=Signal::stored(text)/></section>
        })}
        <Show when=move || !running.get()>
            <After id=id job=job/>
        </Show>
    }
}

pub(crate) fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Answered => "done",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Interrupted => "interrupted",
    }
}

/// Results shown before "the rest".
const SHOWN: usize = 5;

#[component]
fn More(passages: Memo<Vec<Passage>>) -> impl IntoView {
    view! {
        <Show when=move || passages.with(|p| p.len() > SHOWN)>
            <details>
                <summary>{move || format!("The other {}", passages.with(|p| p.len().saturating_sub(SHOWN)))}</summary>
                <ol class="results">
                    {move || passages.get().into_iter().skip(SHOWN).map(passage).collect_view()}
                </ol>
            </details>
        </Show>
    }
}

fn passage(p: Passage) -> impl IntoView {
    let best = p.rank == 1;
    // Cosine similarity of sentence vectors lives between 0 and 1 in practice; the bar shows that.
    let level = (p.score.clamp(0.0, 1.0) * 100.0).round().to_string();
    view! {
        <li class="result" class:best=best data-test="result" data-rank=p.rank.to_string()>
            <span class="rank">{p.rank}</span>
            <div class="stack">
                <h3>{p.title}{p.cached.then_some(" · vector checked earlier")}</h3>
                <p>{p.text}</p>
            </div>
            <div class="score">
                <span><span class="sr">"Similarity "</span>{format!("{:.3}", p.score)}</span>
                <div class="meter" aria-hidden="true"><progress max="100" value=level></progress></div>
            </div>
        </li>
    }
}

/// The one line under an answer, and the way to its ladder.
#[component]
pub(crate) fn Seal(job: Memo<Option<JobView>>) -> impl IntoView {
    let app = App::get();
    let said = Memo::new(move |_| {
        job.with(|j| {
            j.as_ref().map_or_else(|| claim(JobState::Running, &[]), |j| claim(j.state, &j.ladder))
        })
    });
    let numbers = move || {
        job.with(|j| {
            let j = j.as_ref()?;
            let time = j.timings.as_ref().map(|t| millis(t.total_ms));
            let cost = j.cost.as_ref().map(|c| format!("{} NES", c.paid));
            let both: Vec<String> = [time, cost].into_iter().flatten().collect();
            Some(both.join(" · "))
        })
    };
    view! {
        <div class=move || format!("seal {}", state_class(said.get().state)) data-test="seal"
            data-state=move || state_class(said.get().state)>
            {move || icon(state_class(said.get().state))}
            <strong>{move || said.get().text}</strong>
            <span class="num">{numbers}</span>
            <button type="button" class="link" on:click=move |_| {
                app.inspected.set(job.with_untracked(|j| j.as_ref().map(|j| j.id)));
                let ladder = document().get_element_by_id("ladder");
                if let Some(ladder) = ladder.and_then(|l| l.dyn_into::<web_sys::HtmlElement>().ok()) {
                    let _ = ladder.focus();
                    ladder.scroll_into_view();
                }
            }>"See each check"</button>
        </div>
    }
}

fn node_name(node: &Drawn) -> String {
    let operator =
        node.operator_name.clone().unwrap_or_else(|| format!("operator {}", short(&node.operator)));
    format!("node {} of {operator}", short(&node.node))
}

pub(crate) fn caught_node(c: Caught) -> impl IntoView {
    let title = if c.what.contains("wrong") {
        "Caught a node that computed wrongly"
    } else {
        "Replaced a node"
    };
    view! {
        <section class="note failed caught" data-test="rejected">
            <h2>{icon("shield")} {title}</h2>
            <dl>
                <dt>"Who"</dt><dd>{node_name(&c.node)} {match c.node.side { Side::A => " on side A", Side::B => " on side B" }}</dd>
                <dt>"What"</dt><dd>{c.what}</dd>
                <dt>"Money"</dt><dd>{c.money}</dd>
                <dt>"Then"</dt><dd>{c.next}</dd>
            </dl>
            <p class="small">"The wrong part never reached the answer. Only this device knows, and it is enough: \
                the node is not paid for it."</p>
        </section>
    }
}

/// After: time, money, who, records, life.
#[component]
fn After(id: JobId, job: Memo<Option<JobView>>) -> impl IntoView {
    let app = App::get();
    let opening = Memo::new(move |_| job.with(|j| j.as_ref().is_some_and(|j| j.has_opening)));
    let payment =
        Memo::new(move |_| job.with(|j| j.as_ref().is_some_and(|j| j.has_payment_receipt)));
    let busy = Memo::new(move |_| app.rechecking.get() == Some(id));
    view! {
        <section class="block" aria-label="After the answer">
            <div class="row">
                <button type="button" class="btn" data-test="recheck" disabled=move || busy.get()
                    on:click=move |_| app.recheck(id)>
                    {move || if busy.get() { "Checking again…" } else { "Check again" }}</button>
                <button type="button" class="btn" data-test="export-payment" disabled=move || !payment.get()
                    on:click=move |_| bridge::send(&ToWorker::ExportPayment { job: id })>"Export payment receipt"</button>
                <Show when=move || opening.get()>
                    <button type="button" class="btn" data-test="export-opened"
                        on:click=move |_| app.intent.set(Some(Intent::ExportOpened(id)))>"Export opened receipt…"</button>
                </Show>
                <button type="button" class="btn" on:click=move |_| app.intent.set(Some(Intent::DeleteJob(id)))>"Delete"</button>
            </div>
            {move || job.with(|j| j.as_ref().map(|j| details(j).into_any()))}
        </section>
    }
}

pub(crate) fn details(job: &JobView) -> impl IntoView + use<> {
    let time = job.timings.clone().map(|t| {
        view! {
            <div class="stack" data-test="latency">
                <h2>{format!("Time: {}", millis(t.total_ms))}</h2>
                <SplitBar label="Where the time went" parts=vec![
                    ("Chain", t.chain_ms), ("Network", t.network_ms), ("Nodes", t.nodes_ms),
                    ("This device, computing", t.device_ms), ("This device, checking", t.check_ms),
                ]/>
            </div>
        }
    });
    let money = job.cost.clone().map(|c| view! {
        <div class="stack" data-test="cost">
            <h2>"Money"</h2>
            <dl class="facts">
                <div><dt>"Held"</dt><dd>{format!("{} NES", c.escrowed)}</dd></div>
                <div><dt>"Paid"</dt><dd>{format!("{} NES", c.paid)}</dd></div>
                <div><dt>"Fees"</dt><dd>{format!("{} NES", c.fees)}</dd></div>
                {(c.burned.0 > 0).then(|| view! { <div><dt>"Burned in dispute"</dt><dd>{format!("{} NES", c.burned)}</dd></div> })}
                <div><dt>"Returned"</dt><dd>{back(&c)}</dd></div>
            </dl>
        </div>
    });
    let nodes = job
        .nodes
        .iter()
        .map(|n| {
            view! {
                <li>{match n.side { Side::A => "A: ", Side::B => "B: " }} {node_name(n)}
                    {n.named.then_some(", named by you")}</li>
            }
        })
        .collect_view();
    let life = job.life.iter().map(|e| {
        let block = e.height.map(|h| view! {
            " " <a href=Route::Block(h).href()>{format!("block {}", thousands(h))}</a>
        });
        view! { <li><span class="at small">{millis(e.at_ms)}</span><span><Prose text=e.what.clone()/>{block}</span></li> }
    }).collect_view();
    let query = job.query.clone();
    let has_life = !job.life.is_empty();
    let has_nodes = !job.nodes.is_empty();
    view! {
        {time} {money}
        {has_life.then(|| view! {
            <details><summary>"Life of this query"</summary><ol class="life">{life}</ol></details>
        })}
        {has_nodes.then(|| view! {
            <div class="small muted stack">
                <ul>{nodes}</ul>
                {query.map(|q| view! { <p>"Query " <HashText hash=q name="query id"/></p> })}
            </div>
        })}
    }
}

/// What came back of an escrow, or what is still held and until when.
fn back(cost: &Cost) -> String {
    match (cost.returned, cost.returns_ms) {
        (Some(returned), _) => format!("{returned} NES"),
        (None, Some(at)) => format!("{} NES held until {}", cost.held, clock(at)),
        (None, None) => "at the deadline".to_owned(),
    }
}
