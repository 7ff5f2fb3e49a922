//! Tensors of a published checkpoint: one `model.safetensors`, or several named by an index.
//!
//! Only the headers are held; a tensor, or some of its rows, is read from its file when it is asked for,
//! so that a checkpoint of any size costs no more memory than the part that is looked at.

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::source::SourceError;

/// Largest header of a file that is read; the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes converted at a time, a multiple of every type's size.
const PIECE: usize = 1 << 18;

/// The weights of a folder, open for reading.
pub(crate) struct Checkpoint {
    files: Vec<Weights>,
    /// Tensor name to file, when there is an index.
    index: Option<BTreeMap<String, usize>>,
}

/// One file of tensors.
struct Weights {
    file: File,
    /// Where the tensors' bytes begin.
    data: u64,
    tensors: HashMap<String, TensorInfo>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads and parses a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, SourceError> {
    let text = std::fs::read(path).map_err(|error| SourceError::Io { path: path.into(), error })?;
    serde_json::from_slice(&text)
        .map_err(|e| SourceError::Parse { path: path.into(), error: e.to_string() })
}

impl Weights {
    fn open(path: &Path) -> Result<Self, SourceError> {
        let io = |error| SourceError::Io { path: path.into(), error };
        let damaged = |error: String| SourceError::Parse { path: path.into(), error };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        if size < 8 {
            return Err(damaged(format!("{size} bytes are no safetensors file")));
        }
        file.read_exact_at(&mut length, 0).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES.min(size - 8) {
            return Err(damaged(format!(
                "a header of {length} bytes in a file of {size}, at most {MAX_HEADER_BYTES} allowed"
            )));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, 8).map_err(io)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| damaged(format!("its header: {e}")))?;
        let tensors: HashMap<String, TensorInfo> =
            header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let data = 8 + length;
        check(&tensors, size - data).map_err(damaged)?;
        Ok(Self { file, data, tensors })
    }
}

/// Whether tensors lie one after the other, each of its shape's size, up to the end of the file.
fn check(tensors: &HashMap<String, TensorInfo>, held: u64) -> Result<(), String> {
    let mut places: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    places.sort_by_key(|(name, info)| (info.data_offsets, *name));
    let mut next = 0;
    for (name, info) in places {
        let (start, end) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |all, &v| all.checked_mul(v));
        if start != next || end < start || bits != (end - start).checked_mul(8) {
            return Err(format!(
                "tensor {name} of shape {:?} lies at {start}..{end}, expected at {next}",
                info.shape
            ));
        }
        next = end;
    }
    if next as u64 != held {
        return Err(format!("{held} bytes of tensors, its header names {next}"));
    }
    Ok(())
}

impl Checkpoint {
    /// Opens the weights in `dir`.
    ///
    /// # Errors
    /// [`SourceError`] naming the file that is absent or damaged.
    pub(crate) fn open(dir: &Path) -> Result<Self, SourceError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.is_file() || !index.is_file() {
            return Ok(Self { files: vec![Weights::open(&single)?], index: None });
        }
        let Index { weight_map } = read_json(&index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let mut files = Vec::new();
        for name in &names {
            // A name with a separator would lead out of the folder.
            if Path::new(name).file_name().is_none_or(|f| f != name.as_str()) {
                let error = format!("{name:?} is not a file name");
                return Err(SourceError::Parse { path: index, error });
            }
            files.push(Weights::open(&dir.join(name))?);
        }
        let order: Vec<&String> = names.into_iter().collect();
        let place = |file: &String| order.iter().position(|o| *o == file).unwrap_or(0);
        let index = weight_map.iter().map(|(t, f)| (t.clone(), place(f))).collect();
        Ok(Self { files, index: Some(index) })
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// A tensor of F32, F16 or BF16 as f32, row-major.
    ///
    /// # Errors
    /// [`SourceError::Tensor`] when it is absent, of another shape or type, or holds a value that is
    /// not finite.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, SourceError> {
        self.rows(name, shape, 0..shape.first().copied().unwrap_or(1))
    }

    /// Some of the rows (the first dimension) of a tensor of this shape, as [`Checkpoint::get`].
    pub(crate) fn rows(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> Result<Vec<f32>, SourceError> {
        let fail = |error: String| SourceError::Tensor { name: name.to_owned(), error };
        let (weights, info) = self.find(name)?;
        if info.shape != shape {
            return Err(fail(format!("shape {:?}, expected {shape:?}", info.shape)));
        }
        let size = match info.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            other => return Err(fail(format!("type {other:?}, expected F32, F16 or BF16"))),
        };
        let width: usize = shape.iter().skip(1).product();
        // The file was found to hold all of the shape.
        let mut at = weights.data + (info.data_offsets.0 + rows.start * width * size) as u64;
        let count = rows.len() * width;
        let mut values: Vec<f32> = Vec::with_capacity(count);
        let mut piece = vec![0; PIECE.min(count * size)];
        while values.len() < count {
            let bytes = &mut piece[..PIECE.min((count - values.len()) * size)];
            weights.file.read_exact_at(bytes, at).map_err(|e| fail(e.to_string()))?;
            at += bytes.len() as u64;
            extend(&mut values, bytes, info.dtype);
        }
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => {
                let at = rows.start * width + i;
                Err(fail(format!("value {at} is {}, not a finite number", values[i])))
            }
            None => Ok(values),
        }
    }

    fn find(&self, name: &str) -> Result<(&Weights, &TensorInfo), SourceError> {
        let fail = |error: &str| SourceError::Tensor { name: name.to_owned(), error: error.into() };
        let file = match &self.index {
            None => 0,
            Some(index) => *index.get(name).ok_or_else(|| fail("absent from the index"))?,
        };
        let weights = self.files.get(file).ok_or_else(|| fail("its file is absent"))?;
        let info = weights.tensors.get(name).ok_or_else(|| fail("absent from the file"))?;
        Ok((weights, info))
    }
}

/// Adds values of a type, one of the three that are read.
fn extend(values: &mut Vec<f32>, bytes: &[u8], dtype: Dtype) {
    let pairs = || bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b));
    match dtype {
        Dtype::F32 => {
            values.extend(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)));
        }
        Dtype::F16 => values.extend(pairs().map(half)),
        // The upper half of an f32.
        _ => values.extend(pairs().map(|b| f32::from_bits(u32::from(b) << 16))),
    }
}

/// An IEEE 754 binary16 as f32, exactly.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from((bits >> 10) & 31), u32::from(bits & 1023));
    match exponent {
        // Subnormal: a multiple of 2^−24.
        0 => f32::from_bits(sign | (fraction as f32 * libm::exp2f(-24.0)).to_bits()),
        31 => f32::from_bits(sign | (255 << 23) | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;

    #[test]
    fn halves_are_exact() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(half(bits), value);
        }
        assert_eq!(half(0x8000).to_bits(), 1 << 31);
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn open(bytes: &[u8]) -> Result<Checkpoint, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        Checkpoint::open(dir.path()).map_err(|e| e.to_string())
    }

    const HEADER: &str = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]}}"#;

    #[test]
    fn rows_are_read_by_themselves() {
        let data: Vec<u8> = (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let checkpoint =
            open(&file(HEADER, &[&data[..], &[0x80, 0x3f, 0, 0xc0]].concat())).unwrap();
        assert_eq!(checkpoint.get("a", &[2, 3]).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(checkpoint.rows("a", &[2, 3], 1..2).unwrap(), [3.0, 4.0, 5.0]);
        assert_eq!(checkpoint.get("b", &[2]).unwrap(), [1.0, -2.0]);
        assert!(checkpoint.has("a") && !checkpoint.has("c"));
        let error = checkpoint.get("a", &[3, 2]).unwrap_err().to_string();
        assert!(error.contains("[2, 3], expected [3, 2]"), "{error}");
        let error = checkpoint.get("c", &[1]).unwrap_err().to_string();
        assert!(error.contains("tensor c: absent"), "{error}");
    }

    #[test]
    fn damaged_files_are_named() {
        let refused = |bytes: &[u8], what: &str| {
            let error = open(bytes).err().unwrap();
            assert!(error.contains("model.safetensors") && error.contains(what), "{error}");
        };
        let whole = file(HEADER, &[0; 28]);
        refused(&whole[..5], "5 bytes");
        refused(&whole[..40], "a header of");
        refused(&whole[..whole.len() - 1], "27 bytes of tensors, its header names 28");
        refused(&file(HEADER, &[0; 29]), "29 bytes of tensors, its header names 28");
        refused(&file("{", &[]), "its header");
        refused(&file(&HEADER.replace("[2,3]", "[2,4]"), &[0; 28]), "");
        refused(&file(&HEADER.replace("[24,28]", "[23,27]"), &[0; 28]), "");
        let huge = HEADER.replace("[2,3]", "[4294967296,4294967296,4294967296]");
        refused(&file(&huge, &[0; 28]), "");
        let mut long = whole.clone();
        long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        refused(&long, "a header of");
        let integers = open(&file(&HEADER.replace("BF16", "I16"), &[0; 28])).unwrap();
        let error = integers.get("b", &[2]).unwrap_err().to_string();
        assert!(error.contains("I16") && error.contains("BF16"), "{error}");
    }
}
