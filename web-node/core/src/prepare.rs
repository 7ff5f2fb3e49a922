//! Serving thin preparations: `/nesa/prepare/1`.
//!
//! A client sends one of two shares of its r, uniform by itself, and gets the share's product with
//! the weights. Nothing here is secret to the node and nothing is paid yet, so the service is
//! bounded: few at once, a number per hour, one stage in memory, a time for the whole.

use crate::{
    admission::{Admission, PreparingPlace},
    fault::Fault,
    metrics::Counters,
    models::Models,
};
use nesa_masked::thin::{
    MAX_FRAME, Refusal,
    server::{self, Received, Session},
};
use nesa_platform::{
    net::{AcceptError, Network, Stream, StreamLimits},
    task::{self, Guard},
    time::{self, Instant},
};
use nesa_primitives::{Address, Hash};
use nesa_wire::Protocol;
use std::{sync::Arc, time::Duration};

/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// A preparation takes no longer than this: 600 MB of shares at 10 MB a second.
const WHOLE: Duration = Duration::from_secs(60);
/// Streams of one client: one preparation, and one that replaces a failed one.
const PER_CLIENT: usize = 2;

/// Everything that serving preparations needs.
#[derive(Clone)]
pub(crate) struct Preparer {
    pub(crate) chain: Hash,
    pub(crate) node: Address,
    pub(crate) models: Arc<Models>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) fault: Option<Fault>,
}

impl Preparer {
    /// Serves until the guard is dropped.
    ///
    /// # Errors
    /// [`AcceptError`] if something else on this network serves preparations already.
    pub(crate) fn serve(self, network: &Network, at_once: u32) -> Result<Guard, AcceptError> {
        // Twice as many streams as places: one that is told "unavailable" needs a stream too.
        let limits = StreamLimits { total: at_once as usize * 2, per_peer: PER_CLIENT };
        let mut incoming = network.accept(Protocol::Prepare, limits)?;
        let task = task::spawn(async move {
            while let Some(stream) = incoming.next().await {
                let preparer = self.clone();
                task::spawn(async move { preparer.answer(stream).await });
            }
        });
        Ok(task.abort_on_drop())
    }

    async fn answer(&self, mut stream: Stream) {
        stream.set_idle(IDLE);
        let peer = stream.peer();
        match time::timeout(WHOLE, self.converse(&mut stream)).await {
            Ok(Ok(())) => Counters::add(&self.counters.preparations, 1),
            Ok(Err(Some(refusal))) => {
                tracing::debug!(%peer, ?refusal, "a preparation is refused");
                // The client may be gone already.
                let _ = stream.send(&server::refuse(refusal)).await;
            }
            Ok(Err(None)) | Err(_) => tracing::debug!(%peer, "a preparation was not finished"),
        }
        let _ = stream.close().await;
    }

    /// `Err(None)` when the client left.
    async fn converse(&self, stream: &mut Stream) -> Result<(), Option<Refusal>> {
        let open = self.receive(stream).await?;
        let model = server::opened_model(&open).map_err(|_| Refusal::Protocol)?;
        let lane = self.models.lane(&model).ok_or(Refusal::Unknown)?;
        let _place: PreparingPlace =
            self.admission.enter_preparation().ok_or(Refusal::Unavailable)?;
        let weights = self.models.get(&model).await.ok_or(Refusal::Unknown)?;
        let weights = weights.map_err(|error| {
            self.counters.problem(&error);
            Refusal::Unavailable
        })?;
        let mut session = Session::new(self.chain, model, self.node, lane);
        let mut frame = open;
        loop {
            match session.receive(&frame).map_err(|error| error.refusal())? {
                Received::Reply(answer) => self.send(stream, &answer).await?,
                Received::Quiet => {}
                Received::Work(job) => {
                    let weights = weights.clone();
                    let began = Instant::now();
                    let done = task::compute(move || job.run(&weights)).await;
                    let busy = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    Counters::add(&self.counters.busy_us, busy);
                    let mut done = done.ok_or(Refusal::Unavailable)?;
                    if let Some(Fault::BendPreparation { column }) = self.fault {
                        done.corrupt(column, 1);
                    }
                    for answer in done.frames() {
                        self.send(stream, &answer).await?;
                    }
                }
            }
            if session.is_over() {
                return Ok(());
            }
            frame = self.receive(stream).await?;
        }
    }

    async fn receive(&self, stream: &mut Stream) -> Result<bytes::Bytes, Option<Refusal>> {
        match stream.recv_up_to(MAX_FRAME).await {
            Ok(Some(frame)) => {
                Counters::add(&self.counters.bytes_in, frame.len() as u64);
                Ok(frame)
            }
            Ok(None) | Err(_) => Err(None),
        }
    }

    async fn send(&self, stream: &mut Stream, frame: &[u8]) -> Result<(), Option<Refusal>> {
        if stream.send(frame).await.is_err() {
            return Err(None);
        }
        Counters::add(&self.counters.bytes_out, frame.len() as u64);
        Ok(())
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
#[allow(clippy::unwrap_used)] // a failed set-up is a failed test
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::models::Source;
    use nesa_masked::{
        Lane,
        client::Candidate,
        origin::Standing,
        thin::{PreparerResponse, Preparing, ThinError, decode_response},
    };
    use nesa_model::ExactModel;
    use nesa_model::toy::{self, ToyConfig};
    use nesa_platform::{net::NetConfig, random};

    const CHAIN: Hash = Hash([1; 32]);

    async fn node(seed: u8, limits: Limits) -> (Network, Guard, ExactModel, Lane) {
        let listen = vec!["/ip4/127.0.0.1/tcp/0/ws".to_owned()];
        let network = NetConfig { listen, ..NetConfig::client([seed; 32]) };
        let network = Network::start(network).await.unwrap();
        let artifact = toy::artifact(&ToyConfig::default()).unwrap();
        let model = ExactModel::open(&artifact).unwrap();
        let lane = Lane::of_model(model.served_stages()).unwrap();
        let counters = Arc::new(Counters::default());
        let preparer = Preparer {
            chain: CHAIN,
            node: network.address(),
            models: Arc::new(Models::new(&[Source::new(Arc::new(artifact))]).await.unwrap()),
            admission: Admission::new(limits, counters.clone()),
            counters,
            fault: None,
        };
        let guard = preparer.serve(&network, limits.preparations).unwrap();
        (network, guard, model, lane)
    }

    async fn open(client: &Network, server: &Network) -> Stream {
        client.dial(&server.listen_addresses()[0]).await.unwrap();
        client.open(server.address(), Protocol::Prepare).await.unwrap()
    }

    /// Two nodes over real streams; then one whose hour is used up, a stranger's model, and noise.
    #[tokio::test]
    async fn two_nodes_prepare_and_say_no_when_they_must() {
        let once = Limits { preparations_per_hour: 1, ..Limits::default() };
        let (first, _serves, model, lane) = node(1, once).await;
        let (second, _serves_too, ..) = node(2, once).await;
        let client = Network::start(NetConfig::client([3; 32])).await.unwrap();
        let servers = [&first, &second];
        let pair =
            servers.map(|server| Candidate { node: server.address(), operator: server.address() });
        let make = || {
            let (lane, mut rng) = (lane.clone(), random::rng());
            Preparing::new(CHAIN, model.digest(), lane, pair, &mut rng).unwrap()
        };
        let mut preparing = make();
        for (which, server) in servers.into_iter().enumerate() {
            let mut stream = open(&client, server).await;
            while let Some(frame) = preparing.next_frame(which) {
                stream.send(&frame).await.unwrap();
            }
            while !preparing.is_complete(which) {
                let frame = stream.recv_up_to(MAX_FRAME).await.unwrap().unwrap();
                preparing.received(which, &frame).unwrap();
            }
        }
        let preparation = preparing.finish().unwrap();
        assert!(preparation.covers(&lane));
        assert_eq!(preparation.standing(), Standing::Untested);

        let mut again = make();
        let mut stream = open(&client, &first).await;
        let answer = stream.ask(&again.next_frame(0).unwrap()).await.unwrap();
        let node = first.address();
        let refusal = Refusal::Unavailable;
        assert_eq!(again.received(0, &answer), Err(ThinError::Refused { node, refusal }));

        let mut rng = random::rng();
        let mut other = Preparing::new(CHAIN, Hash::ZERO, lane.clone(), pair, &mut rng).unwrap();
        for (frame, expected) in [
            (other.next_frame(1).unwrap(), Refusal::Unknown),
            (bytes::Bytes::from_static(&[9; 40]), Refusal::Protocol),
        ] {
            let mut stream = open(&client, &second).await;
            let answer = decode_response(&stream.ask(&frame).await.unwrap()).unwrap();
            assert_eq!(answer, PreparerResponse::Refused(expected));
            assert!(stream.recv().await.unwrap().is_none(), "the stream ends");
        }
    }
}
