//! Images as jobs: the class that a classifier finds.

use std::rc::Rc;

use nesa_light::{QueryOptions, QueryOutcome, models::Prepared, query::report::Listener};
use nesa_messages::{DigitView, ImageShape, JobId, JobOptions, Problem, Task};
use nesa_model::ExactModel;

use crate::{
    app::{App, Chain},
    problem::{Shown as _, not_ready},
    quote::options,
};

/// The images that a model looks at.
pub(crate) fn shape(model: &ExactModel) -> Option<ImageShape> {
    let model = model.classifier()?;
    let image = model.image();
    Some(ImageShape {
        channels: image.channels.into(),
        height: image.height.into(),
        width: image.width.into(),
        greatest: image.max_value,
        classes: model.classes() as u32,
    })
}

/// What classifying an image would cost.
pub(crate) async fn price(
    chain: &Chain,
    prepared: &Prepared,
    image: &[u8],
    options: &QueryOptions,
) -> Result<nesa_light::query::report::Quote, Problem> {
    let images = [image.to_vec()];
    let quote = chain.queries.classify_quote(prepared, &images, options).await;
    quote.map_err(|error| error.problem())
}

impl App {
    /// Has an image classified.
    pub(crate) async fn digit_job(
        self: &Rc<Self>,
        chain: &Chain,
        id: JobId,
        task: &Task,
        choices: &JobOptions,
    ) -> Result<(QueryOutcome, Listener), Problem> {
        let Task::Digit { model, image } = task else { return Err(not_ready()) };
        let wallet = self.open_wallet()?;
        let prepared = self.clone().ready_or_prepare(model, None).await?;
        let listener = self.clone().listener(id, prepared.lane.stages().len() as u32);
        let options = options(choices, listener.clone())?;
        let outcome = chain
            .queries
            .classify(&prepared, wallet.key(), std::slice::from_ref(image), &options)
            .await
            .map_err(|error| error.problem())?;
        Ok((outcome, listener))
    }
}

/// The checked class of an image that `prepared` looked at.
pub(crate) fn found(
    outcome: &QueryOutcome,
    image: &[u8],
    prepared: Option<&Prepared>,
) -> Option<DigitView> {
    let first = outcome.answer.classes().first()?;
    Some(DigitView {
        class: first.class as u32,
        logits: first.logits.clone(),
        image: image.to_vec(),
        shape: prepared.and_then(|prepared| shape(&prepared.model)).unwrap_or_default(),
    })
}
