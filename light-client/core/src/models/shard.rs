//! Parts of models: a range of layers for a node that serves it, the files about text for a client that asks.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use nesa_model::{
    Header,
    decoder::{DecoderModel, Shard},
    layout::TensorKind,
    manifest::Manifest,
};
use nesa_platform::task;
use nesa_primitives::Hash;

use super::{LoadListener, Meter, ModelStore, ModelStoreError, PieceSource};
use crate::query::engine::TextFiles;

impl ModelStore {
    /// The layers `layers` of a decoder, weights included, and nothing else of it: from this device's
    /// store, and what is missing from the sources, several pieces at once, each checked and kept. An
    /// interrupted fetch goes on where it stopped.
    ///
    /// # Errors
    /// [`ModelStoreError`].
    pub async fn shard(
        &self,
        model: &Hash,
        layers: Range<usize>,
        sources: &[Arc<dyn PieceSource>],
        listener: &dyn LoadListener,
    ) -> Result<DecoderModel, ModelStoreError> {
        let header = self.header(model, sources).await?;
        let mut shard = Shard::new(header.clone(), layers)?;
        let total = shard.total_bytes() + header.bytes().len();
        let mut meter = Meter { done: header.bytes().len() as u64, total: total as u64, listener };
        for range in runs(shard.missing().collect()) {
            self.read(
                &header,
                range,
                sources,
                &mut meter,
                |piece| Ok(shard.insert_checked(piece)?),
            )
            .await?;
        }
        Ok(task::compute(move || DecoderModel::open_shard(&shard)).await?)
    }

    /// A decoder's header and its files about text: all that a client of the sealed lane needs of the
    /// model.
    ///
    /// # Errors
    /// [`ModelStoreError`].
    pub async fn text_files(
        &self,
        model: &Hash,
        sources: &[Arc<dyn PieceSource>],
    ) -> Result<(Arc<Header>, TextFiles), ModelStoreError> {
        let header = self.header(model, sources).await?;
        let Manifest::Decoder(manifest) = header.manifest().clone() else {
            let (got, expected) = (header.manifest().family(), "decoder");
            return Err(nesa_model::ModelError::Family { got, expected }.into());
        };
        let absent = || nesa_model::ModelError::Absent("tokenizer");
        let files = TextFiles {
            model: *model,
            tokenizer: self
                .tensor(&header, TensorKind::Tokenizer, sources)
                .await?
                .ok_or_else(absent)?,
            template: self.tensor(&header, TensorKind::Template, sources).await?,
            vocab: manifest.config.vocab,
            start: manifest.special.start,
            ends: manifest.special.ends,
        };
        Ok((header, files))
    }

    /// The bytes of one tensor, and no more pieces than hold it; `None` if it is empty or not there.
    async fn tensor(
        &self,
        header: &Arc<Header>,
        kind: TensorKind,
        sources: &[Arc<dyn PieceSource>],
    ) -> Result<Option<Bytes>, ModelStoreError> {
        let tensor = header.layout().tensor(kind).filter(|tensor| !tensor.range().is_empty());
        let Some(tensor) = tensor else { return Ok(None) };
        let range = tensor.range();
        let chunks = &header.layout().chunks;
        let first = chunks.partition_point(|c| c.range.end <= range.start);
        let end = chunks.partition_point(|c| c.range.start < range.end);
        let mut bytes = Vec::with_capacity(range.len());
        let mut meter = Meter { done: 0, total: range.len() as u64, listener: &|_| {} };
        self.read(header, first + 1..end + 1, sources, &mut meter, |piece| {
            let chunk = &chunks[piece.index() - 1].range;
            let from = range.start.max(chunk.start) - chunk.start;
            let to = range.end.min(chunk.end) - chunk.start;
            bytes.extend_from_slice(&piece.bytes()[from..to]);
            Ok(())
        })
        .await?;
        Ok(Some(bytes.into()))
    }
}

/// Rising indices as ranges.
fn runs(indices: Vec<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for index in indices {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn indices_join_into_runs() {
        assert_eq!(runs(vec![1, 2, 3, 7, 9, 10]), [1..4, 7..8, 9..11]);
        assert!(runs(Vec::new()).is_empty());
    }
}
