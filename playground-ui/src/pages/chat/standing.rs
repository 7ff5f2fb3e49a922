//! How far a text of the sealed lane can be relied on, beside the text and for those who listen.

use leptos::prelude::*;
use nesa_messages::{JobView, SealedView, WrittenView};
use nesa_page::sealed::{self, Mark};

use crate::{
    format::short,
    parts::{HashText, icon},
};

/// The mark of a job's text, if it is of the sealed lane.
pub(super) fn mark(job: &JobView) -> Option<Mark> {
    job.sealed.as_ref().map(|sealed| sealed::mark(sealed, job.state))
}

/// The label above a text. It is text itself, so that whoever listens hears it before the words.
#[component]
pub(super) fn Label(
    id: String,
    mark: Memo<Option<Mark>>,
    job: Memo<Option<JobView>>,
    written: Memo<Option<WrittenView>>,
) -> impl IntoView {
    let count = move || {
        let (tokens, agreed) =
            written.with(|w| w.as_ref().map_or((0, 0), |w| (w.tokens, w.agreed)));
        job.with(|j| sealed::compared(j.as_ref()?.sealed.as_ref()?, tokens, agreed))
    };
    view! {
        <p class="mark small" id=id data-test="standing"
            data-standing=move || mark.get().map(|mark| mark.name)>
            {move || mark.get().map(|mark| view! {
                {icon(match mark.name {
                    "agreed" => "verified",
                    "disputed" => "failed",
                    "provisional" => "pending",
                    _ => "not-checked",
                })}
                <span><strong>{mark.label}"."</strong> " " {mark.words} " " <span class="num">{count}</span></span>
            })}
        </p>
    }
}

/// Nodes that left on the way. Nothing is lost by it, so it is news, not an alarm.
pub(super) fn replaced(sealed: &SealedView) -> impl IntoView + use<> {
    sealed
        .replaced
        .iter()
        .map(|one| {
            let (shard, tokens) = (u32::from(one.shard) + 1, one.tokens);
            let when = if tokens > 0 {
                format!("after {tokens} tokens")
            } else {
                "before the first token".to_owned()
            };
            let words = format!(
                "A node of part {shard} left {when} ({}). Another one took its place; the text goes on unchanged.",
                one.reason
            );
            view! { <p class="note small" data-test="replaced">{words}</p> }
        })
        .collect_view()
}

/// Where nodes contradicted each other.
pub(super) fn dispute(sealed: &SealedView) -> impl IntoView + use<> {
    sealed.dispute.as_ref().map(|dispute| {
        let place = format!("part {}, step {}", u32::from(dispute.shard) + 1, dispute.step + 1);
        let money = if sealed.disclose {
            "Their commitments were asked for, so that the chain can find the liar."
        } else {
            "None of them is paid for what they did not agree on. Nothing was published."
        };
        view! {
            <section class="note failed caught" data-test="rejected">
                <h2>{icon("shield")} " Caught nodes that contradict each other"</h2>
                <dl>
                    <dt>"Where"</dt><dd>{place}</dd>
                    <dt>"One said"</dt><dd><code>{short(&dispute.said)}</code>{format!(" (node {})", short(&dispute.node))}</dd>
                    <dt>"Another"</dt><dd><code>{short(&dispute.others)}</code></dd>
                    <dt>"Money"</dt><dd>{money}</dd>
                    <dt>"Now"</dt><dd>"Ask again: other nodes are drawn. Or ask in the masked lane, which finds the liar and goes on."</dd>
                </dl>
            </section>
        }
    })
}

/// Whether a job's problem is what [`dispute`] shows.
pub(super) fn told(job: &JobView) -> bool {
    job.sealed.as_ref().is_some_and(|sealed| sealed.dispute.is_some())
}

/// Who read and computed, and what they stand by: the record of a sealed text.
pub(super) fn record(job: &JobView) -> Option<impl IntoView + use<>> {
    let sealed = job.sealed.clone()?;
    let shards = sealed.shards.iter().enumerate().map(|(index, (first, end))| {
        let nodes: Vec<String> = sealed
            .nodes
            .iter()
            .filter(|node| usize::from(node.shard) == index)
            .map(|node| {
                format!("{} of operator {}", short(&node.node), short(&node.operator))
            })
            .collect();
        let root = sealed.roots.get(index).cloned();
        let title = format!("Part {}, {}", index + 1, sealed::layers(*first, *end));
        view! {
            <li><p>{title}{": "}{if nodes.is_empty() { "not served to the end".to_owned() } else { nodes.join("; ") }}</p>
                {root.map(|root| view! { <p>"Trace " <HashText hash=root name="trace root"/></p> })}</li>
        }
    });
    let consent = if sealed.disclose {
        "You agreed that a dispute publishes a piece of it."
    } else {
        "A dispute publishes nothing of it."
    };
    Some(view! {
        <div class="small muted stack" data-test="committee-record">
            <h2>"Who read and computed it"</h2>
            <ul class="stack">{shards.collect_view()}</ul>
            <p>{consent}</p>
        </div>
    })
}
