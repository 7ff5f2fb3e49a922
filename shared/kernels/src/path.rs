//! The paths a product can take, which of them this machine has, and how a caller chooses another.

use std::cell::Cell;

/// A set of instructions that the kernels are compiled for. All give the same integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// No vector instructions but those that the compiler finds.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// AVX2 and its own VNNI: products added to a sum in one instruction, in 256-bit registers.
    AvxVnni,
    /// AVX-512 (F, BW, DQ, VL) and VNNI, in 512-bit registers.
    Avx512Vnni,
    /// WebAssembly's 128-bit registers.
    Simd128,
    /// aarch64, which always has NEON.
    Neon,
    /// NEON and the dot products of bytes (`FEAT_DotProd`).
    NeonDot,
}

impl Path {
    /// All paths, the slowest first.
    const ALL: [Path; 7] = [
        Path::Scalar,
        Path::Simd128,
        Path::Avx2,
        Path::AvxVnni,
        Path::Avx512Vnni,
        Path::Neon,
        Path::NeonDot,
    ];

    /// The name, as benchmarks print it.
    pub const fn name(self) -> &'static str {
        match self {
            Path::Scalar => "scalar",
            Path::Avx2 => "avx2",
            Path::AvxVnni => "avx-vnni",
            Path::Avx512Vnni => "avx512-vnni",
            Path::Simd128 => "simd128",
            Path::Neon => "neon",
            Path::NeonDot => "neon-dotprod",
        }
    }

    /// Whether this machine and this build have it.
    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Path::Scalar => true,
            Path::Avx2 => has!("avx2"),
            Path::AvxVnni => has!("avx2") && has!("avxvnni"),
            Path::Avx512Vnni => {
                let registers = has!("avx512f") && has!("avx512bw") && has!("avx512dq");
                has!("avx2") && registers && has!("avx512vl") && has!("avx512vnni")
            }
            _ => false,
        }
    }

    /// Whether this machine and this build have it.
    #[cfg(target_arch = "aarch64")]
    fn is_here(self) -> bool {
        match self {
            Path::Scalar | Path::Neon => true,
            Path::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
            _ => false,
        }
    }

    /// Whether this machine and this build have it: elsewhere nothing is detected, and `simd128` is a
    /// matter of the whole build.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_here(self) -> bool {
        let simd128 = cfg!(all(target_arch = "wasm32", target_feature = "simd128"));
        self == if simd128 { Path::Simd128 } else { Path::Scalar }
    }

    /// The paths of this machine, the slowest first.
    pub fn available() -> impl Iterator<Item = Path> {
        Self::ALL.into_iter().filter(|path| path.is_here())
    }

    /// The path that this thread takes: the fastest, or what [`Path::during`] says.
    #[inline]
    pub fn current() -> Path {
        CURRENT.with(|current| match current.get() {
            Some(path) => path,
            None => {
                let fastest = Self::available().last().unwrap_or(Path::Scalar);
                current.set(Some(fastest));
                fastest
            }
        })
    }

    /// Runs `f` with this path on this thread, to compare one with another; `None` where the machine
    /// does not have it.
    pub fn during<T>(self, f: impl FnOnce() -> T) -> Option<T> {
        /// Brings the former path back, after a panic too.
        struct Former(Path);
        impl Drop for Former {
            fn drop(&mut self) {
                CURRENT.with(|current| current.set(Some(self.0)));
            }
        }
        if !self.is_here() {
            return None;
        }
        let _former = Former(Self::current());
        CURRENT.with(|current| current.set(Some(self)));
        Some(f())
    }
}

thread_local! {
    static CURRENT: Cell<Option<Path>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_path_ends_with_its_call() {
        let fastest = Path::current();
        for path in Path::available() {
            assert_eq!(path.during(Path::current), Some(path));
            assert_eq!(Path::current(), fastest);
            let panicked = std::panic::catch_unwind(|| path.during(|| panic!("on {path:?}")));
            assert!(panicked.is_err());
            assert_eq!(Path::current(), fastest);
        }
    }

    #[test]
    fn paths_of_other_machines_are_refused() {
        let other = if cfg!(target_arch = "x86_64") { Path::NeonDot } else { Path::Avx2 };
        assert_eq!(other.during(|| ()), None);
    }
}
