//! The way to the page.

use js_sys::{Function, Uint8Array};
use nesa_messages::{FromWorker, JobId, Problem, RequestId};
use wasm_bindgen::JsValue;

/// Sends messages to the page.
pub(crate) struct Port {
    post: Function,
}

impl Port {
    pub(crate) fn new(post: Function) -> Self {
        Self { post }
    }

    /// Sends one message.
    pub(crate) fn send(&self, message: &FromWorker) {
        self.deliver(message, None);
    }

    /// Sends a file for the user to keep.
    pub(crate) fn file(&self, name: &str, mime: &str, bytes: &[u8]) {
        let message = FromWorker::File { name: name.to_owned(), mime: mime.to_owned() };
        self.deliver(&message, Some(Uint8Array::from(bytes)));
    }

    /// Says that a request could not be answered.
    pub(crate) fn fail(&self, request: Option<RequestId>, job: Option<JobId>, problem: Problem) {
        self.send(&FromWorker::Failed { request, job, problem });
    }

    fn deliver(&self, message: &FromWorker, bytes: Option<Uint8Array>) {
        let Ok(json) = serde_json::to_string(message) else { return };
        let bytes = bytes.map_or(JsValue::UNDEFINED, JsValue::from);
        // The page may be gone; then nobody is left to tell.
        let _ = self.post.call2(&JsValue::NULL, &JsValue::from_str(&json), &bytes);
    }
}
