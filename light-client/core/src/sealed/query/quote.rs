//! What a text of the sealed lane would cost, before anything is sent.

use std::time::Duration;

use nesa_chain::fees;
use nesa_model::{
    decoder::{PlanError, ShardPlan},
    manifest::Manifest,
};
use nesa_primitives::{Amount, Hash};
use nesa_sealed::client::StartError;

use super::{SealedOptions, SealedQueryError};
use crate::query::{
    Fitted, Prompt, QueryClient, QueryError,
    engine::{SharedCodec, TextError},
};

/// The committee's price of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedQuote {
    /// The prompt, its most tokens lowered to what the model's context leaves, and its length.
    pub fitted: Fitted,
    /// Where the model is cut.
    pub plan: ShardPlan,
    /// Bytes of each shard's tensors: what a node fetches that does not have them.
    pub shard_bytes: Vec<u64>,
    /// What all nodes together earn if every token is written.
    pub compute: Amount,
    /// What is escrowed; what is not spent returns.
    pub escrow: Amount,
    /// Burned for the draw.
    pub draw_fee: Amount,
    /// The payment's transaction fee.
    pub tx_fee: Amount,
    /// From inclusion to the last commitment.
    pub deadline: Duration,
}

/// Most tokens to write after a prompt of so many, in a context of `max`: as many of those asked for as are
/// left.
fn room(prompt: usize, wanted: usize, max: usize) -> Result<usize, StartError> {
    if prompt == 0 {
        return Err(StartError::Empty);
    }
    let tokens = wanted.min(max.saturating_sub(prompt));
    if tokens == 0 {
        return Err(StartError::Length { prompt, tokens: wanted, max });
    }
    Ok(tokens)
}

impl QueryClient {
    /// Counts the prompt's tokens, and lowers the most that is written to what the context leaves. No
    /// weights are needed, and none are fetched.
    ///
    /// # Errors
    /// [`SealedQueryError`] when the model cannot continue it at all.
    pub async fn fit_sealed(
        &self,
        model: &Hash,
        mut prompt: Prompt,
    ) -> Result<Fitted, SealedQueryError> {
        let loaded = self.models().text_files(model, self.sources()).await;
        let (header, files) = loaded.map_err(QueryError::from)?;
        let Manifest::Decoder(manifest) = header.manifest() else {
            return Err(PlanError::Family { got: header.manifest().family() }.into());
        };
        let engine = self.engine().ok_or(TextError::Absent).map_err(QueryError::from)?;
        let codec: SharedCodec = engine.open(files).await.map_err(QueryError::from)?;
        let read = codec.tokens(&prompt.said).await.map_err(QueryError::from)?.len();
        prompt.tokens = room(read, prompt.tokens, manifest.config.max_tokens as usize)?;
        Ok(Fitted { prompt, prompt_tokens: read })
    }

    /// What continuing `prompt` in the sealed lane would cost at most, without sending anything.
    ///
    /// # Errors
    /// [`SealedQueryError`] when the model or the network cannot do it.
    pub async fn sealed_quote(
        &self,
        model: &Hash,
        prompt: Prompt,
        options: &SealedOptions,
    ) -> Result<SealedQuote, SealedQueryError> {
        let fitted = self.fit_sealed(model, prompt).await?;
        let planned = self.plan_sealed(model, &fitted.prompt, options).await?;
        let header = self.models().header(model, self.sources()).await.map_err(QueryError::from)?;
        let shard = fees::shard_price(planned.price_per_token, planned.terms.shards());
        let too_long = QueryError::TooLong {
            tokens: planned.max_tokens.into(),
            max: planned.params.max_query_tokens,
        };
        let compute = fees::price(shard, planned.max_tokens)
            .and_then(|one| one.checked_mul(planned.terms.seats() as u64))
            .ok_or(too_long)?;
        Ok(SealedQuote {
            shard_bytes: planned.plan.bytes(&header)?,
            plan: planned.plan,
            compute,
            escrow: planned.escrow,
            draw_fee: planned.params.draw_fee,
            tx_fee: planned.params.min_tx_fee,
            deadline: planned.deadline,
            fitted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_every_length_fit_or_are_named() {
        let max = 64;
        assert_eq!(room(0, 10, max), Err(StartError::Empty));
        // The context exactly full, to the token, and one over.
        assert_eq!(room(54, 10, max), Ok(10));
        assert_eq!(room(55, 10, max), Ok(9));
        assert_eq!(room(63, 1, max), Ok(1));
        assert_eq!(room(1, usize::MAX, max), Ok(63));
        let none = |prompt, tokens| Err(StartError::Length { prompt, tokens, max });
        for prompt in [64, 65, 1 << 40, usize::MAX] {
            assert_eq!(room(prompt, 1, max), none(prompt, 1));
        }
        assert_eq!(room(1, 0, max), none(1, 0));
    }
}
