//! `/v1/metrics`: figures of this process in the Prometheus text format.

use std::fmt::Write as _;

use crate::backend::Metric;

/// Renders `metrics` as Prometheus text, version 0.0.4.
pub(crate) fn render(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for Metric { name, help, kind, value } in metrics {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}

/// Resident memory of this process in bytes, from `/proc/self/statm`; `None` off Linux.
pub(crate) fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some((pages * PAGE_BYTES) as f64)
}

/// Page size on every Linux target we run on.
const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format() {
        let metric = Metric { name: "nesa_height", help: "Height.", kind: "gauge", value: 7.0 };
        assert_eq!(
            render(&[metric]),
            "# HELP nesa_height Height.\n# TYPE nesa_height gauge\nnesa_height 7\n"
        );
    }
}
