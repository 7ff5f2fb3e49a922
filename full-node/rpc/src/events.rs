//! `/v1/blocks`: finalised blocks as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt};
use tokio::sync::Semaphore;

use crate::{backend::Backend, error::ApiError};

/// Most listeners at once.
const MAX_LISTENERS: usize = 128;

/// Counts the listeners.
#[derive(Clone)]
pub(crate) struct Feed {
    backend: Arc<dyn Backend>,
    slots: Arc<Semaphore>,
}

impl Feed {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, slots: Arc::new(Semaphore::new(MAX_LISTENERS)) }
    }
}

/// Sends one `block` event per finalised block, its height as the event's id, until either side
/// closes.
pub(crate) async fn blocks(
    State(feed): State<Feed>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let slot = feed.slots.clone().try_acquire_owned().map_err(|_| {
        ApiError::busy("too many listeners").expected(format!("at most {MAX_LISTENERS}"))
    })?;
    let events = feed.backend.blocks().map(move |block| {
        let _held_while_streaming = &slot;
        let event = Event::default().event("block").id(block.height.to_string());
        // A view of numbers and hexadecimal text always serialises.
        Ok(event.json_data(&block).unwrap_or_default())
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}
