use super::*;
use ndis::{Encapsulation, IcvLengths, Ipv4Esp};

#[test]
fn every_field_of_a_card_has_source_and_confidence() {
    let names: Vec<&str> = Profile::built_in().iter().map(|profile| profile.name.as_str()).collect();
    assert_eq!(names[..2], ["software", "ov2-full"]);
    assert_eq!(names[2..], FILES.map(|(name, _)| name));
    for profile in &Profile::built_in()[2..] {
        let v2 = profile.offload.ipsec_v2.is_supported();
        assert!(v2 != profile.offload.ipsec_v1.is_supported(), "{}", profile.name);
        assert!(!profile.title.is_empty());
        let section = if v2 { "ipsec-v2." } else { "ipsec-v1." };
        let fields = profile.provenance.iter().filter(|provenance| provenance.field.starts_with(section)).count();
        assert_eq!(fields, if v2 { read::IPSEC_V2.len() } else { read::IPSEC_V1.len() }, "{}", profile.name);
        for provenance in &profile.provenance {
            assert!(!provenance.source.is_empty() && provenance.confidence.is_some(), "{} {}", profile.name, provenance.field);
        }
    }
}

#[test]
fn cards_are_within_what_the_masks_and_the_software_nic_have() {
    let software = Profile::software().offload.ipsec_v2;
    for profile in Profile::built_in() {
        assert!(profile.offload.ipsec_v2.encapsulation.is_empty() || profile.offload.ipsec_v2.encapsulation.contains(Encapsulation::IEEE_802_3));
        let claimed = ndis::IpsecOffloadV2 { sa_offload_capacity: 1, ..profile.offload.ipsec_v2 };
        assert!(claimed.is_within(&software), "{}: the software NIC cannot take it on", profile.name);
    }
    let full = Profile::named("ov2-full").unwrap().offload.ipsec_v2;
    assert_eq!((full.authentication_algorithms.bits() >> 16, full.encryption_algorithms.bits() >> 16), (0, 0));
    assert!(full.is_within(&software) && !software.is_within(&full));
}

/// OV2-CAP-13: a card that takes large sends of protected packets says how large, and the software NIC can be that card.
#[test]
fn cards_with_large_sends_have_limits() {
    let software = Profile::software().offload;
    let mut with = Vec::new();
    for profile in Profile::built_in() {
        let (v1, v2) = (profile.offload.lso_v1, profile.offload.lso_v2);
        assert_eq!(profile.offload.ipsec_v2.lso_supported, v2.ipv4.is_supported() && v2.ipv6.is_supported(), "{}", profile.name);
        let large_sends = ndis::Offload { lso_v1: v1, lso_v2: v2, ..ndis::Offload::default() };
        assert!(large_sends.is_within(&ndis::Offload { lso_v1: software.lso_v1, lso_v2: software.lso_v2, ..ndis::Offload::default() }), "{}", profile.name);
        with.extend(profile.offload.ipsec_v2.lso_supported.then_some(profile.name.as_str()));
    }
    assert_eq!(with, ["software", "ov2-full", "intel-82576", "intel-82599", "nvidia-connectx-6-dx"]);
}

#[test]
fn a_card_of_version_one_has_no_version_two() {
    let card = Profile::named("3com-3cr990").unwrap();
    assert_eq!((card.version, card.offload.ipsec_v2), (NdisVersion::V6_0, ndis::IpsecOffloadV2::default()));
    let esp = Ipv4Esp { des: true, triple_des: true, null_esp: true, transport: true, tunnel: true, send: true, receive: true };
    assert_eq!(card.offload.ipsec_v1.ipv4_esp, esp);
}

#[test]
fn users_write_their_own() {
    let text = r#"
name = "mine.1"
ndis = "6.20"
notes = [ "one", "two" ]
[ipsec-v2]
encapsulation = [ "ieee-802.3", "p-and-q" ]
esp = true
tunnel = { value = true, source = "the manual", confidence = "inferred" }
encryption-algorithms = [ "aes-gcm-256" ]
icv-lengths = [ 12, 16 ]
sa-offload-capacity = 7
[lso-v2-ipv4]
encapsulation = [ "ieee-802.3" ]
max-offload-size = 65536
min-segment-count = 2
[coexistence]
tcp-checksum = true
"#;
    let profile = Profile::parse(text, "mine.toml").unwrap();
    assert_eq!((profile.name.as_str(), profile.version, profile.notes.len()), ("mine.1", NdisVersion::V6_20, 2));
    let v2 = profile.offload.ipsec_v2;
    assert_eq!((v2.esp, v2.ah, v2.tunnel, v2.transport, v2.sa_offload_capacity), (true, false, true, false, 7));
    assert_eq!((v2.encryption_algorithms, v2.ext_refused_icv_lengths), (EncryptionAlgorithms::AES_GCM_256, IcvLengths::ICV_8));
    assert_eq!((profile.offload.lso_v2.ipv4.max_offload_size, profile.offload.lso_v2.ipv6.max_offload_size), (65536, 0));
    assert!(!profile.deviates_without_tunnel());
    let provenance = profile.provenance("ipsec-v2.tunnel").unwrap();
    assert_eq!((provenance.source.as_str(), provenance.confidence), ("the manual", Some(Confidence::Inferred)));
    assert_eq!(profile.provenance("ipsec-v2.esp").unwrap().confidence, None);
    assert_eq!(profile.provenance("ipsec-v2.ah"), None);
}

#[test]
fn errors_name_line_field_value_and_what_is_allowed() {
    const GOOD: &str = "name = 'x'\n[ipsec-v2]\nencapsulation = ['ieee-802.3']\nesp = true\nsa-offload-capacity = 1\n";
    assert!(Profile::parse(GOOD, "x").is_ok());
    let versions = "\"6.0\", \"6.1\", \"6.20\" or \"6.30\" allowed";
    for (text, error) in [
        (String::new(), "x:1:1: name is missing; a name of the profile".to_owned()),
        ("name = 'X y'".to_owned(), "x:1:8: name: \"X y\" found, a name of lower-case letters, digits, \"-\", \".\", \"_\" expected".to_owned()),
        ("name = 'x'\nndis = '6.2'".to_owned(), format!("x:2:8: ndis: \"6.2\" found, {versions}")),
        (GOOD.replace("true", "1"), "x:4:7: esp: an integer found, true or false expected".to_owned()),
        (GOOD.replace("esp", "espp"), format!("x:4:1: unknown field \"espp\"; allowed here: {}", read::IPSEC_V2.join(", "))),
        (GOOD.replace("= 1", "= -1"), "x:5:23: sa-offload-capacity: -1 found, 0 to 4294967295 allowed".to_owned()),
        (GOOD.replace("= 1", "= 0"), "x:2:2: ipsec-v2: sa-offload-capacity 0 found, at least 1 allowed".to_owned()),
        (
            GOOD.replace("'ieee-802.3'", "'ieee'"),
            "x:3:18: encapsulation: \"ieee\" found, ieee-802.3, p-and-q, p-and-q-in-oob, llc-snap, null allowed".to_owned(),
        ),
        (GOOD.replace("'ieee-802.3'", "'null'"), "x:2:2: ipsec-v2: no encapsulation \"ieee-802.3\" found, it is mandatory".to_owned()),
        (format!("{GOOD}icv-lengths = [16, 10]\n"), "x:6:20: icv-lengths: 10 found, 8, 12, 16 allowed".to_owned()),
        (format!("{GOOD}icv-lengths = ['16']\n"), "x:6:16: icv-lengths: a text found, an array of numbers expected".to_owned()),
        (GOOD.replace("'x'", "'x'\nndis = '6.0'"), "x:3:2: ipsec-v2: an adapter of NDIS 6.0 found, IPsecOV2 exists from NDIS 6.1".to_owned()),
        (
            GOOD.replace("esp = true", "esp = { value = true, confidence = 'sure' }"),
            "x:4:36: confidence: \"sure\" found, \"confirmed\", \"inferred\" or \"unknown\" allowed".to_owned(),
        ),
        (GOOD.replace("esp = true", "esp = { source = 's' }"), "x:4:7: value is missing; the value of esp".to_owned()),
    ] {
        assert_eq!(Profile::parse(&text, "x").unwrap_err().to_string(), error, "{text}");
    }
}

#[test]
fn what_is_neither_a_profile_nor_a_file_is_told_the_names() {
    let error = Profile::find("intel-82598").unwrap_err().to_string();
    assert!(error.starts_with("intel-82598: neither a file nor a profile; profiles: software, ov2-full, intel-82576"), "{error}");
    assert_eq!(Profile::find("chelsio-t6").unwrap().name, "chelsio-t6");
}
