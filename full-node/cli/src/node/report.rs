//! What a compute node says to whoever may read its folder, for `nesa status`: of its graphics processor, and of the
//! models that it fetches.

use std::path::Path;

use nesa_node::{Metrics, Stocked};
use serde_json::{Value, json};

use crate::files;

/// What a report is about, each in a file of its own in the node's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The graphics processor.
    Device,
    /// The models that are fetched.
    Fetch,
}

impl About {
    fn file(self) -> &'static str {
        match self {
            Self::Device => "device.json",
            Self::Fetch => "fetch.json",
        }
    }
}

/// A node's report, replaced when something in it changes.
pub(super) struct Report<'a> {
    folder: &'a Path,
    about: About,
    last: Value,
}

impl<'a> Report<'a> {
    /// A report in `folder`; one of an earlier run is taken away.
    pub(super) fn begin(folder: &'a Path, about: About) -> Self {
        // There may be none.
        let _ = std::fs::remove_file(folder.join(about.file()));
        Self { folder, about, last: Value::Null }
    }

    /// Writes down what these metrics say, if they say something new of a graphics processor.
    pub(super) fn device(&mut self, metrics: &Metrics) {
        let Some(gpu) = &metrics.accelerator else { return };
        let (products, steps) = ((metrics.on_accelerator, metrics.on_cpu), metrics.steps);
        self.put(json!({
            "name": gpu.name,
            "dropped": gpu.dropped,
            "stages": {"held": gpu.placed, "of": gpu.stages, "bytes": gpu.bytes},
            "shards": {"held": gpu.shards, "sessions": gpu.sessions, "bytes": gpu.shard_bytes},
            "products": {"gpu": products.0.products, "cpu": products.1.products},
            "steps": {"gpu": steps.on_accelerator, "cpu": steps.on_cpu, "spilled": steps.spilled},
        }));
    }

    /// Writes down how far the fetch of `models` is, if that is something new.
    pub(super) fn fetch(&mut self, models: &[String], stocked: &Stocked, problem: Option<&str>) {
        let Stocked { ready, done, total, kept, budget, fetched } = *stocked;
        self.put(json!({
            "models": models, "ready": ready, "done": done, "total": total, "kept": kept,
            "budget": budget, "pieces_fetched": fetched, "problem": problem,
        }));
    }

    fn put(&mut self, now: Value) {
        if now == self.last {
            return;
        }
        let path = self.folder.join(self.about.file());
        if let Err(error) = files::write(&path, now.to_string().as_bytes()) {
            tracing::debug!(%error, about = ?self.about, "a report is not written");
        }
        self.last = now;
    }
}

/// The report in a node's folder; `None` if there is none.
pub(crate) fn read(folder: &Path, about: About) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join(about.file())).ok()?).ok()
}

/// A report in a line for people.
pub(crate) fn line(report: &Value, about: About) -> String {
    match about {
        About::Device => device_line(report),
        About::Fetch => fetch_line(report),
    }
}

fn fetch_line(report: &Value) -> String {
    let mb = |name: &str| report[name].as_u64().unwrap_or(0).div_ceil(1 << 20);
    let names: Vec<&str> =
        report["models"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let names = names.join(", ");
    let (done, total) = (mb("done"), mb("total"));
    let state = match (report["ready"].as_bool(), report["problem"].as_str()) {
        (Some(true), _) => "ready".to_owned(),
        (_, Some(problem)) => format!("waits: {problem}"),
        _ => format!("{done} of {total} MB of a part"),
    };
    let pieces = report["pieces_fetched"].as_u64().unwrap_or(0);
    let (kept, budget) = (mb("kept"), mb("budget"));
    format!("{names}  {state}  keeps {kept} MB of at most {budget}  pieces fetched {pieces}")
}

fn device_line(report: &Value) -> String {
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
        let read = |folder| read(folder, About::Device);
        let line = |said| line(said, About::Device);
        let mut report = Report::begin(folder.path(), About::Device);
        report.device(&Metrics::default());
        assert_eq!(read(folder.path()), None, "no graphics processor");
        let standing = Standing { name: "card".into(), shards: 2, ..Standing::default() };
        let mut metrics = Metrics { accelerator: Some(standing), ..Metrics::default() };
        report.device(&metrics);
        let said = read(folder.path()).unwrap();
        assert_eq!((&said["name"], &said["shards"]["held"]), (&json!("card"), &json!(2)));
        assert!(line(&said).contains("shards 2"), "{}", line(&said));
        metrics.accelerator.as_mut().unwrap().dropped = Some("it is lost".into());
        report.device(&metrics);
        assert!(line(&read(folder.path()).unwrap()).ends_with("not used any more: it is lost"));
        Report::begin(folder.path(), About::Device);
        assert_eq!(read(folder.path()), None);
    }

    #[test]
    fn a_fetch_says_how_far_it_is_and_what_is_in_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::begin(folder.path(), About::Fetch);
        let said = |folder| line(&read(folder, About::Fetch).unwrap(), About::Fetch);
        let names = ["dictionary".to_owned()];
        let mut stocked =
            Stocked { done: 3 << 20, total: 7 << 20, budget: 9 << 20, ..Stocked::default() };
        report.fetch(&names, &stocked, None);
        assert!(said(folder.path()).starts_with("dictionary  3 of 7 MB"));
        report.fetch(&names, &stocked, Some("nobody has it"));
        assert!(said(folder.path()).contains("waits: nobody has it"));
        stocked.ready = true;
        report.fetch(&names, &stocked, None);
        assert!(said(folder.path()).contains("ready"));
    }
}
