//! The algebra of capability sets (OV2-CAP-0, 1, 8, 9, 14) and what covers an SA (OV2-SA-4, OV2-TRANS-2).

mod common;

use common::{GCM_128, ah, any_bundle, any_ipsec_v2, any_offload, bundle, esp};
use ndis::{
    AdapterKeywords, AesKeySize, Associations, AuthenticationAlgorithm, AuthenticationAlgorithms, CapabilityField, CapabilityValue, Encapsulation,
    EncryptionAlgorithm, EncryptionAlgorithms, IcvLengths, IpsecOffloadV2, IpsecSetting, Keyword, NdisVersion, Offload, OffloadEncapsulation,
    OffloadParameters, SaBundle, SaMode, SetEncapsulation, Setting, Status, Switch, TxRx, UdpEspType, UdpEspTypes,
};
use proptest::prelude::*;

const ETHERNET: Encapsulation = Encapsulation::IEEE_802_3;

/// Everything that can be said.
fn everything() -> IpsecOffloadV2 {
    IpsecOffloadV2 {
        encapsulation: Encapsulation::all(),
        ipv6_supported: true,
        ipv4_options: true,
        ipv6_non_ipsec_extension_headers: true,
        ah: true,
        esp: true,
        ah_esp_combined: true,
        transport: true,
        tunnel: true,
        transport_tunnel_combined: true,
        lso_supported: true,
        extended_sequence_numbers: true,
        udp_esp: UdpEspTypes::all(),
        authentication_algorithms: AuthenticationAlgorithms::all(),
        encryption_algorithms: EncryptionAlgorithms::all(),
        sa_offload_capacity: 100,
        ext_refused_icv_lengths: IcvLengths::empty(),
        ext_lso_tunnel: true,
    }
}

fn hardware(ipsec_v2: IpsecOffloadV2) -> Offload {
    Offload { ipsec_v2, ..Offload::default() }
}

fn any_keywords() -> impl Strategy<Value = AdapterKeywords> {
    prop::collection::vec(prop::option::of(0u32..4), Keyword::ALL.len()).prop_map(|values| {
        let stored = Keyword::ALL.iter().zip(values).filter_map(|(&keyword, value)| Some((keyword, value?)));
        stored.fold(AdapterKeywords::defaults("nic0"), |keywords, (keyword, value)| keywords.with(keyword, value))
    })
}

fn any_parameters() -> impl Strategy<Value = OffloadParameters> {
    prop::collection::vec(prop::option::of(0u32..4), Keyword::ALL.len()).prop_map(|values| {
        let mut parameters = OffloadParameters::default();
        for (&keyword, value) in Keyword::ALL.iter().zip(values) {
            parameters.set(keyword, value);
        }
        parameters
    })
}

fn any_setting() -> impl Strategy<Value = IpsecSetting> {
    prop::sample::select(IpsecSetting::ALL)
}

#[test]
fn settings_leave_what_the_specification_says() {
    let all = everything();
    assert_eq!(all.restrict(IpsecSetting::AhAndEsp), all);
    assert_eq!(all.restrict(IpsecSetting::Disabled), IpsecOffloadV2::default());
    let ah = IpsecOffloadV2 { esp: false, ah_esp_combined: false, udp_esp: UdpEspTypes::empty(), encryption_algorithms: EncryptionAlgorithms::empty(), ..all };
    assert_eq!(all.restrict(IpsecSetting::Ah), ah);
    assert_eq!(all.restrict(IpsecSetting::Esp), IpsecOffloadV2 { ah: false, ah_esp_combined: false, ..all });
    let esp_only = IpsecOffloadV2 { ah: false, ..all };
    assert_eq!(esp_only.restrict(IpsecSetting::Ah), IpsecOffloadV2::default(), "nothing left is disabled");
}

#[test]
fn of_the_two_ipsec_keywords_ipv6_support_decides_which_counts() {
    let with_ipv6 = hardware(everything());
    let without = hardware(IpsecOffloadV2 { ipv6_supported: false, ..everything() }.normalized());
    for (offload, counts, ignored) in [(with_ipv6, Keyword::IpsecV2, Keyword::IpsecV2Ipv4), (without, Keyword::IpsecV2Ipv4, Keyword::IpsecV2)] {
        let defaults = AdapterKeywords::defaults("nic0");
        assert_eq!(offload.configured(&defaults.clone().with(counts, 0)), Offload::default());
        assert_eq!(offload.configured(&defaults.clone().with(ignored, 0)), offload);
        let mut parameters = OffloadParameters::default();
        parameters.set(ignored, Some(0));
        assert_eq!(offload.apply(&parameters, &offload), Ok(offload));
        parameters.set(counts, Some(2));
        assert_eq!(offload.apply(&parameters, &offload), Ok(hardware(offload.ipsec_v2.restrict(IpsecSetting::Esp))));
        assert_eq!(offload.apply(&OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled), &offload), Ok(Offload::default()));
    }
}

#[test]
fn what_is_switched_off_comes_back_whole() {
    let mut full = hardware(everything());
    full.lso_v1 =
        ndis::LargeSendSet { encapsulation: ETHERNET, max_offload_size: 60_000, min_segment_count: 2, tcp_options: true, ip_options: false, ext_udp: false };
    let set = ndis::ChecksumSet {
        encapsulation: ETHERNET,
        ip_options_supported: true,
        tcp_options_supported: true,
        tcp_checksum: true,
        udp_checksum: true,
        ip_checksum: true,
    };
    full.checksum = ndis::ChecksumOffload { ipv4_transmit: set, ipv4_receive: set, ..ndis::ChecksumOffload::default() };
    let off = OffloadParameters {
        lso_v1: Some(Switch::Disabled),
        tcp_checksum_ipv4: Some(TxRx::Transmit),
        udp_checksum_ipv4: Some(TxRx::Transmit),
        ip_checksum_ipv4: Some(TxRx::Transmit),
        ..OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)
    };
    let reduced = full.apply(&off, &full).unwrap();
    assert_eq!(reduced, Offload { checksum: ndis::ChecksumOffload { ipv4_receive: ndis::ChecksumSet::default(), ..full.checksum }, ..Offload::default() });
    let tcp_off = reduced.apply(&OffloadParameters { tcp_checksum_ipv4: Some(TxRx::Disabled), ..OffloadParameters::default() }, &full).unwrap();
    assert_eq!(
        tcp_off.checksum.ipv4_transmit,
        ndis::ChecksumSet { tcp_checksum: false, tcp_options_supported: false, ..set },
        "TCP options go with TCP checksums"
    );
    let on = OffloadParameters::from_keywords(&AdapterKeywords::defaults("nic0"));
    assert_eq!(tcp_off.apply(&on, &full), Ok(full));
    assert_eq!(reduced.apply(&OffloadParameters::default(), &full), Ok(reduced));
    assert_eq!(Offload::default().apply(&on, &Offload::default()), Err(Status::NOT_SUPPORTED));
}

#[test]
fn each_version_reports_what_it_knows() {
    let full = Offload {
        ipsec_v1: ndis::IpsecOffloadV1 {
            encapsulation: ETHERNET,
            ipv4_esp: ndis::Ipv4Esp { des: true, ..ndis::Ipv4Esp::default() },
            ..ndis::IpsecOffloadV1::default()
        },
        flags: ndis::OffloadFlags::all(),
        ..hardware(everything())
    };
    for (version, v1, v2, coexistence) in [
        (NdisVersion::V6_0, true, false, false),
        (NdisVersion::V6_1, true, true, false),
        (NdisVersion::V6_20, true, true, false),
        (NdisVersion::V6_30, false, true, true),
    ] {
        let reported = full.for_version(version);
        assert_eq!((reported.ipsec_v1.is_supported(), reported.ipsec_v2.is_supported()), (v1, v2), "{version}");
        assert_eq!(reported.flags.contains(ndis::OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE), coexistence, "{version}");
        assert!(reported.is_within(&full));
    }
}

fn esp_gcm() -> SaBundle {
    bundle(Associations::Esp(esp(GCM_128, None)))
}

/// Each capability: a bundle that needs it, and a set that has all but it.
#[test]
fn every_missing_capability_is_named() {
    let full = everything();
    let null = || esp(EncryptionAlgorithm::Null, Some(AuthenticationAlgorithm::HmacSha1));
    let ah_alone = || bundle(Associations::Ah(ah(AuthenticationAlgorithm::HmacSha256)));
    let both = || bundle(Associations::AhOverEsp { esp: null(), ah: ah(AuthenticationAlgorithm::HmacMd5) });
    let yes = CapabilityValue::Flag(true);
    let ipv6 = {
        let mut bundle = esp_gcm();
        bundle.endpoints = ndis::Endpoints { ipv6: true, source: None, destination: None };
        bundle
    };
    let udp = {
        let mut bundle = esp_gcm();
        bundle.udp_esp = Some(UdpEspType::Tunnel);
        bundle
    };
    let esn = {
        let mut half = esp(GCM_128, None);
        half.extended_sequence_numbers = true;
        bundle(Associations::Esp(half))
    };
    let esn_ah = {
        let mut half = ah(AuthenticationAlgorithm::HmacSha256);
        half.extended_sequence_numbers = true;
        bundle(Associations::Ah(half))
    };
    let without_sha1 = AuthenticationAlgorithms::all() - AuthenticationAlgorithms::SHA_1;
    let without_md5 = AuthenticationAlgorithms::all() - AuthenticationAlgorithms::MD5;
    let without_gcm = EncryptionAlgorithms::all() - EncryptionAlgorithms::AES_GCM_128;
    let without_udp_tunnel = UdpEspTypes::all() - UdpEspTypes::TUNNEL;
    let table: Vec<(SaBundle, Option<SaMode>, IpsecOffloadV2, CapabilityField, CapabilityValue, CapabilityValue)> = vec![
        (esp_gcm(), None, IpsecOffloadV2 { encapsulation: Encapsulation::empty(), ..full }, CapabilityField::Encapsulation, yes, CapabilityValue::Flag(false)),
        (ipv6, None, IpsecOffloadV2 { ipv6_supported: false, ..full }, CapabilityField::Ipv6Supported, yes, CapabilityValue::Flag(false)),
        (esp_gcm(), None, IpsecOffloadV2 { esp: false, ..full }, CapabilityField::Esp, yes, CapabilityValue::Flag(false)),
        (ah_alone(), None, IpsecOffloadV2 { ah: false, ..full }, CapabilityField::Ah, yes, CapabilityValue::Flag(false)),
        (both(), None, IpsecOffloadV2 { ah_esp_combined: false, ..full }, CapabilityField::AhEspCombined, yes, CapabilityValue::Flag(false)),
        (esp_gcm(), Some(SaMode::Transport), IpsecOffloadV2 { transport: false, ..full }, CapabilityField::Transport, yes, CapabilityValue::Flag(false)),
        (esp_gcm(), Some(SaMode::Tunnel), IpsecOffloadV2 { tunnel: false, ..full }, CapabilityField::Tunnel, yes, CapabilityValue::Flag(false)),
        (
            udp,
            None,
            IpsecOffloadV2 { udp_esp: without_udp_tunnel, ..full },
            CapabilityField::UdpEsp,
            CapabilityValue::UdpEsp(UdpEspTypes::TUNNEL),
            CapabilityValue::UdpEsp(without_udp_tunnel),
        ),
        (esn, None, IpsecOffloadV2 { extended_sequence_numbers: false, ..full }, CapabilityField::ExtendedSequenceNumbers, yes, CapabilityValue::Flag(false)),
        (
            esn_ah,
            None,
            IpsecOffloadV2 { extended_sequence_numbers: false, ..full },
            CapabilityField::ExtendedSequenceNumbers,
            yes,
            CapabilityValue::Flag(false),
        ),
        (
            esp_gcm(),
            None,
            IpsecOffloadV2 { encryption_algorithms: without_gcm, ..full },
            CapabilityField::EncryptionAlgorithms,
            CapabilityValue::Encryption(EncryptionAlgorithms::AES_GCM_128),
            CapabilityValue::Encryption(without_gcm),
        ),
        (
            esp_gcm(),
            None,
            IpsecOffloadV2 { ext_refused_icv_lengths: IcvLengths::ICV_16, ..full },
            CapabilityField::IcvLength,
            CapabilityValue::Icv(IcvLengths::ICV_16),
            CapabilityValue::Icv(IcvLengths::ICV_8 | IcvLengths::ICV_12),
        ),
        (
            both(),
            None,
            IpsecOffloadV2 { authentication_algorithms: without_sha1, ..full },
            CapabilityField::AuthenticationAlgorithms,
            CapabilityValue::Authentication(AuthenticationAlgorithms::SHA_1),
            CapabilityValue::Authentication(without_sha1),
        ),
        (
            both(),
            None,
            IpsecOffloadV2 { authentication_algorithms: without_md5, ..full },
            CapabilityField::AuthenticationAlgorithms,
            CapabilityValue::Authentication(AuthenticationAlgorithms::MD5),
            CapabilityValue::Authentication(without_md5),
        ),
    ];
    let mut named = Vec::new();
    for (bundle, mode, set, field, asked, supported) in table {
        assert_eq!(full.covers(&bundle, mode), Ok(()), "{field}");
        let reason = set.covers(&bundle, mode).unwrap_err();
        assert_eq!((reason.field, reason.asked, reason.supported), (field, asked, supported));
        assert_eq!(Status::from(reason), Status::NOT_SUPPORTED);
        named.push(field);
    }
    for field in CapabilityField::ALL {
        assert!(named.contains(&field), "{field} has no line in the table");
    }
}

/// What the set refuses is refused of combined modes, by their additional info, and of nothing else.
#[test]
fn refused_icv_lengths_are_those_of_combined_modes() {
    for (icv, refused) in [(0, IcvLengths::ICV_16), (16, IcvLengths::ICV_16), (12, IcvLengths::ICV_12), (8, IcvLengths::ICV_8)] {
        let mut half = esp(GCM_128, None);
        half.encryption.additional_info = icv;
        let asked = bundle(Associations::Esp(half));
        for length in [IcvLengths::ICV_8, IcvLengths::ICV_12, IcvLengths::ICV_16] {
            let set = IpsecOffloadV2 { ext_refused_icv_lengths: length, ..everything() };
            assert_eq!(set.covers(&asked, None).is_err(), length == refused, "{icv} {length:?}");
            assert!(set.is_within(&everything()) && !everything().is_within(&set));
        }
    }
    let none = IpsecOffloadV2 { ext_refused_icv_lengths: IcvLengths::all(), ..everything() };
    assert_eq!(none.covers(&bundle(Associations::Ah(ah(AuthenticationAlgorithm::HmacSha256))), None), Ok(()));
    assert_eq!(none.covers(&esp_gcm(), None).unwrap_err().to_string(), "IcvLength: ICV_16 asked, nothing supported");
}

#[test]
fn what_an_sa_does_not_need_is_not_asked_for() {
    let least = IpsecOffloadV2 { encapsulation: ETHERNET, esp: true, encryption_algorithms: EncryptionAlgorithms::AES_GCM_128, ..IpsecOffloadV2::default() };
    for icv in [0, 8, 12, 16] {
        let mut half = esp(GCM_128, None);
        half.encryption.additional_info = icv;
        assert_eq!(least.covers(&bundle(Associations::Esp(half)), None), Ok(()));
    }
    let other_size = bundle(Associations::Esp(esp(EncryptionAlgorithm::AesGcm(AesKeySize::Aes256), None)));
    let reason = least.covers(&other_size, None).unwrap_err();
    assert_eq!(reason.to_string(), "EncryptionAlgorithms: AES_GCM_256 asked, AES_GCM_128 supported");
    let reason = least.covers(&esp_gcm(), Some(SaMode::Tunnel)).unwrap_err();
    assert_eq!(reason.to_string(), "Tunnel: yes asked, no supported");
    let null = bundle(Associations::Esp(esp(EncryptionAlgorithm::Null, Some(AuthenticationAlgorithm::HmacMd5))));
    let no_authentication = IpsecOffloadV2 { encryption_algorithms: EncryptionAlgorithms::NONE, ..least };
    assert_eq!(no_authentication.covers(&null, None).unwrap_err().to_string(), "AuthenticationAlgorithms: MD5 asked, nothing supported");
}

#[test]
fn large_sends_with_fewer_segments_and_more_payload_are_more() {
    let set = |max_offload_size, min_segment_count| Offload {
        lso_v1: ndis::LargeSendSet { encapsulation: ETHERNET, max_offload_size, min_segment_count, tcp_options: false, ip_options: false, ext_udp: false },
        ..Offload::default()
    };
    assert_eq!(set(60_000, 2).intersect(&set(30_000, 4)), set(30_000, 4));
    assert_eq!(set(60_000, 4).intersect(&set(30_000, 2)), set(30_000, 4));
    assert!(set(30_000, 4).is_within(&set(30_000, 2)) && !set(30_000, 2).is_within(&set(30_000, 4)));
    assert_eq!(set(0, 2).normalized(), Offload::default());
}

#[test]
fn encapsulations_are_answered_as_specified() {
    let on = |encapsulation| SetEncapsulation::On { encapsulation, header_size: 14 };
    let request = |ipv4, ipv6| OffloadEncapsulation { ipv4, ipv6 };
    let ipv4_only = hardware(IpsecOffloadV2 { encapsulation: ETHERNET | Encapsulation::IEEE_802_3_P_AND_Q, ipv6_supported: false, ..everything() });
    let off = SetEncapsulation::Off;
    let no_change = SetEncapsulation::NoChange;
    let llc = Encapsulation::IEEE_LLC_SNAP_ROUTED;
    for (set, answer) in [
        (request(on(ETHERNET), on(ETHERNET)), Status::SUCCESS),
        (request(on(ETHERNET | Encapsulation::IEEE_802_3_P_AND_Q), no_change), Status::SUCCESS),
        (request(on(ETHERNET | Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB), no_change), Status::INVALID_PARAMETER),
        (request(no_change, on(ETHERNET)), Status::INVALID_PARAMETER),
        (request(on(llc), on(llc)), Status::INVALID_PARAMETER),
        (request(on(Encapsulation::empty()), on(ETHERNET)), Status::INVALID_PARAMETER),
        (request(on(Encapsulation::from_bits_retain(0x8000_0002)), off), Status::INVALID_PARAMETER),
        (request(off, off), Status::SUCCESS),
        (request(no_change, no_change), Status::SUCCESS),
    ] {
        assert_eq!(ipv4_only.check_encapsulation(&set), answer, "{set:?}");
        assert_eq!(Offload::default().check_encapsulation(&set), Status::NOT_SUPPORTED, "{set:?}");
    }
    assert_eq!(hardware(everything()).check_encapsulation(&request(no_change, on(llc))), Status::SUCCESS);
}

proptest! {
    #[test]
    fn intersection_is_the_greatest_lower_bound(a in any_offload(), b in any_offload(), c in any_offload()) {
        let both = a.intersect(&b);
        prop_assert!(both.is_within(&a) && both.is_within(&b));
        prop_assert_eq!(both, b.intersect(&a));
        prop_assert_eq!(both.normalized(), both);
        prop_assert_eq!(both.intersect(&c), a.intersect(&b.intersect(&c)));
        prop_assert_eq!(a.intersect(&a), a.normalized());
        prop_assert!(c.intersect(&both).is_within(&both));
        // Greatest: what is within both is within their intersection.
        let within_both = c.intersect(&a).intersect(&b);
        prop_assert!(within_both.is_within(&both));
        prop_assert!(Offload::default().is_within(&both));
        // Order and equality agree.
        prop_assert_eq!(a.is_within(&b) && b.is_within(&a), a.normalized() == b.normalized());
        prop_assert_eq!(both == a.normalized(), a.is_within(&b));
    }

    #[test]
    fn more_is_never_within_less(set in any_ipsec_v2()) {
        let set = set.normalized();
        prop_assume!(set.is_supported());
        let fewer = IpsecOffloadV2 { sa_offload_capacity: set.sa_offload_capacity + 1, ..set };
        prop_assert!(set.is_within(&fewer) && !fewer.is_within(&set));
        let more = IpsecOffloadV2 { extended_sequence_numbers: true, lso_supported: true, transport: true, tunnel: true, ..set };
        prop_assert!(set.is_within(&more));
        prop_assert_eq!(more.is_within(&set), more == set);
    }

    #[test]
    fn restricting_is_idempotent_and_monotone(a in any_ipsec_v2(), b in any_ipsec_v2(), setting in any_setting(), other in any_setting()) {
        let restricted = a.restrict(setting);
        prop_assert_eq!(restricted.restrict(setting), restricted);
        prop_assert!(restricted.is_within(&a));
        let less = a.intersect(&b);
        prop_assert!(less.restrict(setting).is_within(&a.restrict(setting)));
        // A setting that allows less leaves less.
        if (!setting.ah() || other.ah()) && (!setting.esp() || other.esp()) {
            prop_assert!(restricted.is_within(&a.restrict(other)));
        }
        prop_assert!(setting.ah() || !restricted.ah && !restricted.ah_esp_combined);
        prop_assert!(setting.esp() || !restricted.esp && restricted.encryption_algorithms.is_empty() && restricted.udp_esp.is_empty());
        prop_assert!(restricted.is_supported() || restricted == IpsecOffloadV2::default());
    }

    #[test]
    fn configuration_never_exceeds_hardware(hardware in any_offload(), keywords in any_keywords()) {
        let configured = hardware.configured(&keywords);
        prop_assert!(configured.is_within(&hardware));
        prop_assert_eq!(configured.normalized(), configured);
        prop_assert_eq!(hardware.configured(&AdapterKeywords::defaults("nic0")), hardware.normalized());
    }

    #[test]
    fn parameters_lead_where_a_restart_with_their_keywords_leads(
        hardware in any_offload(), keywords in any_keywords(), parameters in any_parameters(), stray in any_offload(),
    ) {
        prop_assume!(!hardware.is_empty());
        let current = hardware.configured(&keywords);
        let next = current.apply(&parameters, &hardware).unwrap();
        prop_assert!(next.is_within(&hardware));
        prop_assert_eq!(next, hardware.configured(&keywords.updated(&parameters)));
        prop_assert_eq!(next.apply(&parameters, &hardware).unwrap(), next);
        prop_assert_eq!(current.apply(&OffloadParameters::default(), &hardware).unwrap(), current);
        // Not even from a configuration that never was the hardware's.
        prop_assert!(stray.apply(&parameters, &hardware).unwrap().is_within(&hardware));
    }

    #[test]
    fn what_covers_less_covers_no_more(set in any_ipsec_v2(), more in any_ipsec_v2(), bundle in any_bundle(), mode in any::<bool>()) {
        let mode = Some(if mode { SaMode::Transport } else { SaMode::Tunnel });
        let less = set.intersect(&more);
        if less.covers(&bundle, mode).is_ok() {
            prop_assert_eq!(set.covers(&bundle, mode), Ok(()));
            prop_assert_eq!(more.covers(&bundle, mode), Ok(()));
        }
        prop_assert_eq!(everything().covers(&bundle, mode), Ok(()));
        prop_assert_eq!(set.normalized().covers(&bundle, mode).is_ok(), set.covers(&bundle, mode).is_ok());
        prop_assert!(IpsecOffloadV2::default().covers(&bundle, mode).is_err());
    }
}
