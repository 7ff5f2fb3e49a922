//! A model of any family.

use nesa_kernels::Weight;
use nesa_primitives::Hash;
use std::sync::Arc;

use crate::classifier::ClassifierModel;
use crate::decoder::DecoderModel;
use crate::manifest::Manifest;
use crate::{Artifact, Header, LinearSpec, LocalPart, Model, ModelError, StageId};

/// A model ready to run, whatever its family. Cloning shares it.
#[derive(Clone, Debug)]
pub enum ExactModel {
    /// Texts to vectors.
    Encoder(Model),
    /// Texts to their continuation.
    Decoder(DecoderModel),
    /// Images to classes.
    Classifier(ClassifierModel),
}

impl ExactModel {
    /// Checks a whole artifact and makes it ready.
    ///
    /// # Errors
    /// [`ModelError`] naming the first parameter outside the arithmetic's bounds.
    pub fn open(artifact: &Artifact) -> Result<Self, ModelError> {
        Ok(match artifact.header().manifest() {
            Manifest::Encoder(_) => Self::Encoder(Model::open(artifact)?),
            Manifest::Decoder(_) => Self::Decoder(DecoderModel::open(artifact)?),
            Manifest::Classifier(_) => Self::Classifier(ClassifierModel::open(artifact)?),
        })
    }

    /// Checks and opens the local region alone: everything but the stages of
    /// [`ExactModel::served_stages`].
    ///
    /// # Errors
    /// As [`ExactModel::open`].
    pub fn open_local(local: &LocalPart) -> Result<Self, ModelError> {
        Ok(match local.header.manifest() {
            Manifest::Encoder(_) => Self::Encoder(Model::open_local(local)?),
            Manifest::Decoder(_) => Self::Decoder(DecoderModel::open_local(local)?),
            Manifest::Classifier(_) => Self::Classifier(ClassifierModel::open_local(local)?),
        })
    }

    /// The model's digest.
    pub fn digest(&self) -> Hash {
        self.header().digest()
    }

    /// The header it was opened from.
    pub fn header(&self) -> &Arc<Header> {
        match self {
            Self::Encoder(m) => m.header(),
            Self::Decoder(m) => m.header(),
            Self::Classifier(m) => m.header(),
        }
    }

    /// Longest sequence, in tokens; of a classifier, the most windows of one image.
    pub fn max_tokens(&self) -> usize {
        match self {
            Self::Encoder(m) => m.max_tokens(),
            Self::Decoder(m) => m.config().max_tokens as usize,
            Self::Classifier(m) => m.max_rows(),
        }
    }

    /// The linear stages that somebody else can compute, in order of execution: all whose weights are
    /// not in the local region.
    pub fn served_stages(&self) -> &[LinearSpec] {
        match self {
            Self::Encoder(m) => m.stages(),
            Self::Decoder(m) => m.served_stages(),
            Self::Classifier(m) => m.stages(),
        }
    }

    /// The weight of a stage, `[n, k]`, in the form that the file has; empty without weights.
    pub fn weights(&self, stage: StageId) -> Weight<'_> {
        match self {
            Self::Encoder(m) => m.weights(stage),
            Self::Decoder(m) => m.weights(stage),
            Self::Classifier(m) => m.weights(stage),
        }
    }

    /// The encoder, if it is one.
    pub fn encoder(&self) -> Option<&Model> {
        match self {
            Self::Encoder(m) => Some(m),
            _ => None,
        }
    }

    /// The decoder, if it is one.
    pub fn decoder(&self) -> Option<&DecoderModel> {
        match self {
            Self::Decoder(m) => Some(m),
            _ => None,
        }
    }

    /// The classifier, if it is one.
    pub fn classifier(&self) -> Option<&ClassifierModel> {
        match self {
            Self::Classifier(m) => Some(m),
            _ => None,
        }
    }
}
