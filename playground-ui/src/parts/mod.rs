//! Parts that several pages share.

mod badge;
mod dialog;
mod hash;
mod icon;
mod ladder;
mod markdown;
mod palette;
mod problem;
mod rail;
mod send;
mod spark;
mod toast;

pub(crate) use badge::{StateBadge, state_class, state_icon, state_word};
pub(crate) use dialog::Confirm;
pub(crate) use hash::{HashText, Prose, copy};
pub(crate) use icon::icon;
pub(crate) use ladder::Ladder;
pub(crate) use markdown::Markdown;
pub(crate) use palette::Palette;
pub(crate) use problem::ProblemNote;
pub(crate) use rail::Rail;
pub(crate) use send::{GateLine, Send, gate_words};
pub(crate) use spark::{Sparkline, SplitBar};
pub(crate) use toast::Toasts;
