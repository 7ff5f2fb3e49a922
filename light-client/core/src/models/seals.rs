//! The secrets that check a model's products, kept under the store's seal: at most one local and one
//! thin preparation of a model, in places and under keys of their own.

use nesa_masked::{origin::Origin, preparation::Preparation, spec::Lane};
use nesa_platform::{random, storage::StorageError};
use nesa_primitives::{Address, Hash};

use super::ModelStore;

/// Where the operators are kept that are not asked to prepare again.
const AVOIDED: &str = "avoided-preparers";
/// Most operators remembered so for a model.
const MAX_AVOIDED: usize = 32;

/// Who made the s of a stored preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This device.
    Local,
    /// Two nodes.
    Thin,
}

impl Kind {
    fn of(origin: &Origin) -> Self {
        if origin.is_thin() { Self::Thin } else { Self::Local }
    }

    /// Where the keys that seal preparations of this kind are kept.
    const fn keys(self) -> &'static str {
        match self {
            Self::Local => "preparation-keys",
            Self::Thin => "thin-preparation-keys",
        }
    }

    fn namespace(self, model: &Hash) -> String {
        match self {
            Self::Local => format!("preparation-{model}"),
            Self::Thin => format!("thin-preparation-{model}"),
        }
    }
}

impl ModelStore {
    /// Whether nothing needs to be downloaded to make `model` ready.
    pub async fn is_warm(&self, model: &Hash) -> bool {
        matches!(self.store.get(&Kind::Local.namespace(model), "0").await, Ok(Some(_)))
    }

    /// Keeps a preparation in the place of its kind, instead of the one there.
    pub(crate) async fn seal(
        &self,
        model: &Hash,
        preparation: &Preparation,
    ) -> Result<(), StorageError> {
        let kind = Kind::of(preparation.origin());
        let namespace = kind.namespace(model);
        let key = self.store.secret_key(kind.keys(), &model.to_string()).await?;
        let blobs = preparation.seal(&key, &mut random::rng());
        // Blob 0 is written last: it is what says that a preparation is complete.
        for (index, blob) in blobs.iter().enumerate().rev() {
            self.store.put(&namespace, &index.to_string(), blob).await?;
        }
        Ok(())
    }

    /// The stored preparation of a kind; `None` when there is none that verifies.
    pub(crate) async fn unseal(
        &self,
        kind: Kind,
        model: &Hash,
        lane: &Lane,
    ) -> Result<Option<Preparation>, StorageError> {
        // One more blob says who prepared, where it was not this device.
        let count = lane.stages().len() + usize::from(kind == Kind::Thin);
        let keys: Vec<String> = (0..count).map(|index| index.to_string()).collect();
        let blobs = self.store.get_many(&kind.namespace(model), &keys).await?;
        let Some(blobs) = blobs.into_iter().map(|blob| blob.map(Vec::from)).collect() else {
            return Ok(None);
        };
        let blobs: Vec<Vec<u8>> = blobs;
        let key = self.store.secret_key(kind.keys(), &model.to_string()).await?;
        match Preparation::unseal(*model, lane, &key, &blobs) {
            Ok(preparation) if Kind::of(preparation.origin()) == kind => Ok(Some(preparation)),
            Ok(_) => Ok(None),
            Err(error) => {
                // Altered or of another version: it is made anew, with a fresh r.
                tracing::warn!(%error, "the stored preparation is not used");
                Ok(None)
            }
        }
    }

    /// Throws the local preparation away, after a blame check showed that s was wrong.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn discard_preparation(&self, model: &Hash) -> Result<(), StorageError> {
        self.discard(Kind::Local, model).await
    }

    /// Throws the preparation of a kind away, with the key that could read it.
    pub(crate) async fn discard(&self, kind: Kind, model: &Hash) -> Result<(), StorageError> {
        let namespace = kind.namespace(model);
        for key in self.store.list(&namespace).await? {
            self.store.delete(&namespace, &key).await?;
        }
        self.store.delete(kind.keys(), &model.to_string()).await
    }

    /// Operators whose preparations of `model` were discarded, oldest first. A wish, not a promise:
    /// it is stored as it is, and whoever can alter it can at most bring a liar back.
    pub(crate) async fn avoided(&self, model: &Hash) -> Result<Vec<Address>, StorageError> {
        let bytes = self.store.get(AVOIDED, &model.to_string()).await?.unwrap_or_default();
        let (words, _) = bytes.as_chunks::<32>();
        Ok(words.iter().map(|word| Address::from(*word)).collect())
    }

    /// Adds operators to those that are not to prepare `model` again, if others can.
    pub(crate) async fn avoid(
        &self,
        model: &Hash,
        operators: impl Iterator<Item = Address>,
    ) -> Result<(), StorageError> {
        let mut all = self.avoided(model).await?;
        for operator in operators {
            if !all.contains(&operator) {
                all.push(operator);
            }
        }
        let kept = &all[all.len().saturating_sub(MAX_AVOIDED)..];
        let bytes: Vec<u8> = kept.iter().flat_map(|operator| operator.0).collect();
        self.store.put(AVOIDED, &model.to_string(), &bytes).await
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
#[allow(clippy::unwrap_used)] // a failed set-up is a failed test
mod tests {
    use super::*;
    use nesa_masked::{
        client::Candidate,
        origin::Standing,
        spec::Stage,
        thin::{Preparing, server},
    };
    use nesa_platform::storage::Store;

    const MODEL: Hash = Hash([7; 32]);

    struct Ones;

    impl nesa_masked::server::Weights for Ones {
        fn weights(&self, _: u16) -> nesa_kernels::Weight<'_> {
            nesa_kernels::Weight::Bytes(&[1; 12])
        }
    }

    fn lane() -> Lane {
        let stage = |id| Stage { id, k: 4, n: 3, input_bits: 8, row_bound_bits: 12 };
        Lane::new(vec![stage(0), stage(1)]).unwrap()
    }

    fn thin() -> Preparation {
        let candidate = |i: u8| Candidate { node: [i; 32].into(), operator: [i + 10; 32].into() };
        let (pair, mut rng) = ([candidate(1), candidate(2)], random::rng());
        let mut client = Preparing::new(Hash::ZERO, MODEL, lane(), pair, &mut rng).unwrap();
        for which in [0, 1] {
            let node = pair[which].node;
            let mut server = server::Session::new(Hash::ZERO, MODEL, node, lane());
            while let Some(frame) = client.next_frame(which) {
                match server.receive(&frame).unwrap() {
                    server::Received::Reply(frame) => client.received(which, &frame).unwrap(),
                    server::Received::Quiet => {}
                    server::Received::Work(job) => {
                        for frame in job.run(&Ones).unwrap().frames() {
                            client.received(which, &frame).unwrap();
                        }
                    }
                }
            }
        }
        client.finish().unwrap()
    }

    #[tokio::test]
    async fn a_thin_preparation_is_kept_beside_the_local_one_and_never_for_it() {
        let models = ModelStore::new(Store::memory());
        let stored = |kind| {
            let models = models.clone();
            async move { models.unseal(kind, &MODEL, &lane()).await.unwrap() }
        };
        models.seal(&MODEL, &thin()).await.unwrap();
        assert!(stored(Kind::Local).await.is_none());
        assert!(!models.is_warm(&MODEL).await);
        let kept = stored(Kind::Thin).await.unwrap();
        assert_eq!((kept.standing(), kept.origin().is_thin()), (Standing::Untested, true));

        let local = Preparation::from_weights(MODEL, &lane(), |_| &[1i8; 12], &mut random::rng());
        models.seal(&MODEL, &local.unwrap()).await.unwrap();
        assert_eq!(stored(Kind::Local).await.unwrap().standing(), Standing::Trusted);
        assert_eq!(stored(Kind::Thin).await.unwrap().standing(), Standing::Untested);
        // Blobs moved from one place to the other do not open there.
        for index in ["0", "1", "2"] {
            let from = Kind::Thin.namespace(&MODEL);
            if let Some(blob) = models.store.get(&from, index).await.unwrap() {
                models.store.put(&Kind::Local.namespace(&MODEL), index, &blob).await.unwrap();
            }
        }
        assert!(stored(Kind::Local).await.is_none());

        models.discard(Kind::Thin, &MODEL).await.unwrap();
        assert!(stored(Kind::Thin).await.is_none());
    }

    #[tokio::test]
    async fn operators_to_avoid_are_remembered_once_and_not_without_end() {
        let models = ModelStore::new(Store::memory());
        let operator = |i: u8| Address::from([i; 32]);
        assert_eq!(models.avoided(&MODEL).await.unwrap(), []);
        for i in 0..=MAX_AVOIDED as u8 {
            models.avoid(&MODEL, [operator(i), operator(i)].into_iter()).await.unwrap();
        }
        let kept = models.avoided(&MODEL).await.unwrap();
        assert_eq!(kept, (1..=MAX_AVOIDED as u8).map(operator).collect::<Vec<_>>());
        assert_eq!(models.avoided(&Hash::ZERO).await.unwrap(), []);
    }
}
