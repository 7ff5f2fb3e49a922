//! A plain HTTP/1.0 client, so that tests see exactly what is sent.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// An answer.
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Header lines.
    head: String,
    /// The body as text.
    pub(crate) body: String,
}

impl Answer {
    /// A header's value, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn open(rpc: &str, request: &str) -> TcpStream {
    let address = rpc.strip_prefix("http://").expect("an http address");
    let mut stream = TcpStream::connect(address).expect("the node listens");
    stream.set_read_timeout(Some(LIMIT)).expect("settable");
    // A server that refuses a body may close before it was all written.
    let _ = stream.write_all(request.as_bytes());
    stream
}

fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer is no concern of the caller.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status line");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// `GET path`.
pub(crate) fn get(rpc: &str, path: &str) -> Answer {
    answer(open(rpc, &format!("GET {path} HTTP/1.0\r\n\r\n")))
}

/// `POST path` with a JSON body.
pub(crate) fn post(rpc: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    answer(open(
        rpc,
        &format!(
            "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
    ))
}

/// The lines of the first server-sent event of `path`.
pub(crate) fn first_event(rpc: &str, path: &str) -> String {
    let stream = open(rpc, &format!("GET {path} HTTP/1.0\r\n\r\n"));
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let _head = lines.by_ref().take_while(|line| !line.is_empty()).count();
    let event: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    event.join("\n")
}
