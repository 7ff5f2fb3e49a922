//! The checks of a payment receipt, in the order of its [picture](super).

use super::{
    COMMITTEE_DOES_NOT_SHOW, CertifiedPart, Check, DOES_NOT_SHOW, Failure, NOT_RETURNED,
    PaymentReceipt, Report, ShardSummary, StatePart, committee as shards, money,
};
use crate::{
    certificate::{Finalization, Verifier, decode_finalization, decode_header},
    state, transaction,
};
use commonware_codec::{Decode, Encode};
use nesa_chain::{
    action::{Action, PayForQuery, Side},
    committee::{self, Committee, ShardCommittee},
    header::Header,
    keys,
    params::Params,
    query::{CommitRecord, QueryRecord, Sealed, SharesPaid, Status},
    record::{ModelRecord, NodeRecord, Snapshot},
    trust::TrustRoot,
    tx::SignedTx,
};
use nesa_primitives::{Address, Amount, Hash, Verdict, decode_exact};
use rand_core::CryptoRng;
use serde::Serialize;

/// What a payment receipt says, once it has been checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PaymentSummary {
    /// The query.
    pub query: Hash,
    /// Who paid.
    pub payer: Address,
    /// The model asked.
    pub model: Hash,
    /// Its name on the chain.
    pub model_name: String,
    /// Who owns it and gets the royalties.
    pub model_owner: Address,
    /// Block that holds the payment.
    pub included_height: u64,
    /// Time of that block, ms since the Unix epoch.
    pub included_ms: u64,
    /// View whose seed drew the nodes.
    pub draw_view: u64,
    /// Everyone who could have been asked, in order of attempt; none in a committee's query.
    pub seats: Vec<SeatSummary>,
    /// The shards of a committee's query and their replicas; none in a masked one.
    pub shards: Vec<ShardSummary>,
    /// What was escrowed.
    pub escrow: Amount,
    /// What the nodes, the owner, the validators and the treasury got.
    pub paid: Amount,
    /// What is not spent and still held, when the record was written before the deadline: it returns
    /// to the payer after `deadline_ms`, less what is still claimed or burned until then.
    pub held: Amount,
    /// When the rest returns, block time in ms since the Unix epoch: the deadline, or the close of a
    /// committee's query.
    pub deadline_ms: u64,
    /// What was burned; `None` before the deadline.
    pub burned: Option<Amount>,
    /// What returned to the payer; `None` before the deadline.
    pub returned: Option<Amount>,
    /// Block of the last payment, or of the settlement.
    pub final_height: u64,
}

/// One candidate of the committee and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeatSummary {
    /// Which half.
    pub side: Side,
    /// Which candidate of the side.
    pub attempt: u8,
    /// The node.
    pub node: Address,
    /// Who ran it when the snapshot was taken.
    pub operator: Address,
    /// Its blinded commitment, if it served.
    pub blinded_root: Option<Hash>,
    /// Padded tokens it committed to.
    pub served_tokens: u32,
    /// What the payer's vouchers granted it.
    pub claimed: Amount,
}

pub(super) type Held<T> = Result<T, Failure>;

/// Checks a payment receipt against `trust` alone. `rng` weighs the batched certificate check.
///
/// # Errors
/// [`Failure`] names the first thing that does not hold, with got and expected.
pub fn verify(
    receipt: &PaymentReceipt,
    trust: &TrustRoot,
    rng: &mut impl CryptoRng,
) -> Result<Report<PaymentSummary>, Failure> {
    let mut checks = Vec::new();
    let mut note = |what: String| checks.push(Check { what });
    let expected = trust.to_hex();
    let got = hex::encode(&receipt.trust_root.0);
    same("trust root", got, expected)?;
    let verifier = Verifier::new(trust)
        .map_err(|error| Failure::new("trust root", error, "a usable group key"))?;
    note(format!("the record belongs to chain {} ({})", trust.chain_id, trust.digest()));

    // The payment and its block.
    let signed = SignedTx::from_bytes(&receipt.payment.0)
        .map_err(|error| Failure::new("payment", error, "a signed transaction"))?;
    same("chain of the payment", signed.tx.chain, trust.digest())?;
    signed
        .verify()
        .map_err(|error| Failure::new("payment's signature", error, "the payer's signature"))?;
    let Action::PayForQuery(pay) = &signed.tx.action else {
        return Err(Failure::new("payment", signed.tx.action.name(), "pay-for-query"));
    };
    note(format!("{} signed the payment for query {}", signed.tx.sender, signed.id()));
    let block = certified_chain(&verifier, rng, &receipt.inclusion)?;
    note(format!("block {} is final under the trust root's group key", block.height()));
    held(transaction::verify_inclusion(&block, &signed, &receipt.inclusion_proof.0))?;
    note(format!("the payment is in block {}", block.height()));

    // The escrow.
    let id = signed.id();
    let query_key = keys::query(&id);
    let (at, values) = proven(&verifier, rng, "open query", &receipt.opened, &[query_key])?;
    let opened: QueryRecord = decoded("open query", values.first())?;
    check_opening(&opened, &signed, pay, &block, at.height())?;
    note(format!(
        "{} were escrowed, to be settled at {} ms",
        opened.escrow.in_nes(),
        opened.deadline_ms
    ));

    // The draw.
    held(verifier.verify_seed(opened.draw_view, &receipt.seed.0))?;
    let snapshot_key = keys::snapshot(opened.snapshot_epoch);
    let (_, values) = proven(&verifier, rng, "snapshot", &receipt.snapshot, &[snapshot_key])?;
    let snapshot: Snapshot = decoded("snapshot", values.first())?;
    same("epoch of the snapshot", snapshot.epoch, opened.snapshot_epoch)?;
    let drawn = Drawn::of(&receipt.seed.0, &opened, &snapshot)?;
    note(format!(
        "the committee follows from the seed of view {} and the snapshot of epoch {} ({} nodes)",
        opened.draw_view,
        snapshot.epoch,
        snapshot.set.entries.len()
    ));

    // The payments, and the settlement if the deadline has passed.
    let wanted = [query_key, keys::params(), keys::model(&opened.model)];
    let (at, values) = proven(&verifier, rng, "paid query", &receipt.paid, &wanted)?;
    let last: QueryRecord = decoded("paid query", values.first())?;
    let params: Params = decoded("parameters", values.get(1))?;
    let model: ModelRecord = decoded("model", values.get(2))?;
    check_nodes(&verifier, rng, receipt, &drawn.nodes(&last))?;
    note("the nodes' records are in the state".into());
    check_commits(&opened, &last, &drawn, &trust.digest(), at.height())?;
    note("every commitment is by a drawn node, every voucher by the payer's key".into());
    last.sealed.iter().flat_map(shards::notes).for_each(&mut note);
    let paid = money::check_payments(&last, &params)?;
    let final_height = match last.status.settlement() {
        Some(settlement) => {
            money::check_settlement(&last, settlement, &params, at.height())?;
            note(format!(
                "settled in block {}: {paid} paid, {} burned, {} returned, which is the whole escrow",
                settlement.height, settlement.burned, settlement.returned
            ));
            settlement.height
        }
        None => {
            let claims = last.commits.iter().filter_map(|commit| commit.claim.as_ref());
            let sealed = last.sealed.iter().flat_map(|sealed| &sealed.commits);
            let heights = claims.map(|claim| claim.height);
            let heights = heights.chain(sealed.filter_map(|commit| commit.paid_height()));
            let Some(height) = heights.max() else {
                return Err(Failure::new("state of the query", "open, nobody paid", "paid"));
            };
            note(format!(
                "{paid} paid by block {height}; {} still held, which returns after {} ms less what \
                 is claimed or burned until then",
                last.returnable(),
                money::close_ms(&last, &params)
            ));
            height
        }
    };
    let settlement = last.status.settlement();
    let mut does_not_show = match &last.sealed {
        None => DOES_NOT_SHOW.to_vec(),
        Some(_) => COMMITTEE_DOES_NOT_SHOW.to_vec(),
    };
    if settlement.is_none() {
        does_not_show.push(NOT_RETURNED);
    }

    let summary = PaymentSummary {
        query: id,
        payer: opened.payer,
        model: opened.model,
        model_name: model.name.as_str().to_owned(),
        model_owner: model.owner,
        included_height: opened.included_height,
        included_ms: opened.included_ms,
        draw_view: opened.draw_view,
        seats: drawn.pair().map_or_else(Vec::new, |drawn| seats(drawn, &last)),
        shards: last.sealed.as_ref().map(shards::summaries).unwrap_or_default(),
        escrow: opened.escrow,
        paid,
        held: last.returnable(),
        deadline_ms: money::close_ms(&last, &params),
        burned: settlement.map(|settlement| settlement.burned),
        returned: settlement.map(|settlement| settlement.returned),
        final_height,
    };
    Ok(Report { checks, summary, does_not_show })
}

/// Who could have been asked.
enum Drawn {
    Pair(Committee),
    Shards(ShardCommittee),
}

impl Drawn {
    /// Drawn again.
    fn of(seed: &[u8], opened: &QueryRecord, snapshot: &Snapshot) -> Held<Self> {
        let (id, set, model) = (&opened.id, &snapshot.set, &opened.model);
        let drawn = match &opened.sealed {
            None => committee::derive(seed, id, set, model, opened.named.as_ref()).map(Self::Pair),
            Some(sealed) => {
                committee::derive_shards(seed, id, set, model, &sealed.terms).map(Self::Shards)
            }
        };
        drawn.map_err(|error| Failure::new("committee", error, "a committee from the snapshot"))
    }

    fn pair(&self) -> Option<&Committee> {
        match self {
            Self::Pair(drawn) => Some(drawn),
            Self::Shards(_) => None,
        }
    }

    /// Whose records the receipt holds.
    fn nodes(&self, last: &QueryRecord) -> Vec<Address> {
        match self {
            Self::Pair(drawn) => drawn.a.iter().chain(&drawn.b).map(|seat| seat.node).collect(),
            Self::Shards(_) => last.sealed.as_ref().map(shards::nodes).unwrap_or_default(),
        }
    }
}

pub(super) fn same<T: PartialEq + std::fmt::Display>(what: &str, got: T, expected: T) -> Held<()> {
    if got == expected { Ok(()) } else { Err(Failure::new(what, got, expected)) }
}

fn held<T>(verdict: Verdict<T>) -> Held<T> {
    match verdict {
        Verdict::Valid(value) => Ok(value),
        Verdict::Invalid { what, got, expected } => Err(Failure::new(what, got, expected)),
        Verdict::Undecided { missing } => {
            Err(Failure::new("completeness", format!("{missing} is missing"), "all of it"))
        }
    }
}

fn header_of(part: &CertifiedPart) -> Held<(Header, Option<Finalization>)> {
    let header = decode_header(&part.header.0)
        .map_err(|error| Failure::new("header", error, "a canonical header"))?;
    let finalization = part
        .finalization
        .as_ref()
        .map(|bytes| decode_finalization(&bytes.0))
        .transpose()
        .map_err(|error| Failure::new("certificate", error, "a canonical certificate"))?;
    Ok((header, finalization))
}

/// The first header of a chain that ends in its only certificate.
fn certified_chain(
    verifier: &Verifier,
    rng: &mut impl CryptoRng,
    parts: &[CertifiedPart],
) -> Held<Header> {
    /// Blocks finalized through a descendant are rare, and the descendant is near.
    const MOST: usize = 64;
    let items: Vec<_> = parts.iter().take(MOST).map(header_of).collect::<Held<_>>()?;
    let certificates: Vec<usize> =
        items.iter().enumerate().filter_map(|(i, item)| item.1.is_some().then_some(i)).collect();
    if parts.is_empty() || parts.len() > MOST || certificates != [parts.len() - 1] {
        return Err(Failure::new(
            "headers of the payment's block",
            format!("{} headers with certificates at {certificates:?}", parts.len()),
            format!("1 to {MOST} headers, the last one certified"),
        ));
    }
    for pair in items.windows(2) {
        held(verifier.verify_link(&pair[0].0, &pair[1].0))?;
    }
    for verdict in verifier.verify_batch(rng, &items) {
        held(verdict)?;
    }
    match items.into_iter().next() {
        Some((header, _)) => Ok(header),
        None => Err(Failure::new("headers of the payment's block", "none", "at least one")),
    }
}

/// The header and the values proven against its state root, one per key.
fn proven(
    verifier: &Verifier,
    rng: &mut impl CryptoRng,
    what: &str,
    part: &StatePart,
    wanted: &[Hash],
) -> Held<(Header, Vec<Option<Vec<u8>>>)> {
    let (header, finalization) = header_of(&part.at)?;
    let finalization =
        finalization.ok_or_else(|| Failure::new(what, "no certificate", "a certificate"))?;
    held(verifier.verify_header(rng, &header, &finalization))?;
    same(&format!("entries of {what}"), part.entries.len(), wanted.len())?;
    let mut values = Vec::with_capacity(wanted.len());
    for (entry, key) in part.entries.iter().zip(wanted) {
        let value = entry.value.as_ref().map(|value| value.0.clone());
        held(state::verify(header.state_root(), key, value.as_deref(), &entry.proof.0))?;
        values.push(value);
    }
    Ok((header, values))
}

fn decoded<T: Decode<Cfg = ()> + Encode>(what: &str, value: Option<&Option<Vec<u8>>>) -> Held<T> {
    let Some(Some(bytes)) = value else {
        return Err(Failure::new(what, "proven absent", "a record"));
    };
    decode_exact(bytes, &()).map_err(|error| Failure::new(what, error, "a canonical record"))
}

/// The record says what the transaction says, and draws where the rules say.
fn check_opening(
    record: &QueryRecord,
    signed: &SignedTx,
    pay: &PayForQuery,
    block: &Header,
    proven_at: u64,
) -> Held<()> {
    same("query of the record", record.id, signed.id())?;
    same("payer", record.payer, signed.tx.sender)?;
    same("model", record.model, pay.model)?;
    same("denomination", record.denom, pay.denom)?;
    same("escrow", record.escrow, pay.max_fee)?;
    same("commitment", record.commitment, pay.commitment)?;
    same("client key", record.client_key, pay.client_key)?;
    same("deadline", record.deadline_ms, pay.deadline_ms)?;
    same("most tokens", record.max_tokens, pay.max_tokens)?;
    same("height of inclusion", record.included_height, block.height())?;
    same("view of inclusion", record.included_view, block.view())?;
    same("time of inclusion", record.included_ms, block.timestamp_ms())?;
    same(
        "draw view",
        Some(record.draw_view).map(|v| v.to_string()).unwrap_or_default(),
        record.included_view.saturating_add(committee::DRAW_DELAY_VIEWS).to_string(),
    )?;
    if record.sealed.as_ref().map(|sealed| &sealed.terms) != pay.terms.as_ref() {
        return Err(Failure::new("terms of the query", "others", "the payment's"));
    }
    if record.named != pay.named || record.lane != pay.lane {
        return Err(Failure::new("named node or lane", "another", "the payment's"));
    }
    if record.verification != pay.verification {
        return Err(Failure::new("verification", "another", "the payment's"));
    }
    if proven_at < record.included_height || !record.status.is_open() {
        return Err(Failure::new(
            "state of the query at its opening",
            format!("{:?} at height {proven_at}", record.status),
            format!("open, at height {} or later", record.included_height),
        ));
    }
    Ok(())
}

fn check_nodes(
    verifier: &Verifier,
    rng: &mut impl CryptoRng,
    receipt: &PaymentReceipt,
    nodes: &[Address],
) -> Held<()> {
    let wanted: Vec<Hash> = nodes.iter().map(keys::node).collect();
    let (_, values) = proven(verifier, rng, "node records", &receipt.nodes, &wanted)?;
    for (node, value) in nodes.iter().zip(&values) {
        // A node that left since the snapshot is proven absent; its seat stays drawn.
        if value.is_some() {
            let record: NodeRecord = decoded("node record", Some(value))?;
            same("node of a record", record.node, *node)?;
        }
    }
    Ok(())
}

/// The last record is the opened one, grown by commits of drawn nodes and their claims.
fn check_commits(
    opened: &QueryRecord,
    last: &QueryRecord,
    drawn: &Drawn,
    chain: &Hash,
    proven_at: u64,
) -> Held<()> {
    let bare = |record: &QueryRecord| QueryRecord {
        committee: None,
        commits: Vec::new(),
        sealed: record.sealed.as_ref().map(|sealed| Sealed::new(sealed.terms.clone())),
        held: Amount::ZERO,
        held_faucet: Amount::ZERO,
        shares_paid: SharesPaid::default(),
        status: Status::Open,
        ..record.clone()
    };
    if bare(opened) != bare(last) {
        return Err(Failure::new("terms of the paid query", "changed", "those of its opening"));
    }
    let drawn = match drawn {
        Drawn::Pair(drawn) => drawn,
        Drawn::Shards(drawn) => {
            let none = || Failure::new("lane of the query", "a masked one", "a committee's");
            if last.committee.is_some() || !last.commits.is_empty() {
                return Err(none());
            }
            return shards::check(
                last,
                last.sealed.as_ref().ok_or_else(none)?,
                drawn,
                chain,
                proven_at,
            );
        }
    };
    if last.committee.as_ref().is_some_and(|committee| committee != drawn) {
        return Err(Failure::new("committee in the record", "another", "the one recomputed"));
    }
    for commit in &last.commits {
        let seat = drawn.seat(commit.side, commit.attempt);
        let expected = seat.map(|seat| (seat.node, seat.operator));
        if expected != Some((commit.node, commit.operator)) {
            return Err(Failure::new(
                "a commitment",
                format!("by node {} of {}", commit.node, commit.operator),
                format!("by the drawn node {expected:?}"),
            ));
        }
        if let Some(claim) = &commit.claim {
            same("query of a voucher", claim.voucher.query, last.id)?;
            same("node of a voucher", claim.voucher.node, commit.node)?;
            claim
                .voucher
                .verify(&last.client_key, chain)
                .map_err(|error| Failure::new("voucher", error, "the payer's signature"))?;
            if claim.height < commit.height || claim.height > proven_at {
                return Err(Failure::new(
                    "height of a claim",
                    claim.height,
                    format!("{} to {proven_at}", commit.height),
                ));
            }
        }
    }
    Ok(())
}

fn seats(drawn: &Committee, last: &QueryRecord) -> Vec<SeatSummary> {
    let mut seats = Vec::new();
    for side in [Side::A, Side::B] {
        for (attempt, seat) in drawn.side(side).iter().enumerate() {
            let commit = last.commits.iter().find(|commit| commit.node == seat.node);
            seats.push(SeatSummary {
                side,
                attempt: attempt as u8,
                node: seat.node,
                operator: seat.operator,
                blinded_root: commit.map(|commit| commit.blinded_root),
                served_tokens: commit.map_or(0, |commit| commit.served_tokens),
                claimed: commit.map_or(Amount::ZERO, CommitRecord::claimed),
            });
        }
    }
    seats
}
