//! What a compute node says of its graphics processor to whoever may read its folder: `nesa status`.

use std::path::Path;

use nesa_node::Metrics;
use serde_json::{Value, json};

use crate::files;

/// The file, in the node's folder.
const FILE: &str = "device.json";

/// A node's report, replaced when something in it changes.
pub(super) struct Report<'a> {
    folder: &'a Path,
    last: Value,
}

impl<'a> Report<'a> {
    /// A report in `folder`; one of an earlier run is taken away.
    pub(super) fn begin(folder: &'a Path) -> Self {
        // There may be none.
        let _ = std::fs::remove_file(folder.join(FILE));
        Self { folder, last: Value::Null }
    }

    /// Writes down what these metrics say, if they say something new of a graphics processor.
    pub(super) fn update(&mut self, metrics: &Metrics) {
        let Some(gpu) = &metrics.accelerator else { return };
        let (products, steps) = ((metrics.on_accelerator, metrics.on_cpu), metrics.steps);
        let now = json!({
            "name": gpu.name,
            "dropped": gpu.dropped,
            "stages": {"held": gpu.placed, "of": gpu.stages, "bytes": gpu.bytes},
            "shards": {"held": gpu.shards, "sessions": gpu.sessions, "bytes": gpu.shard_bytes},
            "products": {"gpu": products.0.products, "cpu": products.1.products},
            "steps": {"gpu": steps.on_accelerator, "cpu": steps.on_cpu, "spilled": steps.spilled},
        });
        if now == self.last {
            return;
        }
        if let Err(error) = files::write(&self.folder.join(FILE), now.to_string().as_bytes()) {
            tracing::debug!(%error, "the report of the device is not written");
        }
        self.last = now;
    }
}

/// The report in a node's folder; `None` if it serves on no graphics processor.
pub(crate) fn read(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
}

/// A report in a line for people.
pub(crate) fn line(report: &Value) -> String {
    let name = report["name"].as_str().unwrap_or("?");
    if let Some(reason) = report["dropped"].as_str() {
        return format!("{name}, not used any more: {reason}");
    }
    let number = |outer: &str, inner: &str| report[outer][inner].as_u64().unwrap_or(0);
    let bytes = number("stages", "bytes").saturating_add(number("shards", "bytes"));
    format!(
        "{name}  layers {} of {}  shards {}  sessions {}  {} MB  products {} (processor {})  steps {} (processor {})",
        number("stages", "held"),
        number("stages", "of"),
        number("shards", "held"),
        number("shards", "sessions"),
        bytes.div_ceil(1 << 20),
        number("products", "gpu"),
        number("products", "cpu"),
        number("steps", "gpu"),
        number("steps", "cpu"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed set-up is a failed test

    use nesa_node::Standing;

    use super::*;

    #[test]
    fn a_report_is_what_the_metrics_say_and_none_is_left_of_an_earlier_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::begin(folder.path());
        report.update(&Metrics::default());
        assert_eq!(read(folder.path()), None, "no graphics processor");
        let standing = Standing { name: "card".into(), shards: 2, ..Standing::default() };
        let mut metrics = Metrics { accelerator: Some(standing), ..Metrics::default() };
        report.update(&metrics);
        let said = read(folder.path()).unwrap();
        assert_eq!((&said["name"], &said["shards"]["held"]), (&json!("card"), &json!(2)));
        assert!(line(&said).contains("shards 2"), "{}", line(&said));
        metrics.accelerator.as_mut().unwrap().dropped = Some("it is lost".into());
        report.update(&metrics);
        assert!(line(&read(folder.path()).unwrap()).ends_with("not used any more: it is lost"));
        Report::begin(folder.path());
        assert_eq!(read(folder.path()), None);
    }
}
