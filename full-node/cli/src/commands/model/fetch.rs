//! `nesa model fetch`: a model of the network as a file, from several peers at once, every piece checked.
//!
//! ```text
//!   name ─proven record─▶ digest ─▶ header ─▶ pieces ─checked─▶ FILE.parts (kept when interrupted) ─▶ FILE
//! ```

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::Args;
use futures::StreamExt as _;
use nesa_chain::{action::Lane, keys, record::ModelRecord};
use nesa_light::models::{ModelStore, ModelStoreError, NetworkSource, PieceSource};
use nesa_platform::storage::Store;
use nesa_primitives::Hash;
use serde_json::{Value, json};

use crate::{
    client::Client,
    commands::Target,
    failure::{Code, Failure},
    files,
    node::model,
    output,
};

/// Which model, from where, to where.
#[derive(Debug, Args)]
pub(super) struct Fetch {
    /// The model's digest, or its name on the network.
    #[arg(value_name = "MODEL")]
    model: String,
    /// Where it goes.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Ask this peer too, beside those that the network's node names; may be given several times.
    #[arg(long, value_name = "MULTIADDR")]
    from: Vec<String>,
    #[command(flatten)]
    target: Target,
}

impl Fetch {
    pub(super) fn run(&self) -> Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = Client::connect(&self.target).await?;
            let fetched = self.fetch(&client).await;
            client.stop().await;
            fetched
        })
    }

    async fn fetch(&self, client: &Client) -> Result<Value> {
        let record = self.find(client).await?;
        let digest = record.digest;
        if record.lanes == Lane::Float.bit() {
            let what =
                format!("{} is a float model: peers hold no checked pieces of it", self.model);
            let next =
                "ask its owner for the ONNX file; `nesa query float` runs it on nodes that have it";
            return Err(Failure::new(Code::Usage, what, next).into());
        }
        if self.out.exists() {
            return self.is_there(&record);
        }
        let parts = parts_of(&self.out)?;
        files::private_dir(&parts)?;
        let place = parts.to_str().context("the path is not valid UTF-8")?;
        let store = ModelStore::new(Store::open(place).await?);
        let peers = client.peers.iter().chain(&self.from);
        let sources: Vec<Arc<dyn PieceSource>> = peers
            .map(|peer| Arc::new(NetworkSource::new(client.network.clone(), peer.clone())) as _)
            .collect();
        let bytes = self.write(&store, &digest, &sources, &parts).await?;
        let fetched = store.fetched();
        drop(store);
        fs::remove_dir_all(&parts).with_context(|| format!("cannot remove {}", parts.display()))?;
        Ok(self.report(&record, bytes, fetched))
    }

    /// Fetches what is missing, and writes all of it; how many bytes the file has.
    async fn write(
        &self,
        store: &ModelStore,
        digest: &Hash,
        sources: &[Arc<dyn PieceSource>],
        parts: &Path,
    ) -> Result<u64> {
        let kept = |error: ModelStoreError| {
            let place = parts.display();
            let next = format!(
                "run it again: what has come is kept in {place}; --from names another peer"
            );
            anyhow::Error::from(Failure::new(Code::Unavailable, error.to_string(), next))
        };
        let header = store.header(digest, sources).await.map_err(kept)?;
        let prefix = header.file_prefix();
        let bytes = (prefix.len() + header.layout().total_bytes) as u64;
        let bar = output::progress(Some(bytes >> 10), "fetching, checking");
        let failed = || format!("cannot write {}", self.out.display());
        // Among the pieces: who is killed here leaves nothing anywhere else.
        let mut file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(parts)
            .with_context(failed)?;
        file.write_all(&prefix).with_context(failed)?;
        let mut done = prefix.len() as u64;
        let pieces = store.pieces(&header, 1..header.piece_count(), sources);
        futures::pin_mut!(pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(kept)?;
            file.write_all(piece.bytes()).with_context(failed)?;
            done += piece.bytes().len() as u64;
            bar.set_position(done >> 10);
        }
        bar.finish_and_clear();
        file.as_file().sync_all().with_context(failed)?;
        file.persist_noclobber(&self.out).with_context(failed)?;
        File::open(folder_of(&self.out))?.sync_all().with_context(failed)?;
        Ok(bytes)
    }

    /// The model's record on the chain, proven: by its digest, or by its name.
    async fn find(&self, client: &Client) -> Result<ModelRecord> {
        if let Ok(digest) = self.model.parse::<Hash>() {
            let record = record(client, &digest).await?;
            return record.ok_or_else(|| self.unknown(client));
        }
        // Whoever lists the models may say anything: the names are those on the chain.
        let mut named = Vec::new();
        for (digest, _) in &client.models {
            let found = record(client, digest).await?;
            named.extend(found.filter(|record| record.name.as_str() == self.model));
        }
        match named.len() {
            0 | 1 => named.pop().ok_or_else(|| self.unknown(client)),
            several => {
                let digests: Vec<String> =
                    named.iter().map(|record| record.digest.to_string()).collect();
                let what = format!("{several} models are called {:?}", self.model);
                let next = format!("name one by its digest: {}", digests.join(", "));
                Err(Failure::new(Code::Usage, what, next).into())
            }
        }
    }

    fn unknown(&self, client: &Client) -> anyhow::Error {
        let offered: Vec<&str> = client.models.iter().map(|(_, name)| name.as_str()).collect();
        let next =
            format!("the network offers {}; `nesa status` shows digests", offered.join(", "));
        Failure::new(Code::Usage, format!("no model {:?} on this network", self.model), next).into()
    }

    /// A file of that name: the model already, or something else that is left alone.
    fn is_there(&self, record: &ModelRecord) -> Result<Value> {
        let other = |got: String| {
            let what =
                format!("{} is there: got {got}, expected {}", self.out.display(), record.digest);
            Failure::new(Code::Usage, what, "choose another --out, or move the file away")
        };
        let artifact = model::open(&self.out).map_err(|error| other(format!("{error:#}")))?;
        if artifact.digest() != record.digest {
            return Err(other(artifact.digest().to_string()).into());
        }
        Ok(self.report(record, artifact.file_len() as u64, 0))
    }

    /// `fetched` are the pieces that came this time.
    fn report(&self, record: &ModelRecord, bytes: u64, fetched: u64) -> Value {
        let (digest, name) = (record.digest, record.name.as_str());
        json!({
            "file": self.out, "digest": digest, "name": name, "bytes": bytes, "pieces_fetched": fetched,
        })
    }
}

async fn record(client: &Client, digest: &Hash) -> Result<Option<ModelRecord>> {
    Ok(client.light.record(keys::model(digest), "model", 0).await?.0)
}

/// Where pieces wait until all are there.
fn parts_of(out: &Path) -> Result<PathBuf> {
    let mut name = out.file_name().context("a file path needs a name")?.to_owned();
    name.push(".parts");
    Ok(out.with_file_name(name))
}

fn folder_of(out: &Path) -> &Path {
    out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
