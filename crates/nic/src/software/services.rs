//! What of checksums and tags is configured, as the data path sees it: one word, loaded once a batch.

use ndis::{OffloadFlags, PackedChecksumSet};
use packet::{IpProtocol, IpVersion};

use crate::engine::EngineConfig;

/// The configuration of checksums and tags.
///
/// ```text
/// bits 0-8, 9-17: sent IPv4, IPv6   18-26, 27-35: received IPv4, IPv6   36, 37: with IPsec, TCP and UDP   38: tags go in   39: tags come out
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Services(pub(super) u64);

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Send,
    Receive,
}

impl Services {
    const TCP_WITH_IPSEC: u64 = 1 << 36;
    const UDP_WITH_IPSEC: u64 = 1 << 37;
    const TAGS_GO_IN: u64 = 1 << 38;
    const TAGS_COME_OUT: u64 = 1 << 39;

    /// The word of a configuration.
    pub(super) fn of(config: &EngineConfig) -> Self {
        let mut bits = 0;
        for version in [IpVersion::V4, IpVersion::V6] {
            bits |= u64::from(PackedChecksumSet::of(&config.checksum_sends(version)).to_bits()) << Self::shift(version, Way::Send);
            bits |= u64::from(PackedChecksumSet::of(&config.checksum_receives(version)).to_bits()) << Self::shift(version, Way::Receive);
        }
        let flags = config.current.flags;
        for (on, bit) in [
            (flags.contains(OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE), Self::TCP_WITH_IPSEC),
            (flags.contains(OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE), Self::UDP_WITH_IPSEC),
            (config.inserts_tags(), Self::TAGS_GO_IN),
            (config.strips_tags(), Self::TAGS_COME_OUT),
        ] {
            bits |= if on { bit } else { 0 };
        }
        Self(bits)
    }

    const fn shift(version: IpVersion, way: Way) -> u32 {
        let version = match version {
            IpVersion::V4 => 0,
            IpVersion::V6 => 1,
        };
        PackedChecksumSet::BITS
            * match way {
                Way::Send => version,
                Way::Receive => version + 2,
            }
    }

    /// What is done of packets of a version, one way.
    pub(super) const fn set(self, version: IpVersion, way: Way) -> PackedChecksumSet {
        PackedChecksumSet::from_bits((self.0 >> Self::shift(version, way)) as u16)
    }

    /// Whether any checksum of received packets is looked at.
    #[inline]
    pub(super) const fn verifies(self) -> bool {
        self.0 >> (2 * PackedChecksumSet::BITS) & ((1 << (2 * PackedChecksumSet::BITS)) - 1) != 0
    }

    /// Whether a packet can have both, IPsec and the checksum of `protocol` (OV2-CAP-4).
    pub(super) const fn coexist(self, protocol: IpProtocol) -> bool {
        let bit = match protocol {
            IpProtocol::TCP => Self::TCP_WITH_IPSEC,
            IpProtocol::UDP => Self::UDP_WITH_IPSEC,
            _ => 0,
        };
        self.0 & bit != 0
    }

    /// Whether tags out of band are put into frames.
    pub(super) const fn tags_go_in(self) -> bool {
        self.0 & Self::TAGS_GO_IN != 0
    }

    /// Whether tags of received frames are taken out.
    #[inline]
    pub(super) const fn tags_come_out(self) -> bool {
        self.0 & Self::TAGS_COME_OUT != 0
    }
}

#[cfg(test)]
mod tests {
    use ndis::{ChecksumOffload, ChecksumSet, Encapsulation, Offload};
    use packet::Medium;

    use super::*;
    use crate::engine::Activation;

    fn config(activation: Activation, current: Offload) -> EngineConfig {
        EngineConfig {
            current,
            ipv4: activation,
            ipv6: activation,
            medium: Medium::Ethernet,
            udp_esp_port: 4500,
            reserved_spis: false,
            allow_unauthenticated: false,
            end_of_life_requests: true,
        }
    }

    /// A member, and what is seen of it.
    type Member = (ChecksumSet, fn(PackedChecksumSet) -> bool);
    /// A set, and where it stands.
    type Place = (IpVersion, Way, fn(ChecksumSet) -> ChecksumOffload);

    /// Every member of every set is a bit of its own, and means what it says.
    #[test]
    fn each_member_is_seen_where_it_stands_and_nowhere_else() {
        const ON: Activation = Activation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: 14 };
        let base = ChecksumSet { encapsulation: Encapsulation::IEEE_802_3, ..ChecksumSet::default() };
        let members: [Member; 3] = [
            (ChecksumSet { tcp_checksum: true, ..base }, |set| set.segment(IpProtocol::TCP, false, false)),
            (ChecksumSet { udp_checksum: true, ..base }, |set| set.segment(IpProtocol::UDP, false, false)),
            (ChecksumSet { ip_checksum: true, ..base }, |set| set.ip_header(false)),
        ];
        let places: [Place; 4] = [
            (IpVersion::V4, Way::Send, |set| ChecksumOffload { ipv4_transmit: set, ..ChecksumOffload::default() }),
            (IpVersion::V4, Way::Receive, |set| ChecksumOffload { ipv4_receive: set, ..ChecksumOffload::default() }),
            (IpVersion::V6, Way::Send, |set| ChecksumOffload { ipv6_transmit: set, ..ChecksumOffload::default() }),
            (IpVersion::V6, Way::Receive, |set| ChecksumOffload { ipv6_receive: set, ..ChecksumOffload::default() }),
        ];
        for (at, (_, _, put)) in places.iter().enumerate() {
            for (number, (set, _)) in members.iter().enumerate() {
                let current = Offload { checksum: put(*set), ..Offload::default() };
                let tasks = Services::of(&config(ON, current));
                assert_eq!(tasks.verifies(), at % 2 == 1);
                for (other, (version, way, _)) in places.iter().enumerate() {
                    for (which, (_, does)) in members.iter().enumerate() {
                        assert_eq!(does(tasks.set(*version, *way)), (at, number) == (other, which), "{at} {number} {other} {which}");
                    }
                    assert_eq!(tasks.set(*version, *way).takes(Medium::Ethernet, 14, false), at == other);
                    assert!(!tasks.set(*version, *way).takes(Medium::Ethernet, 18, false) && !tasks.set(*version, *way).takes(Medium::Ip, 0, false));
                }
                // Before OID_OFFLOAD_ENCAPSULATION nothing is done of received packets (OV2-CAP-9).
                assert!(!Services::of(&config(Activation::Initial, current)).verifies());
                assert_eq!(Services::of(&config(Activation::Off, current)), Services(0));
            }
        }
    }
}
