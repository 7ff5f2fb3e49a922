//! The one place that talks to the worker.
//!
//! A message is `[json, Uint8Array | undefined]` in both directions. The worker handle lives in a
//! thread-local because browser objects are not `Send`, while everything in a signal must be.

use std::cell::RefCell;

use js_sys::{Array, Reflect, Uint8Array};
use nesa_messages::{FromWorker, Problem, ToWorker};
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};
use web_sys::{ErrorEvent, MessageEvent, Worker};

struct Link {
    worker: Worker,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(ErrorEvent)>,
}

thread_local! {
    static LINK: RefCell<Option<Link>> = const { RefCell::new(None) };
}

/// Takes over the worker that the page's script started beside this module, and calls `receive` for
/// each of its messages, in order, those of the meantime first.
pub(crate) fn connect(receive: impl Fn(FromWorker, Option<Uint8Array>) + Clone + 'static) {
    let Some((worker, early)) = started() else {
        return receive(failed("The worker could not start", ""), None);
    };
    let on = receive.clone();
    let take_message = move |event: MessageEvent| {
        let (json, bytes) = split(&event.data());
        match serde_json::from_str(&json) {
            Ok(message) => on(message, bytes),
            Err(error) => on(
                failed("The worker said something this page does not know", &error.to_string()),
                None,
            ),
        }
    };
    let take_error = move |event: ErrorEvent| {
        receive(failed("The worker could not start", &event.message()), None);
    };
    for event in early.iter() {
        match event.dyn_into::<MessageEvent>() {
            Ok(event) => take_message(event),
            Err(event) => take_error(event.unchecked_into()),
        }
    }
    let on_message = Closure::new(take_message);
    let on_error = Closure::new(take_error);
    worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
    LINK.with_borrow_mut(|link| {
        *link = Some(Link { worker, _on_message: on_message, _on_error: on_error });
    });
}

/// What `boot.js` left: the worker, already told to start, and the events it sent meanwhile.
fn started() -> Option<(Worker, Array)> {
    let left = Reflect::get(&js_sys::global(), &"nesaWorker".into()).ok()?;
    let part = |name: &str| Reflect::get(&left, &name.into()).ok();
    Some((part("worker")?.dyn_into().ok()?, part("early")?.dyn_into().ok()?))
}

/// Sends a message.
pub(crate) fn send(message: &ToWorker) {
    post(message, None);
}

/// Sends a message with a file's bytes, which move to the worker without being copied.
pub(crate) fn send_file(message: &ToWorker, bytes: &Uint8Array) {
    post(message, Some(bytes));
}

/// The content of a `<meta name>` in the page's head, filled in by the build.
pub(crate) fn meta(name: &str) -> Option<String> {
    let element = leptos::prelude::document()
        .query_selector(&format!("meta[name='{name}']"))
        .ok()
        .flatten()?;
    element.get_attribute("content").filter(|c| !c.is_empty() && !c.starts_with("__"))
}

fn post(message: &ToWorker, bytes: Option<&Uint8Array>) {
    let Ok(json) = serde_json::to_string(message) else { return };
    let file = bytes.map_or(JsValue::UNDEFINED, |b| b.clone().into());
    let data = Array::of2(&json.into(), &file);
    let transfer = bytes.map_or_else(Array::new, |b| Array::of1(&b.buffer()));
    LINK.with_borrow(|link| {
        if let Some(link) = link {
            // Fails only for values that cannot be cloned; a string and a byte array can.
            let _ = link.worker.post_message_with_transfer(&data, &transfer);
        }
    });
}

fn split(data: &JsValue) -> (String, Option<Uint8Array>) {
    let Some(parts) = data.dyn_ref::<Array>() else { return (String::new(), None) };
    (parts.get(0).as_string().unwrap_or_default(), parts.get(1).dyn_into().ok())
}

fn failed(what: &str, got: &str) -> FromWorker {
    let what = if got.is_empty() { format!("{what}.") } else { format!("{what}: {got}") };
    FromWorker::Failed {
        request: None,
        job: None,
        problem: Problem::new(
            "worker-stopped",
            what,
            "Reload the page. Your wallet and history are kept on this device.",
        ),
    }
}
