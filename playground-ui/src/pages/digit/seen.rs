//! An image as the model sees it: a grid of shades, and the same numbers as text.

use leptos::prelude::*;

/// A grid of `shape` (rows, columns) with values from 0 to `greatest`.
#[component]
pub(super) fn Seen(
    #[prop(into)] image: Signal<Vec<u8>>,
    shape: (usize, usize),
    greatest: u8,
) -> impl IntoView {
    let (rows, columns) = shape;
    let cells = move || {
        image.with(|values| {
            values
                .iter()
                .take(rows * columns)
                .enumerate()
                .filter(|(_, value)| **value > 0)
                .map(|(i, value)| {
                    let ink = f32::from(*value) / f32::from(greatest.max(1));
                    let (x, y) = (i % columns.max(1), i / columns.max(1));
                    view! {
                        <rect x=x.to_string() y=y.to_string() width="1" height="1"
                            fill-opacity=format!("{ink:.2}")></rect>
                    }
                })
                .collect_view()
        })
    };
    let numbers = move || {
        image.with(|values| {
            let row =
                |row: &[u8]| row.iter().map(|v| format!("{v:>2}")).collect::<Vec<_>>().join(" ");
            values.chunks(columns.max(1)).take(rows).map(row).collect::<Vec<_>>().join("\n")
        })
    };
    view! {
        <svg class="seen" viewBox=format!("0 0 {columns} {rows}") role="img" shape-rendering="crispEdges"
            aria-label=format!("{rows} rows of {columns} shades")>{cells}</svg>
        <details>
            <summary class="small">"As numbers"</summary>
            <pre class="num small" data-test="seen" tabindex="0" role="group" aria-label="The image as numbers">{numbers}</pre>
        </details>
    }
}
