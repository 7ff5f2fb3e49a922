//! Clients and nodes in memory: any cut and any number of replicas give the text of one machine, and
//! whoever lies, leaves or begs is dealt with.

mod float;
pub(crate) mod harness;
mod hostile;
mod messages;
mod writing;
