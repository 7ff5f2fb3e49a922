//! Reading and checking parameter tensors, whatever the family.

use crate::ModelError;

pub(crate) fn u64s(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|&b| u64::from_le_bytes(b)).collect()
}

pub(crate) fn u32s(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect()
}

pub(crate) fn i32s(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b)).collect()
}

pub(crate) fn u16s(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b)).collect()
}

/// The table must start above 2^14, never rise, stay within 15 bits and end in 0: that is what
/// bounds the sums of attention weights.
pub(crate) fn check_exp_table(table: &[u16]) -> Result<(), ModelError> {
    let fail = |index: usize, allowed| {
        let got = i64::from(table.get(index).copied().unwrap_or(0));
        Err(ModelError::Parameter { what: "exponential table", index, got, allowed })
    };
    match table.first() {
        Some(16385..=32767) => {}
        _ => return fail(0, "above 2^14, at most 32767"),
    }
    if let Some(index) = table.windows(2).position(|w| w[1] > w[0]) {
        return fail(index + 1, "never rising");
    }
    if table.last() != Some(&0) {
        return fail(table.len().saturating_sub(1), "0 at the end");
    }
    Ok(())
}

pub(crate) fn below_2_31(what: &'static str, values: &[u32]) -> Result<(), ModelError> {
    match values.iter().position(|&v| v >> 31 != 0) {
        None => Ok(()),
        Some(index) => Err(ModelError::Parameter {
            what,
            index,
            got: values[index].into(),
            allowed: "below 2^31",
        }),
    }
}

/// Each magnitude at most `limit`.
pub(crate) fn within(
    what: &'static str,
    values: &[i32],
    limit: i32,
    allowed: &'static str,
) -> Result<(), ModelError> {
    match values.iter().position(|v| v.unsigned_abs() > limit.unsigned_abs()) {
        None => Ok(()),
        Some(index) => {
            Err(ModelError::Parameter { what, index, got: values[index].into(), allowed })
        }
    }
}
