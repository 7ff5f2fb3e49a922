//! Decoding what peers send, and refusals under other types.

use commonware_codec::Encode as _;
use nesa_primitives::Verdict;
use nesa_verify::certificate::{decode_finalization, decode_header};
use nesa_wire::chain::CertifiedHeader;

use crate::sync::Certified;

/// Decodes a header and its certificate as a peer sent them.
pub(super) fn certified(
    header: &[u8],
    finalization: Option<&[u8]>,
) -> Result<Certified, Verdict<()>> {
    let malformed = |what: &'static str, error: nesa_primitives::DecodeError| Verdict::Invalid {
        got: error.to_string(),
        expected: "canonical bytes".into(),
        what,
    };
    let header = decode_header(header).map_err(|error| malformed("header", error))?;
    let finalization = finalization
        .map(decode_finalization)
        .transpose()
        .map_err(|error| malformed("certificate", error))?;
    Ok(Certified { header, finalization })
}

pub(super) fn unexpected<T>(expected: &'static str) -> Verdict<T> {
    Verdict::Invalid {
        got: "an answer of another kind".into(),
        expected: expected.into(),
        what: "kind of answer",
    }
}

/// A refusal under another type.
pub(super) trait Retype {
    /// Changes the type of what would have been valid.
    fn retype<U>(self) -> Verdict<U>;
}

impl<T> Retype for Verdict<T> {
    fn retype<U>(self) -> Verdict<U> {
        match self {
            // Callers match `Valid` first; this arm only keeps the function total.
            Verdict::Valid(_) => Verdict::Undecided { missing: "a refusal".into() },
            Verdict::Invalid { got, expected, what } => Verdict::Invalid { got, expected, what },
            Verdict::Undecided { missing } => Verdict::Undecided { missing },
        }
    }
}

/// Encodes a certified header for a message.
pub fn to_wire(item: &Certified) -> CertifiedHeader {
    CertifiedHeader {
        header: item.header.encode(),
        finalization: item.finalization.as_ref().map(|f| f.encode()),
    }
}
