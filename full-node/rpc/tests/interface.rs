//! The interface as a browser or a script meets it, over a node that is only a few values.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod still;

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use nesa_primitives::Hash;
use nesa_rpc::{Config, router};
use serde_json::Value;
use still::Still;
use tower::ServiceExt as _;

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or_default())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

async fn get(config: &Config, path: &str, encoding: &str) -> Answer {
    let request = Request::get(path).header("accept-encoding", encoding).body(Body::empty());
    send(config, request.expect("a request")).await
}

async fn send(config: &Config, request: Request<Body>) -> Answer {
    let response = router(Arc::new(Still), config).oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body").to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

fn dist() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (name, text) in [
        ("index.html", "shell"),
        ("index.html.br", "shell, smaller"),
        ("app-0123456789abcdef.js", "script"),
        ("app-0123456789abcdef.js.br", "script, smaller"),
        ("app-0123456789abcdef.js.gz", "script, small"),
        ("icon.svg", "icon"),
    ] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let config = Config { www: Some(folder.path().to_owned()), ..Config::default() };
    (folder, config)
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let (_folder, config) = dist();
    for path in ["/", "/app-0123456789abcdef.js", "/v1/bootstrap", "/v1/nowhere", "/missing.js"] {
        let answer = get(&config, path, "identity").await;
        assert_eq!(
            answer.header("content-security-policy"),
            nesa_rpc::CONTENT_SECURITY_POLICY,
            "{path}"
        );
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cross-origin-embedder-policy"), "require-corp", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
}

#[tokio::test]
async fn hashed_files_are_precompressed_and_kept_for_ever() {
    let (_folder, config) = dist();
    for (encoding, body) in
        [("br, gzip", "script, smaller"), ("gzip", "script, small"), ("identity", "script")]
    {
        let answer = get(&config, "/app-0123456789abcdef.js", encoding).await;
        assert_eq!(answer.body, body.as_bytes(), "{encoding}");
        assert!(answer.header("cache-control").contains("immutable"));
        assert!(answer.header("content-type").contains("javascript"));
        assert_eq!(answer.header("vary"), "accept-encoding");
    }
    assert_eq!(get(&config, "/icon.svg", "identity").await.header("cache-control"), "no-cache");
}

#[tokio::test]
async fn deep_links_get_the_shell_and_missing_files_do_not() {
    let (_folder, config) = dist();
    let deep = get(&config, "/verify/abc", "identity").await;
    assert_eq!((deep.status, deep.body.as_slice()), (StatusCode::OK, b"shell".as_slice()));
    assert_eq!(deep.header("cache-control"), "no-cache");
    assert_eq!(get(&config, "/app-gone.js", "identity").await.status, StatusCode::NOT_FOUND);
    let outside = get(&config, "/../Cargo.toml", "identity").await;
    assert_eq!(outside.status, StatusCode::NOT_FOUND, "nothing outside the folder is served");
}

#[tokio::test]
async fn refusals_are_json_with_a_fitting_status() {
    let config = Config::default();
    let status = get(&config, "/v1/status", "identity").await;
    assert_eq!(status.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(status.json()["error"].as_str().is_some_and(|text| text.contains("stands still")));
    let account = get(&config, &format!("/v1/account/{}", Hash::ZERO), "identity").await.json();
    assert_eq!(account["exists"], false);
    assert_eq!(account["nonce"], 0);
    let method = Request::delete("/v1/status").body(Body::empty()).expect("a request");
    assert_eq!(send(&config, method).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let large = Request::post("/v1/tx").body(Body::from(vec![b'0'; 1 << 17])).expect("a request");
    assert_eq!(send(&config, large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}
