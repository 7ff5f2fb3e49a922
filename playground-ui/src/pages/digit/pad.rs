//! The drawing pad: mouse, pen, touch, or the arrow keys.

use leptos::{ev, html, prelude::*};
use nesa_page::digit::{Drawing, Point, SIDE};

use crate::state::App;

/// How far an arrow key moves the pen, in pixels of the drawing.
const STEP: f32 = 2.0;

/// A square to draw in.
#[component]
pub(super) fn Pad() -> impl IntoView {
    let app = App::get();
    let pad = NodeRef::<html::Div>::new();
    let drawing = RwSignal::new(false);
    // The pen of the keyboard: where it is, and whether it touches.
    let pen = RwSignal::new(Point::new(SIDE as f32 / 2.0, 6.0));
    let down = RwSignal::new(false);
    let focused = RwSignal::new(false);
    let place = move |e: &ev::PointerEvent| {
        let pad = pad.get_untracked()?;
        let place = pad.get_bounding_client_rect();
        let scale = SIDE as f64 / place.width().max(1.0);
        let at = |client: i32, edge: f64| ((f64::from(client) - edge) * scale) as f32;
        Some(Point::new(at(e.client_x(), place.left()), at(e.client_y(), place.top())))
    };
    let begin = move |at: Point| {
        app.armed.set(false);
        app.drawing.update(|d| d.begin(at));
    };
    let start = move |e: ev::PointerEvent| {
        if e.button() != 0 {
            return;
        }
        if let Some(at) = place(&e) {
            if let Some(pad) = pad.get_untracked() {
                // The stroke goes on when the pointer leaves the pad, and ends where it is let go.
                let _ = pad.set_pointer_capture(e.pointer_id());
                let _ = pad.focus();
            }
            e.prevent_default();
            drawing.set(true);
            begin(at);
        }
    };
    let draw = move |e: ev::PointerEvent| {
        if drawing.get_untracked()
            && let Some(at) = place(&e)
        {
            app.drawing.update(|d| d.extend(at));
        }
    };
    let stop = move |_: ev::PointerEvent| drawing.set(false);
    let step = move |x: f32, y: f32| {
        pen.update(|p| *p = Point::new(p.x + x, p.y + y));
        if down.get_untracked() {
            app.drawing.update(|d| d.extend(pen.get_untracked()));
        }
    };
    let keys = move |e: ev::KeyboardEvent| {
        match e.key().as_str() {
            "ArrowLeft" => step(-STEP, 0.0),
            "ArrowRight" => step(STEP, 0.0),
            "ArrowUp" => step(0.0, -STEP),
            "ArrowDown" => step(0.0, STEP),
            " " => {
                down.update(|d| *d = !*d);
                if down.get_untracked() {
                    begin(pen.get_untracked());
                }
            }
            "Backspace" => app.drawing.update(Drawing::undo),
            "Delete" => app.drawing.update(Drawing::clear),
            "z" if e.ctrl_key() || e.meta_key() => app.drawing.update(Drawing::undo),
            _ => return,
        }
        if !matches!(e.key().as_str(), " ") && !e.key().starts_with("Arrow") {
            down.set(false);
        }
        e.prevent_default();
    };
    let told = move || {
        let at = pen.get();
        let pen = if down.get() { "Drawing" } else { "Pen up" };
        focused.get().then(|| format!("{pen}, column {:.0}, row {:.0} of {SIDE}.", at.x, at.y))
    };
    view! {
        <div class="stack">
            <div class="pad" node_ref=pad tabindex="0" role="application" data-test="pad"
                aria-label="Drawing pad" aria-roledescription="drawing pad" aria-describedby="pad-keys"
                on:pointerdown=start on:pointermove=draw on:pointerup=stop on:pointercancel=stop
                on:focus=move |_| focused.set(true)
                on:blur=move |_| { focused.set(false); down.set(false); }
                on:keydown=keys>
                <svg viewBox=format!("0 0 {SIDE} {SIDE}") aria-hidden="true">
                    {move || app.drawing.with(|d| d.paths().into_iter().map(|d| view! { <path d=d></path> }).collect_view())}
                    <Show when=move || focused.get()>
                        <circle class="pen" class:down=move || down.get() r="1.2"
                            cx=move || format!("{:.1}", pen.get().x) cy=move || format!("{:.1}", pen.get().y)></circle>
                    </Show>
                </svg>
            </div>
            <p class="small muted" id="pad-keys">"Draw with mouse, pen or finger. With the keyboard: arrows move the pen, \
                Space puts it down and lifts it, Backspace takes a stroke back."</p>
            <p class="sr" aria-live="polite">{told}</p>
        </div>
    }
}
