//! Which model answers: what each costs, how large it is, who serves it, and its digest.

use leptos::prelude::*;
use nesa_messages::{Lane, ModelFamily, ModelOffer, ModelPhase, PreparationChoice, TaskKind, Unes};

use crate::{
    format::{bytes, plural, thousands},
    parts::HashText,
    state::App,
};

/// All models that do what this page is for, one of them chosen.
#[component]
pub(crate) fn Models() -> impl IntoView {
    let app = App::get();
    // Kept apart from progress, so that a download does not redraw what has the focus.
    let offers = Memo::new(move |_| {
        let family = app.family();
        let same = |m: &&ModelOffer| Some(m.family) == family;
        let plain = |m: &ModelOffer| ModelOffer { phase: ModelPhase::Waiting, ..m.clone() };
        app.models.with(|all| {
            all.as_ref().map(|all| all.iter().filter(same).map(plain).collect::<Vec<_>>())
        })
    });
    view! {
        <fieldset class="block models" data-test="models">
            <legend>"Model"</legend>
            {move || match offers.get() {
                None => view! { <p class="small muted">"Asking the network which models it has…"</p> }.into_any(),
                Some(offers) if offers.is_empty() => view! { <Nothing/> }.into_any(),
                Some(offers) => offers.into_iter().map(offer).collect_view().into_any(),
            }}
        </fieldset>
    }
}

/// The chosen model in one line, the others behind it.
#[component]
pub(super) fn ModelLine() -> impl IntoView {
    let app = App::get();
    let name = Memo::new(move |_| app.model().map(|m| (m.name, m.price_per_token, m.nodes)));
    view! {
        <details class="model-line">
            <summary class="small">{move || match name.get() {
                Some((name, each, nodes)) => format!(
                    "{name} · {} · {}", price(app, each, "token"), plural(u64::from(nodes), "node")),
                None => "Model".to_owned(),
            }}</summary>
            <div class="inset"><Models/></div>
        </details>
    }
}

/// A network without such a model.
#[component]
fn Nothing() -> impl IntoView {
    let what = match App::get().family() {
        Some(ModelFamily::Decoder) => "writes text",
        Some(ModelFamily::Float) => "runs in floats",
        Some(ModelFamily::TextClassifier) => "classifies texts",
        _ => "reads images",
    };
    view! {
        <div class="note"><p><strong>{format!("No model of this network {what}")}</strong></p>
        <p>"Whoever runs it can register one: " <code>"nesa model --help"</code>" tells how."</p></div>
    }
}

/// Whether a model reads the last message only: it has no template that lays a conversation out.
pub(super) fn forgets(m: &ModelOffer) -> bool {
    m.family == ModelFamily::Decoder && m.context > 0 && !m.chat_template
}

fn offer(m: ModelOffer) -> impl IntoView {
    let app = App::get();
    let lane = {
        let lanes = m.lanes.clone();
        // In the lane chosen, whichever that is at the moment.
        Memo::new(move |_| lanes.iter().any(|l| l == app.lane().lane.name()))
    };
    let served = m.operators >= 2;
    let broken = m.float.as_ref().and_then(|offer| offer.problem.clone());
    let whole = broken.is_none();
    let usable = move || lane.get() && whole && (served || app.sealed());
    let digest = m.digest.clone();
    let digest_there = m.digest.clone();
    let forgets = forgets(&m);
    let again = m.clone();
    let prepares = m.clone();
    let chosen = {
        let digest = m.digest.clone();
        Memo::new(move |_| app.model().is_some_and(|m| m.digest == digest))
    };
    let phase = {
        let digest = m.digest.clone();
        Memo::new(move |_| {
            app.models.with(|all| {
                let same = all.iter().flatten().find(|m| m.digest == digest);
                same.map(|m| (app.phase_of(m), m.prepared)).unwrap_or_default()
            })
        })
    };
    let lanes = if m.lanes.is_empty() { "none".to_owned() } else { m.lanes.join(", ") };
    let id = format!("model-{}", m.digest);
    // What an image is cut into for a layer is billed as a text's tokens are.
    let unit = match m.family {
        ModelFamily::Classifier => "row",
        ModelFamily::Float => "run",
        _ => "token",
    };
    let each = m.price_per_token;
    let price = move || price(app, each, unit);
    let mut facts = vec![
        ("Size", bytes(m.bytes)),
        (
            "Registered",
            format!(
                "{} of {}",
                plural(u64::from(m.nodes), "node"),
                plural(u64::from(m.operators), "operator")
            ),
        ),
        ("Lanes", lanes),
    ];
    if m.context > 0 {
        facts.push(("Context", format!("{} tokens", thousands(u64::from(m.context)))));
    }
    let refused = move || match (lane.get(), app.sealed(), served) {
        (false, false, _) => Some("Its owner does not offer the private lane."),
        (false, true, _) => Some("Its owner does not offer the sealed lane."),
        (true, false, false) => Some("Two operators are needed; fewer serve it now."),
        _ => None,
    };
    // Only a chat's model is prepared by others, and only there the choice is worth the space.
    let choice =
        Memo::new(move |_| chosen.get() && app.mode.get() == TaskKind::Chat && !app.sealed());
    view! {
        <div class="model" class:chosen=chosen data-test="model">
            <label class="check" for=id.clone()>
                <input type="radio" name="model" id=id.clone() prop:checked=chosen disabled=move || !usable()
                    on:change=move |_| choose(app, digest.clone())/>
                <strong>{m.name}</strong>
                <span class="small muted" data-test="model-phase">{move || match (app.sealed(), lane.get()) {
                    (true, true) => "needs no download".to_owned(),
                    (true, false) => String::new(),
                    (false, _) => ready(&phase.get()),
                }}</span>
            </label>
            <dl class="facts">
                <div><dt>"Price"</dt><dd>{price}</dd></div>
                {facts.into_iter().map(|(term, fact)| view! { <div><dt>{term}</dt><dd>{fact}</dd></div> }).collect_view()}
                {move || there(app, &digest_there).map(|words| view! { <div data-test="model-online"><dt>"Online shards"</dt><dd>{words}</dd></div> })}
                <div><dt>"Digest"</dt><dd><HashText hash=m.digest name="the model’s digest"/></dd></div>
            </dl>
            {forgets.then(|| view! {
                <p class="small muted">"Reads your last message only: no earlier turns, no system prompt."</p>
            })}
            <Show when=move || matches!(phase.get().0, ModelPhase::Failed { .. })>
                <div class="row"><button type="button" class="btn tiny" on:click={
                    let again = again.clone();
                    move |_| app.prepare_again(&again)
                }>"Fetch and check it again"</button></div>
            </Show>
            <Show when=move || choice.get()><Preparation model=prepares.clone()/></Show>
            {move || refused().map(|why| view! { <p class="small muted">{why}</p> })}
            {broken.map(|why| view! { <p class="small muted" data-test="model-broken">{why}</p> })}
        </div>
    }
}

/// What a token costs in the lane of this page.
fn price(app: App, each: Unes, unit: &str) -> String {
    let lane = app.lane();
    match (lane.lane, lane.replicas) {
        (Lane::Masked, _) => format!("{each} NES a {unit}, on each side"),
        // A part's nodes are paid its share of the price each; together that is once for each of k.
        (Lane::Sealed, k) => format!("{each} NES a {unit}, times {}", plural(k.into(), "node")),
        (Lane::Float, k) => format!("{each} NES a {unit} to each of {}", plural(k.into(), "node")),
    }
}

/// Who serves a model's shards, where its nodes were asked.
fn there(app: App, digest: &str) -> Option<String> {
    app.online.with(|all| {
        let online = all.get(digest)?;
        let shards = plural(online.shards.len() as u64, "shard");
        Some(format!("{shards}, each on {}", plural(u64::from(online.online), "node")))
    })
}

/// Who makes what the answers are checked with: the download it costs, and what it assumes.
#[component]
fn Preparation(model: ModelOffer) -> impl IntoView {
    let app = App::get();
    let few = model.operators < 4;
    let here = model.clone();
    let now = Memo::new(move |_| app.preparation(&here));
    let choices = [
        (
            PreparationChoice::Local,
            "local",
            format!("This device prepares. It downloads the model once: {}.", bytes(model.bytes)),
            "The checks then hold whoever colludes.",
        ),
        (
            PreparationChoice::Thin,
            "thin",
            format!("Two more nodes prepare. {} are downloaded.", bytes(model.thin_bytes)),
            "The checks then hold unless both of them and a computing node collude, or all four serve the same \
             wrong weights. Tested on random inputs before anything of yours is sent.",
        ),
    ];
    view! {
        <fieldset class="preparation stack" data-test="preparation">
            <legend class="small">"Who prepares the checks"</legend>
            {choices.map(|(choice, name, words, assumes)| view! {
                <label class="check small">
                    <input type="radio" name="preparation" data-test=format!("prepare-{name}")
                        prop:checked=move || now.get() == choice
                        disabled=few && choice == PreparationChoice::Thin
                        on:change=move |_| app.set_lane(|lane| lane.preparation = Some(choice))/>
                    <span>{words} <span class="muted">" " {assumes}</span></span>
                </label>
            }).collect_view()}
            {few.then(|| view! { <p class="small muted">"Four operators are needed for that; fewer serve this model."</p> })}
        </fieldset>
    }
}

fn choose(app: App, digest: String) {
    app.armed.set(false);
    match app.mode.get_untracked() {
        TaskKind::Chat => app.draft.update(|d| d.chat.model = Some(digest)),
        // Inputs of another model would not fit.
        TaskKind::Float => app.draft.update(|d| {
            (d.float.model, d.float.text) = (Some(digest), String::new());
        }),
        _ => app.reader.set(Some(digest)),
    }
}

/// How near a model is, in words.
fn ready((phase, kept): &(ModelPhase, bool)) -> String {
    match phase {
        ModelPhase::Ready { .. } => "ready".to_owned(),
        ModelPhase::Downloading { done, total } => {
            format!("{} of {} checked", bytes(*done), bytes(*total))
        }
        ModelPhase::Preparing { done, total } => format!("preparing checks, {done} of {total}"),
        ModelPhase::Failed { .. } => "could not be checked".to_owned(),
        ModelPhase::Waiting if *kept => "kept on this device".to_owned(),
        ModelPhase::Waiting => "not on this device yet".to_owned(),
    }
}
