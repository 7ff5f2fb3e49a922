//! The lane of a chat: who may read it, what shows that the answer is right, and how likely that fails.

use leptos::prelude::*;
use nesa_messages::{Lane, NetworkPhase, ToWorker};
use nesa_page::sealed;

use super::online::Shards;
use crate::{bridge, state::App};

/// Most nodes for each shard, and most shards, that the chain takes.
const MOST_REPLICAS: u8 = 7;
const MOST_SHARDS: u8 = 8;

/// Each lane: its name, who reads, what is checked, what it costs in time.
const LANES: [(Lane, &str, &str, &str); 2] = [
    (
        Lane::Masked,
        "Split between two nodes",
        "Neither of them can read it. This device checks every layer of every word.",
        "masked lane: safe unless the two pool their halves; slower",
    ),
    (
        Lane::Sealed,
        "Sealed to a committee",
        "The nodes that answer read your text; nobody on the way does. Several compute the same and must agree.",
        "sealed lane, committee verification: wrong only if all nodes of one part lie together; faster",
    ),
];

/// The choice, with everything that hangs on the sealed lane.
#[component]
pub(super) fn Lanes() -> impl IntoView {
    let app = App::get();
    let lane = Memo::new(move |_| app.lane().lane);
    let sealed = Memo::new(move |_| app.sealed());
    view! {
        <fieldset class="block lanes" data-test="lanes">
            <legend>"Who may read it"</legend>
            {LANES.map(|(kind, name, reads, term)| {
                let id = format!("lane-{}", kind.name());
                let (own, note) = (id.clone(), format!("{id}-note"));
                view! {
                    <div class="lane" class:chosen=move || lane.get() == kind>
                        <label class="check" for=id>
                            <input type="radio" name="lane" id=own.clone() data-test=own
                                prop:checked=move || lane.get() == kind aria-describedby=note.clone()
                                on:change=move |_| app.set_lane(|choice| choice.lane = kind)/>
                            <strong>{name}</strong>
                        </label>
                        <p class="small" id=note>{reads} <span class="muted">{format!(" ({term})")}</span></p>
                    </div>
                }
            }).collect_view()}
            <Show when=move || sealed.get()><Committee/></Show>
        </fieldset>
    }
}

/// How many nodes, how many shards, what a dispute may publish, the odds, and who is there.
#[component]
fn Committee() -> impl IntoView {
    let app = App::get();
    let choice = Memo::new(move |_| app.lane());
    let layers = Memo::new(move |_| app.model().map_or(MOST_SHARDS.into(), |m| m.layers));
    let most_shards = move || (layers.get().clamp(1, MOST_SHARDS.into())) as u8;
    let number = |text: String, most: u8| text.parse::<u8>().ok().map(|n| n.clamp(1, most));
    view! {
        <div class="committee stack" data-test="committee">
            <div class="pair">
                <div class="field">
                    <label for="replicas">"Nodes for each part"</label>
                    <input type="number" id="replicas" data-test="replicas" min="1" max=MOST_REPLICAS.to_string() step="1"
                        inputmode="numeric" prop:value=move || choice.get().replicas.to_string()
                        on:change:target=move |e| {
                            if let Some(n) = number(e.target().value(), MOST_REPLICAS) { app.set_lane(|c| c.replicas = n); }
                        }/>
                    <p class="small">"All of them must agree. More are safer from lies, cost more, and more read."</p>
                </div>
                <div class="field">
                    <label for="shards">"Parts of the model"</label>
                    <input type="number" id="shards" data-test="shards" min="1" max=move || most_shards().to_string() step="1"
                        inputmode="numeric" prop:value=move || choice.get().shards.to_string()
                        on:change:target=move |e| {
                            if let Some(n) = number(e.target().value(), most_shards()) { app.set_lane(|c| c.shards = n); }
                        }/>
                    <p class="small">"Shards, each on nodes of its own. One is fastest; a large model needs several."</p>
                </div>
            </div>
            <label class="check">
                <input type="checkbox" id="disclose" data-test="disclose" prop:checked=move || choice.get().disclose
                    on:change:target=move |e| { let on = e.target().checked(); app.set_lane(|c| c.disclose = on); }/>
                <span>"If nodes disagree, let the chain find the liar in public"
                    <span class="small muted">" This publishes pieces of what your text became inside the model, for ever: \
                        a guess at your text can be confirmed with them, and something of it may be learnt. \
                        Without it nothing is published, and nodes that disagree are not paid."</span></span>
            </label>
            <Odds/>
            <Shards/>
        </div>
    }
}

/// The odds in plain words, for several assumed adversaries.
#[component]
fn Odds() -> impl IntoView {
    let app = App::get();
    let wanted = Memo::new(move |_| {
        let choice = app.lane();
        (choice.replicas, choice.shards)
    });
    let live = Memo::new(move |_| app.status.with(|s| s.network == NetworkPhase::Live));
    Effect::new(move |_| {
        let (replicas, shards) = wanted.get();
        // Asked again once there is a worker to ask.
        let _ = live.get();
        bridge::send(&ToWorker::Odds { replicas, shards });
    });
    let rows = move || {
        let (replicas, shards) = wanted.get();
        let odds = app.odds.get().filter(|o| (o.replicas, o.shards) == (replicas, shards))?;
        let lines = odds.rows.iter().map(|row| {
            let [lies, reads] = sealed::odds(row, replicas, shards);
            view! { <li>{lies} " " <span class="muted">{reads}</span></li> }
        });
        Some(view! { <ul class="small odds">{lines.collect_view()}</ul> })
    };
    view! {
        <section class="stack" aria-labelledby="odds-title" data-test="odds">
            <h2 class="minor" id="odds-title">"How likely that fails"</h2>
            {rows}
            <p class="small muted">"Nodes are drawn by stake. How much of it is dishonest nobody can know, so several guesses are \
                shown. In each, the dishonest stake sits in many small operators, which is the worst case."</p>
        </section>
    }
}
