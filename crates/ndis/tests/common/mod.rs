//! Arbitrary capability sets and SA bundles, for properties.
#![allow(dead_code, reason = "each test binary uses a part")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ndis::{
    AesKeySize, AhAssociation, Associations, AuthenticationAlgorithm, AuthenticationAlgorithms, ChecksumOffload, ChecksumSet, Direction, Encapsulation,
    EncryptionAlgorithm, EncryptionAlgorithms, Endpoints, EspAssociation, IcvLengths, IpsecOffloadV1, IpsecOffloadV2, Ipv4Ah, Ipv4Esp, Keyed, LargeSendSet,
    LargeSendV2, Offload, OffloadFlags, SaBundle, SaExtension, UdpEspType, UdpEspTypes,
};
use packet::Spi;
use proptest::prelude::*;
use secret::SecretBytes;

pub(crate) const GCM_128: EncryptionAlgorithm = EncryptionAlgorithm::AesGcm(AesKeySize::Aes128);

/// A key of the length that the algorithm wants; each byte is `fill`.
pub(crate) fn encryption(algorithm: EncryptionAlgorithm, fill: u8, additional_info: u32) -> Keyed<EncryptionAlgorithm> {
    Keyed { algorithm, key: SecretBytes::from(vec![fill; algorithm.key_length()]), additional_info }
}

/// A key of the length that the algorithm wants; each byte is `fill`.
pub(crate) fn authentication(algorithm: AuthenticationAlgorithm, fill: u8, additional_info: u32) -> Keyed<AuthenticationAlgorithm> {
    Keyed { algorithm, key: SecretBytes::from(vec![fill; algorithm.key_length()]), additional_info }
}

pub(crate) fn esp(encryption_algorithm: EncryptionAlgorithm, authentication_algorithm: Option<AuthenticationAlgorithm>) -> EspAssociation {
    EspAssociation {
        spi: Spi(0x1001),
        extended_sequence_numbers: false,
        sequence_number_high: 0,
        encryption: encryption(encryption_algorithm, 0x5a, 0),
        authentication: authentication_algorithm.map(|algorithm| authentication(algorithm, 0xa5, 0)),
    }
}

pub(crate) fn ah(algorithm: AuthenticationAlgorithm) -> AhAssociation {
    AhAssociation { spi: Spi(0x2001), extended_sequence_numbers: false, sequence_number_high: 0, authentication: authentication(algorithm, 0xc3, 0) }
}

pub(crate) fn bundle(associations: Associations) -> SaBundle {
    SaBundle {
        direction: Direction::Outbound,
        endpoints: Endpoints { ipv6: false, source: Some([192, 0, 2, 1].into()), destination: Some([192, 0, 2, 2].into()) },
        udp_esp: None,
        associations,
        extension: SaExtension::default(),
    }
}

pub(crate) fn any_ipsec_v2() -> impl Strategy<Value = IpsecOffloadV2> {
    let masks = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), 0u32..9);
    (prop::array::uniform12(any::<bool>()), masks, 0u32..8).prop_map(|(flags, (encapsulation, udp_esp, authentication, encryption, capacity), refused)| {
        let [v6, options, headers, ah, esp, combined, transport, tunnel, over, lso, esn, lso_tunnel] = flags;
        IpsecOffloadV2 {
            encapsulation: Encapsulation::from_bits_truncate(encapsulation),
            ipv6_supported: v6,
            ipv4_options: options,
            ipv6_non_ipsec_extension_headers: headers,
            ah,
            esp,
            ah_esp_combined: combined,
            transport,
            tunnel,
            transport_tunnel_combined: over,
            lso_supported: lso,
            extended_sequence_numbers: esn,
            udp_esp: UdpEspTypes::from_bits_truncate(udp_esp),
            authentication_algorithms: AuthenticationAlgorithms::from_bits_truncate(authentication),
            encryption_algorithms: EncryptionAlgorithms::from_bits_truncate(encryption),
            sa_offload_capacity: capacity,
            ext_refused_icv_lengths: IcvLengths::from_bits_truncate(refused),
            ext_lso_tunnel: lso_tunnel,
        }
    })
}

fn any_ipsec_v1() -> impl Strategy<Value = IpsecOffloadV1> {
    (any::<u32>(), any::<u32>(), any::<u8>(), any::<u8>(), 0u32..0x100).prop_map(|(encapsulation, bits, ah, esp, flags)| {
        let bit = |word: u32, index: u32| word >> index & 1 != 0;
        let (ah, esp) = (u32::from(ah), u32::from(esp));
        IpsecOffloadV1 {
            encapsulation: Encapsulation::from_bits_truncate(encapsulation),
            ah_esp_combined: bit(bits, 0),
            transport_tunnel_combined: bit(bits, 1),
            ipv4_options: bit(bits, 2),
            flags,
            ipv4_ah: Ipv4Ah { md5: bit(ah, 0), sha_1: bit(ah, 1), transport: bit(ah, 2), tunnel: bit(ah, 3), send: bit(ah, 4), receive: bit(ah, 5) },
            ipv4_esp: Ipv4Esp {
                des: bit(esp, 0),
                triple_des: bit(esp, 1),
                null_esp: bit(esp, 2),
                transport: bit(esp, 3),
                tunnel: bit(esp, 4),
                send: bit(esp, 5),
                receive: bit(esp, 6),
            },
            ext_sa_capacity: bits >> 16 & 0xf,
        }
    })
}

fn any_checksum_set(ipv6: bool) -> impl Strategy<Value = ChecksumSet> {
    (any::<u32>(), prop::array::uniform5(any::<bool>())).prop_map(move |(encapsulation, [ip_options, tcp_options, tcp, udp, ip])| ChecksumSet {
        encapsulation: Encapsulation::from_bits_truncate(encapsulation),
        ip_options_supported: ip_options,
        tcp_options_supported: tcp_options,
        tcp_checksum: tcp,
        udp_checksum: udp,
        ip_checksum: ip && !ipv6,
    })
}

fn any_large_send() -> impl Strategy<Value = LargeSendSet> {
    (any::<u32>(), 0u32..4, 0u32..4, any::<bool>(), any::<bool>()).prop_map(|(encapsulation, size, count, tcp_options, ip_options)| LargeSendSet {
        encapsulation: Encapsulation::from_bits_truncate(encapsulation),
        max_offload_size: size,
        min_segment_count: count,
        tcp_options,
        ip_options,
        ext_udp: false,
    })
}

pub(crate) fn any_offload() -> impl Strategy<Value = Offload> {
    let checksum = (any_checksum_set(false), any_checksum_set(false), any_checksum_set(true), any_checksum_set(true));
    let lso = (any_large_send(), any_large_send(), any_large_send());
    (checksum, lso, any_ipsec_v1(), any_ipsec_v2(), 0u32..8).prop_map(|((a, b, c, d), (v1, v2_ipv4, v2_ipv6), ipsec_v1, ipsec_v2, flags)| Offload {
        checksum: ChecksumOffload { ipv4_transmit: a, ipv4_receive: b, ipv6_transmit: c, ipv6_receive: d },
        lso_v1: v1,
        // The ABI has no options members for version 2 over IPv4.
        lso_v2: LargeSendV2 { ipv4: LargeSendSet { tcp_options: false, ip_options: false, ..v2_ipv4 }, ipv6: v2_ipv6 },
        ipsec_v1,
        ipsec_v2,
        flags: OffloadFlags::from_bits_truncate(flags),
    })
}

fn any_endpoints() -> impl Strategy<Value = Endpoints> {
    let v4 = || prop::option::of((1..=u32::MAX).prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))));
    let v6 = || prop::option::of((1..=u128::MAX).prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))));
    prop_oneof![
        (v4(), v4()).prop_map(|(source, destination)| Endpoints { ipv6: false, source, destination }),
        (v6(), v6()).prop_map(|(source, destination)| Endpoints { ipv6: true, source, destination }),
    ]
}

fn any_numbers() -> impl Strategy<Value = (Spi, bool, u32)> {
    (256..=u32::MAX, any::<bool>(), any::<u32>()).prop_map(|(spi, extended, high)| (Spi(spi), extended, if extended { high } else { 0 }))
}

fn any_authentication(allowed: fn(AuthenticationAlgorithm) -> bool) -> impl Strategy<Value = Keyed<AuthenticationAlgorithm>> {
    let algorithms: Vec<_> = AuthenticationAlgorithm::ALL.into_iter().filter(|&algorithm| in_abi(algorithm.bit().bits()) && allowed(algorithm)).collect();
    (prop::sample::select(algorithms), any::<u8>(), any::<bool>()).prop_map(|(algorithm, fill, explicit)| {
        let gmac = matches!(algorithm, AuthenticationAlgorithm::AesGmac(_));
        authentication(algorithm, fill, if gmac && explicit { 16 } else { 0 })
    })
}

fn in_abi(bits: u32) -> bool {
    bits < 0x1_0000
}

fn any_esp(with_ah: bool) -> impl Strategy<Value = EspAssociation> {
    let algorithms: Vec<_> = EncryptionAlgorithm::ALL.into_iter().filter(|algorithm| in_abi(algorithm.bit().bits())).collect();
    let encrypted = (prop::sample::select(algorithms), any::<u8>(), prop::sample::select(vec![0, 8, 12, 16]));
    let authenticated = (any_authentication(|algorithm| !matches!(algorithm, AuthenticationAlgorithm::AesGmac(_))), any_authentication(|_| true));
    (any_numbers(), encrypted, authenticated, any::<bool>()).prop_map(move |((spi, extended, high), (algorithm, fill, icv), (plain, any), alone)| {
        EspAssociation {
            spi,
            extended_sequence_numbers: extended,
            sequence_number_high: high,
            encryption: encryption(algorithm, fill, if algorithm.is_combined() { icv } else { 0 }),
            authentication: match algorithm {
                algorithm if algorithm.is_combined() || with_ah && alone => None,
                EncryptionAlgorithm::Null => Some(any),
                _ => Some(plain),
            },
        }
    })
}

fn any_ah() -> impl Strategy<Value = AhAssociation> {
    (any_numbers(), any_authentication(|_| true)).prop_map(|((spi, extended_sequence_numbers, sequence_number_high), authentication)| AhAssociation {
        spi,
        extended_sequence_numbers,
        sequence_number_high,
        authentication,
    })
}

/// Bundles that are valid and that the ABI can say.
pub(crate) fn any_bundle() -> impl Strategy<Value = SaBundle> {
    let udp_esp = prop::option::of(prop::sample::select(vec![
        UdpEspType::Transport,
        UdpEspType::Tunnel,
        UdpEspType::TransportOverUdpTunnel,
        UdpEspType::UdpTransportOverTunnel,
    ]));
    let associations = prop_oneof![
        any_esp(false).prop_map(Associations::Esp),
        any_ah().prop_map(Associations::Ah),
        (any_esp(true), any_ah()).prop_map(|(esp, ah)| Associations::AhOverEsp { esp, ah }),
    ];
    (any::<bool>(), any_endpoints(), udp_esp, associations).prop_map(|(inbound, endpoints, udp_esp, associations)| SaBundle {
        direction: if inbound { Direction::Inbound } else { Direction::Outbound },
        endpoints,
        udp_esp: if matches!(associations, Associations::Esp(_)) { udp_esp } else { None },
        associations,
        extension: SaExtension::default(),
    })
}
