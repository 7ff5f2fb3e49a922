//! How a dispute ends, for whom, and on what grounds.

use nesa_primitives::codec_tag;
use serde::{Deserialize, Serialize};

use super::Stage;

/// One of the two parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The first.
    Left,
    /// The second.
    Right,
}

codec_tag!(Side { Left = 0, Right = 1 });

impl Side {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// How a dispute ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// The left party lied, or fell silent.
    LeftLies,
    /// The right party did.
    RightLies,
    /// Both did.
    BothLie,
    /// Nobody is shown to have lied: both fell silent.
    Undecided,
    /// The client did: it signed two different inputs or askings for one token of one shard, or asked for
    /// a token after it had signed that there are no more.
    ClientLies,
    /// Nobody lied as far as both went: there the traces are the same. One goes further, and the other shows
    /// no word of the client that this is the end.
    Lengths,
}

codec_tag!(Ruling {
    LeftLies = 0,
    RightLies = 1,
    BothLie = 2,
    Undecided = 3,
    ClientLies = 4,
    Lengths = 5,
});

impl Ruling {
    pub(super) const fn of(lies: [bool; 2]) -> Self {
        match lies {
            [true, true] => Self::BothLie,
            [true, false] => Self::LeftLies,
            [false, true] => Self::RightLies,
            [false, false] => Self::Undecided,
        }
    }

    /// Whether a party is shown to have lied.
    pub const fn convicts(self, side: Side) -> bool {
        match self {
            Self::BothLie => true,
            Self::LeftLies => matches!(side, Side::Left),
            Self::RightLies => matches!(side, Side::Right),
            Self::Undecided | Self::ClientLies | Self::Lengths => false,
        }
    }
}

/// What a ruling rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grounds {
    /// An opening: whoever ran the dispute has computed the disputed value again.
    Opening,
    /// A party did not answer in time, or neither did.
    Silence,
    /// What the client has signed.
    Receipts,
    /// What the parties said by itself: a row that the model does not have, or one of another form.
    Form,
}

codec_tag!(Grounds { Opening = 0, Silence = 1, Receipts = 2, Form = 3 });

/// A ruling, and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// How the dispute ended.
    pub ruling: Ruling,
    /// What that rests on.
    pub grounds: Grounds,
}

impl Decision {
    pub(super) const fn stage(ruling: Ruling, grounds: Grounds) -> Stage {
        Stage::Done { decision: Self { ruling, grounds } }
    }
}
