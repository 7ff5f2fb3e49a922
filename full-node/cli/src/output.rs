//! Answers on stdout; progress on stderr while someone watches, nothing when nobody does.

use std::{
    fmt::Display,
    io::{ErrorKind, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps, or a spinner when `length` is `None`; hidden unless stderr is a terminal.
pub(crate) fn progress(length: Option<u64>, message: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    let template = match length {
        Some(_) => "{msg:24} {bar:32} {pos}/{len} {elapsed}",
        None => "{spinner} {msg} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// As `println!`, except that a reader who goes away is no error.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::output::line(format_args!($($argument)*)) };
}
pub(crate) use outln;

/// Prints one line of an answer. A reader that went away, as in `nesa status | head`, ends the
/// command quietly.
pub(crate) fn line(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush())
        && error.kind() == ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}
