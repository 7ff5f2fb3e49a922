//! Samples from NumPy files: bytes, `[samples, …]`.

use std::path::Path;

use super::OnnxError;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 28;

/// Samples of equal size, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    values: Vec<u8>,
    size: usize,
}

impl Samples {
    /// Reads a `.npy` file of unsigned bytes in C order (format versions 1 to 3), whose first dimension
    /// counts the samples.
    ///
    /// # Errors
    /// [`OnnxError`] naming what is not as expected.
    pub fn open(path: &Path) -> Result<Self, OnnxError> {
        let io = |error| OnnxError::Io { path: path.into(), error };
        let got = std::fs::metadata(path).map_err(io)?.len();
        if got > MAX_FILE_BYTES {
            return Err(OnnxError::TooLarge { path: path.into(), got, max: MAX_FILE_BYTES });
        }
        let file = std::fs::read(path).map_err(io)?;
        Self::parse(&file).map_err(|error| OnnxError::Parse { path: path.into(), error })
    }

    fn parse(file: &[u8]) -> Result<Self, String> {
        let rest = file.strip_prefix(b"\x93NUMPY").ok_or("no .npy file")?;
        let (len, rest) = match *rest {
            [1, 0, a, b, ref rest @ ..] => (usize::from(u16::from_le_bytes([a, b])), rest),
            [2 | 3, 0, a, b, c, d, ref rest @ ..] => {
                (u32::from_le_bytes([a, b, c, d]) as usize, rest)
            }
            _ => return Err("an unknown version of .npy".into()),
        };
        let (header, values) = rest.split_at_checked(len).ok_or("cut inside its header")?;
        let header = std::str::from_utf8(header).map_err(|e| e.to_string())?;
        let field =
            |name: &str| header.split_once(&format!("'{name}':")).map(|(_, v)| v.trim_start());
        if !field("descr").is_some_and(|v| v.starts_with("'|u1'") || v.starts_with("'<u1'")) {
            return Err("expected unsigned bytes (dtype uint8)".into());
        }
        if !field("fortran_order").is_some_and(|v| v.starts_with("False")) {
            return Err("expected C order".into());
        }
        let shape = field("shape").and_then(|v| v.strip_prefix('(')?.split_once(')'));
        let sizes: Option<Vec<usize>> = shape.and_then(|(sizes, _)| {
            sizes
                .split(',')
                .map(str::trim)
                .filter(|s| !s.is_empty())
                .map(|s| s.parse().ok())
                .collect()
        });
        let sizes = sizes.filter(|s| !s.is_empty()).ok_or("no shape")?;
        let size = sizes[1..].iter().try_fold(1usize, |all, &v| all.checked_mul(v));
        let size = size.filter(|&s| s > 0).ok_or("samples of no size")?;
        if sizes[0].checked_mul(size) != Some(values.len()) {
            return Err(format!("{} bytes for shape {sizes:?}", values.len()));
        }
        Ok(Self { values: values.to_vec(), size })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values of one.
    pub fn size(&self) -> usize {
        self.size
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.values.chunks_exact(self.size)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;

    fn file(header: &str, values: &[u8]) -> Vec<u8> {
        let len = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), values].concat()
    }

    #[test]
    fn samples_or_what_is_wrong() {
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 3), }\n";
        let samples = Samples::parse(&file(header, &[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!((samples.len(), samples.size()), (2, 3));
        assert_eq!(samples.iter().nth(1).unwrap(), [4, 5, 6]);
        let labels = Samples::parse(&file(&header.replace("(2, 1, 3)", "(2,)"), &[7, 8])).unwrap();
        assert_eq!((labels.len(), labels.size()), (2, 1));

        let refused = |file: &[u8], what: &str| {
            let error = Samples::parse(file).unwrap_err();
            assert!(error.contains(what), "{error}, expected {what}");
        };
        refused(&file(header, &[1, 2, 3, 4, 5]), "5 bytes");
        refused(&file(&header.replace("|u1", "<f4"), &[0; 24]), "uint8");
        refused(&file(&header.replace("False", "True"), &[0; 6]), "C order");
        refused(&file(&header.replace("(2, 1, 3)", "()"), &[]), "no shape");
        refused(&file(&header.replace("(2, 1, 3)", "(2, 0)"), &[]), "no size");
        refused(
            &file(&header.replace("(2, 1, 3)", "(2, 9999999999999, 9999999999999)"), &[]),
            "no size",
        );
        refused(&file(header, &[])[..20], "cut");
        refused(b"\x89PNG", "no .npy");
    }
}
