//! The program `ipsecov2`; everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ipsecov2::cli::run()
}
