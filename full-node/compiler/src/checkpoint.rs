//! Tensors of a published checkpoint: one `model.safetensors`, or several named by an index.

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use crate::source::SourceError;

/// Memory-mapped weights; a tensor is read when it is asked for.
pub(crate) struct Checkpoint {
    files: Vec<Mmap>,
    /// Tensor name to file, when there is an index.
    index: Option<BTreeMap<String, usize>>,
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

fn map(path: &Path) -> Result<Mmap, SourceError> {
    let fail = |error| SourceError::Io { path: path.into(), error };
    let file = File::open(path).map_err(fail)?;
    // SAFETY: the map is private and read only; if another process shortens the file meanwhile
    // the compiler is killed by SIGBUS, which harms nobody.
    let map = unsafe { Mmap::map(&file) }.map_err(fail)?;
    SafeTensors::deserialize(&map)
        .map_err(|e| SourceError::Parse { path: path.into(), error: e.to_string() })?;
    Ok(map)
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
            return Ok(Self { files: vec![map(&single)?], index: None });
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
            files.push(map(&dir.join(name))?);
        }
        let order: Vec<&String> = names.into_iter().collect();
        let place = |file: &String| order.iter().position(|o| *o == file).unwrap_or(0);
        let index = weight_map.iter().map(|(t, f)| (t.clone(), place(f))).collect();
        Ok(Self { files, index: Some(index) })
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.with(name, |_| ()).is_ok()
    }

    /// A tensor of F32, F16 or BF16 as f32, row-major.
    ///
    /// # Errors
    /// [`SourceError::Tensor`] when it is absent, of another shape or type, or holds a value that is
    /// not finite.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, SourceError> {
        let fail = |error: String| SourceError::Tensor { name: name.to_owned(), error };
        let values: Vec<f32> = self.with(name, |view| {
            if view.shape() != shape {
                return Err(fail(format!("shape {:?}, expected {shape:?}", view.shape())));
            }
            let data = view.data();
            let pairs = || data.as_chunks::<2>().0.iter();
            match view.dtype() {
                Dtype::F32 => {
                    Ok(data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
                }
                Dtype::F16 => Ok(pairs().map(|&b| half(u16::from_le_bytes(b))).collect()),
                Dtype::BF16 => {
                    // The upper half of an f32.
                    let wide =
                        |&b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
                    Ok(pairs().map(wide).collect())
                }
                other => Err(fail(format!("type {other:?}, expected F32, F16 or BF16"))),
            }
        })??;
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(fail(format!("value {at} is {}, not a finite number", values[at]))),
            None => Ok(values),
        }
    }

    fn with<T>(
        &self,
        name: &str,
        read: impl FnOnce(safetensors::tensor::TensorView<'_>) -> T,
    ) -> Result<T, SourceError> {
        let fail = |error: String| SourceError::Tensor { name: name.to_owned(), error };
        let file = match &self.index {
            None => 0,
            Some(index) => *index.get(name).ok_or_else(|| fail("absent from the index".into()))?,
        };
        let map = self.files.get(file).ok_or_else(|| fail("its file is absent".into()))?;
        let tensors = SafeTensors::deserialize(map).map_err(|e| fail(e.to_string()))?;
        let view = tensors.tensor(name).map_err(|e| fail(e.to_string()))?;
        Ok(read(view))
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
    use super::half;

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
}
