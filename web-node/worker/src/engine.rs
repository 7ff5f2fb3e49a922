//! Float models that this browser serves: each in a worker of its own, which holds the engine's module and
//! nothing else.
//!
//! Graphs and inputs come from strangers, and nothing bounds how long a run takes but its end: a worker
//! whose answer is no longer waited for is terminated, and the next run gets a fresh one.

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc, time::Duration};

use bytes::Bytes;
use js_sys::{Function, Uint8Array};
use nesa_node::{FloatEngine, MAX_CONTENT};
use nesa_platform::{BoxFuture, http};
use nesa_primitives::Hash;
use wasm_bindgen::{JsCast as _, JsValue};

use crate::link::Link;

/// Bytes of a model that a browser serves, at most.
pub(crate) const MAX_MODEL: usize = 64 << 20;
/// To download and start the module, on a slow connection.
const START: Duration = Duration::from_secs(60);
/// Whoever waits for a run ends it earlier.
const RUN: Duration = Duration::from_secs(120);

/// Runs models in workers.
pub(crate) struct FloatWorkers {
    /// Makes a worker that runs `float-worker.js`.
    make: Function,
    models: BTreeMap<Hash, Bytes>,
    /// Workers that hold a model and wait.
    idle: Rc<RefCell<BTreeMap<Hash, Link>>>,
}

impl fmt::Debug for FloatWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FloatWorkers({} models)", self.models.len())
    }
}

impl FloatWorkers {
    /// Workers that `make` makes, for these files.
    pub(crate) fn new(make: Function, models: BTreeMap<Hash, Bytes>) -> Self {
        Self { make, models, idle: Rc::default() }
    }

    async fn run_in_worker(&self, model: Hash, inputs: Bytes) -> Result<Bytes, String> {
        let file = self.models.get(&model).ok_or_else(|| format!("no float model {model}"))?;
        let idle = self.idle.borrow_mut().remove(&model);
        // From here on the worker is this future's: dropped with it, it is terminated.
        let worker = match idle.filter(Link::alive) {
            Some(worker) => worker,
            None => {
                let worker = Link::open(&self.make).map_err(|error| error.to_string())?;
                let file = Uint8Array::from(&file[..]).into();
                worker.call(START, "open", vec![file]).await.map_err(|error| error.to_string())?;
                worker
            }
        };
        let inputs = Uint8Array::from(&inputs[..]).into();
        let answer = worker.call(RUN, "run", vec![inputs]).await.map_err(|error| error.to_string());
        let answer = answer.and_then(|answer| bytes(&answer));
        if worker.alive() {
            self.idle.borrow_mut().insert(model, worker);
        }
        answer
    }
}

fn bytes(answer: &JsValue) -> Result<Bytes, String> {
    let answer: &Uint8Array = answer.dyn_ref().ok_or("the engine gave no bytes")?;
    let got = answer.length() as usize;
    if got > MAX_CONTENT {
        return Err(format!("an answer of {got} bytes, at most {MAX_CONTENT} can be sent"));
    }
    Ok(answer.to_vec().into())
}

impl FloatEngine for FloatWorkers {
    fn models(&self) -> Vec<Hash> {
        self.models.keys().copied().collect()
    }

    fn run(&self, model: Hash, inputs: Bytes) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(self.run_in_worker(model, inputs))
    }
}

/// A model's file from the origin, if it is the one that the digest names.
pub(crate) async fn fetch(origin: &str, model: &Hash) -> Result<Bytes, String> {
    let url = format!("{}/v1/float/{model}", origin.trim_end_matches('/'));
    let file = http::get(&url, MAX_MODEL).await.map_err(|error| error.to_string())?;
    let got = Hash::of_bytes("float model", &Hash::ZERO, &file);
    if got != *model {
        return Err(format!("the origin gave a file of digest {got}, not {model}"));
    }
    Ok(file)
}
