//! Runs of the float lane: offered as the origin's cards tell, asked, compared here, and followed until
//! the nodes have published what they told and the escrow has ended, over reloads too.
//!
//! The engine is not here: comparing needs the answers and the calibration alone.

mod show;

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use commonware_codec::Encode as _;
use nesa_fingerprint::{Card, Data, Decision, Demand, Tensor, TensorLimits, decide};
use nesa_light::{
    QueryError,
    float::{FloatEvent, FloatListener, FloatOptions},
};
use nesa_messages::{
    ActivityKind, FloatTensor, FloatValues, JobId, JobOptions, JobPhase, Problem, Quote, RequestId,
    StepId, Task, Unes,
};
use nesa_platform::time::{self, Instant};
use nesa_primitives::{Amount, Hash};
use serde_json::json;

use crate::{
    app::{App, Chain},
    follow::Seen,
    problem::{Shown, not_ready},
    progress::life,
    sealed::show::{paid, rung, verified},
    view,
};
pub(crate) use show::{begun, offer};
use show::{decided, known, looked_at, replaced};

/// Elements of a tensor at most, in either direction.
const LIMITS: TensorLimits = TensorLimits { elements: 1 << 22 };
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

    /// Shows what the nodes revealed and the money of a run as the chain has them now.
    pub(crate) async fn look_at_float(&self, id: JobId) -> Result<Option<Seen>, QueryError> {
        let asked = self.views.borrow().get(&id).map(known);
        let Some(((Some(query), told), chain)) = asked.zip(self.chain()) else { return Ok(None) };
        let Some(looked) = chain.queries.look_at_float(&query, &told).await? else {
            return Ok(None);
        };
        let seen = Seen { height: looked.height, close_ms: looked.windows.close_ms };
        let Some(before) = self.views.borrow().get(&id).cloned() else { return Ok(Some(seen)) };
        let mut after = before.clone();
        looked_at(&mut after, &looked, time::now_ms());
        self.take_look(&query, before, after, looked.settlement.as_ref()).await;
        Ok(Some(seen))
    }
}
