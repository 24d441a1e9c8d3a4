//! The published vectors of HMAC, against both libraries: RFC 2202 (MD5, SHA-1), RFC 4231 (SHA-2), both with keys of lengths that no SA has; RFC 4868
//! section 2.7.2 and, with truncation, RFC 2403 and 2404 through the providers.

use secret::SecretBytes;

use crate::encrypt_then_mac::PartsMac;
use crate::{AuthJob, Authentication, AwsLc, Crypto, Icv, MbCrypto, Provider, RustCrypto, aws_lc, mac};

/// Key, data, MAC in hexadecimal: as much of it as the RFC prints.
type Case = (&'static [u8], &'static [u8], &'static str);

const COUNTING: [u8; 25] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25];

const LONG: &[u8] =
    b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.";

/// RFC 2202 section 2.
#[rustfmt::skip]
const MD5: [Case; 7] = [
    (&[0x0b; 16], b"Hi There", "9294727a3638bb1c13f48ef8158bfc9d"),
    (b"Jefe", b"what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738"),
    (&[0xaa; 16], &[0xdd; 50], "56be34521d144c88dbb8c733f0e8b3f6"),
    (&COUNTING, &[0xcd; 50], "697eaf0aca3a3aea3a75164746ffaa79"),
    (&[0x0c; 16], b"Test With Truncation", "56461ef2342edc00f9bab995690efd4c"),
    (&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First", "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"),
    (&[0xaa; 80], b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data", "6f630fad67cda0ee1fb1f562db3aa53e"),
];

/// RFC 2202 section 3.
#[rustfmt::skip]
const SHA1: [Case; 7] = [
    (&[0x0b; 20], b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
    (b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    (&[0xaa; 20], &[0xdd; 50], "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
    (&COUNTING, &[0xcd; 50], "4c9007f4026250c6bc8414f9bf50c86c2d7235da"),
    (&[0x0c; 20], b"Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"),
    (&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First", "aa4ae5e15272d00e95705637ce8a3b55ed402112"),
    (&[0xaa; 80], b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data", "e8e99d0f45237d786d6bbaa7965c7808bbff1a91"),
];

/// RFC 4231 section 4, HMAC-SHA-256.
#[rustfmt::skip]
const SHA256: [Case; 7] = [
    (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (&COUNTING, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (&[0x0c; 20], b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
    (&[0xaa; 131], LONG, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
];

/// RFC 4231 section 4, HMAC-SHA-384.
#[rustfmt::skip]
const SHA384: [Case; 7] = [
    (&[0x0b; 20], b"Hi There", "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"),
    (b"Jefe", b"what do ya want for nothing?", "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"),
    (&[0xaa; 20], &[0xdd; 50], "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b94e3ab6e101a34f27"),
    (&COUNTING, &[0xcd; 50], "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e6801dd23c4a7d679ccf8a386c674cffb"),
    (&[0x0c; 20], b"Test With Truncation", "3abf34c3503b2a23a46efc619baef897"),
    (&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First", "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952"),
    (&[0xaa; 131], LONG, "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5a678cc31e799176d3860e6110c46523e"),
];

/// RFC 4231 section 4, HMAC-SHA-512.
#[rustfmt::skip]
const SHA512: [Case; 7] = [
    (&[0x0b; 20], b"Hi There", "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"),
    (b"Jefe", b"what do ya want for nothing?", "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"),
    (&[0xaa; 20], &[0xdd; 50], "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb"),
    (&COUNTING, &[0xcd; 50], "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd"),
    (&[0x0c; 20], b"Test With Truncation", "415fad6271580a531d4179bc891d87a6"),
    (&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First", "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"),
    (&[0xaa; 131], LONG, "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58"),
];

/// RFC 4868 section 2.7.2: algorithm, key, data, ICV.
#[rustfmt::skip]
const AUTHENTICATORS: [(Authentication, &str, &[u8], &str); 12] = [
    (Authentication::HmacSha256, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", b"Hi There", "198a607eb44bfbc69903a0f1cf2bbdc5"),
    (Authentication::HmacSha256, "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665", b"what do ya want for nothing?", "167f928588c5cc2eef8e3093caa0e87c"),
    (Authentication::HmacSha256, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &[0xdd; 50], "cdcb1220d1ecccea91e53aba3092f962"),
    (Authentication::HmacSha256, "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20", &[0xcd; 50], "372efcf9b40b35c2115b1346903d2ef4"),
    (Authentication::HmacSha384, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", b"Hi There", "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
    (Authentication::HmacSha384, "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665", b"what do ya want for nothing?", "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d"),
    (Authentication::HmacSha384, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &[0xdd; 50], "809f439be00274321d4a538652164b53554a508184a0c316"),
    (Authentication::HmacSha384, "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f200a0b0c0d0e0f10111213141516171819", &[0xcd; 50], "5b540085c6e6358096532b2493609ed1cb298f774f87bb5c"),
    (Authentication::HmacSha512, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", b"Hi There", "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"),
    (Authentication::HmacSha512, "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665", b"what do ya want for nothing?", "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454"),
    (Authentication::HmacSha512, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &[0xdd; 50], "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8"),
    (Authentication::HmacSha512, "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40", &[0xcd; 50], "5e6688e5a3daec826ca32eaea224eff5e700628947470e13ad01302561bab108"),
];

fn bytes(hex: &str) -> Vec<u8> {
    SecretBytes::from_hex(hex).unwrap().expose().to_vec()
}

/// The data in one piece and in three.
fn cuts(data: &[u8]) -> [[&[u8]; 3]; 3] {
    let (first, rest) = data.split_at(data.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    [[data, &[], &[]], [&[], &[], data], [first, second, third]]
}

fn check(algorithm: Authentication, cases: &[Case]) {
    for (index, &(key, data, mac)) in cases.iter().enumerate() {
        let (portable, native) = (mac::Hmac::new(algorithm, key).unwrap(), aws_lc::Hmac::new(algorithm, key).unwrap());
        let icv = &bytes(mac)[..algorithm.icv_length().min(mac.len() / 2)];
        for parts in cuts(data) {
            for computed in [portable.icv(parts), native.icv(parts)] {
                assert_eq!(computed.as_bytes().len(), algorithm.icv_length());
                assert_eq!(&computed.as_bytes()[..icv.len()], icv, "{algorithm} case {}", index + 1);
            }
        }
        // What a provider takes has the length that IPsec says (RFC 2403, RFC 2404, RFC 4868).
        if key.len() == algorithm.key_length() {
            for icv_computed in provided(algorithm, key, data) {
                assert_eq!(icv_computed.as_bytes(), icv, "{algorithm} case {}", index + 1);
            }
        }
    }
}

fn provided(algorithm: Authentication, key: &[u8], data: &[u8]) -> [Icv; 4] {
    fn icv<P: Provider>(provider: &P, algorithm: Authentication, key: &[u8], data: &[u8]) -> Icv {
        let key = provider.auth_key(algorithm, key).unwrap();
        let mut jobs = cuts(data).map(|parts| AuthJob::new(&key, [0; 12], parts));
        provider.authenticate(&mut jobs);
        assert!(jobs.iter().all(|job| job.icv.verify(jobs[0].icv.as_bytes())));
        jobs[0].icv
    }
    [
        icv(&AwsLc, algorithm, key, data),
        icv(&RustCrypto, algorithm, key, data),
        icv(&MbCrypto::best(), algorithm, key, data),
        icv(&Crypto::default(), algorithm, key, data),
    ]
}

#[test]
fn rfc_2202_md5() {
    check(Authentication::HmacMd5, &MD5);
}

#[test]
fn rfc_2202_sha1() {
    check(Authentication::HmacSha1, &SHA1);
}

#[test]
fn rfc_4231() {
    check(Authentication::HmacSha256, &SHA256);
    check(Authentication::HmacSha384, &SHA384);
    check(Authentication::HmacSha512, &SHA512);
}

#[test]
fn rfc_4868() {
    for (algorithm, key, data, icv) in AUTHENTICATORS {
        for computed in provided(algorithm, &bytes(key), data) {
            assert_eq!(computed.as_bytes(), bytes(icv), "{algorithm} {key}");
        }
    }
}

/// RFC 2403 and 2404: the first 96 bits, of test case 5 of RFC 2202, which prints them.
#[test]
fn r_20_md5_and_sha1_are_cut_to_96_bits() {
    let data = b"Test With Truncation";
    for (algorithm, key, icv) in
        [(Authentication::HmacMd5, vec![0x0c; 16], "56461ef2342edc00f9bab995"), (Authentication::HmacSha1, vec![0x0c; 20], "4c1a03424b55e07fe7f27be1")]
    {
        for computed in provided(algorithm, &key, data) {
            assert_eq!(computed.as_bytes(), bytes(icv));
        }
    }
}

#[test]
fn what_is_no_hmac_has_no_key() {
    for algorithm in Authentication::ALL {
        let hmac = !matches!(algorithm, Authentication::None | Authentication::AesGmac(_));
        assert_eq!(mac::Hmac::new(algorithm, &[7; 32]).is_some(), hmac);
        assert_eq!(aws_lc::Hmac::new(algorithm, &[7; 32]).is_some(), hmac);
    }
}
