//! IPsec in user space behind the IPsec Offload Version 2 contract: program and library.
#![forbid(unsafe_code)]

pub mod cli;
pub mod host;
pub mod operator;
pub mod pcap;
pub mod sa_file;
