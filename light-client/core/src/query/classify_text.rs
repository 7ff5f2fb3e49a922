//! Classifying texts: what the payment commits to, and the paid query itself.
//!
//! The computation is an encoder's, with a head whose stages are products like any other
//! ([`super::work::Vectors`]); only what is committed to and what the result is called differ.

use nesa_crypto::SecretKey;
use nesa_model::Model;

use super::{
    QueryClient, QueryError, QueryOptions, QueryOutcome, Work, engine::TextEngine, report::Quote,
};
use crate::models::Prepared;

/// A text to classify, or a pair of texts, such as a premise and what may follow from it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TextInput {
    /// The text.
    pub text: String,
    /// The other text of a pair, for a model that reads pairs.
    pub pair: Option<String>,
}

impl TextInput {
    /// A text alone.
    pub fn single(text: impl Into<String>) -> Self {
        Self { text: text.into(), pair: None }
    }
}

// A stray debug print must not show the texts.
impl std::fmt::Debug for TextInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = (self.text.len(), self.pair.as_ref().map(String::len));
        write!(f, "TextInput({bytes:?} bytes)")
    }
}

/// The texts that a payment commits to: each text or pair as a JSON list, so that nothing else reads the
/// same.
pub(crate) fn committed(inputs: &[TextInput]) -> Vec<String> {
    let list = |input: &TextInput| match &input.pair {
        None => serde_json::json!([input.text]),
        Some(pair) => serde_json::json!([input.text, pair]),
    };
    inputs.iter().map(|input| list(input).to_string()).collect()
}

/// The texts that a payment committed to as `texts`, if they are texts to classify.
pub(crate) fn from_committed(texts: &[String]) -> Option<Vec<TextInput>> {
    let input = |json: &String| {
        let list: Vec<String> = serde_json::from_str(json).ok()?;
        let mut list = list.into_iter();
        let input = TextInput { text: list.next()?, pair: list.next() };
        list.next().is_none().then_some(input)
    };
    let inputs: Vec<TextInput> = texts.iter().map(input).collect::<Option<_>>()?;
    // One list is written in one way only.
    (committed(&inputs) == texts).then_some(inputs)
}

impl Work {
    /// Classes of `inputs`.
    pub(crate) async fn classify_texts(
        model: &Model,
        inputs: &[TextInput],
        engine: Option<&dyn TextEngine>,
    ) -> Result<Self, QueryError> {
        Self::read(model, inputs, engine).await
    }
}

impl QueryClient {
    /// What classifying `inputs` would cost and move, without sending anything.
    ///
    /// # Errors
    /// [`QueryError`] when they cannot be computed in one query.
    pub async fn classify_texts_quote(
        &self,
        prepared: &Prepared,
        inputs: &[TextInput],
        options: &QueryOptions,
    ) -> Result<Quote, QueryError> {
        let work = Work::classify_texts(prepared.text_classifier()?, inputs, self.engine()).await?;
        Ok(self.plan(prepared, work, committed(inputs), options).await?.quote)
    }

    /// Classifies `inputs`: the logits of the model's classes for each; every layer, the head's too, checked
    /// by this device. The nodes see the model and the padded number of tokens.
    ///
    /// # Errors
    /// As [`QueryClient::embed`].
    pub async fn classify_texts(
        &self,
        prepared: &Prepared,
        wallet: &SecretKey,
        inputs: &[TextInput],
        options: &QueryOptions,
    ) -> Result<QueryOutcome, QueryError> {
        let work = Box::pin(async {
            Work::classify_texts(prepared.text_classifier()?, inputs, self.engine()).await
        });
        self.ask(prepared, wallet, work, committed(inputs), options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_committed_is_one_list_of_texts(
            texts in proptest::collection::vec((".*", proptest::option::of(".*")), 0..4),
            other in r#"\[?"?[a-b\\" ,\[\]]{0,6}"?\]?"#,
        ) {
            let inputs: Vec<_> =
                texts.into_iter().map(|(text, pair)| TextInput { text, pair }).collect();
            prop_assert_eq!(from_committed(&committed(&inputs)), Some(inputs));
            // Whatever else is read as texts is written the same way.
            let other = vec![other];
            if let Some(inputs) = from_committed(&other) {
                prop_assert_eq!(committed(&inputs), other);
            }
        }
    }

    #[test]
    fn a_text_does_not_print() {
        let input = TextInput { text: "zebra".into(), pair: Some("quartz".into()) };
        let shown = format!("{input:?}");
        assert!(!shown.contains("zebra") && !shown.contains("quartz"), "{shown}");
    }
}
