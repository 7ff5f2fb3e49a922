//! `cargo xtask float`: the float lane's module, for vector and for plain wasm.
//!
//! A calibration compares the two with the native engine, so both are built; browsers load the first.

use crate::{
    prerequisites,
    workspace::{WASM_PROFILE, WASM_TARGET, cargo_with, target},
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};
use wasm_bindgen_cli_support::Bindgen;

/// The variants, and the target features of each.
const VARIANTS: [(&str, &str); 2] = [("simd128", "-C target-feature=+simd128"), ("scalar", "")];
const NAME: &str = "nesa_float";

/// The files of one variant.
pub(crate) struct Module {
    pub(crate) wasm: PathBuf,
    pub(crate) glue: PathBuf,
}

/// Builds both variants; returns the folder that `nesa float calibrate --modules` takes.
pub(crate) fn build() -> Result<PathBuf> {
    prerequisites::for_build()?;
    for (variant, features) in VARIANTS {
        let module = one(variant, features)?;
        let bytes = fs::metadata(&module.wasm)?.len();
        eprintln!("  {variant:<8} {bytes:>9} B");
    }
    let folder = target().join("float");
    eprintln!("modules in {}", folder.display());
    Ok(folder)
}

/// Builds the variant that browsers load.
pub(crate) fn browser() -> Result<Module> {
    let [(variant, features), _] = VARIANTS;
    one(variant, features)
}

fn one(variant: &str, features: &str) -> Result<Module> {
    // `fuzzing` leaves out the dependencies that only make features equal (workspace-hack).
    let flags = format!("--cfg getrandom_backend=\"wasm_js\" --cfg fuzzing {features}");
    let folder = target().join("float");
    let built = folder.join(format!("build-{variant}"));
    let envs = [("RUSTFLAGS", flags), ("CARGO_TARGET_DIR", built.display().to_string())];
    let build = ["build", "--locked", "--target", WASM_TARGET, "--profile", WASM_PROFILE];
    cargo_with(&[&build[..], &["-p", "nesa-float"]].concat(), &envs)?;
    let wasm = built.join(WASM_TARGET).join(WASM_PROFILE).join(format!("{NAME}.wasm"));
    let out = folder.join(variant);
    bindgen(&wasm, &out)?;
    Ok(Module { wasm: out.join(format!("{NAME}_bg.wasm")), glue: out.join(format!("{NAME}.js")) })
}

fn bindgen(wasm: &Path, out: &Path) -> Result<()> {
    Bindgen::new()
        .input_path(wasm)
        .web(true)?
        .typescript(false)
        .omit_default_module_path(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .out_name(NAME)
        .generate(out)
        .with_context(|| format!("wasm-bindgen on {}", wasm.display()))
}
