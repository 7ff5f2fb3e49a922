//! Private blame: who lied, judged from each server's full product of its own share.

use nesa_chain::Side;

use crate::{
    freivalds,
    message::{Request, Slot},
    opened::SignedProduct,
    pack,
    preparation::StageSecrets,
    share::{self, Share},
    spec::Stage,
};

/// One server's part of a blame in progress.
pub(crate) struct Suspect {
    /// What it was sent.
    pub(crate) request: Request,
    /// What it signed.
    pub(crate) signed: SignedProduct,
    pub(crate) plea: Plea,
}

/// What a suspect says for itself.
pub(crate) enum Plea {
    Awaited,
    /// The full product, `[rows, n]`.
    Full(Vec<i64>),
    /// It left, or answered with something else.
    Silent,
}

pub(crate) struct Blame {
    pub(crate) slot: Slot,
    pub(crate) a: Suspect,
    pub(crate) b: Suspect,
    /// A new preparation has been asked for, since neither could be acquitted under this one.
    pub(crate) repreparing: bool,
}

/// What the two pleas show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not both have answered yet.
    Open,
    /// These lied; the other did not.
    Guilty { a: bool, b: bool },
    /// Nobody who answered could be acquitted: either all lied, or s is wrong.
    Suspicious,
}

impl Blame {
    pub(crate) fn suspect(&mut self, side: Side) -> &mut Suspect {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// Judges under `secrets`. `fresh` says that these secrets were made after the products they
    /// judge, from weights checked again, so that both may be guilty.
    pub(crate) fn judge(&self, secrets: &StageSecrets, fresh: bool) -> Verdict {
        let stage = &secrets.stage;
        let acquitted = |suspect: &Suspect| match &suspect.plea {
            Plea::Awaited => None,
            Plea::Silent => Some(false),
            Plea::Full(full) => Some(acquits(secrets, stage, suspect, full)),
        };
        let (Some(a), Some(b)) = (acquitted(&self.a), acquitted(&self.b)) else {
            return Verdict::Open;
        };
        let answered = [&self.a, &self.b].iter().any(|s| matches!(s.plea, Plea::Full(_)));
        if !a && !b && answered && !fresh {
            return Verdict::Suspicious;
        }
        Verdict::Guilty { a: !a, b: !b }
    }
}

fn acquits(secrets: &StageSecrets, stage: &Stage, suspect: &Suspect, full: &[i64]) -> bool {
    let rows = suspect.request.slot().rows() as usize;
    let (inputs, outputs) = (rows * stage.k as usize, rows * stage.n as usize);
    let bits = stage.share_bits();
    let share = match &suspect.request {
        Request::Share { share, .. } => match pack::unpack(share, inputs, bits) {
            Ok(words) => Share::new(words),
            Err(_) => return false,
        },
        Request::Seed { seed, .. } => share::expand(&seed.seed(), inputs, bits),
    };
    let Ok(signed) = pack::unpack(&suspect.signed.values, outputs, bits) else { return false };
    freivalds::acquits(secrets, &share, full, &signed).into()
}
