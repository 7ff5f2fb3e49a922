//! A model's process, as the node sees it.
//!
//! Frames on its standard input and output: four bytes of length, little-endian, then the content. A run
//! is one frame of inputs and one frame back, whose first byte says what follows.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use nesa_node::MAX_CONTENT;
use nesa_primitives::Hash;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// Longest frame, either way: inputs or an answer, and the byte before it.
pub(super) const MAX_FRAME: usize = MAX_CONTENT + 1;
/// What follows is the answer.
pub(super) const RAN: u8 = 0;
/// What follows says in words why there is none.
pub(super) const REFUSED: u8 = 1;

/// A running process that holds one model. Dropped, it is killed.
pub(super) struct Process {
    // Held so that it is killed when this is dropped.
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Process {
    /// Starts it; it reads the model from `file`, which must have `digest`.
    ///
    /// # Errors
    /// When this executable cannot be run again.
    pub(super) fn start(file: &Path, digest: &Hash, int8: bool) -> Result<Self> {
        let exe = std::env::current_exe().context("cannot find this executable")?;
        let mut command = Command::new(exe);
        command.args(["node", "engine", "--digest", &digest.to_string(), "--supervisor"]);
        command.arg(std::process::id().to_string());
        if int8 {
            command.arg("--int8");
        }
        let mut child = command
            .arg("--")
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the model's process")?;
        let input = child.stdin.take().context("its standard input is missing")?;
        let output = child.stdout.take().context("its standard output is missing")?;
        Ok(Self { _child: child, input, output })
    }

    /// One run: the answer, or in words what is wrong with the inputs or the model.
    ///
    /// # Errors
    /// When the process ended or broke the protocol: it is of no use any more.
    pub(super) async fn run(&mut self, inputs: &[u8]) -> Result<Result<Bytes, String>> {
        ensure!(
            inputs.len() < MAX_FRAME,
            "{} bytes of inputs, at most {MAX_CONTENT}",
            inputs.len()
        );
        let gone = "the model's process ended";
        self.input.write_u32_le(u32::try_from(inputs.len())?).await.context(gone)?;
        self.input.write_all(inputs).await.context(gone)?;
        self.input.flush().await.context(gone)?;
        let len = self.output.read_u32_le().await.context(gone)? as usize;
        ensure!(
            (1..=MAX_FRAME).contains(&len),
            "a frame of {len} bytes, 1 to {MAX_FRAME} expected"
        );
        let mut frame = vec![0; len];
        self.output.read_exact(&mut frame).await.context(gone)?;
        let frame = Bytes::from(frame);
        let content = frame.slice(1..);
        match frame.first() {
            Some(&RAN) => Ok(Ok(content)),
            Some(&REFUSED) => Ok(Err(String::from_utf8_lossy(&content).into_owned())),
            got => bail!("a frame that begins with {got:?}, {RAN} or {REFUSED} expected"),
        }
    }
}
