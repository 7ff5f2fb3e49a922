//! Run any model: inputs as JSON, several nodes, and how far their agreement is evidence.

mod price;
mod result;

use leptos::{ev, prelude::*};
use nesa_messages::{FloatOffer, TaskKind};
use nesa_page::float;
use wasm_bindgen::JsCast;

pub(crate) use price::RunsPrice;
pub(crate) use result::Outputs;

use super::{
    chat::Models,
    playground::{Tasks, list, preflight::Preflight, price as pricing},
};
use crate::{
    format::plural,
    parts::{GateLine, Rail, Send},
    state::{App, read_text},
};

/// The inputs and everything around them.
#[component]
pub(crate) fn Float() -> impl IntoView {
    let app = App::get();
    pricing::attend(app, TaskKind::Float);
    let send = move |e: ev::SubmitEvent| {
        e.prevent_default();
        app.ask();
    };
    view! {
        <div class="frame two">
            <Rail/>
            <div class="page">
                <Tasks/>
                <header>
                    <h1>"Run any model. See whether the nodes agree."</h1>
                    <p class="lede">"Models without an exact form compute in floats, and honest machines differ in the last digits. \
                        Several nodes run the model; this device compares them. What they agree on is statistical evidence, no proof."</p>
                </header>
                <form class="block" on:submit=send>
                    <Inputs/>
                    <Nodes/>
                    <div class="row">
                        <Send>{move || format!("Run on {}", plural(app.lane().replicas.into(), "node"))}</Send>
                        <GateLine open="The drawn nodes read the inputs. Control Enter sends."/>
                    </div>
                    <Preflight open=true options=false/>
                </form>
                <Models/>
            </div>
        </div>
    }
}

/// The text of the inputs, what the model takes, and what is wrong with the text.
#[component]
fn Inputs() -> impl IntoView {
    let app = App::get();
    let offer = Memo::new(move |_| app.model().and_then(|m| m.float));
    let text = Memo::new(move |_| app.draft.with(|d| d.float.text.clone()));
    let wrong = Memo::new(move |_| {
        let typed = text.with(|t| !t.trim().is_empty());
        if typed { app.float_inputs().and_then(Result::err) } else { None }
    });
    let put = move |text: String| {
        app.armed.set(false);
        app.draft.update(|d| d.float.text = text);
    };
    let fill = move || {
        if let Some(offer) = offer.get_untracked() {
            put(float::example(&offer.inputs));
            app.announce("Filled in made-up inputs.");
        }
    };
    // An input that already works; what somebody wrote is never replaced.
    Effect::new(move |_| {
        if offer.with(Option::is_some) && text.with_untracked(|t| t.trim().is_empty()) {
            fill();
        }
    });
    let keys = move |e: ev::KeyboardEvent| {
        if e.key() == "Enter" && (e.ctrl_key() || e.meta_key()) {
            e.prevent_default();
            app.ask();
        }
    };
    let open = move |files: Vec<web_sys::File>| {
        let Some(file) = files.into_iter().next() else { return };
        leptos::task::spawn_local(async move {
            match read_text(&file).await {
                Ok(text) => {
                    put(text);
                    app.announce(format!("Read {}.", file.name()));
                }
                Err(why) => app.toast(why, None),
            }
        });
    };
    let chosen = move |e: ev::Event| {
        let input = e.target().and_then(|t| t.dyn_into::<web_sys::HtmlInputElement>().ok());
        let Some(input) = input else { return };
        open(list(input.files()));
        input.set_value("");
    };
    let dropped = move |e: ev::DragEvent| {
        let files = list(e.data_transfer().and_then(|data| data.files()));
        if !files.is_empty() {
            e.prevent_default();
            open(files);
        }
    };
    view! {
        <div class="stack">
            <label for="float-inputs">"Inputs"</label>
            {move || offer.get().map(|offer| takes(&offer))}
            <textarea id="float-inputs" class="code" rows="7" spellcheck="false" autocomplete="off" data-test="float-inputs"
                aria-describedby="float-wrong gate" aria-invalid=move || wrong.with(Option::is_some).to_string()
                placeholder="{ \"x\": [[0.5, 1]] }" prop:value=text
                on:input:target=move |e| put(e.target().value())
                on:drop=dropped on:keydown=keys></textarea>
            <p class="small warn" id="float-wrong" role="status" data-test="float-wrong">{wrong}</p>
            <div class="row">
                <button type="button" class="btn tiny" data-test="float-example" disabled=move || offer.with(Option::is_none)
                    on:click=move |_| fill()>"Make up inputs"</button>
                <input class="file-input" type="file" id="float-file" data-test="float-file" accept=".json,application/json"
                    on:change=chosen/>
                <label class="btn tiny" for="float-file">"Open a JSON file"</label>
            </div>
        </div>
    }
}

/// What a model takes.
fn takes(offer: &FloatOffer) -> impl IntoView + use<> {
    let lines: Vec<String> = offer.inputs.iter().map(float::input_words).collect();
    view! {
        <p class="small muted">"One JSON object; how arrays are nested is the shape. This model takes:"</p>
        <ul class="small num" data-test="float-takes">
            {lines.into_iter().map(|line| view! { <li><code>{line}</code></li> }).collect_view()}
        </ul>
    }
}

/// How many nodes run it.
#[component]
fn Nodes() -> impl IntoView {
    let app = App::get();
    let now = Memo::new(move |_| app.lane().replicas);
    view! {
        <div class="field">
            <label for="float-replicas">"Nodes that run it"</label>
            <select id="float-replicas" data-test="float-replicas" prop:value=move || now.get().to_string()
                on:change:target=move |e| if let Ok(count) = e.target().value().parse() {
                    app.armed.set(false);
                    app.draft.update(|d| d.float.replicas = count);
                }>
                {(2..=7u8).map(|count| {
                    let needed = count / 2 + 1;
                    view! {
                        <option value=count.to_string() selected=move || now.get() == count>
                            {format!("{count} nodes, {needed} must agree")}</option>
                    }
                }).collect_view()}
            </select>
            <p class="small">"Each is paid for its run and reads the inputs. More nodes are harder to bribe, and dearer."</p>
        </div>
    }
}
