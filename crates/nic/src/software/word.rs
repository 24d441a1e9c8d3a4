//! The configuration as the data path sees it: one word of bits, loaded once a batch, compared with one word an SA.

use ndis::{AuthenticationAlgorithms, Direction, Encapsulation, EncryptionAlgorithms, SaBundle};
use packet::{ETHERNET_HEADER_LEN, IpVersion};

use crate::engine::EngineConfig;

/// What is configured, or what an SA needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    const ESP: u64 = 1;
    const AH: u64 = 1 << 1;
    const AH_ESP: u64 = 1 << 2;
    const EXTENDED: u64 = 1 << 3;
    const OPTIONS: u64 = 1 << 4;
    const EXTENSION_HEADERS: u64 = 1 << 5;
    const SEND_V4: u64 = 1 << 6;
    const SEND_V6: u64 = 1 << 7;
    const RECEIVE_V4: u64 = 1 << 8;
    const RECEIVE_V6: u64 = 1 << 9;
    const NESTS: u64 = 1 << 10;
    const LARGE_SENDS: u64 = 1 << 11;
    /// Frames with tags in the data, and with a tag out of band. (What is above is of large sends and of the engine.)
    const TAGGED: u64 = 1 << 59;
    const TAG_OUT_OF_BAND: u64 = 1 << 60;
    const UDP_ESP: u32 = 12;
    const AUTHENTICATION: u32 = 16;
    const ENCRYPTION: u32 = 32;
    const LARGE_TUNNELS: u64 = 1 << 61;

    /// The word of a configuration.
    pub(super) fn of(config: &EngineConfig) -> Self {
        let current = &config.current.ipsec_v2;
        let flags = [
            (current.esp, Self::ESP),
            (current.ah, Self::AH),
            (current.ah_esp_combined, Self::AH_ESP),
            (current.extended_sequence_numbers, Self::EXTENDED),
            (current.ipv4_options, Self::OPTIONS),
            (current.ipv6_non_ipsec_extension_headers, Self::EXTENSION_HEADERS),
            (current.transport_tunnel_combined, Self::NESTS),
            (current.lso_supported, Self::LARGE_SENDS),
            (current.lso_supported && current.ext_lso_tunnel, Self::LARGE_TUNNELS),
            (current.encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q), Self::TAGGED),
            (current.encapsulation.contains(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB), Self::TAG_OUT_OF_BAND),
            (config.ipsec_sends(IpVersion::V4), Self::SEND_V4),
            (config.ipsec_sends(IpVersion::V6), Self::SEND_V6),
            (config.ipsec_receives(IpVersion::V4), Self::RECEIVE_V4),
            (config.ipsec_receives(IpVersion::V6), Self::RECEIVE_V6),
        ];
        Self(set(&flags) | algorithms(current.encryption_algorithms, current.authentication_algorithms) | u64::from(current.udp_esp.bits()) << Self::UDP_ESP)
    }

    /// What a bundle needs.
    pub(super) fn needs(bundle: &SaBundle) -> Self {
        let (esp, ah) = (bundle.associations.esp(), bundle.associations.ah());
        let extended = esp.is_some_and(|esp| esp.extended_sequence_numbers) || ah.is_some_and(|ah| ah.extended_sequence_numbers);
        let flags = [
            (esp.is_some(), Self::ESP),
            (ah.is_some(), Self::AH),
            (esp.is_some() && ah.is_some(), Self::AH_ESP),
            (extended, Self::EXTENDED),
            (true, Self::path(bundle.direction, bundle.endpoints.ipv6)),
        ];
        let mut authentication = AuthenticationAlgorithms::empty();
        for keyed in [esp.and_then(|esp| esp.authentication.as_ref()), ah.map(|ah| &ah.authentication)].into_iter().flatten() {
            authentication |= keyed.algorithm.bit();
        }
        let encryption = esp.map_or(EncryptionAlgorithms::empty(), |esp| esp.encryption.algorithm.bit());
        let udp_esp = bundle.udp_esp.map_or(0, |kind| u64::from(kind.bit().bits()));
        Self(set(&flags) | algorithms(encryption, authentication) | udp_esp << Self::UDP_ESP)
    }

    const fn path(direction: Direction, ipv6: bool) -> u64 {
        match (direction, ipv6) {
            (Direction::Outbound, false) => Self::SEND_V4,
            (Direction::Outbound, true) => Self::SEND_V6,
            (Direction::Inbound, false) => Self::RECEIVE_V4,
            (Direction::Inbound, true) => Self::RECEIVE_V6,
        }
    }

    /// Whether everything that `needs` names is configured (OV2-CAP-14).
    #[inline]
    pub(super) const fn covers(self, needs: Self) -> bool {
        needs.0 & !self.0 == 0
    }

    /// Whether both portions of transport over tunnel are done.
    #[inline]
    pub(super) const fn nests(self) -> bool {
        self.0 & Self::NESTS != 0
    }

    /// Whether large sends may be protected (OV2-CAP-13).
    pub(super) const fn large_sends(self) -> bool {
        self.0 & Self::LARGE_SENDS != 0
    }

    /// Whether large sends may go through tunnels.
    pub(super) const fn large_tunnels(self) -> bool {
        self.0 & Self::LARGE_TUNNELS != 0
    }

    /// Whether packets with IPv4 options, or IPv6 extension headers, are processed (OV2-RECV-4).
    #[inline]
    pub(super) const fn extras(self, version: IpVersion) -> bool {
        let bit = match version {
            IpVersion::V4 => Self::OPTIONS,
            IpVersion::V6 => Self::EXTENSION_HEADERS,
        };
        self.0 & bit != 0
    }

    /// Whether packets in frames whose IP header begins there are processed: further behind if there are tags in the data.
    #[inline]
    pub(super) const fn takes_link(self, l3_offset: usize) -> bool {
        l3_offset <= ETHERNET_HEADER_LEN || self.0 & Self::TAGGED != 0
    }

    /// Whether packets whose tag is out of band are processed.
    #[inline]
    pub(super) const fn takes_tags_out_of_band(self) -> bool {
        self.0 & Self::TAG_OUT_OF_BAND != 0
    }

    /// Whether received packets of that version are processed at all.
    #[inline]
    pub(super) const fn receives(self, version: IpVersion) -> bool {
        let bit = match version {
            IpVersion::V4 => Self::RECEIVE_V4,
            IpVersion::V6 => Self::RECEIVE_V6,
        };
        self.0 & bit != 0
    }
}

fn set(flags: &[(bool, u64)]) -> u64 {
    flags.iter().filter(|(on, _)| *on).fold(0, |bits, (_, bit)| bits | bit)
}

/// Both masks have Microsoft's bits below 16 and extensions above; they are moved together.
fn algorithms(encryption: EncryptionAlgorithms, authentication: AuthenticationAlgorithms) -> u64 {
    let (encryption, authentication) = (encryption.bits(), authentication.bits());
    let authentication = authentication & 0xff | (authentication >> 16 & 0xff) << 8;
    u64::from(encryption) << Word::ENCRYPTION | u64::from(authentication) << Word::AUTHENTICATION
}

#[cfg(test)]
mod tests {
    use ndis::{AuthenticationAlgorithm, EncryptionAlgorithm};

    use super::*;

    #[test]
    fn no_two_bits_meet() {
        let mut seen = 0;
        let all = EncryptionAlgorithm::ALL
            .map(|algorithm| algorithms(algorithm.bit(), AuthenticationAlgorithms::empty()))
            .into_iter()
            .chain(AuthenticationAlgorithm::ALL.map(|algorithm| algorithms(EncryptionAlgorithms::empty(), algorithm.bit())))
            .chain((0..4).map(|bit| 1 << (Word::UDP_ESP + bit)))
            .chain((0..12).map(|bit| 1 << bit))
            .chain([Word::LARGE_TUNNELS, Word::TAGGED, Word::TAG_OUT_OF_BAND]);
        for bit in all {
            assert_eq!(bit.count_ones(), 1);
            assert_eq!(seen & bit, 0, "{bit:#x}");
            seen |= bit;
        }
    }
}
