//! One conversation with one peer.

use super::{
    frames::{self, FrameError},
    permits::Permit,
};
use bytes::Bytes;
use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    io::{ReadHalf, WriteHalf},
};
use nesa_primitives::Address;
use nesa_wire::Protocol;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// How long a reader waits for the next frame unless told otherwise.
pub const IDLE: Duration = Duration::from_secs(60);

/// A stream of frames to and from one authenticated peer.
///
/// The bytes on the wire are encrypted end to end to [`Stream::peer`], relays or no relays.
pub struct Stream {
    reader: Reader,
    writer: Writer,
}

/// The reading half of a [`Stream`].
pub struct Reader {
    peer: Address,
    protocol: Protocol,
    io: ReadHalf<libp2p::Stream>,
    idle: Duration,
    _permit: Option<Arc<Permit>>,
}

/// The writing half of a [`Stream`].
pub struct Writer {
    peer: Address,
    protocol: Protocol,
    io: WriteHalf<libp2p::Stream>,
    piece: Option<usize>,
    _permit: Option<Arc<Permit>>,
}

impl Stream {
    pub(super) fn new(
        peer: Address,
        protocol: Protocol,
        io: libp2p::Stream,
        piece: Option<usize>,
        permit: Option<Permit>,
    ) -> Stream {
        let (read, write) = io.split();
        let permit = permit.map(Arc::new);
        Stream {
            reader: Reader { peer, protocol, io: read, idle: IDLE, _permit: permit.clone() },
            writer: Writer { peer, protocol, io: write, piece, _permit: permit },
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Address {
        self.reader.peer
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.reader.protocol
    }

    /// Sets how long [`Stream::recv`] waits for a frame to begin.
    pub fn set_idle(&mut self, idle: Duration) {
        self.reader.idle = idle;
    }

    /// Sends one frame; waits while the peer is not reading.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        self.writer.send(payload).await
    }

    /// Receives one frame; `None` when the peer has closed its side between frames.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.reader.recv().await
    }

    /// Like [`Stream::recv`], with a limit in bytes of the caller's own where the protocol's is
    /// larger.
    pub async fn recv_up_to(&mut self, limit: usize) -> Result<Option<Bytes>, FrameError> {
        self.reader.recv_up_to(limit).await
    }

    /// Sends one frame and receives the answer to it.
    pub async fn ask(&mut self, payload: &[u8]) -> Result<Bytes, FrameError> {
        self.send(payload).await?;
        self.recv().await?.ok_or(FrameError::Closed)
    }

    /// The two directions, to be used by two tasks at once.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }

    /// Tells the peer that nothing more will be sent.
    pub async fn close(&mut self) -> Result<(), FrameError> {
        self.writer.close().await
    }
}

impl Reader {
    /// Who is at the other end.
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// Sets how long [`Reader::recv`] waits for a frame to begin.
    pub fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
    }

    /// Receives one frame; `None` when the peer has closed its side between frames.
    ///
    /// A frame is lost if this future is dropped before it completes.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.recv_up_to(self.protocol.max_frame()).await
    }

    /// Like [`Reader::recv`], with a limit in bytes of the caller's own where the protocol's is
    /// larger.
    pub async fn recv_up_to(&mut self, limit: usize) -> Result<Option<Bytes>, FrameError> {
        frames::read_frame(&mut self.io, limit.min(self.protocol.max_frame()), self.idle).await
    }
}

impl Writer {
    /// Who is at the other end.
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// Sends one frame; waits while the peer is not reading.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        frames::write_frame(&mut self.io, payload, self.protocol.max_frame(), self.piece).await
    }

    /// Tells the peer that nothing more will be sent.
    pub async fn close(&mut self) -> Result<(), FrameError> {
        Ok(self.io.close().await?)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer.io).poll_close(cx)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} with {})", self.protocol(), self.peer())
    }
}
