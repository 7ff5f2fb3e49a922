//! WebSocket for a browser's worker or page.
//!
//! The stock transport answers a flush when a 100 ms tick finds the socket's buffer empty; a
//! handshake flushes several times, and an upload is held to one buffer per tick. Here a flush is
//! done when the browser has the bytes, and a full buffer is looked at every few milliseconds.
//!
//! The browser offers no way to stop a socket from receiving. The muxer above reads all that
//! arrives and holds its peer to windows, so what waits here is small; a peer that ignores the
//! windows is cut off at [`MAX_UNREAD`].

use futures::{AsyncRead, AsyncWrite, future::Ready};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol as Part,
};
use send_wrapper::SendWrapper;
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use wasm_bindgen::{JsCast as _, closure::Closure};
use web_sys::{BinaryType, Event, MessageEvent, WebSocket};

/// Bytes given to the browser and not yet sent, above which writers wait.
const MAX_UNSENT: u32 = 1 << 20;
/// Bytes received and not yet read, above which the peer is cut off.
const MAX_UNREAD: usize = 16 << 20;
/// Bytes in one message.
const MESSAGE: usize = 256 << 10;
/// Pause between two looks at a full buffer. Browsers clamp it to about 4 ms.
const LOOK: Duration = Duration::from_millis(4);
/// How long a socket may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Dials `/ip4|ip6|dns…/tcp/…/ws` and `/tls/ws` or `/wss`.
#[derive(Default)]
pub(super) struct WebSockets;

impl Transport for WebSockets {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = Ready<Result<Connection, io::Error>>;
    type Dial = Pin<Box<dyn Future<Output = Result<Connection, io::Error>> + Send>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        match url(&address) {
            Some(url) if options.role.is_dialer() => {
                Ok(Box::pin(SendWrapper::new(async move { Connection::open(&url).await })))
            }
            _ => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}

/// The URL of a WebSocket address; `None` for any other address, relayed ones among them.
fn url(address: &Multiaddr) -> Option<String> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Part::Ip4(ip) => ip.to_string(),
        Part::Ip6(ip) => format!("[{ip}]"),
        Part::Dns(name) | Part::Dns4(name) | Part::Dns6(name) => name.into_owned(),
        _ => return None,
    };
    let Part::Tcp(port) = parts.next()? else { return None };
    let (scheme, path) = match parts.next()? {
        Part::Ws(path) => ("ws", path.into_owned()),
        Part::Wss(path) => ("wss", path.into_owned()),
        Part::Tls => match parts.next()? {
            Part::Ws(path) => ("wss", path.into_owned()),
            _ => return None,
        },
        _ => return None,
    };
    match (parts.next(), parts.next()) {
        (None | Some(Part::P2p(_)), None) => Some(format!("{scheme}://{host}:{port}{path}")),
        _ => None,
    }
}

/// What the socket's callbacks and the connection share.
#[derive(Default)]
struct State {
    open: bool,
    closed: bool,
    overflow: bool,
    received: VecDeque<Vec<u8>>,
    unread: usize,
    /// How much of the first message was read.
    at: usize,
    wakers: Vec<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }
}

struct Inner {
    socket: WebSocket,
    state: Rc<RefCell<State>>,
    /// Whether a look at a full buffer is due already.
    looking: Rc<RefCell<bool>>,
    _on_open: Closure<dyn FnMut(Event)>,
    _on_end: Closure<dyn FnMut(Event)>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
}

/// An open WebSocket.
pub(super) struct Connection {
    inner: SendWrapper<Inner>,
}

impl Connection {
    async fn open(url: &str) -> io::Result<Connection> {
        let socket = WebSocket::new(url)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not a WebSocket address"))?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let state = Rc::new(RefCell::new(State::default()));
        let shared = state.clone();
        let on_open = Closure::<dyn FnMut(Event)>::new(move |_| {
            let mut state = shared.borrow_mut();
            state.open = true;
            state.wake();
        });
        let shared = state.clone();
        let on_end = Closure::<dyn FnMut(Event)>::new(move |_| {
            let mut state = shared.borrow_mut();
            state.closed = true;
            state.wake();
        });
        let shared = state.clone();
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let mut state = shared.borrow_mut();
            // Text has no place in this protocol and ends the connection.
            let Ok(buffer) = event.data().dyn_into::<js_sys::ArrayBuffer>() else {
                state.closed = true;
                return state.wake();
            };
            let message = js_sys::Uint8Array::new(&buffer).to_vec();
            if state.unread + message.len() > MAX_UNREAD {
                state.overflow = true;
            } else if !message.is_empty() {
                state.unread += message.len();
                state.received.push_back(message);
            }
            state.wake();
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onerror(Some(on_end.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_end.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        let connection = Connection {
            inner: SendWrapper::new(Inner {
                socket,
                state: state.clone(),
                looking: Rc::default(),
                _on_open: on_open,
                _on_end: on_end,
                _on_message: on_message,
            }),
        };
        let opened = futures::future::poll_fn(|cx| {
            let mut state = state.borrow_mut();
            if state.closed {
                // The browser does not tell scripts why.
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused)));
            }
            if state.open {
                return Poll::Ready(Ok(()));
            }
            state.wait(cx);
            Poll::Pending
        });
        crate::time::timeout(OPEN_LIMIT, opened)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(connection)
    }
}

impl Inner {
    fn check(&self) -> io::Result<()> {
        let state = self.state.borrow();
        if state.overflow {
            return Err(io::Error::other("the peer sends more than it may"));
        }
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// Wakes the waiting tasks a little later.
    fn look_again(&self) {
        if self.looking.replace(true) {
            return;
        }
        let (looking, state) = (self.looking.clone(), Rc::downgrade(&self.state));
        crate::task::spawn(async move {
            crate::time::sleep(LOOK).await;
            looking.replace(false);
            if let Some(state) = state.upgrade() {
                state.borrow_mut().wake();
            }
        });
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut guard = self.inner.state.borrow_mut();
        let state = &mut *guard;
        if state.overflow {
            return Poll::Ready(Err(io::Error::other("the peer sends more than it may")));
        }
        let mut read = 0;
        while read < buf.len() {
            let Some(first) = state.received.front() else { break };
            let piece = &first[state.at..];
            let count = piece.len().min(buf.len() - read);
            buf[read..read + count].copy_from_slice(&piece[..count]);
            read += count;
            state.at += count;
            if state.at == first.len() {
                state.received.pop_front();
                state.at = 0;
            }
        }
        state.unread -= read;
        if read > 0 || buf.is_empty() || state.closed {
            return Poll::Ready(Ok(read));
        }
        state.wait(cx);
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner.check()?;
        if self.inner.socket.buffered_amount() >= MAX_UNSENT {
            self.inner.state.borrow_mut().wait(cx);
            self.inner.look_again();
            return Poll::Pending;
        }
        let piece = &buf[..buf.len().min(MESSAGE)];
        match self.inner.socket.send_with_u8_array(piece) {
            Ok(()) => Poll::Ready(Ok(piece.len())),
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The browser has the bytes and sends them by itself.
        Poll::Ready(self.inner.check())
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.inner.state.borrow_mut();
        if state.closed {
            return Poll::Ready(Ok(()));
        }
        // Repeating it does no harm, and there is no other outcome than closed.
        let _ = self.inner.socket.close();
        state.wait(cx);
        Poll::Pending
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The callbacks die with this value and must not be called any more.
        self.inner.socket.set_onopen(None);
        self.inner.socket.set_onerror(None);
        self.inner.socket.set_onclose(None);
        self.inner.socket.set_onmessage(None);
        let _ = self.inner.socket.close();
    }
}
