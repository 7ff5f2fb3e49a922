//! One component per page.

mod about;
mod block;
mod donate;
mod network;
mod playground;
mod verify;
mod wallet;

pub(crate) use about::About;
pub(crate) use block::Block;
pub(crate) use donate::Donate;
pub(crate) use network::Network;
pub(crate) use playground::{Answer, Playground};
pub(crate) use verify::Verify;
pub(crate) use wallet::Wallet;
