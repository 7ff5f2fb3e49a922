//! Runs a test on every path that this machine has.

use nesa_kernels::Path;
use proptest::test_runner::{TestCaseError, TestCaseResult};

/// The test's result on every path, with the path's name in what fails.
pub(crate) fn on_every_path(test: impl Fn() -> TestCaseResult) -> TestCaseResult {
    for path in Path::available() {
        let result = path.during(&test).unwrap_or_else(|| Err(TestCaseError::fail("refused")));
        result.map_err(|error| match error {
            TestCaseError::Fail(reason) => {
                TestCaseError::fail(format!("on {}: {reason}", path.name()))
            }
            reject => reject,
        })?;
    }
    Ok(())
}
