//! The playground's static files: precompressed, hashed names cached for ever, deep links to the shell.

use std::path::{Path, PathBuf};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use tower_http::services::{ServeDir, ServeFile};

/// A hashed name never changes its content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Anything else is asked for again; the server answers 304 when it has not changed.
const REVALIDATE: &str = "no-cache";
/// Fewest hexadecimal digits that make a name a content hash.
const MIN_HASH_DIGITS: usize = 8;

/// A service for the files of one built playground.
///
/// Paths whose last segment has no extension get the shell (`index.html`), so that a reload of a
/// deep link works; a missing script or image stays a 404 and is never answered with HTML.
pub(crate) fn service(dist: &Path) -> axum::Router {
    let index = dist.join("index.html");
    let files = ServeDir::new(dist).precompressed_br().precompressed_gzip();
    if !index.is_file() {
        return axum::Router::new().fallback(not_built);
    }
    let shell = ServeFile::new(index).precompressed_br().precompressed_gzip();
    let shell = navigations_only(shell);
    axum::Router::new()
        .fallback_service(files.fallback(shell))
        .layer(axum::middleware::from_fn(cache_control))
}

/// Wraps the shell so that only navigations reach it.
fn navigations_only(shell: ServeFile) -> axum::Router {
    axum::Router::new().fallback_service(shell).layer(axum::middleware::from_fn(only_navigations))
}

async fn only_navigations(request: Request, next: Next) -> Response {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    if last.contains('.') {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    }
    next.run(request).await
}

async fn cache_control(request: Request, next: Next) -> Response {
    let immutable = is_hashed(request.uri().path());
    let mut response = next.run(request).await;
    if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
        let value = if immutable { IMMUTABLE } else { REVALIDATE };
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// True for names such as `app-1f2e3d4c5b6a7988.wasm`: a hash of the content is part of the name.
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut parts = name.split(['-', '.', '_']);
    let _stem = parts.next();
    let Some((_, extension)) = name.rsplit_once('.') else { return false };
    parts.any(|part| {
        part != extension
            && part.len() >= MIN_HASH_DIGITS
            && part.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// What a validator answers when the playground has not been built: how to build it.
async fn not_built() -> Response<Body> {
    let page = "<!doctype html><meta charset=utf-8><title>nesa</title>\
        <h1>This node is running</h1>\
        <p>The playground's files were not found. Build them with <code>cargo xtask build</code>, \
        or name their folder with <code>nesa up --www DIR</code>.</p>\
        <p>The JSON interface is up: <a href=\"/v1/status\">/v1/status</a>.</p>";
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

/// Finds a built playground: beside the executable's ancestors, then from the working directory.
///
/// Looks for `www/dist/index.html`; returns its folder.
#[must_use]
pub fn find_dist() -> Option<PathBuf> {
    let mut starts = Vec::new();
    starts.extend(std::env::current_dir().ok());
    starts.extend(std::env::current_exe().ok());
    starts
        .iter()
        .flat_map(|start| start.ancestors())
        .map(|folder| folder.join("www").join("dist"))
        .find(|dist| dist.join("index.html").is_file())
}

#[cfg(test)]
mod tests {
    use super::is_hashed;

    #[test]
    fn only_names_with_a_content_hash_are_immutable() {
        assert!(is_hashed("/app-0123456789abcdef.js"));
        assert!(is_hashed("/assets/worker_bg-deadbeef01.wasm"));
        assert!(is_hashed("/style.0a1b2c3d4e.css"));
        assert!(!is_hashed("/index.html"));
        assert!(!is_hashed("/deadbeef01"));
        assert!(!is_hashed("/app-short1.js"));
        assert!(!is_hashed("/"));
    }
}
