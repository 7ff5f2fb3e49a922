//! Validators of a rehearsal that are honest in consensus and lie to light clients.
//!
//! Only `--scenario forger` makes them. Each kind of lie has its own validator, so that a client
//! meets one after another, drops each for its own reason, and works through the one that is left.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_chain::trust::TrustRoot;
use nesa_consensus::dealer::{self, Dealt};
use nesa_platform::random;
use nesa_primitives::Hash;
use nesa_verify::certificate::decode_header;
use nesa_wire::chain::{CertifiedHeader, Response};

/// Validators of the stranger's group.
const STRANGERS: u32 = 4;

/// A way to lie about the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgery {
    /// Headers that tell of other transactions, under the certificates of the true ones.
    Header,
    /// True headers, certified by a group that is not this network's.
    Certificate,
    /// For the seed of a view, that of the view before: it would draw other nodes.
    Seed,
}

/// One lying chain service.
pub(crate) struct Forger {
    forgery: Forgery,
    trust: TrustRoot,
    strangers: Dealt,
}

impl Forger {
    /// A forger for the chain of `trust`.
    pub(crate) fn new(forgery: Forgery, trust: TrustRoot) -> Result<Self> {
        let strangers = dealer::deal(STRANGERS, random::rng()).context("cannot deal keys")?;
        Ok(Self { forgery, trust, strangers })
    }

    /// The view whose seed is given when that of `view` is asked for.
    pub(crate) fn view(&self, view: u64) -> u64 {
        match self.forgery {
            Forgery::Seed => view.saturating_sub(1),
            Forgery::Header | Forgery::Certificate => view,
        }
    }

    /// The answer as this forger gives it.
    pub(crate) fn spoil(&self, response: Response) -> Response {
        match response {
            Response::Headers(headers) => {
                Response::Headers(headers.into_iter().map(|header| self.head(header)).collect())
            }
            Response::State(mut answer) => {
                let head = CertifiedHeader {
                    header: answer.header,
                    finalization: Some(answer.finalization),
                };
                let head = self.head(head);
                answer.header = head.header;
                answer.finalization = head.finalization.unwrap_or_default();
                Response::State(answer)
            }
            Response::Block(Some(mut block)) => {
                block.head = self.head(block.head);
                Response::Block(Some(block))
            }
            other => other,
        }
    }

    /// A head as this forger gives it.
    pub(crate) fn head(&self, head: CertifiedHeader) -> CertifiedHeader {
        let forged = match self.forgery {
            Forgery::Header => self.retold(&head),
            Forgery::Certificate => self.recertified(&head),
            Forgery::Seed => None,
        };
        forged.unwrap_or(head)
    }

    fn retold(&self, head: &CertifiedHeader) -> Option<CertifiedHeader> {
        let mut header = decode_header(&head.header).ok()?;
        header.fields.tx_root = Hash::of_bytes("forged", &self.trust.digest(), &head.header);
        Some(CertifiedHeader { header: header.encode(), finalization: head.finalization.clone() })
    }

    fn recertified(&self, head: &CertifiedHeader) -> Option<CertifiedHeader> {
        let header = decode_header(&head.header).ok()?;
        let certificate = self.strangers.certify(&self.trust, &header).ok()?;
        let finalization: Option<Bytes> = Some(certificate.encode());
        Some(CertifiedHeader { header: head.header.clone(), finalization })
    }
}
