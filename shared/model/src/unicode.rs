//! Character folding of BERT: clean, space out ideographs, and if uncased strip accents and lower-case.
//!
//! `BertNormalizer` works character by character except for the canonical reordering of combining
//! marks, nearly all of which it then strips; so a table from one character to its folded form
//! carries the whole of it. The tables are generated from that normaliser, and a test of the
//! compiler crate compares them with it for every character there is.

use crate::unicode_tables::{CONTROLS, DROPPED, MAPPED, MAPPED_LONG, PUNCTUATION, SPACES};

/// First precomposed Hangul syllable, their number, and the Jamo they decompose to (Unicode 3.12).
const HANGUL_FIRST: u32 = 0xAC00;
const HANGUL_COUNT: u32 = 11_172;
const JAMO: [u32; 3] = [0x1100, 0x1161, 0x11A7];
const JAMO_TRAILING: u32 = 28;
const JAMO_VOWELS: u32 = 21;

/// Set on entries of `MAPPED` whose value is a place and length in `MAPPED_LONG`.
const LONG: u32 = 1 << 31;

/// The folded form of one character: up to five characters.
pub(crate) struct Folded {
    chars: [char; 6],
    len: u8,
    at: u8,
}

impl Folded {
    fn empty() -> Self {
        Self { chars: [' '; 6], len: 0, at: 0 }
    }

    fn push(&mut self, c: char) {
        if let Some(slot) = self.chars.get_mut(usize::from(self.len)) {
            *slot = c;
            self.len += 1;
        }
    }
}

impl Iterator for Folded {
    type Item = char;
    fn next(&mut self) -> Option<char> {
        if self.at == self.len {
            return None;
        }
        self.at += 1;
        Some(self.chars[usize::from(self.at) - 1])
    }
}

/// Folds one character. Whitespace becomes a single space; dropped characters fold to nothing. If
/// `cased`, whatever else there is stays as it is.
pub(crate) fn fold(c: char, cased: bool) -> Folded {
    let mut out = Folded::empty();
    if c.is_ascii() {
        match c {
            '\t' | '\n' | '\x0b' | '\x0c' | '\r' if !in_ranges(DROPPED, c as u32) => out.push(' '),
            c if c.is_ascii_control() => {}
            c => out.push(if cased { c } else { c.to_ascii_lowercase() }),
        }
        return out;
    }
    let code = c as u32;
    if in_ranges(if cased { CONTROLS } else { DROPPED }, code) {
        return out;
    }
    if in_ranges(SPACES, code) {
        out.push(' ');
        return out;
    }
    let ideograph = is_ideograph(code);
    if ideograph {
        out.push(' ');
    }
    if cased {
        out.push(c);
    } else if (HANGUL_FIRST..HANGUL_FIRST + HANGUL_COUNT).contains(&code) {
        let index = code - HANGUL_FIRST;
        let trailing = index % JAMO_TRAILING;
        push_code(&mut out, JAMO[0] + index / (JAMO_VOWELS * JAMO_TRAILING));
        push_code(&mut out, JAMO[1] + index / JAMO_TRAILING % JAMO_VOWELS);
        if trailing > 0 {
            push_code(&mut out, JAMO[2] + trailing);
        }
    } else {
        match MAPPED.binary_search_by_key(&code, |e| e.0) {
            Err(_) => out.push(c),
            Ok(i) if MAPPED[i].1 & LONG == 0 => push_code(&mut out, MAPPED[i].1),
            Ok(i) => {
                let (start, len) =
                    (MAPPED[i].1 as usize & 0xffff, MAPPED[i].1 as usize >> 16 & 0x7f);
                for &code in MAPPED_LONG.get(start..start + len).unwrap_or(&[]) {
                    push_code(&mut out, code);
                }
            }
        }
    }
    if ideograph {
        out.push(' ');
    }
    out
}

/// Whether a folded character stands alone as a token of its own.
pub(crate) fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { in_ranges(PUNCTUATION, c as u32) }
}

fn push_code(out: &mut Folded, code: u32) {
    if let Some(c) = char::from_u32(code) {
        out.push(c);
    }
}

fn in_ranges(ranges: &[(u32, u32)], code: u32) -> bool {
    let i = ranges.partition_point(|r| r.1 < code);
    ranges.get(i).is_some_and(|r| r.0 <= code)
}

/// The CJK blocks that BERT spaces out.
fn is_ideograph(code: u32) -> bool {
    matches!(
        code,
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}
