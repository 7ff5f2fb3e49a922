//! Balance, address, faucet; send, activity, backup.

use leptos::{ev, prelude::*};
use nesa_messages::{Activity, ToWorker, Unes, WalletCommand, WalletState};
use wasm_bindgen::JsCast;

use super::playground::list;
use crate::{
    bridge,
    format::{day, thousands},
    parts::copy,
    route::Route,
    state::{App, Intent, read_text},
};

fn command(command: WalletCommand) {
    bridge::send(&ToWorker::Wallet { command });
}

/// The page.
#[component]
pub(crate) fn Wallet() -> impl IntoView {
    let app = App::get();
    let state = Memo::new(move |_| app.wallet.with(|w| w.state));
    view! {
        <div class="frame"><div class="page">
            <header><h1>"Wallet"</h1>
                <p class="lede">"A key made on this device, encrypted where it rests. Nobody can restore it for you."</p></header>
            {move || match state.get() {
                WalletState::Unknown => view! { <p class="muted">"Looking for a key on this device…"</p> }.into_any(),
                WalletState::Absent => view! { <Absent/> }.into_any(),
                WalletState::Locked => view! { <Locked/> }.into_any(),
                WalletState::Ready => view! { <Ready/> }.into_any(),
            }}
        </div></div>
    }
}

#[component]
fn Absent() -> impl IntoView {
    let phrase = RwSignal::new(String::new());
    let create = move |e: ev::SubmitEvent| {
        e.prevent_default();
        let passphrase = Some(phrase.get_untracked()).filter(|p| !p.is_empty());
        command(WalletCommand::Create { passphrase });
    };
    view! {
        <div class="forms">
            <form class="stack" on:submit=create>
                <h2>"Make a wallet"</h2>
                <div class="field">
                    <label for="new-phrase">"Passphrase, if you like"</label>
                    <input id="new-phrase" data-test="wallet-password" type="password" autocomplete="new-password" prop:value=phrase
                        on:input:target=move |e| phrase.set(e.target().value())/>
                    <p class="small">"Without one the key is encrypted under a key of this browser that cannot be read out. \
                        With one, opening it also needs the phrase."</p>
                </div>
                <div class="row"><button type="submit" class="btn main" data-test="wallet-create">"Make a key on this device"</button></div>
            </form>
            <Import/>
        </div>
    }
}

#[component]
fn Locked() -> impl IntoView {
    let phrase = RwSignal::new(String::new());
    let unlock = move |e: ev::SubmitEvent| {
        e.prevent_default();
        command(WalletCommand::Unlock { passphrase: phrase.get_untracked() });
        phrase.set(String::new());
    };
    view! {
        <div class="forms">
            <form class="stack" on:submit=unlock>
                <h2>"Unlock"</h2>
                <div class="field"><label for="phrase">"Passphrase"</label>
                    <input id="phrase" data-test="wallet-password" type="password" autocomplete="current-password" required prop:value=phrase
                        on:input:target=move |e| phrase.set(e.target().value())/></div>
                <div class="row"><button type="submit" class="btn main" data-test="wallet-unlock">"Unlock"</button></div>
            </form>
            <Import/>
        </div>
    }
}

#[component]
fn Ready() -> impl IntoView {
    let app = App::get();
    let address = Memo::new(move |_| app.wallet.with(|w| w.address.clone().unwrap_or_default()));
    let faucet =
        Memo::new(move |_| app.status.with(|s| s.identity.as_ref().is_some_and(|i| i.faucet)));
    view! {
        <section class="block" aria-label="Balance">
            <div class="stack" data-test="balance">
                {move || app.wallet.with(|w| {
                    let rows: Vec<_> = w.balances.iter().map(|b| view! {
                        <p class="figure-big">{b.amount.to_string()} " " {b.symbol.clone()}</p>
                    }).collect();
                    if rows.is_empty() { view! { <p class="figure-big">"0 NES"</p> }.into_any() } else { rows.into_any() }
                })}
                {move || app.wallet.with(|w| match w.proven_at {
                    Some(h) => view! { <p class="small row"><span class="state verified">{crate::parts::icon("verified")}
                        "Proven from state"</span> <span class="muted">"at block "</span>
                        <a href=Route::Block(h).href()>{thousands(h)}</a></p> }.into_any(),
                    None => view! { <p class="small muted">"Not proven yet: waiting for the network."</p> }.into_any(),
                })}
            </div>
            <div class="stack">
                <p class="small muted">"Your address"</p>
                <p class="address" data-test="wallet-address">{address}</p>
                <div class="row">
                    <button type="button" class="btn tiny" on:click=move |_| copy(app, address.get_untracked())>"Copy address"</button>
                    <button type="button" class="btn tiny" on:click=move |_| command(WalletCommand::Refresh)>"Prove again"</button>
                    <Show when=move || faucet.get()>
                        <button type="button" class="btn tiny" data-test="faucet"
                            on:click=move |_| command(WalletCommand::Faucet)>"Take test NES from the faucet"</button>
                    </Show>
                    <Show when=move || app.wallet.with(|w| w.passphrase)>
                        <button type="button" class="btn tiny" on:click=move |_| command(WalletCommand::Lock)>"Lock"</button>
                    </Show>
                </div>
            </div>
        </section>
        <section class="block forms"><Send/><ActivityList/></section>
        <section class="block forms"><Export/><Import/>
            <div class="stack"><h2>"Remove"</h2>
                <p class="small muted">"Deletes the key from this device."</p>
                <div class="row"><button type="button" class="btn danger"
                    on:click=move |_| app.intent.set(Some(Intent::EraseWallet))>"Remove wallet…"</button></div></div>
        </section>
    }
}

#[component]
fn Send() -> impl IntoView {
    let to = RwSignal::new(String::new());
    let amount = RwSignal::new(String::new());
    let denom = RwSignal::new(0u32);
    let wrong = RwSignal::new(None::<String>);
    let app = App::get();
    let send = move |e: ev::SubmitEvent| {
        e.prevent_default();
        let target = to.get_untracked().trim().to_lowercase();
        if target.len() != 64 || !target.bytes().all(|b| b.is_ascii_hexdigit()) {
            wrong.set(Some("An address is 64 hexadecimal digits.".to_owned()));
            return;
        }
        match Unes::parse_nes(&amount.get_untracked()) {
            Err(why) => wrong.set(Some(why.to_owned())),
            Ok(Unes(0)) => wrong.set(Some("enter an amount above zero".to_owned())),
            Ok(sum) => {
                wrong.set(None);
                command(WalletCommand::Send {
                    to: target,
                    denom: denom.get_untracked(),
                    amount: sum,
                });
                amount.set(String::new());
                app.toast("Signed here and handed to the network", None);
            }
        }
    };
    view! {
        <form class="stack" on:submit=send>
            <h2>"Send"</h2>
            <div class="field"><label for="to">"To"</label>
                <input id="to" type="text" class="mono" autocomplete="off" spellcheck="false" required
                    placeholder="64 hexadecimal digits" prop:value=to
                    on:input:target=move |e| to.set(e.target().value())/></div>
            <div class="field"><label for="amount">"Amount"</label>
                <input id="amount" type="text" inputmode="decimal" autocomplete="off" required prop:value=amount
                    on:input:target=move |e| amount.set(e.target().value())/></div>
            <Show when=move || app.wallet.with(|w| w.balances.len() > 1)>
                <div class="field"><label for="denom">"Of"</label>
                    <select id="denom" on:change:target=move |e| denom.set(e.target().value().parse().unwrap_or(0))>
                        {move || app.wallet.with(|w| w.balances.iter().map(|b| view! {
                            <option value=b.denom.to_string()>{b.symbol.clone()}</option> }).collect_view())}
                    </select></div>
            </Show>
            <p class="small" role="alert">{move || wrong.get()}</p>
            <div class="row"><button type="submit" class="btn main">"Send"</button></div>
        </form>
    }
}

#[component]
fn ActivityList() -> impl IntoView {
    let app = App::get();
    let rows = Memo::new(move |_| app.wallet.with(|w| w.activity.clone()));
    view! {
        <div class="stack">
            <h2>"Activity"</h2>
            <Show when=move || !rows.with(Vec::is_empty) fallback=|| view! {
                <p class="muted">"Nothing yet. What you take, send and pay appears here."</p> }>
                <div class="scroll" tabindex="0" role="region" aria-label="Activity">
                    <table><thead><tr><th>"When"</th><th>"What"</th><th class="r">"NES"</th></tr></thead>
                    <tbody>{move || rows.get().into_iter().map(activity).collect_view()}</tbody></table></div>
            </Show>
        </div>
    }
}

fn activity(a: Activity) -> impl IntoView {
    let minus = a.change.starts_with('-');
    let sum = a.change.trim_start_matches(['-', '+']).parse().map_or_else(
        |_| a.change.clone(),
        |u: Unes| format!("{}{u}", if minus { "−" } else { "+" }),
    );
    view! {
        <tr><td class="small">{day(a.at_ms)}</td>
            <td>{a.what}
                {a.height.map(|h| view! { " " <a class="small" href=Route::Block(h).href()>{format!("block {}", thousands(h))}</a> })}
                {a.refused.map(|r| view! { <p class="small state failed">{format!("Refused: {r}")}</p> })}</td>
            <td class="r">{sum}</td></tr>
    }
}

#[component]
fn Export() -> impl IntoView {
    let phrase = RwSignal::new(String::new());
    let app = App::get();
    let export = move |e: ev::SubmitEvent| {
        e.prevent_default();
        command(WalletCommand::Export { passphrase: phrase.get_untracked() });
        phrase.set(String::new());
    };
    view! {
        <form class="stack" on:submit=export>
            <h2>"Backup"</h2>
            <p class="small muted">{move || if app.wallet.with(|w| w.backed_up) {
                "A backup of this key was saved." } else { "No backup of this key was saved yet." }}</p>
            <div class="field"><label for="export-phrase">"Passphrase for the file"</label>
                <input id="export-phrase" type="password" autocomplete="new-password" required minlength="8" prop:value=phrase
                    on:input:target=move |e| phrase.set(e.target().value())/></div>
            <div class="row"><button type="submit" class="btn" data-test="wallet-export">"Save an encrypted backup"</button></div>
        </form>
    }
}

#[component]
fn Import() -> impl IntoView {
    let app = App::get();
    let phrase = RwSignal::new(String::new());
    let file = RwSignal::new(None::<(String, String)>);
    let chosen = move |e: ev::Event| {
        let Some(input) = e.target().and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok())
        else {
            return;
        };
        let Some(picked) = list(input.files()).into_iter().next() else { return };
        leptos::task::spawn_local(async move {
            match read_text(&picked).await {
                Ok(text) => file.set(Some((picked.name(), text))),
                Err(why) => app.toast(why, None),
            }
        });
    };
    let import = move |e: ev::SubmitEvent| {
        e.prevent_default();
        match file.get_untracked() {
            Some((_, text)) => {
                command(WalletCommand::Import { file: text, passphrase: phrase.get_untracked() });
                phrase.set(String::new());
                file.set(None);
            }
            None => app.toast("Choose the backup file first", None),
        }
    };
    view! {
        <form class="stack" on:submit=import>
            <h2>"Restore"</h2>
            <p class="small muted">"From a backup file. It replaces the key on this device."</p>
            <div class="row">
                <input class="file-input" type="file" id="backup" on:change=chosen/>
                <label class="btn" for="backup">"Choose backup file"</label>
                <span class="small muted">{move || file.get().map(|(name, _)| name)}</span>
            </div>
            <div class="field"><label for="import-phrase">"Its passphrase"</label>
                <input id="import-phrase" type="password" autocomplete="off" required prop:value=phrase
                    on:input:target=move |e| phrase.set(e.target().value())/></div>
            <div class="row"><button type="submit" class="btn">"Restore"</button></div>
        </form>
    }
}
