//! A whole network on one machine: its directory, its genesis, its processes.

pub(crate) mod layout;
pub(crate) mod lock;
pub(crate) mod ports;
pub(crate) mod scenario;
pub(crate) mod setup;
pub(crate) mod supervisor;
