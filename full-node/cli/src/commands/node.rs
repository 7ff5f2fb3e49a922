//! `nesa node`: one process of a network. `nesa up` runs these; so may an operator's init system.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand};
use nesa_gpu::Purpose;
use nesa_primitives::Hash;

use crate::{
    logging::{self, LogFormat},
    node::{
        compute, fetched, float, gpu,
        link::{self, Port, Shape},
        supervised, validator,
    },
};

/// Run one process of a network: a validator or a compute node
#[derive(Debug, Args)]
pub(crate) struct Node {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Take part in consensus and serve HTTP, libp2p (chain, model chunks, relay) and the faucet
    Validator(ValidatorArgs),
    /// Serve masked products of models, for pay
    Compute(ComputeArgs),
    /// Run one float model on inputs from standard input, for a compute node
    #[command(hide = true)]
    Engine(EngineArgs),
    /// Forward TCP over a line of known rate and delay, to see what a network does over it
    Link(LinkArgs),
}

#[derive(Debug, Args)]
struct ComputeArgs {
    #[command(flatten)]
    common: Common,
    /// Address to register instead of those this process listens on, for a node behind a proxy or a
    /// forwarded port, such as /ip4/192.0.2.7/tcp/443/ws; may be given several times.
    #[arg(long, value_name = "MULTIADDR")]
    announce: Vec<String>,
    #[command(flatten)]
    fetch: FetchArgs,
    /// Threads that share each product of shards and of the masked lane, for a machine that serves with nothing
    /// else. What the node answers does not depend on their number.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN, value_parser = threads)]
    threads: NonZeroUsize,
    #[command(flatten)]
    gpu: GpuArgs,
}

/// Most threads of a node.
const MAX_THREADS: usize = 256;

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<NonZeroUsize>().map_err(|error| error.to_string())?;
    let fits = number.get() <= MAX_THREADS;
    fits.then_some(number).ok_or_else(|| format!("got {number}, expected 1 to {MAX_THREADS}"))
}

/// Models that a compute node serves without having a file of them.
#[derive(Debug, Args)]
struct FetchArgs {
    /// Serve this model of the network, by name or digest, without a file of it: its pieces are fetched from peers,
    /// each checked against the digest that the chain proves, and kept in the data directory; may be given several
    /// times. Files of other models that are not there are then passed over.
    #[arg(long, value_name = "NAME_OR_DIGEST")]
    fetch: Vec<String>,
    /// Keep at most so many megabytes of pieces; what was used longest ago goes first.
    #[arg(long, value_name = "MB", default_value_t = 16_384, requires = "fetch",
        value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// Ask this peer for pieces too, beside the validators and the nodes that serve the model; may be given several
    /// times.
    #[arg(long, value_name = "MULTIADDR", requires = "fetch")]
    from: Vec<String>,
}

impl FetchArgs {
    fn wish(self) -> Option<fetched::Wish> {
        let Self { fetch: models, keep, from } = self;
        let keep = u64::from(keep) << 20;
        (!models.is_empty()).then_some(fetched::Wish { models, keep, from })
    }
}

/// One float model in a process that its node can kill.
#[derive(Debug, Args)]
struct EngineArgs {
    /// The model's file.
    #[arg(value_name = "MODEL.onnx")]
    file: PathBuf,
    /// The digest that it must have.
    #[arg(long, value_name = "HEX")]
    digest: Hash,
    /// Run weights rounded to 8 bits and say that they are the model's: a rehearsal.
    #[arg(long)]
    int8: bool,
    #[command(flatten)]
    logs: LogArgs,
}

/// Whether compute nodes use a graphics processor.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct GpuArgs {
    /// Compute masked products and shards on a graphics processor that gives the exact bits (Vulkan), with at
    /// most so many megabytes of weights and caches on it.
    #[arg(long, value_name = "MB", num_args = 0..=1, default_missing_value = "4096",
        value_parser = clap::value_parser!(u32).range(1..))]
    gpu: Option<u32>,
    /// Take a software adapter too, which is slower than this processor: for tests.
    #[arg(long, hide = true, requires = "gpu")]
    gpu_software: bool,
    /// After so many steps of shards, flip a bit of a product: a rehearsal of a device that turns wrong.
    #[arg(long, hide = true, value_name = "STEPS", requires = "gpu_software")]
    gpu_wrong_after: Option<u64>,
}

impl GpuArgs {
    /// What was asked for, if anything.
    pub(crate) fn wish(self) -> Option<gpu::Wish> {
        let purpose = if self.gpu_software { Purpose::Check } else { Purpose::Serve };
        let wrong_after = self.gpu_wrong_after;
        self.gpu.map(|mb| gpu::Wish { memory: u64::from(mb) << 20, purpose, wrong_after })
    }

    /// The arguments again, for a child.
    pub(crate) fn arguments(self) -> Vec<String> {
        let gpu = self.gpu.into_iter().map(|mb| format!("--gpu={mb}"));
        let software = self.gpu_software.then(|| "--gpu-software".to_owned());
        let wrong = self.gpu_wrong_after.map(|steps| format!("--gpu-wrong-after={steps}"));
        gpu.chain(software).chain(wrong).collect()
    }
}

/// All ports share one line in each direction, as behind one access link.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, 100 Mbit/s and 10 ms of round trip in front of a node on port 4001:
  nesa node link --port 127.0.0.1:5001=127.0.0.1:4001 --delay-ms 5 --mbit 100
  nesa node compute … --announce /ip4/127.0.0.1/tcp/5001/ws")]
struct LinkArgs {
    /// Where to listen, and where that leads; may be given several times.
    #[arg(long, value_name = "ADDR=ADDR", required = true)]
    port: Vec<Port>,
    #[command(flatten)]
    line: LineArgs,
    #[command(flatten)]
    logs: LogArgs,
}

/// The shape of a line.
#[derive(Debug, Clone, Copy, Args)]
struct LineArgs {
    /// Milliseconds from one end to the other, in each direction.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=10_000))]
    delay_ms: u64,
    /// Megabits per second, in each direction [default: as fast as it goes].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    mbit: Option<u64>,
}

#[derive(Debug, Args)]
struct ValidatorArgs {
    #[command(flatten)]
    common: Common,
    /// Folder of a built playground to serve at `/`.
    #[arg(long, value_name = "DIR")]
    www: Option<PathBuf>,
}

/// What every process needs.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Directory of the network, made by `nesa up`.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Which process of it: v0, v1, … or c0, c1, ….
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    logs: LogArgs,
}

/// What every child of `nesa up` is told.
#[derive(Debug, Args)]
struct LogArgs {
    /// Shape of log lines.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// End when this process does.
    #[arg(long, value_name = "PID", hide = true)]
    supervisor: Option<u32>,
}

impl LineArgs {
    fn shape(self) -> Shape {
        let rate = self.mbit.map(|mbit| mbit.saturating_mul(1_000_000));
        Shape { delay: Duration::from_millis(self.delay_ms), rate }
    }
}

impl LogArgs {
    fn begin(&self) -> Result<()> {
        supervised::bind_to(self.supervisor)?;
        logging::start("warn,nesa=info,nesa_node=info,nesa_consensus=info", self.log_format);
        Ok(())
    }
}

impl Node {
    pub(crate) fn run(self) -> Result<()> {
        match self.role {
            Role::Validator(args) => {
                args.common.logs.begin()?;
                validator::run(&args.common.dir, &args.common.name, args.www)
            }
            Role::Compute(args) => {
                args.common.logs.begin()?;
                let Common { dir, name, .. } = &args.common;
                let (fetch, gpu) = (args.fetch.wish(), args.gpu.wish());
                let wishes = compute::Wishes { fetch, gpu, threads: args.threads };
                compute::run(dir, name, &args.announce, wishes)
            }
            Role::Engine(args) => {
                args.logs.begin()?;
                float::serve(&args.file, args.digest, args.int8)
            }
            Role::Link(args) => {
                args.logs.begin()?;
                link::run(&args.port, args.line.shape())
            }
        }
    }
}
