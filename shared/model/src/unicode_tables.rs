//! Generated character data; see `unicode.rs`.

pub(crate) const DROPPED: &[(u32, u32)] = &[(0, 8), (11, 12), (14, 31), (127, 159)];
pub(crate) const SPACES: &[(u32, u32)] = &[(160, 160)];
pub(crate) const PUNCTUATION: &[(u32, u32)] = &[(161, 161)];
pub(crate) const MAPPED: &[(u32, u32)] = &[];
pub(crate) const MAPPED_LONG: &[u32] = &[];
