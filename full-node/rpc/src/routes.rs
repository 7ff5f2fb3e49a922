//! The handlers of `/v1`.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use nesa_chain::{keys, tx::SignedTx};
use nesa_primitives::{Address, Hash};
use serde_json::{Value, json};

use crate::{
    backend::{Backend, BackendError, Metric},
    error::ApiError,
    events, headers, metrics, records,
};

/// Largest request body, in bytes: a signed transaction in hexadecimal inside JSON.
const MAX_BODY: usize = 64 << 10;

/// State keys read at once.
const KEYS_PER_READ: usize = 32;

type Shared = State<Arc<dyn Backend>>;
type Answer<T = Json<Value>> = Result<T, ApiError>;

impl From<BackendError> for ApiError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Unavailable(_) => Self::unavailable(error.to_string()),
            BackendError::Refused(_) => Self::refused(error.to_string()),
        }
    }
}

/// Every route below `/v1`.
pub(crate) fn api(backend: Arc<dyn Backend>) -> Router {
    let feed = events::Feed::new(backend.clone());
    let requests = Router::new()
        .route("/bootstrap", get(bootstrap))
        .route("/status", get(status))
        .route("/block/{height}", get(block))
        .route("/account/{address}", get(account))
        .route("/nodes", get(nodes))
        .route("/models", get(models))
        .route("/float/{model}", get(float_model))
        .route("/query/{id}", get(query))
        .route("/tx", post(submit))
        .route("/metrics", get(figures))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(headers::time_limit))
        .with_state(backend);
    Router::new()
        .route("/blocks", get(events::blocks))
        .with_state(feed)
        .merge(requests)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
}

/// 404 in the interface's own shape.
pub(crate) async fn nothing_here() -> ApiError {
    ApiError::not_found("nothing is served at this path").expected("a path of docs/api.md")
}

async fn wrong_method() -> Response {
    let error = ApiError::bad_request("this path does not answer that method")
        .expected("GET, or POST for /v1/tx");
    (StatusCode::METHOD_NOT_ALLOWED, error).into_response()
}

async fn bootstrap(State(backend): Shared) -> Json<crate::Bootstrap> {
    Json(backend.bootstrap())
}

async fn status(State(backend): Shared) -> Answer {
    let head = backend.head().await?;
    let bootstrap = backend.bootstrap();
    Ok(Json(json!({
        "chain_id": bootstrap.chain_id,
        "chain": backend.chain(),
        "trust_root": bootstrap.trust_root,
        "version": env!("CARGO_PKG_VERSION"),
        "faucet": bootstrap.faucet,
        "head": head,
    })))
}

async fn block(State(backend): Shared, Path(height): Path<String>) -> Answer {
    let number: u64 = height.parse().map_err(|_| {
        ApiError::bad_request("not a height").got(&height).expected("a decimal number")
    })?;
    match backend.block(number).await? {
        Some(block) => Ok(Json(json!(block))),
        None => Err(ApiError::not_found("no finalised block at this height").got(number)),
    }
}

async fn account(State(backend): Shared, Path(text): Path<String>) -> Answer {
    let address: Address = text.parse().map_err(|_| {
        ApiError::bad_request("not an address").got(&text).expected("64 hexadecimal digits")
    })?;
    let value = read(&*backend, keys::account(&address)).await?;
    Ok(Json(records::account(&address, value.as_deref())?))
}

async fn nodes(State(backend): Shared) -> Answer {
    let list = read(&*backend, keys::nodes()).await?;
    let addresses = records::node_keys(list.as_deref())?;
    let mut nodes = Vec::with_capacity(addresses.len());
    for chunk in addresses.chunks(KEYS_PER_READ) {
        let wanted = chunk.iter().map(keys::node).collect();
        for value in backend.state(wanted).await?.into_iter().flatten() {
            nodes.push(records::node(&value)?);
        }
    }
    Ok(Json(json!({ "nodes": nodes })))
}

async fn models(State(backend): Shared) -> Answer {
    let mut models = Vec::new();
    for model in backend.bootstrap().models {
        if let Some(value) = read(&*backend, keys::model(&model.digest)).await? {
            models.push(records::model(&value)?);
        }
    }
    Ok(Json(json!({ "models": models })))
}

/// The file that a digest names: whoever takes it hashes it again.
async fn float_model(
    State(backend): Shared,
    Path(text): Path<String>,
) -> Result<Response, ApiError> {
    let model: Hash = text.parse().map_err(|_| {
        ApiError::bad_request("not a model's digest").got(&text).expected("64 hexadecimal digits")
    })?;
    let file = backend.float_model(model).await?;
    let file = file.ok_or_else(|| ApiError::not_found("no such float model").got(model))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], file).into_response())
}

async fn query(State(backend): Shared, Path(text): Path<String>) -> Answer {
    let id: Hash = text.parse().map_err(|_| {
        ApiError::bad_request("not a query id").got(&text).expected("64 hexadecimal digits")
    })?;
    match read(&*backend, keys::query(&id)).await? {
        Some(value) => Ok(Json(records::query(&value)?)),
        None => Err(ApiError::not_found("no such query").got(id)),
    }
}

async fn submit(
    State(backend): Shared,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let body = body.map_err(|_| {
        ApiError::too_large("the body is too large or was cut off")
            .expected(format!("at most {MAX_BODY} bytes"))
    })?;
    let binary = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes() == b"application/octet-stream");
    let bytes = if binary { body.to_vec() } else { transaction_of_json(&body)? };
    let tx = SignedTx::from_bytes(&bytes).map_err(|error| {
        ApiError::bad_request("not a signed transaction")
            .got(error)
            .expected("the canonical encoding of a SignedTx")
    })?;
    let id = backend.submit(tx).await?;
    Ok(Json(json!({ "id": id })))
}

/// Reads `{"tx": "hex"}`.
fn transaction_of_json(body: &[u8]) -> Answer<Vec<u8>> {
    let expected = r#"{"tx": "hexadecimal bytes"}, or application/octet-stream"#;
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request("not JSON").got(error).expected(expected))?;
    let text = value
        .get("tx")
        .and_then(Value::as_str)
        .ok_or_else(|| ApiError::bad_request("no field `tx` with a string").expected(expected))?;
    hex::decode(text).map_err(|error| {
        ApiError::bad_request("`tx` is not hexadecimal").got(error).expected(expected)
    })
}

async fn figures(State(backend): Shared) -> Response {
    let mut all = backend.metrics().await;
    if let Some(value) = metrics::resident_bytes() {
        all.push(Metric {
            name: "process_resident_memory_bytes",
            help: "Resident memory of this process.",
            kind: "gauge",
            value,
        });
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let text = metrics::render(&all) + &backend.engine_metrics().await;
    (kind, text).into_response()
}

/// One state value at the last finalised block.
async fn read(backend: &dyn Backend, key: keys::Key) -> Answer<Option<bytes::Bytes>> {
    Ok(backend.state(vec![key]).await?.into_iter().next().flatten())
}
