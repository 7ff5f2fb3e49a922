//! Clocks and timers.

use std::{future::Future, time::Duration};

/// A point on a clock that only moves forward, for measuring how long something took.
pub use web_time::Instant;

/// Milliseconds since 1970 by this device's wall clock, which its owner may set at will.
pub fn now_ms() -> u64 {
    web_time::SystemTime::now()
        .duration_since(web_time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits. Browsers clamp short waits to about 4 ms, and to 1 s in hidden tabs.
pub async fn sleep(duration: Duration) {
    #[cfg(not(target_family = "wasm"))]
    tokio::time::sleep(duration).await;
    #[cfg(target_family = "wasm")]
    futures_timer::Delay::new(duration).await;
}

/// The time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out after {} ms", .0.as_millis())]
pub struct Elapsed(pub Duration);

/// Awaits `future` for at most `limit`, then drops it.
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let timer = std::pin::pin!(sleep(limit));
    let future = std::pin::pin!(future);
    match futures::future::select(future, timer).await {
        futures::future::Either::Left((value, _)) => Ok(value),
        futures::future::Either::Right(((), _)) => Err(Elapsed(limit)),
    }
}
