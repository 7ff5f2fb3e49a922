//! Products on their way to an accelerator: what waits while one batch is computed is the next batch.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
};
use nesa_platform::{
    task::{self, Guard},
    time::{Instant, timeout},
};

use super::{Accelerator, Product, Watch};
use crate::metrics::Counters;

/// How long one batch may take: half of what a client waits for an answer, so that the processor still has
/// the time to give it.
pub(crate) const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5_000 });
/// Most products in one batch: each has a part of at most 64 rows, so this bounds what a submit takes.
const MOST: usize = 16;
/// Products that may wait; whoever comes later waits to be let in.
const WAITING: usize = 16;

/// A product and whoever waits for it.
struct Ticket {
    product: Product,
    reply: oneshot::Sender<Vec<u32>>,
}

/// The way in.
pub(super) struct Queue {
    tickets: mpsc::Sender<Ticket>,
}

impl Queue {
    /// A queue before `accelerator`, kept moving until the guard is dropped.
    pub(super) fn new(
        accelerator: Arc<dyn Accelerator>,
        standing: Watch,
        counters: Arc<Counters>,
    ) -> (Self, Guard) {
        let (tickets, waiting) = mpsc::channel(WAITING);
        let task = task::spawn(feed(accelerator, waiting, standing, counters));
        (Self { tickets }, task.abort_on_drop())
    }

    /// The product; `None` when the accelerator gave none.
    pub(super) async fn compute(&self, product: Product) -> Option<Vec<u32>> {
        let (reply, answer) = oneshot::channel();
        self.tickets.clone().send(Ticket { product, reply }).await.ok()?;
        answer.await.ok()
    }
}

async fn feed(
    accelerator: Arc<dyn Accelerator>,
    mut waiting: mpsc::Receiver<Ticket>,
    standing: Watch,
    counters: Arc<Counters>,
) {
    while let Some(first) = waiting.next().await {
        let (mut batch, mut replies) = (vec![first.product], vec![first.reply]);
        while batch.len() < MOST
            && let Some(Some(next)) = waiting.next().now_or_never()
        {
            batch.push(next.product);
            replies.push(next.reply);
        }
        let count = batch.len();
        let began = Instant::now();
        let reason = match timeout(PATIENCE, accelerator.products(batch)).await {
            Ok(Ok(products)) if products.len() == count => {
                counters.computed(&counters.accelerator, 0, began.elapsed());
                for (reply, product) in replies.into_iter().zip(products) {
                    // Whoever asked may have left.
                    let _ = reply.send(product);
                }
                continue;
            }
            Ok(Ok(products)) => format!("it gave {} products of {count}", products.len()),
            Ok(Err(failed)) => failed.to_string(),
            Err(_) => format!("it took longer than {PATIENCE:?}"),
        };
        // Those who wait see their tickets vanish, and compute themselves.
        standing.drop_for(&reason);
        return;
    }
}
