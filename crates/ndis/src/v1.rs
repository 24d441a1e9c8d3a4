//! IPsecOV1 requests, typed (OV1-1, OV1-2, OV1-2a). They travel on the standard path. Byte forms are in [`crate::raw::v1`].

use core::net::Ipv4Addr;

use crate::sa::{Associations, Direction, OffloadHandle};
use crate::validate::{Invalid, SaRules, check_associations};

/// An IPv4 address with the bits of it that count; a mask of zero matches any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaskedAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits that are compared.
    pub mask: Ipv4Addr,
}

impl MaskedAddress {
    /// Whether an address matches.
    pub fn matches(&self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask.to_bits() == 0
    }
}

/// Which packets an SA of IPsecOV1 is for. A protocol or port of 0 matches any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V1Filter {
    /// Source address.
    pub source: MaskedAddress,
    /// Destination address.
    pub destination: MaskedAddress,
    /// IP protocol.
    pub protocol: u8,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// Ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V1Tunnel {
    /// Source of the outer header.
    pub source: Ipv4Addr,
    /// Destination of the outer header.
    pub destination: Ipv4Addr,
}

/// An SA bundle of IPsecOV1: algorithms are those of OV1-1, sequence numbers have 32 bits.
#[derive(Debug)]
pub struct V1Sa {
    /// Which way its packets go.
    pub direction: Direction,
    /// Which packets it is for.
    pub filter: V1Filter,
    /// Tunnel mode, and between which ends; else transport mode.
    pub tunnel: Option<V1Tunnel>,
    /// The security associations; ICV lengths and extended sequence numbers are not used.
    pub associations: Associations,
}

impl V1Sa {
    /// Checks what does not depend on an adapter, as [`SaBundle::validate`](crate::SaBundle::validate) does.
    ///
    /// # Errors
    /// [`Invalid`] with the first part that is wrong.
    pub fn validate(&self, allow: SaRules) -> Result<(), Invalid> {
        check_associations(&self.associations, allow)
    }
}

/// What the UDP-ESP parser looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum V1EncapsulationType {
    /// ESP on IKE's port 500; reserved.
    Ike,
    /// ESP on another port, usually 4500.
    Other,
}

/// An entry of the UDP-ESP parser; the port is ignored for outbound SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V1ParserEntry {
    /// What it looks for.
    pub kind: V1EncapsulationType,
    /// UDP destination port.
    pub destination_port: u16,
}

/// A request of IPsecOV1. Answers are written into it.
#[derive(Debug)]
pub enum V1Request {
    /// `OID_TCP_TASK_IPSEC_ADD_SA`.
    AddSa {
        /// The SA.
        sa: Box<V1Sa>,
        /// Answer: its handle.
        handle: Option<OffloadHandle>,
    },
    /// `OID_TCP_TASK_IPSEC_DELETE_SA`, by the bits of a handle.
    DeleteSa(u64),
    /// `OID_TCP_TASK_IPSEC_ADD_UDPESP_SA`.
    AddUdpEspSa {
        /// The SA.
        sa: Box<V1Sa>,
        /// The parser entry that it needs.
        entry: V1ParserEntry,
        /// In: the entry to use, or `None` to reuse an equal one or create one. Answer: the entry's handle.
        entry_handle: Option<OffloadHandle>,
        /// Answer: the SA's handle.
        handle: Option<OffloadHandle>,
    },
    /// `OID_TCP_TASK_IPSEC_DELETE_UDPESP_SA`.
    DeleteUdpEspSa {
        /// Bits of the SA's handle.
        handle: u64,
        /// The parser entry that goes too; `None`: the SA only.
        entry_handle: Option<OffloadHandle>,
    },
}
