//! Classifying texts: what the payment commits to, and the paid query itself.
//!
//! The computation is an encoder's, with a head whose stages are products like any other
//! ([`super::work::Vectors`]); only what is committed to and what the result is called differ.

use nesa_crypto::SecretKey;
use nesa_model::Model;

use super::{MAX_TEXTS, QueryClient, QueryError, QueryOptions, QueryOutcome, Work, report::Quote};
use crate::models::Prepared;

/// The texts that a payment commits to: each as a JSON list, so that nothing else reads the same.
pub(crate) fn committed(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| serde_json::json!([text]).to_string()).collect()
}

/// The texts that a payment committed to as `committed`, if they are texts to classify.
pub(crate) fn from_committed(texts: &[String]) -> Option<Vec<String>> {
    let text = |json: &String| {
        let [text] = serde_json::from_str(json).ok()?;
        Some(text)
    };
    let read: Vec<String> = texts.iter().map(text).collect::<Option<_>>()?;
    // One list is written in one way only.
    (committed(&read) == texts).then_some(read)
}

impl Work {
    /// Classes of `texts`.
    pub(crate) fn classify_texts(model: &Model, texts: &[String]) -> Result<Self, QueryError> {
        if texts.is_empty() || texts.len() > MAX_TEXTS {
            return Err(QueryError::Texts { got: texts.len() });
        }
        Self::read(texts.iter().map(|text| model.tokenizer().encode(text)).collect())
    }
}

impl QueryClient {
    /// What classifying `texts` would cost and move, without sending anything.
    ///
    /// # Errors
    /// [`QueryError`] when they cannot be computed in one query.
    pub async fn classify_texts_quote(
        &self,
        prepared: &Prepared,
        texts: &[String],
        options: &QueryOptions,
    ) -> Result<Quote, QueryError> {
        let work = Work::classify_texts(prepared.text_classifier()?, texts)?;
        Ok(self.plan(prepared, work, committed(texts), options).await?.quote)
    }

    /// Classifies `texts`: the logits of the model's classes for each; every layer, the head's too, checked
    /// by this device. The nodes see the model and the padded number of tokens.
    ///
    /// # Errors
    /// As [`QueryClient::embed`].
    pub async fn classify_texts(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        texts: &[String],
        options: &QueryOptions,
    ) -> Result<QueryOutcome, QueryError> {
        let work = Box::pin(async { Work::classify_texts(prepared.text_classifier()?, texts) });
        self.ask(prepared, wallet, work, committed(texts), options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_committed_is_one_list_of_texts(
            texts in proptest::collection::vec(".*", 0..4),
            other in r#"\[?"?[a-b\\" ,\[\]]{0,6}"?\]?"#,
        ) {
            prop_assert_eq!(from_committed(&committed(&texts)), Some(texts));
            // Whatever else is read as texts is written the same way.
            let other = vec![other];
            if let Some(texts) = from_committed(&other) {
                prop_assert_eq!(committed(&texts), other);
            }
        }
    }
}
