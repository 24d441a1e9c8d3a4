//! Typed views and small valid forms of packets, internet checksums, packet buffers.
//!
//! Each protocol has two types, after the manner of smoltcp: a *view* over bytes (`Ipv4Packet`, `EspPacket`) whose constructor checks what the header says
//! about lengths, and which then reads and, over mutable bytes, writes fields in place; and a *representation* (`Ipv4Repr`, `EspRepr`), a header as plain
//! values, which is written with `emit`. Views hand out host integers; all bytes are in network order.
//!
//! [`ParsedIp`] is the one pass over an IP packet that the data path makes: where the header ends, what comes then, and where ESP or AH would go.
//! Nothing here allocates or formats unless asked to, knows an SA, or panics on any bytes.
//!
//! ```
//! use packet::{IpProtocol, Ipv4Packet, Ipv4Repr, ParsedIp, UdpRepr, checksum, pretty};
//!
//! // Build a packet.
//! let mut bytes = [0; 33];
//! let ip = Ipv4Repr::new(IpProtocol::UDP, "10.0.1.1".parse()?, "10.0.2.1".parse()?, 13);
//! let at = ip.emit(&mut bytes)?;
//! UdpRepr { src_port: 40000, dst_port: 53, payload_len: 5 }.emit(&mut bytes[at..])?;
//! bytes[28..].copy_from_slice(b"hello");
//! checksum::fill_segment(ip.src.into(), ip.dst.into(), ip.protocol, &mut bytes[at..])?;
//!
//! // Look at it.
//! let parsed = ParsedIp::parse(&bytes)?;
//! assert_eq!((parsed.protocol(), parsed.ports()), (IpProtocol::UDP, Some((40000, 53))));
//! assert_eq!(pretty::ip(&bytes).to_string(), "IPv4 10.0.1.1 > 10.0.2.1 UDP 40000 > 53 len 33");
//!
//! // Change it in place.
//! let mut view = Ipv4Packet::new(&mut bytes)?;
//! view.set_ttl(view.ttl() - 1);
//! assert!(!view.verify_checksum());
//! view.fill_checksum();
//! assert!(view.verify_checksum());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod bytes;

pub mod addr;
pub use addr::{IpAddress, MacAddress};

pub mod ah;
pub use ah::{AH_FIXED_LEN, AH_MAX_LEN, AhPacket, AhRepr};

pub mod buffer;
pub use buffer::*;

pub mod checksum;
pub use checksum::{ChecksumVerdict, InternetSum};

pub mod error;
pub use error::{EmitError, Layer, ParseError};

pub mod esp;
pub use esp::{ESP_HEADER_LEN, ESP_TRAILER_LEN, EspPacket, EspRepr, EspTrailer, Spi};

pub mod ethernet;
pub use ethernet::{ETHERNET_HEADER_LEN, EtherType, EthernetFrame, EthernetKind, EthernetRepr, VLAN_TAG_LEN, VlanTag};

pub mod frame;
pub use frame::*;

pub mod icmp;
pub use icmp::{ICMP_HEADER_LEN, IcmpPacket, IcmpRepr, icmpv4, icmpv6};

pub mod ipv4;
pub use ipv4::{IPV4_HEADER_LEN, IPV4_MAX_HEADER_LEN, Ipv4Packet, Ipv4Repr};

pub mod ipv6;
pub use ipv6::{IPV6_HEADER_LEN, IPV6_MAX_FLOW_LABEL, Ipv6Packet, Ipv6Repr};

pub mod ipv6_ext;
pub use ipv6_ext::{
    IPV6_FRAGMENT_HEADER_LEN, Ipv6ChainEnd, Ipv6ExtensionHeader, Ipv6ExtensionHeaders, Ipv6Fragment, Ipv6Option, Ipv6Options, MAX_EXTENSION_HEADERS,
};

pub mod options;
pub use options::{HeaderOption, HeaderOptions};

pub mod parsed;
pub use parsed::{FragmentState, InsertionPoint, ParsedIp, UpperLayer};

pub mod pretty;

pub mod proto;
pub use proto::{IpProtocol, IpVersion};

pub mod segment;
pub use segment::{CutError, Cutter, LengthRule, Template};

pub mod tcp;
pub use tcp::{TCP_HEADER_LEN, TCP_MAX_HEADER_LEN, TcpFlags, TcpPacket, TcpRepr};

pub mod train;
pub use train::{FrameForm, Segments, TRAIN_BYTES, TRAIN_PACKETS, Train, unpack_trains};

pub mod udp;
pub use udp::{UDP_HEADER_LEN, UdpPacket, UdpRepr};

pub mod udp_esp;
pub use udp_esp::{NAT_KEEPALIVE, NON_ESP_MARKER, UDP_ESP_PORT, UdpEncapsulated};

pub mod vlan;
pub use vlan::{insert_tag, strip_tag};
