//! Validation of SA bundles: every rule, from both sides (OV2-SA-3, OV2-SA-4, OV2-COMB-2).

mod common;

use common::{GCM_128, ah, any_bundle, authentication, bundle, encryption, esp};
use ndis::{
    AesKeySize, AhAssociation, Associations, AuthenticationAlgorithm, EncryptionAlgorithm, Endpoints, EspAssociation, Invalid, SaBundle, SaField, SaRules,
    Status, UdpEspType,
};
use packet::Spi;
use proptest::prelude::*;
use secret::SecretBytes;

const STRICT: SaRules = SaRules { reserved_spis: false, unauthenticated_esp: false };

fn of_esp(change: impl FnOnce(&mut EspAssociation)) -> SaBundle {
    let mut half = esp(GCM_128, None);
    change(&mut half);
    bundle(Associations::Esp(half))
}

fn of_ah(change: impl FnOnce(&mut AhAssociation)) -> SaBundle {
    let mut half = ah(AuthenticationAlgorithm::HmacSha1);
    change(&mut half);
    bundle(Associations::Ah(half))
}

fn field(result: Result<(), Invalid>) -> Option<SaField> {
    result.err().map(|invalid| invalid.field)
}

#[test]
fn spis() {
    for (spi, strict, lenient) in [(0, false, false), (1, false, true), (255, false, true), (256, true, true), (u32::MAX, true, true)] {
        for (bundle, name) in [(of_esp(|esp| esp.spi = Spi(spi)), SaField::EspSpi), (of_ah(|ah| ah.spi = Spi(spi)), SaField::AhSpi)] {
            let allow = SaRules { reserved_spis: true, ..STRICT };
            assert_eq!(field(bundle.validate(STRICT)), (!strict).then_some(name), "{spi}");
            assert_eq!(field(bundle.validate(allow)), (!lenient).then_some(name), "{spi}");
        }
    }
    let error = of_esp(|esp| esp.spi = Spi(7)).validate(STRICT).unwrap_err();
    assert_eq!(error.to_string(), "ESP SPI: 7 found, 256 to 4294967295 allowed");
    assert_eq!(Status::from(error), Status::INVALID_DATA);
}

#[test]
fn addresses() {
    let v6 = "2001:db8::1".parse().unwrap();
    let v4 = "192.0.2.1".parse().unwrap();
    for (ipv6, source, destination, wrong) in [
        (false, None, None, None),
        (true, None, None, None),
        (false, Some(v4), Some(v4), None),
        (true, Some(v6), Some(v6), None),
        (true, Some(v4), Some(v6), Some(SaField::SourceAddress)),
        (false, Some(v4), Some(v6), Some(SaField::DestinationAddress)),
        (false, Some("0.0.0.0".parse().unwrap()), None, Some(SaField::SourceAddress)),
        (true, None, Some("::".parse().unwrap()), Some(SaField::DestinationAddress)),
    ] {
        let mut bundle = of_esp(|_| {});
        bundle.endpoints = Endpoints { ipv6, source, destination };
        assert_eq!(field(bundle.validate(STRICT)), wrong, "{:?}", bundle.endpoints);
    }
}

#[test]
fn sequence_numbers() {
    assert_eq!(of_esp(|esp| (esp.extended_sequence_numbers, esp.sequence_number_high) = (true, 9)).validate(STRICT), Ok(()));
    assert_eq!(field(of_esp(|esp| esp.sequence_number_high = 9).validate(STRICT)), Some(SaField::EspSequenceNumberHigh));
    assert_eq!(field(of_ah(|ah| ah.sequence_number_high = 1).validate(STRICT)), Some(SaField::AhSequenceNumberHigh));
}

/// Key lengths from the table in section 10 of the specification.
#[test]
fn key_lengths() {
    use AesKeySize::{Aes128, Aes192, Aes256};
    let ciphers = [
        (EncryptionAlgorithm::Null, 0),
        (EncryptionAlgorithm::DesCbc, 8),
        (EncryptionAlgorithm::TripleDesCbc, 24),
        (EncryptionAlgorithm::AesGcm(Aes128), 20),
        (EncryptionAlgorithm::AesGcm(Aes192), 28),
        (EncryptionAlgorithm::AesGcm(Aes256), 36),
        (EncryptionAlgorithm::AesCbc(Aes128), 16),
        (EncryptionAlgorithm::AesCbc(Aes192), 24),
        (EncryptionAlgorithm::AesCbc(Aes256), 32),
        (EncryptionAlgorithm::ChaCha20Poly1305, 36),
    ];
    let macs = [
        (AuthenticationAlgorithm::HmacMd5, 16),
        (AuthenticationAlgorithm::HmacSha1, 20),
        (AuthenticationAlgorithm::HmacSha256, 32),
        (AuthenticationAlgorithm::AesGmac(Aes128), 20),
        (AuthenticationAlgorithm::AesGmac(Aes192), 28),
        (AuthenticationAlgorithm::AesGmac(Aes256), 36),
        (AuthenticationAlgorithm::HmacSha384, 48),
        (AuthenticationAlgorithm::HmacSha512, 64),
    ];
    for length in 0..70 {
        let key = || SecretBytes::from(vec![7; length]);
        for (algorithm, right) in ciphers {
            let authentication = (!algorithm.is_combined()).then_some(AuthenticationAlgorithm::HmacSha1);
            let mut half = esp(algorithm, authentication);
            half.encryption.key = key();
            let wrong = (length != right).then_some(SaField::EncryptionKeyLength);
            assert_eq!(field(bundle(Associations::Esp(half)).validate(STRICT)), wrong, "{algorithm:?} with {length}");
        }
        for (algorithm, right) in macs {
            let mut half = esp(EncryptionAlgorithm::Null, Some(algorithm));
            half.authentication.as_mut().unwrap().key = key();
            let wrong = (length != right).then_some(SaField::EspAuthenticationKeyLength);
            assert_eq!(field(bundle(Associations::Esp(half)).validate(STRICT)), wrong, "{algorithm:?} with {length}");
            let mut half = ah(algorithm);
            half.authentication.key = key();
            let wrong = (length != right).then_some(SaField::AhKeyLength);
            assert_eq!(field(bundle(Associations::Ah(half)).validate(STRICT)), wrong, "{algorithm:?} with {length}");
        }
    }
    let error = of_esp(|esp| esp.encryption.key = SecretBytes::from(vec![7; 16])).validate(STRICT).unwrap_err();
    assert_eq!(error.to_string(), "encryption key length: 16 bytes found, 20 bytes allowed");
}

#[test]
fn icv_lengths() {
    for info in 0..20 {
        let set = |algorithm| {
            let other = (!EncryptionAlgorithm::is_combined(algorithm)).then_some(AuthenticationAlgorithm::HmacSha1);
            let mut half = esp(algorithm, other);
            half.encryption = encryption(algorithm, 1, info);
            field(bundle(Associations::Esp(half)).validate(STRICT))
        };
        let wrong = |right: bool, field| (!right).then_some(field);
        assert_eq!(set(GCM_128), wrong([0, 8, 12, 16].contains(&info), SaField::EncryptionAdditionalInfo));
        assert_eq!(set(EncryptionAlgorithm::ChaCha20Poly1305), wrong([0, 16].contains(&info), SaField::EncryptionAdditionalInfo));
        assert_eq!(set(EncryptionAlgorithm::AesCbc(AesKeySize::Aes128)), wrong(info == 0, SaField::EncryptionAdditionalInfo));
        let gmac = AuthenticationAlgorithm::AesGmac(AesKeySize::Aes192);
        let of_mac = |algorithm| of_ah(|ah| ah.authentication = authentication(algorithm, 1, info)).validate(STRICT);
        assert_eq!(field(of_mac(gmac)), wrong([0, 16].contains(&info), SaField::AhAdditionalInfo));
        assert_eq!(field(of_mac(AuthenticationAlgorithm::HmacMd5)), wrong(info == 0, SaField::AhAdditionalInfo));
        let mut half = esp(EncryptionAlgorithm::Null, Some(gmac));
        half.authentication = Some(authentication(gmac, 1, info));
        assert_eq!(field(bundle(Associations::Esp(half)).validate(STRICT)), wrong([0, 16].contains(&info), SaField::EspAuthenticationAdditionalInfo));
    }
}

/// Every encryption with every authentication, alone and under AH.
#[test]
fn combinations_of_algorithms() {
    let authentications = || AuthenticationAlgorithm::ALL.into_iter().map(Some).chain([None]);
    for encryption in EncryptionAlgorithm::ALL {
        for authentication in authentications() {
            let gmac = matches!(authentication, Some(AuthenticationAlgorithm::AesGmac(_)));
            let null = encryption == EncryptionAlgorithm::Null;
            let fits = match authentication {
                Some(_) => !encryption.is_combined() && (!gmac || null),
                None => true,
            };
            let authenticated = encryption.is_combined() || authentication.is_some();
            let alone = bundle(Associations::Esp(esp(encryption, authentication)));
            let under_ah = bundle(Associations::AhOverEsp { esp: esp(encryption, authentication), ah: ah(AuthenticationAlgorithm::HmacSha256) });
            let lenient = SaRules { unauthenticated_esp: true, ..STRICT };
            let wrong = |right: bool| (!right).then_some(SaField::EspAuthentication);
            let name = format!("{encryption:?} with {authentication:?}");
            assert_eq!(field(alone.validate(STRICT)), wrong(fits && authenticated), "{name}");
            assert_eq!(field(alone.validate(lenient)), wrong(fits && (authenticated || !null)), "{name}");
            assert_eq!(field(under_ah.validate(STRICT)), wrong(fits), "{name}");
            let mut allowed = bundle(Associations::Esp(esp(encryption, authentication)));
            allowed.extension.allow_unauthenticated = true;
            assert_eq!(field(allowed.validate(STRICT)), field(alone.validate(lenient)), "{name}: the owner's allowance is the rule's");
        }
    }
}

#[test]
fn a_udp_port_goes_with_udp_encapsulation() {
    for (udp_esp, port, right) in [
        (None, None, true),
        (None, Some(4501), false),
        (Some(UdpEspType::Tunnel), None, true),
        (Some(UdpEspType::Tunnel), Some(4501), true),
        (Some(UdpEspType::Transport), Some(u16::MAX), true),
        (Some(UdpEspType::Transport), Some(0), false),
    ] {
        let mut bundle = bundle(Associations::Esp(esp(GCM_128, None)));
        bundle.udp_esp = udp_esp;
        bundle.extension.udp_esp_port = port;
        assert_eq!(field(bundle.validate(STRICT)), (!right).then_some(SaField::UdpEspPort), "{udp_esp:?} {port:?}");
    }
}

#[test]
fn udp_encapsulation_carries_esp_alone() {
    let ah_alone = || Associations::Ah(ah(AuthenticationAlgorithm::HmacSha1));
    let both = || Associations::AhOverEsp { esp: esp(GCM_128, None), ah: ah(AuthenticationAlgorithm::HmacSha1) };
    for (associations, right) in [(Associations::Esp(esp(GCM_128, None)), true), (ah_alone(), false), (both(), false)] {
        let mut bundle = bundle(associations);
        assert_eq!(bundle.validate(STRICT), Ok(()));
        bundle.udp_esp = Some(UdpEspType::Transport);
        assert_eq!(field(bundle.validate(STRICT)), (!right).then_some(SaField::UdpEsp));
    }
}

#[test]
fn errors_show_no_key_byte() {
    let bundle = of_esp(|esp| esp.encryption.key = SecretBytes::from(vec![0xd7; 21]));
    let text = format!("{:?} {0} {bundle:?}", bundle.validate(STRICT).unwrap_err());
    assert!(!text.contains("215") && !text.to_lowercase().contains("d7"), "{text}");
}

proptest! {
    #[test]
    fn valid_bundles_are_valid(bundle in any_bundle()) {
        prop_assert_eq!(bundle.validate(STRICT), Ok(()));
    }
}
