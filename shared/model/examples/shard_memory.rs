//! Resident memory of a process that serves some layers of a model in a file, megabytes: with the file read
//! whole, and with the pieces of those layers alone.
//!
//! `cargo run --profile local -p nesa-model --example shard_memory -- [LAYERS]`
//!
//! The model is SmolLM-135M's 30 layers with random weights of eight bits (108 MB), in a file of its own.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use nesa_model::artifact::{PREFIX_BYTES, PieceError, Pieces, header_len};
use nesa_model::decoder::toy::{self, ToyDecoder};
use nesa_model::decoder::{DecoderModel, Shard};
use nesa_model::{Artifact, Header, ModelLimits};

type Failure = Box<dyn std::error::Error>;

/// A model in a file, of which the header is held.
struct InFile {
    header: Arc<Header>,
    file: File,
}

impl InFile {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path)?;
        let mut prefix = [0; PREFIX_BYTES];
        file.read_exact_at(&mut prefix, 0)?;
        let mut header = vec![0; header_len(&prefix)?];
        file.read_exact_at(&mut header, PREFIX_BYTES as u64)?;
        Ok(Self { header: Arc::new(Header::decode(&header, &ModelLimits::default())?), file })
    }
}

impl Pieces for InFile {
    fn header(&self) -> &Arc<Header> {
        &self.header
    }

    fn read(&self, index: usize) -> Result<Bytes, PieceError> {
        let chunk = index.checked_sub(1).and_then(|c| self.header.layout().chunks.get(c));
        let Some(chunk) = chunk else { return Ok(self.header.bytes().clone()) };
        let mut bytes = vec![0; chunk.range.len()];
        let at = PREFIX_BYTES + self.header.bytes().len() + chunk.range.start;
        let read = self.file.read_exact_at(&mut bytes, at as u64);
        read.map_err(|error| PieceError::Read { index, error: error.to_string() })?;
        Ok(bytes.into())
    }
}

/// Resident memory of this process, megabytes.
fn resident() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1000.0)
}

fn main() -> Result<(), Failure> {
    let layers: usize = std::env::args().nth(1).map_or(Ok(15), |n| n.parse())?;
    let path = std::env::temp_dir().join(format!("nesa-shard-memory-{}.nesa", std::process::id()));
    let toy = ToyDecoder {
        d_model: 576,
        d_ff: 1536,
        heads: 9,
        kv_heads: 3,
        head_width: 64,
        layers: 30,
        ..ToyDecoder::default()
    };
    let file = toy::artifact(&toy)?.to_file();
    let bytes = file.len();
    std::fs::write(&path, file)?;
    let before = resident()?;
    let shard = DecoderModel::open_shard(&Shard::of_pieces(&InFile::open(&path)?, 0..layers)?)?;
    let pieces = resident()? - before;
    drop(shard);
    let artifact = Artifact::open(std::fs::read(&path)?, &ModelLimits::default())?;
    let shard = DecoderModel::open_shard(&Shard::of_artifact(&artifact, 0..layers)?)?;
    let whole = resident()? - before;
    drop(shard);
    std::fs::remove_file(&path)?;
    println!(
        "{{\"file_mb\":{:.1},\"layers\":{layers},\"process_mb\":{before:.1},\"read_whole_mb\":{whole:.1},\
         \"own_pieces_mb\":{pieces:.1}}}",
        bytes as f64 / 1e6
    );
    Ok(())
}
