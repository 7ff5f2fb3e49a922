//! Who made s, and how far that word has been tested.

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, Read, ReadExt, Write};
use nesa_primitives::Address;

use crate::client::Candidate;

/// Where the s of a preparation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This client folded it from weights that it checked against the model digest.
    Local,
    /// Two nodes of different operators each folded a share of r, and s is the sum of what they
    /// said. Neither may serve as A or B under this preparation.
    Thin {
        /// The two.
        preparers: [Candidate; 2],
    },
}

impl Origin {
    /// The nodes that prepared; none if this client did.
    pub const fn preparers(&self) -> &[Candidate] {
        match self {
            Self::Local => &[],
            Self::Thin { preparers } => preparers,
        }
    }

    /// Whether s is two strangers' word.
    pub const fn is_thin(&self) -> bool {
        matches!(self, Self::Thin { .. })
    }

    /// Whether a node, or another of its operator, had part in making s.
    pub fn prepared_by(&self, candidate: &Candidate) -> bool {
        self.preparers()
            .iter()
            .any(|p| p.operator == candidate.operator || p.node == candidate.node)
    }
}

/// What is known of a preparation's s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Made by strangers, and not tested yet.
    Untested,
    /// It agreed with products of random columns, or this client made it.
    Trusted,
    /// It condemned two servers at once: it must not check anything any more.
    Discarded,
}

impl Standing {
    pub(crate) const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Untested,
            1 => Self::Trusted,
            _ => Self::Discarded,
        }
    }
}

/// The sealed form of a thin origin: both preparers, and whether s was tested.
pub(crate) struct SealedOrigin {
    pub(crate) preparers: [Candidate; 2],
    pub(crate) tested: bool,
}

impl Write for SealedOrigin {
    fn write(&self, buf: &mut impl BufMut) {
        for preparer in &self.preparers {
            preparer.node.write(buf);
            preparer.operator.write(buf);
        }
        self.tested.write(buf);
    }
}

impl EncodeSize for SealedOrigin {
    fn encode_size(&self) -> usize {
        4 * 32 + 1
    }
}

impl Read for SealedOrigin {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let mut candidate = || {
            Ok::<_, Error>(Candidate { node: Address::read(buf)?, operator: Address::read(buf)? })
        };
        let preparers = [candidate()?, candidate()?];
        Ok(Self { preparers, tested: bool::read(buf)? })
    }
}
