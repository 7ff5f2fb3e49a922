//! `nesa status`: how a network is doing, as one of its nodes tells it.

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};

use super::Target;
use crate::{
    http,
    local::layout::Network,
    node::report::{self, About},
    output::outln,
};

/// Show the head of the chain, the nodes and the models of a network
///
/// This is what one node says, unverified; `nesa query` verifies what it uses. Of a local network it also
/// shows which compute nodes serve on a graphics processor, and how far those are that fetch their models.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa status
  nesa status --rpc http://127.0.0.1:7070 --json")]
pub(crate) struct Status {
    #[command(flatten)]
    target: Target,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn run(self) -> Result<()> {
        let rpc = self.target.rpc()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, nodes, models) = runtime.block_on(async {
            let status = http::json(&format!("{rpc}/v1/status")).await?;
            let nodes = http::json(&format!("{rpc}/v1/nodes")).await?;
            let models = http::json(&format!("{rpc}/v1/models")).await?;
            anyhow::Ok((status, nodes, models))
        })?;
        let devices = self.reports(About::Device);
        let fetches = self.reports(About::Fetch);
        if self.json {
            let mut object = status;
            object["devices"] = devices.iter().cloned().collect::<Map<String, Value>>().into();
            object["fetches"] = fetches.iter().cloned().collect::<Map<String, Value>>().into();
            object["rpc"] = json!(rpc);
            object["nodes"] = nodes["nodes"].clone();
            object["models"] = models["models"].clone();
            outln!("{object}");
            return Ok(());
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        outln!("chain   {}", text(&status["chain_id"]));
        outln!("rpc     {rpc}");
        outln!("height  {}", text(&status["head"]["height"]));
        outln!("view    {}", text(&status["head"]["view"]));
        for model in models["models"].as_array().into_iter().flatten() {
            outln!("model   {}  {}", text(&model["digest"]), text(&model["name"]));
        }
        for node in nodes["nodes"].as_array().into_iter().flatten() {
            outln!(
                "node    {}  operator {}  bond {} unes",
                text(&node["node"]),
                short(&text(&node["operator"])),
                text(&node["bond"]),
            );
        }
        for (name, device) in &devices {
            outln!("device  {name}  {}", report::line(device, About::Device));
        }
        for (name, fetch) in &fetches {
            outln!("fetch   {name}  {}", report::line(fetch, About::Fetch));
        }
        Ok(())
    }

    /// What the nodes of a local network say of their graphics processors or of what they fetch, by name.
    fn reports(&self, about: About) -> Vec<(String, Value)> {
        if self.target.rpc.is_some() {
            return Vec::new();
        }
        let Ok(dir) = self.target.dir() else { return Vec::new() };
        let nodes = Network::load(&dir).map(|network| network.nodes).unwrap_or_default();
        let said = |name: String| report::read(&dir.join(&name), about).map(|said| (name, said));
        nodes.into_iter().filter_map(|node| said(node.name)).collect()
    }
}

fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}
