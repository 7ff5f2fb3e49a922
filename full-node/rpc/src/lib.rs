//! Serves HTTP: JSON for scripts and explorers, a stream of blocks, and the playground's files.
//!
//! # Design
//!
//! ```text
//!   GET  /v1/bootstrap /v1/status /v1/block/H /v1/account/A /v1/nodes /v1/models /v1/query/ID
//!   GET  /v1/blocks   (server-sent events)      GET /v1/metrics (text)
//!   POST /v1/tx                                 anything else: static files, if any
//! ```
//!
//! Nothing here is trusted by a light client: it reads `/v1/bootstrap`, then speaks libp2p and
//! verifies. The other routes are conveniences for people who trust the node they ask, so no secret
//! and no prompt ever has a reason to pass through. `docs/api.md` describes every route.

#![deny(missing_docs)]

mod backend;
mod error;
mod events;
mod files;
mod headers;
mod metrics;
mod records;
mod routes;
mod server;

use std::{path::PathBuf, sync::Arc};

use axum::{Router, middleware};
use tokio::net::TcpListener;

pub use backend::{Backend, BackendError, BlockView, Bootstrap, Metric, Model, TransactionView};
pub use error::ApiError;
pub use files::find_dist;
pub use headers::CONTENT_SECURITY_POLICY;
pub use server::Limits;

/// What to serve besides the JSON interface.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Folder of the built playground; `None` serves no files.
    pub www: Option<PathBuf>,
    /// What connections may use up.
    pub limits: Limits,
}

/// The whole interface as an axum router.
pub fn router(backend: Arc<dyn Backend>, config: &Config) -> Router {
    let api = routes::api(backend).layer(middleware::from_fn(headers::no_store));
    let router = Router::new().nest("/v1", api);
    let router = match &config.www {
        Some(dist) => router.fallback_service(files::service(dist)),
        None => router.fallback(routes::nothing_here),
    };
    router.layer(middleware::from_fn(headers::secure))
}

/// Serves until `stop` resolves, then lets running requests finish.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    config: &Config,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    server::run(listener, router(backend, config), config.limits, stop).await;
}
