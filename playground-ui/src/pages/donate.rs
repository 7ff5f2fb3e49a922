//! One button: this browser serves noise products for others and is paid.

use leptos::prelude::*;
use nesa_messages::{AdapterReport, DonateLimits, DonatePhase, PoolView, ServingOn, ToWorker};

use crate::{
    bridge,
    format::{bytes, millis, plural, thousands},
    parts::{HashText, ProblemNote, icon},
    route::Route,
    state::App,
};

/// The page.
#[component]
pub(crate) fn Donate() -> impl IntoView {
    let app = App::get();
    let phase = Memo::new(move |_| app.donate.with(|d| d.phase));
    let off = Memo::new(move |_| matches!(phase.get(), DonatePhase::Off | DonatePhase::Failed));
    let limits = RwSignal::new(app.donate.with_untracked(|d| d.limits.clone()));
    let ready =
        Memo::new(move |_| app.status.with(|s| s.network == nesa_messages::NetworkPhase::Live));
    view! {
        <div class="frame"><div class="page">
            <header><h1>"Lend this browser"</h1>
                <p class="lede">"It multiplies numbers that are noise to you, for queries you cannot read, \
                    unless you choose more below. The asker checks what it gets and pays for what is right."</p></header>
            <section class="block" aria-label="Serving">
                <div class="row">
                    <Show when=move || off.get() fallback=move || view! {
                        <button type="button" class="btn big-btn" data-test="donate-stop"
                            disabled=move || phase.get() == DonatePhase::Stopping
                            on:click=move |_| bridge::send(&ToWorker::DonateStop)>{icon("stop")} "Stop serving"</button>
                    }>
                        <button type="button" class="btn main big-btn" data-test="donate-start" disabled=move || !ready.get()
                            on:click=move |_| bridge::send(&ToWorker::Donate { limits: limits.get_untracked() })>
                            "Start serving"</button>
                    </Show>
                    <p role="status" data-test="donate-phase">{move || match phase.get() {
                        DonatePhase::Off if !ready.get() => "Waiting for the network…",
                        DonatePhase::Off => "Not serving.",
                        DonatePhase::Funding => "Taking a small bond from the faucet…",
                        DonatePhase::Loading => "Fetching and checking the model’s weights…",
                        DonatePhase::Reserving => "Reserving a place at a relay…",
                        DonatePhase::Registering => "Registering on the chain…",
                        DonatePhase::Serving => "Serving. Queries come when the chain draws this browser.",
                        DonatePhase::Stopping => "Finishing what is under way…",
                        DonatePhase::Failed => "Stopped.",
                    }}</p>
                </div>
                {move || app.donate.with(|d| d.problem.clone()).map(|p| view! { <ProblemNote problem=p/> })}
                <Limits limits=limits serving=Signal::derive(move || !off.get())/>
            </section>
            <Show when=move || !off.get() fallback=|| view! { <Uses/> }><Meter/></Show>
            <Adapter/>
        </div></div>
    }
}

/// What it will use, before the button is pressed.
#[component]
fn Uses() -> impl IntoView {
    let app = App::get();
    let size = move || {
        app.status.with(|s| {
            s.model.as_ref().map_or_else(
                || "the model’s weights".to_owned(),
                |m| format!("{} of weights", bytes(m.bytes)),
            )
        })
    };
    view! {
        <section class="block" aria-labelledby="uses-title">
            <h2 id="uses-title">"What it will use"</h2>
            <div class="prose"><ul>
                <li>"One processor core, and as many more as you lend, only while a query is being served; the graphics \
                    processor instead, if it computes the exact bits, within the memory you allow it."</li>
                <li>{size} ", downloaded once, checked, and kept on this device."</li>
                <li>"Your connection: up to an eighth of a megabyte for each token served, within the limit you set."</li>
                <li>"A small bond from the local network’s faucet. A bond from a faucet is only ever drawn for the seed’s side, and for less than half of those who compute the same part of a text."</li>
                <li>"Your network address, which the relay sees."</li>
            </ul></div>
            <p class="small muted">"Closing the page ends it. Unfinished work is not paid, and the asker’s device moves on to another node."</p>
        </section>
    }
}

/// Cores beside the one that serves, as far as the browser tells; the worker starts eight at most.
fn spare_cores() -> u32 {
    (window().navigator().hardware_concurrency() as u32).saturating_sub(1).min(8)
}

#[component]
fn Limits(limits: RwSignal<DonateLimits>, #[prop(into)] serving: Signal<bool>) -> impl IntoView {
    let changed = move || {
        if serving.get_untracked() {
            bridge::send(&ToWorker::DonateLimits { limits: limits.get_untracked() });
        }
    };
    view! {
        <div class="forms">
            <div class="field">
                <label for="max-queries">{move || format!("At one time: {}", crate::format::plural(u64::from(limits.get().max_queries), "query").replace("querys", "queries"))}</label>
                <input id="max-queries" type="range" min="1" max="8" step="1"
                    prop:value=move || limits.get().max_queries.to_string()
                    on:input:target=move |e| { if let Ok(n) = e.target().value().parse() { limits.update(|l| l.max_queries = n); changed(); } }/>
            </div>
            <div class="field">
                <label for="max-mb">{move || format!("Each hour: {}", bytes(u64::from(limits.get().max_mb_per_hour) * 1_000_000))}</label>
                <input id="max-mb" type="range" min="100" max="10000" step="100"
                    prop:value=move || limits.get().max_mb_per_hour.to_string()
                    on:input:target=move |e| { if let Ok(n) = e.target().value().parse() { limits.update(|l| l.max_mb_per_hour = n); changed(); } }/>
            </div>
            <div class="field">
                <label for="max-gpu">{move || match limits.get().max_gpu_mb {
                    0 => "Graphics memory: none, serve on the processor".to_owned(),
                    mb => format!("Graphics memory: up to {}", bytes(u64::from(mb) << 20)),
                }}</label>
                <input id="max-gpu" type="range" min="0" max="4096" step="64"
                    prop:value=move || limits.get().max_gpu_mb.to_string()
                    on:input:target=move |e| { if let Ok(n) = e.target().value().parse() { limits.update(|l| l.max_gpu_mb = n); changed(); } }/>
            </div>
            <label class="check">
                <input type="checkbox" id="texts" data-test="donate-texts" prop:checked=move || limits.get().texts
                    on:change:target=move |e| { let on = e.target().checked(); limits.update(|l| l.texts = on); changed(); }/>
                <span>"Write texts too"
                    <span class="small muted">" In the masked lane this device sees noise, in the sealed lane it reads the text that it works on.                         Downloads the network’s language models, up to 256 MB, and keeps them until you uncheck this and serve again."</span></span>
            </label>
            <label class="check">
                <input type="checkbox" id="floats" data-test="donate-floats" prop:checked=move || limits.get().floats
                    on:change:target=move |e| { let on = e.target().checked(); limits.update(|l| l.floats = on); changed(); }/>
                <span>"Run models in floats too"
                    <span class="small muted">" Their inputs are no noise: this device reads them. Downloads the models, and with the first run the engine: about 2 MB. \
                        Each runs in a worker of its own, which is ended when it takes too long."</span></span>
            </label>
            <div class="field">
                <label for="threads">{move || match (spare_cores(), limits.get().threads.min(spare_cores())) {
                    (0, _) => "Processor cores: one, this device has no other to lend".to_owned(),
                    (_, 0) => "Processor cores: one".to_owned(),
                    (most, more) => format!("Processor cores: {} of {}", more + 1, most + 1),
                }}</label>
                <input id="threads" type="range" min="0" max=spare_cores().to_string() step="1" disabled=spare_cores() == 0
                    prop:value=move || limits.get().threads.min(spare_cores()).to_string()
                    on:input:target=move |e| { if let Ok(n) = e.target().value().parse() { limits.update(|l| l.threads = n); changed(); } }/>
            </div>
            <div class="field">
                <label for="max-threads-mb">{move || format!("Memory of the other cores: up to {}", bytes(u64::from(limits.get().max_threads_mb) << 20))}</label>
                <input id="max-threads-mb" type="range" min="16" max="2048" step="16" disabled=spare_cores() == 0
                    prop:value=move || limits.get().max_threads_mb.to_string()
                    on:input:target=move |e| { if let Ok(n) = e.target().value().parse() { limits.update(|l| l.max_threads_mb = n); changed(); } }/>
            </div>
        </div>
    }
}

#[component]
fn Meter() -> impl IntoView {
    let app = App::get();
    view! {
        <section class="block" aria-labelledby="meter-title">
            <h2 id="meter-title">"Meter"</h2>
            {move || { let d = app.donate.get(); view! {
                <dl class="facts" id="meter">
                    <div><dt>"Layers served"</dt><dd data-test="donate-layers">{thousands(d.layers)}</dd></div>
                    <div><dt>"Queries"</dt><dd>{thousands(d.queries)}<small>{format!("{} under way", d.active)}</small></dd></div>
                    <div><dt>"Moved"</dt><dd>{bytes(d.bytes_in.saturating_add(d.bytes_out))}
                        <small>{format!("{} in, {} out", bytes(d.bytes_in), bytes(d.bytes_out))}</small></dd></div>
                    <div><dt>"Earned"</dt><dd data-test="donate-earned">{format!("{} NES", d.earned)}<small>{format!("promised so far: {} NES", d.vouchers)}</small></dd></div>
                    <div><dt>"Peers"</dt><dd>{d.peers}</dd></div>
                    <div><dt>"Time"</dt><dd>{millis(d.serving_ms)}<small>{format!("{} computing", millis(d.busy_ms))}</small></dd></div>
                    <div><dt>"Bond"</dt><dd>{format!("{} NES", d.bond)}</dd></div>
                </dl>
                {(d.texts > 0 || d.no_texts.is_some()).then(|| view! {
                    <p data-test="donate-text-models">{plural(u64::from(d.texts), "language model")}
                        {match d.fetching {
                            Some((done, total)) if total > 0 => format!(": {} of {} here.", bytes(done), bytes(total)),
                            Some(_) => ", weights not here yet.".to_owned(),
                            None => " served.".to_owned(),
                        }}
                        {d.no_texts.clone().map(|why| format!(" Not all that are offered: {why}."))}</p>
                })}
                {(d.floats > 0 || d.no_floats.is_some()).then(|| view! {
                    <p data-test="donate-float-models">{plural(u64::from(d.floats), "model")} " run in floats."
                        {d.no_floats.clone().map(|why| format!(" Not all that are offered: {why}."))}</p>
                })}
                {processors(d.on)}
                {d.node.map(|n| view! { <p class="small muted">"This browser’s node key " <HashText hash=n name="node key"/></p> })}
            }}}
            <p class="small muted">"Earned counts what the chain has paid, proven from its state; promised is what askers have signed. "
                <a href=Route::Wallet.href()>"Wallet"</a></p>
        </section>
    }
}

/// Which processor serves, and how fast each was.
fn processors(on: ServingOn) -> impl IntoView {
    let pace = |products: u64, ms: f64| {
        if ms > 0.0 { format!("{:.1}", products as f64 * 1000.0 / ms) } else { "–".to_owned() }
    };
    let serves = match (on.gpu, on.cpu_because) {
        (Some(name), _) => format!("GPU: {name}"),
        (None, Some(because)) => format!("CPU kernel, because {because}"),
        (None, None) => "CPU kernel".to_owned(),
    };
    view! {
        <p>"Serves on " <strong data-test="donate-processor">{serves}</strong></p>
        <p>"Threads: " <strong data-test="donate-threads">{threads(&on.pool)}</strong></p>
        <div class="scroll" tabindex="0" role="region" aria-label="Processors"><table>
            <thead><tr><th>"Processor"</th><th class="r">"Products"</th><th class="r">"Products per second"</th></tr></thead>
            <tbody>
                <tr><td>"GPU"{(on.gpu_stages > 0).then(|| view! { <small>
                        {format!(" holds {} of {} layers, {}", on.gpu_stages, on.stages, bytes(on.gpu_bytes))}</small> })}</td>
                    <td class="r" data-test="donate-gpu-products">{thousands(on.gpu_products)}</td>
                    <td class="r">{pace(on.gpu_products, on.gpu_ms)}</td></tr>
                <tr><td>"CPU kernel, several threads"{(on.pool.stages > 0).then(|| view! { <small>
                        {format!(" {} of {} layers, {}", on.pool.stages, on.stages, bytes(on.pool.bytes))}</small> })}</td>
                    <td class="r" data-test="donate-pool-products">{thousands(on.pool.products)}</td>
                    <td class="r">{pace(on.pool.products, on.pool.ms)}</td></tr>
                <tr><td>"CPU kernel"</td>
                    <td class="r" data-test="donate-cpu-products">{thousands(on.cpu_products)}</td>
                    <td class="r">{pace(on.cpu_products, on.cpu_ms)}</td></tr>
            </tbody></table></div>
    }
}

/// How many threads take part, and why not more.
fn threads(pool: &PoolView) -> String {
    let more = match pool.threads {
        0 => "one".to_owned(),
        more => format!("{} with the node’s own", more + 1),
    };
    pool.because
        .as_ref()
        .map_or_else(|| more.clone(), |because| format!("{more}, because {because}"))
}

#[component]
fn Adapter() -> impl IntoView {
    let app = App::get();
    let running = Memo::new(move |_| app.adapter.with(|a| a.as_ref().is_some_and(|a| a.running)));
    view! {
        <section class="block" data-test="adapter" aria-labelledby="adapter-title">
            <div class="row between">
                <h2 id="adapter-title">"Graphics adapter"</h2>
                <button type="button" class="btn tiny" data-test="probe" disabled=move || running.get()
                    on:click=move |_| bridge::send(&ToWorker::ProbeAdapter)>
                    {move || if running.get() { "Testing…" } else { "Test it" }}</button>
            </div>
            {move || app.adapter.get().map_or_else(
                || view! { <p class="muted">"The test multiplies known numbers and compares every bit with the reference. \
                    Serving uses an adapter only if it passes and is no processor in disguise, \
                    and checks every product of it again."</p> }.into_any(),
                |a| report(a).into_any(),
            )}
        </section>
    }
}

fn report(a: AdapterReport) -> impl IntoView {
    let has_tests = !a.tests.is_empty();
    view! {
        {a.problem.map(|p| view! { <ProblemNote problem=p/> })}
        {a.available.then(|| view! {
            <dl class="defs">
                <dt>"Adapter"</dt><dd>{a.name}</dd>
                <dt>"Vendor"</dt><dd>{a.vendor}</dd>
                <dt>"Kind"</dt><dd>{a.device_type}</dd>
                <dt>"Largest buffer"</dt><dd>{bytes(a.max_binding)}</dd>
            </dl>
        })}
        {has_tests.then(|| view! {
            <div class="scroll" tabindex="0" role="region" aria-label="Bit self-test"><table id="self-test">
                <thead><tr><th>"Computed"</th><th>"On"</th><th>"Bits"</th><th class="r">"Time"</th></tr></thead>
                <tbody>{a.tests.into_iter().map(|t| view! {
                    <tr><td>{t.what}</td><td>{t.on}</td>
                        <td>{if t.equal { view! { <span class="state verified">{icon("verified")} "Identical"</span> }.into_any() }
                            else { view! { <span class="state failed">{icon("failed")} "Different"</span> }.into_any() }}</td>
                        <td class="r">{millis(t.took_ms)}</td></tr>
                }).collect_view()}</tbody></table></div>
        })}
        {(!a.conclusion.is_empty()).then(|| view! { <p>{a.conclusion}</p> })}
    }
}
