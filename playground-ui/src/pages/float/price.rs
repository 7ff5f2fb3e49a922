//! The price of a run, who reads the inputs, and what agreement would say.

use leptos::prelude::*;
use nesa_messages::{FloatQuote, FloatRates, Quote, Unes};
use nesa_page::float;

use crate::{
    format::{bytes, plural},
    parts::HashText,
    state::App,
};

/// The price before anything leaves the device.
#[component]
pub(crate) fn RunsPrice(quote: Quote, runs: FloatQuote, open: bool) -> impl IntoView {
    let app = App::get();
    let fees = Unes(quote.draw_fee.0.saturating_add(quote.tx_fee.0));
    let nodes = plural(runs.replicas.into(), "node");
    let spares = match runs.spares {
        0 => "there are no spares".to_owned(),
        count => format!("if one does not answer, a spare of {count} takes its place"),
    };
    let rates = untrack(|| app.model()).and_then(|m| m.float).and_then(|offer| offer.rates);
    view! {
        <section class="pre" data-test="quote" aria-labelledby="quote-title">
            <h2 id="quote-title">"Before it leaves this device"</h2>
            <p>"Sealed to each drawn node; they read it, and are compared. "
                <span class="small muted">"float lane (HPKE), statistical verification"</span></p>
            <dl class="facts">
                <div><dt>"Cost"</dt><dd data-test="quote-cost">{format!("{} NES", quote.compute)}
                    <small>{format!("{} NES to each node that agrees, plus {fees} NES fees", runs.per_node)}</small></dd></div>
                <div><dt>"Held until it is settled"</dt><dd>{format!("{} NES", quote.max_fee)}
                    <small>"what a node that differs does not get is burned; the rest comes back"</small></dd></div>
                <div><dt>"Nodes"</dt><dd>{nodes.clone()}<small>{spares}</small></dd></div>
                <div><dt>"Inputs"</dt><dd>{bytes(runs.bytes)}<small>"sent to each of them"</small></dd></div>
            </dl>
            <details open=open><summary>"Who will see what"</summary><div class="sees inset">
                <div class="stack"><h3>{format!("{nodes} will see")}</h3><ul>
                    <li>"every number of the inputs, and all that the model makes of them"</li>
                    <li>"which model, when, and an address on the chain that pays"</li>
                </ul></div>
                <div class="stack"><h3>"Nobody else will see"</h3><ul>
                    <li>"a number of either: not who carries it, not the chain"</li>
                </ul>
                <p class="small muted">"The nodes may keep and pass on what they read. Whoever watches a link sees sizes and times."</p></div>
            </div></details>
            {rates.map(|rates| view! {
                <details><summary>"What their agreement would say"</summary>
                    <div class="inset stack"><Rates rates=rates/></div></details>
            })}
        </section>
    }
}

/// The measured rates.
#[component]
pub(super) fn Rates(rates: FloatRates) -> impl IntoView {
    let rows = rates.classes.iter().map(|class| {
        let (name, demanded) = (format!("{} passes", class.name), class.demanded);
        view! {
            <div><dt>{name}</dt><dd>{float::rate(class)}
                {(!demanded).then(|| view! { <small>"not relied on"</small> })}</dd></div>
        }
    });
    let machines = rates.machines.join(", ");
    view! {
        <p class="small">{float::evidence(&rates)}</p>
        <dl class="facts" data-test="float-rates">
            <div><dt>"Honest machines told apart"</dt><dd>{float::rate(&rates.honest)}</dd></div>
            {rows.collect_view()}
        </dl>
        <p class="small muted">{format!("Measured on {machines} with {}: {}. ", rates.engine, rates.inputs)}
            "This network’s operators say so; this device measured nothing. Calibration "
            <HashText hash=rates.digest name="the calibration’s digest"/></p>
    }
}
