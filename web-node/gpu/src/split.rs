//! How a product is cut to what a device's bindings hold, and how many workgroups it has.

/// What a device allows of one binding and of one dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Most bytes of a storage binding or a buffer.
    pub binding: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub groups: u32,
}

/// A product that no cut makes fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one row takes {row} bytes, a binding holds {binding}")]
pub struct TooWide {
    /// Bytes of one row.
    pub row: u64,
    /// Bytes of a binding.
    pub binding: u64,
}

impl Caps {
    /// How many rows of so many bytes one binding holds, at least one.
    ///
    /// # Errors
    /// When a single row does not fit.
    pub fn rows(&self, row_bytes: u64) -> Result<usize, TooWide> {
        let rows = self.binding / row_bytes.max(1);
        if rows == 0 {
            return Err(TooWide { row: row_bytes, binding: self.binding });
        }
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// Workgroups of a dispatch as `[first, second]` dimension, at least as many as asked for; `None` if even
    /// two dimensions do not hold them. Kernels number them `second · first's size + first`.
    pub fn dispatch(&self, groups: u64) -> Option<[u32; 2]> {
        let first = groups.min(u64::from(self.groups)).max(1);
        let second = groups.div_ceil(first).max(1);
        let fits = second <= u64::from(self.groups);
        fits.then_some([u32::try_from(first).ok()?, u32::try_from(second).ok()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fill_a_binding() {
        let caps = Caps { binding: 1000, groups: 7 };
        assert_eq!(caps.rows(100), Ok(10));
        assert_eq!(caps.rows(1000), Ok(1));
        assert_eq!(caps.rows(1001), Err(TooWide { row: 1001, binding: 1000 }));
    }

    #[test]
    fn groups_go_into_two_dimensions() {
        let caps = Caps { binding: 0, groups: 7 };
        assert_eq!(caps.dispatch(0), Some([1, 1]));
        assert_eq!(caps.dispatch(7), Some([7, 1]));
        assert_eq!(caps.dispatch(8), Some([7, 2]));
        assert_eq!(caps.dispatch(49), Some([7, 7]));
        assert_eq!(caps.dispatch(50), None);
        let usual = Caps { binding: 0, groups: 65_535 };
        assert_eq!(usual.dispatch(65_536), Some([65_535, 2]));
    }
}
