//! Read a digit: draw it, see what the model sees, have it read.

mod pad;
mod seen;

use leptos::{ev, prelude::*};
use nesa_messages::{DigitView, TaskKind};
use nesa_page::digit;

use super::{
    chat::Models,
    playground::{Tasks, preflight::Preflight, price},
};
use crate::{
    format::thousands,
    parts::{GateLine, Rail, Send, icon},
    route::Route,
    shell::Standby,
    state::App,
};

/// The drawing pad and everything around it.
#[component]
pub(crate) fn Digit() -> impl IntoView {
    let app = App::get();
    price::attend(app, TaskKind::Digit);
    let empty = Memo::new(move |_| app.drawing.with(|d| d.is_empty()));
    let image = Signal::derive(move || app.drawing.with(|d| d.image().to_vec()));
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
                    <h1>"Draw a digit. It is read unseen."</h1>
                    <p class="lede">"Two strangers’ computers look at it, each at a half that is noise to it."</p>
                </header>
                <form class="block" on:submit=send>
                    <div class="drawing">
                        <pad::Pad/>
                        <figure class="stack">
                            <seen::Seen image=image shape=(digit::CELLS, digit::CELLS) greatest=16/>
                            <figcaption class="small muted">"What the model sees: 8 × 8 counts of ink, the digit brought to one size."</figcaption>
                        </figure>
                    </div>
                    <div class="stack">
                        <p class="small muted" id="examples">"Or have one drawn for you:"</p>
                        <div class="examples" role="group" aria-labelledby="examples">
                            {(0..10u8).map(|n| view! {
                                <button type="button" class="example digit-example num" data-test="digit-example"
                                    on:click=move |_| {
                                        app.armed.set(false);
                                        app.drawing.set(digit::example(n));
                                        app.announce(format!("A {n} is drawn."));
                                    }>{n}</button>
                            }).collect_view()}
                        </div>
                    </div>
                    <div class="row">
                        <Send>"Read it privately"</Send>
                        <button type="button" class="btn" data-test="undo" disabled=move || empty.get()
                            on:click=move |_| app.drawing.update(digit::Drawing::undo)>"Undo stroke"</button>
                        <button type="button" class="btn" data-test="clear" disabled=move || empty.get()
                            on:click=move |_| app.drawing.update(digit::Drawing::clear)>"Clear"</button>
                        <GateLine open="Only halves of it leave this device."/>
                    </div>
                    <Standby/>
                    <Preflight open=true options=true/>
                </form>
                <Models/>
            </div>
        </div>
    }
}

/// What was read: the class, the image, and the scores behind it.
#[component]
pub(crate) fn ReadDigit(digit: DigitView) -> impl IntoView {
    let DigitView { class, logits, image, shape } = digit;
    let sides = (shape.height as usize, shape.width as usize);
    let low = logits.iter().copied().min().unwrap_or_default();
    let high = logits.iter().copied().max().unwrap_or_default();
    // i64: the distance of two i32 need not fit one.
    let span = (i64::from(high) - i64::from(low)).max(1);
    let scores = logits
        .iter()
        .enumerate()
        .map(|(n, score)| {
            let share = (i64::from(*score) - i64::from(low)) * 100 / span;
            let best = u32::try_from(n).is_ok_and(|n| n == class);
            view! {
                <li class:best=best>
                    <span class="num">{n}</span>
                    <span class="meter" aria-hidden="true"><progress max="100" value=share.to_string()></progress></span>
                    <span class="score num">{signed(*score)}</span>
                </li>
            }
        })
        .collect_view();
    view! {
        <div class="read-digit">
            <p class="class" data-test="digit-class"><span class="sr">"It was read as "</span>{class}</p>
            <figure class="stack">
                <seen::Seen image=Signal::stored(image) shape=sides greatest=shape.greatest/>
                <figcaption class="small muted">"What the model saw"</figcaption>
            </figure>
            <section class="stack" aria-labelledby="scores">
                <h3 id="scores">"Scores"</h3>
                <ol class="scores">{scores}</ol>
                <p class="small muted">"Exact integers; the greatest names the digit. They are no probabilities."</p>
            </section>
        </div>
        <p><a class="btn" href=Route::Digit.href()>{icon("plus")} "Draw another"</a></p>
    }
}

fn signed(score: i32) -> String {
    let sign = if score < 0 { "\u{2212}" } else { "" };
    format!("{sign}{}", thousands(u64::from(score.unsigned_abs())))
}
