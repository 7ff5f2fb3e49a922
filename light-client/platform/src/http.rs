//! A bounded `GET`, for the one page of JSON that a client reads before it speaks libp2p.

use bytes::Bytes;
use std::time::Duration;

/// How long one request may take altogether.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// A request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The address cannot be used here.
    #[error("cannot fetch {url}: {reason}")]
    Address {
        /// What was asked for.
        url: String,
        /// Why it cannot be.
        reason: &'static str,
    },
    /// The connection failed, or the answer is not HTTP.
    #[error("fetching {url} failed: {reason}")]
    Connection {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{url} answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is longer than the caller allows.
    #[error("the answer of {url} is over {limit} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The server took too long.
    #[error("{url} did not answer in time")]
    Timeout {
        /// What was asked for.
        url: String,
    },
}

/// Fetches `url`, accepting a body of at most `limit` bytes.
///
/// Natively only `http:` addresses work: a node reached over the internet is better named by its
/// multiaddress, whose channel is authenticated by the node's key.
pub async fn get(url: &str, limit: usize) -> Result<Bytes, GetError> {
    match crate::time::timeout(REQUEST_LIMIT, imp::get(url, limit)).await {
        Ok(result) => result,
        Err(_) => Err(GetError::Timeout { url: url.to_owned() }),
    }
}

#[cfg(not(target_family = "wasm"))]
mod imp {
    use super::{Bytes, GetError};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    /// Bytes allowed for the status line and headers.
    const HEAD_LIMIT: usize = 16 << 10;

    pub(super) async fn get(url: &str, limit: usize) -> Result<Bytes, GetError> {
        let address = |reason| GetError::Address { url: url.to_owned(), reason };
        let failed = |reason: String| GetError::Connection { url: url.to_owned(), reason };
        let rest = url.strip_prefix("http://").ok_or_else(|| address("only http: is supported"))?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        if authority.is_empty() || !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(address("not a valid address"));
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let target = if has_port { authority.to_owned() } else { format!("{authority}:80") };

        let mut socket =
            TcpStream::connect(target).await.map_err(|error| failed(error.to_string()))?;
        // HTTP/1.0 keeps the answer free of chunked encoding.
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
        let most = limit.saturating_add(HEAD_LIMIT);
        let mut answer = Vec::new();
        socket
            .take(most as u64 + 1)
            .read_to_end(&mut answer)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let head = answer
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .filter(|end| *end <= HEAD_LIMIT)
            .ok_or_else(|| failed("the answer is not HTTP".into()))?;
        let text = String::from_utf8_lossy(&answer[..head]).into_owned();
        let status = text
            .strip_prefix("HTTP/1.")
            .and_then(|line| line.get(2..5))
            .and_then(|code| code.parse::<u16>().ok())
            .ok_or_else(|| failed("the answer is not HTTP".into()))?;
        if status != 200 {
            return Err(GetError::Status { url: url.to_owned(), status });
        }
        let header = |name: &str| {
            text.lines().skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if header("transfer-encoding").is_some() {
            return Err(failed("the answer uses a transfer encoding".into()));
        }
        let body = &answer[head + 4..];
        if body.len() > limit {
            return Err(GetError::TooLong { url: url.to_owned(), limit });
        }
        if let Some(length) = header("content-length").and_then(|v| v.parse::<usize>().ok())
            && body.len() != length
        {
            return Err(failed(format!("got {} of {length} bytes", body.len())));
        }
        Ok(Bytes::copy_from_slice(body))
    }
}

#[cfg(target_family = "wasm")]
mod imp {
    use super::{Bytes, GetError};
    use js_sys::{Promise, Reflect, Uint8Array};
    use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
    use wasm_bindgen_futures::JsFuture;
    use web_sys::{ReadableStreamDefaultReader, Request, RequestInit, RequestRedirect, Response};

    #[wasm_bindgen]
    extern "C" {
        // The global function, present on pages and in workers alike.
        #[wasm_bindgen(js_name = fetch)]
        fn fetch(request: &Request) -> Promise;
    }

    pub(super) async fn get(url: &str, limit: usize) -> Result<Bytes, GetError> {
        let failed = |error: JsValue| GetError::Connection {
            url: url.to_owned(),
            reason: error
                .dyn_ref::<js_sys::Error>()
                .map_or_else(|| format!("{error:?}"), |e| String::from(e.message())),
        };
        let options = RequestInit::new();
        options.set_method("GET");
        options.set_redirect(RequestRedirect::Error);
        let request = Request::new_with_str_and_init(url, &options).map_err(failed)?;
        let response: Response =
            JsFuture::from(fetch(&request)).await.map_err(failed)?.dyn_into().map_err(failed)?;
        if response.status() != 200 {
            return Err(GetError::Status { url: url.to_owned(), status: response.status() });
        }
        let Some(body) = response.body() else { return Ok(Bytes::new()) };
        let reader: ReadableStreamDefaultReader =
            body.get_reader().dyn_into().map_err(|error: js_sys::Object| failed(error.into()))?;
        let mut out = Vec::new();
        loop {
            let step = JsFuture::from(reader.read()).await.map_err(failed)?;
            let done = Reflect::get(&step, &"done".into()).map_err(failed)?;
            if done.is_truthy() {
                return Ok(out.into());
            }
            let piece: Uint8Array =
                Reflect::get(&step, &"value".into()).map_err(failed)?.dyn_into().map_err(failed)?;
            if out.len() + piece.length() as usize > limit {
                // The browser drops the connection; a failure to do so changes nothing here.
                let _ = reader.cancel();
                return Err(GetError::TooLong { url: url.to_owned(), limit });
            }
            out.extend_from_slice(&piece.to_vec());
        }
    }
}
