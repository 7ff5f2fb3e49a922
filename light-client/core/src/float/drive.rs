//! The run itself: envelopes to the nodes drawn, spares for those that do not answer, vouchers to those
//! that agree.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use nesa_chain::{
    committee::{Seat, Windows},
    query::QueryRecord,
    voucher::ShardVoucher,
};
use nesa_crypto::SecretKey;
use nesa_platform::{
    net::Stream,
    random,
    time::{self, Instant},
};
use nesa_primitives::{Address, Amount, Hash};
use nesa_sealed::float::{Ask, Client, Event, Purpose, RUN_UNITS, max_frame};
use nesa_wire::Protocol;

use super::{FloatEvent, FloatListener, FloatOutcome, FloatReplaced, FloatReplica, Planned};
use crate::{
    client::lock,
    query::{QueryClient, QueryError},
    replicas::Drawn,
};

/// Time kept before the deadline for commitments to reach a block.
const MARGIN_MS: u64 = 4_000;
/// A node may take so long to open its stream and accept.
const OPEN_LIMIT: Duration = Duration::from_secs(12);

/// An open stream with its session, after the answer.
struct Link {
    client: Client,
    stream: Stream,
    answer: Bytes,
}

impl QueryClient {
    pub(super) async fn run_float(
        &self,
        planned: &Planned,
        record: &QueryRecord,
        client_key: &SecretKey,
        inputs: Bytes,
        listener: &dyn FloatListener,
        judge: impl FnOnce(&[Option<Bytes>]) -> Vec<bool>,
    ) -> Result<FloatOutcome, QueryError> {
        let began = Instant::now();
        let Drawn { drawn, addresses, .. } = self.draw_replicas(record, &planned.terms).await?;
        let chain = self.light().chain();
        let salt = Hash(random::bytes());
        let count = planned.terms.replicas;
        let seats = (0..count).filter_map(|replica| Some((replica, *drawn.seat(0, replica)?)));
        // The candidates after the replicas, in the order drawn: whoever loses its node first takes one.
        let spares = (count..).map_while(|number| Some((number, *drawn.seat(0, number)?)));
        let spares = Mutex::new(spares.collect::<VecDeque<_>>());
        let until = record.deadline_ms.saturating_sub(MARGIN_MS);
        let all = (0..).map_while(|number| drawn.seat(0, number).copied()).collect();
        listener.take(FloatEvent::Drawn { view: record.draw_view, seats: all });
        let (spares, addresses, inputs) = (&spares, &addresses, &inputs);
        let asking = seats.map(|(replica, seat)| async move {
            let (mut at, mut replaced) = ((replica, seat), Vec::new());
            loop {
                let (seat, candidate) = at;
                let (query, model, node) = (record.id, record.model, candidate.node);
                let purpose = Purpose { chain, query, model, node, seat, replica, salt };
                let list = addresses.get(&node).cloned().unwrap_or_default();
                let limit = patience(until, time::now_ms(), !lock(spares).is_empty());
                let asked = self.ask_replica(purpose, list, client_key, inputs.clone());
                let asked = time::timeout(limit, asked).await;
                let lost = match asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                    Ok(link) => {
                        let bytes = link.answer.len();
                        listener.take(FloatEvent::Answered { replica, node, bytes });
                        return (replica, candidate, Ok(link), replaced);
                    }
                    Err(reason) => reason,
                };
                // Taken before the next await: no two places get the same one.
                let spare = lock(spares).pop_front().filter(|_| time::now_ms() < until);
                let Some(spare) = spare else {
                    return (replica, candidate, Err(lost), replaced);
                };
                let Seat { node, operator, .. } = candidate;
                let lost = FloatReplaced { replica, node, operator, reason: lost };
                listener.take(FloatEvent::Replaced(lost.clone()));
                replaced.push(lost);
                at = spare;
            }
        });
        let links = join_all(asking).await;
        let answered_ms = began.elapsed().as_secs_f64() * 1000.0;
        let answers: Vec<Option<Bytes>> = links
            .iter()
            .map(|(_, _, link, _)| link.as_ref().ok().map(|l| l.answer.clone()))
            .collect();
        let agree = judge(&answers);
        let price = record.price_per_token.checked_mul(RUN_UNITS.into()).unwrap_or_default();
        let (mut replicas, mut replaced) = (Vec::new(), Vec::new());
        for (place, (replica, seat, link, lost)) in links.into_iter().enumerate() {
            replaced.extend(lost);
            let agrees = agree.get(place).copied().unwrap_or_default();
            let answer = match link {
                Err(reason) => Err(reason),
                Ok(mut link) => {
                    if agrees {
                        let place = (0, replica);
                        let voucher = ShardVoucher::sign(
                            client_key, &chain, record.id, place, seat.node, price,
                        );
                        if let Some(frame) = link.client.say(&Ask::Voucher(voucher)) {
                            // A node that left has lost its pay.
                            let _ = link.stream.send(&frame).await;
                        }
                    }
                    let _ = link.stream.close().await;
                    Ok(link.answer)
                }
            };
            replicas.push(FloatReplica {
                replica,
                node: seat.node,
                operator: seat.operator,
                agrees: agrees && answer.is_ok(),
                answer,
                revealed: None,
                claimed: Amount::ZERO,
            });
        }
        Ok(FloatOutcome {
            query: record.id,
            model: record.model,
            replicas,
            replaced,
            escrowed: record.escrow,
            deadline_ms: record.deadline_ms,
            answered_ms,
            salt,
            windows: Windows::of(record.deadline_ms, false, &planned.params),
        })
    }

    /// One session, up to its answer.
    async fn ask_replica(
        &self,
        purpose: Purpose,
        addresses: Vec<String>,
        client_key: &SecretKey,
        inputs: Bytes,
    ) -> Result<Link, String> {
        let node = purpose.node;
        let opening = time::timeout(OPEN_LIMIT, self.reach_replica(node, &addresses));
        let mut stream = opening.await.map_err(|elapsed| elapsed.to_string())??;
        // How long a run may take is the query's business.
        stream.set_idle(Duration::from_secs(3600));
        let (mut client, hello) = Client::start(purpose);
        stream.send(&hello).await.map_err(|error| error.to_string())?;
        loop {
            let frame = stream.recv_up_to(max_frame()).await.map_err(|error| error.to_string())?;
            let frame = frame.ok_or("the node closed the stream")?;
            let event = client.receive(&frame, client_key, time::now_ms(), &mut random::rng());
            let send = match event.map_err(|error| error.to_string())? {
                Event::Send(frame) => frame,
                Event::Ready => {
                    let frame = client.say(&Ask::Run(inputs.clone()));
                    frame.ok_or("the inputs are too long to be sent")?
                }
                Event::Ran(answer) => return Ok(Link { client, stream, answer }),
            };
            stream.send(&send).await.map_err(|error| error.to_string())?;
        }
    }

    async fn reach_replica(&self, node: Address, addresses: &[String]) -> Result<Stream, String> {
        let mut reason = "the node has no address".to_owned();
        for address in addresses {
            // The record's addresses are its operator's word; the handshake proves the key.
            match self.network().dial(address).await {
                Ok(reached) if reached == node => {
                    match self.network().open(node, Protocol::Float).await {
                        Ok(stream) => return Ok(stream),
                        Err(error) => reason = error.to_string(),
                    }
                }
                Ok(_) => reason = format!("{address} names another node"),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(reason)
    }
}

/// How long a node is waited for. While there is a spare, half of the time is kept for it.
fn patience(until_ms: u64, now_ms: u64, spare: bool) -> Duration {
    let left = until_ms.saturating_sub(now_ms);
    Duration::from_millis(if spare { left / 2 } else { left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_leaves_time_for_a_spare() {
        let ms = Duration::from_millis;
        assert_eq!(patience(10_000, 0, true), ms(5_000));
        assert_eq!(patience(10_000, 5_000, false), ms(5_000));
        assert_eq!(patience(10_000, 11_000, true), Duration::ZERO);
    }
}
