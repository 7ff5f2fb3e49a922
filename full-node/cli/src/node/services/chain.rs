//! `/nesa/chain/1`: headers, state with proofs, transactions and new heads for light clients.
//!
//! A peer that asks too much is told so and its stream is closed; nothing it sends can make this
//! process hold more than one frame per stream, and the number of streams is bounded.

use std::{sync::Arc, time::Instant};

use commonware_codec::Encode as _;
use futures::StreamExt as _;
use nesa_chain::tx::SignedTx;
use nesa_platform::net::{Incoming, Stream, StreamLimits};
use nesa_primitives::{Address, decode_exact};
use nesa_wire::chain::{Limits, MAX_HEADERS, MAX_KEYS, Refusal, Request, Response};

use super::{
    faucet::{Faucet, FaucetError},
    forger::Forger,
    limiter::{Limiter, Rate},
};
use crate::node::source::{Chain, ChainError};

/// Streams served at once.
pub(crate) const STREAMS: StreamLimits = StreamLimits { total: 512, per_peer: 24 };
/// A light client catching up asks for about 20 units a second; a page that polls, for a few.
const RATE: Rate = Rate { burst: 2_000.0, per_second: 300.0 };

/// The service of one validator.
pub(crate) struct ChainService {
    chain: Chain,
    faucet: Option<Faucet>,
    /// Only in a rehearsal.
    forger: Option<Forger>,
    limiter: Limiter<Address>,
}

impl ChainService {
    pub(crate) fn new(chain: Chain, faucet: Option<Faucet>, forger: Option<Forger>) -> Arc<Self> {
        Arc::new(Self { chain, faucet, forger, limiter: Limiter::new(RATE) })
    }

    /// Serves until the network stops.
    pub(crate) async fn run(self: Arc<Self>, mut incoming: Incoming) {
        while let Some(stream) = incoming.next().await {
            tokio::spawn(self.clone().converse(stream));
        }
    }

    async fn converse(self: Arc<Self>, mut stream: Stream) {
        let peer = stream.peer();
        while let Ok(Some(frame)) = stream.recv().await {
            let response = match decode_exact::<Request>(&frame, &Limits::default()) {
                Err(error) => {
                    // A peer that speaks another language is not worth a second frame.
                    let refusal = Response::refused(Refusal::Invalid, error.to_string());
                    let _ = stream.send(&refusal.encode()).await;
                    return;
                }
                Ok(request) if !self.limiter.take(peer, cost(&request), Instant::now()) => {
                    Response::refused(Refusal::Busy, "too many requests; slow down")
                }
                Ok(Request::Subscribe) => return self.feed(stream).await,
                Ok(request) => self.answer(request).await,
            };
            if stream.send(&response.encode()).await.is_err() {
                return;
            }
        }
    }

    /// Sends every new finalised head until either side closes.
    async fn feed(&self, mut stream: Stream) {
        let mut heads = self.chain.heads();
        while let Some(head) = heads.next().await {
            let head = match &self.forger {
                Some(forger) => forger.head(head),
                None => head,
            };
            if stream.send(&Response::Head(head).encode()).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, request: Request) -> Response {
        match self.try_answer(request).await {
            Ok(response) => match &self.forger {
                Some(forger) => forger.spoil(response),
                None => response,
            },
            Err(ChainError::Unavailable(reason)) => Response::refused(Refusal::Unavailable, reason),
            Err(ChainError::Refused(reason)) => Response::refused(Refusal::Rejected, reason),
        }
    }

    async fn try_answer(&self, request: Request) -> Result<Response, ChainError> {
        Ok(match request {
            Request::Status => self.chain.status().await?,
            Request::Headers { from, max } => {
                let max = usize::from(max).min(MAX_HEADERS);
                Response::Headers(self.chain.headers(from, max).await?)
            }
            Request::State { keys } if keys.is_empty() || keys.len() > MAX_KEYS => {
                Response::refused(Refusal::Invalid, format!("1 to {MAX_KEYS} keys"))
            }
            Request::State { keys } => Response::State(self.chain.state(keys).await?),
            Request::Submit { transaction } => match SignedTx::from_bytes(&transaction) {
                Ok(tx) => Response::Submitted { id: self.chain.submit(tx).await? },
                Err(error) => Response::refused(Refusal::Invalid, error.to_string()),
            },
            Request::TxStatus { id } => Response::TxStatus(self.chain.transaction(id).await?),
            Request::Seed { view } => {
                let view = self.forger.as_ref().map_or(view, |forger| forger.view(view));
                Response::Seed(self.chain.seed(view).await?)
            }
            Request::Block { height } => Response::Block(self.chain.block(height).await?),
            Request::Faucet { address, denom } => match &self.faucet {
                None => Response::refused(Refusal::Unavailable, "this node has no faucet"),
                Some(faucet) => match faucet.fund(&self.chain, address, denom).await {
                    Ok(id) => Response::Funded { id },
                    Err(FaucetError::Chain(error)) => return Err(error),
                    Err(refused) => Response::refused(Refusal::Busy, refused.to_string()),
                },
            },
            // Handled by the conversation, which then has no other answers.
            Request::Subscribe => Response::refused(Refusal::Invalid, "already subscribed"),
        })
    }
}

/// Units a request uses of a peer's bucket, by how much work and how many bytes it makes.
fn cost(request: &Request) -> f64 {
    match request {
        Request::Status | Request::Seed { .. } => 1.0,
        Request::TxStatus { .. } => 2.0,
        Request::Headers { max, .. } => 1.0 + f64::from(*max) / 16.0,
        Request::State { keys } => 1.0 + keys.len() as f64 / 2.0,
        Request::Submit { .. } => 4.0,
        Request::Block { .. } => 8.0,
        Request::Subscribe => 16.0,
        Request::Faucet { .. } => 32.0,
    }
}
