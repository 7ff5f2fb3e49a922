//! What special tokens are called while a template runs.

use super::{ChatError, ChatLimits};

/// Two of Unicode's noncharacters, which no text for interchange contains.
const OPEN: char = '\u{FDD0}';
const CLOSE: char = '\u{FDD1}';

/// Whether a text could be taken for a stand-in.
pub(super) fn reserved(text: &str) -> bool {
    text.contains([OPEN, CLOSE])
}

/// The special tokens of a model, by name.
#[derive(Clone, Debug)]
pub(super) struct StandIns(Vec<String>);

impl StandIns {
    /// # Errors
    /// [`ChatError`] for too many names, or one that looks like a stand-in.
    pub(super) fn new(names: Vec<String>, limits: &ChatLimits) -> Result<Self, ChatError> {
        let (got, max) = (names.len(), limits.max_special_tokens);
        if got > max {
            return Err(ChatError::TooMuch { what: "special tokens", got, max });
        }
        if names.iter().any(|n| reserved(n)) {
            return Err(ChatError::Reserved("a special token"));
        }
        Ok(Self(names))
    }

    /// The stand-in of the special token of an index.
    pub(super) fn of_index(index: usize) -> String {
        format!("{OPEN}{index}{CLOSE}")
    }

    /// The stand-in of a special token; the name itself if it is none.
    pub(super) fn of_name(&self, name: &str) -> String {
        let index = self.0.iter().position(|n| n == name);
        index.map_or_else(|| name.to_owned(), Self::of_index)
    }

    /// A text with names replaced, at each place the longest.
    pub(super) fn replace(&self, text: &str) -> String {
        let present: Vec<_> =
            self.0.iter().enumerate().filter(|(_, n)| !n.is_empty() && text.contains(*n)).collect();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let here = present.iter().filter(|(_, n)| rest.starts_with(n.as_str()));
            match here.max_by_key(|(_, n)| n.len()) {
                Some((index, name)) => {
                    out.push_str(&Self::of_index(*index));
                    rest = &rest[name.len()..];
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }

    /// A special token whose name stands in the ordinary text of a rendered chat.
    pub(super) fn named_in(&self, rendered: &str) -> Result<Option<&str>, ChatError> {
        for piece in pieces(rendered, self.0.len()) {
            let Piece::Text(text) = piece? else { continue };
            if let Some(name) = self.0.iter().find(|n| !n.is_empty() && text.contains(*n)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The text with names again.
    pub(super) fn restore(&self, rendered: &str) -> Result<String, ChatError> {
        let mut out = String::with_capacity(rendered.len());
        for piece in pieces(rendered, self.0.len()) {
            match piece? {
                Piece::Text(text) => out.push_str(text),
                Piece::Special(index) => out.push_str(&self.0[index]),
            }
        }
        Ok(out)
    }

    /// The names.
    pub(super) fn names(&self) -> &[String] {
        &self.0
    }
}

/// A part of a rendered chat.
enum Piece<'a> {
    Text(&'a str),
    /// An index below the number of names.
    Special(usize),
}

/// The parts of a rendered chat; an error for stand-ins that a template has cut.
fn pieces(mut rest: &str, count: usize) -> impl Iterator<Item = Result<Piece<'_>, ChatError>> {
    let cut = || ChatError::Failed("a special token is cut to pieces".into());
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = rest.find([OPEN, CLOSE]).unwrap_or(rest.len());
        if at > 0 {
            let text;
            (text, rest) = rest.split_at(at);
            return Some(Ok(Piece::Text(text)));
        }
        let (digits, after) =
            rest.strip_prefix(OPEN).and_then(|r| r.split_once(CLOSE)).unwrap_or_default();
        rest = after;
        let index = digits.parse().ok().filter(|&i: &usize| i < count && digits == i.to_string());
        Some(index.map(Piece::Special).ok_or_else(cut))
    })
}
