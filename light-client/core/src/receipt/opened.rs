//! The opened receipt: texts, masks and signed answers, for whoever the user chooses to show them.
//!
//! The lane is exact, so a verifier who has the model needs no tensor: from the texts it recomputes
//! the input of every linear stage, from the recorded seeds both shares, from the weights both
//! products; their digests are what the nodes signed. The file therefore holds 32 bytes of seed and
//! two signatures for each message, instead of a quarter of a megabyte per token.
//!
//! ```text
//! texts ─tokenise─> x ─ seed ─> shares ─ W ─> products ─ digest ─> statement ── signed by A, B
//!                   ▲                            │                    └─ leaf of the commitment
//!                   └────────── y = A + B ───────┴─ ⟨r,y⟩ = ⟨s,x⟩ under the verifier's fresh r
//! ```

use commonware_codec::Encode as _;
use nesa_chain::{action::Action, tx::SignedTx};
use nesa_crypto::sign::Signature;
use nesa_masked::{
    batch::Plan,
    commitment::blinded_root,
    freivalds,
    message::{Request, SeedBytes, SignedCommit, Slot, Statement},
    pack,
    preparation::Preparation,
    share, signing,
    spec::{self, Lane, Stage},
    transcript::Transcript,
};
use nesa_model::{EncoderRun, Model, Step};
use nesa_platform::{random, task};
use nesa_primitives::{Address, Hash, decode_exact};
use nesa_verify::receipt::{Check, Failure, Hex, Report};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use crate::query::{answer_digest, commitment, report::SideName};

/// First field of every opened receipt.
pub const OPENED_FORMAT: &str = "nesa-opened-receipt/1";
/// Longest file accepted, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Leaves of one server's commitment at most.
const MAX_LEAVES: usize = 1 << 20;
/// What an opened receipt does not show, whatever its checks say.
const DOES_NOT_SHOW: [&str; 3] = [
    "that the payment was settled: the payment receipt shows that",
    "that the operators of the two nodes are different people, or did not pool their halves",
    "when the texts were written, or by whom: only that the payer committed to them",
];

/// Why a file is no opened receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenedError {
    /// Too long.
    #[error("the file has {got} bytes, an opened receipt at most {MAX_BYTES}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not JSON of this shape.
    #[error("not an opened receipt: {0}")]
    Json(String),
    /// Another format.
    #[error("format {got:?}, expected {OPENED_FORMAT:?}")]
    Format {
        /// What the file says.
        got: String,
    },
}

/// One server as the opened receipt names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedServer {
    /// Its side.
    pub side: SideName,
    /// Which candidate of the side.
    pub attempt: u8,
    /// Its key.
    pub node: Address,
    /// Its signed commitment, encoded, if it stayed to the end.
    pub commit: Option<Hex>,
    /// The blind of that commitment.
    pub blind: Hash,
    /// Digests of its statements, the leaves of the commitment, in the order answered.
    pub leaves: Vec<Hash>,
}

/// One verified message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedMessage {
    /// Encoded place: pass, tokens, stage, part.
    pub slot: Hex,
    /// The mask's seed, 32 bytes.
    pub seed: Hex,
    /// A's attempt and signature.
    pub a: (u8, Signature),
    /// B's attempt and signature.
    pub b: (u8, Signature),
}

/// A private record of one query.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedReceipt {
    /// [`OPENED_FORMAT`].
    pub format: String,
    /// The chain, as the digest of its trust root.
    pub chain: Hash,
    /// The signed `PayForQuery` transaction.
    pub payment: Hex,
    /// Opens the commitment in it.
    pub salt: Hash,
    /// The prompt.
    pub texts: Vec<String>,
    /// Digest of the answer's vectors.
    pub answer: Hash,
    /// The servers.
    pub servers: Vec<OpenedServer>,
    /// Every verified message, in order of pass, stage and part.
    pub messages: Vec<OpenedMessage>,
}

// It contains the prompt: a stray debug print must not.
impl std::fmt::Debug for OpenedReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedReceipt")
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// What an opened receipt says, once it has been checked.
#[derive(Clone, PartialEq, Serialize)]
pub struct OpenedSummary {
    /// The query.
    pub query: Hash,
    /// The model.
    pub model: Hash,
    /// The prompt.
    pub texts: Vec<String>,
    /// The vectors, recomputed.
    pub vectors: Vec<Vec<f32>>,
    /// Products recomputed and compared with what was signed.
    pub products: usize,
    /// Who signed them.
    pub nodes: Vec<Address>,
}

impl std::fmt::Debug for OpenedSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedSummary").field("query", &self.query).finish_non_exhaustive()
    }
}

impl OpenedReceipt {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        chain: Hash,
        signed: SignedTx,
        salt: Hash,
        texts: Vec<String>,
        transcript: &Transcript,
        answer: Hash,
    ) -> Self {
        let servers = transcript
            .served
            .iter()
            .map(|served| OpenedServer {
                side: served.link.side.into(),
                attempt: served.link.attempt,
                node: served.candidate.node,
                commit: served.commit.as_ref().map(|commit| Hex::from(commit.encode())),
                // Without a commitment nothing would bind these, so they are left out.
                blind: served.commit.map_or(Hash::ZERO, |_| served.blind),
                leaves: served.commit.map_or_else(Vec::new, |_| served.leaves.clone()),
            })
            .chain(transcript.rejected.iter().map(|rejection| OpenedServer {
                side: rejection.link.side.into(),
                attempt: rejection.link.attempt,
                node: rejection.node,
                commit: None,
                blind: Hash::ZERO,
                leaves: Vec::new(),
            }))
            .filter(|server| server.commit.is_some() || signed_one(transcript, server))
            .collect();
        let mut messages: Vec<_> = transcript.opened.iter().collect();
        messages.sort_by_key(|part| (part.slot.pass, part.slot.stage, part.slot.part));
        let messages = messages
            .into_iter()
            .map(|part| OpenedMessage {
                slot: Hex::from(part.slot.encode()),
                seed: Hex::from(part.seed.encode()),
                a: (part.a.link.attempt, part.a.signature),
                b: (part.b.link.attempt, part.b.signature),
            })
            .collect();
        Self {
            format: OPENED_FORMAT.to_owned(),
            chain,
            payment: Hex::from(signed.to_bytes()),
            salt,
            texts,
            answer,
            servers,
            messages,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`OpenedError`] for anything but the JSON of an opened receipt.
    pub fn from_json(text: &str) -> Result<Self, OpenedError> {
        if text.len() > MAX_BYTES {
            return Err(OpenedError::TooLong { got: text.len() });
        }
        let receipt: Self =
            serde_json::from_str(text).map_err(|error| OpenedError::Json(error.to_string()))?;
        if receipt.format != OPENED_FORMAT {
            return Err(OpenedError::Format { got: receipt.format.chars().take(64).collect() });
        }
        Ok(receipt)
    }

    /// The file's text. It contains the prompt.
    ///
    /// # Errors
    /// [`OpenedError::Json`], which a well-formed receipt never gives.
    pub fn to_json(&self) -> Result<String, OpenedError> {
        serde_json::to_string(self).map_err(|error| OpenedError::Json(error.to_string()))
    }

    /// The model that checking this receipt needs, as its payment names it.
    pub fn model(&self) -> Option<Hash> {
        match SignedTx::from_bytes(&self.payment.0).ok()?.tx.action {
            Action::PayForQuery(pay) => Some(pay.model),
            _ => None,
        }
    }

    /// Checks everything again with `model` (weights included) and a fresh r, against the chain
    /// whose trust root has the digest `chain`.
    ///
    /// # Errors
    /// [`Failure`] names the first thing that does not hold.
    pub async fn verify(
        &self,
        chain: &Hash,
        model: &Model,
    ) -> Result<Report<OpenedSummary>, Failure> {
        let mut checks = Vec::new();
        let mut note = |what: String| checks.push(Check { what });
        same("chain", self.chain, *chain)?;
        let signed = SignedTx::from_bytes(&self.payment.0)
            .map_err(|error| Failure::new("payment", error, "a signed transaction"))?;
        same("chain of the payment", signed.tx.chain, *chain)?;
        signed
            .verify()
            .map_err(|error| Failure::new("payment's signature", error, "the payer's"))?;
        let query = signed.id();
        let Action::PayForQuery(pay) = &signed.tx.action else {
            return Err(Failure::new("payment", signed.tx.action.name(), "pay-for-query"));
        };
        same("model", model.digest(), pay.model)?;
        note(format!("{} paid for query {query}", signed.tx.sender));
        same("commitment", commitment(chain, &self.salt, &pay.model, &self.texts), pay.commitment)?;
        note(format!("the payment commits to exactly these {} texts", self.texts.len()));

        let servers = self.check_servers(chain, &query)?;
        let lane = Lane::of_model(model.stages())
            .map_err(|error| Failure::new("model", error, "a model of the masked lane"))?;
        let preparation = Preparation::from_weights(
            pay.model,
            &lane,
            |stage| model.weights(nesa_model::StageId(stage)),
            &mut random::rng(),
        )
        .map_err(|error| Failure::new("weights", error, "those of the model's digest"))?;
        note("the model's weights match its digest and bounds".into());

        let tokens: Vec<_> = self.texts.iter().map(|t| model.tokenizer().encode(t)).collect();
        let lengths: Vec<usize> = tokens.iter().map(|t| t.len()).collect();
        let plan = Plan::new(&lengths)
            .map_err(|error| Failure::new("texts", error, "texts that can be sent"))?;
        let mut messages = self.messages.iter();
        let mut vectors = vec![None; self.texts.len()];
        let mut products = 0;
        for (number, pass) in plan.passes.iter().enumerate() {
            let batch: Vec<_> = pass.members.iter().map(|m| tokens[*m].clone()).collect();
            let real: usize = batch.iter().map(|t| t.len()).sum();
            let mut run = EncoderRun::start(model, &batch)
                .map_err(|error| Failure::new("texts", error, "texts the model takes"))?;
            let output = loop {
                match run.step() {
                    Step::Done(output) => break output,
                    Step::Linear { stage, mut x, .. } => {
                        let place = lane.find(stage.0);
                        let secrets = place.and_then(|(index, _)| preparation.stage(index));
                        let (Some((_, spec)), Some(secrets)) = (place, secrets) else {
                            return Err(Failure::new("stage", stage, "a stage of the model"));
                        };
                        // Padding rows are zero before masking, and were checked like any other.
                        x.resize(pass.tokens as usize * spec.k as usize, 0);
                        let context = StageCheck {
                            chain,
                            query: &query,
                            servers: &servers,
                            weights: model.weights(stage),
                            stage: *spec,
                            pass: number as u32,
                            tokens: pass.tokens,
                        };
                        let mut y = context.products(&x, &mut messages, &mut products)?;
                        if !bool::from(freivalds::accepts(secrets, &x, &y)) {
                            return Err(Failure::new(
                                format!("range and Freivalds check of stage {stage}"),
                                "refused",
                                "accepted under this verifier's own r",
                            ));
                        }
                        y.truncate(real * spec.n as usize);
                        run.resume(y)
                            .map_err(|error| Failure::new("stage", error, "the next product"))?;
                    }
                }
                task::yield_now().await;
            };
            for (member, vector) in pass.members.iter().zip(output) {
                vectors[*member] = Some(vector);
            }
        }
        if messages.next().is_some() {
            return Err(Failure::new("messages", "more than the texts need", "exactly those"));
        }
        note(format!("{products} products were recomputed; each is what its node signed"));
        note("every layer passed the range and Freivalds checks under a fresh r".into());
        let vectors: Vec<_> = vectors.into_iter().flatten().collect();
        same("answer", answer_digest(&pay.model, &vectors), self.answer)?;
        note("the answer is what these layers give".into());
        let summary = OpenedSummary {
            query,
            model: pay.model,
            texts: self.texts.clone(),
            vectors: vectors.iter().map(nesa_model::Embedding::to_f32).collect(),
            products,
            nodes: servers.values().map(|server| server.node).collect(),
        };
        Ok(Report { checks, summary, does_not_show: DOES_NOT_SHOW.to_vec() })
    }
}

/// Whether a server answered one of the verified messages.
fn signed_one(transcript: &Transcript, server: &OpenedServer) -> bool {
    transcript.opened.iter().any(|part| {
        let link = match server.side {
            SideName::A => part.a.link,
            SideName::B => part.b.link,
        };
        link.attempt == server.attempt
    })
}

/// A server whose commitment, if it has one, was checked.
struct CheckedServer {
    node: Address,
    /// Statements it committed to; `None` when it left without a commitment.
    committed: Option<BTreeSet<Hash>>,
}

type Servers = BTreeMap<(SideName, u8), CheckedServer>;

impl OpenedReceipt {
    fn check_servers(&self, chain: &Hash, query: &Hash) -> Result<Servers, Failure> {
        let mut servers = Servers::new();
        for server in &self.servers {
            let committed = match &server.commit {
                None => {
                    // Without a commitment nothing binds these two fields: they must be empty; and
                    // a server that signed nothing at all has no place here.
                    if server.blind != Hash::ZERO || !server.leaves.is_empty() {
                        return Err(Failure::new("leaves", "given", "none without a commitment"));
                    }
                    let signed = self.messages.iter().any(|m| match server.side {
                        SideName::A => m.a.0 == server.attempt,
                        SideName::B => m.b.0 == server.attempt,
                    });
                    if !signed {
                        return Err(Failure::new("servers", "one that signed nothing", "none"));
                    }
                    None
                }
                Some(bytes) => Some(self.check_commit(chain, query, server, &bytes.0)?),
            };
            let key = (server.side, server.attempt);
            if servers.insert(key, CheckedServer { node: server.node, committed }).is_some() {
                return Err(Failure::new("servers", "one twice", "each once"));
            }
        }
        Ok(servers)
    }

    fn check_commit(
        &self,
        chain: &Hash,
        query: &Hash,
        server: &OpenedServer,
        bytes: &[u8],
    ) -> Result<BTreeSet<Hash>, Failure> {
        let commit: SignedCommit = decode_exact(bytes, &())
            .map_err(|error| Failure::new("commitment", error, "a signed commitment"))?;
        let place = (commit.chain, commit.query, SideName::from(commit.side), commit.attempt);
        if place != (*chain, *query, server.side, server.attempt) {
            return Err(Failure::new("commitment", "of another query or part", "this one's"));
        }
        if !signing::commit_is_signed(&commit, &server.node) {
            return Err(Failure::new(
                "commitment's signature",
                "not by the node",
                format!("by {}", server.node),
            ));
        }
        if server.leaves.len() > MAX_LEAVES {
            return Err(Failure::new("leaves", server.leaves.len(), MAX_LEAVES));
        }
        same(
            "root of a commitment",
            blinded_root(chain, &server.blind, &server.leaves),
            commit.blinded_root,
        )?;
        Ok(server.leaves.iter().copied().collect())
    }
}

/// One stage of one pass, as both servers must have computed it.
struct StageCheck<'a> {
    chain: &'a Hash,
    query: &'a Hash,
    servers: &'a Servers,
    weights: &'a [i8],
    stage: Stage,
    pass: u32,
    tokens: u32,
}

impl StageCheck<'_> {
    /// Recomputes both products of every message of the stage, checks the signatures, and gives
    /// their sum, `[tokens, n]`.
    fn products<'m>(
        &self,
        x: &[i32],
        messages: &mut impl Iterator<Item = &'m OpenedMessage>,
        count: &mut usize,
    ) -> Result<Vec<i32>, Failure> {
        let (k, n, bits) = (self.stage.k as usize, self.stage.n as usize, self.stage.share_bits());
        let mut y = Vec::with_capacity(self.tokens as usize * n);
        for part in 0..spec::parts(self.tokens) {
            let place = format!("message {part} of stage {} of pass {}", self.stage.id, self.pass);
            let message =
                messages.next().ok_or_else(|| Failure::new(place.clone(), "absent", "present"))?;
            let slot = Slot { pass: self.pass, tokens: self.tokens, stage: self.stage.id, part };
            if message.slot.0 != slot.encode() {
                return Err(Failure::new(place, "another slot", format!("{slot:?}")));
            }
            let seed: SeedBytes = decode_exact(&message.seed.0, &())
                .map_err(|error| Failure::new(place.clone(), error, "a seed of 32 bytes"))?;
            let rows = slot.rows() as usize;
            let start = part as usize * spec::ROWS_PER_PART as usize * k;
            let x = &x[start..start + rows * k];
            let a = share::conceal(x, &seed.seed(), bits);
            let b = share::expand(&seed.seed(), x.len(), bits);
            let share = Request::Share { slot, share: pack::pack(&a, bits).into() };
            let seed = Request::Seed { slot, seed };
            let y_a = self.product(SideName::A, &message.a, slot, &share, &a)?;
            let y_b = self.product(SideName::B, &message.b, slot, &seed, &b)?;
            y.extend(share::reconstruct(&y_a, &y_b, bits));
            *count += 2;
        }
        debug_assert_eq!(y.len(), self.tokens as usize * n);
        Ok(y)
    }

    /// One server's product, which it must have signed and, if it committed, committed to.
    fn product(
        &self,
        side: SideName,
        signed: &(u8, Signature),
        slot: Slot,
        request: &Request,
        words: &[u32],
    ) -> Result<Vec<u32>, Failure> {
        let (k, n, bits) = (self.stage.k as usize, self.stage.n as usize, self.stage.share_bits());
        let rows = slot.rows() as usize;
        let mut y = vec![0u32; rows * n];
        nesa_kernels::matmul_mask_u32(self.weights, words, n, k, rows, &mut y);
        let mask = pack::mask(bits);
        y.iter_mut().for_each(|value| *value &= mask);
        let (attempt, signature) = signed;
        let what = || format!("{side:?}'s product of stage {} of pass {}", slot.stage, slot.pass);
        let server = self
            .servers
            .get(&(side, *attempt))
            .ok_or_else(|| Failure::new(what(), "by an unknown server", "by one of the servers"))?;
        let statement = Statement {
            query: *self.query,
            side: side.into(),
            attempt: *attempt,
            slot,
            request: request.digest(self.chain),
            product: Statement::product_digest(self.chain, &pack::pack(&y, bits)),
        };
        if !signing::statement_is_signed(&statement, self.chain, &server.node, signature) {
            return Err(Failure::new(
                what(),
                "a signature over something else",
                format!("{}'s signature over the product of its share", server.node),
            ));
        }
        if let Some(committed) = &server.committed
            && !committed.contains(&statement.leaf())
        {
            return Err(Failure::new(what(), "not in the commitment", "one of its leaves"));
        }
        Ok(y)
    }
}

fn same<T: PartialEq + std::fmt::Display>(what: &str, got: T, expected: T) -> Result<(), Failure> {
    if got == expected { Ok(()) } else { Err(Failure::new(what, got, expected)) }
}

#[cfg(all(test, not(target_family = "wasm")))]
#[path = "opened_tests.rs"]
mod tests;
