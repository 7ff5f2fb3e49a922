//! What a job would cost, before anything is sent.

use std::rc::Rc;

use nesa_chain::{action::Named, keys, record::NodeSet};
use nesa_light::{
    QueryOptions,
    query::report::Listener,
    search::{Document as LightDocument, SearchPlan},
};
use nesa_messages::{FromWorker, JobOptions, Lane, Problem, Quote, RequestId, Side, Task, Unes};
use nesa_primitives::{Address, Amount, Denom};

use crate::{
    app::{App, Chain},
    chat, digits,
    problem::{Shown as _, not_prepared, not_ready},
    sealed, view,
};

/// What the page chose, as the query client takes it.
pub(crate) fn options(options: &JobOptions, listener: Listener) -> Result<QueryOptions, Problem> {
    let named = options
        .named
        .as_ref()
        .map(|named| {
            let node: Address = named.node.parse().map_err(|_| {
                Problem::new("bad-node", "The named node is not a node key.", "Choose it again.")
            })?;
            let side = match named.side {
                Side::A => nesa_chain::Side::A,
                Side::B => nesa_chain::Side::B,
            };
            Ok(Named { side, node })
        })
        .transpose()?;
    Ok(QueryOptions {
        named,
        open_receipt: options.keep_opening,
        max_fee: options.max_fee.map(|fee| Amount(fee.0)),
        listener,
        answer_only: true,
        ..QueryOptions::default()
    })
}

/// Documents and question of a search; `None` for a plain embedding.
pub(crate) fn documents(task: &Task) -> Option<(Vec<LightDocument>, String)> {
    match task {
        Task::Search { documents, question } => Some((
            documents
                .iter()
                .map(|d| LightDocument { title: d.title.clone(), text: d.text.clone() })
                .collect(),
            question.clone(),
        )),
        _ => None,
    }
}

impl App {
    pub(crate) async fn quote(self: Rc<Self>, request: RequestId, task: Task, choices: JobOptions) {
        match self.price(request, &task, &choices).await {
            Ok(quote) => self.port.send(&FromWorker::Quote { quote }),
            Err(problem) => self.port.fail(Some(request), None, problem),
        }
    }

    async fn price(
        &self,
        request: RequestId,
        task: &Task,
        choices: &JobOptions,
    ) -> Result<Quote, Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        match (sealed::lane(task).lane, task) {
            (_, Task::Float { .. }) => {
                return self.float_price(&chain, request, task, choices).await;
            }
            (Lane::Sealed, _) => return self.sealed_price(&chain, request, task, choices).await,
            (Lane::Masked | Lane::Float, _) => {}
        }
        let prepared = match task {
            Task::Search { .. } | Task::Embed { .. } | Task::Float { .. } => {
                self.prepared().ok_or_else(not_ready)?
            }
            // A model is not downloaded because somebody types.
            Task::Chat { model, .. } | Task::Digit { model, .. } | Task::Classify { model, .. } => {
                self.ready_model(model)?.ok_or_else(not_prepared)?
            }
        };
        let options = options(choices, Listener::none())?;
        let (mut prompt_tokens, mut max_tokens) = (0, 0);
        let (quote, texts, passages, cached) = match documents(task) {
            None if matches!(task, Task::Chat { .. }) => {
                let Task::Chat { messages, sampling, .. } = task else { return Err(not_ready()) };
                let fitted = chat::fitted(&chain, &prepared, messages, sampling).await?;
                prompt_tokens = fitted.prompt_tokens as u32;
                max_tokens = fitted.prompt.tokens as u32;
                let quote = chain
                    .queries
                    .write_quote(&prepared, &fitted.prompt, &options)
                    .await
                    .map_err(|e| e.problem())?;
                (quote, Vec::new(), 0, 0)
            }
            None if !matches!(task, Task::Embed { .. }) => {
                let quote = digits::price(&chain, &prepared, task, &options).await?;
                let texts = match task {
                    Task::Classify { text, .. } => vec![text.clone()],
                    _ => Vec::new(),
                };
                (quote, texts, 0, 0)
            }
            Some((documents, question)) => {
                let plan = SearchPlan::new(&prepared, &chain.cache, &documents, &question)
                    .await
                    .map_err(|e| e.problem())?;
                let quote = chain
                    .queries
                    .search_quote(&prepared, &plan, &options)
                    .await
                    .map_err(|e| e.problem())?;
                (quote, plan.texts().to_vec(), plan.passages(), plan.cached())
            }
            None => {
                let Task::Embed { texts } = task else { return Err(not_ready()) };
                let quote = chain
                    .queries
                    .quote(&prepared, texts, &options)
                    .await
                    .map_err(|e| e.problem())?;
                (quote, texts.clone(), texts.len(), 0)
            }
        };
        let model = prepared.model.digest();
        let fees = Amount(quote.draw_fee.0.saturating_add(quote.tx_fee.0));
        let needed = quote.max_fee.checked_add(fees).unwrap_or(quote.max_fee);
        let (affordable, set) = self.means(&chain, needed).await?;
        Ok(Quote {
            request,
            passages: passages as u32,
            cached: cached as u32,
            padded_tokens: quote.padded_tokens as u32,
            prompt_tokens,
            max_tokens,
            truncated: quote.truncated.iter().filter_map(|i| texts.get(*i).cloned()).collect(),
            bytes_up: quote.bytes_up,
            bytes_down: quote.bytes_down,
            round_trips: (quote.stages * quote.passes.len()) as u32,
            compute: Unes(quote.compute.0),
            draw_fee: Unes(quote.draw_fee.0),
            tx_fee: Unes(quote.tx_fee.0),
            max_fee: Unes(quote.max_fee.0),
            affordable,
            candidates: set.serving(&model).count() as u32,
            collusion: Some(view::collusion(set.serving(&model))),
            sealed: None,
            float: None,
        })
    }

    /// Whether the wallet covers `needed`, and the nodes that could be drawn.
    pub(crate) async fn means(
        &self,
        chain: &Chain,
        needed: Amount,
    ) -> Result<(bool, NodeSet), Problem> {
        let set = chain.light.record::<NodeSet>(keys::nodes(), "nodes", 0).await;
        let (set, _) = set.map_err(|e| e.problem())?;
        let address = self.wallet.borrow().as_ref().map(|wallet| wallet.address());
        let affordable = match address {
            Some(address) => {
                let account = chain.accounts.account(&address).await.map_err(|e| e.problem())?;
                account.account.balance(Denom::NES) >= needed
            }
            None => false,
        };
        Ok((affordable, set.unwrap_or_default()))
    }
}
