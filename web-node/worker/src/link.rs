//! A worker of this worker, and the way to it: questions with numbers, answers in any order, an end from
//! outside for one that fails or is late.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::Duration,
};

use futures::channel::oneshot;
use js_sys::{Array, Function, JsString};
use nesa_platform::time;
use wasm_bindgen::{JsCast as _, JsValue, prelude::Closure};
use web_sys::{ErrorEvent, MessageEvent, Worker};

/// Why a question got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The worker refuses, in its words, and goes on.
    Refused(String),
    /// The worker stopped.
    Stopped(String),
    /// The worker took too long and was stopped.
    Slow {
        /// What it was given.
        limit: Duration,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(what) => f.write_str(what),
            Self::Stopped(what) => write!(f, "its worker stopped: {what}"),
            Self::Slow { limit } => write!(f, "no answer within {} s", limit.as_secs()),
        }
    }
}

pub(crate) type Answer = Result<JsValue, Trouble>;

/// What waits for a worker, and why it is no more.
#[derive(Default)]
struct State {
    waiting: RefCell<BTreeMap<u32, oneshot::Sender<Answer>>>,
    over: RefCell<Option<Trouble>>,
}

impl State {
    /// Ends everything for one reason, the first.
    fn end(&self, why: Trouble) -> Trouble {
        let why = self.over.borrow_mut().get_or_insert(why).clone();
        for (_, sender) in std::mem::take(&mut *self.waiting.borrow_mut()) {
            let _ = sender.send(Err(why.clone()));
        }
        why
    }

    /// Takes one answer: `[id, "ok" | "refused" | "stopped", value]`. Nothing about it is believed: strangers'
    /// files may have made of that worker what they like.
    fn take(&self, data: JsValue) -> Option<Trouble> {
        let answer: Array = data.dyn_into().ok()?;
        let id = answer.get(0).as_f64()? as u32;
        let value = answer.get(2);
        let words = || short(&value);
        let outcome = match answer.get(1).as_string()?.as_str() {
            "ok" => Ok(value),
            "refused" => Err(Trouble::Refused(words())),
            _ => return Some(Trouble::Stopped(words())),
        };
        if let Some(sender) = self.waiting.borrow_mut().remove(&id) {
            let _ = sender.send(outcome);
        }
        None
    }
}

/// The beginning of what a worker says.
fn short(value: &JsValue) -> String {
    const SHOWN: u32 = 500;
    let words = value.dyn_ref::<JsString>().cloned();
    let words = words.or_else(|| Some(value.dyn_ref::<js_sys::Error>()?.message()));
    words.map_or_else(|| "without a word".into(), |words| words.slice(0, SHOWN).into())
}

/// A worker and the way to it.
pub(crate) struct Link {
    worker: Worker,
    state: Rc<State>,
    next: Cell<u32>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _error: Closure<dyn FnMut(ErrorEvent)>,
}

impl Link {
    pub(crate) fn open(make: &Function) -> Result<Self, Trouble> {
        let gone = |what: &JsValue| Trouble::Stopped(short(what));
        let worker = make.call0(&JsValue::NULL).map_err(|error| gone(&error))?;
        let worker: Worker = worker.dyn_into().map_err(|other| gone(&other))?;
        let state = Rc::new(State::default());
        let (heard, ended) = (state.clone(), worker.clone());
        let message = Closure::new(move |event: MessageEvent| {
            if let Some(why) = heard.take(event.data()) {
                ended.terminate();
                heard.end(why);
            }
        });
        let (heard, ended) = (state.clone(), worker.clone());
        let error = Closure::new(move |event: ErrorEvent| {
            event.prevent_default();
            ended.terminate();
            let what = event.message();
            let what = if what.is_empty() { "its module could not be loaded".into() } else { what };
            heard.end(Trouble::Stopped(what));
        });
        worker.set_onmessage(Some(message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(error.as_ref().unchecked_ref()));
        Ok(Self { worker, state, next: Cell::new(1), _message: message, _error: error })
    }

    pub(crate) fn alive(&self) -> bool {
        self.state.over.borrow().is_none()
    }

    pub(crate) fn end(&self, why: Trouble) -> Trouble {
        self.worker.terminate();
        self.state.end(why)
    }

    pub(crate) fn send(
        &self,
        call: &str,
        with: Vec<JsValue>,
    ) -> Result<oneshot::Receiver<Answer>, Trouble> {
        if let Some(why) = &*self.state.over.borrow() {
            return Err(why.clone());
        }
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let message = Array::of2(&id.into(), &call.into());
        for argument in &with {
            message.push(argument);
        }
        let (sender, receiver) = oneshot::channel();
        self.state.waiting.borrow_mut().insert(id, sender);
        match self.worker.post_message(&message) {
            Ok(()) => Ok(receiver),
            Err(error) => Err(self.end(Trouble::Stopped(short(&error)))),
        }
    }

    pub(crate) async fn call(&self, limit: Duration, call: &str, with: Vec<JsValue>) -> Answer {
        let receiver = self.send(call, with)?;
        match time::timeout(limit, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.end(Trouble::Stopped("it was ended".into()))),
            Err(_) => Err(self.end(Trouble::Slow { limit })),
        }
    }

    /// An answer that must be text, of `limit` characters at most.
    pub(crate) fn words(&self, answer: JsValue, limit: u32) -> Result<String, Trouble> {
        let words: JsString =
            answer.dyn_into().map_err(|_| self.end(Trouble::Stopped("it gave no text".into())))?;
        if words.length() > limit {
            let got = words.length();
            let what = format!("a token of {got} characters, at most {limit} allowed");
            return Err(Trouble::Refused(what));
        }
        Ok(words.into())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.worker.terminate();
    }
}
