//! The program `ipsecov2`.
#![forbid(unsafe_code)]
fn main() {}
