//! A model's process, from inside: reads inputs, writes answers, until its standard input ends.

use std::{
    io::{ErrorKind, Read, Write},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use nesa_float::{
    Graph, Limits, model_digest,
    perturb::{Deviation, deviate},
    web,
};
use nesa_primitives::Hash;

use super::process::{MAX_FRAME, RAN, REFUSED};
use crate::commands::float::unusable;

/// Where the kernel reads which process it should end first when memory runs out.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Serves the model in `file`, which must have `digest`, on standard input and output. With `int8`, runs
/// weights rounded to 8 bits that name the plan of the model asked: a rehearsal of a node that lies.
///
/// # Errors
/// When the file is another one or not usable, and when the streams break.
pub(crate) fn serve(file: &Path, digest: Hash, int8: bool) -> Result<()> {
    // If a run takes all memory, this process is to be ended, and not the node: where the kernel knows
    // no such preference, nothing is lost.
    let _ = std::fs::write(OOM_SCORE, "1000");
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let got = model_digest(&bytes);
    ensure!(got == digest, "{} has digest {got}, not {digest}", file.display());
    let limits = Limits::default();
    let mut graph = Graph::open(&bytes, limits).map_err(unusable)?;
    if int8 {
        let other = deviate(&bytes, Deviation::Int8, 1, &limits).map_err(unusable)?;
        graph = Graph::open_as(&other, limits, graph.plan()).map_err(unusable)?;
    }
    drop(bytes);
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    while let Some(inputs) = receive(&mut input)? {
        let (tag, content) = match web::run(&mut graph, &inputs, &limits) {
            Ok(answer) if answer.len() < MAX_FRAME => (RAN, answer),
            Ok(answer) => {
                let (got, max) = (answer.len(), MAX_FRAME - 1);
                (REFUSED, format!("an answer of {got} bytes, at most {max} can be sent").into())
            }
            Err(error) => (REFUSED, error.to_string().into()),
        };
        send(&mut output, tag, &content)?;
    }
    Ok(())
}

/// The next frame; `None` at the end of the stream.
fn receive(input: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    match input.read_exact(&mut len) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error).context("cannot read standard input"),
    }
    let len = u32::from_le_bytes(len) as usize;
    ensure!(len <= MAX_FRAME, "a frame of {len} bytes, at most {MAX_FRAME} expected");
    let mut frame = vec![0; len];
    input.read_exact(&mut frame).context("a frame breaks off")?;
    Ok(Some(frame))
}

fn send(output: &mut impl Write, tag: u8, content: &[u8]) -> Result<()> {
    let len = u32::try_from(content.len() + 1)?;
    output.write_all(&len.to_le_bytes())?;
    output.write_all(&[tag])?;
    output.write_all(content)?;
    output.flush().context("cannot write standard output")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;

    #[test]
    fn frames_end_where_they_say() {
        let mut bytes = Vec::new();
        send(&mut bytes, RAN, b"abc").unwrap();
        send(&mut bytes, REFUSED, b"").unwrap();
        let mut rest = bytes.as_slice();
        assert_eq!(receive(&mut rest).unwrap().unwrap(), [&[RAN][..], b"abc"].concat());
        assert_eq!(receive(&mut rest).unwrap().unwrap(), [REFUSED]);
        assert_eq!(receive(&mut rest).unwrap(), None);
        let broken = receive(&mut &bytes[..6]).unwrap_err().to_string();
        assert_eq!(broken, "a frame breaks off");
        let long = receive(&mut &u32::MAX.to_le_bytes()[..]).unwrap_err().to_string();
        assert!(long.contains("4294967295 bytes"), "{long}");
    }
}
