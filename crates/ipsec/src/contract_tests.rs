//! What [`Provider`] promises, held against every provider: same bytes from all, nothing revealed by a failure.

use proptest::prelude::*;
use secret::SecretBytes;

use crate::insecure::Toy;
use crate::{
    Aad, AesKeySize, Authentication, AwsLc, Crypto, Data, Encryption, EspParameters, EspSa, KeyError, KeyParameters, OpenJob, Provider, RustCrypto, Scratch,
    SealJob, Suite, Verdict, read_trailer,
};

const SIZES: [AesKeySize; 3] = [AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256];
const ICV_LENGTHS: [usize; 3] = [16, 12, 8];

/// Bytes without a pattern; no two seeds give the same.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// One packet as it goes into a job.
#[derive(Clone, Debug)]
struct Packet {
    size: AesKeySize,
    key: Vec<u8>,
    icv_length: usize,
    nonce: [u8; 12],
    aad: Aad,
    text: Vec<u8>,
    tag: Vec<u8>,
    copy: bool,
}

impl Packet {
    fn new(seed: u64, size: AesKeySize, icv_length: usize, extended: bool, length: usize, copy: bool) -> Self {
        Self {
            size,
            key: noise(seed ^ 1, size.bytes()),
            icv_length,
            nonce: noise(seed ^ 2, 12).try_into().unwrap(),
            aad: Aad::new(&noise(seed ^ 3, if extended { 12 } else { 8 })).unwrap(),
            text: noise(seed ^ 4, length),
            tag: vec![0xdd; icv_length],
            copy,
        }
    }

    fn key<P: Provider>(&self, provider: &P) -> P::Key {
        provider.key(&KeyParameters::combined(Encryption::AesGcm(self.size), &self.key, self.icv_length)).unwrap()
    }
}

/// Seals all packets in one batch; gives back the sealed ones and the verdicts.
fn seal<P: Provider>(provider: &P, packets: &[Packet]) -> (Vec<Packet>, Vec<Verdict>) {
    let keys: Vec<P::Key> = packets.iter().map(|packet| packet.key(provider)).collect();
    let mut sealed = packets.to_vec();
    let mut outputs: Vec<Vec<u8>> = packets.iter().map(|packet| vec![0x55; packet.text.len()]).collect();
    let mut jobs: Vec<_> = sealed
        .iter_mut()
        .zip(&mut outputs)
        .zip(&keys)
        .map(|((packet, output), key)| {
            let data = if packet.copy { Data::Copy { src: &packet.text, dst: output } } else { Data::InPlace(&mut packet.text) };
            SealJob::new(key, packet.nonce, packet.aad, data, &mut packet.tag)
        })
        .collect();
    provider.seal(&mut jobs);
    let verdicts = jobs.iter().map(|job| job.verdict).collect();
    for ((packet, original), output) in sealed.iter_mut().zip(packets).zip(outputs) {
        if packet.copy {
            assert_eq!(packet.text, original.text, "the source of a copy is only read");
            packet.text = output;
        }
    }
    (sealed, verdicts)
}

/// Opens all packets in one batch; gives back the opened ones (in place: the data, copied: the destination) and the verdicts.
fn open<P: Provider>(provider: &P, packets: &[Packet], scratch: &mut Scratch) -> (Vec<Packet>, Vec<Verdict>) {
    let keys: Vec<P::Key> = packets.iter().map(|packet| packet.key(provider)).collect();
    let mut opened = packets.to_vec();
    let mut outputs: Vec<Vec<u8>> = packets.iter().map(|packet| vec![0x55; packet.text.len()]).collect();
    let mut jobs: Vec<_> = opened
        .iter_mut()
        .zip(&mut outputs)
        .zip(&keys)
        .map(|((packet, output), key)| {
            let data = if packet.copy { Data::Copy { src: &packet.text, dst: output } } else { Data::InPlace(&mut packet.text) };
            OpenJob::new(key, packet.nonce, packet.aad, data, &packet.tag)
        })
        .collect();
    provider.open(&mut jobs, scratch);
    let verdicts = jobs.iter().map(|job| job.verdict).collect();
    for ((packet, original), output) in opened.iter_mut().zip(packets).zip(outputs) {
        assert_eq!(packet.tag, original.tag);
        if packet.copy {
            assert_eq!(packet.text, original.text, "the source of a copy is only read");
            packet.text = output;
        }
    }
    (opened, verdicts)
}

/// Whether any 8 bytes of `secret` lie in `memory`.
fn shows(memory: &[u8], secret: &[u8]) -> bool {
    let pieces: std::collections::HashSet<&[u8]> = secret.windows(8).collect();
    memory.windows(8).any(|window| pieces.contains(window))
}

fn round_trip_and_failures<P: Provider>(provider: &P) {
    let lengths = (0..=200).chain([575, 576, 1420, 2048, 4095, 9000, 65_535]);
    for (index, length) in lengths.enumerate() {
        // One scratch for a length: what an earlier packet left in it cannot hide anything.
        let mut scratch = Scratch::new();
        for icv_length in ICV_LENGTHS {
            for copy in [false, true] {
                let size = SIZES[index % 3];
                let packet = Packet::new((length * 64 + icv_length * 2) as u64 + u64::from(copy), size, icv_length, index % 2 == 0, length, copy);
                let (sealed, verdicts) = seal(provider, std::slice::from_ref(&packet));
                assert_eq!(verdicts, [Verdict::Good]);
                let sealed = &sealed[0];
                assert!(length < 8 || !shows(&sealed.text, &packet.text), "{} {length}", provider.name());

                let mut forged: Vec<Packet> = Vec::new();
                let mut forge = |change: &dyn Fn(&mut Packet)| {
                    let mut packet = sealed.clone();
                    change(&mut packet);
                    forged.push(packet);
                };
                forge(&|packet| packet.tag[0] ^= 0x80);
                forge(&|packet| packet.tag[icv_length - 1] ^= 1);
                forge(&|packet| packet.tag = vec![0; icv_length]);
                forge(&|packet| packet.nonce[11] ^= 1);
                forge(&|packet| packet.key[0] ^= 1);
                forge(&|packet| {
                    let mut aad = packet.aad.as_bytes().to_vec();
                    aad[7] ^= 1;
                    packet.aad = Aad::new(&aad).unwrap();
                });
                forge(&|packet| packet.aad = Aad::new(&[packet.aad.as_bytes(), &[0]].concat()).unwrap());
                forge(&|packet| packet.tag.truncate(icv_length - 1));
                forge(&|packet| packet.tag.push(0));
                forge(&|packet| packet.tag.clear());
                if length > 0 {
                    forge(&|packet| packet.text[0] ^= 1);
                    forge(&|packet| packet.text[length / 2] ^= 0x10);
                    forge(&|packet| packet.text[length - 1] ^= 0x80);
                    forge(&|packet| {
                        packet.text.pop();
                    });
                }
                let (after, verdicts) = open(provider, &forged, &mut scratch);
                for ((before, after), verdict) in forged.iter().zip(after).zip(verdicts) {
                    assert_eq!(verdict, Verdict::Bad, "{} length {length} ICV {icv_length} copy {copy}", provider.name());
                    if copy {
                        assert!(after.text.iter().all(|&byte| byte == 0), "{} length {length} ICV {icv_length}", provider.name());
                    } else {
                        assert_eq!(after.text, before.text, "{} length {length} ICV {icv_length}", provider.name());
                    }
                }
                assert!(!shows(scratch.contents(), &packet.text), "{} length {length} ICV {icv_length}", provider.name());

                // The genuine one opens still, and leaves nothing behind either.
                let (opened, verdicts) = open(provider, std::slice::from_ref(sealed), &mut scratch);
                assert_eq!(verdicts, [Verdict::Good]);
                assert_eq!(opened[0].text, packet.text);
                assert!(!shows(scratch.contents(), &packet.text), "{} length {length} ICV {icv_length}", provider.name());
            }
        }
    }
}

#[test]
fn aws_lc_fails_without_a_trace() {
    round_trip_and_failures(&AwsLc);
}

#[test]
fn rust_crypto_fails_without_a_trace() {
    round_trip_and_failures(&RustCrypto);
}

#[test]
fn the_choice_fails_without_a_trace() {
    round_trip_and_failures(&Crypto::AwsLc);
    round_trip_and_failures(&Crypto::RustCrypto);
}

/// Jobs that no correct caller makes: refused, with output and ICV zero.
fn impossible<P: Provider>(provider: &P) {
    for icv_length in ICV_LENGTHS {
        let key = provider.key(&KeyParameters::combined(Encryption::AesGcm(AesKeySize::Aes128), &[7; 16], icv_length)).unwrap();
        let (mut text, mut tag) = ([0x11; 40], [0x22; 17]);
        for wrong in (0..=17).filter(|&length| length != icv_length) {
            let tag = &mut tag[..wrong];
            let mut jobs = [SealJob::new(&key, [0; 12], Aad::esp([0; 4], 0, false), Data::InPlace(&mut text), tag)];
            provider.seal(&mut jobs);
            assert_eq!(jobs[0].verdict, Verdict::Bad, "{} {wrong}", provider.name());
            assert!(jobs[0].tag.iter().all(|&byte| byte == 0));
            assert_eq!(text, [0; 40]);
            text = [0x11; 40];
        }
        let mut dst = [0x33; 39];
        let mut jobs = [SealJob::new(&key, [0; 12], Aad::esp([0; 4], 0, false), Data::Copy { src: &text, dst: &mut dst }, &mut tag[..icv_length])];
        provider.seal(&mut jobs);
        assert_eq!(jobs[0].verdict, Verdict::Bad);
        assert_eq!((dst, text), ([0; 39], [0x11; 40]));
        let mut dst = [0x33; 41];
        let mut jobs = [OpenJob::new(&key, [0; 12], Aad::esp([0; 4], 0, false), Data::Copy { src: &text, dst: &mut dst }, &tag[..icv_length])];
        provider.open(&mut jobs, &mut Scratch::new());
        assert_eq!(jobs[0].verdict, Verdict::Bad);
        assert_eq!((dst, text), ([0; 41], [0x11; 40]));
    }
}

#[test]
fn impossible_jobs_are_refused() {
    impossible(&AwsLc);
    impossible(&RustCrypto);
    impossible(&Crypto::AwsLc);
    impossible(&Crypto::RustCrypto);
    impossible(&Toy);
}

fn refuses_wrong_lengths<P: Provider>(provider: &P) {
    for size in SIZES {
        let algorithm = Encryption::AesGcm(size);
        let suite = Suite::new(algorithm, Authentication::None).unwrap();
        for length in (0..=64).filter(|&length| length != size.bytes()) {
            let error = provider.key(&KeyParameters::combined(algorithm, &vec![0; length], 16)).err();
            assert_eq!(error, Some(KeyError::EncryptionKeyLength { algorithm, expected: size.bytes(), found: length }));
        }
        for icv in (0..=32).filter(|icv| !ICV_LENGTHS.contains(icv)) {
            let error = provider.key(&KeyParameters::combined(algorithm, &vec![0; size.bytes()], icv)).err();
            assert_eq!(error, Some(KeyError::IcvLength { suite, expected: &[16, 12, 8], found: icv }));
        }
    }
}

#[test]
fn keys_have_exactly_their_length() {
    refuses_wrong_lengths(&AwsLc);
    refuses_wrong_lengths(&RustCrypto);
    refuses_wrong_lengths(&Crypto::AwsLc);
    refuses_wrong_lengths(&Crypto::RustCrypto);
    refuses_wrong_lengths(&Toy);
    let error = AwsLc.key(&KeyParameters::combined(Encryption::AesGcm(AesKeySize::Aes192), &[0; 20], 16)).unwrap_err().to_string();
    assert_eq!(error, "aes-gcm-192 takes a key of 24 bytes, 20 were given");
}

#[test]
fn scratch_grows_once() {
    let mut scratch = Scratch::new();
    let packet = Packet::new(1, AesKeySize::Aes128, 16, false, 1500, false);
    open(&AwsLc, &vec![packet; 3], &mut scratch);
    let place = scratch.contents().as_ptr();
    let length = scratch.contents().len();
    for shorter in [0, 1, 1499, 1500, length] {
        open(&AwsLc, &[Packet::new(2, AesKeySize::Aes128, 16, false, shorter, false)], &mut scratch);
        assert_eq!((scratch.contents().as_ptr(), scratch.contents().len()), (place, length));
    }
    let mut ready = Scratch::with_capacity(9000);
    let place = ready.contents().as_ptr();
    open(&AwsLc, &[Packet::new(3, AesKeySize::Aes128, 16, false, 9000, false)], &mut ready);
    assert_eq!((ready.contents().as_ptr(), ready.contents().len()), (place, 9000));
}

#[test]
fn additional_data_is_bounded() {
    for length in 0..=Aad::MAX {
        let bytes = noise(7, length);
        assert_eq!(Aad::new(&bytes).unwrap().as_bytes(), bytes);
    }
    for length in [33, 255, 256, 257, 288, 1000] {
        assert!(Aad::new(&noise(7, length)).is_none());
    }
    assert_eq!(Aad::esp([1, 2, 3, 4], 0x0506_0708, false).as_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(Aad::esp([1, 2, 3, 4], 0x0506_0708_090a_0b0c, true).as_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}

#[test]
fn the_toy_checks_its_sum_and_hides_nothing() {
    let packet = Packet::new(9, AesKeySize::Aes128, 12, false, 50, true);
    let (sealed, verdicts) = seal(&Toy, std::slice::from_ref(&packet));
    assert_eq!((verdicts, &sealed[0].text), (vec![Verdict::Good], &packet.text));
    assert_eq!(sealed[0].tag, [Toy::checksum(packet.aad.as_bytes(), &packet.text); 12]);
    let (opened, verdicts) = open(&Toy, &sealed, &mut Scratch::new());
    assert_eq!((verdicts, &opened[0].text), (vec![Verdict::Good], &packet.text));
    let mut forged = sealed[0].clone();
    forged.text[3] ^= 1;
    let (opened, verdicts) = open(&Toy, &[forged], &mut Scratch::new());
    assert_eq!((verdicts, opened[0].text.as_slice()), (vec![Verdict::Bad], &[0; 50][..]));
}

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let packet = (
        any::<u64>(),
        proptest::sample::select(SIZES.to_vec()),
        proptest::sample::select(ICV_LENGTHS.to_vec()),
        any::<bool>(),
        prop_oneof![0..80_usize, 0..2048_usize],
        any::<bool>(),
    )
        .prop_map(|(seed, size, icv_length, extended, length, copy)| Packet::new(seed, size, icv_length, extended, length, copy));
    let batch = |sizes: core::ops::Range<usize>| proptest::collection::vec(packet.clone(), sizes);
    prop_oneof![batch(0..4), batch(60..70), batch(0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn providers_agree(packets in packets(), forged in proptest::collection::vec(any::<(bool, u16)>(), 200)) {
        let (reference, verdicts) = seal(&RustCrypto, &packets);
        prop_assert!(verdicts.iter().all(|verdict| verdict.is_good()));

        // aws-lc itself does ICVs of 16 bytes only: a shorter one is the beginning of that.
        let full: Vec<Packet> = packets.iter().cloned().map(|packet| Packet { icv_length: 16, tag: vec![0; 16], ..packet }).collect();
        let (full, _) = seal(&AwsLc, &full);
        for (reference, full) in reference.iter().zip(&full) {
            prop_assert_eq!(&reference.text, &full.text);
            prop_assert_eq!(&reference.tag[..], &full.tag[..reference.icv_length]);
        }
        for sealed in [seal(&AwsLc, &packets).0, seal(&Crypto::AwsLc, &packets).0, seal(&Crypto::RustCrypto, &packets).0] {
            for (reference, sealed) in reference.iter().zip(&sealed) {
                prop_assert_eq!((&reference.text, &reference.tag), (&sealed.text, &sealed.tag));
            }
        }

        // All open all, and refuse the same ones.
        let mut arrived = reference;
        let mut expected = Vec::new();
        for (packet, (forge, place)) in arrived.iter_mut().zip(forged) {
            if forge {
                let place = usize::from(place) % (packet.text.len() + packet.icv_length);
                match place.checked_sub(packet.text.len()) {
                    None => packet.text[place] ^= 0x40,
                    Some(place) => packet.tag[place] ^= 0x40,
                }
            }
            expected.push(if forge { Verdict::Bad } else { Verdict::Good });
        }
        let mut scratch = Scratch::new();
        let all = [open(&AwsLc, &arrived, &mut scratch), open(&RustCrypto, &arrived, &mut scratch), open(&Crypto::AwsLc, &arrived, &mut scratch), open(&Crypto::RustCrypto, &arrived, &mut scratch)];
        for (opened, verdicts) in all {
            prop_assert_eq!(&verdicts, &expected);
            for (((opened, verdict), original), arrived) in opened.iter().zip(verdicts).zip(&packets).zip(&arrived) {
                match (verdict, opened.copy) {
                    (Verdict::Good, _) => prop_assert_eq!(&opened.text, &original.text),
                    (_, false) => prop_assert_eq!(&opened.text, &arrived.text),
                    (_, true) => prop_assert!(opened.text.iter().all(|&byte| byte == 0)),
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_packet_past_authentication_is_read_or_refused(mut esp in proptest::collection::vec(any::<u8>(), 0..400), icv_length in proptest::sample::select(ICV_LENGTHS.to_vec()), extended: bool, high: u32) {
        let sa = EspSa::new(&Toy, &EspParameters {
            encryption: Encryption::AesGcm(AesKeySize::Aes128),
            encryption_key: &SecretBytes::from(vec![0; 20]),
            icv_length,
            authentication: Authentication::None,
            authentication_key: &SecretBytes::default(),
            allow_unauthenticated: false,
            extended_sequence_numbers: extended,
            iv_mask: 0,
        }).unwrap();
        let low = esp.get(4..8).map_or(0, |low| u32::from_be_bytes(low.try_into().unwrap()));
        let sequence = if extended { u64::from(high) << 32 | u64::from(low) } else { u64::from(low) };
        let Ok(text) = sa.text(esp.len()) else {
            prop_assert!(sa.open_job(&mut esp, sequence).is_err());
            return Ok(());
        };
        let spi = [esp[0], esp[1], esp[2], esp[3]];
        let checksum = Toy::checksum(Aad::esp(spi, sequence, extended).as_bytes(), &esp[text.clone()]);
        esp[text.end..].fill(checksum);
        let before = esp.clone();
        let mut jobs = [sa.open_job(&mut esp, sequence).unwrap()];
        Toy.open(&mut jobs, &mut Scratch::new());
        prop_assert_eq!(jobs[0].verdict, Verdict::Good);
        prop_assert_eq!(&esp, &before);
        if let Ok((payload, trailer)) = read_trailer(&esp[text.clone()]) {
            prop_assert_eq!(payload + usize::from(trailer.pad_length) + 2, text.len());
        }
    }
}

#[test]
fn one_batch_may_mix_libraries() {
    let packets: Vec<Packet> = (0..64).map(|index| Packet::new(index, SIZES[index as usize % 3], ICV_LENGTHS[index as usize % 3], false, 100, false)).collect();
    let (reference, _) = seal(&RustCrypto, &packets);
    let keys: Vec<_> = packets.iter().enumerate().map(|(index, packet)| packet.key(&Crypto::ALL[index / 3 % 2])).collect();
    let mut sealed = packets.clone();
    let mut jobs: Vec<_> = sealed
        .iter_mut()
        .zip(&keys)
        .map(|(packet, key)| SealJob::new(key, packet.nonce, packet.aad, Data::InPlace(&mut packet.text), &mut packet.tag))
        .collect();
    Crypto::AwsLc.seal(&mut jobs);
    for (sealed, reference) in sealed.iter().zip(&reference) {
        assert_eq!((&sealed.text, &sealed.tag), (&reference.text, &reference.tag));
    }
}
