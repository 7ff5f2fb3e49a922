//! Writes inputs and this machine's answer for the tests in the browser.
//!
//!     cargo run --profile local -p nesa-float --example answer -- models/float/encoder.onnx

use nesa_float::{
    Graph, Limits,
    inputs::{Recipe, make},
    web,
};
use std::{collections::BTreeMap, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = std::env::args().nth(1).ok_or("name a model")?.into();
    let mut graph = Graph::open(&fs::read(&path)?, Limits::default())?;
    let dimensions = BTreeMap::from([("tokens".to_owned(), 12)]);
    let inputs = web::encode_inputs(&make(&graph, &Recipe { dimensions, below: 97 }, 7)?);
    let answer = web::run(&mut graph, &inputs, &Limits::default())?;
    fs::write(path.with_extension("inputs"), &inputs)?;
    fs::write(path.with_extension("answer"), &answer)?;
    println!("{} bytes of inputs, {} of answer", inputs.len(), answer.len());
    Ok(())
}
