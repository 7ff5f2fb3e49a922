//! Calls the version of a function that the current [`crate::Path`] names.

/// Names the path taken here, as [`crate::Path::name`].
pub fn path_name() -> &'static str {
    crate::Path::current().name()
}

/// Defines a function that calls `fast::<V>` with the [`crate::vector::Vector`] of the current path, or
/// `plain` where that has none. Both take the same arguments and give the same result.
///
/// `wide if CONDITION` before `fast` lets 512-bit registers only where it holds, since a row that does not
/// fill them is computed sooner in 256-bit ones.
macro_rules! vectorised {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $([$w:ident: $bound:ident])? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? {
            $(wide if $wide:expr;)?
            fast: $($fast:ident)::+,
            plain: $plain:path,
        }
    ) => {
        $(#[$meta])*
        $vis fn $name $(<$w: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2 $(<$w: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function itself requires AVX2.
                    unsafe { $($fast)::+::<crate::avx2::Avx2 $(, $w)?>($($arg),*) }
                }
                #[target_feature(enable = "avx2,avxvnni")]
                fn avx_vnni $(<$w: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function itself requires AVX2 and AVX-VNNI.
                    unsafe { $($fast)::+::<crate::avx2::AvxVnni $(, $w)?>($($arg),*) }
                }
                #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
                fn avx512 $(<$w: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function itself requires AVX-512 with these parts.
                    unsafe { $($fast)::+::<crate::avx512::Avx512 $(, $w)?>($($arg),*) }
                }
                let narrow = false $(|| !$wide)?;
                match crate::Path::current() {
                    // SAFETY: the CPU has AVX-512, hence AVX2.
                    crate::Path::Avx512Vnni if narrow => return unsafe { avx2($($arg),*) },
                    // SAFETY: the CPU has what its current path says, here and below.
                    crate::Path::Avx512Vnni => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    crate::Path::AvxVnni => return unsafe { avx_vnni($($arg),*) },
                    // SAFETY: as above.
                    crate::Path::Avx2 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            #[cfg(target_arch = "aarch64")]
            if crate::Path::current() != crate::Path::Scalar {
                // SAFETY: every aarch64 has NEON.
                return unsafe { $($fast)::+::<crate::neon::Neon $(, $w)?>($($arg),*) };
            }
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            {
                // SAFETY: the whole crate is compiled with `simd128`.
                return unsafe { $($fast)::+::<crate::simd128::Simd128 $(, $w)?>($($arg),*) };
            }
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            $plain($($arg),*)
        }
    };
}
pub(crate) use vectorised;
