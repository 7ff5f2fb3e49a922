//! The vector operations that the fast paths are written in, once for every instruction set.
//!
//! A fast path is a function generic over [`Vector`], `inline(always)`, so that it compiles with the
//! features of the function that calls it (`dispatch::vectorised!`). All arithmetic wraps.

/// 32-bit lanes of the widest register.
pub(crate) const MOST_LANES: usize = 16;

/// Operations on a register of 32-bit lanes, which also serves as twice as many 16-bit lanes.
///
/// # Safety
/// Every method requires a CPU with the implementation's features; those that take a pointer also
/// say how much must be readable or writable there. No pointer needs alignment.
pub(crate) trait Vector {
    /// The register.
    type Lanes: Copy;
    /// Sixty-four-bit products of all lanes, in an order of the implementation's own.
    type Wide: Copy;
    /// 32-bit lanes per register.
    const LANES: usize;
    /// Registers of weight rows in a product's tile.
    const ROWS: usize;
    /// Most tokens in a product's tile; `TOKENS · ROWS` sums and their operands fit the registers.
    const TOKENS: usize;
    /// Columns of a product's panel, which with its activations fits the first-level cache.
    const COLUMNS: usize;

    unsafe fn splat(value: i32) -> Self::Lanes;
    /// Reads `LANES` values.
    unsafe fn load(at: *const i32) -> Self::Lanes;
    /// Writes `LANES` values.
    unsafe fn store(at: *mut i32, v: Self::Lanes);
    /// Reads `LANES` 16-bit values, extended with zeros.
    unsafe fn load_u16(at: *const u16) -> Self::Lanes;
    /// Writes the low 16 bits of every lane.
    unsafe fn store_low16(at: *mut i16, v: Self::Lanes);
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn sub(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn min(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn max(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn or(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    unsafe fn xor(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// Arithmetic right shift by 31: all ones where negative.
    unsafe fn signs(v: Self::Lanes) -> Self::Lanes;
    /// Arithmetic right shift by `count < 32`.
    unsafe fn shr(v: Self::Lanes, count: u32) -> Self::Lanes;

    /// Two adjacent 16-bit values in every lane.
    unsafe fn splat_pair(at: *const i16) -> Self::Lanes;
    /// Reads `2·LANES` bytes, extended with their signs to 16 bits.
    unsafe fn load_i8(at: *const i8) -> Self::Lanes;
    /// Asks for the cache line of an address, which may be anywhere; a hint, nothing is read.
    unsafe fn prefetch(at: *const i8);
    /// Sum of all 32-bit lanes.
    unsafe fn total(v: Self::Lanes) -> i32;
    /// [`Vector::total`] of each.
    unsafe fn totals(v: [Self::Lanes; 4]) -> [i32; 4];
    /// `sum + a·b` over 16-bit lanes, adjacent products added in pairs.
    unsafe fn multiply_add(sum: Self::Lanes, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// Reads `2·LANES` bytes from each of `LANES` rows, `stride` apart, and writes them as 16-bit
    /// pairs, transposed: register `i`, at `to + i · to_stride`, holds values `2i` and `2i+1` of each row.
    unsafe fn transpose_i8(from: *const i8, stride: usize, to: *mut i16, to_stride: usize);
    /// Reads `LANES` 32-bit words from each of `LANES` rows, `stride` bytes apart, and writes them
    /// transposed: register `i`, at `to + i · to_stride`, holds word `i` of each row.
    unsafe fn transpose_words(from: *const u8, stride: usize, to: *mut i32, to_stride: usize);
    /// `LANES` 16-bit values from each of two rows, interleaved.
    unsafe fn interleave_i16(even: *const i16, odd: *const i16) -> Self::Lanes;
    /// `2·LANES` 16-bit values from each of two rows, interleaved, in an order of the implementation's
    /// own that [`Vector::in_order`] undoes.
    unsafe fn interleave_two(even: *const i16, odd: *const i16) -> [Self::Lanes; 2];
    /// Brings 32-bit lanes back from the order of [`Vector::interleave_two`].
    unsafe fn in_order(v: [Self::Lanes; 2]) -> [Self::Lanes; 2];

    unsafe fn wide_splat(value: i64) -> Self::Wide;
    /// Signed products.
    unsafe fn wide_mul(a: Self::Lanes, b: Self::Lanes) -> Self::Wide;
    /// Unsigned products.
    unsafe fn wide_mul_u32(a: Self::Lanes, b: Self::Lanes) -> Self::Wide;
    /// Signed products with the low half of each wide lane.
    unsafe fn wide_mul_low(a: Self::Lanes, b: Self::Wide) -> Self::Wide;
    unsafe fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    unsafe fn wide_sub(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    unsafe fn wide_or(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// Logical right shift by `count < 64`.
    unsafe fn wide_shr(v: Self::Wide, count: u32) -> Self::Wide;
    /// The low half of each wide lane, back in order.
    unsafe fn wide_low(v: Self::Wide) -> Self::Lanes;
    /// All wide lanes, in no particular order and zeros after them, to be summed or or-ed.
    unsafe fn wide_lanes(v: Self::Wide) -> [i64; MOST_LANES];
}
