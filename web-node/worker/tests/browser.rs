//! Tokenizers in workers of their own, against workers that do everything but answer: each costs an error
//! in words, and the worker that asked goes on.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod threads;

use std::{sync::Arc, time::Duration};

use js_sys::Function;
use nesa_light::query::{
    Said,
    engine::{Pieces, SharedCodec, TextEngine as _, TextError, TextFiles},
};
use nesa_primitives::Hash;
use nesa_worker::text::{Patience, TextWorkers};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The vocabulary of files that are hostile.
const HOSTILE: u32 = 13;
/// What a well-behaved tokenizer's worker does.
const HONEST: &str = "
const answers = {
  text: () => new Uint32Array([5, 6]), chat: (turns) => new Uint32Array(JSON.parse(turns).length),
  push: (stream, token) => `${token};`, finish: () => 'end',
};
onmessage = ({ data: [id, call, ...rest] }) => postMessage([id, 'ok', answers[call]?.(...rest)]);
";

/// Workers that run `script`.
fn workers(script: &str) -> TextWorkers {
    let source = serde_json::to_string(script).unwrap();
    let make = format!(
        "const script = new Blob([{source}], {{ type: 'text/javascript' }});
         return new Worker(URL.createObjectURL(script), {{ type: 'module' }});"
    );
    let short = Duration::from_millis(400);
    let patience =
        Patience { start: Duration::from_secs(5), open: short, prompt: short, piece: short };
    TextWorkers::new(Function::new_no_args(&make), patience)
}

/// Workers that answer `call` by doing `what`, if the files are hostile, and everything else as they should.
fn hostile(call: &str, what: &str) -> TextWorkers {
    workers(&format!(
        "{HONEST}
         const honest = onmessage;
         let bad = false;
         onmessage = (event) => {{
           const [id, call, , , vocab] = event.data;
           if (call === 'open') bad = vocab === {HOSTILE};
           if (bad && call === '{call}') {{ {what} }} else honest(event);
         }};"
    ))
}

fn files(vocab: u32) -> TextFiles {
    TextFiles {
        model: Hash([vocab as u8; 32]),
        tokenizer: Default::default(),
        template: None,
        vocab,
        start: None,
        ends: vec![],
    }
}

/// Everything that is asked of a tokenizer.
async fn use_it(engine: &TextWorkers, vocab: u32) -> Result<String, TextError> {
    let codec: SharedCodec = engine.open(files(vocab)).await?;
    assert_eq!(codec.tokens(&Said::Text("x".into())).await?, [5, 6]);
    assert_eq!(codec.tokens(&Said::Chat(vec![])).await?.len(), 0);
    let mut stream: Box<dyn Pieces> = codec.stream(&[1]).await?;
    let mut text = stream.push(7).await?;
    text += &stream.push(8).await?;
    Ok(text + &stream.finish().await?)
}

#[wasm_bindgen_test]
async fn what_is_asked_is_answered() {
    let engine = workers(HONEST);
    assert_eq!(use_it(&engine, 1).await.unwrap(), "7;8;end");
    let first = engine.open(files(1)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &engine.open(files(1)).await.unwrap()), "opened once");
}

/// Never ending, trapping, throwing, lying: a typed error each time, and another model is not harmed.
#[wasm_bindgen_test]
async fn a_hostile_model_costs_an_error_and_nothing_else() {
    let slow = TextError::Slow { limit: Duration::from_millis(400) };
    let stopped = |what: &str| TextError::Stopped(what.into());
    let cases = [
        ("open", "for (;;);", slow.clone()),
        ("open", "postMessage([id, 'stopped', 'unreachable']);", stopped("unreachable")),
        ("open", "postMessage([id, 'refused', 'no']);", TextError::Refused("no".into())),
        ("open", "postMessage('nonsense'); postMessage([]); postMessage([id]);", slow.clone()),
        ("text", "for (;;);", slow.clone()),
        ("text", "postMessage([id, 'ok', 'abc']);", stopped("it gave no tokens")),
        ("chat", "", slow.clone()),
        ("stream", "postMessage([id, 'other', {}]);", stopped("without a word")),
        ("push", "for (;;);", slow.clone()),
        ("push", "postMessage([id, 'ok', 5]);", stopped("it gave no text")),
        ("finish", "close();", slow),
    ];
    for (call, what, expected) in cases {
        let engine = hostile(call, what);
        assert_eq!(use_it(&engine, HOSTILE).await, Err(expected), "{call}: {what}");
        assert_eq!(use_it(&engine, 1).await.unwrap(), "7;8;end", "{call}: {what}");
    }
    let engine = hostile("text", "throw new Error('boom');");
    let Err(TextError::Stopped(what)) = use_it(&engine, HOSTILE).await else { panic!("stopped") };
    assert!(what.contains("boom"), "{what}");
}

#[wasm_bindgen_test]
async fn what_does_not_fit_in_memory_is_not_taken() {
    for (call, what) in [
        ("text", "postMessage([id, 'ok', new Uint32Array((1 << 20) + 1)]);"),
        ("push", "postMessage([id, 'ok', 'x'.repeat((1 << 16) + 1)]);"),
    ] {
        let refused = use_it(&hostile(call, what), HOSTILE).await;
        assert!(matches!(refused, Err(TextError::Refused(_))), "{refused:?}");
    }
}

#[wasm_bindgen_test]
async fn a_worker_that_cannot_start_says_so() {
    let never = workers("throw new Error('no such module');");
    assert!(matches!(use_it(&never, 1).await, Err(TextError::Stopped(_))));
    let nothing = TextWorkers::new(Function::new_no_args("return 5;"), Patience::default());
    assert!(matches!(use_it(&nothing, 1).await, Err(TextError::Stopped(_))));
    let refused = TextWorkers::new(Function::new_no_args("throw 'no';"), Patience::default());
    assert_eq!(use_it(&refused, 1).await, Err(TextError::Stopped("no".into())));
}

/// A codec that was ended stays so, and the next question opens another.
#[wasm_bindgen_test]
async fn an_ended_tokenizer_is_opened_again() {
    let engine = hostile("text", "for (;;);");
    let codec = engine.open(files(HOSTILE)).await.unwrap();
    let said = Said::Text("x".into());
    let first = codec.tokens(&said).await;
    assert_eq!(first, codec.tokens(&Said::Chat(vec![])).await, "the same reason, at once");
    let again = engine.open(files(HOSTILE)).await.unwrap();
    assert!(!Arc::ptr_eq(&codec, &again));
    assert!(again.tokens(&Said::Chat(vec![])).await.is_ok());
}
