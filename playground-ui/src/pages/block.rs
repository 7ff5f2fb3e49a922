//! One block, in full.

use leptos::prelude::*;
use nesa_messages::{BlockDetail, StepState, ToWorker, TxRow};

use crate::{
    bridge,
    format::{clock, millis, thousands},
    parts::{HashText, StateBadge},
    route::Route,
    state::App,
};

/// The page of one height.
#[component]
pub(crate) fn Block(height: u64) -> impl IntoView {
    let app = App::get();
    bridge::send(&ToWorker::Block { height });
    let block = Memo::new(move |_| app.block.get().filter(|b| b.row.height == height));
    view! {
        <div class="frame"><div class="page">
            <header>
                <p class="small"><a href=Route::Network.href()>"Network"</a></p>
                <h1 class="num">{format!("Block {}", thousands(height))}</h1>
                <div class="row">
                    {height.checked_sub(1).map(|h| view! { <a class="btn tiny" href=Route::Block(h).href()>"Before"</a> })}
                    {height.checked_add(1).map(|h| view! { <a class="btn tiny" href=Route::Block(h).href()>"After"</a> })}
                </div>
            </header>
            {move || block.get().map_or_else(
                || view! { <p class="muted">"Fetching and checking this block…"</p> }.into_any(),
                |b| detail(b).into_any(),
            )}
        </div></div>
    }
}

fn detail(b: BlockDetail) -> impl IntoView {
    let state = b.row.state;
    let checked =
        (state == StepState::Verified).then(|| format!(" in {}", millis(b.row.checked_ms)));
    view! {
        <section class="block">
            <p class="row"><StateBadge state=Signal::derive(move || state)/><span class="small muted">{checked}</span></p>
            <dl class="defs">
                <dt>"Time"</dt><dd>{clock(b.row.timestamp_ms as f64)}</dd>
                <dt>"View"</dt><dd class="num">{thousands(b.row.view)}</dd>
                <dt>"Digest"</dt><dd><HashText hash=b.row.digest name="digest"/></dd>
                <dt>"Parent"</dt><dd>{match b.row.height.checked_sub(1) {
                    Some(h) => view! { <HashText hash=b.parent name="parent digest" href=Route::Block(h).href()/> }.into_any(),
                    None => view! { <HashText hash=b.parent name="parent digest"/> }.into_any(),
                }}</dd>
                <dt>"Leader"</dt><dd><HashText hash=b.row.leader name="leader key"/></dd>
                <dt>"State root"</dt><dd><HashText hash=b.state_root name="state root"/></dd>
                <dt>"Transactions root"</dt><dd><HashText hash=b.tx_root name="transactions root"/></dd>
                {b.seed.map(|s| view! { <dt>"Seed of this view"</dt><dd><HashText hash=s name="seed"/></dd> })}
                <dt>"Certificate"</dt><dd>{format!("{} bytes, one group key", b.certificate_bytes)}</dd>
            </dl>
        </section>
        <section class="block">
            <h2>"Transactions"</h2>
            {match b.transactions {
                None => view! { <p class="muted">"The body was not fetched; the header alone commits to it."</p> }.into_any(),
                Some(rows) if rows.is_empty() => view! { <p class="muted">"None: the chain was idle."</p> }.into_any(),
                Some(rows) => view! {
                    <div class="scroll" tabindex="0" role="region" aria-label="Transactions"><table>
                        <thead><tr><th>"Kind"</th><th>"Transaction"</th><th>"From"</th><th>"What"</th></tr></thead>
                        <tbody>{rows.into_iter().map(row).collect_view()}</tbody>
                    </table></div>
                }.into_any(),
            }}
        </section>
    }
}

fn row(t: TxRow) -> impl IntoView {
    view! {
        <tr><td>{t.kind}</td><td><HashText hash=t.id name="transaction id"/></td>
            <td><HashText hash=t.sender name="sender"/></td><td>{t.summary}</td></tr>
    }
}
