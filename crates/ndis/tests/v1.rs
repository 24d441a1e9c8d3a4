//! IPsecOV1 in the contract: byte forms both ways, capability sets asked for SAs, filters, versions (OV1-1, OV1-2, OV1-4, OV2-CAP-0).

use core::net::Ipv4Addr;

use ndis::raw::{RawError, v1};
use ndis::{
    AesKeySize, AhAssociation, Associations, AuthenticationAlgorithm, CapabilityField, Direction, Encapsulation, EncryptionAlgorithm, EspAssociation,
    IpsecOffloadV1, IpsecOffloadV2, IpsecService, IpsecSetting, Ipv4Ah, Ipv4Esp, Keyed, MaskedAddress, NdisVersion, Offload, OffloadHandle, Operation,
    SaExtension, SaMode, UdpEspTypes, V1EncapsulationType, V1Filter, V1Member, V1ParserEntry, V1Request, V1Sa, V1Tunnel,
};
use packet::Spi;
use proptest::prelude::*;
use secret::SecretBytes;

const OUT: Direction = Direction::Outbound;

fn key(length: usize, seed: u8) -> SecretBytes {
    (0..length).map(|at| at as u8 ^ seed).collect::<Vec<_>>().into()
}

fn esp(encryption: EncryptionAlgorithm, authentication: Option<AuthenticationAlgorithm>, seed: u8) -> EspAssociation {
    EspAssociation {
        spi: Spi(0x1000 + u32::from(seed)),
        extended_sequence_numbers: false,
        sequence_number_high: 0,
        encryption: Keyed { algorithm: encryption, key: key(encryption.key_length(), seed), additional_info: 0 },
        authentication: authentication.map(|algorithm| Keyed { algorithm, key: key(algorithm.key_length(), seed ^ 0x55), additional_info: 0 }),
    }
}

fn ah(algorithm: AuthenticationAlgorithm, seed: u8) -> AhAssociation {
    AhAssociation {
        spi: Spi(0x2000 + u32::from(seed)),
        extended_sequence_numbers: false,
        sequence_number_high: 0,
        authentication: Keyed { algorithm, key: key(algorithm.key_length(), seed ^ 0xaa), additional_info: 0 },
    }
}

fn sa(direction: Direction, associations: Associations, tunnel: bool) -> V1Sa {
    let tunnel = tunnel.then(|| V1Tunnel { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(192, 0, 2, 2) });
    V1Sa { direction, filter: V1Filter::ANY, tunnel, associations, extension: SaExtension::default() }
}

fn any_associations(esp_alone: bool) -> impl Strategy<Value = (usize, usize, usize, u8)> {
    (0usize..3, 0usize..3, if esp_alone { 0usize..1 } else { 0usize..3 }, any::<u8>())
}

fn associations((cipher, inner, shape, seed): (usize, usize, usize, u8)) -> Associations {
    let cipher = [EncryptionAlgorithm::Null, EncryptionAlgorithm::DesCbc, EncryptionAlgorithm::TripleDesCbc][cipher];
    let hmacs = [Some(AuthenticationAlgorithm::HmacMd5), Some(AuthenticationAlgorithm::HmacSha1), None];
    let over = ah(hmacs[inner].unwrap_or(AuthenticationAlgorithm::HmacSha1), seed);
    // Nothing at all is none.
    let inner = if shape == 0 && cipher == EncryptionAlgorithm::Null { hmacs[inner].or(hmacs[0]) } else { hmacs[inner] };
    match shape {
        0 => Associations::Esp(esp(cipher, inner, seed)),
        1 => Associations::Ah(over),
        _ => Associations::AhOverEsp { esp: esp(cipher, inner, seed), ah: over },
    }
}

fn any_sa(esp_alone: bool) -> impl Strategy<Value = V1Sa> {
    let filter = (any::<[u32; 4]>(), any::<u8>(), any::<(u16, u16)>());
    let tunnel = prop::option::of((1u32.., any::<u32>()));
    (any_associations(esp_alone), filter, tunnel, any::<bool>()).prop_map(|(what, (words, protocol, ports), tunnel, inbound)| V1Sa {
        direction: if inbound { Direction::Inbound } else { OUT },
        filter: V1Filter {
            source: MaskedAddress { address: words[0].into(), mask: words[1].into() },
            destination: MaskedAddress { address: words[2].into(), mask: words[3].into() },
            protocol,
            source_port: ports.0,
            destination_port: ports.1,
        },
        tunnel: tunnel.map(|(source, destination)| V1Tunnel { source: source.into(), destination: destination.into() }),
        associations: associations(what),
        extension: SaExtension::default(),
    })
}

fn same(one: &V1Sa, other: &V1Sa) {
    assert_eq!((one.direction, one.filter, one.tunnel), (other.direction, other.filter, other.tunnel));
    let shown = |sa: &V1Sa| {
        let esp = sa.associations.esp().map(|esp| {
            let authentication = esp.authentication.as_ref().map(|keyed| (keyed.algorithm, keyed.key.expose().to_vec()));
            (esp.spi, esp.encryption.algorithm, esp.encryption.key.expose().to_vec(), authentication)
        });
        let ah = sa.associations.ah().map(|ah| (ah.spi, ah.authentication.algorithm, ah.authentication.key.expose().to_vec()));
        (esp, ah)
    };
    assert_eq!(shown(one), shown(other));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// OV1-2: what is written reads the same, with the keys in either order; and in the other order other keys come out, if there are two.
    #[test]
    fn requests_come_back(sa in any_sa(false), integrity_first in any::<bool>(), handle in any::<u64>()) {
        let order = if integrity_first { v1::KeyOrder::IntegrityFirst } else { v1::KeyOrder::ConfidentialityFirst };
        let request = V1Request::AddSa { sa: Box::new(sa), handle: OffloadHandle::from_bits(handle) };
        let (oid, bytes) = v1::encode(&request, order).unwrap();
        prop_assert_eq!(oid, 0xfc01_0202);
        prop_assert_eq!(&bytes.expose()[168..176], handle.to_le_bytes());
        let mut buffer = bytes.expose().to_vec();
        let V1Request::AddSa { sa, .. } = request else { unreachable!() };
        // A filter of zeros is one; a tunnel of zeros is none, and was not made here.
        let Some((_, V1Request::AddSa { sa: read, handle: None })) = v1::Request::parse(oid, order, &mut buffer).unwrap() else { panic!("ADD_SA") };
        same(&sa, &read);
    }

    /// OV1-2a: the requests about UDP-ESP, with their entries and handles.
    #[test]
    fn udp_esp_requests_come_back(sa in any_sa(true), port in any::<u16>(), ike in any::<bool>(), asked in any::<u64>(), deleted in any::<u64>()) {
        let kind = if ike { V1EncapsulationType::Ike } else { V1EncapsulationType::Other };
        let asked = OffloadHandle::from_bits(asked);
        let entry = V1ParserEntry { kind, destination_port: port };
        let request = V1Request::AddUdpEspSa { sa: Box::new(sa), entry, entry_handle: asked, handle: None };
        let (oid, bytes) = v1::encode(&request, v1::KeyOrder::default()).unwrap();
        prop_assert_eq!(oid, 0xfc01_0205);
        let mut buffer = bytes.expose().to_vec();
        let V1Request::AddUdpEspSa { sa, .. } = request else { unreachable!() };
        let parsed = v1::Request::parse(oid, v1::KeyOrder::default(), &mut buffer).unwrap();
        let Some((_, V1Request::AddUdpEspSa { sa: read, entry: found, entry_handle, .. })) = parsed else { panic!("ADD_UDPESP_SA") };
        same(&sa, &read);
        prop_assert_eq!((found, entry_handle), (entry, asked));

        for request in [V1Request::DeleteSa(deleted), V1Request::DeleteUdpEspSa { handle: deleted, entry_handle: asked }] {
            let (oid, bytes) = v1::encode(&request, v1::KeyOrder::default()).unwrap();
            let mut buffer = bytes.expose().to_vec();
            let (_, read) = v1::Request::parse(oid, v1::KeyOrder::default(), &mut buffer).unwrap().unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{request:?}"));
        }
    }
}

/// OV1-2: what the structures have no place for is refused, not lost. No key byte is shown on the way.
#[test]
fn what_has_no_place_is_refused() {
    type Change = fn(&mut V1Sa);
    let des = || Associations::Esp(esp(EncryptionAlgorithm::DesCbc, Some(AuthenticationAlgorithm::HmacSha1), 1));
    let aes = EncryptionAlgorithm::AesCbc(AesKeySize::Aes128);
    let with = |associations, change: Change| {
        let mut sa = sa(OUT, associations, false);
        change(&mut sa);
        v1::encode(&V1Request::AddSa { sa: Box::new(sa), handle: None }, v1::KeyOrder::default()).map(|_| ())
    };
    assert_eq!(with(des(), |_| {}), Ok(()));
    let wrong: [(Associations, Change); 6] = [
        (Associations::Esp(esp(aes, Some(AuthenticationAlgorithm::HmacSha1), 1)), |_| {}),
        (Associations::Ah(ah(AuthenticationAlgorithm::HmacSha256, 1)), |_| {}),
        (des(), |sa| sa.extension.iv_mask = 1),
        (des(), |sa| sa.extension.allow_unauthenticated = true),
        (des(), |sa| sa.tunnel = Some(V1Tunnel { source: Ipv4Addr::UNSPECIFIED, destination: Ipv4Addr::UNSPECIFIED })),
        (Associations::Esp(EspAssociation { extended_sequence_numbers: true, ..esp(EncryptionAlgorithm::DesCbc, None, 1) }), |_| {}),
    ];
    for (number, (associations, change)) in wrong.into_iter().enumerate() {
        assert!(matches!(with(associations, change), Err(RawError::NotRepresentable { .. })), "{number}");
    }
}

/// OV2-CAP-0: 6.0 to 6.20 may have it, later ones do not.
#[test]
fn requests_are_read_up_to_ndis_6_20() {
    for (version, taken) in [(NdisVersion::V6_0, true), (NdisVersion::V6_1, true), (NdisVersion::V6_20, true), (NdisVersion::V6_30, false)] {
        let mut buffer = [7; 8];
        let read = v1::Request::parse_for(version, 0xfc01_0203, v1::KeyOrder::default(), &mut buffer).unwrap();
        assert_eq!(read.is_some(), taken, "{version}");
    }
    let v1 = Offload { ipsec_v1: everything(), ..Offload::default() };
    let esp = IpsecOffloadV2 { encapsulation: Encapsulation::IEEE_802_3, esp: true, ..IpsecOffloadV2::default() };
    let both = Offload { ipsec_v2: esp, ..v1 };
    for (version, of_v1, of_both) in [
        (NdisVersion::V6_0, Some(IpsecService::V1), Some(IpsecService::V1)),
        (NdisVersion::V6_20, Some(IpsecService::V1), Some(IpsecService::V2)),
        (NdisVersion::V6_30, None, Some(IpsecService::V2)),
    ] {
        assert_eq!((v1.ipsec_service(version), both.ipsec_service(version)), (of_v1, of_both), "{version}");
        assert_eq!(Offload::default().ipsec_service(version), None);
    }
}

fn everything() -> IpsecOffloadV1 {
    IpsecOffloadV1 {
        encapsulation: Encapsulation::IEEE_802_3,
        ah_esp_combined: true,
        transport_tunnel_combined: true,
        ipv4_options: true,
        flags: 0xff,
        ipv4_ah: Ipv4Ah { md5: true, sha_1: true, transport: true, tunnel: true, send: true, receive: true },
        ipv4_esp: Ipv4Esp { des: true, triple_des: true, null_esp: true, transport: true, tunnel: true, send: true, receive: true },
        ext_sa_capacity: 0,
    }
}

/// OV1-1: each member that is not there is named, by Microsoft's name, and nothing else is missing.
#[test]
fn what_is_missing_is_named() {
    type Change = fn(&mut IpsecOffloadV1);
    let des = || Associations::Esp(esp(EncryptionAlgorithm::DesCbc, Some(AuthenticationAlgorithm::HmacSha1), 1));
    let of = |cipher| Associations::Esp(esp(cipher, Some(AuthenticationAlgorithm::HmacMd5), 1));
    let only = |algorithm| Associations::Ah(ah(algorithm, 1));
    let (md5, sha_1) = (AuthenticationAlgorithm::HmacMd5, AuthenticationAlgorithm::HmacSha1);
    let both = || Associations::AhOverEsp { esp: esp(EncryptionAlgorithm::Null, Some(md5), 1), ah: ah(sha_1, 2) };
    let (transport, tunnel) = (SaMode::Transport, SaMode::Tunnel);
    let table: [(Associations, Direction, SaMode, Change, &str); 19] = [
        (des(), OUT, transport, |v1| v1.encapsulation = Encapsulation::empty(), "Encapsulation"),
        (des(), OUT, transport, |v1| v1.ipv4_esp = Ipv4Esp::default(), "IPv4ESP"),
        (des(), OUT, transport, |v1| v1.ipv4_esp.des = false, "IPv4ESP.Des"),
        (of(EncryptionAlgorithm::TripleDesCbc), OUT, transport, |v1| v1.ipv4_esp.triple_des = false, "IPv4ESP.TripleDes"),
        (of(EncryptionAlgorithm::Null), OUT, transport, |v1| v1.ipv4_esp.null_esp = false, "IPv4ESP.NullEsp"),
        (of(EncryptionAlgorithm::AesGcm(AesKeySize::Aes128)), OUT, transport, |_| {}, "IPv4ESP"),
        (Associations::Esp(esp(EncryptionAlgorithm::DesCbc, Some(AuthenticationAlgorithm::HmacSha256), 1)), OUT, tunnel, |_| {}, "IPv4ESP"),
        (des(), OUT, transport, |v1| v1.ipv4_esp.transport = false, "IPv4ESP.Transport"),
        (des(), OUT, tunnel, |v1| v1.ipv4_esp.tunnel = false, "IPv4ESP.Tunnel"),
        (des(), OUT, tunnel, |v1| v1.ipv4_esp.send = false, "IPv4ESP.Send"),
        (des(), Direction::Inbound, tunnel, |v1| v1.ipv4_esp.receive = false, "IPv4ESP.Receive"),
        (only(md5), OUT, transport, |v1| v1.ipv4_ah.md5 = false, "IPv4AH.Md5"),
        (only(sha_1), OUT, transport, |v1| v1.ipv4_ah.sha_1 = false, "IPv4AH.Sha_1"),
        (only(AuthenticationAlgorithm::HmacSha256), OUT, transport, |_| {}, "IPv4AH"),
        (only(md5), OUT, tunnel, |v1| v1.ipv4_ah.tunnel = false, "IPv4AH.Tunnel"),
        (only(md5), OUT, transport, |v1| v1.ipv4_ah.transport = false, "IPv4AH.Transport"),
        (only(md5), OUT, transport, |v1| v1.ipv4_ah.send = false, "IPv4AH.Send"),
        (only(md5), Direction::Inbound, transport, |v1| v1.ipv4_ah.receive = false, "IPv4AH.Receive"),
        (both(), OUT, transport, |v1| v1.ah_esp_combined = false, "AhEspCombined"),
    ];
    for (associations, direction, mode, change, name) in table {
        let bundle = sa(direction, associations, mode == SaMode::Tunnel).to_bundle(None);
        let mut set = everything();
        change(&mut set);
        let missing = set.covers(&bundle, mode).unwrap_err();
        assert_eq!(missing.field.name(), name);
        assert_eq!(set.lacks(&bundle, mode), [missing], "{name}");
        let other = if mode == SaMode::Tunnel { SaMode::Transport } else { SaMode::Tunnel };
        if let CapabilityField::V1(V1Member::Mode(..)) = missing.field {
            assert_eq!(set.covers(&bundle, other), Ok(()), "{name}");
        }
    }
    // What it has no member for at all.
    let mut six = sa(OUT, des(), false).to_bundle(None);
    six.endpoints.ipv6 = true;
    assert_eq!(everything().covers(&six, transport).unwrap_err().field, CapabilityField::Ipv6Supported);
    let extended = Associations::Esp(EspAssociation { extended_sequence_numbers: true, ..esp(EncryptionAlgorithm::DesCbc, Some(sha_1), 1) });
    assert_eq!(everything().covers(&sa(OUT, extended, false).to_bundle(None), transport).unwrap_err().field, CapabilityField::ExtendedSequenceNumbers);
    // The flags of IKE's type are reserved, and say nothing.
    let in_udp = sa(OUT, des(), false).to_bundle(Some(4500));
    assert_eq!(IpsecOffloadV1 { flags: 0x0f, ..everything() }.covers(&in_udp, transport).unwrap_err().field.name(), "Flags");
    assert_eq!(everything().covers(&in_udp, transport), Ok(()));
    // Several at once, each once.
    let mut set = everything();
    (set.ipv4_esp.send, set.ipv4_ah.send, set.ah_esp_combined, set.ipv4_esp.null_esp) = (false, false, false, false);
    let names: Vec<_> = set.lacks(&sa(OUT, both(), false).to_bundle(None), transport).iter().map(|missing| missing.field.name()).collect();
    assert_eq!(names, ["IPv4ESP.Send", "IPv4AH.Send", "AhEspCombined", "IPv4ESP.NullEsp"]);
}

/// OV1-1, OV1-4: what engines of version 2 are told of a set, also after a setting.
#[test]
fn a_set_in_terms_of_version_2() {
    let set = everything().to_v2(9);
    assert!(set.ah && set.esp && set.transport && set.tunnel && !set.ipv6_supported && !set.extended_sequence_numbers && set.sa_offload_capacity == 9);
    assert_eq!(set.udp_esp, UdpEspTypes::all());
    assert_eq!(IpsecOffloadV1 { flags: 0x2f, ..everything() }.udp_esp(), UdpEspTypes::TUNNEL);
    let esp_only = everything().restrict(IpsecSetting::Esp);
    assert!(!esp_only.to_v2(1).ah && esp_only.to_v2(1).esp && !esp_only.ah_esp_combined);
    assert!(esp_only.covers(&sa(OUT, associations((1, 0, 0, 1)), true).to_bundle(None), SaMode::Tunnel).is_ok());
    assert_eq!(everything().restrict(IpsecSetting::Disabled).to_v2(1), IpsecOffloadV2::default());
    assert_eq!(V1Member::Operation(Operation::Ah).to_string(), "IPv4AH");
}

/// OV1-2: masks, and zero for any.
#[test]
fn masks_and_zeros() {
    let address = |last: u8| Ipv4Addr::new(10, 0, 1, last);
    assert!(
        MaskedAddress::ANY.matches(address(1))
            && MaskedAddress::single(address(1)).matches(address(1))
            && !MaskedAddress::single(address(1)).matches(address(2))
    );
    for (length, mask) in [(0, [0, 0, 0, 0]), (1, [128, 0, 0, 0]), (24, [255, 255, 255, 0]), (32, [255; 4]), (99, [255; 4])] {
        assert_eq!(MaskedAddress::prefix(address(1), length).mask, Ipv4Addr::from(mask), "{length}");
    }
    assert_eq!(MaskedAddress::prefix(address(77), 24).address, address(0));
    // A zero address is any, whatever its mask says.
    let zero = MaskedAddress { address: Ipv4Addr::UNSPECIFIED, mask: Ipv4Addr::BROADCAST };
    assert_eq!((zero.normalized(), zero.as_single()), (MaskedAddress::ANY, None));
    let filter = V1Filter { protocol: 17, source_port: 5, ..V1Filter::ANY };
    assert!(filter.matches_payload(17, Some((5, 6))) && !filter.matches_payload(17, Some((6, 5))) && !filter.matches_payload(6, Some((5, 6))));
    assert!(!filter.matches_payload(17, None) && V1Filter::ANY.matches_payload(1, None));
    let entry = V1ParserEntry { kind: V1EncapsulationType::Other, destination_port: 4500 };
    assert_eq!((entry.of(Direction::Inbound), entry.of(OUT).destination_port), (entry, 0));
}
