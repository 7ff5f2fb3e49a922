//! Writes the committed test vectors from the original weights and the committed model:
//!
//! ```text
//! cargo run --profile local -p nesa-compiler --example vectors -- WEIGHTS_DIR
//! ```
//!
//! `full-node/compiler/data/reference.bin` holds f32 embeddings of the corpus's first lines;
//! `shared/model/data/self_test.bin` holds the plain interpreter's integers for the self-test texts.

use nesa_compiler::eval::{CORPUS, REFERENCE_TEXTS, encode_reference};
use nesa_compiler::source::Bert;
use nesa_compiler::yardstick::run;
use nesa_model::{Artifact, Model, ModelLimits, SELF_TEST_TEXTS, TokenIds, interpreter};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("name the folder of the original weights")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = std::fs::read(root.join("models/all-minilm-l6-v2.nesa"))?;
    let model = Model::open(&Artifact::open(file, &ModelLimits::default())?)?;

    let words = model.tokenizer().ok_or("the committed model has no WordPiece vocabulary")?;
    let bert = Bert::load(Path::new(&dir))?;
    let texts = CORPUS.lines().take(REFERENCE_TEXTS);
    let ids: Vec<TokenIds> = texts.map(|text| words.encode(text)).collect();
    let vectors = run(&bert, &ids)?;
    let reference = root.join("full-node/compiler/data/reference.bin");
    std::fs::write(reference, encode_reference(&vectors))?;

    let mut golden = Vec::new();
    for text in SELF_TEST_TEXTS {
        let embedding = interpreter::embed(&model, &words.encode(text))
            .ok_or("the interpreter refused a self-test text")?;
        golden.extend(embedding.values.iter().flat_map(|v| v.to_le_bytes()));
    }
    std::fs::write(root.join("shared/model/data/self_test.bin"), golden)?;
    println!("{}", model.digest());
    Ok(())
}
