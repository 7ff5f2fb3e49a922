//! An answer's markdown as elements, made one by one from a tree that cannot hold anything else.

use leptos::prelude::*;
use nesa_page::markdown::{Block, Inline, parse};

use super::copy;
use crate::state::App;

/// Markdown that may still be growing: a block that did not change keeps its elements, so that what
/// was read, selected or copied stays put.
#[component]
pub(crate) fn Markdown(#[prop(into)] text: Signal<String>) -> impl IntoView {
    let blocks = Memo::new(move |_| text.with(|t| parse(t)));
    let count = Memo::new(move |_| blocks.with(Vec::len));
    view! {
        <div class="md">
            <For each=move || 0..count.get() key=|i| *i let(i)>
                {
                    let one = Memo::new(move |_| blocks.with(|all| all.get(i).cloned()));
                    move || one.get().map(block)
                }
            </For>
        </div>
    }
}

/// Recursion ends: the tree's depth is bounded where it is made.
fn block(block: Block) -> AnyView {
    match block {
        Block::Paragraph(line) => view! { <p>{inlines(line)}</p> }.into_any(),
        // Below the page's title and in no order of its own: an answer may begin with any level.
        Block::Heading(1 | 2, line) => view! { <h2>{inlines(line)}</h2> }.into_any(),
        Block::Heading(_, line) => view! { <h2 class="minor">{inlines(line)}</h2> }.into_any(),
        Block::Code { language, text } => view! { <Code language=language text=text/> }.into_any(),
        Block::Quote(inner) => view! { <blockquote>{blocks(inner)}</blockquote> }.into_any(),
        Block::List { start: None, items } => view! { <ul>{list(items)}</ul> }.into_any(),
        Block::List { start: Some(first), items } => {
            view! { <ol start=first.to_string()>{list(items)}</ol> }.into_any()
        }
        Block::Table { head, rows } => table(head, rows).into_any(),
        Block::Rule => view! { <hr/> }.into_any(),
    }
}

fn blocks(all: Vec<Block>) -> Vec<AnyView> {
    all.into_iter().map(block).collect()
}

/// A tight item is its line alone; a loose one keeps its blocks.
fn list(items: Vec<Vec<Block>>) -> Vec<AnyView> {
    items
        .into_iter()
        .map(|mut item| match item.as_mut_slice() {
            [Block::Paragraph(line)] => {
                view! { <li>{inlines(std::mem::take(line))}</li> }.into_any()
            }
            [Block::Paragraph(line), rest @ ..] => {
                let line = inlines(std::mem::take(line));
                let rest = rest.to_vec();
                view! { <li>{line}{blocks(rest)}</li> }.into_any()
            }
            _ => view! { <li>{blocks(item)}</li> }.into_any(),
        })
        .collect()
}

fn table(head: Vec<Vec<Inline>>, rows: Vec<Vec<Vec<Inline>>>) -> impl IntoView {
    view! {
        <div class="scroll" tabindex="0" role="group" aria-label="Table">
            <table>
                <thead><tr>{head.into_iter().map(|c| view! { <th scope="col">{inlines(c)}</th> }).collect_view()}</tr></thead>
                <tbody>{rows.into_iter().map(|row| view! {
                    <tr>{row.into_iter().map(|c| view! { <td>{inlines(c)}</td> }).collect_view()}</tr>
                }).collect_view()}</tbody>
            </table>
        </div>
    }
}

fn inlines(line: Vec<Inline>) -> Vec<AnyView> {
    line.into_iter()
        .map(|inline| match inline {
            Inline::Text(text) => text.into_any(),
            Inline::Code(text) => view! { <code>{text}</code> }.into_any(),
            Inline::Emphasis(inner) => view! { <em>{inlines(inner)}</em> }.into_any(),
            Inline::Strong(inner) => view! { <strong>{inlines(inner)}</strong> }.into_any(),
            Inline::Struck(inner) => view! { <s>{inlines(inner)}</s> }.into_any(),
            Inline::Link { href, text } => {
                let title = href.clone();
                view! {
                    <a href=href title=title target="_blank" rel="noopener noreferrer nofollow">{inlines(text)}</a>
                }
                .into_any()
            }
            Inline::Break => view! { <br/> }.into_any(),
        })
        .collect()
}

/// Code with its language and a way to take it along.
#[component]
fn Code(language: Option<String>, text: String) -> impl IntoView {
    let app = App::get();
    let copied = text.clone();
    let name = language.clone().unwrap_or_else(|| "Code".to_owned());
    view! {
        <figure class="code">
            <figcaption class="small muted">
                <span>{name.clone()}</span>
                <button type="button" class="link small" on:click=move |_| copy(app, copied.clone())>
                    "Copy"<span class="sr">" this code"</span></button>
            </figcaption>
            <pre tabindex="0" role="group" aria-label=format!("{name}, code")><code>{text}</code></pre>
        </figure>
    }
}
