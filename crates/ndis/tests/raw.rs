//! Byte forms of capability sets, parameters, encapsulations, indications and out-of-band arrays.

mod common;

use common::any_offload;
use ndis::raw::{self, RawError};
use ndis::{
    AuthenticationAlgorithms, CryptoStatus, Encapsulation, EncryptionAlgorithms, HeaderReceive, HeaderTransmit, IcvLengths, IpsecOffloadV1, IpsecOffloadV2,
    IpsecReceive, IpsecSetting, Keyword, NdisVersion, Offload, OffloadEncapsulation, OffloadHandle, OffloadParameters, Oid, OutOfBand, SetEncapsulation,
    Status, StatusIndication, Switch, UdpEspTypes,
};
use proptest::prelude::*;

const fn version(minor: u8) -> NdisVersion {
    NdisVersion { major: 6, minor }
}

const NEWEST: NdisVersion = version(87);

/// Revisions and sizes of section 4 of the ABI's description.
#[test]
fn each_version_has_its_revision_and_size() {
    for (minor, offload, parameters) in [
        (0, (1, 112), (1, 20)),
        (1, (2, 144), (2, 22)),
        (20, (2, 144), (2, 22)),
        (30, (3, 156), (3, 26)),
        (40, (3, 156), (3, 26)),
        (50, (4, 177), (4, 32)),
        (70, (5, 188), (4, 32)),
        (80, (5, 188), (4, 32)),
        (83, (6, 216), (5, 34)),
        (85, (7, 216), (5, 34)),
        (87, (7, 216), (5, 34)),
    ] {
        let bytes = raw::offload::encode(&Offload::default(), version(minor));
        assert_eq!((bytes[0], bytes[1], u16::from_le_bytes([bytes[2], bytes[3]]), bytes.len()), (0xa7, offload.0, offload.1 as u16, offload.1), "6.{minor}");
        assert_eq!((raw::offload::revision(version(minor)), raw::offload::size(version(minor))), offload);
        let bytes = raw::parameters::encode(&OffloadParameters::default(), version(minor)).unwrap();
        assert_eq!((bytes[0], bytes[1], u16::from_le_bytes([bytes[2], bytes[3]]), bytes.len()), (0x80, parameters.0, parameters.1 as u16, parameters.1));
    }
}

/// Offsets are written out here, from section 5 of the ABI's description.
#[test]
fn members_of_ipsec_version_2_are_where_the_abi_has_them() {
    let set = IpsecOffloadV2 {
        encapsulation: Encapsulation::IEEE_802_3 | Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB,
        ipv6_supported: true,
        ipv4_options: false,
        ipv6_non_ipsec_extension_headers: true,
        ah: false,
        esp: true,
        ah_esp_combined: false,
        transport: true,
        tunnel: true,
        transport_tunnel_combined: false,
        lso_supported: false,
        extended_sequence_numbers: true,
        udp_esp: UdpEspTypes::TUNNEL,
        authentication_algorithms: AuthenticationAlgorithms::SHA_256 | AuthenticationAlgorithms::EXT_SHA_512,
        encryption_algorithms: EncryptionAlgorithms::AES_GCM_256 | EncryptionAlgorithms::EXT_CHACHA20_POLY1305,
        sa_offload_capacity: 0x0102_0304,
        ext_refused_icv_lengths: IcvLengths::ICV_8,
        ext_lso_tunnel: true,
    };
    let bytes = raw::offload::encode(&Offload { ipsec_v2: set, ..Offload::default() }, version(20));
    let mut expected = vec![0u8; 144];
    expected[..4].copy_from_slice(&[0xa7, 2, 144, 0]);
    expected[112] = 0x0a;
    for offset in [116, 118, 120, 122, 123, 126] {
        expected[offset] = 1;
    }
    expected[128] = 2;
    expected[132] = 4;
    expected[136] = 0x20;
    expected[140..].copy_from_slice(&[4, 3, 2, 1]);
    assert_eq!(bytes, expected);
    let read = raw::offload::decode(&bytes).unwrap().ipsec_v2;
    assert_eq!(
        read,
        IpsecOffloadV2 {
            authentication_algorithms: AuthenticationAlgorithms::SHA_256,
            encryption_algorithms: EncryptionAlgorithms::AES_GCM_256,
            ext_refused_icv_lengths: IcvLengths::empty(),
            ext_lso_tunnel: false,
            ..set
        }
    );
}

#[test]
fn extension_bits_are_not_understood_and_any_number_but_zero_is_true() {
    let mut bytes = raw::offload::encode(&Offload::default(), version(30));
    bytes[112..116].copy_from_slice(&0xffff_ffffu32.to_le_bytes());
    bytes[120] = 0x80;
    bytes[132..136].copy_from_slice(&0xffff_ffffu32.to_le_bytes());
    bytes[136..140].copy_from_slice(&0xffff_ffffu32.to_le_bytes());
    let set = raw::offload::decode(&bytes).unwrap().ipsec_v2;
    assert_eq!(set.encapsulation, Encapsulation::all());
    assert!(set.esp);
    assert_eq!(set.authentication_algorithms.bits(), 0x3f);
    assert_eq!(set.encryption_algorithms.bits(), 0x1ff);
}

#[test]
fn damaged_capability_sets_are_refused() {
    let good = raw::offload::encode(&Offload::default(), version(30));
    let decode_with = |offset: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[offset] = value;
        raw::offload::decode(&bytes)
    };
    for (offset, value, field) in [
        (0, 0x80, "Header.Type"),
        (1, 0, "Header.Revision"),
        (2, 155, "Header.Size"),
        // Two-bit fields: 2 and 3 mean nothing.
        (8, 0x02, "IpOptionsSupported"),
        (8, 0x20, "TcpChecksum"),
        (32, 0xc0, "UdpChecksum"),
        (48, 0x08, "IpOptions"),
        (56, 2, "AhEspCombined"),
        (72, 0x03, "Md5"),
        (77, 0x80, "Receive"),
        (104, 0x02, "IpExtensionHeadersSupported"),
    ] {
        let error = decode_with(offset, value).unwrap_err();
        assert!(matches!(error, RawError::Field { field: found, .. } if found == field), "{offset}: {error}");
        assert_eq!(error.status(), Status::INVALID_DATA);
    }
    for length in 0..good.len() {
        let error = raw::offload::decode(&good[..length]).unwrap_err();
        assert_eq!((error.status(), error.bytes_needed()), (Status::INVALID_LENGTH, Some(if length < 4 { 112 } else { 156 })));
    }
    // A revision of the future extends the last one known.
    let mut future = raw::offload::encode(&Offload::default(), NEWEST);
    future.resize(240, 0xff);
    future[1..3].copy_from_slice(&[9, 240]);
    assert_eq!(raw::offload::decode(&future), Ok(Offload::default()));
}

#[test]
fn answers_need_room() {
    let config = Oid::CurrentConfig(Some(Box::default()));
    let mut room = [0xee; 160];
    let error = raw::standard::answer(&config, version(30), &mut room[..155]).unwrap_err();
    assert_eq!((error.status(), error.bytes_needed()), (Status::BUFFER_TOO_SHORT, Some(156)));
    assert_eq!(room, [0xee; 160]);
    assert_eq!(raw::standard::answer(&config, version(30), &mut room), Ok(156));
    assert_eq!(raw::offload::decode(&room), Ok(Offload::default()));
    assert_eq!(room[156..], [0xee; 4]);
    let encapsulation = Oid::Encapsulation(Some(OffloadEncapsulation::default()));
    assert_eq!(raw::standard::answer(&encapsulation, version(30), &mut room[..27]).unwrap_err().bytes_needed(), Some(28));
    assert_eq!(raw::standard::answer(&Oid::CurrentConfig(None), version(30), &mut []), Ok(0));
}

#[test]
fn standard_requests_by_number_and_verb() {
    const CURRENT: u32 = 0xfc01_020b;
    const HARDWARE: u32 = 0xfc01_020d;
    const PARAMETERS: u32 = 0xfc01_020c;
    const ENCAPSULATION: u32 = 0x0101_010a;
    assert!(matches!(raw::standard::decode(CURRENT, false, &[]), Ok(Oid::CurrentConfig(None))));
    assert!(matches!(raw::standard::decode(HARDWARE, false, &[]), Ok(Oid::HardwareCapabilities(None))));
    assert!(matches!(raw::standard::decode(ENCAPSULATION, false, &[]), Ok(Oid::Encapsulation(None))));
    for (oid, set) in [(CURRENT, true), (HARDWARE, true), (PARAMETERS, false), (0xfc03_0202, true), (0xfc03_0205, true), (0, false)] {
        assert!(matches!(raw::standard::decode(oid, set, &[]), Ok(Oid::Other { oid: found, set: verb }) if (found, verb) == (oid, set)));
    }
    let parameters = OffloadParameters::ipsec_v2_setting(IpsecSetting::Ah);
    let bytes = raw::parameters::encode(&parameters, version(1)).unwrap();
    assert!(matches!(raw::standard::decode(PARAMETERS, true, &bytes), Ok(Oid::SetParameters(found)) if found == parameters));
    assert_eq!(raw::standard::decode(PARAMETERS, true, &bytes[..21]).unwrap_err().status(), Status::INVALID_LENGTH);
    let on = OffloadEncapsulation { ipv4: SetEncapsulation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: 14 }, ipv6: SetEncapsulation::Off };
    assert!(matches!(raw::standard::decode(ENCAPSULATION, true, &raw::encapsulation::encode(&on)), Ok(Oid::SetEncapsulation(found)) if found == on));
}

/// Each member: its offset, and how many values it has after "no change"; from section 5 of the ABI's description.
#[test]
fn parameters_have_one_number_more_than_their_keywords() {
    let good = raw::parameters::encode(&OffloadParameters::default(), NEWEST).unwrap();
    for (offset, keyword) in [
        (4, Keyword::IpChecksumIpv4),
        (5, Keyword::TcpChecksumIpv4),
        (6, Keyword::UdpChecksumIpv4),
        (7, Keyword::TcpChecksumIpv6),
        (8, Keyword::UdpChecksumIpv6),
        (9, Keyword::LsoV1Ipv4),
        (10, Keyword::IpsecV1Ipv4),
        (11, Keyword::LsoV2Ipv4),
        (12, Keyword::LsoV2Ipv6),
        (13, Keyword::TcpConnectionIpv4),
        (14, Keyword::TcpConnectionIpv6),
        (20, Keyword::IpsecV2),
        (21, Keyword::IpsecV2Ipv4),
        (22, Keyword::RscIpv4),
        (23, Keyword::RscIpv6),
        (32, Keyword::UsoIpv4),
        (33, Keyword::UsoIpv6),
    ] {
        for value in 0..=u8::MAX {
            let mut bytes = good.clone();
            bytes[offset] = value;
            let setting = u32::from(value).checked_sub(1);
            let mut expected = OffloadParameters::default();
            if expected.set(keyword, setting) {
                assert_eq!(raw::parameters::decode(&bytes), Ok(expected), "{keyword} {value}");
                assert_eq!(raw::parameters::encode(&expected, NEWEST), Ok(bytes));
            } else {
                assert_eq!(raw::parameters::decode(&bytes).unwrap_err().status(), Status::INVALID_DATA, "{keyword} {value}");
            }
        }
    }
    for (offset, value, wrong) in
        [(16, 1, false), (16, 2, true), (19, 1, true), (24, 1, false), (24, 2, false), (24, 3, true), (25, 3, false), (25, 4, true), (15, 9, false)]
    {
        let mut bytes = good.clone();
        bytes[offset] = value;
        assert_eq!(raw::parameters::decode(&bytes).is_err(), wrong, "{offset} {value}");
    }
    // EncapsulatedPacketTaskOffload is the exception: 1 is on, 2 is off.
    let mut bytes = good;
    bytes[24] = 1;
    assert_eq!(raw::parameters::decode(&bytes).unwrap().encapsulated_packet_task_offload, Some(Switch::Enabled));
}

#[test]
fn what_a_revision_has_no_member_for_is_not_lost_silently() {
    let parameters = OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled);
    assert_eq!(raw::parameters::encode(&parameters, version(0)).unwrap_err().status(), Status::NOT_SUPPORTED);
    assert!(raw::parameters::encode(&parameters, version(1)).is_ok());
    let uso = OffloadParameters { uso_ipv4: Some(Switch::Disabled), ..OffloadParameters::default() };
    assert!(raw::parameters::encode(&uso, version(80)).is_err());
    assert!(raw::parameters::encode(&uso, version(83)).is_ok());
    // Padding of `sizeof` counts as part of the structure.
    let mut bytes = raw::parameters::encode(&parameters, version(1)).unwrap();
    bytes.resize(24, 0xff);
    bytes[2] = 24;
    assert_eq!(raw::parameters::decode(&bytes), Ok(parameters));
}

#[test]
fn encapsulations_are_zero_unless_on() {
    let on = SetEncapsulation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: 14 };
    let request = OffloadEncapsulation { ipv4: on, ipv6: SetEncapsulation::Off };
    let bytes = raw::encapsulation::encode(&request);
    let words: Vec<u32> = bytes[4..].chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!((&bytes[..4], words.as_slice()), (&[0xa8, 1, 28, 0][..], &[1, 2, 14, 2, 0, 0][..]));
    assert_eq!(raw::encapsulation::decode(&bytes), Ok(request));
    for (offset, value) in [(4, 3), (4, 2), (4, 0), (16, 3), (20, 2), (24, 14), (0, 0x80), (1, 0), (2, 27)] {
        let mut bytes = bytes.clone();
        bytes[offset] = value;
        assert_eq!(raw::encapsulation::decode(&bytes).unwrap_err().status(), Status::INVALID_DATA, "{offset}");
    }
    let mut unknown = bytes.clone();
    unknown[11] = 0x80;
    let decoded = raw::encapsulation::decode(&unknown).unwrap();
    assert!(matches!(decoded.ipv4, SetEncapsulation::On { encapsulation, .. } if encapsulation.bits() == 0x8000_0002));
    for length in 0..bytes.len() {
        assert_eq!(raw::encapsulation::decode(&bytes[..length]).unwrap_err().bytes_needed(), Some(28));
    }
}

#[test]
fn indications_have_their_codes() {
    let offload = Box::<Offload>::default();
    for (indication, code) in [
        (StatusIndication::TaskOffloadCurrentConfig(offload.clone()), 0x4002_0006),
        (StatusIndication::TaskOffloadHardwareCapabilities(offload), 0x4002_0007),
        (StatusIndication::ResetStart, 0x4001_0004),
        (StatusIndication::ResetEnd, 0x4001_0005),
    ] {
        let (found, buffer) = raw::indication::encode(&indication, version(20)).unwrap();
        assert_eq!(found, code);
        assert_eq!(raw::indication::decode(found, &buffer), Ok(Some(indication)));
    }
    assert_eq!(raw::indication::encode(&StatusIndication::AdapterRemoved, version(20)), None);
    assert_eq!(raw::indication::decode(0x4001_0017, &[1]), Ok(None));
    assert_eq!(raw::indication::decode(0x4002_0006, &[1]).unwrap_err().status(), Status::INVALID_LENGTH);
}

#[test]
fn slots_are_where_the_abi_has_them_and_others_stay() {
    assert_eq!(raw::oob::SLOTS, 27);
    let mut oob = OutOfBand::default();
    oob.set_offload_handle(OffloadHandle::from_bits(0x1122_3344_5566_7788));
    oob.set_tunnel_handle(OffloadHandle::from_bits(0x99));
    oob.set_header_transmit(HeaderTransmit { next_header: 6, pad_length: 2, ah_header_offset: 5, esp_header_offset: 8 });
    (oob.checksum, oob.large_send, oob.ieee8021q, oob.udp_segmentation) = (0xa, 0xb, 0xc, 0xd);
    let mut slots = [0xdead_beef; 27];
    raw::oob::encode(&oob, &mut slots);
    for (index, &slot) in slots.iter().enumerate() {
        let expected = match index {
            0 => 0xa,
            1 => 0x1122_3344_5566_7788,
            2 => 0xb,
            4 => 0xc,
            11 => 0x99,
            12 => 0x0805_0206,
            22 => 0xd,
            _ => 0xdead_beef,
        };
        assert_eq!(slot, expected, "{index}");
    }
    assert_eq!(raw::oob::decode(&slots), oob);
    slots[12] |= 0xffff_ffff_0000_0000;
    assert_eq!(raw::oob::decode(&slots), oob, "the high half of a word's slot is not read");

    let mut received = OutOfBand::default();
    let verdict = IpsecReceive { sa_delete_request: true, crypto_done: true, next_crypto_done: false, crypto_status: CryptoStatus::TunnelEspAuthFailed };
    received.set_ipsec_receive(verdict);
    received.set_header_receive(Some(HeaderReceive { next_header: 4, pad_length: 1 }));
    raw::oob::encode(&received, &mut slots);
    assert_eq!((slots[1], slots[12]), (0x0005_0003, 0x0001_0104));
    assert_eq!(raw::oob::decode(&slots).ipsec_receive(), verdict);
}

fn any_version() -> impl Strategy<Value = NdisVersion> {
    prop::sample::select(vec![0, 1, 20, 30, 50, 70, 83, 85]).prop_map(version)
}

proptest! {
    #[test]
    fn capability_sets_come_back(offload in any_offload(), version in any_version()) {
        let bytes = raw::offload::encode(&offload, version);
        let read = raw::offload::decode(&bytes).unwrap();
        // The ABI has no bits for extensions, and revision 1 no IPsec version 2.
        let set = offload.ipsec_v2;
        let ipsec_v2 = IpsecOffloadV2 {
            authentication_algorithms: AuthenticationAlgorithms::from_bits_retain(set.authentication_algorithms.bits() & 0xffff),
            encryption_algorithms: EncryptionAlgorithms::from_bits_retain(set.encryption_algorithms.bits() & 0xffff),
            ext_refused_icv_lengths: IcvLengths::empty(),
            ext_lso_tunnel: false,
            ..set
        };
        let ipsec_v2 = if version.has_ipsec_v2() { ipsec_v2 } else { IpsecOffloadV2::default() };
        prop_assert_eq!(read, Offload { ipsec_v2, ipsec_v1: IpsecOffloadV1 { ext_sa_capacity: 0, ..offload.ipsec_v1 }, ..offload });
        prop_assert_eq!(raw::offload::encode(&read, version), bytes);
    }

    #[test]
    fn parameters_come_back(values in prop::collection::vec(prop::option::of(0u32..4), Keyword::ALL.len()), skip in any::<bool>(), types in 0u8..4, port: u16) {
        let mut parameters = OffloadParameters {
            skip_registry_update: skip, encapsulation_types: types, vxlan_udp_port: port, ..OffloadParameters::default()
        };
        for (&keyword, value) in Keyword::ALL.iter().zip(values) {
            parameters.set(keyword, value);
        }
        let bytes = raw::parameters::encode(&parameters, NEWEST).unwrap();
        prop_assert_eq!(raw::parameters::decode(&bytes), Ok(parameters));
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..240), kind in 0usize..3, revision in 0u8..9, set in any::<bool>()) {
        // Random bytes behind a header that fits, so that the content is reached.
        let plausible = [(0xa7, 216u16), (0x80, 34), (0xa8, 28)][kind];
        if bytes.len() >= 4 {
            (bytes[0], bytes[1]) = (plausible.0, revision);
            bytes[2..4].copy_from_slice(&plausible.1.to_le_bytes());
        }
        for result in [raw::offload::decode(&bytes).err(), raw::parameters::decode(&bytes).err(), raw::encapsulation::decode(&bytes).err()].into_iter().flatten() {
            prop_assert!([Status::INVALID_DATA, Status::INVALID_LENGTH].contains(&result.status()));
            prop_assert_eq!(result.status() == Status::INVALID_LENGTH, result.bytes_needed().is_some_and(|needed| needed > bytes.len()));
        }
        for oid in [0xfc01_020b, 0xfc01_020c, 0xfc01_020d, 0x0101_010a, 1] {
            if let Ok(body) = raw::standard::decode(oid, set, &bytes) {
                prop_assert_eq!(raw::standard::answer(&body, NEWEST, &mut bytes), Ok(0));
            }
        }
    }
}
