//! The tokenizers that models bring, in a worker of their own.
//!
//! Each model's files are opened in a fresh worker that holds nothing else. Its module is downloaded when
//! a chat first needs it. A worker that traps, or does not answer in time, is terminated; what it was
//! asked is a [`TextError`], and this worker goes on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures::{channel::oneshot, lock::Mutex};
use js_sys::{Array, Function, JsString, Uint8Array, Uint32Array};
use nesa_light::query::{
    Said,
    engine::{Pieces, SharedCodec, TextCodec, TextEngine, TextError, TextFiles},
};
use nesa_platform::{BoxFuture, time};
use nesa_primitives::Hash;
use wasm_bindgen::{JsCast as _, JsValue, prelude::Closure};
use web_sys::{ErrorEvent, MessageEvent, Worker};

/// Opened models kept; each is a worker with its vocabulary in memory.
const KEPT: usize = 2;
/// Tokens of a prompt at most: far more than any context, and little enough to copy.
const MAX_TOKENS: u32 = 1 << 20;
/// Characters that one token may be shown as.
const MAX_PIECE: u32 = 1 << 16;

/// How long a tokenizer's worker may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To download and start the module.
    pub start: Duration,
    /// To read a model's files.
    pub open: Duration,
    /// To turn a prompt into tokens.
    pub prompt: Duration,
    /// To turn a token into text.
    pub piece: Duration,
}

impl Default for Patience {
    /// A minute for a slow connection; vocabularies of a few hundred thousand tokens take seconds.
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            open: Duration::from_secs(20),
            prompt: Duration::from_secs(10),
            piece: Duration::from_secs(5),
        }
    }
}

/// Opens tokenizers in workers.
pub struct TextWorkers {
    /// Makes a worker that runs `text-worker.js`.
    make: Function,
    patience: Patience,
    /// The last used comes last. Locked while one is opened, so that nothing is opened twice.
    opened: Mutex<Vec<(Hash, Arc<Codec>)>>,
}

impl std::fmt::Debug for TextWorkers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextWorkers").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl TextWorkers {
    /// Workers that `make` makes.
    pub fn new(make: Function, patience: Patience) -> Self {
        Self { make, patience, opened: Mutex::default() }
    }

    async fn start(&self, files: &TextFiles) -> Result<Arc<Codec>, TextError> {
        let link = Link::open(&self.make)?;
        link.call(self.patience.start, "ready", []).await?;
        let template = files.template.as_deref().map(Uint8Array::from);
        let start = files.start.map_or(JsValue::UNDEFINED, JsValue::from);
        let files = [
            Uint8Array::from(&files.tokenizer[..]).into(),
            template.map_or(JsValue::UNDEFINED, JsValue::from),
            files.vocab.into(),
            start,
            Uint32Array::from(&files.ends[..]).into(),
        ];
        link.call(self.patience.open, "open", files).await?;
        Ok(Arc::new(Codec { link: Rc::new(link), patience: self.patience, streams: Cell::new(0) }))
    }
}

impl TextEngine for TextWorkers {
    fn open(&self, files: TextFiles) -> BoxFuture<'_, Result<SharedCodec, TextError>> {
        Box::pin(async move {
            let mut opened = self.opened.lock().await;
            let known = opened.iter().position(|(model, _)| *model == files.model);
            let known = known.map(|at| opened.remove(at).1);
            let codec = match known.filter(|codec| codec.link.alive()) {
                Some(codec) => codec,
                None => self.start(&files).await?,
            };
            opened.push((files.model, codec.clone()));
            let surplus = opened.len().saturating_sub(KEPT);
            opened.drain(..surplus);
            Ok(codec as SharedCodec)
        })
    }
}

/// A model's tokenizer in its worker.
struct Codec {
    link: Rc<Link>,
    patience: Patience,
    streams: Cell<u32>,
}

impl TextCodec for Codec {
    fn tokens<'a>(&'a self, said: &'a Said) -> BoxFuture<'a, Result<Vec<u32>, TextError>> {
        Box::pin(async move {
            let tokens = match said {
                Said::Text(text) => {
                    self.link.call(self.patience.prompt, "text", [text.into()]).await?
                }
                Said::Chat(turns) => {
                    let turns = serde_json::to_string(turns)
                        .map_err(|error| TextError::Refused(error.to_string()))?;
                    self.link.call(self.patience.prompt, "chat", [turns.into()]).await?
                }
            };
            let tokens: Uint32Array = tokens
                .dyn_into()
                .map_err(|_| self.link.end(TextError::Stopped("it gave no tokens".into())))?;
            if tokens.length() > MAX_TOKENS {
                let got = tokens.length();
                let what = format!("the prompt has {got} tokens, at most {MAX_TOKENS} allowed");
                return Err(TextError::Refused(what));
            }
            Ok(tokens.to_vec())
        })
    }

    fn stream(&self, before: &[u32]) -> BoxFuture<'_, Result<Box<dyn Pieces>, TextError>> {
        let id = self.streams.get();
        self.streams.set(id.wrapping_add(1));
        let before = Uint32Array::from(before);
        Box::pin(async move {
            self.link.call(self.patience.prompt, "stream", [id.into(), before.into()]).await?;
            let stream = Stream { link: self.link.clone(), limit: self.patience.piece, id };
            Ok(Box::new(stream) as Box<dyn Pieces>)
        })
    }
}

/// A stream of text in a tokenizer's worker.
struct Stream {
    link: Rc<Link>,
    limit: Duration,
    id: u32,
}

impl Pieces for Stream {
    fn push(&mut self, token: u32) -> BoxFuture<'_, Result<String, TextError>> {
        Box::pin(async move {
            let piece = self.link.call(self.limit, "push", [self.id.into(), token.into()]).await?;
            self.link.words(piece)
        })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<String, TextError>> {
        Box::pin(async move {
            let rest = self.link.call(self.limit, "finish", [self.id.into()]).await?;
            self.link.words(rest)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A finished one is gone there already, which does no harm.
        drop(self.link.send("drop", [self.id.into()]));
    }
}

pub(crate) type Answer = Result<JsValue, TextError>;

/// What waits for a worker, and why it is no more.
#[derive(Default)]
struct State {
    waiting: RefCell<BTreeMap<u32, oneshot::Sender<Answer>>>,
    over: RefCell<Option<TextError>>,
}

impl State {
    /// Ends everything for one reason, the first.
    fn end(&self, why: TextError) -> TextError {
        let why = self.over.borrow_mut().get_or_insert(why).clone();
        for (_, sender) in std::mem::take(&mut *self.waiting.borrow_mut()) {
            let _ = sender.send(Err(why.clone()));
        }
        why
    }

    /// Takes one answer: `[id, "ok" | "refused" | "stopped", value]`. Strangers' files may have made of
    /// that worker what they like, so nothing about it is believed.
    fn take(&self, data: JsValue) -> Option<TextError> {
        let answer: Array = data.dyn_into().ok()?;
        let id = answer.get(0).as_f64()? as u32;
        let value = answer.get(2);
        let words = || short(&value);
        let outcome = match answer.get(1).as_string()?.as_str() {
            "ok" => Ok(value),
            "refused" => Err(TextError::Refused(words())),
            _ => return Some(TextError::Stopped(words())),
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
    pub(crate) fn open(make: &Function) -> Result<Self, TextError> {
        let gone = |what: &JsValue| TextError::Stopped(short(what));
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
            heard.end(TextError::Stopped(what));
        });
        worker.set_onmessage(Some(message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(error.as_ref().unchecked_ref()));
        Ok(Self { worker, state, next: Cell::new(1), _message: message, _error: error })
    }

    pub(crate) fn alive(&self) -> bool {
        self.state.over.borrow().is_none()
    }

    fn end(&self, why: TextError) -> TextError {
        self.worker.terminate();
        self.state.end(why)
    }

    fn send<const N: usize>(
        &self,
        call: &str,
        with: [JsValue; N],
    ) -> Result<oneshot::Receiver<Answer>, TextError> {
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
            Err(error) => Err(self.end(TextError::Stopped(short(&error)))),
        }
    }

    pub(crate) async fn call<const N: usize>(
        &self,
        limit: Duration,
        call: &str,
        with: [JsValue; N],
    ) -> Answer {
        let receiver = self.send(call, with)?;
        match time::timeout(limit, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.end(TextError::Stopped("it was ended".into()))),
            Err(_) => Err(self.end(TextError::Slow { limit })),
        }
    }

    /// An answer that must be text, of bounded length.
    fn words(&self, answer: JsValue) -> Result<String, TextError> {
        let words: JsString = answer
            .dyn_into()
            .map_err(|_| self.end(TextError::Stopped("it gave no text".into())))?;
        if words.length() > MAX_PIECE {
            let got = words.length();
            let what = format!("a token of {got} characters, at most {MAX_PIECE} allowed");
            return Err(TextError::Refused(what));
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
