//! Classifying images: what the payment commits to, and the logits as passes give them.

use nesa_crypto::SecretKey;
use nesa_masked::{
    client::Pass,
    images::{ImagePlan, ImageRun, PlanError},
};
use nesa_model::classifier::{ClassifierModel, ClassifierRun};
use nesa_primitives::Hash;

use super::{
    MAX_IMAGES, QueryClient, QueryError, QueryOptions, QueryOutcome,
    report::{Answer, Classified, Content, Quote},
    work::{Gather, Work},
};
use crate::models::Prepared;

/// The texts a payment commits to: each image's values, in hexadecimal.
pub(crate) fn committed(images: &[Vec<u8>]) -> Vec<String> {
    images.iter().map(|image| crate::wallet::hex(image)).collect()
}

/// The images that a payment committed to as `texts`, if they are images.
pub(crate) fn from_committed(texts: &[String]) -> Option<Vec<Vec<u8>>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let image = |text: &String| -> Option<Vec<u8>> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let value = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
        if rest.is_empty() { pairs.iter().map(value).collect() } else { None }
    };
    texts.iter().map(image).collect()
}

impl Work {
    /// Classes of `images`, each `[channels, height, width]`.
    pub(crate) fn classify(
        model: &ClassifierModel,
        images: &[Vec<u8>],
    ) -> Result<Self, QueryError> {
        if images.is_empty() || images.len() > MAX_IMAGES {
            return Err(QueryError::Images { got: images.len() });
        }
        let plan = ImagePlan::new(images.len(), &model.stage_rows());
        let plan = plan.map_err(|error| match error {
            PlanError::Windows { got } => QueryError::Windows { got },
            PlanError::Empty { .. } => QueryError::Windows { got: 0 },
        })?;
        // Refused before anything is paid.
        for (index, image) in images.iter().enumerate() {
            ClassifierRun::start(model, &[image.as_slice()]).map_err(|error| error.at(index))?;
        }
        Ok(Self::Classify { images: images.to_vec(), plan })
    }
}

impl QueryClient {
    /// What classifying `images` would cost and move, without sending anything.
    ///
    /// # Errors
    /// [`QueryError`] when they cannot be computed in one query.
    pub async fn classify_quote(
        &self,
        prepared: &Prepared,
        images: &[Vec<u8>],
        options: &QueryOptions,
    ) -> Result<Quote, QueryError> {
        let work = Work::classify(prepared.classifier()?, images)?;
        Ok(self.plan(prepared, work, committed(images), options).await?.quote)
    }

    /// Classifies `images`, each `[channels, height, width]` of values up to the model's greatest; every
    /// layer checked by this device. The nodes see the model and how many images there are.
    ///
    /// # Errors
    /// As [`QueryClient::embed`].
    pub async fn classify(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        images: &[Vec<u8>],
        options: &QueryOptions,
    ) -> Result<QueryOutcome, QueryError> {
        let work = Box::pin(async { Work::classify(prepared.classifier()?, images) });
        self.ask(prepared, wallet, work, committed(images), options).await
    }
}

/// Logits: outputs come pass by pass, in the order of the images.
pub(crate) struct Classes<'a> {
    model: &'a ClassifierModel,
    images: &'a [Vec<u8>],
    plan: &'a ImagePlan,
    classified: Vec<Classified>,
}

impl<'a> Classes<'a> {
    pub(crate) fn new(
        model: &'a ClassifierModel,
        images: &'a [Vec<u8>],
        plan: &'a ImagePlan,
    ) -> Self {
        Self { model, images, plan, classified: Vec::with_capacity(images.len()) }
    }
}

impl Gather for Classes<'_> {
    type Run = ImageRun;

    fn passes(&self) -> Result<Vec<Pass<ImageRun>>, QueryError> {
        Ok(self.plan.start(self.model, self.images)?)
    }

    fn take(&mut self, _: u32, output: Vec<Vec<i32>>) -> Result<(), QueryError> {
        self.classified.extend(output.into_iter().map(|logits| Classified::new(logits, &[])));
        Ok(())
    }

    fn answer(self, model: &Hash) -> Result<Answer, QueryError> {
        if self.classified.len() != self.images.len() {
            return Err(QueryError::Images { got: self.classified.len() });
        }
        Ok(Answer::new(model, Content::Classes(self.classified)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_committed_is_one_list_of_images(
            images in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..4),
            text in "[0-9a-gA-F]{0,6}",
        ) {
            prop_assert_eq!(from_committed(&committed(&images)), Some(images));
            // Whatever else is read as images is written the same way.
            let texts = vec![text];
            if let Some(images) = from_committed(&texts) {
                prop_assert_eq!(committed(&images), texts);
            }
        }
    }
}
