//! The price of a chat in the sealed lane, and who will read it.

use leptos::prelude::*;
use nesa_messages::{Quote, SealedQuote, Unes};
use nesa_page::sealed::shard;

use crate::format::{millis, plural, thousands};

/// The committee's price before anything leaves the device.
#[component]
pub(super) fn CommitteePrice(quote: Quote, sealed: SealedQuote, open: bool) -> impl IntoView {
    let fees = Unes(quote.draw_fee.0.saturating_add(quote.tx_fee.0));
    let shards = sealed.shards.len();
    let seats = u64::from(sealed.replicas) * shards as u64;
    let tokens = format!(
        "{} to read, up to {} to write",
        thousands(u64::from(quote.prompt_tokens)),
        thousands(u64::from(quote.max_tokens))
    );
    let committee = match shards {
        1 => plural(seats, "node"),
        _ => format!("{} on each of {shards} parts", plural(sealed.replicas.into(), "node")),
    };
    let rows = sealed.shards.iter().enumerate().map(|(index, row)| shard(index, row));
    view! {
        <section class="pre" data-test="quote" aria-labelledby="quote-title">
            <h2 id="quote-title">"Before it leaves this device"</h2>
            <p>"Sealed to each node of a committee; they read it, and must agree. "
                <span class="small muted">"sealed lane (HPKE), committee verification"</span></p>
            <dl class="facts">
                <div><dt>"Cost"</dt><dd data-test="quote-cost">{format!("{} NES", quote.compute)}
                    <small>{format!("plus {fees} NES draw and transaction fees")}</small></dd></div>
                <div><dt>"Held until it is settled"</dt><dd>{format!("{} NES", quote.max_fee)}
                    <small>"what is not spent comes back"</small></dd></div>
                <div><dt>"Tokens"</dt><dd>{tokens}<small>"an answer that ends sooner costs less"</small></dd></div>
                <div><dt>"Committee"</dt><dd>{committee}
                    <small>{format!("verified within {}, or not at all", millis(sealed.deadline_ms as f64 + AFTER_MS))}</small></dd></div>
            </dl>
            <details open=open><summary>"Who will see what"</summary><div class="sees inset">
                <div class="stack"><h3>{format!("{} will see", plural(seats, "node"))}</h3><ul>
                    <li>"every word that you ask or asked before in this chat, and every word of the answer"</li>
                    <li>"or, in later parts of the model, numbers from which both can be told"</li>
                    <li>"which model, when, and an address on the chain that pays"</li>
                </ul></div>
                <div class="stack"><h3>"Nobody else will see"</h3><ul>
                    <li>"a word of either: not who carries it, not the other nodes, not the chain"</li>
                </ul>
                <p class="small muted">"The nodes may keep and pass on what they read. Whom you do not want to be read by, \
                    ask in the masked lane."</p></div>
            </div>
            <ul class="small muted num inset">{rows.map(|row| view! { <li>{row}</li> }).collect_view()}</ul>
            </details>
        </section>
    }
}

/// Traces are published within a few seconds after the last commitment, ms.
const AFTER_MS: f64 = 5_000.0;
