//! The check of a linear stage: every row of y in range, and ⟨r, y⟩ = ⟨s, x⟩ mod p.
//!
//! With r uniform and secret and s = rᵀW, a wrong y passes with probability 1/p for one row
//! (Freivalds 1977), whoever computed it and whoever colluded. A rejected attempt tells the forger
//! one bit, so q attempts succeed with probability at most q/(p − q). The outcome is one
//! [`Choice`]: nothing says which row, which coordinate or which of the two conditions failed.

use subtle::Choice;

use crate::{preparation::StageSecrets, share};

/// Whether `y` (`[rows, n]`) is W·x for `x` (`[rows, k]`), padding rows included.
///
/// Padding rows are checked like any other: if they were not, a server that spoils row j would
/// learn from the abort whether the text is longer than j.
pub fn accepts(secrets: &StageSecrets, x: &[i32], y: &[i32]) -> Choice {
    let stage = &secrets.stage;
    let (k, n) = (stage.k as usize, stage.n as usize);
    let rows = y.len() / n;
    if y.len() != rows * n || x.len() != rows * k {
        return Choice::from(0);
    }
    let mut good = share::within(y, &secrets.bounds);
    for (x, y) in x.chunks_exact(k).zip(y.chunks_exact(n)) {
        let claimed = secrets.r.dot_i32(y, u32::from(stage.row_bound_bits));
        let expected = secrets.s.dot_i32(x, 16);
        good &= claimed.matches(&expected);
    }
    good
}

/// Private blame: whether `full` (`[rows, n]`) is one server's exact product of its own share
/// (`[rows, k]`, each below 2^k), and agrees with the `signed` low words it answered with.
pub fn acquits(secrets: &StageSecrets, share: &[u32], full: &[i64], signed: &[u32]) -> Choice {
    let stage = &secrets.stage;
    let (k, n) = (stage.k as usize, stage.n as usize);
    let rows = share.len() / k;
    if share.len() != rows * k || full.len() != rows * n || signed.len() != full.len() {
        return Choice::from(0);
    }
    let mask = crate::pack::mask(stage.share_bits());
    let low_words = full.iter().zip(signed).all(|(&f, &s)| (f as u32) & mask == s);
    let mut good = Choice::from(u8::from(low_words));
    for (share, full) in share.chunks_exact(k).zip(full.chunks_exact(n)) {
        let claimed = secrets.r.dot_i64(full.iter().copied());
        let expected = secrets.s.dot_i64(share.iter().map(|&v| i64::from(v)));
        good &= claimed.matches(&expected);
    }
    good
}
