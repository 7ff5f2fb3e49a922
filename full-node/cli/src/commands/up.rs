//! `nesa up`: a whole network on this machine.

use std::{
    ffi::OsString,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    commands::node::GpuArgs,
    failure::{Code, Failure},
    files,
    local::{
        layout::{self, Network},
        lock::DirLock,
        ports,
        scenario::Scenario,
        setup,
        supervisor::{ChildSpec, RestartPolicy, Supervisor},
    },
    logging::{self, LogFormat},
    node::supervised,
};

/// How long the validators, and then the compute nodes, may take to serve.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long the ports of a run that was killed may stay taken: the kernel closes the sockets of a killed
/// process when the last of its threads has ended, and then only.
const PORTS_LIMIT: Duration = Duration::from_secs(5);

/// Start a local network: 4 validators, compute nodes of several operators, a faucet, a playground
///
/// Prints one line `READY {json}` on stdout once everything serves. The JSON holds `playground`,
/// `rpc`, `trust_root`, `chain_id`, `scenario`, `dir` and `pids`. Ctrl-C or SIGTERM stops every
/// process; the directory then continues where it was, also after kill -9 of everything.
///
/// The group key of a local network is made by a dealer on this machine, who could forge its
/// chain: use it to try things, not to keep value.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nesa up                          a network in $NESA_HOME/local
  nesa up --port 8080              the playground on a port of your choice
  nesa up --dir /tmp/n --port 0    everything on free ports, chosen once and then kept
  nesa up --scenario liar          one node flips a bit; watch it being caught

Files in DIR:
  network.json  ports, public keys and trust root     genesis.json  the first state
  run.json      process ids as of now                 v0/log c0/log … one log per process")]
pub(crate) struct Up {
    /// Where the network lives [default: $NESA_HOME/local, or local-SCENARIO].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the playground and RPC; 0 picks a free one when the directory is made
    /// [default: 7070 for a new directory, then whatever it had].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Address of this machine that HTTP and libp2p listen on, and that clients are told; kept in
    /// the directory. Consensus stays on loopback [default: 127.0.0.1, or whatever it had].
    #[arg(long, value_name = "ADDR")]
    listen: Option<IpAddr>,
    /// What the network rehearses; fixed when the directory is made.
    #[arg(long, value_enum, value_name = "NAME")]
    scenario: Option<Scenario>,
    /// A compiled model the compute nodes serve; may be given several times [default: all found
    /// under models/].
    #[arg(long, value_name = "FILE")]
    model: Vec<PathBuf>,
    /// Folder of the built playground [default: www/dist near the executable or working directory].
    #[arg(long, value_name = "DIR")]
    www: Option<PathBuf>,
    /// Pause before a process that ended is started again, in milliseconds; doubles up to 10 s.
    #[arg(long, value_name = "MS", default_value_t = 250)]
    restart_delay_ms: u64,
    /// Leave a process down once it has ended.
    #[arg(long)]
    no_restart: bool,
    /// Put a line between clients and the compute nodes: milliseconds from one end to the other, in each
    /// direction. This run only; the chain's own traffic is not on it.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=10_000))]
    link_delay_ms: Option<u64>,
    /// Rate of that line in megabits per second, in each direction; all nodes share it, as if it were
    /// the client's access line.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    link_mbit: Option<u64>,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Shape of log lines, here and in the children's logs.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

impl Up {
    pub(crate) fn run(self) -> Result<()> {
        logging::start("warn,nesa=info", self.log_format);
        let scenario = self.scenario.unwrap_or_default();
        let dir = self.dir.clone().map_or_else(|| layout::default_dir(scenario), Ok)?;
        files::private_dir(&dir)?;
        let dir = dir.canonicalize().with_context(|| format!("cannot enter {}", dir.display()))?;
        let _lock = DirLock::take(&dir)?;
        if let Some(listen) = self.listen.filter(|listen| !ports::is_ours(*listen)) {
            return Err(Failure::new(
                Code::Usage,
                format!("{listen} is not an address of this machine that clients can be told"),
                "name the one address by which clients reach this machine",
            )
            .into());
        }
        let network = self.network(&dir)?;
        check_ports(&network)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, self.supervise(&dir, &network))
    }

    /// The directory's network, made now if there is none; ports and model overridden as asked.
    fn network(&self, dir: &Path) -> Result<Network> {
        if !Network::path(dir).exists() {
            let options = setup::Options {
                scenario: self.scenario.unwrap_or_default(),
                http_port: self.port,
                listen: self.listen.unwrap_or_else(layout::loopback),
                models: self.model.clone(),
            };
            eprintln!("Making a new local network in {} …", dir.display());
            return setup::create(dir, &options);
        }
        let mut network = Network::load(dir)?;
        if let Some(asked) = self.scenario.filter(|asked| *asked != network.scenario) {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "{} was made for the scenario {}, not {}",
                    dir.display(),
                    network.scenario.name(),
                    asked.name()
                ),
                "use another --dir: a scenario is part of the genesis",
            )
            .into());
        }
        let before = serde_json::to_value(&network)?;
        if let (Some(port), Some(first)) = (self.port, network.validators.first_mut())
            && port != 0
        {
            first.http_port = port;
        }
        if let Some(listen) = self.listen {
            network.listen = listen;
        }
        setup::resolve_models(&mut network.models, &self.model)?;
        if serde_json::to_value(&network)? != before {
            network.store(dir)?;
        }
        Ok(network)
    }

    async fn supervise(&self, dir: &Path, network: &Network) -> Result<()> {
        let policy = RestartPolicy {
            first: Duration::from_millis(self.restart_delay_ms.max(1)),
            longest: Duration::from_secs(10),
            enabled: !self.no_restart,
        };
        let mut supervisor = Supervisor::new(dir, policy)?;
        let running = async {
            supervisor.start(self.validators(dir, network), START_LIMIT).await?;
            eprintln!("{} validators agree on blocks.", network.validators.len());
            let doors = self.doors(network)?;
            if let Some(line) = self.line(dir, network, &doors) {
                supervisor.start(vec![line], START_LIMIT).await?;
            }
            supervisor.start(self.nodes(dir, network, &doors), START_LIMIT).await?;
            let names: Vec<_> = network.models.iter().map(|model| model.name.as_str()).collect();
            eprintln!("{} compute nodes serve {}.", network.nodes.len(), names.join(" and "));
            announce(dir, network, &supervisor)?;
            anyhow::Ok(())
        };
        let result = tokio::select! {
            started = running => match started {
                Ok(()) => supervised::asked_to_stop().await,
                Err(error) => Err(error),
            },
            stopped = supervised::asked_to_stop() => stopped,
        };
        eprintln!("Stopping …");
        supervisor.stop().await;
        result
    }

    fn validators(&self, dir: &Path, network: &Network) -> Vec<ChildSpec> {
        let www = self.www.clone().or_else(nesa_rpc::find_dist);
        let specs = network.validators.iter().enumerate().map(|(index, entry)| {
            let mut args = self.common(dir, &entry.name, "validator");
            if let (0, Some(www)) = (index, &www) {
                args.extend(["--www".into(), www.clone().into_os_string()]);
            }
            ChildSpec { name: entry.name.clone(), args, log: dir.join(&entry.name).join("log") }
        });
        specs.collect()
    }

    fn nodes(&self, dir: &Path, network: &Network, doors: &[u16]) -> Vec<ChildSpec> {
        let specs = network.nodes.iter().enumerate().map(|(index, entry)| {
            let mut args = self.common(dir, &entry.name, "compute");
            if let Some(door) = doors.get(index) {
                args.extend([OsString::from("--announce"), network.websocket_part(*door).into()]);
            }
            args.extend(self.gpu.arguments().into_iter().map(OsString::from));
            ChildSpec { name: entry.name.clone(), args, log: dir.join(&entry.name).join("log") }
        });
        specs.collect()
    }

    /// Ports of the line, one for each compute node; none without a line.
    fn doors(&self, network: &Network) -> Result<Vec<u16>> {
        if self.link_delay_ms.is_none() && self.link_mbit.is_none() {
            return Ok(Vec::new());
        }
        // The nodes' own ports are free as yet.
        let theirs: Vec<u16> = network.nodes.iter().map(|node| node.p2p_port).collect();
        let free = ports::pick(2 * network.nodes.len())?;
        let free = free.into_iter().filter(|port| !theirs.contains(port));
        Ok(free.take(network.nodes.len()).collect())
    }

    /// The process between clients and compute nodes.
    fn line(&self, dir: &Path, network: &Network, doors: &[u16]) -> Option<ChildSpec> {
        let mut args: Vec<OsString> =
            ["node", "link", "--log-format", self.format()].map(OsString::from).into();
        for (entry, door) in network.nodes.iter().zip(doors) {
            let [from, to] = [*door, entry.p2p_port].map(|p| SocketAddr::new(network.listen, p));
            args.extend([OsString::from("--port"), format!("{from}={to}").into()]);
        }
        for (name, value) in [("--delay-ms", self.link_delay_ms), ("--mbit", self.link_mbit)] {
            args.extend(
                value.into_iter().flat_map(|v| [OsString::from(name), v.to_string().into()]),
            );
        }
        let spec = ChildSpec { name: "link".into(), args, log: dir.join("link.log") };
        (!doors.is_empty()).then_some(spec)
    }

    fn format(&self) -> &'static str {
        match self.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }

    fn common(&self, dir: &Path, name: &str, role: &str) -> Vec<OsString> {
        let mut args: Vec<OsString> = ["node", role, "--name", name, "--log-format", self.format()]
            .into_iter()
            .map(OsString::from)
            .collect();
        args.extend(["--dir".into(), dir.as_os_str().to_owned()]);
        args
    }
}

/// Says, before anything starts, which port is taken, and stays so.
fn check_ports(network: &Network) -> Result<()> {
    let deadline = Instant::now() + PORTS_LIMIT;
    let validators = network.validators.iter().flat_map(|v| {
        [
            (v.name.as_str(), "http", network.listen, v.http_port),
            (v.name.as_str(), "p2p", network.listen, v.p2p_port),
            (v.name.as_str(), "consensus", layout::loopback(), v.consensus_port),
        ]
    });
    let nodes = network.nodes.iter();
    let nodes = nodes.map(|n| (n.name.as_str(), "p2p", network.listen, n.p2p_port));
    for (name, what, ip, port) in validators.chain(nodes) {
        if !ports::is_free_by(deadline, ip, port) {
            return Err(Failure::new(
                Code::InUse,
                format!("port {port} ({name}, {what}) is taken by another process"),
                if what == "http" && name == "v0" {
                    "stop that process, or choose another port with --port"
                } else {
                    "stop that process, or make a network with other ports in a new --dir"
                },
            )
            .into());
        }
    }
    Ok(())
}

fn announce(dir: &Path, network: &Network, supervisor: &Supervisor) -> Result<()> {
    let rpc = network.rpc().context("a network has at least one validator")?;
    let ready = serde_json::json!({
        "playground": format!("{rpc}/"),
        "rpc": rpc,
        "trust_root": network.trust_root,
        "chain_id": network.chain_id,
        "scenario": network.scenario,
        "model": network.models.first().map(|model| model.digest),
        "models": network.models.iter().map(|model| model.digest).collect::<Vec<_>>(),
        "dir": dir,
        "pids": supervisor.pids(),
    });
    // Nobody may be reading any more; the network runs all the same.
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "READY {ready}").and_then(|()| stdout.flush());
    eprintln!(
        "\n  Playground: {rpc}/\n  Try:        nesa query embed --text 'hello' --json\n  Stop:       Ctrl-C\n"
    );
    Ok(())
}
