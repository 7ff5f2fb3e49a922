//! Spawning tasks.

use futures::future::{AbortHandle, Abortable};
use std::{future::Future, pin::Pin};

/// `Send` where tasks move between threads; nothing in the browser, where there is one thread and
/// futures hold JavaScript values.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_family = "wasm"))]
impl<T: Send + ?Sized> MaybeSend for T {}
/// `Send` where tasks move between threads; nothing in the browser, where there is one thread and
/// futures hold JavaScript values.
#[cfg(target_family = "wasm")]
pub trait MaybeSend {}
#[cfg(target_family = "wasm")]
impl<T: ?Sized> MaybeSend for T {}

/// `Sync` where tasks move between threads; nothing in the browser.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSync: Sync {}
#[cfg(not(target_family = "wasm"))]
impl<T: Sync + ?Sized> MaybeSync for T {}
/// `Sync` where tasks move between threads; nothing in the browser.
#[cfg(target_family = "wasm")]
pub trait MaybeSync {}
#[cfg(target_family = "wasm")]
impl<T: ?Sized> MaybeSync for T {}

/// A boxed future that [`spawn`] takes.
#[cfg(not(target_family = "wasm"))]
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A boxed future that [`spawn`] takes.
#[cfg(target_family = "wasm")]
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A running task. Dropping it lets the task run on; see [`Task::abort_on_drop`].
#[derive(Debug)]
pub struct Task {
    handle: AbortHandle,
}

impl Task {
    /// Stops the task at its next await point.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// A guard that stops the task when it is dropped.
    pub fn abort_on_drop(self) -> Guard {
        Guard { handle: self.handle }
    }
}

/// Stops its task when dropped.
#[derive(Debug)]
#[must_use = "dropping the guard stops the task"]
pub struct Guard {
    handle: AbortHandle,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Runs `future` beside the caller.
///
/// Natively it needs a tokio runtime to be entered, as every caller here has.
pub fn spawn(future: impl Future<Output = ()> + MaybeSend + 'static) -> Task {
    let (handle, registration) = AbortHandle::new_pair();
    let future = Abortable::new(future, registration);
    let future = async move {
        // An aborted task ends silently: whoever aborted it knows.
        let _ = future.await;
    };
    #[cfg(not(target_family = "wasm"))]
    tokio::spawn(future);
    #[cfg(target_family = "wasm")]
    wasm_bindgen_futures::spawn_local(future);
    Task { handle }
}

/// Runs computation that takes milliseconds or more without holding up the other tasks.
///
/// Natively it moves to a thread of its own; in the browser there is only this one, so it yields
/// to the event loop first and then computes in place. A panic inside is resumed in the caller.
pub async fn compute<T: MaybeSend + 'static>(work: impl FnOnce() -> T + MaybeSend + 'static) -> T {
    #[cfg(not(target_family = "wasm"))]
    {
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down and will never poll this future again.
                Err(_) => futures::future::pending().await,
            },
        }
    }
    #[cfg(target_family = "wasm")]
    {
        yield_now().await;
        work()
    }
}

/// Lets other tasks, and in the browser incoming events, run first.
pub async fn yield_now() {
    #[cfg(not(target_family = "wasm"))]
    tokio::task::yield_now().await;
    #[cfg(target_family = "wasm")]
    turn::next().await;
}

/// Turns of the browser's event loop.
///
/// A resolved promise would only reach other microtasks, and a timer is clamped to 4 ms once it is
/// nested; a message to oneself comes back after whatever is waiting already, and at once if
/// nothing is.
#[cfg(target_family = "wasm")]
mod turn {
    use futures::channel::oneshot;
    use std::{cell::RefCell, collections::VecDeque, rc::Rc};
    use wasm_bindgen::{JsValue, closure::Closure, prelude::wasm_bindgen};

    #[wasm_bindgen]
    extern "C" {
        type MessageChannel;
        #[wasm_bindgen(constructor)]
        fn new() -> MessageChannel;
        #[wasm_bindgen(method, getter)]
        fn port1(this: &MessageChannel) -> MessagePort;
        #[wasm_bindgen(method, getter)]
        fn port2(this: &MessageChannel) -> MessagePort;

        type MessagePort;
        #[wasm_bindgen(method, setter)]
        fn set_onmessage(this: &MessagePort, callback: &Closure<dyn FnMut()>);
        #[wasm_bindgen(method, js_name = postMessage)]
        fn post_message(this: &MessagePort, message: &JsValue);
    }

    struct Turns {
        waiting: Rc<RefCell<VecDeque<oneshot::Sender<()>>>>,
        port: MessagePort,
        _callback: Closure<dyn FnMut()>,
    }

    thread_local! {
        static TURNS: Turns = {
            let channel = MessageChannel::new();
            let waiting = Rc::new(RefCell::new(VecDeque::<oneshot::Sender<()>>::new()));
            let queue = waiting.clone();
            let callback = Closure::new(move || {
                let next = queue.borrow_mut().pop_front();
                if let Some(next) = next {
                    // Whoever waited may have been aborted.
                    let _ = next.send(());
                }
            });
            channel.port1().set_onmessage(&callback);
            Turns { waiting, port: channel.port2(), _callback: callback }
        };
    }

    pub(super) async fn next() {
        let (sender, turn) = oneshot::channel();
        TURNS.with(|turns| {
            turns.waiting.borrow_mut().push_back(sender);
            turns.port.post_message(&JsValue::NULL);
        });
        // The sender lives in the queue until its turn.
        let _ = turn.await;
    }
}
