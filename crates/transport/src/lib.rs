//! The transport: what NDIS calls the overlying protocol driver. It holds the security policies and the SAs, frames and numbers packets, detects replays
//! and checks policy (RFC 4301, RFC 4303), has the NIC do the cryptography where its current configuration covers an SA, and does it in software where it
//! does not. The bytes are the same whoever does it (OV2-TRANS-2).
//!
//! A packet's way out and in again, here without any adapter on the way in:
//!
//! ```
//! use ipsec::{AesKeySize, Crypto, Encryption};
//! use ndis::{Direction, LaneContext, NblBatch, NetBufferList};
//! use packet::{BufferPool, IpProtocol, Ipv4Repr, Medium, Spi, Time};
//! use sa_table::{SEED_WORDS, Seed};
//! use secret::SecretBytes;
//! use transport::{
//!     AssociationParameters, ClearPolicy, InboundBatch, Mode, OffloadPolicy, OffloadReason, SaParameters, Transport, TransportConfig, Verdict,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = SecretBytes::from(vec![7; 20]); // the key, then the salt
//! let esp = AssociationParameters::esp(Spi(0x1001), Encryption::AesGcm(AesKeySize::Aes128), key);
//! let ends = ("192.0.2.1".parse()?, "192.0.2.2".parse()?);
//! let sa = SaParameters {
//!     selectors: vec![], // a tunnel: everything
//!     offload: OffloadPolicy::Prefer,
//!     ..SaParameters::new("b from a", Direction::Inbound, Mode::Tunnel, ends, vec![esp])
//! };
//! let random = [0x5eed; SEED_WORDS]; // from the system's random generator
//! let config = TransportConfig { medium: Medium::Ip, capacity: 16, seed: Seed::new(random), clear: ClearPolicy::Decide };
//! let transport = Transport::new(config, Crypto::default())?;
//! let sa = transport.add_sa(sa, Time::ZERO)?;
//! transport.protect(sa); // what it may carry must not come in clear
//! assert_eq!(transport.sa(sa).map(|status| status.offload), Some(OffloadReason::NoAdapter));
//!
//! // A clear packet comes up from an adapter: it is dropped, and counted.
//! let mut packet = vec![0; 20 + 8];
//! Ipv4Repr::new(IpProtocol::UDP, "10.0.1.1".parse()?, "10.0.2.1".parse()?, 8).emit(&mut packet)?;
//! let mut pool = BufferPool::new();
//! let mut received = NblBatch::from([NetBufferList::new(pool.copy_from(&packet), 0)]);
//! let mut out = InboundBatch { report: true, ..InboundBatch::default() };
//! let mut lane = transport.open_lane(); // one for each worker
//! lane.inbound(&mut LaneContext { now: Time::ZERO, pool: &mut pool }, &mut received, &mut out);
//! assert!(out.delivered.is_empty() && out.passed.is_empty());
//! assert_eq!(out.verdicts[0].verdict, Verdict::Dropped(transport::DropReason::Policy));
//! assert_eq!((transport.inbound().seen.packets, transport.inbound().ended()), (1, 1));
//! # Ok(())
//! # }
//! ```
//!
//! With an adapter it is bound to a [`Stack`](ndis::Stack) as its [`Protocol`](ndis::Protocol), and [`TransportLane::outbound`] sends through a
//! [`Datapath`](ndis::Datapath); the crate `ipsecov2` puts such a host together.
//!
//! # Rules
//!
//! - **Fail closed.** A packet that policy protects never leaves in clear, and none that arrives in clear is taken for one that was protected, whatever is
//!   missing or breaks: an SA that is gone, a NIC that fails, numbers or lifetimes that are used up. Without a policy nothing passes but IKE.
//! - **One counter.** Every packet is counted in [`WayCounters::seen`] as it comes and in exactly one other counter as it ends; in between it is in the NIC
//!   or in the [backlog](TransportLane::backlog). Dummy packets, which nobody hands in, have a counter of their own. Every SA has exactly one
//!   [`OffloadReason`].
//! - **A number is spent when it is assigned** (OV2-SEND-7). What the NIC gives back gets a new one and is sealed in software; what is sealed is never
//!   sealed again, and goes out at most once. So no IV repeats under a key, over offload, software, resets and other adapters.
//! - **What is not certain is done in software.** Packets carry half of an extended sequence number. The NIC seals under such a number only while it is
//!   known where the NIC is in them, and what it opened counts only if both are sure of the same number, or the ICV proves it.
//! - **In order.** What becomes of a received packet is decided after what became of those before it, however they were opened; the same packets have
//!   the same fate in batches of any size, by NIC or by software.
//! - **Nothing waits.** Lanes take policies by snapshot and SAs by a table of their own, and tell the control side by a list; per packet there is no
//!   allocation and no system call. The replay window's lock is taken once for a run of packets of one SA, and an inbound SA belongs to one lane.
//!
//! # Workers
//!
//! Each worker has a lane. Where several send under the same SAs, [`Transport::share_lanes`] comes before the first of them: each takes numbers for all packets
//! of an SA that it has in hand by one atomic addition, and [`TransportLane::transmit`] sees to it that they reach the wire in that order. An inbound SA should
//! belong to one lane: any can have its packets, but only one at a time looks at its window.
//!
//! # Bundles
//!
//! An SA is a bundle of one association or two: ESP, AH, or AH over ESP, in transport or tunnel mode; each association has numbers, a replay window and
//! UPDATE_SA requests of its own, and a packet counts once for its bundle. A transport bundle may go [inside](SaParameters::inside) a tunnel bundle: then a
//! packet has up to four IPsec headers. Where the NIC has both bundles and does [both at once](ndis::IpsecOffloadV2::transport_tunnel_combined), it gets both
//! handles; where it has the tunnel, what goes inside is sealed in software first; otherwise all is software's. ESP may travel in
//! [UDP](SaParameters::udp_encapsulation) (RFC 3948), on whichever bundle has the UDP header; IKE and keepalives on its ports are [left alone](Spd::ike).
//!
//! # Files
//!
//! | file | what is in it |
//! | --- | --- |
//! | `transport` | [`Transport`]: the control side; policies and SAs are added, removed, listed; indications and completions arrive |
//! | `offload` | the offload manager: which SAs the NIC has, what it is asked for, the reason why an SA is not there |
//! | `reason` | [`OffloadReason`], and [`Why`] for programs |
//! | `lane` | [`TransportLane`]: what belongs to one worker |
//! | `outbound`, `mark`, `locate` | the way out and what comes back from the NIC; what is noted of a packet under way; its headers found again |
//! | `order` | [`TransportLane::transmit`]: what lanes that share SAs put on the wire, in the order of its numbers |
//! | `plan`, `seal`, `traffic_flow` | stages of the way out: policy, numbers, headers, NIC or software; cryptography; dummies |
//! | `swift_out`, `outfit`, `flows` | the same for packets such as nearly all are, in one pass; what goes around them, made once; policy by flow |
//! | `large`, `large_frame`, `large_mark` | large packets: handed down as one large send, or cut here; headers in front of one; what is noted of it |
//! | `inbound`, `look`, `open`, `decide`, `prove` | the way in and its stages: look-up and what the NIC says; software; replay, taking off, policy; proof of what the NIC opened |
//! | `swift_in` | the same for packets such as nearly all are, in one pass |
//! | `sa`, `association` | a bundle as the table holds it; an association's numbers, and where the NIC is in them |
//! | `bundle` | a bundle in the contract's terms |
//! | `lifetime` | limits of packets, bytes and time |
//! | `framing`, `stripping`, `outer` | bytes: headers around packets, and off again; outer headers, DSCP, ECN, DF |
//! | `spd`, `selector` | policies, and which packets they are about |
//! | `parameters` | [`SaParameters`]: what an SA is made from |
//! | `verdict`, `event` | what became of packets, counted; what happened to SAs; the audit |
#![forbid(unsafe_code)]

mod association;
mod bundle;
mod decide;
mod event;
mod flows;
mod framing;
mod inbound;
mod lane;
mod large;
mod large_frame;
mod large_mark;
mod lifetime;
mod locate;
mod look;
mod mark;
mod offload;
mod open;
mod order;
mod outbound;
mod outer;
mod outfit;
mod packet_reason;
mod parameters;
mod plan;
mod policy_index;
mod prove;
mod reason;
mod sa;
mod seal;
mod selector;
mod spd;
mod stripping;
mod swift_in;
mod swift_out;
mod tasks;
mod traffic_flow;
mod transport;
mod v1;
mod verdict;

#[cfg(test)]
mod association_tests;

pub use event::*;
pub use inbound::InboundBatch;
pub use lane::TransportLane;
pub use offload::OffloadCounts;
pub use order::LanesOpen;
pub use packet_reason::PacketReason;
pub use parameters::*;
pub use reason::{OffloadReason, Why};
pub use sa::SaError;
pub use selector::*;
pub use spd::*;
pub use transport::{AssociationStatus, ClearPolicy, SaStatus, Transport, TransportConfig};
pub use verdict::*;
