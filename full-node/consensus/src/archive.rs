//! How the archives of a validator lie on disk: transactions by id, seeds by view.

use crate::engine::IO_BUFFER;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::{archive::prunable, translator::Translator};
use commonware_utils::NZU64;

/// The partitions `{prefix}-{name}-…`, for values that need no limits to be decoded.
pub(crate) fn config<T: Translator>(
    translator: T,
    prefix: &str,
    name: &str,
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
        items_per_section: NZU64!(16384),
        key_write_buffer: IO_BUFFER,
        value_write_buffer: IO_BUFFER,
        replay_buffer: IO_BUFFER,
    }
}
