//! The two records of a query.
//!
//! [`PaymentReceipt`] is public and shows who was drawn, who committed and who was paid;
//! [`OpenedReceipt`] is private, exists only by explicit consent, contains the prompt, and lets
//! anyone with the model check every layer again. Neither holds r or s.

mod opened;

pub use nesa_verify::receipt::{PaymentReceipt, PaymentSummary, Report};
pub use opened::{OPENED_FORMAT, OpenedError, OpenedReceipt, OpenedSummary};
