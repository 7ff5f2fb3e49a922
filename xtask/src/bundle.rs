//! Builds `www/dist`: cargo → wasm-bindgen → names that carry their hash → .gz and .br.
//!
//! Names are a function of the bytes, so the server may let browsers keep them for ever, and two
//! machines that build the same commit can compare folders. The build digest printed at the end is
//! what the page's bottom rung shows.

use crate::{
    float, prerequisites,
    workspace::{WASM_PROFILE, WASM_TARGET, cargo, root, target},
};
use anyhow::{Context as _, Result};
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};
use wasm_bindgen_cli_support::Bindgen;

/// Hex digits of BLAKE3 in a file name: 64 bits, against accidents, not against attackers.
const NAME_DIGITS: usize = 16;
/// Modules loaded on demand. For what every visitor waits for, quality 11 saves 11 % and takes 20 s; it is kept
/// from build to build.
const BROTLI_QUALITY: i32 = 9;
const BEST_BROTLI_QUALITY: i32 = 11;
const ON_DEMAND: [&str; 2] = ["nesa-float.wasm", "nesa-text.wasm"];
/// The modules as cargo names them. The adapter is loaded only when a volunteer serves or asks for the probe, the
/// text module only for a model that brings its own tokenizer, the float module (see [`float`]) only by a volunteer
/// who runs models in floats, the pool's only by one who lends several cores.
const PAGE: &str = "nesa-ui";
const WORKER: &str = "nesa_worker";
const ADAPTER: &str = "nesa_adapter";
const TEXT: &str = "nesa_text";
const POOL: &str = "nesa_pool";
/// Static files with names to fill in.
const TEMPLATED: [&str; 6] = [
    "index.html",
    "boot.js",
    "node-worker.js",
    "text-worker.js",
    "float-worker.js",
    "pool-worker.js",
];

/// What a build made: file name → (raw, brotli) bytes.
pub(crate) struct Built {
    /// Sizes by the stable part of the name (`nesa-ui.wasm`), raw and brotli, in bytes.
    pub(crate) sizes: BTreeMap<String, (u64, u64)>,
}

/// Builds the page and the worker and lays out `www/dist`.
pub(crate) fn build() -> Result<Built> {
    prerequisites::for_build()?;
    wasm(&[PAGE, "nesa-worker"])?;
    // By themselves: their dependencies want features that would make all others compile again.
    wasm(&["nesa-adapter"])?;
    wasm(&["nesa-text"])?;
    let float = float::browser()?;
    wasm(&["nesa-pool"])?;

    let dist = root().join("www/dist");
    let stage = target().join("www-stage");
    for folder in [&dist, &stage] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("clearing {}", folder.display()))?;
        }
        fs::create_dir_all(folder)?;
    }
    let mut out = Dist { folder: dist, files: BTreeMap::new(), sizes: BTreeMap::new() };

    let page = bindgen(&stage, PAGE)?;
    let worker = bindgen(&stage, WORKER)?;
    let page_wasm = out.hashed("nesa-ui", "wasm", &page.wasm)?;
    let page_glue = out.hashed("nesa-ui", "js", &page.glue)?;
    let worker_wasm = out.hashed("nesa-worker", "wasm", &worker.wasm)?;
    let worker_glue = out.hashed("nesa-worker", "js", &worker.glue)?;
    let adapter = bindgen(&stage, ADAPTER)?;
    let adapter_wasm = out.hashed("nesa-adapter", "wasm", &adapter.wasm)?;
    let adapter_glue = out.hashed("nesa-adapter", "js", &adapter.glue)?;

    let text = bindgen(&stage, TEXT)?;
    let text_wasm = out.hashed("nesa-text", "wasm", &text.wasm)?;
    let text_glue = out.hashed("nesa-text", "js", &text.glue)?;

    let pool = bindgen(&stage, POOL)?;
    let pool_wasm = out.hashed("nesa-pool", "wasm", &pool.wasm)?;
    let pool_glue = out.hashed("nesa-pool", "js", &pool.glue)?;

    let statics = root().join("www/static");
    let fill = |file: &str, substitutions: &[(&str, &str)]| -> Result<String> {
        let path = statics.join(file);
        let mut text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for (placeholder, value) in substitutions {
            text = text.replace(placeholder, value);
        }
        Ok(text)
    };
    let boot = fill("boot.js", &[("__GLUE__", &page_glue), ("__WASM__", &page_wasm)])?;
    let boot = out.hashed("boot", "js", boot.as_bytes())?;
    let modules = [("__TEXT_GLUE__", text_glue.as_str()), ("__TEXT_WASM__", &text_wasm)];
    let text_worker = fill("text-worker.js", &modules)?;
    let text_worker = out.hashed("text-worker", "js", text_worker.as_bytes())?;
    let float_wasm = out.hashed("nesa-float", "wasm", &fs::read(&float.wasm)?)?;
    let float_glue = out.hashed("nesa-float", "js", &fs::read(&float.glue)?)?;
    let modules = [("__FLOAT_GLUE__", float_glue.as_str()), ("__FLOAT_WASM__", &float_wasm)];
    let float_worker = fill("float-worker.js", &modules)?;
    let float_worker = out.hashed("float-worker", "js", float_worker.as_bytes())?;
    let modules = [("__POOL_GLUE__", pool_glue.as_str()), ("__POOL_WASM__", &pool_wasm)];
    let pool_worker = fill("pool-worker.js", &modules)?;
    let pool_worker = out.hashed("pool-worker", "js", pool_worker.as_bytes())?;
    let modules = [
        ("__GLUE__", worker_glue.as_str()),
        ("__WASM__", &worker_wasm),
        ("__ADAPTER_GLUE__", &adapter_glue),
        ("__ADAPTER_WASM__", &adapter_wasm),
        ("__TEXT_WORKER__", &text_worker),
        ("__FLOAT_WORKER__", &float_worker),
        ("__POOL_WORKER__", &pool_worker),
    ];
    let start = fill("node-worker.js", &modules)?;
    let start = out.hashed("node-worker", "js", start.as_bytes())?;
    let css = out.hashed("style", "css", stylesheet(&statics)?.as_bytes())?;
    other_statics(&statics, &mut out)?;

    let build = out.digest();
    let html = fill(
        "index.html",
        &[
            ("__WORKER__", &start),
            ("__CSS__", &css),
            ("__BOOT__", &boot),
            ("__UI_GLUE__", &page_glue),
            ("__UI_WASM__", &page_wasm),
            ("__BUILD__", &build),
        ],
    )?;
    out.write("index.html", html.as_bytes())?;
    out.compress()?;
    eprintln!("build {build} in www/dist");
    Ok(Built { sizes: out.sizes })
}

/// Builds the page alone. A test server answers for the worker, whose name stays as it is.
pub(crate) fn page() -> Result<()> {
    wasm(&[PAGE])?;
    let folder = target().join("www-page");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut out = Dist { folder, files: BTreeMap::new(), sizes: BTreeMap::new() };
    let page = bindgen(&target().join("www-stage"), PAGE)?;
    let statics = root().join("www/static");
    out.write("nesa-ui.wasm", &page.wasm)?;
    out.write("nesa-ui.js", &page.glue)?;
    out.write("style.css", stylesheet(&statics)?.as_bytes())?;
    other_statics(&statics, &mut out)?;
    let boot = fs::read_to_string(statics.join("boot.js"))?;
    let boot = boot.replace("__GLUE__", "nesa-ui.js").replace("__WASM__", "nesa-ui.wasm");
    out.write("boot.js", boot.as_bytes())?;
    let mut html = fs::read_to_string(statics.join("index.html"))?;
    for (placeholder, value) in [
        ("__WORKER__", "node-worker.js"),
        ("__CSS__", "style.css"),
        ("__BOOT__", "boot.js"),
        ("__UI_GLUE__", "nesa-ui.js"),
        ("__UI_WASM__", "nesa-ui.wasm"),
        ("__BUILD__", &out.digest()),
    ] {
        html = html.replace(placeholder, value);
    }
    out.write("index.html", html.as_bytes())?;
    eprintln!(
        "page alone: {} B raw, {} B br",
        page.wasm.len(),
        brotli(&page.wasm, BROTLI_QUALITY)?.len()
    );
    Ok(())
}

/// Builds the worker of a client that complains of good products, beside `www/dist` and never in it:
/// the browser tests answer with it in place of the real one. Returns its folder, which holds
/// `nesa_worker.js` and `nesa_worker_bg.wasm`.
pub(crate) fn dishonest_worker() -> Result<PathBuf> {
    cargo(&[
        "build",
        "--locked",
        "--target",
        WASM_TARGET,
        "--profile",
        WASM_PROFILE,
        "-p",
        "nesa-worker",
        "--features",
        "dishonest",
    ])?;
    let stage = target().join("www-dishonest");
    bindgen(&stage, WORKER)?;
    Ok(stage.join(WORKER))
}

/// Builds the adapter's module that serves on software and fails on request, as [`dishonest_worker`] does for
/// the worker. Returns its folder, which holds `nesa_adapter.js` and `nesa_adapter_bg.wasm`.
pub(crate) fn rehearsal_adapter() -> Result<PathBuf> {
    let build = ["build", "--locked", "--target", WASM_TARGET, "--profile", WASM_PROFILE];
    cargo(&[&build[..], &["-p", "nesa-adapter", "--features", "rehearsal"]].concat())?;
    let stage = target().join("www-rehearsal");
    bindgen(&stage, ADAPTER)?;
    Ok(stage.join(ADAPTER))
}

/// Builds the worker that measures what threads give, as [`dishonest_worker`] does. Returns its folder.
pub(crate) fn figures_worker() -> Result<PathBuf> {
    let build = ["build", "--locked", "--target", WASM_TARGET, "--profile", WASM_PROFILE];
    cargo(&[&build[..], &["-p", "nesa-worker", "--features", "figures"]].concat())?;
    let stage = target().join("www-figures");
    bindgen(&stage, WORKER)?;
    Ok(stage.join(WORKER))
}

/// Builds the verifier alone; returns its size, raw and brotli, in bytes.
pub(crate) fn verifier() -> Result<(u64, u64)> {
    prerequisites::for_build()?;
    wasm(&["nesa-verifier"])?;
    let module = bindgen(&target().join("www-stage"), "nesa_verifier")?;
    let small = brotli(&module.wasm, BEST_BROTLI_QUALITY)?;
    Ok((module.wasm.len() as u64, small.len() as u64))
}

/// Compiles packages for the browser.
fn wasm(packages: &[&str]) -> Result<()> {
    let mut args = vec!["build", "--locked", "--target", WASM_TARGET, "--profile", WASM_PROFILE];
    packages.iter().for_each(|package| args.extend(["-p", package]));
    cargo(&args)
}

/// The output of wasm-bindgen for one module.
struct Module {
    wasm: Vec<u8>,
    glue: Vec<u8>,
}

fn bindgen(stage: &Path, name: &str) -> Result<Module> {
    let wasm = target().join(WASM_TARGET).join(WASM_PROFILE).join(format!("{name}.wasm"));
    let folder = stage.join(name);
    Bindgen::new()
        .input_path(&wasm)
        .web(true)?
        .typescript(false)
        .omit_default_module_path(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .out_name(name)
        .generate(&folder)
        .with_context(|| format!("wasm-bindgen on {}", wasm.display()))?;
    Ok(Module {
        wasm: fs::read(folder.join(format!("{name}_bg.wasm")))?,
        glue: fs::read(folder.join(format!("{name}.js")))?,
    })
}

/// All of `www/static/css/*.css` in name order, as one file.
fn stylesheet(statics: &Path) -> Result<String> {
    let mut parts: Vec<PathBuf> = Vec::new();
    let folder = statics.join("css");
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "css") {
            parts.push(path);
        }
    }
    parts.sort();
    let mut text = String::new();
    for part in parts {
        text.push_str(&fs::read_to_string(part)?);
    }
    Ok(text)
}

/// Icons and the like keep their names.
fn other_statics(statics: &Path, out: &mut Dist) -> Result<()> {
    for entry in fs::read_dir(statics)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let templated = TEMPLATED.contains(&name);
        if path.is_file() && !templated {
            out.write(name, &fs::read(&path)?)?;
        }
    }
    Ok(())
}

struct Dist {
    folder: PathBuf,
    files: BTreeMap<String, blake3::Hash>,
    sizes: BTreeMap<String, (u64, u64)>,
}

impl Dist {
    fn write(&mut self, name: &str, data: &[u8]) -> Result<()> {
        fs::write(self.folder.join(name), data).with_context(|| format!("writing {name}"))?;
        self.files.insert(name.to_owned(), blake3::hash(data));
        Ok(())
    }

    fn hashed(&mut self, stem: &str, extension: &str, data: &[u8]) -> Result<String> {
        let hash = blake3::hash(data).to_hex();
        let name = format!("{stem}-{}.{extension}", &hash[..NAME_DIGITS]);
        self.write(&name, data)?;
        Ok(name)
    }

    /// BLAKE3 over (name, digest) of every file but the page that carries it.
    fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("nesa/1 page build");
        for (name, hash) in &self.files {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(hash.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    fn compress(&mut self) -> Result<()> {
        let names: Vec<String> = self.files.keys().cloned().collect();
        for name in names {
            let path = self.folder.join(&name);
            let data = fs::read(&path)?;
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gz.write_all(&data)?;
            fs::write(self.folder.join(format!("{name}.gz")), gz.finish()?)?;
            let br = compressed(&name, &data)?;
            fs::write(self.folder.join(format!("{name}.br")), &br)?;
            eprintln!("  {name:<44} {:>9} B {:>9} B br", data.len(), br.len());
            self.sizes.insert(stable_name(&name), (data.len() as u64, br.len() as u64));
        }
        Ok(())
    }
}

/// A file as it goes over the wire. What a name with a hash was compressed to once is used again.
fn compressed(name: &str, data: &[u8]) -> Result<Vec<u8>> {
    let stable = stable_name(name);
    let on_demand = ON_DEMAND.contains(&stable.as_str());
    let quality = if on_demand { BROTLI_QUALITY } else { BEST_BROTLI_QUALITY };
    if stable == name {
        return brotli(data, quality);
    }
    let folder = target().join("www-brotli");
    let kept = folder.join(format!("{name}.{quality}"));
    if let Ok(small) = fs::read(&kept) {
        return Ok(small);
    }
    let small = brotli(data, quality)?;
    fs::create_dir_all(&folder)?;
    // Whole or not at all: the build may be stopped here.
    let partial = folder.join(format!("{name}.partial"));
    fs::write(&partial, &small)?;
    fs::rename(&partial, &kept)?;
    Ok(small)
}

fn brotli(data: &[u8], quality: i32) -> Result<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams {
        quality,
        lgwin: 24,
        size_hint: data.len(),
        ..Default::default()
    };
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut &data[..], &mut out, &params)?;
    Ok(out)
}

/// `nesa-ui-0123456789abcdef.wasm` → `nesa-ui.wasm`.
fn stable_name(name: &str) -> String {
    let Some((stem, extension)) = name.rsplit_once('.') else { return name.to_owned() };
    match stem.rsplit_once('-') {
        Some((base, hash))
            if hash.len() == NAME_DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            format!("{base}.{extension}")
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::stable_name;

    #[test]
    fn stable_names_lose_only_the_hash() {
        assert_eq!(stable_name("nesa-ui-0123456789abcdef.wasm"), "nesa-ui.wasm");
        assert_eq!(stable_name("index.html"), "index.html");
        assert_eq!(stable_name("node-worker.js"), "node-worker.js");
    }
}
