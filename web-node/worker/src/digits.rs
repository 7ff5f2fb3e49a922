//! Images and texts as jobs: the class that a classifier finds.

use std::rc::Rc;

use nesa_light::{
    QueryOptions, QueryOutcome,
    models::Prepared,
    query::{TextInput, report::Listener},
};
use nesa_messages::{ClassView, DigitView, ImageShape, JobId, JobOptions, Problem, Task};
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

/// What classifying an image or a text would cost.
pub(crate) async fn price(
    chain: &Chain,
    prepared: &Prepared,
    task: &Task,
    options: &QueryOptions,
) -> Result<nesa_light::query::report::Quote, Problem> {
    let quote = match task {
        Task::Digit { image, .. } => {
            chain.queries.classify_quote(prepared, std::slice::from_ref(image), options).await
        }
        Task::Classify { text, pair, .. } => {
            let input = [TextInput { text: text.clone(), pair: pair.clone() }];
            chain.queries.classify_texts_quote(prepared, &input, options).await
        }
        _ => return Err(not_ready()),
    };
    quote.map_err(|error| error.problem())
}

impl App {
    /// Has an image or a text classified.
    pub(crate) async fn classify_job(
        self: &Rc<Self>,
        chain: &Chain,
        id: JobId,
        task: &Task,
        choices: &JobOptions,
    ) -> Result<(QueryOutcome, Listener), Problem> {
        let (Task::Digit { model, .. } | Task::Classify { model, .. }) = task else {
            return Err(not_ready());
        };
        let wallet = self.open_wallet()?;
        let prepared = self.clone().ready_or_prepare(model, None).await?;
        let listener = self.clone().listener(id, prepared.lane.stages().len() as u32);
        let options = options(choices, listener.clone())?;
        let (queries, key) = (&chain.queries, wallet.key());
        let outcome = match task {
            Task::Digit { image, .. } => {
                queries.classify(&prepared, key, std::slice::from_ref(image), &options).await
            }
            Task::Classify { text, pair, .. } => {
                let input = [TextInput { text: text.clone(), pair: pair.clone() }];
                queries.classify_texts(&prepared, key, &input, &options).await
            }
            _ => return Err(not_ready()),
        };
        Ok((outcome.map_err(|error| error.problem())?, listener))
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

/// The checked class of a text that `prepared` read.
pub(crate) fn labelled(outcome: &QueryOutcome, prepared: Option<&Prepared>) -> Option<ClassView> {
    let first = outcome.answer.classes().first()?;
    Some(ClassView {
        class: first.class as u32,
        labels: prepared?.model.encoder()?.labels().to_vec(),
        logits: first.logits.clone(),
    })
}
