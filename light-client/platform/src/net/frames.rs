//! Reading and writing whole frames on a live stream, within limits of size and time.

use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use nesa_wire::frame::{self, TooLong};
use std::{io, time::Duration};

/// A stream that moves less than this for the length of a frame is taken to be stalled: bytes per
/// second. Slow enough for a phone on a bad link, fast enough that a peer cannot hold a frame's
/// memory for long.
const SLOWEST: u64 = 16 << 10;
/// What a frame of any length is allowed on top.
const GRACE: Duration = Duration::from_secs(10);
/// How much is read at once, so that memory grows with what arrived, not with what was announced.
const PIECE: usize = 64 << 10;

/// Reading or writing a frame failed; the stream is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    /// The peer announced, or the caller wants to send, too long a frame.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// No frame began within the time allowed.
    #[error("the peer was silent for {} ms", .0.as_millis())]
    Idle(Duration),
    /// A frame began but did not get through in time.
    #[error("a frame of {0} bytes did not get through in time")]
    Stalled(usize),
    /// The peer closed the stream where an answer was due.
    #[error("the peer closed the stream")]
    Closed,
}

/// The time a frame of `length` bytes may take.
fn allowance(length: usize, grace: Duration) -> Duration {
    grace + Duration::from_millis(length as u64 * 1000 / SLOWEST)
}

/// Reads one frame of at most `limit` bytes; `None` when the peer has closed between frames.
///
/// Waits up to `idle` for the frame to begin, and from then on as long as a slow but honest link
/// would need.
pub async fn read_frame(
    io: &mut (impl AsyncRead + Unpin),
    limit: usize,
    idle: Duration,
) -> Result<Option<Bytes>, FrameError> {
    read_frame_within(io, limit, idle, GRACE).await
}

async fn read_frame_within(
    io: &mut (impl AsyncRead + Unpin),
    limit: usize,
    idle: Duration,
    grace: Duration,
) -> Result<Option<Bytes>, FrameError> {
    let mut header = [0; frame::HEADER];
    match crate::time::timeout(idle, io.read(&mut header[..1])).await {
        Err(_) => return Err(FrameError::Idle(idle)),
        Ok(Ok(0)) => return Ok(None),
        Ok(read) => read?,
    };
    crate::time::timeout(grace, io.read_exact(&mut header[1..]))
        .await
        .map_err(|_| FrameError::Stalled(0))??;
    let length = frame::length(header, limit)?;
    let body = async {
        let mut body = BytesMut::new();
        while body.len() < length {
            let at = body.len();
            body.resize(length.min(at + PIECE), 0);
            io.read_exact(&mut body[at..]).await?;
        }
        Ok::<_, io::Error>(body.freeze())
    };
    let body = crate::time::timeout(allowance(length, grace), body)
        .await
        .map_err(|_| FrameError::Stalled(length))??;
    Ok(Some(body))
}

/// Writes one frame and flushes it.
///
/// `piece` bounds how many bytes are written between two flushes; transports that lose longer
/// messages need it.
pub async fn write_frame(
    io: &mut (impl AsyncWrite + Unpin),
    payload: &[u8],
    limit: usize,
    piece: Option<usize>,
) -> Result<(), FrameError> {
    let header = frame::header(payload.len(), limit)?;
    let write = async {
        match piece {
            None => {
                io.write_all(&header).await?;
                io.write_all(payload).await?;
                io.flush().await
            }
            Some(piece) => {
                // The header travels with the first bytes: small writes cost a message each.
                let first = payload.len().min(piece.saturating_sub(header.len()));
                io.write_all(&[&header[..], &payload[..first]].concat()).await?;
                io.flush().await?;
                for part in payload[first..].chunks(piece.max(1)) {
                    io.write_all(part).await?;
                    io.flush().await?;
                }
                Ok(())
            }
        }
    };
    crate::time::timeout(allowance(payload.len(), GRACE), write)
        .await
        .map_err(|_| FrameError::Stalled(payload.len()))??;
    Ok(())
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;
    use futures::io::Cursor;

    const IDLE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn pieces_carry_the_same_bytes() {
        let payload: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        write_frame(&mut whole, &payload, 1 << 20, None).await.unwrap();
        write_frame(&mut pieces, &payload, 1 << 20, Some(8 << 10)).await.unwrap();
        assert_eq!(whole, pieces);
        let mut reader = Cursor::new(whole);
        let got = read_frame(&mut reader, 1 << 20, IDLE).await.unwrap();
        assert_eq!(got.as_deref(), Some(&payload[..]));
        assert!(read_frame(&mut reader, 1 << 20, IDLE).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_announced_length_over_the_limit_is_refused_before_its_bytes() {
        let mut reader = Cursor::new(vec![0xff; 4]);
        let error = read_frame(&mut reader, 1 << 20, IDLE).await.unwrap_err();
        assert!(matches!(error, FrameError::TooLong(_)), "{error}");
    }

    #[tokio::test]
    async fn a_frame_cut_short_is_an_error_not_an_end() {
        let mut reader = Cursor::new(vec![9, 0, 0, 0, 1, 2]);
        let error = read_frame(&mut reader, 1 << 20, IDLE).await.unwrap_err();
        assert!(matches!(error, FrameError::Io(_)), "{error}");
    }

    #[tokio::test]
    async fn a_peer_that_dribbles_is_cut_off() {
        let (tick, grace) = (Duration::from_millis(60), Duration::from_millis(200));
        let mut silent = slow_reader(vec![], tick);
        let idle = Duration::from_millis(10);
        let error = read_frame_within(&mut silent, 100, idle, grace).await.unwrap_err();
        assert!(matches!(error, FrameError::Idle(_)), "{error}");
        // A byte now and then: honest at first sight, and never done.
        let mut bytes = 1000u32.to_le_bytes().to_vec();
        bytes.extend([1; 1000]);
        let mut dribble = slow_reader(bytes, tick);
        let error = read_frame_within(&mut dribble, 1000, IDLE, grace).await.unwrap_err();
        assert!(matches!(error, FrameError::Stalled(_)), "{error}");
    }

    /// A reader that hands out one byte per tick and then stays silent.
    fn slow_reader(bytes: Vec<u8>, tick: Duration) -> impl AsyncRead + Unpin {
        use futures::{StreamExt as _, stream::TryStreamExt as _};
        let ticks = futures::stream::iter(bytes).then(move |byte| async move {
            tokio::time::sleep(tick).await;
            Ok::<_, std::io::Error>(vec![byte])
        });
        Box::pin(ticks.chain(futures::stream::pending())).into_async_read()
    }
}
