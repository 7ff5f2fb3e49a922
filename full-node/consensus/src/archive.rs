//! How the archives of a validator lie on disk: blocks and certificates by height, transactions
//! by id, seeds by view.

use crate::engine::IO_BUFFER;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::{archive::prunable, translator::Translator};
use commonware_utils::NZU64;
use std::num::NonZeroU64;

/// Items of a section for small values: a file of a section of seeds stays under 4 MiB.
pub(crate) const SMALL_ITEMS: NonZeroU64 = NZU64!(16384);
/// Items of a section for blocks and their certificates.
pub(crate) const BLOCKS: NonZeroU64 = NZU64!(4096);

/// The partitions `{prefix}-{name}-…`, for values that need no limits to be decoded.
pub(crate) fn config<T: Translator>(
    translator: T,
    prefix: &str,
    name: &str,
    items_per_section: NonZeroU64,
    page_cache: CacheRef,
) -> prunable::Config<T, ()> {
    prunable::Config {
        translator,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-key"),
        key_page_cache: page_cache,
        value_partition: format!("{prefix}-{name}-value"),
        compression: None,
        codec_config: (),
        items_per_section,
        key_write_buffer: IO_BUFFER,
        value_write_buffer: IO_BUFFER,
        replay_buffer: IO_BUFFER,
    }
}
