//! A line of known rate and delay between clients and nodes, in user space: TCP in, TCP out.
//!
//! ```text
//!   client ──▶ port ──▶ read ─ clock of the line ─▶ queue ─ delay ─▶ write ──▶ node
//!              all ports of one process share one clock per direction: one access line
//! ```
//!
//! Bytes leave no earlier than the line's rate lets them and arrive one delay later; how long they
//! were under way beforehand does not matter. What waits is bounded per connection, and whoever sends
//! more is held back by TCP. The end of one direction travels like a byte and leaves the other open.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use super::supervised;

/// Bytes read at once: how finely connections share the line.
const PIECE: usize = 16 << 10;
/// What may wait besides what a full line holds, in bytes: a router's queue.
const QUEUE: usize = 256 << 10;
/// Most connections at once, which bounds memory.
const MAX_CONNECTIONS: usize = 256;
/// Pause after an accept that failed, for want of descriptors perhaps.
const PAUSE: Duration = Duration::from_millis(50);

/// Rate and delay of one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// From the last bit leaving to its arrival.
    pub(crate) delay: Duration,
    /// In bits per second; `None` is as fast as it goes.
    pub(crate) rate: Option<u64>,
}

impl Shape {
    /// How long `bytes` occupy the line.
    fn occupies(&self, bytes: usize) -> Duration {
        let nanoseconds = |rate: u64| (bytes as u128 * 8_000_000_000) / u128::from(rate.max(1));
        let fits = |ns: u128| u64::try_from(ns).unwrap_or(u64::MAX);
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_nanos(fits(nanoseconds(rate))))
    }

    /// Bytes of one connection that may be on the line or wait for it.
    fn room(&self) -> usize {
        let held = self.rate.map_or(0.0, |rate| rate as f64 / 8.0 * self.delay.as_secs_f64());
        // Without a rate nothing waits for the line; what a delay holds is bounded all the same.
        let held =
            if self.rate.is_none() && !self.delay.is_zero() { 16 << 20 } else { held as usize };
        (held + QUEUE).min(64 << 20)
    }
}

/// When the line is free again: the clock that all connections in one direction share.
#[derive(Debug, Default)]
struct Clock {
    free: Duration,
}

impl Clock {
    /// Puts `bytes`, at hand at `now`, on the line; when the last of them arrives.
    fn admit(&mut self, shape: &Shape, now: Duration, bytes: usize) -> Duration {
        self.free = self.free.max(now) + shape.occupies(bytes);
        self.free + shape.delay
    }
}

/// One direction of the line.
struct Direction {
    shape: Shape,
    began: Instant,
    clock: Mutex<Clock>,
}

impl Direction {
    fn new(shape: Shape) -> Arc<Self> {
        Arc::new(Self { shape, began: Instant::now(), clock: Mutex::default() })
    }

    /// When `bytes` that are at hand now arrive.
    fn admit(&self, bytes: usize) -> Instant {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        self.began + clock.admit(&self.shape, self.began.elapsed(), bytes)
    }

    /// Moves bytes until `from` ends, and ends `to` after the last.
    async fn carry(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> std::io::Result<()> {
        let (line, mut arrivals) = mpsc::unbounded_channel::<Arrival>();
        let room = Arc::new(Semaphore::new(self.shape.room()));
        let read = async move {
            let mut piece = vec![0; PIECE];
            loop {
                // Room first: what is not read stays with the sender.
                let Ok(mut place) = room.clone().acquire_many_owned(PIECE as u32).await else {
                    return Ok::<(), std::io::Error>(());
                };
                let count = from.read(&mut piece).await?;
                if count == 0 {
                    return Ok(());
                }
                drop(place.split(PIECE - count));
                let arrival =
                    Arrival { at: self.admit(count), bytes: piece[..count].into(), _place: place };
                if line.send(arrival).is_err() {
                    return Ok(());
                }
            }
        };
        let write = async {
            while let Some(arrival) = arrivals.recv().await {
                tokio::time::sleep_until(arrival.at).await;
                to.write_all(&arrival.bytes).await?;
                if arrivals.is_empty() {
                    to.flush().await?;
                }
            }
            // The end follows the last byte.
            tokio::time::sleep(self.shape.delay).await;
            to.shutdown().await
        };
        tokio::try_join!(read, write).map(|_: ((), ())| ())
    }
}

/// Bytes on the line, and the room they take until they have been written.
struct Arrival {
    at: Instant,
    bytes: Box<[u8]>,
    _place: OwnedSemaphorePermit,
}

/// One port of the line and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port {
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// What is behind it.
    pub(crate) to: SocketAddr,
}

impl std::str::FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address =
            |text: &str| text.parse::<SocketAddr>().map_err(|error| format!("{text:?}: {error}"));
        let (listen, to) = text.split_once('=').ok_or("expected LISTEN=TO")?;
        Ok(Self { listen: address(listen)?, to: address(to)? })
    }
}

/// Forwards every port, all over one line of `shape` in each direction, until asked to stop.
pub(crate) fn run(ports: &[Port], shape: Shape) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let line = Line::new(shape);
        for port in ports {
            let named = || format!("cannot listen on {}", port.listen);
            let listener = TcpListener::bind(port.listen).await.with_context(named)?;
            tokio::spawn(line.clone().serve(listener, port.to));
        }
        supervised::announce_ready();
        supervised::asked_to_stop().await
    })
}

/// Both directions, and how many connections are left.
#[derive(Clone)]
struct Line {
    up: Arc<Direction>,
    down: Arc<Direction>,
    places: Arc<Semaphore>,
}

impl Line {
    fn new(shape: Shape) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { up: Direction::new(shape), down: Direction::new(shape), places }
    }

    async fn serve(self, listener: TcpListener, to: SocketAddr) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, _)) => {
                    let line = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = line.forward(client, to).await {
                            tracing::debug!(%error, %to, "a connection broke");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn forward(&self, client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
        // The kernel has shaken hands with the client already: the line's round trip comes here.
        tokio::time::sleep(self.up.shape.delay + self.down.shape.delay).await;
        let node = TcpStream::connect(to).await?;
        client.set_nodelay(true)?;
        node.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_node, to_node) = node.into_split();
        // Either direction may break the connection; both streams are then dropped.
        tokio::try_join!(self.up.carry(from_client, to_node), self.down.carry(from_node, to_client))
            .map(|_: ((), ())| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;
    use proptest::prelude::*;

    const FREE: Shape = Shape { delay: Duration::ZERO, rate: None };

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Bytes that differ from place to place.
    fn noise(count: usize, seed: u64) -> Vec<u8> {
        let step = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((*state >> 56) as u8)
        };
        std::iter::repeat_with({
            let mut state = seed;
            move || step(&mut state)
        })
        .flatten()
        .take(count)
        .collect()
    }

    proptest! {
        /// Whatever is sent when, by however many: no window of time carries more than the rate allows,
        /// nothing overtakes, and everything is under way for the delay.
        #[test]
        fn the_clock_keeps_rate_and_order(
            sends in prop::collection::vec((0u64..3_000, 1usize..40_000), 1..60),
            mbit in 1u64..200,
            delay in 0u64..50,
        ) {
            let rate = mbit * 1_000_000;
            let shape = Shape { delay: Duration::from_millis(delay), rate: Some(rate) };
            let (mut clock, mut now) = (Clock::default(), Duration::ZERO);
            let mut seen: Vec<(Duration, Duration, usize)> = Vec::new();
            for (gap, bytes) in sends {
                now += Duration::from_micros(gap);
                seen.push((now, clock.admit(&shape, now, bytes), bytes));
            }
            for (i, (sent, arrived, bytes)) in seen.iter().enumerate() {
                let alone = shape.occupies(*bytes) + shape.delay;
                prop_assert!(*arrived >= *sent + alone);
                // The line is not idle while something waits.
                let before = i.checked_sub(1).map_or(Duration::ZERO, |i| seen[i].1);
                prop_assert!(*arrived <= (*sent + alone).max(before + shape.occupies(*bytes)));
                let mut carried = 0u128;
                for (_, later, more) in &seen[i + 1..] {
                    prop_assert!(later >= arrived);
                    carried += *more as u128;
                    let window = (*later - *arrived).as_nanos() + seen.len() as u128;
                    prop_assert!(carried * 8_000_000_000 <= window * u128::from(rate));
                }
            }
        }
    }

    #[test]
    fn both_directions_arrive_whole_and_end_apart() {
        runtime().block_on(async {
            let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (inside, outside) = (node.local_addr().unwrap(), port.local_addr().unwrap());
            let shape = Shape { delay: Duration::from_millis(1), rate: Some(400_000_000) };
            tokio::spawn(Line::new(shape).serve(port, inside));
            let (up, down) = (noise(700_000, 1), noise(900_000, 2));
            let (sent, received) = (up.clone(), down.clone());
            let serve = async {
                let (mut stream, _) = node.accept().await.unwrap();
                let mut got = Vec::new();
                // The client ends first; the node answers all the same.
                stream.read_to_end(&mut got).await.unwrap();
                stream.write_all(&down).await.unwrap();
                got
            };
            let ask = async {
                let mut stream = TcpStream::connect(outside).await.unwrap();
                stream.write_all(&sent).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await.unwrap();
                got
            };
            let (at_node, at_client) = tokio::join!(serve, ask);
            assert!(at_node == up && at_client == received);
        });
    }

    #[test]
    fn whoever_sends_too_much_is_held_back() {
        runtime().block_on(async {
            let (mut sender, from) = tokio::io::duplex(1 << 10);
            let (to, mut receiver) = tokio::io::duplex(1 << 10);
            let direction = Direction::new(FREE);
            let carry = tokio::spawn(async move { direction.carry(from, to).await });
            let all = noise(4 << 20, 3);
            // Nobody reads: what is taken is bounded by the room, whatever is offered.
            let mut taken = 0;
            while let Ok(count) =
                tokio::time::timeout(Duration::from_millis(200), sender.write(&all[taken..])).await
            {
                taken += count.unwrap();
            }
            assert!(taken <= FREE.room() + (3 << 10), "{taken} taken");
            // Once somebody reads, everything goes on.
            let send = async {
                sender.write_all(&all[taken..]).await.unwrap();
                drop(sender);
            };
            let receive = async {
                let mut got = Vec::new();
                receiver.read_to_end(&mut got).await.unwrap();
                got
            };
            let ((), got) = tokio::join!(send, receive);
            assert!(got == all);
            carry.await.unwrap().unwrap();
        });
    }

    #[test]
    fn a_node_that_is_gone_ends_the_connection() {
        runtime().block_on(async {
            let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let outside = port.local_addr().unwrap();
            tokio::spawn(Line::new(FREE).serve(port, gone));
            let mut stream = TcpStream::connect(outside).await.unwrap();
            let mut got = Vec::new();
            // Closed or reset, but not left open.
            let _ = stream.read_to_end(&mut got).await;
            assert!(got.is_empty());
        });
    }

    #[test]
    fn ports_are_read() {
        let port: Port = "127.0.0.1:1=127.0.0.1:2".parse().unwrap();
        assert_eq!((port.listen.port(), port.to.port()), (1, 2));
        for bad in ["", "127.0.0.1:1", "127.0.0.1=127.0.0.1:2", "a:1=b:2"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }
}
