//! Models whose pieces are read when they are needed: a shard reads its own, once and checked.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nesa_model::artifact::{ChunkError, PieceError, Pieces};
use nesa_model::decoder::toy::{self, ToyDecoder};
use nesa_model::decoder::{DecoderModel, Shard, ShardError, served_stages};
use nesa_model::manifest::WeightForm;
use nesa_model::{Artifact, Header};
use proptest::prelude::*;

/// A model that is not held, with a piece that is not what it was.
struct Elsewhere {
    artifact: Artifact,
    changed: Option<usize>,
    read: Mutex<Vec<usize>>,
}

impl Elsewhere {
    fn new(artifact: &Artifact, changed: Option<usize>) -> Self {
        Self { artifact: artifact.clone(), changed, read: Mutex::default() }
    }
}

impl Pieces for Elsewhere {
    fn header(&self) -> &Arc<Header> {
        self.artifact.header()
    }

    fn read(&self, index: usize) -> Result<Bytes, PieceError> {
        self.read.lock().unwrap().push(index);
        let mut bytes = self.artifact.piece(index).unwrap().to_vec();
        if self.changed == Some(index) {
            bytes[0] ^= 1;
        }
        Ok(bytes.into())
    }
}

fn artifact(tied: bool, form: WeightForm) -> Artifact {
    let toy = ToyDecoder { d_model: 256, d_ff: 640, tied, ..ToyDecoder::default() };
    toy::artifact_of(&toy, form).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_shard_reads_its_own_pieces(from in 0usize..3, count in 1usize..=3, tied: bool, packed: bool) {
        let layers = from..(from + count).min(3);
        let form = if packed { WeightForm::Nibbles } else { WeightForm::Bytes };
        let artifact = artifact(tied, form);
        let source = Elsewhere::new(&artifact, None);
        let shard = Shard::of_pieces(&source, layers.clone()).unwrap();
        let wanted: BTreeSet<usize> =
            Shard::new(artifact.header().clone(), layers.clone()).unwrap().missing().collect();
        let read = source.read.lock().unwrap().clone();
        prop_assert_eq!(read.len(), wanted.len(), "each once");
        prop_assert_eq!(read.iter().copied().collect::<BTreeSet<_>>(), wanted.clone());
        let bytes: usize = read.iter().map(|&p| artifact.piece(p).unwrap().len()).sum();
        prop_assert_eq!(bytes, shard.total_bytes());

        // The same as of a model that is held.
        let held = Shard::of_pieces(&artifact, layers.clone()).unwrap();
        let models = [&shard, &held].map(|shard| DecoderModel::open_shard(shard).unwrap());
        for spec in models[0].stages() {
            let [a, b] = [&models[0], &models[1]].map(|m| m.weights(spec.id).bytes(spec.k));
            prop_assert_eq!(a, b);
        }
        let manifest = artifact.header().manifest().decoder().unwrap();
        prop_assert_eq!(served_stages(manifest), models[0].served_stages());

        // A changed piece is found if it is the shard's, and not asked for otherwise.
        for index in 1..artifact.header().piece_count() {
            match Shard::of_pieces(&Elsewhere::new(&artifact, Some(index)), layers.clone()) {
                Ok(_) => prop_assert!(!wanted.contains(&index)),
                Err(ShardError::Piece(PieceError::Chunk(ChunkError::Hash { index: got, .. }))) => {
                    prop_assert!(wanted.contains(&index) && got == index);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn whole_models_are_read_whole() {
    let artifact = artifact(false, WeightForm::Bytes);
    let read = Artifact::of_pieces(&Elsewhere::new(&artifact, None)).unwrap();
    assert_eq!(read.to_file(), artifact.to_file());
    for index in 1..artifact.header().piece_count() {
        let failed = Artifact::of_pieces(&Elsewhere::new(&artifact, Some(index))).unwrap_err();
        assert!(matches!(failed, PieceError::Chunk(ChunkError::Hash { .. })), "{failed}");
    }
    // One that is held is not copied.
    let again = Artifact::of_pieces(&artifact).unwrap();
    assert_eq!(again.payload().as_ptr(), artifact.payload().as_ptr());
}
