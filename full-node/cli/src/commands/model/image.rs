//! Grey pictures from files: PGM, or numbers in rows.

use std::path::Path;

use anyhow::Result;

use crate::failure::{Code, Failure};

/// Largest file that is read, and largest side of a picture.
const MAX_BYTES: u64 = 1 << 26;
const MAX_SIDE: usize = 1 << 12;

/// A grey picture, row by row, values up to `max`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    width: usize,
    height: usize,
    max: u32,
    values: Vec<u32>,
}

/// Reads a picture; numbers in rows are values up to `max`.
pub(super) fn read(path: &Path, max: u8) -> Result<Picture> {
    let unusable = |why: String| {
        let message = format!("{} is no picture: {why}", path.display());
        Failure::new(Code::Usage, message, "give a PGM (P2 or P5), or rows of numbers as text")
    };
    let size = std::fs::metadata(path).map_err(|e| unusable(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(unusable(format!("{size} bytes, at most {MAX_BYTES} are read")).into());
    }
    let bytes = std::fs::read(path).map_err(|e| unusable(e.to_string()))?;
    Ok(parse(&bytes, max.into()).map_err(unusable)?)
}

fn parse(bytes: &[u8], max: u32) -> Result<Picture, String> {
    match bytes {
        [b'P', kind @ (b'2' | b'5'), rest @ ..] => pgm(rest, *kind == b'5'),
        _ => text(bytes, max),
    }
}

/// Netpbm's grey map: width, height, greatest value, then the values as numbers or bytes.
fn pgm(mut rest: &[u8], binary: bool) -> Result<Picture, String> {
    let mut header = [0u32; 3];
    for field in &mut header {
        *field = number(&mut rest).ok_or("its header is cut")?;
    }
    let [width, height, max] = header;
    if !(1..=65535).contains(&max) {
        return Err(format!("a greatest value of {max}"));
    }
    let (width, height) = (width as usize, height as usize);
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(format!("{width} × {height}"));
    }
    let count = width * height;
    let values: Vec<u32> = if binary {
        let bytes = rest.get(1..).unwrap_or_default();
        let wide = if max > 255 { 2 } else { 1 };
        let value = |b: &[u8]| b.iter().fold(0, |v, &b| v << 8 | u32::from(b));
        bytes.chunks_exact(wide).take(count).map(value).collect()
    } else {
        (0..count).map_while(|_| number(&mut rest)).collect()
    };
    whole(Picture { width, height, max, values })
}

/// The next number, after white space and comments.
fn number(rest: &mut &[u8]) -> Option<u32> {
    loop {
        match rest {
            [b'#', ..] => *rest = &rest[rest.iter().position(|&b| b == b'\n')?..],
            [b, after @ ..] if b.is_ascii_whitespace() => *rest = after,
            _ => break,
        }
    }
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Rows of numbers.
fn text(bytes: &[u8], max: u32) -> Result<Picture, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "neither PGM nor text")?;
    let separator = |c: char| c.is_whitespace() || c == ',';
    let row = |line: &str| -> Result<Vec<u32>, String> {
        let fields = line.split(separator).filter(|f| !f.is_empty());
        fields.map(|f| f.parse().map_err(|_| format!("{f:?} is no number"))).collect()
    };
    let rows: Vec<Vec<u32>> =
        text.lines().filter(|l| !l.trim().is_empty()).map(row).collect::<Result<_, _>>()?;
    let width = rows.first().map_or(0, Vec::len);
    if width == 0 || width > MAX_SIDE || rows.len() > MAX_SIDE {
        return Err(format!("{width} × {}", rows.len()));
    }
    if let Some(row) = rows.iter().find(|r| r.len() != width) {
        return Err(format!("rows of {width} and of {}", row.len()));
    }
    whole(Picture { width, height: rows.len(), max, values: rows.concat() })
}

fn whole(picture: Picture) -> Result<Picture, String> {
    let (got, expected) = (picture.values.len(), picture.width * picture.height);
    if got != expected {
        return Err(format!("{got} values of {expected}"));
    }
    match picture.values.iter().find(|&&v| v > picture.max) {
        Some(got) => Err(format!("a value of {got}, at most {} allowed", picture.max)),
        None => Ok(picture),
    }
}

impl Picture {
    /// The picture in `width × height` values up to `max`: each the mean of what it covers.
    pub(super) fn fit(
        &self,
        width: usize,
        height: usize,
        max: u8,
        invert: bool,
    ) -> Result<Vec<u8>> {
        if self.width < width || self.height < height {
            let message = format!("a picture of {} × {}", self.width, self.height);
            let next = format!("the model looks at {width} × {height}; larger ones are reduced");
            return Err(Failure::new(Code::Usage, message, next).into());
        }
        let mut fitted = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let rows = y * self.height / height..(y + 1) * self.height / height;
                let columns = x * self.width / width..(x + 1) * self.width / width;
                let count = (rows.len() * columns.len()) as u64;
                let row = |y: usize| &self.values[y * self.width..][columns.clone()];
                let sum: u64 = rows.flat_map(row).map(|&v| u64::from(v)).sum();
                let one = u64::from(self.max) * count;
                let value = ((sum * u64::from(max) + one / 2) / one) as u8;
                fitted.push(if invert { max - value } else { value });
            }
        }
        Ok(fitted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use super::*;

    #[test]
    fn pictures_of_every_kind() {
        let expected = Picture { width: 3, height: 2, max: 9, values: vec![0, 1, 2, 3, 4, 9] };
        assert_eq!(parse(b"0 1 2\n3,4,9\n\n", 9).unwrap(), expected);
        assert_eq!(
            parse(b"P2 # grey\n3 2\n# made by hand\n9\n0 1 2 3 4 9", 255).unwrap(),
            expected
        );
        assert_eq!(parse(b"P5 3 2 9\n\x00\x01\x02\x03\x04\x09", 255).unwrap(), expected);
        let wide = parse(b"P5 1 1 1000\n\x03\xe8", 255).unwrap();
        assert_eq!(wide.values, [1000]);
    }

    #[test]
    fn damage_is_named() {
        let refused = |bytes: &[u8], what: &str| {
            let error = parse(bytes, 16).unwrap_err();
            assert!(error.contains(what), "{error}, expected {what}");
        };
        refused(b"", "0 × 0");
        refused(b"1 2\n3", "rows of 2 and of 1");
        refused(b"1 2\n3 17", "a value of 17");
        refused(b"1 x", "no number");
        refused(b"\xff\xfe", "neither");
        refused(b"P5 3", "header is cut");
        refused(b"P5 3 2 9\n\x00", "1 values of 6");
        refused(b"P5 3 2 9\n\x00\x00\x00\x00\x00\x0a", "a value of 10");
        refused(b"P2 99999999 99999999 9\n1", "99999999");
        refused(b"P2 4294967296 1 9\n1", "header is cut");
        refused(b"P5 1 1 0\n\x00", "greatest value");
    }

    #[test]
    fn larger_pictures_are_reduced() {
        let picture = parse(b"0 0 8 8\n0 0 8 8\n4 4 0 0\n4 4 0 4\n", 8).unwrap();
        assert_eq!(picture.fit(2, 2, 16, false).unwrap(), [0, 16, 8, 2]);
        assert_eq!(picture.fit(2, 2, 16, true).unwrap(), [16, 0, 8, 14]);
        assert!(picture.fit(5, 2, 16, false).is_err());
        assert_eq!(picture.fit(3, 4, 8, false).unwrap()[..3], [0, 0, 8]);
    }
}
