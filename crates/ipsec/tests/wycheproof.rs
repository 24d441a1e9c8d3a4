//! Project Wycheproof's AES-GCM cases of the shapes that IPsec uses, valid and invalid, against every provider.

use ipsec::{Aad, AesKeySize, AwsLc, Crypto, Data, Encryption, KeyParameters, OpenJob, Provider, RustCrypto, Scratch, SealJob, Verdict};
use wycheproof::aead::{TestName, TestSet};

/// Cases done: valid, invalid.
fn run<P: Provider>(provider: &P) -> (usize, usize) {
    let set = TestSet::load(TestName::AesGcm).expect("the cases are part of the crate");
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups.iter().filter(|group| group.nonce_size == 96 && group.tag_size == 128) {
        let size = match group.key_size {
            128 => AesKeySize::Aes128,
            192 => AesKeySize::Aes192,
            256 => AesKeySize::Aes256,
            other => panic!("key of {other} bits"),
        };
        for case in &group.tests {
            let Some(aad) = Aad::new(&case.aad) else { continue };
            let nonce: [u8; 12] = case.nonce.as_slice().try_into().unwrap();
            let key = provider.key(&KeyParameters::combined(Encryption::AesGcm(size), &case.key, 16)).unwrap();
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

#[test]
fn every_provider_passes() {
    for (valid, invalid) in [run(&AwsLc), run(&RustCrypto), run(&Crypto::AwsLc), run(&Crypto::RustCrypto)] {
        assert!(valid >= 80 && invalid >= 81, "{valid} valid and {invalid} invalid cases: the selection is wrong");
    }
}
