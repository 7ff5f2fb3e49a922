//! A client that complains of a good product, so that tests can show what it gains: nothing.
//!
//! Compiled only with the feature `dishonest`, which no program of the project turns on; the browser
//! tests build a worker of their own with it. The lie is the most favourable one: it comes at the
//! last stage of a pass, when the accused has done all the work of an unpaid increment.

use nesa_chain::Side;

use super::{blame::Verdict, types::Link};

/// The server that is accused: the first candidate of side A.
const ACCUSED: Link = Link { side: Side::A, attempt: 0 };

/// Whether the client now pretends that a product was wrong.
pub(super) fn complains(a: Link, stage: usize, stages: usize) -> bool {
    a == ACCUSED && stage + 1 == stages
}

/// What the client makes of both pleas: whatever they show, the accused is guilty.
pub(super) fn condemn(a: Link, honest: Verdict) -> Verdict {
    match honest {
        Verdict::Open => Verdict::Open,
        _ if a == ACCUSED => Verdict::Guilty { a: true, b: false },
        other => other,
    }
}
