//! One component per page.

mod about;
mod block;
mod chat;
mod classify;
mod digit;
mod donate;
mod float;
mod network;
mod playground;
mod verify;
mod wallet;

pub(crate) use about::About;
pub(crate) use block::Block;
pub(crate) use chat::{NewChat, Talk};
pub(crate) use classify::{Classify, FoundClass};
pub(crate) use digit::{Digit, ReadDigit};
pub(crate) use donate::Donate;
pub(crate) use float::{Float, Outputs, RunsPrice};
pub(crate) use network::Network;
pub(crate) use playground::{Answer, Playground, list};
pub(crate) use verify::Verify;
pub(crate) use wallet::Wallet;
