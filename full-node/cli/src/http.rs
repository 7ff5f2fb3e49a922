//! JSON over HTTP from a node, for commands that only display.

use anyhow::Result;
use nesa_platform::http::{self, GetError};
use serde_json::Value;

use crate::failure::{Code, Failure};

/// Largest answer read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Fetches `url` and parses the answer.
///
/// # Errors
/// Exit code 3 when nothing answers there.
pub(crate) async fn json(url: &str) -> Result<Value> {
    let body = http::get(url, MAX_ANSWER).await.map_err(|error| {
        let code = match error {
            GetError::Address { .. } => Code::Usage,
            _ => Code::Unavailable,
        };
        Failure::new(code, error.to_string(), "is the network running? start one with `nesa up`")
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Failure::new(
            Code::Unavailable,
            format!("{url} did not answer with JSON: {error}"),
            "check that --rpc names a nesa node",
        )
        .into()
    })
}
