//! What goes to standard output and standard error.

use std::io::{self, Write};

use serde::Serialize;

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was asked for something that makes no sense: exit code 2.
    Usage(String),
    /// It failed: exit code 1.
    Failed(String),
    /// Whoever read its output has gone away: not an error.
    BrokenPipe,
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over where they end")]
    pub(super) fn failed(error: impl ToString) -> Self {
        Self::Failed(error.to_string())
    }

    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over where they end")]
    pub(super) fn usage(error: impl ToString) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Writes text to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::BrokenPipe),
        Err(error) => Err(Failure::Failed(format!("standard output: {error}"))),
    }
}

/// Writes one JSON document to standard output.
pub(super) fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(document).map_err(Failure::failed)?;
    text.push('\n');
    print(&text)
}

/// Writes lines for people to standard error, where they do not mix with what a program reads.
pub(super) fn inform(text: &str) {
    // If nobody can read it, there is nobody to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Says what is wrong, on one line.
pub(super) fn complain(message: &str) {
    inform(&format!("ipsecov2: {}\n", message.lines().collect::<Vec<_>>().join("; ")));
}

/// Says what may be wrong.
pub(super) fn warn(message: &str) {
    complain(&format!("warning: {message}"));
}
