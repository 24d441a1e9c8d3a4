//! IPsecOV1 requests, typed (OV1-1, OV1-2, OV1-2a). They travel on the standard path. Byte forms are in [`crate::raw::v1`].

use core::net::Ipv4Addr;

use crate::capability::SaMode;
use crate::sa::{Associations, Direction, Endpoints, OffloadHandle, SaBundle, SaExtension, UdpEspType};
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
    /// Any address.
    pub const ANY: Self = Self { address: Ipv4Addr::UNSPECIFIED, mask: Ipv4Addr::UNSPECIFIED };

    /// One address.
    pub const fn single(address: Ipv4Addr) -> Self {
        Self { address, mask: Ipv4Addr::BROADCAST }
    }

    /// The addresses that share the first `length` bits with `address`; at most 32.
    pub fn prefix(address: Ipv4Addr, length: u8) -> Self {
        let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0));
        Self { address: Ipv4Addr::from_bits(address.to_bits() & mask.to_bits()), mask }
    }

    /// Whether an address matches.
    #[inline]
    pub const fn matches(&self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask.to_bits() == 0
    }

    /// The only address that matches, if it is just one. (All zero is "any" and no address, as everywhere in the ABI.)
    pub fn as_single(&self) -> Option<Ipv4Addr> {
        (self.mask == Ipv4Addr::BROADCAST && !self.address.is_unspecified()).then_some(self.address)
    }

    /// Without a mask, or with the address all zero, any address is meant: the same filter in the one form that matches so.
    #[must_use]
    pub fn normalized(self) -> Self {
        if self.mask.is_unspecified() || self.address.is_unspecified() { Self::ANY } else { self }
    }
}

/// Which packets an SA of IPsecOV1 is for. A protocol or port of 0 matches any.
///
/// In transport mode these are the packets that the SA protects, with their own addresses; in tunnel mode those inside the tunnel.
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

impl V1Filter {
    /// All packets.
    pub const ANY: Self = Self { source: MaskedAddress::ANY, destination: MaskedAddress::ANY, protocol: 0, source_port: 0, destination_port: 0 };

    /// Whether it is for packets between these addresses.
    #[inline]
    pub const fn matches_addresses(&self, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
        self.source.matches(source) && self.destination.matches(destination)
    }

    /// Whether it looks at protocol or ports at all.
    #[inline]
    pub const fn looks_inside(&self) -> bool {
        self.protocol != 0 || self.source_port != 0 || self.destination_port != 0
    }

    /// Whether it is for packets of that protocol, between these ports. `None`: the packet has none, or none that can be read; only a filter that does not
    /// look at ports matches then.
    #[inline]
    pub fn matches_payload(&self, protocol: u8, ports: Option<(u16, u16)>) -> bool {
        let port = |asked: u16, found: Option<u16>| asked == 0 || found == Some(asked);
        (self.protocol == 0 || self.protocol == protocol)
            && port(self.source_port, ports.map(|(source, _)| source))
            && port(self.destination_port, ports.map(|(_, destination)| destination))
    }
}

/// Ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V1Tunnel {
    /// Source of the outer header.
    pub source: Ipv4Addr,
    /// Destination of the outer header.
    pub destination: Ipv4Addr,
}

/// Which packets an SA of IPsecOV1 is for: its filter, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V1Scope {
    /// Which packets.
    pub filter: V1Filter,
    /// Tunnel mode, and between which ends; else transport mode.
    pub tunnel: Option<V1Tunnel>,
}

impl V1Scope {
    /// Mode of the SA.
    pub const fn mode(&self) -> SaMode {
        if self.tunnel.is_some() { SaMode::Tunnel } else { SaMode::Transport }
    }

    /// Whether a packet whose outermost IP header has these addresses can be one of the SA's: they are the tunnel's ends, or the filter's.
    #[inline]
    pub fn admits(&self, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
        match self.tunnel {
            Some(tunnel) => tunnel.matches(source, destination),
            None => self.filter.matches_addresses(source, destination),
        }
    }

    /// Addresses of the IP header in front of the SA's own, as far as they are single ones: what the SA is found by.
    pub fn endpoints(&self) -> Endpoints {
        let single = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
        let (source, destination) = match self.tunnel {
            Some(tunnel) => (single(tunnel.source), single(tunnel.destination)),
            None => (self.filter.source.as_single(), self.filter.destination.as_single()),
        };
        Endpoints { ipv6: false, source: source.map(Into::into), destination: destination.map(Into::into) }
    }
}

impl V1Tunnel {
    /// Whether these are its ends; one that is all zero matches any.
    #[inline]
    pub fn matches(&self, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
        let end = |own: Ipv4Addr, found| own.is_unspecified() || own == found;
        end(self.source, source) && end(self.destination, destination)
    }
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
    /// Beyond the ABI; its `v1_scope` and `udp_esp_port` are not used.
    pub extension: SaExtension,
}

impl V1Sa {
    /// Checks what does not depend on an adapter, as [`SaBundle::validate`](crate::SaBundle::validate) does.
    ///
    /// # Errors
    /// [`Invalid`] with the first part that is wrong.
    pub fn validate(&self, allow: SaRules) -> Result<(), Invalid> {
        let unauthenticated_esp = allow.unauthenticated_esp || self.extension.allow_unauthenticated;
        check_associations(&self.associations, SaRules { unauthenticated_esp, ..allow })
    }

    /// Which packets it is for, with its mode.
    pub fn scope(&self) -> V1Scope {
        let V1Filter { source, destination, .. } = self.filter;
        let filter = V1Filter { source: source.normalized(), destination: destination.normalized(), ..self.filter };
        V1Scope { filter, tunnel: self.tunnel }
    }

    /// The same SA as a bundle, with copies of its keys, which has its scope for an extension. `port`: it is in UDP, to that port.
    pub fn to_bundle(&self, port: Option<u16>) -> SaBundle {
        let scope = self.scope();
        let kind = match scope.mode() {
            SaMode::Transport => UdpEspType::Transport,
            SaMode::Tunnel => UdpEspType::Tunnel,
        };
        let udp_esp_port = port.filter(|_| self.direction == Direction::Inbound);
        SaBundle {
            direction: self.direction,
            endpoints: scope.endpoints(),
            udp_esp: port.map(|_| kind),
            associations: self.associations.duplicate(),
            extension: SaExtension { udp_esp_port, v1_scope: Some(scope), ..self.extension },
        }
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

impl V1ParserEntry {
    /// What two entries are equal by: the port does not count for outbound SAs (OV1-2a).
    #[must_use]
    pub const fn of(self, direction: Direction) -> Self {
        match direction {
            Direction::Inbound => self,
            Direction::Outbound => Self { destination_port: 0, ..self },
        }
    }
}

/// A request of IPsecOV1. Answers are written into it. `S`: what it holds of an SA, all of it or, [traced](crate::TracedV1), all but the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum V1Request<S = V1Sa> {
    /// `OID_TCP_TASK_IPSEC_ADD_SA`.
    AddSa {
        /// The SA.
        sa: Box<S>,
        /// Answer: its handle.
        handle: Option<OffloadHandle>,
    },
    /// `OID_TCP_TASK_IPSEC_DELETE_SA`, by the bits of a handle.
    DeleteSa(u64),
    /// `OID_TCP_TASK_IPSEC_ADD_UDPESP_SA`.
    AddUdpEspSa {
        /// The SA.
        sa: Box<S>,
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
