//! Runs of the float lane: offered as the origin's cards tell, asked, compared here, and followed until
//! the nodes have published what they told and the escrow has ended, over reloads too.
//!
//! The engine is not here: comparing needs the answers and the calibration alone.

mod show;

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_fingerprint::{Card, Data, Decision, Demand, Tensor, TensorLimits, decide};
use nesa_light::{
    QueryError,
    float::{FloatEvent, FloatListener, FloatOptions},
};
use nesa_messages::{
    ActivityKind, FloatTensor, FloatValues, JobId, JobOptions, JobPhase, JobView, Problem, Quote,
    RequestId, StepId, Task, Unes,
};
use nesa_platform::time::{self, Instant};
use nesa_primitives::{Amount, Hash};
use serde_json::json;

use crate::{
    app::{App, Chain},
    problem::{Shown, not_ready},
    progress::life,
    sealed::show::{is_open, paid, rung, verified},
    view,
};
pub(crate) use show::{begun, offer};
use show::{decided, known, looked_at, replaced};

/// Elements of a tensor at most, in either direction.
const LIMITS: TensorLimits = TensorLimits { elements: 1 << 22 };
/// How often the chain is looked at while answers or the end of an escrow are awaited.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// A settlement that does not come is given up on, ms after it was due.
const GIVE_UP_MS: u64 = 60_000;

/// What a run cannot be asked without.
struct Asked {
    card: Card,
    inputs: Bytes,
    options: FloatOptions,
}

fn refused(what: String) -> Problem {
    Problem::new("float-inputs", what, "Change the inputs, or choose another model.")
}

/// The page's tensors as the nodes read them.
fn encoded(inputs: &[FloatTensor]) -> Result<Bytes, Problem> {
    let tensor = |given: &FloatTensor| {
        let data = match &given.values {
            FloatValues::Floats(all) => {
                Data::F32(all.iter().map(|v| v.unwrap_or(f32::NAN)).collect())
            }
            FloatValues::Integers(all) => Data::I64(all.clone()),
            FloatValues::Booleans(all) => Data::Bool(all.clone()),
        };
        Tensor::new(&given.name, &given.shape, data).map_err(|error| refused(format!("{error}.")))
    };
    let tensors = inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
    Ok(Bytes::from(tensors.encode().to_vec()))
}

impl App {
    /// Everything that a task of this lane needs, checked.
    fn float_asked(
        &self,
        chain: &Chain,
        task: &Task,
        choices: &JobOptions,
        listener: Arc<dyn FloatListener>,
    ) -> Result<(Hash, Asked), Problem> {
        let Task::Float { model, inputs, replicas } = task else { return Err(not_ready()) };
        let model = self.offered(chain, model)?;
        let card = chain.cards.get(&model).cloned().ok_or_else(|| {
            refused("The origin of this page tells nothing of this model.".to_owned())
        })?;
        for given in inputs {
            let known = card.inputs.iter().find(|input| input.name == given.name);
            if !known.is_some_and(|input| input.fits(&given.shape)) {
                let what =
                    format!("Input {:?} of shape {:?} does not fit.", given.name, given.shape);
                return Err(refused(what));
            }
        }
        if let Some(missing) =
            card.inputs.iter().find(|input| !inputs.iter().any(|given| given.name == input.name))
        {
            return Err(refused(format!("Input {:?} is missing.", missing.name)));
        }
        let calibration = card.calibration.as_ref();
        let calibration =
            calibration.ok_or_else(|| refused("Nothing was measured of this model.".to_owned()))?;
        if let Err(weakness) = calibration.meets(&Demand::default()) {
            return Err(refused(format!("The measurements do not decide: {weakness}.")));
        }
        let options = FloatOptions {
            replicas: *replicas,
            max_fee: choices.max_fee.map(|fee| Amount(fee.0)),
            deadline: None,
            listener,
        };
        Ok((model, Asked { inputs: encoded(inputs)?, card, options }))
    }

    /// The price of a run.
    pub(crate) async fn float_price(
        &self,
        chain: &Chain,
        request: RequestId,
        task: &Task,
        choices: &JobOptions,
    ) -> Result<Quote, Problem> {
        let (model, asked) =
            self.float_asked(chain, task, choices, Arc::new(|_: FloatEvent| {}))?;
        let quote = chain.queries.float_quote(&model, &asked.options).await;
        let quote = quote.map_err(|error| error.problem())?;
        let fees = quote.draw_fee.checked_add(quote.tx_fee).unwrap_or_default();
        let needed = quote.escrow.checked_add(fees).unwrap_or(quote.escrow);
        let (affordable, set) = self.means(chain, needed).await?;
        let candidates = set.serving(&model).count();
        let spares = candidates.saturating_sub(asked.options.replicas.into());
        Ok(Quote {
            request,
            bytes_up: (asked.inputs.len() * usize::from(asked.options.replicas)) as u64,
            compute: Unes(quote.compute.0),
            draw_fee: Unes(quote.draw_fee.0),
            tx_fee: Unes(quote.tx_fee.0),
            max_fee: Unes(quote.escrow.0),
            affordable,
            candidates: candidates as u32,
            collusion: Some(view::collusion(set.serving(&model))),
            float: Some(nesa_messages::FloatQuote {
                replicas: asked.options.replicas,
                spares: spares.min(nesa_chain::limits::MAX_SPARES) as u8,
                per_node: Unes(quote.per_node.0),
                bytes: asked.inputs.len() as u64,
            }),
            ..Quote::default()
        })
    }

    /// Asks, compares, and follows what the nodes publish.
    pub(crate) async fn float_job(
        self: &Rc<Self>,
        chain: &Chain,
        id: JobId,
        task: &Task,
        choices: &JobOptions,
    ) -> Result<(), Problem> {
        let start = Instant::now();
        let wallet = self.open_wallet()?;
        let app = self.clone();
        let listener: Arc<dyn FloatListener> =
            Arc::new(move |event: FloatEvent| app.float_heard(id, &start, event));
        let (model, asked) = self.float_asked(chain, task, choices, listener)?;
        let Asked { card, inputs, options } = asked;
        let Some(calibration) = card.calibration else { return Err(not_ready()) };
        let demand = Demand::default();
        let quote = chain.queries.float_quote(&model, &options).await;
        let quote = quote.map_err(|error| error.problem())?;
        let fees = quote.draw_fee.checked_add(quote.tx_fee).unwrap_or_default();
        self.change_job(id, |view| {
            view.progress.phase = JobPhase::Escrowing;
            view.cost.get_or_insert_default().fees = Unes(fees.0);
            view.float.get_or_insert_default().rates = Some(show::rates(&calibration, &demand));
        })
        .await;
        let mut compared = None;
        let judge = |told: &[Option<Bytes>]| {
            let began = Instant::now();
            let (decision, answer) = decide(&calibration, &demand, &LIMITS, told);
            let ms = began.elapsed().as_secs_f64() * 1000.0;
            let members = match &decision {
                Decision::Agreed { members, .. } => members.clone(),
                _ => Vec::new(),
            };
            let paid = (0..told.len()).map(|place| members.contains(&place)).collect();
            compared = Some((decision, answer, ms));
            paid
        };
        let asked = chain.queries.ask_float(&model, wallet.key(), inputs, &options, judge).await;
        let outcome = match asked {
            Ok(outcome) => outcome,
            Err(error) => {
                self.follow_later(id);
                return Err(error.problem());
            }
        };
        let Some((decision, answer, check_ms)) = compared else { return Err(not_ready()) };
        let total_ms = start.elapsed().as_secs_f64() * 1000.0;
        let mut problem = None;
        self.change_job(id, |view| {
            view.timings = Some(nesa_messages::Timings {
                total_ms,
                network_ms: outcome.answered_ms,
                chain_ms: (total_ms - outcome.answered_ms - check_ms).max(0.0),
                check_ms,
                ..nesa_messages::Timings::default()
            });
            view.cost.get_or_insert_default().held = Unes(outcome.escrowed.0);
            problem = decided(view, &outcome, &decision, answer.as_ref(), &calibration, check_ms);
        })
        .await;
        self.send_history().await;
        self.refresh_wallet().await;
        self.follow_later(id);
        problem.map_or(Ok(()), Err)
    }

    /// Takes what a running query tells.
    fn float_heard(self: &Rc<Self>, id: JobId, start: &Instant, event: FloatEvent) {
        {
            let mut views = self.views.borrow_mut();
            let Some(view) = views.get_mut(&id) else { return };
            view.progress.elapsed_ms = start.elapsed().as_secs_f64() * 1000.0;
            match event {
                FloatEvent::Paid { query, escrow } => {
                    paid(view, &query, escrow);
                    let app = self.clone();
                    let what = format!("Escrow of query {}…", view::short(&query));
                    wasm_bindgen_futures::spawn_local(async move {
                        let change = format!("-{escrow}");
                        app.note(query, ActivityKind::Escrow, what, change, None).await;
                    });
                }
                FloatEvent::Drawn { view: drawn, seats } => {
                    let named: Vec<String> =
                        seats.iter().map(|seat| seat.node.to_string()).collect();
                    let detail = format!("{} candidates, spares included", seats.len());
                    let evidence = json!({ "draw_view": drawn, "candidates": named });
                    rung(view, verified(StepId::ShardsDrawn, "the chain", detail, evidence));
                    life(view, "nodes drawn", None);
                    view.progress.phase = JobPhase::Computing;
                }
                FloatEvent::Answered { bytes, .. } => {
                    let float = view.float.get_or_insert_default();
                    float.answered += 1;
                    view.progress.bytes_down += bytes as u64;
                    life(view, "a node has answered", None);
                }
                FloatEvent::Replaced(lost) => {
                    life(view, &format!("a node was replaced: {}", lost.reason), None);
                    view.float.get_or_insert_default().replaced.push(replaced(&lost));
                }
            }
        }
        self.send_job(id);
        let kept = self.views.borrow().get(&id).cloned();
        if let Some(view) = kept {
            let app = self.clone();
            wasm_bindgen_futures::spawn_local(async move { app.keep_job(&view).await });
        }
    }

    /// Looks until nothing more is to be learnt.
    pub(crate) async fn follow_float(&self, id: JobId) {
        loop {
            let asked = self.views.borrow().get(&id).filter(|view| is_open(view)).map(known);
            let Some((Some(query), told)) = asked else { return };
            let Some(chain) = self.chain() else { return };
            match chain.queries.look_at_float(&query, &told).await {
                Ok(Some(looked)) => {
                    self.take_float(id, &query, &looked).await;
                    if time::now_ms() > looked.windows.close_ms.saturating_add(GIVE_UP_MS) {
                        return;
                    }
                }
                // Nobody can be asked just now.
                Ok(None) | Err(QueryError::Chain(_)) => {}
                Err(error) => {
                    let what = error.problem().what;
                    self.change_job(id, |view| life(view, &what, None)).await;
                    return;
                }
            }
            time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks once, for whoever asks to have it checked again.
    pub(crate) async fn recheck_float(&self, id: JobId) -> Result<(), Problem> {
        let chain = self.chain().ok_or_else(not_ready)?;
        let asked = self.views.borrow().get(&id).map(known);
        let none = || {
            let what = "There is nothing on the chain to check this run with.";
            Problem::new("no-query", what, "It was not paid for.")
        };
        let Some((Some(query), told)) = asked else { return Err(none()) };
        let looked = chain.queries.look_at_float(&query, &told).await;
        let looked = looked.map_err(|error| error.problem())?.ok_or_else(none)?;
        self.take_float(id, &query, &looked).await;
        let height = Some(looked.height);
        self.change_job(id, |view| life(view, "checked again by this device", height)).await;
        Ok(())
    }

    async fn take_float(&self, id: JobId, query: &Hash, looked: &nesa_light::float::FloatLooked) {
        let Some(before) = self.views.borrow().get(&id).cloned() else { return };
        let mut after = before.clone();
        looked_at(&mut after, looked, time::now_ms());
        if after != before {
            self.change_job(id, |view| *view = after).await;
        }
        let returned = |view: &JobView| view.cost.as_ref().and_then(|cost| cost.returned);
        if let (None, Some(settlement)) = (returned(&before), &looked.settlement) {
            let (what, change) = ("Back from a query".to_owned(), settlement.returned.to_string());
            self.note(*query, ActivityKind::Refund, what, change, Some(settlement.height)).await;
        }
    }
}
