//! The wasm module in Node.js, as one more machine.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result};
use nesa_float::{
    Answer, Limits, Tensor,
    calibrate::Machine,
    web::{decode_answer, encode_inputs},
};

use crate::failure::{Code, Failure};

const RUNNER: &str = include_str!("runner.mjs");
/// Longest frame that is read: an answer of 2^26 floats.
const MAX_FRAME: usize = 1 << 28;

/// How the modules are made, for people who have none.
const HOW: &str = "`cargo xtask float` builds the modules, Node.js 18 or later runs them \
                   (apt-get install nodejs)";

/// Where `cargo xtask float` puts the modules.
pub(super) fn folders(given: Option<&Path>) -> Result<Vec<PathBuf>> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let root = given.map_or_else(|| target.join("float"), Path::to_owned);
    let folders: Vec<PathBuf> = ["simd128", "scalar"]
        .iter()
        .map(|variant| root.join(variant))
        .filter(|folder| folder.join("nesa_float.js").is_file())
        .collect();
    if folders.is_empty() {
        let what = format!("no wasm module of the float lane in {}", root.display());
        return Err(Failure::new(Code::Usage, what, HOW).into());
    }
    Ok(folders)
}

/// A Node.js process that holds one model.
#[derive(Debug)]
pub(super) struct Module {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    name: String,
    limits: Limits,
}

impl Module {
    /// Starts Node.js with the module of `folder` and gives it the model.
    pub(super) fn start(folder: &Path, onnx: &[u8]) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
        let mut child = Command::new("node")
            .args(["--input-type=module", "--eval", RUNNER, "--"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                Failure::new(Code::Usage, format!("Node.js does not start: {error}"), HOW)
            })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("Node.js has no pipes");
        };
        let limits = Limits::browser();
        let mut module = Self { child, input, output, name: String::new(), limits };
        let opened = module.call(b'M', onnx).map_err(anyhow::Error::msg)?;
        let vectors = opened.last() == Some(&1);
        module.name = if vectors { "wasm simd128" } else { "wasm scalar" }.to_owned();
        Ok(module)
    }

    fn call(&mut self, kind: u8, bytes: &[u8]) -> Result<Vec<u8>, String> {
        self.exchange(kind, bytes).map_err(|error| error.to_string())?
    }

    fn exchange(&mut self, kind: u8, bytes: &[u8]) -> std::io::Result<Result<Vec<u8>, String>> {
        let length = u32::try_from(bytes.len() + 1).map_err(std::io::Error::other)?;
        self.input.write_all(&length.to_le_bytes())?;
        self.input.write_all(&[kind])?;
        self.input.write_all(bytes)?;
        self.input.flush()?;
        let mut length = [0u8; 4];
        self.output.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if !(1..=MAX_FRAME).contains(&length) {
            return Err(std::io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut frame = vec![0u8; length];
        self.output.read_exact(&mut frame)?;
        let bytes = frame.split_off(1);
        Ok(match frame[0] {
            b'E' => Err(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Ok(bytes),
        })
    }
}

impl Machine for Module {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Answer, String> {
        let answer = self.call(b'R', &encode_inputs(inputs))?;
        decode_answer(&answer, &self.limits).map_err(|error| error.to_string())
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
