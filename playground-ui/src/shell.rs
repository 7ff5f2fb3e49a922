//! The frame around every page: navigation, shortcuts, the worker's life.

use leptos::{ev, html, prelude::*};
use nesa_messages::{ModelPhase, NetworkPhase, PreparationChoice, StepState, ToWorker};

use crate::{
    bridge,
    format::{bytes, thousands},
    pages,
    parts::{Confirm, Palette, ProblemNote, Toasts, icon, state_icon},
    route::Route,
    state::App,
};

const SECTIONS: [(Route, &str); 6] = [
    (Route::Playground, "search"),
    (Route::Network, "network"),
    (Route::Donate, "donate"),
    (Route::Wallet, "wallet"),
    (Route::Verify, "verify"),
    (Route::About, "about"),
];

/// The whole page.
#[component]
pub(crate) fn Shell() -> impl IntoView {
    let app = App::new();
    provide_context(app);
    app.route.set(current());
    bridge::connect(move |message, bytes| app.receive(message, bytes));
    listen(app);
    Effect::new(move |_| app.theme.get().apply());

    let main = NodeRef::<html::Main>::new();
    Effect::new(move |before: Option<Route>| {
        let route = app.route.get();
        document().set_title(&format!("{} · Nesa Playground", route.title()));
        // Moving to another page moves the focus there, as a page load would.
        if before.is_some_and(|b| b != route) {
            if let Some(main) = main.get_untracked() {
                let _ = main.focus();
            }
            // After the new page is laid out, and after the focus scrolled to it.
            request_animation_frame(|| window().scroll_to_with_x_and_y(0.0, 0.0));
        }
        route
    });

    view! {
        <a class="skip" href="#main" on:click=move |e| {
            // The fragment is the route, so the jump is made by hand.
            e.prevent_default();
            if let Some(main) = main.get_untracked() { let _ = main.focus(); }
        }>"Skip to content"</a>
        <header class="top">
            <a class="brand" href="#/">
                <svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true">
                    <path fill="currentColor" d="M15 4a12 12 0 0 0 0 24z"></path>
                    <path fill="none" stroke="currentColor" stroke-width="2" d="M18 5a11 11 0 0 1 0 22z"></path>
                </svg>
                "Nesa"
            </a>
            <nav class="nav" aria-label="Pages"><ul>
                {SECTIONS.map(|(route, name)| view! {
                    <li><a href=route.href()
                        aria-current=move || (app.route.get().section() == route).then_some("page")>
                        {icon(name)} {route.title()}
                    </a></li>
                }).collect_view()}
            </ul></nav>
            <div class="top-end">
                <Pulse/>
                <Purse/>
                <button type="button" class="icon-btn" aria-label="Commands (Control or Command K)"
                    title="Commands (Ctrl K)" on:click=move |_| app.palette.set(true)>{icon("command")}</button>
            </div>
        </header>
        <p class="sr" aria-live="polite" id="announcements">{move || app.announced.get()}</p>
        <main id="main" tabindex="-1" node_ref=main>
            <Alerts/>
            {move || match app.route.get() {
                Route::Playground => view! { <pages::Playground/> }.into_any(),
                Route::Chat => view! { <pages::NewChat/> }.into_any(),
                Route::Conversation(id) => view! { <pages::Talk id=id/> }.into_any(),
                Route::Digit => view! { <pages::Digit/> }.into_any(),
                Route::Float => view! { <pages::Float/> }.into_any(),
                Route::Classify => view! { <pages::Classify/> }.into_any(),
                Route::Job(id) => view! { <pages::Answer id=id/> }.into_any(),
                Route::Network => view! { <pages::Network/> }.into_any(),
                Route::Block(height) => view! { <pages::Block height=height/> }.into_any(),
                Route::Wallet => view! { <pages::Wallet/> }.into_any(),
                Route::Donate => view! { <pages::Donate/> }.into_any(),
                Route::Verify => view! { <pages::Verify/> }.into_any(),
                Route::About => view! { <pages::About/> }.into_any(),
            }}
        </main>
        <footer class="foot">
            <span>"Documents and drawings leave this device only as masked halves, a chat in the lane you choose, inputs of models in floats sealed to the nodes that run them."</span>
            <a href=Route::About.href()>"What is promised, and what is not"</a>
            <button type="button" class="link" on:click=move |_| app.cycle_theme()>
                {move || format!("Colours: {}", app.theme.get().name())}
            </button>
        </footer>
        <Toasts/>
        <Palette/>
        <Confirm/>
    }
}

fn current() -> Route {
    Route::parse(&window().location().hash().unwrap_or_default())
}

fn listen(app: App) {
    let _ = window_event_listener(ev::hashchange, move |_| app.route.set(current()));
    let _ = window_event_listener(ev::keydown, move |e| {
        if (e.meta_key() || e.ctrl_key()) && e.key().eq_ignore_ascii_case("k") {
            e.prevent_default();
            app.palette.update(|open| *open = !*open);
        } else if e.key() == "Escape"
            && !untrack(|| {
                app.palette.get()
                    || app.settings.get()
                    || app.renaming.get()
                    || app.intent.get().is_some()
            })
            && let Some(job) = untrack(|| app.running())
        {
            app.cancel(job);
        }
    });
    let _ = window_event_listener(ev::visibilitychange, move |_| {
        let visible = !document().hidden();
        bridge::send(&ToWorker::Visible { visible });
    });
    // A file dropped beside a drop zone must not replace the page.
    let _ = window_event_listener(ev::dragover, move |e| e.prevent_default());
    let _ = window_event_listener(ev::drop, move |e| e.prevent_default());
}

/// The chain's heartbeat: what this device verified last, or why it cannot.
#[component]
fn Pulse() -> impl IntoView {
    let app = App::get();
    let look = move || {
        app.status.with(|s| match &s.network {
            NetworkPhase::Live => {
                (StepState::Verified, format!("Block {} verified here", thousands(s.height)))
            }
            NetworkPhase::Syncing { height, target } => (
                StepState::Pending,
                format!("Checking block {} of {}", thousands(*height), thousands(*target)),
            ),
            NetworkPhase::Offline { .. } => (StepState::NotChecked, "Offline".to_owned()),
            NetworkPhase::Refused { .. } => (StepState::Failed, "Network refused".to_owned()),
            _ => (StepState::Pending, "Connecting…".to_owned()),
        })
    };
    let phase = move || {
        app.status.with(|s| match (&s.network, &s.model_phase) {
            (NetworkPhase::Live, ModelPhase::Ready { .. }) => "ready",
            (NetworkPhase::Live, ModelPhase::Failed { .. }) => "model-failed",
            (NetworkPhase::Live, _) => "preparing",
            (NetworkPhase::Offline { .. }, _) => "offline",
            (NetworkPhase::Refused { .. }, _) => "failed",
            (NetworkPhase::Syncing { .. }, _) => "syncing",
            _ => "connecting",
        })
    };
    view! {
        <a class="pulse num" data-test="status" data-phase=phase aria-label=move || look().1 href=Route::Network.href()>
            {move || {
                let (state, text) = look();
                let class = crate::parts::state_class(state);
                view! { <span class=format!("state {class}")>{state_icon(state)}</span> <span class="wide-only" aria-hidden="true">{text}</span> }
            }}
        </a>
    }
}

/// The NES balance, once proven.
#[component]
fn Purse() -> impl IntoView {
    let app = App::get();
    view! {
        {move || app.wallet.with(|w| {
            let nes = w.balances.iter().find(|b| b.denom == 0).filter(|_| w.proven_at.is_some())?;
            Some(view! {
                <a class="pulse num" href=Route::Wallet.href() aria-label=format!("Wallet: {} NES", nes.amount)>
                    {format!("{} NES", nes.amount)}
                </a>
            })
        })}
    }
}

/// What concerns every page: refusal, forks, a stopped worker, the way to ready.
#[component]
fn Alerts() -> impl IntoView {
    let app = App::get();
    let network = Memo::new(move |_| app.status.with(|s| s.network.clone()));
    view! {
        <div class="frame alerts" role="alert" class:empty=move || {
            app.problem.with(Option::is_none) && app.conflict.with(Option::is_none)
                && !matches!(network.get(), NetworkPhase::Offline { .. } | NetworkPhase::Refused { .. })
        }>
            {move || match network.get() {
                NetworkPhase::Offline { problem, .. } => Some(view! {
                    <div class="stack">
                        <ProblemNote problem=problem/>
                        <div class="row">
                            <button type="button" class="btn tiny"
                                on:click=move |_| bridge::send(&ToWorker::Reconnect)>"Try again now"</button>
                            <span class="small muted">"History, wallet and receipts work offline."</span>
                        </div>
                    </div>
                }.into_any()),
                NetworkPhase::Refused { problem } => Some(view! {
                    <div class="stack">
                        <ProblemNote problem=problem/>
                        <div class="row"><button type="button" class="btn tiny danger"
                            on:click=move |_| app.intent.set(Some(crate::state::Intent::ForgetChain))>
                            "Forget the pinned chain…"</button></div>
                    </div>
                }.into_any()),
                _ => None,
            }}
            {move || app.conflict.get().map(|c| view! {
                <div class="note failed">
                    <p><strong>{format!("Two different final blocks at height {}.", thousands(c.height))}</strong></p>
                    <p>"Either the network forked or whoever dealt its key forged one. Do not pay on it. \
                        Both headers are kept on this device as evidence."</p>
                    <dl><dt>"First"</dt><dd class="mono">{c.first}</dd><dt>"Second"</dt><dd class="mono">{c.second}</dd></dl>
                </div>
            })}
            {move || app.problem.get().map(|p| view! {
                <div class="stack">
                    <ProblemNote problem=p/>
                    <div class="row"><button type="button" class="btn tiny"
                        on:click=move |_| app.problem.set(None)>"Dismiss"</button></div>
                </div>
            })}
        </div>
    }
}

/// The way to checked weights, as one line with a bar; nothing once ready.
#[component]
pub(crate) fn ModelProgress() -> impl IntoView {
    let app = App::get();
    let phase = Memo::new(move |_| app.model_phase());
    let live = Memo::new(move |_| app.status.with(|s| s.network == NetworkPhase::Live));
    let waiting = move || match (app.family(), app.model()) {
        (Some(_), None) => {
            app.models.with(Option::is_none).then(|| "Finding the models…".to_owned())
        }
        (Some(_), Some(m)) if app.wanted.with(|w| !w.contains_key(&m.digest)) => {
            Some(match app.preparation(&m) {
                PreparationChoice::Local => {
                    format!("{} is fetched and checked once you write: {}.", m.name, bytes(m.bytes))
                }
                PreparationChoice::Thin => format!(
                    "Two nodes prepare {} once you write; {} of it are fetched.",
                    m.name,
                    bytes(m.thin_bytes)
                ),
            })
        }
        _ => Some("Finding the model…".to_owned()),
    };
    view! {
        {move || match phase.get() {
            ModelPhase::Ready { .. } => ().into_any(),
            ModelPhase::Waiting if !live.get() => ().into_any(),
            ModelPhase::Waiting => view! { <p class="small muted">{waiting}</p> }.into_any(),
            ModelPhase::Downloading { done, total } => view! {
                <div class="stack">
                    <label class="small muted" for="model-progress">
                        {format!("Downloading the model: {} of {}", bytes(done), bytes(total))}
                    </label>
                    <progress id="model-progress" max=total.to_string() value=done.to_string()></progress>
                </div>
            }.into_any(),
            ModelPhase::Preparing { done, total } => view! {
                <div class="stack">
                    <label class="small muted" for="model-progress">
                        {format!("Preparing secret checks on this device: {done} of {total}")}
                    </label>
                    <progress id="model-progress" max=total.to_string() value=done.to_string()></progress>
                </div>
            }.into_any(),
            ModelPhase::Failed { problem } => view! { <ProblemNote problem=problem/> }.into_any(),
        }}
    }
}

/// How far the model is, in a place that it has from the start: what stands below is clicked while this
/// changes, and must not move.
#[component]
pub(crate) fn Standby() -> impl IntoView {
    let app = App::get();
    let ready = Memo::new(move |_| matches!(app.model_phase(), ModelPhase::Ready { .. }));
    view! {
        <div class="standby" data-test="standby">
            <ModelProgress/>
            <Show when=move || ready.get()>
                <p class="small muted">{move || if app.sealed() {
                    "Nothing is prepared on this device: the committee runs the model."
                } else {
                    "This device is ready to check what the nodes answer."
                }}</p>
            </Show>
        </div>
    }
}
