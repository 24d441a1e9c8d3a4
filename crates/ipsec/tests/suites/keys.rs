//! What makes an SA: algorithms that go together, and keys and ICVs of exactly the right lengths.

use ipsec::{Authentication, AwsLc, Crypto, Encryption, RustCrypto, SaError, Suite};
use secret::SecretBytes;

use super::{Parameters, all, suite};

#[test]
fn every_library_does_every_suite() {
    let mut count = 0;
    for parameters in all() {
        for extended in [false, true] {
            let parameters = Parameters { extended, ..Parameters::new(parameters.suite).with_icv(parameters.icv_length) };
            let (aws, rust) = (parameters.build(&AwsLc).unwrap(), parameters.build(&RustCrypto).unwrap());
            let choice = parameters.build(&Crypto::default()).unwrap();
            assert!(Crypto::with_paths().all(|provider| parameters.build(&provider).is_ok()));
            let (encryption, authentication) = (parameters.suite.encryption(), parameters.suite.authentication());
            assert_eq!((aws.encryption(), aws.authentication(), aws.esn()), (encryption, authentication, extended));
            assert_eq!(aws.iv_length(), encryption.iv_length() + authentication.iv_length());
            assert_eq!((aws.icv_length(), aws.alignment()), (parameters.icv_length, encryption.alignment()));
            for (iv, icv, alignment) in [(rust.iv_length(), rust.icv_length(), rust.alignment()), (choice.iv_length(), choice.icv_length(), choice.alignment())]
            {
                assert_eq!((iv, icv, alignment), (aws.iv_length(), aws.icv_length(), aws.alignment()));
            }
            count += 1;
        }
    }
    // 43 suites, of which the three of AES-GCM have three ICV lengths.
    assert_eq!(count, 2 * (43 + 3 * 2));
}

/// key lengths are exactly cipher key and salt, of both keys; the error names what was expected and given.
#[test]
fn r_36_a_key_is_cipher_key_and_salt_and_nothing_else() {
    for suite in Suite::all() {
        let mut parameters = Parameters::new(suite);
        let (encryption, authentication) = (suite.encryption(), suite.authentication());
        for found in (0..=80).filter(|&length| length != encryption.key_length()) {
            parameters.encryption_key = SecretBytes::from(vec![1; found]);
            let error = parameters.build(&AwsLc).unwrap_err();
            let (expected, salt) = (encryption.key_length(), encryption.salt_length());
            assert_eq!(error, SaError::EncryptionKeyLength { algorithm: encryption, expected, salt, found });
            let text = error.to_string();
            assert!(text.contains(&format!("{expected} bytes")) && text.contains(&format!("{found} were given")), "{text}");
        }
        parameters = Parameters::new(suite);
        for found in (0..=80).filter(|&length| length != authentication.key_length()) {
            parameters.authentication_key = SecretBytes::from(vec![1; found]);
            let error = parameters.build(&AwsLc).unwrap_err();
            assert_eq!(error, SaError::AuthenticationKeyLength { algorithm: authentication, expected: authentication.key_length(), found });
            let text = error.to_string();
            assert!(text.contains(&format!("{} bytes", authentication.key_length())) && text.contains(&format!("{found} were given")), "{text}");
        }
    }
    // A card's driver took this for a key with salt 0.
    let mut parameters = Parameters::new(suite("aes-gcm-128", ""));
    parameters.encryption_key = SecretBytes::from(vec![1; 16]);
    let text = parameters.build(&AwsLc).unwrap_err().to_string();
    assert_eq!(text, "aes-gcm-128 takes a key of 20 bytes (with 4 bytes of salt at the end), 16 were given");
    let mut parameters = Parameters::new(suite("null", "aes-gmac-256"));
    parameters.authentication_key = SecretBytes::from(vec![1; 32]);
    let text = parameters.build(&AwsLc).unwrap_err().to_string();
    assert_eq!(text, "authentication algorithm aes-gmac-256 takes a key of 36 bytes, 32 were given");
}

/// a combined mode has the ICV that the SA says, one of the lengths that there are; the others have one, and `icv_length` is not theirs.
#[test]
fn r_20_icv_lengths_are_explicit() {
    for suite in Suite::all() {
        for icv_length in 0..=300 {
            let sa = Parameters::new(suite).with_icv(icv_length).build(&AwsLc);
            if !suite.encryption().is_combined() {
                assert_eq!(sa.unwrap().icv_length(), suite.authentication().icv_length());
            } else if suite.icv_lengths().contains(&icv_length) {
                assert_eq!(sa.unwrap().icv_length(), icv_length);
            } else {
                let (algorithm, expected) = (suite.encryption(), suite.icv_lengths());
                assert_eq!(sa.unwrap_err(), SaError::IcvLength { algorithm, expected, found: icv_length });
            }
        }
    }
}

#[test]
fn what_does_not_go_together_is_named() {
    let key = |length| SecretBytes::from((0..length).map(|byte| byte as u8).collect::<Vec<_>>());
    for encryption in Encryption::ALL {
        for authentication in Authentication::ALL {
            let parameters = ipsec::EspParameters {
                encryption,
                encryption_key: &key(encryption.key_length()),
                icv_length: 16,
                authentication,
                authentication_key: &key(authentication.key_length()),
                allow_unauthenticated: false,
                extended_sequence_numbers: false,
                iv_mask: 0,
            };
            let gmac = matches!(authentication, Authentication::AesGmac(_));
            let expected = if encryption.is_combined() && authentication != Authentication::None {
                Some(SaError::AuthenticatedTwice { encryption, authentication })
            } else if gmac && encryption != Encryption::Null {
                Some(SaError::Combination { encryption, authentication })
            } else if !encryption.is_combined() && authentication == Authentication::None {
                Some(SaError::Unauthenticated { encryption })
            } else {
                None
            };
            let sa = ipsec::EspSa::new(&AwsLc, &parameters);
            assert_eq!(sa.is_ok(), expected.is_none(), "{encryption} {authentication}");
            assert_eq!(sa.err(), expected);
            let allowed = ipsec::EspParameters { allow_unauthenticated: true, ..parameters };
            let still = expected.filter(|error| !matches!(error, SaError::Unauthenticated { .. }));
            assert_eq!(ipsec::EspSa::new(&AwsLc, &allowed).err(), still, "allowance is for this alone");
        }
    }
    let mut parameters = Parameters::new(suite("des-cbc", ""));
    parameters.allow_unauthenticated = false;
    assert_eq!(parameters.build(&AwsLc).unwrap_err().to_string(), "encryption des-cbc without authentication is not allowed for this SA");
}

#[test]
fn a_3des_key_that_is_one_of_des_is_named() {
    let mut parameters = Parameters::new(suite("3des-cbc", "hmac-sha1-96"));
    parameters.encryption_key = SecretBytes::from(vec![7; 24]);
    let error = parameters.build(&AwsLc).unwrap_err();
    assert_eq!(error, SaError::DegenerateKey { algorithm: Encryption::TripleDesCbc });
    assert_eq!(error.to_string(), "two neighbouring thirds of the key for 3des-cbc are equal, which makes it DES");
}
