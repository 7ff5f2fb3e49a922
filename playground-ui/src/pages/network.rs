//! Live blocks, each verified here; the nodes, proven from state.

use leptos::prelude::*;
use nesa_messages::{BlockRow, NodeRow, PeerRow, StepState, ToWorker, Unes};

use crate::{
    bridge,
    format::{clock, millis, plural, thousands},
    parts::{HashText, Prose, Sparkline, StateBadge, state_class, state_icon, state_word},
    route::Route,
    state::App,
};

/// Blocks in the list.
const LISTED: usize = 12;

/// The page.
#[component]
pub(crate) fn Network() -> impl IntoView {
    let app = App::get();
    bridge::send(&ToWorker::Nodes);
    let finality = Signal::derive(move || {
        app.blocks
            .with(|b| b.iter().filter_map(|r| r.finality_ms).filter(|ms| *ms >= 0.0).collect())
    });
    let empty = Memo::new(move |_| app.blocks.with(std::collections::VecDeque::is_empty));
    view! {
        <div class="frame"><div class="page">
            <header>
                <h1>"Network"</h1>
                <p class="lede">"Every block below was checked by this device: its certificate against the group key, \
                    its seed and its parent’s seed."</p>
            </header>
            <section class="block" aria-labelledby="blocks-title">
                <div class="row between"><h2 id="blocks-title">"Blocks"</h2>
                    <span class="num" data-test="head-height">{move || app.status.with(|s| s.height)}</span></div>
                <Show when=move || !empty.get() fallback=|| view! {
                    <p class="muted">"Waiting for the first block. Nothing is shown before it is checked."</p>
                }>
                    <Sparkline values=finality label="From block time to checked here"/>
                    <ol class="ticker" id="blocks" aria-label="Latest blocks">
                        <For each=move || app.blocks.with(|b| b.iter().rev().take(LISTED).cloned().collect::<Vec<_>>())
                            key=|b| b.height let:block>{tick(block)}</For>
                    </ol>
                    <p class="small muted">"Time by this device’s clock. Blocks come four times a second while there is \
                        work, once a second when idle."</p>
                </Show>
            </section>
            <Nodes/>
            <Life/>
            <Peers/>
        </div></div>
    }
}

fn tick(b: BlockRow) -> impl IntoView {
    let class = state_class(b.state);
    let verified = b.state == StepState::Verified;
    view! {
        <li class="tick" data-test="block" data-height=b.height.to_string() data-state=class>
            <a href=Route::Block(b.height).href()>{thousands(b.height)}</a>
            <span class=format!("state {class}")>{state_icon(b.state)}
                {if verified { format!("in {}", millis(b.checked_ms)) } else { state_word(b.state).to_owned() }}</span>
            <span class="small muted wide">{b.transactions.map(|t| format!("{t} tx"))}</span>
            <span class="small muted r">{clock(b.timestamp_ms as f64)}</span>
        </li>
    }
}

#[component]
fn Nodes() -> impl IntoView {
    let app = App::get();
    let state = Signal::derive(move || {
        app.network.with(|n| n.as_ref().map_or(StepState::Pending, |n| n.state))
    });
    view! {
        <section class="block" aria-labelledby="nodes-title">
            <div class="row between">
                <h2 id="nodes-title">"Compute nodes"</h2>
                <div class="row"><StateBadge state=state/>
                    <button type="button" class="btn tiny" on:click=move |_| bridge::send(&ToWorker::Nodes)>"Prove again"</button></div>
            </div>
            {move || app.network.get().map_or_else(
                || view! { <p class="muted">"Asking the chain’s state for its nodes…"</p> }.into_any(),
                |n| {
                    let (height, ms, verified) = (n.height, n.checked_ms, n.state == StepState::Verified);
                    let odds = n.collusion.clone();
                    view! {
                        <div class="scroll" tabindex="0" role="region" aria-label="Table of compute nodes">
                        <table>
                            <thead><tr><th>"Node"</th><th>"Operator, self-declared"</th><th class="r">"Bond, NES"</th><th class="r">"Score"</th></tr></thead>
                            <tbody>{n.nodes.into_iter().map(node).collect_view()}</tbody>
                        </table></div>
                        {verified.then(|| view! { <p class="small muted">
                            {format!("Each row proven against the state of block {} in {}.", thousands(height), millis(ms))}</p> })}
                        {odds.map(|c| view! { <div class="note">
                            <p><strong>"What a colluding pair costs"</strong></p>
                            <p>{format!("The two largest of {} operators hold {:.0}\u{a0}% of the bond. To be drawn on both sides of every \
                                second query, somebody would have to bond about {}\u{a0}NES under two names.",
                                c.operators, c.largest_two * 100.0, thousands(c.price.0.div_ceil(Unes::PER_NES)))}</p>
                            <p class="small muted">"No software can check that two names are two people. Naming one node yourself rules it out."</p>
                        </div> })}
                    }.into_any()
                },
            )}
        </section>
    }
}

fn node(n: NodeRow) -> impl IntoView {
    let operator = match n.operator_name {
        Some(name) => name.into_any(),
        None => view! { <HashText hash=n.operator name="operator’s address"/> }.into_any(),
    };
    view! {
        <tr>
            <td><HashText hash=n.node name="node key"/>{n.this_device.then(|| view! { <span class="small">" this browser"</span> })}</td>
            <td>{operator}</td>
            <td class="r">{n.bond.to_string()}{n.faucet_bond.then(|| view! { <span class="small muted">" faucet"</span> })}</td>
            <td class="r">{n.score}</td>
        </tr>
    }
}

/// The latest query of this device, as it happened.
#[component]
fn Life() -> impl IntoView {
    let app = App::get();
    let latest = Memo::new(move |_| {
        app.jobs
            .with(|all| all.values().filter(|j| !j.life.is_empty()).max_by_key(|j| j.id).cloned())
    });
    view! {
        <section class="block" aria-labelledby="life-title">
            <h2 id="life-title">"One query’s life"</h2>
            {move || latest.get().map_or_else(
                || view! { <p class="muted">"Ask something in the playground, and its way through the chain appears here."</p> }.into_any(),
                |job| view! {
                    <p><a href=Route::Job(job.id).href()>"Your latest search"</a></p>
                    <ol class="life">{job.life.iter().map(|e| view! {
                        <li><span class="at small">{millis(e.at_ms)}</span>
                            <span><Prose text=e.what.clone()/>{e.height.map(|h| view! { " " <a href=Route::Block(h).href()>{format!("block {}", thousands(h))}</a> })}</span></li>
                    }).collect_view()}</ol>
                }.into_any(),
            )}
        </section>
    }
}

#[component]
fn Peers() -> impl IntoView {
    let app = App::get();
    let peers = Memo::new(move |_| app.status.with(|s| s.peers.clone()));
    view! {
        <section class="block" aria-labelledby="peers-title">
            <h2 id="peers-title">"Peers"</h2>
            <p class="small muted">"They deliver bytes; nothing they say is believed. One that proves to be wrong is not asked again."</p>
            <Show when=move || !peers.with(Vec::is_empty) fallback=|| view! { <p class="muted">"No peer connected."</p> }>
                <ul class="stack">{move || peers.get().into_iter().map(|p| match p.offence.clone() {
                    Some(offence) => refused(p, offence).into_any(),
                    None => peer(p).into_any(),
                }).collect_view()}</ul>
            </Show>
        </section>
    }
}

fn peer(p: PeerRow) -> impl IntoView {
    let headers =
        (p.headers > 0).then(|| format!("{} checked and true", plural(p.headers, "header")));
    let rtt = p.rtt_ms.map(|ms| format!("answers in {ms} ms"));
    let said: Vec<String> = [headers, rtt].into_iter().flatten().collect();
    let said = if said.is_empty() { "not needed so far".to_owned() } else { said.join(", ") };
    view! {
        <li class="row" data-test="peer"><HashText hash=p.peer name="peer id"/>
            <span class="small muted">{said}</span></li>
    }
}

/// A peer that lied: what it said, shown as long as this page is open.
fn refused(p: PeerRow, offence: String) -> impl IntoView {
    view! {
        <li class="stack" data-test="peer-refused">
            <span class="row"><HashText hash=p.peer name="peer id"/>
                <span class="state failed">{state_icon(StepState::Failed)} "Caught lying, not asked again"</span></span>
            <p class="small"><Prose text=offence/></p>
        </li>
    }
}
