//! ESP with AES-GCM: what stands where, by the letter of RFC 4106; and that no key is ever shown. `suites/` holds every suite to what they share.

use ipsec::{
    Aad, AesKeySize, AuthJob, Authentication, AwsLc, Crypto, Data, Encryption, EspError, EspParameters, EspSa, KeyParameters, MbCrypto, Provider, RustCrypto,
    SaError, Scratch, SealJob, Suite, Verdict, read_trailer, write_trailer,
};
use proptest::prelude::*;
use secret::SecretBytes;

const SPI: u32 = 0xc0de_0001;
const GCM: [Encryption; 3] = [Encryption::AesGcm(AesKeySize::Aes128), Encryption::AesGcm(AesKeySize::Aes192), Encryption::AesGcm(AesKeySize::Aes256)];

/// Owns what [`EspParameters`] borrows.
struct Parameters {
    encryption: Encryption,
    key: SecretBytes,
    icv_length: usize,
    authentication: Authentication,
    authentication_key: SecretBytes,
    extended: bool,
    mask: u64,
}

impl Parameters {
    fn new(encryption: Encryption, icv_length: usize, extended: bool, mask: u64) -> Self {
        let key = SecretBytes::from((0..encryption.key_length()).map(|index| index as u8 + 0x40).collect::<Vec<_>>());
        Self { encryption, key, icv_length, authentication: Authentication::None, authentication_key: SecretBytes::default(), extended, mask }
    }

    fn build<P: Provider>(&self, provider: &P) -> Result<EspSa<P>, SaError> {
        EspSa::new(
            provider,
            &EspParameters {
                encryption: self.encryption,
                encryption_key: &self.key,
                icv_length: self.icv_length,
                authentication: self.authentication,
                authentication_key: &self.authentication_key,
                allow_unauthenticated: false,
                extended_sequence_numbers: self.extended,
                iv_mask: self.mask,
            },
        )
    }
}

/// A packet as the transport hands it over: everything but IV and ICV, which hold rubbish.
fn frame<P: Provider>(sa: &EspSa<P>, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut esp = vec![0xee; payload.len() + sa.overhead(payload.len())];
    esp[..4].copy_from_slice(&SPI.to_be_bytes());
    esp[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
    let text = sa.text(esp.len()).unwrap();
    esp[text.start..][..payload.len()].copy_from_slice(payload);
    write_trailer(&mut esp[text], payload.len(), 17).unwrap();
    esp
}

fn seal<P: Provider>(provider: &P, sa: &EspSa<P>, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut esp = frame(sa, sequence, payload);
    let mut jobs = [sa.seal_job(&mut esp, sequence).unwrap()];
    provider.seal(&mut jobs);
    assert_eq!(jobs[0].verdict, Verdict::Good);
    esp
}

fn open<P: Provider>(provider: &P, sa: &EspSa<P>, sequence: u64, esp: &mut [u8]) -> Verdict {
    let mut jobs = [sa.open_job(esp, sequence).unwrap()];
    provider.open(&mut jobs, &mut Scratch::new());
    jobs[0].verdict
}

#[test]
fn short_packets_are_refused_and_left_alone() {
    for icv_length in [16, 12, 8] {
        let sa = Parameters::new(GCM[2], icv_length, false, 0).build(&AwsLc).unwrap();
        let minimum = 8 + 8 + 2 + icv_length;
        for length in 0..minimum {
            let mut esp = vec![0; length];
            let error = EspError::TooShort { minimum, found: length };
            assert_eq!(sa.seal_job(&mut esp, 0).unwrap_err(), error);
            assert_eq!(sa.open_job(&mut esp, 0).unwrap_err(), error);
            assert_eq!(sa.text(length), Err(error));
            assert_eq!(esp, vec![0; length]);
        }
        assert!(sa.open_job(&mut vec![0; minimum], 0).is_ok());
        for length in minimum..minimum + 20 {
            let found = length - 16 - icv_length;
            let mut esp = vec![0xee; length];
            esp[4..8].fill(0);
            match sa.seal_job(&mut esp, 0) {
                Ok(_) => assert_eq!(found % 4, 0),
                Err(error) => {
                    assert_eq!(error, EspError::Alignment { alignment: 4, found });
                    assert_eq!(esp[8..], vec![0xee; length - 8]);
                }
            }
        }
    }
}

#[test]
fn the_sequence_number_is_that_of_the_header() {
    let narrow = Parameters::new(GCM[0], 16, false, 0).build(&AwsLc).unwrap();
    let wide = Parameters::new(GCM[0], 16, true, 0).build(&AwsLc).unwrap();
    let mut esp = frame(&narrow, 0xffff_fff0, b"payload");
    let before = esp.clone();
    let header = 0xffff_fff0;
    for given in [0, 1, 0xffff_ffef, 0xffff_fff1, 0x1_ffff_fff1, u64::MAX] {
        let error = EspError::Sequence { header, given };
        assert_eq!(narrow.seal_job(&mut esp, given).unwrap_err(), error);
        assert_eq!(narrow.open_job(&mut esp, given).unwrap_err(), error);
        assert_eq!(wide.seal_job(&mut esp, given).unwrap_err(), error);
        assert_eq!(wide.open_job(&mut esp, given).unwrap_err(), error);
    }
    let given = 0x1_ffff_fff0;
    assert_eq!(narrow.seal_job(&mut esp, given).unwrap_err(), EspError::Sequence { header, given });
    assert_eq!(esp, before);
    assert!(wide.seal_job(&mut esp, given).is_ok());
    assert!(narrow.seal_job(&mut esp, 0xffff_fff0).is_ok());
}

#[test]
fn nonce_and_additional_data_are_those_of_rfc_4106() {
    for (extended, sequence) in [(false, 7), (true, 0x0102_0304_0000_0007)] {
        let parameters = Parameters::new(GCM[0], 12, extended, 0x8899_aabb_ccdd_eeff);
        let sa = parameters.build(&RustCrypto).unwrap();
        let sealed = seal(&RustCrypto, &sa, sequence, b"thirteen byte");
        let iv = (sequence ^ 0x8899_aabb_ccdd_eeff).to_be_bytes();
        assert_eq!(sealed[8..16], iv);

        let (key, salt) = parameters.key.expose().split_at(16);
        let nonce: [u8; 12] = [salt, &iv].concat().try_into().unwrap();
        let aad = if extended { [SPI.to_be_bytes(), [1, 2, 3, 4], [0, 0, 0, 7]].concat() } else { [SPI.to_be_bytes(), [0, 0, 0, 7]].concat() };
        let key = RustCrypto.key(&KeyParameters::combined(Encryption::AesGcm(AesKeySize::Aes128), key, 12)).unwrap();
        let (mut text, mut tag) = (*b"thirteen byte\x01\x01\x11", [0; 12]);
        RustCrypto.seal(&mut [SealJob::new(&key, nonce, Aad::new(&aad).unwrap(), Data::InPlace(&mut text), &mut tag)]);
        assert_eq!(sealed[16..32], text);
        assert_eq!(sealed[32..], tag);
    }
}

#[test]
fn the_iv_of_a_received_packet_is_its_own() {
    for provider in Crypto::with_paths() {
        let sender = Parameters::new(GCM[0], 16, false, 0x1234_5678_9abc_def0).build(&provider).unwrap();
        let receiver = Parameters::new(GCM[0], 16, false, 0).build(&provider).unwrap();
        let mut esp = seal(&provider, &sender, 9, b"anything");
        assert_eq!(open(&provider, &receiver, 9, &mut esp), Verdict::Good);
        assert_eq!(&esp[16..24], b"anything");
    }
}

#[test]
fn text_that_does_not_end_at_the_alignment_opens() {
    let parameters = Parameters::new(GCM[0], 16, false, 0);
    let sa = parameters.build(&Crypto::default()).unwrap();
    for payload in 0..9 {
        let mut esp = vec![0; 16 + payload + 2 + 16];
        esp[..8].copy_from_slice(&[0, 0, 0, 9, 0, 0, 0, 1]);
        let (key, salt) = parameters.key.expose().split_at(16);
        let key = Crypto::default().key(&KeyParameters::combined(Encryption::AesGcm(AesKeySize::Aes128), key, 16)).unwrap();
        let nonce: [u8; 12] = [salt, &[0; 8]].concat().try_into().unwrap();
        let (header, rest) = esp.split_at_mut(16);
        let (text, tag) = rest.split_at_mut(payload + 2);
        let aad = Aad::new(&header[..8]).unwrap();
        Crypto::default().seal(&mut [SealJob::new(&key, nonce, aad, Data::InPlace(text), tag)]);
        assert_eq!(open(&Crypto::default(), &sa, 1, &mut esp), Verdict::Good);
        let (length, trailer) = read_trailer(&esp[sa.text(esp.len()).unwrap()]).unwrap();
        assert_eq!((length, trailer.pad_length), (payload, 0));
    }
}

#[test]
fn no_byte_may_change() {
    for provider in Crypto::with_paths() {
        for (icv_length, extended) in [(16, false), (16, true), (12, false), (8, true)] {
            let sa = Parameters::new(GCM[1], icv_length, extended, 77).build(&provider).unwrap();
            let sequence = if extended { 0x5_0000_0100 } else { 0x100 };
            let sealed = seal(&provider, &sa, sequence, b"every byte of this counts");
            for place in 0..sealed.len() {
                for bit in [0x01, 0x80] {
                    let mut forged = sealed.clone();
                    forged[place] ^= bit;
                    let before = forged.clone();
                    // The receiver goes by the sequence number that the packet shows.
                    let low = u32::from_be_bytes(forged[4..8].try_into().unwrap());
                    assert_eq!(open(&provider, &sa, sequence >> 32 << 32 | u64::from(low), &mut forged), Verdict::Bad, "byte {place}");
                    assert_eq!(forged, before, "byte {place}");
                }
            }
            let mut again = sealed.clone();
            if extended {
                assert_eq!(open(&provider, &sa, sequence + (1 << 32), &mut again), Verdict::Bad, "the high half is authenticated");
                assert_eq!(again, sealed);
            }
            assert_eq!(open(&provider, &sa, sequence, &mut again), Verdict::Good);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_was_sealed_opens(encryption in proptest::sample::select(GCM.to_vec()), icv_length in proptest::sample::select(vec![16, 12, 8]), extended: bool, mask: u64, sequence: u64, payload in proptest::collection::vec(any::<u8>(), 0..1500), sender in proptest::sample::select(Crypto::with_paths().collect::<Vec<_>>()), receiver in proptest::sample::select(Crypto::with_paths().collect::<Vec<_>>())) {
        let sequence = if extended { sequence } else { sequence >> 32 };
        let parameters = Parameters::new(encryption, icv_length, extended, mask);
        let (out, into) = (parameters.build(&sender).unwrap(), parameters.build(&receiver).unwrap());
        let mut esp = seal(&sender, &out, sequence, &payload);
        prop_assert_eq!(&esp[8..16], &(sequence ^ mask).to_be_bytes());
        prop_assert_eq!(open(&receiver, &into, sequence, &mut esp), Verdict::Good);
        let text = into.text(esp.len()).unwrap();
        let (length, trailer) = read_trailer(&esp[text.clone()]).unwrap();
        prop_assert_eq!(&esp[text][..length], &payload[..]);
        prop_assert_eq!(trailer.next_header, 17);
    }
}

#[test]
fn nothing_that_holds_a_key_formats_a_byte_of_it() {
    // One digit and one letter each in hexadecimal, so that no word of an output looks like one; and no number of bits.
    const CANARY: [u8; 20] = [0xC2, 0xD1, 0xE7, 0xA8, 0x9E, 0xB7, 0x9C, 0xF3, 0xC9, 0xD4, 0xE9, 0xA7, 0x9D, 0xB3, 0xF5, 0xC3, 0xD7, 0xE3, 0xA9, 0x9F];
    let canary = |length: usize| SecretBytes::from(CANARY.into_iter().cycle().take(length).collect::<Vec<_>>());
    let mut outputs = Vec::new();
    let mut note = |item: &dyn core::fmt::Debug| outputs.extend([format!("{item:?}"), format!("{item:x?}"), format!("{item:X?}"), format!("{item:#?}")]);
    for suite in Suite::all() {
        let (encryption, authentication) = (suite.encryption(), suite.authentication());
        let (encryption_key, authentication_key) = (canary(encryption.key_length()), canary(authentication.key_length()));
        for &icv_length in suite.icv_lengths() {
            let parameters = EspParameters {
                encryption,
                encryption_key: &encryption_key,
                icv_length,
                authentication,
                authentication_key: &authentication_key,
                allow_unauthenticated: true,
                extended_sequence_numbers: true,
                iv_mask: 0,
            };
            let keys = KeyParameters {
                encryption,
                encryption_key: &encryption_key.expose()[..encryption.cipher_key_length()],
                authentication,
                authentication_key: &authentication_key.expose()[..authentication.mac_key_length()],
                icv_length,
            };
            note(&parameters);
            note(&keys);
            note(&AwsLc.key(&keys).unwrap());
            note(&RustCrypto.key(&keys).unwrap());
            note(&MbCrypto::best().key(&keys).unwrap());
            for provider in Crypto::with_paths() {
                let key = provider.key(&keys).unwrap();
                note(&key);
                note(&EspSa::new(&provider, &parameters).unwrap());
                let (mut text, mut tag) = (canary(48).expose().to_vec(), vec![0; icv_length]);
                let job = SealJob::new(&key, [0; 12], Aad::esp([0; 4], 0, false), Data::InPlace(&mut text), &mut tag);
                note(&job.data);
                note(&job);
            }
            let short = EspParameters { encryption_key: &canary(5), ..parameters };
            note(&EspSa::new(&AwsLc, &short).unwrap_err());
            outputs_of_errors(&mut note, &keys);
        }
    }
    for algorithm in &Authentication::ALL[1..] {
        let key = canary(algorithm.mac_key_length());
        note(&AwsLc.auth_key(*algorithm, key.expose()).unwrap());
        note(&RustCrypto.auth_key(*algorithm, key.expose()).unwrap());
        note(&MbCrypto::best().auth_key(*algorithm, key.expose()).unwrap());
        let key = Crypto::default().auth_key(*algorithm, key.expose()).unwrap();
        note(&key);
        note(&AuthJob::new(&key, [0; 12], [&CANARY, &CANARY, &CANARY]));
    }
    note(&ipsec::iv::CbcIvs::new(&CANARY));
    assert!(outputs.len() > 1000);
    for output in outputs {
        for byte in CANARY {
            for spelling in [format!("{byte:02x}"), format!("{byte:02X}"), format!("{byte}")] {
                assert!(!output.contains(&spelling), "{spelling} in {output}");
            }
        }
    }
}

/// What is wrong with a key is told without it.
fn outputs_of_errors(note: &mut dyn FnMut(&dyn core::fmt::Debug), keys: &KeyParameters<'_>) {
    let longer = |key: &[u8]| [key, &[0xC2]].concat();
    let (encryption_key, authentication_key) = (longer(keys.encryption_key), longer(keys.authentication_key));
    for wrong in [
        KeyParameters { encryption_key: &encryption_key, ..*keys },
        KeyParameters { authentication_key: &authentication_key, ..*keys },
        KeyParameters { icv_length: 7, ..*keys },
    ] {
        let error = AwsLc.key(&wrong).unwrap_err();
        note(&error);
        note(&error.to_string());
    }
}
