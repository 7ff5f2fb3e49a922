//! Two small charts: inline SVG, with the numbers as text beside them.

use leptos::prelude::*;

use crate::format::millis;

/// Milliseconds over time, oldest left. Says minimum, median and maximum in words.
#[component]
pub(crate) fn Sparkline(
    #[prop(into)] values: Signal<Vec<f64>>,
    label: &'static str,
) -> impl IntoView {
    const WIDTH: f64 = 300.0;
    const HEIGHT: f64 = 60.0;
    let summary = move || {
        let mut sorted = values.get();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = sorted.len().saturating_sub(1) as f64;
            sorted.get((last * share).round() as usize).copied()
        };
        match (at(0.0), at(0.5), at(0.99)) {
            (Some(low), Some(middle), Some(high)) => format!(
                "{label}: median {}, fastest {}, 99 in 100 within {} (last {} blocks)",
                millis(middle),
                millis(low),
                millis(high),
                sorted.len()
            ),
            _ => format!("{label}: no measurement yet"),
        }
    };
    let points = move || {
        let values = values.get();
        let top = values.iter().copied().fold(1.0, f64::max);
        let step = WIDTH / (values.len().saturating_sub(1).max(1)) as f64;
        values
            .iter()
            .enumerate()
            .map(|(i, v)| {
                format!("{:.1},{:.1}", i as f64 * step, HEIGHT - 2.0 - v / top * (HEIGHT - 6.0))
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    view! {
        <figure class="stack">
            <svg class="spark" viewBox="0 0 300 60" preserveAspectRatio="none" role="img"
                aria-label=label>
                <line x1="0" y1="58" x2="300" y2="58"></line>
                <polyline points=points></polyline>
            </svg>
            <figcaption class="small muted num">{summary}</figcaption>
        </figure>
    }
}

/// Where a total went: a bar of parts and the same parts in words.
#[component]
pub(crate) fn SplitBar(parts: Vec<(&'static str, f64)>, label: &'static str) -> impl IntoView {
    const SHADES: [&str; 5] = ["k0", "k1", "k2", "k3", "k4"];
    let total: f64 = parts.iter().map(|p| p.1.max(0.0)).sum();
    let mut x = 0.0;
    let mut bars = Vec::new();
    let mut keys = Vec::new();
    for (i, (name, ms)) in parts.into_iter().enumerate() {
        let shade = SHADES.get(i % SHADES.len()).copied().unwrap_or("k4");
        let width = if total > 0.0 { ms.max(0.0) / total * 100.0 } else { 0.0 };
        bars.push(view! {
            <rect class=shade x=format!("{x:.2}") y="0" width=format!("{width:.2}") height="10"></rect>
        });
        keys.push(view! { <li><i class=shade></i>{name} " " {millis(ms)}</li> });
        x += width;
    }
    view! {
        <div class="stack">
            <svg class="split" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=label>
                {bars}
            </svg>
            <ul class="key">{keys}</ul>
        </div>
    }
}
