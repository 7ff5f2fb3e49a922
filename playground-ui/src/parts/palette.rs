//! ⌘K: every page and action by name.

use leptos::{ev, html, prelude::*};

use crate::{
    bridge,
    route::Route,
    state::{Act, App, Intent},
};
use nesa_messages::ToWorker;

#[derive(Clone, Copy)]
enum Action {
    Go(Route),
    Sample,
    Clear,
    Settings,
    Regenerate,
    Stop,
    Rename,
    ExportTalk,
    Theme,
    Reconnect,
    Recheck,
    ExportPayment,
    DeleteHistory,
}

type Command = (&'static str, &'static str, Action);

const COMMANDS: [Command; 23] = [
    ("New search", "Playground", Action::Go(Route::Playground)),
    ("New chat: ask a model", "Playground", Action::Go(Route::Chat)),
    ("Read a digit", "Playground", Action::Go(Route::Digit)),
    ("Run any model", "Playground", Action::Go(Route::Float)),
    ("Classify a text", "Playground", Action::Go(Route::Classify)),
    ("Settings of the chat: temperature, seed, system prompt", "Chat", Action::Settings),
    ("Write the last answer again", "Chat", Action::Regenerate),
    ("Stop", "Answer", Action::Stop),
    ("Rename this conversation", "Chat", Action::Rename),
    ("Export this conversation", "Chat", Action::ExportTalk),
    ("Use the sample collection", "Playground", Action::Sample),
    ("Remove all documents", "Playground", Action::Clear),
    ("Check this answer again", "Answer", Action::Recheck),
    ("Export the payment receipt", "Answer", Action::ExportPayment),
    ("Network: blocks and nodes", "Page", Action::Go(Route::Network)),
    ("Donate this browser", "Page", Action::Go(Route::Donate)),
    ("Wallet", "Page", Action::Go(Route::Wallet)),
    ("Verify a receipt", "Page", Action::Go(Route::Verify)),
    ("About: promises and limits", "Page", Action::Go(Route::About)),
    ("Change colours", "View", Action::Theme),
    ("Try the network again", "Network", Action::Reconnect),
    ("Delete all history", "Device", Action::DeleteHistory),
    ("Create a wallet or send NES", "Page", Action::Go(Route::Wallet)),
];

fn act(app: App, action: Action) {
    let talk = untrack(|| app.talk());
    let job = match (app.route.get_untracked(), talk) {
        (Route::Job(id), _) => Some(id),
        (_, Some(_)) => untrack(|| app.shown_answer()),
        _ => None,
    };
    let no_talk = || app.toast("Open a conversation first", None);
    match action {
        Action::Go(route) => app.go(route),
        Action::Sample => {
            app.go(Route::Playground);
            app.use_sample();
        }
        Action::Clear => app.clear_documents(),
        Action::Settings => {
            if !matches!(app.route.get_untracked(), Route::Conversation(_)) {
                app.go(Route::Chat);
            }
            app.settings.set(true);
        }
        Action::Regenerate if talk.is_some() => app.act.set(Act::Regenerate),
        Action::Rename if talk.is_some() => app.renaming.set(true),
        Action::ExportTalk if talk.is_some() => {
            app.intent.set(talk.map(Intent::ExportConversation));
        }
        Action::Regenerate | Action::Rename | Action::ExportTalk => no_talk(),
        Action::Stop => match untrack(|| app.running()) {
            Some(job) => app.cancel(job),
            None => app.toast("Nothing is running here", None),
        },
        Action::Theme => app.cycle_theme(),
        Action::Reconnect => bridge::send(&ToWorker::Reconnect),
        Action::Recheck => match job {
            Some(id) => app.recheck(id),
            None => app.toast("Open an answer first", None),
        },
        Action::ExportPayment => match job {
            Some(job) => bridge::send(&ToWorker::ExportPayment { job }),
            None => app.toast("Open an answer first", None),
        },
        Action::DeleteHistory => app.intent.set(Some(Intent::DeleteHistory)),
    }
}

/// The palette: a combobox over a list, in a modal dialog that keeps the focus.
#[component]
pub(crate) fn Palette() -> impl IntoView {
    let app = App::get();
    let dialog = NodeRef::<html::Dialog>::new();
    let field = NodeRef::<html::Input>::new();
    let typed = RwSignal::new(String::new());
    let chosen = RwSignal::new(0usize);
    let matching = Memo::new(move |_| {
        let words = typed.get().to_lowercase();
        (0..COMMANDS.len())
            .filter(|i| {
                let Some((name, hint, _)) = COMMANDS.get(*i) else { return false };
                let line = format!("{name} {hint}").to_lowercase();
                words.split_whitespace().all(|w| line.contains(w))
            })
            .collect::<Vec<_>>()
    });
    Effect::new(move |_| {
        let Some(dialog) = dialog.get() else { return };
        match (app.palette.get(), dialog.open()) {
            (true, false) => {
                typed.set(String::new());
                chosen.set(0);
                let _ = dialog.show_modal();
                if let Some(field) = field.get_untracked() {
                    let _ = field.focus();
                }
            }
            (false, true) => dialog.close(),
            _ => {}
        }
    });
    let take = move |position: usize| {
        let found = matching.with_untracked(|m| m.get(position).copied());
        if let Some((_, _, action)) = found.and_then(|i| COMMANDS.get(i)) {
            app.palette.set(false);
            act(app, *action);
        }
    };
    let keys = move |e: ev::KeyboardEvent| {
        let count = matching.with_untracked(Vec::len).max(1);
        match e.key().as_str() {
            "ArrowDown" => chosen.update(|c| *c = (*c + 1) % count),
            "ArrowUp" => chosen.update(|c| *c = (*c + count - 1) % count),
            "Enter" => take(chosen.get_untracked()),
            _ => return,
        }
        e.prevent_default();
    };
    view! {
        <dialog class="palette" node_ref=dialog aria-label="Commands"
            on:close=move |_| app.palette.set(false)>
            <div class="palette-box">
                <input node_ref=field type="text" role="combobox" aria-expanded="true"
                    aria-controls="palette-list" aria-label="Type a command" autocomplete="off"
                    placeholder="Type a command" prop:value=typed on:keydown=keys
                    aria-activedescendant=move || format!("palette-{}", chosen.get())
                    on:input:target=move |e| { typed.set(e.target().value()); chosen.set(0); }/>
                <div id="palette-list" role="listbox" aria-label="Commands">
                    {move || matching.get().into_iter().enumerate().filter_map(|(position, i)| {
                        let (name, hint, _) = COMMANDS.get(i)?;
                        Some(view! {
                            <div role="option" id=format!("palette-{position}")
                                aria-selected=move || (chosen.get() == position).to_string()
                                on:click=move |_| take(position)>
                                <span>{*name}</span><span class="muted small">{*hint}</span>
                            </div>
                        })
                    }).collect_view()}
                </div>
                <Show when=move || matching.with(Vec::is_empty)>
                    <p class="palette-empty">"Nothing by that name."</p>
                </Show>
            </div>
        </dialog>
    }
}
