//! Keywords and `OID_TCP_OFFLOAD_PARAMETERS`: names, numbers, texts, and each other's counterparts (OV2-CAP-5, OV2-CAP-8).

use ndis::{AdapterKeywords, IpsecSetting, Keyword, KeywordKind, OffloadParameters, Setting, Switch, SystemValue, TxRx};
use proptest::prelude::*;

#[test]
fn names_kinds_and_defaults_are_those_of_the_specification() {
    use KeywordKind::{Ipsec, Switch, TxRx};
    let table: [(&str, KeywordKind, u32); 20] = [
        ("*IPChecksumOffloadIPv4", TxRx, 3),
        ("*TCPChecksumOffloadIPv4", TxRx, 3),
        ("*TCPChecksumOffloadIPv6", TxRx, 3),
        ("*UDPChecksumOffloadIPv4", TxRx, 3),
        ("*UDPChecksumOffloadIPv6", TxRx, 3),
        ("*TCPUDPChecksumOffloadIPv4", TxRx, 3),
        ("*TCPUDPChecksumOffloadIPv6", TxRx, 3),
        ("*LsoV1IPv4", Switch, 1),
        ("*LsoV2IPv4", Switch, 1),
        ("*LsoV2IPv6", Switch, 1),
        ("*IPsecOffloadV1IPv4", Ipsec, 3),
        ("*IPsecOffloadV2", Ipsec, 3),
        ("*IPsecOffloadV2IPv4", Ipsec, 3),
        ("*TCPConnectionOffloadIPv4", Switch, 1),
        ("*TCPConnectionOffloadIPv6", Switch, 1),
        ("*RscIPv4", Switch, 1),
        ("*RscIPv6", Switch, 1),
        ("*EncapsulatedPacketTaskOffload", Switch, 1),
        ("*UsoIPv4", Switch, 1),
        ("*UsoIPv6", Switch, 1),
    ];
    assert_eq!(Keyword::ALL.len(), table.len());
    for ((name, kind, default), &keyword) in table.into_iter().zip(Keyword::ALL) {
        assert_eq!((keyword.name(), keyword.kind(), keyword.default_value()), (name, kind, default));
        assert_eq!(Keyword::from_name(name), Some(keyword));
        assert_eq!(Keyword::from_name(&name.to_uppercase()), Some(keyword));
        assert!(keyword.allows(default));
    }
    assert_eq!(Keyword::from_name("IPsecOffloadV2"), None);
}

#[test]
fn numbers_mean_what_the_specification_says() {
    assert_eq!(
        IpsecSetting::ALL.iter().map(|setting| (setting.ah(), setting.esp())).collect::<Vec<_>>(),
        [(false, false), (true, false), (false, true), (true, true)]
    );
    assert_eq!(
        TxRx::ALL.iter().map(|setting| (setting.transmit(), setting.receive())).collect::<Vec<_>>(),
        [(false, false), (true, false), (false, true), (true, true)]
    );
    assert_eq!(Switch::ALL.iter().map(|setting| setting.is_on()).collect::<Vec<_>>(), [false, true]);
    for number in 0..6 {
        assert_eq!(IpsecSetting::from_value(number).map(Setting::value), (number <= 3).then_some(number));
        assert_eq!(Switch::from_value(number).map(Setting::value), (number <= 1).then_some(number));
    }
}

#[test]
fn texts_that_are_no_allowed_number_are_refused_with_what_was_found_and_what_is_allowed() {
    for (text, number) in [("0", 0), ("3", 3), (" 2\t", 2), ("01", 1)] {
        assert_eq!(Keyword::IpsecV2.parse(text), Ok(number), "{text:?}");
    }
    for text in ["", " ", "4", "-1", "+1", "0x1", "1.0", "on", "1 1", "99999999999999999999", "\u{663}"] {
        let error = Keyword::IpsecV2.parse(text).unwrap_err();
        assert_eq!((error.name, error.found.as_str()), ("*IPsecOffloadV2", text));
        assert_eq!(error.to_string(), format!("*IPsecOffloadV2: {text:?} found, 0 (disabled), 1 (AH), 2 (ESP) or 3 (AH and ESP) allowed"));
    }
    assert!(Keyword::LsoV1Ipv4.parse("2").is_err());
    assert!(Keyword::LsoV1Ipv4.check(2).is_err());
    assert_eq!(SystemValue::EnabledOffload.parse("0"), Ok(0));
    assert!(SystemValue::EnabledOffload.parse("2").is_err());
    assert!(SystemValue::DisableTaskOffload.check(2).is_err());
}

#[test]
fn each_keyword_but_the_grouped_ones_has_one_member_as_counterpart() {
    for &keyword in Keyword::ALL {
        let grouped = matches!(keyword, Keyword::TcpUdpChecksumIpv4 | Keyword::TcpUdpChecksumIpv6);
        let mut parameters = OffloadParameters::default();
        assert!(parameters.is_empty());
        assert_eq!(parameters.set(keyword, Some(1)), !grouped);
        assert_eq!(parameters.is_empty(), grouped);
        assert_eq!(parameters.keyword_changes(), if grouped { vec![] } else { vec![(keyword, 1)] });
        assert!(!parameters.set(keyword, Some(4)));
        assert_eq!(parameters.get(keyword), (!grouped).then_some(1));
        parameters.skip_registry_update = true;
        assert_eq!(parameters.keyword_changes(), []);
        parameters.set(keyword, None);
        assert!(parameters.is_empty());
    }
}

proptest! {
    #[test]
    fn keywords_to_parameters_and_back(numbers in prop::collection::vec(0u32..4, Keyword::ALL.len())) {
        let mut keywords = AdapterKeywords::defaults("nic0");
        for (&keyword, number) in Keyword::ALL.iter().zip(numbers) {
            keywords = keywords.with(keyword, number);
        }
        let parameters = OffloadParameters::from_keywords(&keywords);
        let again = AdapterKeywords::defaults("nic0").updated(&parameters);
        for &keyword in Keyword::ALL {
            if parameters.get(keyword).is_some() {
                prop_assert_eq!(again.get(keyword), keywords.get(keyword));
            }
        }
    }
}
