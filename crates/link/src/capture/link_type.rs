//! Link types, and where the IP packet begins under each.

use core::fmt;

use packet::{EtherType, EthernetFrame, Medium, ParseError};

use super::bytes::{ByteOrder, Fields};

/// What the packets of a file or interface begin with: a number of the registry at tcpdump.org, named or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: the address family, four bytes in the order of the host that captured.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// Raw IP under the number that most systems have for it in place of 101.
    pub const RAW_BSD: Self = Self(12);
    /// Raw IP under the number that OpenBSD has for it in place of 101.
    pub const RAW_OPENBSD: Self = Self(14);
    /// Raw IP: the version field says which.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: the address family, four bytes in network order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// The link types that [`Self::decapsulate`] understands, for people.
    pub(crate) const UNDERSTOOD_NAMES: &'static str = "ETHERNET, RAW, IPV4, IPV6, NULL, LOOP, LINUX_SLL or LINUX_SLL2";

    /// Whether [`Self::decapsulate`] understands packets of this type.
    pub const fn is_understood(self) -> bool {
        self.name().is_some()
    }

    /// What frames made of such packets begin with: Ethernet frames stay as they are, everything else goes on without its link header.
    pub const fn medium(self) -> Medium {
        if self.0 == Self::ETHERNET.0 { Medium::Ethernet } else { Medium::Ip }
    }

    /// Where the network layer begins in `data`, a packet of this link type; `order` is the byte order of the file or section that it is in.
    /// `None` if the link type is not understood.
    pub fn decapsulate(self, order: ByteOrder, data: &[u8]) -> Option<Network> {
        Some(match self {
            Self::ETHERNET => ethernet(data),
            Self::RAW | Self::RAW_BSD | Self::RAW_OPENBSD | Self::IPV4 | Self::IPV6 => Network::Ip { offset: 0 },
            Self::NULL => family(data, order),
            Self::LOOP => family(data, ByteOrder::Big),
            Self::LINUX_SLL => cooked(data, &COOKED),
            Self::LINUX_SLL2 => cooked(data, &COOKED_2),
            _ => return None,
        })
    }

    const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NULL => "NULL",
            Self::ETHERNET => "ETHERNET",
            Self::RAW | Self::RAW_BSD | Self::RAW_OPENBSD => "RAW",
            Self::LOOP => "LOOP",
            Self::LINUX_SLL => "LINUX_SLL",
            Self::IPV4 => "IPV4",
            Self::IPV6 => "IPV6",
            Self::LINUX_SLL2 => "LINUX_SLL2",
            _ => return None,
        })
    }
}

impl From<Medium> for LinkType {
    /// The link type under which frames of a medium are written.
    fn from(medium: Medium) -> Self {
        match medium {
            Medium::Ethernet => Self::ETHERNET,
            Medium::Ip => Self::RAW,
        }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkType({self})")
    }
}

/// What is behind a link header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// An IP packet, by what the link header says.
    Ip {
        /// Where it begins, in bytes.
        offset: usize,
    },
    /// Something else, such as ARP.
    Other {
        /// Where it begins, in bytes.
        offset: usize,
    },
    /// The link header itself is not whole: the packet was cut, or is malformed.
    Short {
        /// Bytes needed to say more.
        needed: usize,
        /// Bytes there are.
        found: usize,
    },
}

impl Network {
    /// The same, seen from `bytes` further on, where the link header ended.
    pub(crate) const fn without_header(self) -> Self {
        match self {
            Self::Ip { .. } => Self::Ip { offset: 0 },
            Self::Other { .. } => Self::Other { offset: 0 },
            short @ Self::Short { .. } => short,
        }
    }

    /// Where what is behind the link header begins; 0 if there is no whole header.
    pub(crate) const fn offset(self) -> usize {
        match self {
            Self::Ip { offset } | Self::Other { offset } => offset,
            Self::Short { .. } => 0,
        }
    }
}

fn ethernet(data: &[u8]) -> Network {
    match EthernetFrame::new(data) {
        Ok(frame) => of_type(frame.ethertype(), frame.l3_offset()),
        Err(ParseError::Truncated { needed, .. }) => Network::Short { needed: needed as usize, found: data.len() },
        // A type or length that nothing is defined for.
        Err(_) => Network::Other { offset: packet::ETHERNET_HEADER_LEN },
    }
}

fn of_type(ethertype: Option<EtherType>, offset: usize) -> Network {
    if ethertype.and_then(EtherType::ip_version).is_some() { Network::Ip { offset } } else { Network::Other { offset } }
}

/// Address families of IPv4 everywhere and of IPv6 on NetBSD and OpenBSD, Linux, FreeBSD, macOS, and old Windows tools.
const FAMILIES: [u32; 6] = [2, 24, 10, 28, 30, 23];

fn family(data: &[u8], order: ByteOrder) -> Network {
    let Some(&bytes) = data.first_chunk::<4>() else { return Network::Short { needed: 4, found: data.len() } };
    let value = order.u32(bytes);
    // A file that was converted by a host of the other byte order keeps the bytes as they were.
    if FAMILIES.contains(&value) || FAMILIES.contains(&value.swap_bytes()) { Network::Ip { offset: 4 } } else { Network::Other { offset: 4 } }
}

/// A cooked header: its length, and where hardware type and protocol are.
struct Cooked {
    len: usize,
    hardware: usize,
    protocol: usize,
}

const COOKED: Cooked = Cooked { len: 16, hardware: 2, protocol: 14 };
const COOKED_2: Cooked = Cooked { len: 20, hardware: 8, protocol: 0 };

/// Hardware types under which the protocol field is no Ethernet type: Frame Relay, radiotap, netlink.
const NO_ETHERNET_TYPE: [u16; 3] = [770, 803, 824];

fn cooked(data: &[u8], header: &Cooked) -> Network {
    let Some((fields, mut payload)) = data.split_at_checked(header.len) else { return Network::Short { needed: header.len, found: data.len() } };
    let at = |offset: usize| fields.get(offset..).and_then(|bytes| Fields::new(ByteOrder::Big, bytes).u16()).unwrap_or_default();
    let mut offset = header.len;
    if NO_ETHERNET_TYPE.contains(&at(header.hardware)) {
        return Network::Other { offset };
    }
    let mut ethertype = EtherType(at(header.protocol));
    // Tags that the driver left in the packet: tag control, then the type of what follows.
    for _ in 0..2 {
        if !ethertype.is_vlan() {
            break;
        }
        let Some((tag, rest)) = payload.split_first_chunk::<4>() else {
            return Network::Short { needed: offset + 4, found: data.len() };
        };
        ethertype = EtherType(u16::from_be_bytes([tag[2], tag[3]]));
        (payload, offset) = (rest, offset + 4);
    }
    of_type(Some(ethertype), offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Option<Network> = Some(Network::Ip { offset: 0 });

    fn behind(header: &[u8], link_type: LinkType, order: ByteOrder) -> Option<Network> {
        let mut data = header.to_vec();
        data.extend([0x45; 20]);
        link_type.decapsulate(order, &data)
    }

    #[test]
    fn loopback_families_in_either_order() {
        for family in [2u32, 10, 23, 24, 28, 30] {
            for order in [ByteOrder::Little, ByteOrder::Big] {
                for bytes in [family.to_le_bytes(), family.to_be_bytes()] {
                    assert_eq!(behind(&bytes, LinkType::NULL, order), Some(Network::Ip { offset: 4 }), "{family}");
                }
                assert_eq!(behind(&family.to_be_bytes(), LinkType::LOOP, order), Some(Network::Ip { offset: 4 }));
            }
        }
        assert_eq!(behind(&7u32.to_le_bytes(), LinkType::NULL, ByteOrder::Little), Some(Network::Other { offset: 4 }));
        assert_eq!(LinkType::NULL.decapsulate(ByteOrder::Little, &[2, 0, 0]), Some(Network::Short { needed: 4, found: 3 }));
    }

    #[test]
    fn cooked_headers() {
        let mut sll = [0; 16];
        sll[14..].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(behind(&sll, LinkType::LINUX_SLL, ByteOrder::Little), Some(Network::Ip { offset: 16 }));
        sll[14..].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(behind(&sll, LinkType::LINUX_SLL, ByteOrder::Little), Some(Network::Other { offset: 16 }));
        // Netlink has its family where others have the type: 0x0800 there is no IPv4.
        sll[2..4].copy_from_slice(&824u16.to_be_bytes());
        sll[14..].copy_from_slice(&[0x08, 0x00]);
        assert_eq!(behind(&sll, LinkType::LINUX_SLL, ByteOrder::Little), Some(Network::Other { offset: 16 }));
        let mut sll2 = [0; 24];
        sll2[..2].copy_from_slice(&[0x81, 0x00]);
        sll2[20..].copy_from_slice(&[0, 7, 0x08, 0x00]);
        assert_eq!(behind(&sll2, LinkType::LINUX_SLL2, ByteOrder::Big), Some(Network::Ip { offset: 24 }));
        for len in 0..16 {
            assert_eq!(LinkType::LINUX_SLL.decapsulate(ByteOrder::Big, &sll[..len]), Some(Network::Short { needed: 16, found: len }));
        }
        assert_eq!(LinkType::LINUX_SLL2.decapsulate(ByteOrder::Big, &sll2[..22]), Some(Network::Short { needed: 24, found: 22 }));
    }

    #[test]
    fn ethernet_and_raw() {
        let mut header = [2; 14];
        header[12..].copy_from_slice(&[0x08, 0x00]);
        assert_eq!(behind(&header, LinkType::ETHERNET, ByteOrder::Little), Some(Network::Ip { offset: 14 }));
        header[12..].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(behind(&header, LinkType::ETHERNET, ByteOrder::Little), Some(Network::Other { offset: 14 }));
        assert_eq!(LinkType::ETHERNET.decapsulate(ByteOrder::Little, &header[..13]), Some(Network::Short { needed: 14, found: 13 }));
        for link_type in [12, 14, 101, 228, 229] {
            assert_eq!(behind(&[], LinkType(link_type), ByteOrder::Little), IP);
        }
        for link_type in [2, 105, 127, 277, u16::MAX] {
            assert_eq!(behind(&header, LinkType(link_type), ByteOrder::Little), None);
            assert!(!LinkType(link_type).is_understood());
        }
        assert_eq!(LinkType::RAW.to_string(), "RAW (101)");
        assert_eq!(LinkType(105).to_string(), "105");
    }
}
