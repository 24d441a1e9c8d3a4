//! IPsec in user space behind the IPsec Offload Version 2 contract: program and library.
//!
//! The rooms of the house are crates of their own; here they are put together: a [host] is a transport over the NDIS-like stack over a software NIC,
//! [SA files](sa_file) say what it protects and how, and the [commands](cli) of the program work with hosts: on [captures](pcap), or two of them on a wire in
//! memory.
//!
//! A packet that one host protects, and another opens:
//!
//! ```
//! use ipsecov2::host::{Host, HostConfig};
//! use ipsecov2::sa_file::{SaFile, SaFileRules};
//! use packet::{Frame, IpProtocol, Ipv4Repr, Medium, Time};
//! use transport::InboundBatch;
//!
//! let sa = |direction: &str| format!(r#"
//!     [[sa]]
//!     name = "a to b"
//!     direction = "{direction}"
//!     mode = "tunnel"
//!     source = "192.0.2.1"
//!     destination = "192.0.2.2"
//!     [[sa.association]]
//!     operation = "esp"
//!     spi = 0x1001
//!     encryption = "aes-gcm-128"
//!     encryption-key = "000102030405060708090a0b0c0d0e0f10111213"
//! "#);
//! let host = |direction| -> Result<Host, Box<dyn std::error::Error>> {
//!     let host = Host::new(&HostConfig { medium: Medium::Ip, ..HostConfig::default() })?;
//!     for bundle in SaFile::parse(&sa(direction), "example.toml", SaFileRules::default())?.bundles {
//!         host.add_sa(bundle.parameters, Time::ZERO)?;
//!     }
//!     Ok(host)
//! };
//! let (mut a, mut b) = (host("outbound")?, host("inbound")?);
//!
//! let mut packet = vec![0; 20 + 100];
//! Ipv4Repr::new(IpProtocol::UDP, "10.0.1.1".parse()?, "10.0.2.1".parse()?, 100).emit(&mut packet)?;
//! let (mut frames, mut wire) = (vec![Frame::new(a.pool().copy_from(&packet))], Vec::new());
//! a.send(Time::ZERO, &mut frames, &mut wire);
//! assert_eq!(wire[0].buffer.as_slice()[9], 50, "ESP is what is on the wire");
//!
//! let mut received = InboundBatch::default();
//! b.receive(Time::ZERO, &mut wire, &mut received);
//! assert_eq!(received.delivered[0].buffer.as_slice(), packet);
//! assert_eq!((a.transport().outbound().offloaded.packets, b.transport().inbound().offloaded.packets), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod demo;
pub mod explain;
pub mod host;
pub mod operator;
pub mod pcap;
pub mod profile;
pub mod sa_file;
mod text_file;
pub mod workers;
