//! The secrets that check a model's products, kept under the store's seal.

use nesa_masked::{preparation::Preparation, spec::Lane};
use nesa_platform::{random, storage::StorageError};
use nesa_primitives::Hash;

use super::{ModelStore, ModelStoreError};

/// Where the key that seals preparations is kept.
const KEY_NAMESPACE: &str = "preparation-keys";

fn namespace(model: &Hash) -> String {
    format!("preparation-{model}")
}

impl ModelStore {
    /// Whether nothing needs to be downloaded to make `model` ready.
    pub async fn is_warm(&self, model: &Hash) -> bool {
        matches!(self.store.get(&namespace(model), "0").await, Ok(Some(_)))
    }

    pub(super) async fn seal(
        &self,
        model: &Hash,
        preparation: &Preparation,
    ) -> Result<(), ModelStoreError> {
        let key = self.store.secret_key(KEY_NAMESPACE, &model.to_string()).await?;
        let blobs = preparation.seal(&key, &mut random::rng());
        // Blob 0 is written last: it is what says that a preparation is complete.
        for (index, blob) in blobs.iter().enumerate().rev() {
            self.store.put(&namespace(model), &index.to_string(), blob).await?;
        }
        Ok(())
    }

    /// The stored preparation; `None` when there is none that verifies.
    pub(super) async fn unseal(
        &self,
        model: &Hash,
        lane: &Lane,
    ) -> Result<Option<Preparation>, ModelStoreError> {
        let keys: Vec<String> = (0..lane.stages().len()).map(|index| index.to_string()).collect();
        let blobs = self.store.get_many(&namespace(model), &keys).await?;
        let Some(blobs) = blobs.into_iter().map(|blob| blob.map(Vec::from)).collect() else {
            return Ok(None);
        };
        let blobs: Vec<Vec<u8>> = blobs;
        let key = self.store.secret_key(KEY_NAMESPACE, &model.to_string()).await?;
        match Preparation::unseal(*model, lane, &key, &blobs) {
            Ok(preparation) => Ok(Some(preparation)),
            Err(error) => {
                // Altered or of another version: it is made anew, with a fresh r.
                tracing::warn!(%error, "the stored preparation is not used");
                Ok(None)
            }
        }
    }

    /// Throws the preparation away, after a blame check showed that s was wrong.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn discard_preparation(&self, model: &Hash) -> Result<(), StorageError> {
        let namespace = namespace(model);
        for key in self.store.list(&namespace).await? {
            self.store.delete(&namespace, &key).await?;
        }
        self.store.delete(KEY_NAMESPACE, &model.to_string()).await
    }
}
