//! Before anything leaves the device: the price, the lane, and who will see what.

use leptos::prelude::*;
use nesa_messages::{NamedNode, NodeRow, Quote, Side, TaskKind, ToWorker, WalletState};

use crate::{
    bridge,
    format::{bytes, plural, short, thousands},
    parts::ProblemNote,
    route::Route,
    state::{App, QuoteState},
};

/// The panel above the send button's consequences.
#[component]
pub(crate) fn Preflight(
    /// Whether "who will see what" starts unfolded.
    open: bool,
    /// Whether the choices are here; a page with a drawer has them there.
    options: bool,
) -> impl IntoView {
    let app = App::get();
    let priced = Memo::new(move |_| app.task().is_some());
    view! {
        <Funds/>
        {move || match app.quote.get() {
            QuoteState::Nothing => ().into_any(),
            QuoteState::Asking => view! { <p class="small muted" role="status">"Working out the price on this device…"</p> }.into_any(),
            QuoteState::Failed(problem) => view! { <ProblemNote problem=problem/> }.into_any(),
            QuoteState::Ready(quote) => priced_view(quote, open),
        }}
        <Show when=move || options && priced.get()><Options/></Show>
    }
}

/// The same in one line that unfolds, for an input that is always there.
#[component]
pub(crate) fn PreflightLine() -> impl IntoView {
    let app = App::get();
    let line = move || match app.quote.get() {
        QuoteState::Nothing => None,
        QuoteState::Asking => Some("Working out the price on this device…".to_owned()),
        QuoteState::Failed(_) => None,
        QuoteState::Ready(q) => Some(format!(
            "At most {} NES for up to {}, plus {} NES fees",
            q.compute,
            plural(u64::from(q.max_tokens), "token"),
            nesa_messages::Unes(q.draw_fee.0.saturating_add(q.tx_fee.0)),
        )),
    };
    let problem = move || match app.quote.get() {
        QuoteState::Failed(problem) => Some(view! { <ProblemNote problem=problem/> }),
        _ => None,
    };
    let open = RwSignal::new(false);
    view! {
        <Funds/>
        {problem}
        <div class="price-line small">
            <span class="num muted" role="status" data-test="price-line">{line}</span>
            <Show when=move || app.quote.with(|q| matches!(q, QuoteState::Ready(_)))>
                <button type="button" class="link" aria-expanded=move || open.get().to_string()
                    on:click=move |_| open.update(|o| *o = !*o)>"Cost and who will see what"</button>
            </Show>
        </div>
        {move || match app.quote.get() {
            QuoteState::Ready(quote) if open.get() => Some(priced_view(quote, true)),
            _ => None,
        }}
    }
}

/// The price in the words of its lane.
fn priced_view(quote: Quote, open: bool) -> AnyView {
    if let Some(runs) = quote.float.clone() {
        return view! { <crate::pages::RunsPrice quote=quote runs=runs open=open/> }.into_any();
    }
    match quote.sealed.clone() {
        Some(sealed) => {
            view! { <super::committee::CommitteePrice quote=quote sealed=sealed open=open/> }
                .into_any()
        }
        None => view! { <Price quote=quote open=open/> }.into_any(),
    }
}

#[component]
fn Price(quote: Quote, open: bool) -> impl IntoView {
    let kind = App::get().mode.get_untracked();
    let sent = quote.passages.saturating_sub(quote.cached);
    let (what, size, about) = match kind {
        TaskKind::Chat => (
            "Tokens",
            format!(
                "{} to read, up to {} to write",
                thousands(u64::from(quote.prompt_tokens)),
                thousands(u64::from(quote.max_tokens))
            ),
            "an answer that ends sooner costs less".to_owned(),
        ),
        TaskKind::Digit => ("To send", "1 image".to_owned(), "64 numbers from 0 to 16".to_owned()),
        TaskKind::Classify => (
            "To send",
            "1 text".to_owned(),
            format!("{} tokens once padded", thousands(u64::from(quote.padded_tokens))),
        ),
        // The float lane has a price of its own.
        TaskKind::Search | TaskKind::Embed | TaskKind::Float => (
            "Passages to send",
            plural(u64::from(sent), "passage"),
            format!("and the question; {} already on this device", quote.cached),
        ),
    };
    let seen = match kind {
        TaskKind::Digit => ["noise the size of an image, layer by layer", "which model, and when"]
            .map(str::to_owned)
            .to_vec(),
        TaskKind::Chat => vec![
            "noise the size of your text, layer by layer".to_owned(),
            format!(
                "the padded length: {} tokens in all",
                thousands(u64::from(quote.padded_tokens))
            ),
            "which model, the answer’s length to a multiple of 16 tokens, and when".to_owned(),
        ],
        TaskKind::Classify => vec![
            "noise the size of your text, layer by layer".to_owned(),
            format!("the padded length: {} tokens", thousands(u64::from(quote.padded_tokens))),
            "which model, and when".to_owned(),
        ],
        TaskKind::Search | TaskKind::Embed | TaskKind::Float => vec![
            "noise the size of your text, layer by layer".to_owned(),
            format!("the padded length: {} tokens in all", quote.padded_tokens),
            "which model, how many batches, and when".to_owned(),
        ],
    };
    let hidden = match kind {
        TaskKind::Digit => ["a pixel of the drawing", "the digit that was read"],
        TaskKind::Classify => ["a word of the text", "the class that was found"],
        TaskKind::Chat => ["a word of what you ask or asked before", "a word of the answer"],
        TaskKind::Search | TaskKind::Embed | TaskKind::Float => {
            ["a word of the documents or the question", "the vectors, the ranking or the answer"]
        }
    };
    let fees = nesa_messages::Unes(quote.draw_fee.0.saturating_add(quote.tx_fee.0));
    let truncated: Vec<String> = quote.truncated.iter().map(|t| beginning(t)).collect();
    view! {
        <section class="pre" data-test="quote" aria-labelledby="quote-title">
            <h2 id="quote-title">"Before it leaves this device"</h2>
            <p>"Split between two strangers; neither alone can read it. "
                <span class="small muted">"masked lane (HSS-EE), checked with Freivalds"</span></p>
            <dl class="facts">
                <div><dt>"Cost"</dt><dd data-test="quote-cost">{format!("{} NES", quote.compute)}
                    <small>{format!("plus {fees} NES draw and transaction fees")}</small></dd></div>
                <div><dt>"Held until the deadline"</dt><dd>{format!("{} NES", quote.max_fee)}
                    <small>"what is not spent comes back"</small></dd></div>
                <div><dt>{what}</dt><dd>{size}<small>{about}</small></dd></div>
                <div><dt>"Traffic"</dt><dd>{bytes(quote.bytes_up.saturating_add(quote.bytes_down))}
                    <small>{format!("in {}", plural(u64::from(quote.round_trips), "round trip"))}</small></dd></div>
            </dl>
            <details open=open><summary>"Who will see what"</summary><div class="sees inset">
                <div class="stack"><h3>"The two nodes will see"</h3><ul>
                    {seen.into_iter().map(|line| view! { <li>{line}</li> }).collect_view()}
                    <li>"an address on the chain that pays"</li>
                </ul></div>
                <div class="stack"><h3>"Neither of them alone will see"</h3><ul>
                    {hidden.map(|line| view! { <li>{line}</li> }).collect_view()}
                </ul>
                <p class="small muted">{match &quote.collusion {
                    Some(c) => format!(
                        "If both were one person in secret they could read it. {} could be drawn from {}; \
                        the largest two hold {:.0}\u{a0}% of the bond. Name one node yourself to rule that out.",
                        plural(u64::from(quote.candidates), "node"),
                        plural(u64::from(c.operators), "self-declared operator"), c.largest_two * 100.0),
                    None => "If both were one person in secret they could read it. \
                        Name one node yourself to rule that out.".to_owned(),
                }}</p></div>
            </div></details>
            {(!truncated.is_empty()).then(|| view! {
                <div class="note pending"><p><strong>"Some texts are too long for this model"</strong></p>
                <p>{format!("Only the beginning counts for: {}.", truncated.join(", "))}</p></div>
            })}
        </section>
    }
}

/// Enough of a text to know which one it is.
fn beginning(text: &str) -> String {
    const LIMIT: usize = 48;
    if text.chars().count() <= LIMIT {
        return text.to_owned();
    }
    let start: String = text.chars().take(LIMIT).collect();
    format!("“{}…”", start.trim_end())
}

#[component]
fn Funds() -> impl IntoView {
    let app = App::get();
    let live =
        Memo::new(move |_| app.status.with(|s| s.identity.as_ref().is_some_and(|i| i.faucet)));
    let state = Memo::new(move |_| app.wallet.with(|w| w.state));
    let short_of =
        Memo::new(move |_| app.quote.with(|q| matches!(q, QuoteState::Ready(q) if !q.affordable)));
    view! {
        {move || match (state.get(), live.get()) {
            (WalletState::Absent, true) => Some(view! {
                <div class="note">
                    <p><strong>"The nodes are paid, so you need a wallet"</strong></p>
                    <p>"One click makes a key on this device and takes test NES from the local network’s faucet."</p>
                    <div class="row"><button type="button" class="btn" data-test="wallet-create"
                        disabled=move || app.fund_next.get() on:click=move |_| app.create_and_fund()>
                        "Make a wallet with test NES"</button>
                    <a href=Route::Wallet.href()>"More choices"</a></div>
                </div>
            }.into_any()),
            (WalletState::Absent, false) => Some(view! {
                <div class="note"><p><strong>"The nodes are paid, so you need a wallet"</strong></p>
                <p><a href=Route::Wallet.href()>"Make or import one"</a></p></div>
            }.into_any()),
            (WalletState::Locked, _) => Some(view! {
                <div class="note"><p><strong>"Your wallet is locked"</strong></p>
                <p><a href=Route::Wallet.href()>"Unlock it"</a></p></div>
            }.into_any()),
            (WalletState::Ready, faucet) if short_of.get() => Some(view! {
                <div class="note pending">
                    <p><strong>"Not enough NES to hold the fee"</strong></p>
                    {faucet.then(|| view! { <div class="row"><button type="button" class="btn" id="top-up"
                        on:click=move |_| bridge::send(&ToWorker::Wallet {
                            command: nesa_messages::WalletCommand::Faucet })>
                        "Take test NES from the faucet"</button></div> })}
                </div>
            }.into_any()),
            _ => None,
        }}
    }
}

/// The choices before sending.
#[component]
pub(crate) fn Options() -> impl IntoView {
    let app = App::get();
    let nodes = Memo::new(move |_| {
        app.network.with(|n| n.as_ref().map(|n| n.nodes.clone()).unwrap_or_default())
    });
    let side = Memo::new(move |_| {
        app.draft.with(|d| d.options.named.as_ref().map_or(Side::A, |n| n.side))
    });
    let named = Memo::new(move |_| {
        app.draft.with(|d| d.options.named.as_ref().map(|n| n.node.clone()).unwrap_or_default())
    });
    let name = move |node: String, side: Side| {
        app.draft.update(|d| {
            d.options.named = (!node.is_empty()).then_some(NamedNode { side, node });
        });
    };
    view! {
        <details on:toggle=move |_| bridge::send(&ToWorker::Nodes)>
            <summary>"Choices"</summary>
            <div class="options">
                <div class="field">
                    <label for="named">"Name one of the two nodes yourself"</label>
                    <select id="named" on:change:target=move |e| name(e.target().value(), side.get_untracked())
                        prop:value=named>
                        <option value="">"Both drawn by the chain"</option>
                        {move || nodes.get().iter().map(|n| option(n, &named.get())).collect_view()}
                    </select>
                    <p class="small">"Your own machine, or an operator you trust. Then no stranger can hold both halves."</p>
                </div>
                <Show when=move || !named.with(String::is_empty)>
                    <fieldset class="field">
                        <legend>"It gets"</legend>
                        {[(Side::A, "the masked half (A)"), (Side::B, "the seed (B)")].map(|(s, words)| view! {
                            <label class="check"><input type="radio" name="side" prop:checked=move || side.get() == s
                                on:change=move |_| name(named.get_untracked(), s)/>{words}</label>
                        }).collect_view()}
                    </fieldset>
                </Show>
                <label class="check">
                    <input type="checkbox" id="keep-opening" data-test="allow-opened"
                        prop:checked=move || app.draft.with(|d| d.options.keep_opening)
                        on:change:target=move |e| { let on = e.target().checked();
                            app.draft.update(|d| d.options.keep_opening = on); }/>
                    <span>"Keep what an opened receipt needs"
                        <span class="small muted"> " Lets you hand this query to someone else to re-check, words included. Stored on this device until deleted."</span></span>
                </label>
            </div>
        </details>
    }
}

fn option(node: &NodeRow, chosen: &str) -> impl IntoView + use<> {
    let operator =
        node.operator_name.clone().unwrap_or_else(|| format!("operator {}", short(&node.operator)));
    let faucet = if node.faucet_bond { ", faucet bond" } else { "" };
    let label = format!("{} · {operator} · bond {} NES{faucet}", short(&node.node), node.bond);
    view! { <option value=node.node.clone() selected=node.node == chosen>{label}</option> }
}
