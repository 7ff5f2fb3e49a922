//! The parts of a payment receipt and their JSON.

use super::{MAX_RECEIPT_BYTES, PAYMENT_FORMAT};
use nesa_primitives::Hash;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// Bytes that are lower-case hex in JSON; upper case is refused, so that bytes have one spelling.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hex({} bytes)", self.0.len())
    }
}

impl<T: AsRef<[u8]>> From<T> for Hex {
    fn from(bytes: T) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.bytes().any(|c| c.is_ascii_uppercase()) {
            return Err(D::Error::custom("hex is written in lower case"));
        }
        hex::decode(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A header and, where it has its own, its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedPart {
    /// The encoded header.
    pub header: Hex,
    /// The encoded finalization certificate.
    pub finalization: Option<Hex>,
}

/// One entry of the state with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryPart {
    /// The value; `null` where absence is proven.
    pub value: Option<Hex>,
    /// The encoded proof.
    pub proof: Hex,
}

/// Entries of the state at one final header. Which keys they stand for follows from their place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatePart {
    /// The header whose state root the proofs end in; always with its own certificate.
    pub at: CertifiedPart,
    /// The entries, in the order the receipt's field says.
    pub entries: Vec<EntryPart>,
}

/// A public record of one paid query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentReceipt {
    /// [`PAYMENT_FORMAT`].
    pub format: String,
    /// The trust root it belongs to. The verifier compares it with its own and trusts only that.
    pub trust_root: Hex,
    /// The signed `PayForQuery` transaction.
    pub payment: Hex,
    /// The block that holds it, then its descendants up to the first with a certificate.
    pub inclusion: Vec<CertifiedPart>,
    /// Merkle proof of the transaction in that block.
    pub inclusion_proof: Hex,
    /// The query's record while it was open.
    pub opened: StatePart,
    /// Seed of the draw view.
    pub seed: Hex,
    /// The snapshot drawn from.
    pub snapshot: StatePart,
    /// The records of the candidates, A's first, in order of attempt; in a committee's query of the nodes
    /// that committed, in that order, each once.
    pub nodes: StatePart,
    /// The query's record after its payments, or after its settlement; the chain's parameters; the
    /// model's record.
    pub paid: StatePart,
}

/// Why a file is no payment receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Longer than [`MAX_RECEIPT_BYTES`].
    #[error("the file has {got} bytes, a receipt at most {MAX_RECEIPT_BYTES}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not JSON of this shape.
    #[error("not a payment receipt: {0}")]
    Json(String),
    /// Another format.
    #[error("format {got:?}, expected {PAYMENT_FORMAT:?}")]
    Format {
        /// What the file says.
        got: String,
    },
}

impl PaymentReceipt {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ReceiptError`] for anything but the JSON of a payment receipt.
    pub fn from_json(text: &str) -> Result<Self, ReceiptError> {
        if text.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLong { got: text.len() });
        }
        let receipt: Self =
            serde_json::from_str(text).map_err(|error| ReceiptError::Json(error.to_string()))?;
        if receipt.format != PAYMENT_FORMAT {
            return Err(ReceiptError::Format { got: receipt.format.chars().take(64).collect() });
        }
        Ok(receipt)
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`ReceiptError::Json`], which a well-formed receipt never gives.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        serde_json::to_string_pretty(self).map_err(|error| ReceiptError::Json(error.to_string()))
    }

    /// The trust root's digest as the file claims it, for showing before any check.
    pub fn claimed_chain(&self) -> Option<Hash> {
        nesa_primitives::decode_exact::<nesa_chain::trust::TrustRoot>(&self.trust_root.0, &())
            .ok()
            .map(|trust| trust.digest())
    }
}
