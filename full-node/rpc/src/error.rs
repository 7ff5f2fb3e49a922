//! One JSON shape for every refusal, so that scripts can branch on fields instead of prose.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// What a caller is told when a request cannot be answered.
///
/// `got` and `expected` are present whenever the refusal compares two things. Nothing secret ever
/// reaches this type: the HTTP interface handles public chain data only.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    /// What went wrong, one plain sentence.
    pub error: String,
    /// What the caller sent, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub got: Option<String>,
    /// What would have been accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// Longest piece of caller input echoed back, in characters.
const MAX_ECHO: usize = 96;

impl ApiError {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), got: None, expected: None }
    }

    /// 400: the request itself is malformed.
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 404: well formed, but nothing is there.
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// 413: more than the interface accepts.
    pub fn too_large(error: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    }

    /// 422: decoded, but the chain's rules refuse it.
    pub fn refused(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    /// 429: too many at once; try again later.
    pub fn busy(error: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, error)
    }

    /// 503: the validator behind this interface cannot answer yet.
    pub fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// 504: the validator took longer than the interface waits.
    pub fn timeout(error: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, error)
    }

    /// Adds what the caller sent, shortened to a bounded length.
    #[must_use]
    pub fn got(mut self, got: impl ToString) -> Self {
        let text = got.to_string();
        self.got = Some(match text.char_indices().nth(MAX_ECHO) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        });
        self
    }

    /// Adds what would have been accepted.
    #[must_use]
    pub fn expected(mut self, expected: impl ToString) -> Self {
        self.expected = Some(expected.to_string());
        self
    }

    /// The HTTP status this error answers with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_is_bounded_and_keeps_characters_whole() {
        let error = ApiError::bad_request("no").got("ü".repeat(500));
        let got = error.got.expect("set above");
        assert_eq!(got.chars().count(), MAX_ECHO + 1);
        assert!(got.ends_with('…'));
    }

    #[test]
    fn json_omits_absent_fields() {
        let json = serde_json::to_value(ApiError::not_found("nothing")).expect("serialises");
        assert_eq!(json, serde_json::json!({"error": "nothing"}));
    }
}
