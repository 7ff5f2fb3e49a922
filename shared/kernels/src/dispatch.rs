//! Chooses the fastest version of each function the machine has.

/// Names the path taken here: `avx2`, `simd128` or `scalar`.
pub fn path_name() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        return "avx2";
    }
    if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) { "simd128" } else { "scalar" }
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// Defines a function that calls `fast::<V>` with the best [`crate::vector::Vector`] the machine
/// has, or `plain` where it has none. Both take the same arguments and give the same result.
macro_rules! vectorised {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $([$w:ident: $bound:ident])? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? {
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
                if crate::dispatch::has_avx2() {
                    // SAFETY: the CPU has AVX2, checked on the line above.
                    return unsafe { avx2($($arg),*) };
                }
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
