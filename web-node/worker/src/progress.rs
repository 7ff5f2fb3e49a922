//! A running query as the page sees it.

use std::rc::Rc;

use nesa_light::query::report::{Listener, Progress as LightProgress};
use nesa_messages::{ActivityKind, FromWorker, JobId, JobPhase, JobView, LifeEvent, Progress};
use nesa_platform::time::{self, Instant};

use crate::{app::App, view};

/// Linear stages per encoder layer: the page counts layers.
const STAGES_PER_LAYER: u32 = 4;
/// A progress message at most this often, in milliseconds.
const PROGRESS_EVERY_MS: f64 = 120.0;

impl App {
    /// Turns the query's progress into the job's view.
    pub(crate) fn listener(self: Rc<Self>, id: JobId, stages: u32) -> Listener {
        let start = Instant::now();
        let last = std::cell::Cell::new(f64::NEG_INFINITY);
        Listener::new(move |event: LightProgress| {
            let elapsed_ms = start.elapsed().as_secs_f64() * 1000.0;
            let app = self.clone();
            let mut small = false;
            {
                let mut views = app.views.borrow_mut();
                let Some(view) = views.get_mut(&id) else { return };
                view.progress.elapsed_ms = elapsed_ms;
                match event {
                    LightProgress::Phase(phase) => view.progress.phase = view::phase(phase),
                    LightProgress::Quote(quote) => {
                        view.progress.passes = quote.passes.len() as u32;
                        view.progress.stages = stages;
                        view.progress.layers = stages.div_ceil(STAGES_PER_LAYER);
                    }
                    LightProgress::Paid { query, max_fee } => {
                        view.query = Some(query.to_string());
                        life(view, "payment signed and sent", None);
                        let app = app.clone();
                        let what = format!("Escrow of query {}…", view::short(&query));
                        wasm_bindgen_futures::spawn_local(async move {
                            let change = format!("-{max_fee}");
                            app.note(query, ActivityKind::Escrow, what, change, None).await;
                        });
                    }
                    LightProgress::Nodes { attempt, nodes } => {
                        view.attempts = attempt;
                        view.nodes = nodes.iter().map(view::node).collect();
                        life(view, "two nodes drawn", None);
                    }
                    LightProgress::Stage(stage) => {
                        view.progress = Progress {
                            phase: JobPhase::Computing,
                            pass: stage.pass as u32,
                            passes: stage.passes as u32,
                            stage: stage.stage as u32,
                            stages: stage.stages as u32,
                            layer: (stage.stage as u32).div_ceil(STAGES_PER_LAYER).max(1),
                            layers: (stage.stages as u32).div_ceil(STAGES_PER_LAYER),
                            bytes_up: stage.bytes_up,
                            bytes_down: stage.bytes_down,
                            elapsed_ms,
                        };
                        small = true;
                    }
                    LightProgress::Rejected(rejected) => {
                        view.caught.push(view::caught(&rejected));
                        life(view, &format!("a node was replaced: {}", rejected.reason), None);
                    }
                    LightProgress::Step(step) => {
                        let step = view::step(&step);
                        if let Some(slot) = view.ladder.iter_mut().find(|s| s.id == step.id) {
                            *slot = step;
                        }
                    }
                    LightProgress::Answer(_) | LightProgress::Text { .. } => {}
                    LightProgress::Note { what, height } => life(view, &what, height),
                }
            }
            if small {
                if elapsed_ms - last.get() < PROGRESS_EVERY_MS {
                    return;
                }
                last.set(elapsed_ms);
                let progress = app.views.borrow().get(&id).map(|view| view.progress.clone());
                if let Some(progress) = progress {
                    app.port.send(&FromWorker::Progress { job: id, progress });
                }
                return;
            }
            app.send_job(id);
            let kept = app.views.borrow().get(&id).cloned();
            if let Some(view) = kept {
                wasm_bindgen_futures::spawn_local(async move { app.keep_job(&view).await });
            }
        })
    }
}

/// Adds a moment to a query's life.
pub(crate) fn life(view: &mut JobView, what: &str, height: Option<u64>) {
    let at_ms = (time::now_ms() as f64 - view.started_ms).max(0.0);
    view.life.push(LifeEvent { at_ms, what: what.to_owned(), height });
}
