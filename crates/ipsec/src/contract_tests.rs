//! What [`Provider`] promises, held against every provider and suite: same bytes from all, nothing revealed by a failure, nothing damaged.

use aws_lc_rs::aead;
use proptest::prelude::*;
use secret::SecretBytes;

use crate::insecure::Toy;
use crate::{
    Aad, AesKeySize, AuthJob, Authentication, AwsLc, Crypto, Data, Encryption, EspParameters, EspSa, Icv, KeyError, KeyParameters, MbCrypto, MbPath, Nonce,
    OpenJob, Provider, RustCrypto, Scratch, SealJob, Suite, Verdict, read_trailer,
};

const GCM: [Encryption; 3] = [Encryption::AesGcm(AesKeySize::Aes128), Encryption::AesGcm(AesKeySize::Aes192), Encryption::AesGcm(AesKeySize::Aes256)];

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

fn array<const N: usize>(seed: u64) -> [u8; N] {
    noise(seed, N).try_into().unwrap()
}

/// [`MbCrypto`] with each set of instructions that this processor has.
fn paths() -> impl Iterator<Item = MbCrypto> {
    MbPath::ALL.into_iter().filter_map(MbCrypto::new)
}

/// Every suite with every ICV length of it.
fn variants() -> Vec<(Suite, usize)> {
    Suite::all().flat_map(|suite| suite.icv_lengths().iter().map(move |&icv_length| (suite, icv_length))).collect()
}

/// One packet as it goes into a job.
#[derive(Clone, Debug)]
struct Packet {
    suite: Suite,
    encryption_key: Vec<u8>,
    authentication_key: Vec<u8>,
    icv_length: usize,
    spi: [u8; 4],
    sequence: u64,
    extended: bool,
    salt: [u8; 4],
    iv: [u8; 16],
    text: Vec<u8>,
    tag: Vec<u8>,
    copy: bool,
}

impl Packet {
    /// `length` is rounded up to the cipher's block.
    fn new(seed: u64, (suite, icv_length): (Suite, usize), extended: bool, length: usize, copy: bool) -> Self {
        Self {
            suite,
            encryption_key: noise(seed ^ 1, suite.encryption().cipher_key_length()),
            authentication_key: noise(seed ^ 2, suite.authentication().mac_key_length()),
            icv_length,
            spi: array(seed ^ 3),
            sequence: u64::from_be_bytes(array(seed ^ 4)),
            extended,
            salt: array(seed ^ 5),
            iv: array(seed ^ 6),
            text: noise(seed ^ 7, length.next_multiple_of(suite.encryption().block_length())),
            tag: vec![0xdd; icv_length],
            copy,
        }
    }

    fn key<P: Provider>(&self, provider: &P) -> P::Key {
        provider
            .key(&KeyParameters {
                encryption: self.suite.encryption(),
                encryption_key: &self.encryption_key,
                authentication: self.suite.authentication(),
                authentication_key: &self.authentication_key,
                icv_length: self.icv_length,
            })
            .unwrap()
    }

    fn is_gmac(&self) -> bool {
        matches!(self.suite.authentication(), Authentication::AesGmac(_))
    }

    /// Bytes of the IV that are the packet's.
    fn iv_length(&self) -> usize {
        self.suite.encryption().iv_length().max(self.suite.authentication().iv_length())
    }

    fn nonce(&self) -> Nonce {
        if self.suite.encryption().is_combined() || self.is_gmac() {
            crate::iv::nonce(self.salt, self.iv[..8].try_into().unwrap()).into()
        } else {
            self.iv.into()
        }
    }

    fn aad(&self) -> Aad {
        if self.suite.encryption().is_combined() {
            return Aad::esp(self.spi, self.sequence, self.extended);
        }
        if self.is_gmac() {
            return Aad::gmac(self.spi, self.sequence, self.extended, self.iv[..8].try_into().unwrap());
        }
        let mut header = [0; 8];
        header[..4].copy_from_slice(&self.spi);
        header[4..].copy_from_slice(&(self.sequence as u32).to_be_bytes());
        Aad::encrypt_then_mac(header, &self.iv[..self.iv_length()], self.extended.then_some((self.sequence >> 32) as u32))
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
            let (nonce, aad) = (packet.nonce(), packet.aad());
            let data = if packet.copy { Data::Copy { src: &packet.text, dst: output } } else { Data::InPlace(&mut packet.text) };
            SealJob::new(key, nonce, aad, data, &mut packet.tag)
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
            let (nonce, aad) = (packet.nonce(), packet.aad());
            let data = if packet.copy { Data::Copy { src: &packet.text, dst: output } } else { Data::InPlace(&mut packet.text) };
            OpenJob::new(key, nonce, aad, data, &packet.tag)
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

/// Everything that a packet can be changed in on its way, and every wrong length of its ICV.
fn forgeries(sealed: &Packet) -> Vec<Packet> {
    let mut forged: Vec<Packet> = Vec::new();
    let mut forge = |change: &dyn Fn(&mut Packet)| {
        let mut packet = sealed.clone();
        change(&mut packet);
        forged.push(packet);
    };
    let (icv_length, length) = (sealed.icv_length, sealed.text.len());
    forge(&|packet| packet.tag.push(0));
    if sealed.suite.encryption().block_length() > 1 && length > 0 {
        forge(&|packet| {
            packet.text.pop();
        });
    }
    if !sealed.suite.is_authenticated() {
        return forged;
    }
    forge(&|packet| packet.tag[0] ^= 0x80);
    forge(&|packet| packet.tag[icv_length - 1] ^= 1);
    forge(&|packet| packet.tag = vec![0; icv_length]);
    forge(&|packet| packet.tag.truncate(icv_length - 1));
    forge(&|packet| packet.tag.clear());
    forge(&|packet| packet.spi[0] ^= 1);
    forge(&|packet| packet.sequence ^= 1);
    if sealed.extended {
        forge(&|packet| packet.sequence ^= 1 << 32);
    }
    forge(&|packet| packet.extended = !packet.extended);
    if sealed.iv_length() > 0 {
        forge(&|packet| packet.iv[packet.iv_length() - 1] ^= 1);
    }
    if sealed.authentication_key.is_empty() {
        forge(&|packet| packet.encryption_key[0] ^= 2);
    } else {
        forge(&|packet| packet.authentication_key[0] ^= 2);
    }
    if length > 0 {
        forge(&|packet| packet.text[0] ^= 1);
        forge(&|packet| packet.text[length / 2] ^= 0x10);
        forge(&|packet| packet.text[length - 1] ^= 0x80);
        forge(&|packet| {
            packet.text.pop();
        });
        let block = sealed.suite.encryption().block_length();
        forge(&|packet| packet.text.truncate(length - block));
    }
    forged
}

/// Holds one packet against a provider.
fn fails_without_a_trace<P: Provider>(provider: &P, packet: &Packet, scratch: &mut Scratch) {
    let what = format!("{} {} ICV {} length {} copy {}", provider.name(), packet.suite, packet.icv_length, packet.text.len(), packet.copy);
    let encrypted = packet.suite.encryption() != Encryption::Null && packet.text.len() >= 8;
    let (sealed, verdicts) = seal(provider, std::slice::from_ref(packet));
    assert_eq!(verdicts, [Verdict::Good], "{what}");
    let sealed = &sealed[0];
    assert!(!encrypted || !shows(&sealed.text, &packet.text), "{what}");

    let forged = forgeries(sealed);
    let (after, verdicts) = open(provider, &forged, scratch);
    for ((before, after), verdict) in forged.iter().zip(after).zip(verdicts) {
        assert_eq!(verdict, Verdict::Bad, "{what}: {before:x?}");
        if packet.copy {
            assert!(after.text.iter().all(|&byte| byte == 0), "{what}");
        } else {
            assert_eq!(after.text, before.text, "{what}");
        }
    }
    assert!(!encrypted || !shows(scratch.contents(), &packet.text), "{what}");

    // The genuine one opens still, and leaves nothing behind either.
    let (opened, verdicts) = open(provider, std::slice::from_ref(sealed), scratch);
    assert_eq!(verdicts, [Verdict::Good], "{what}");
    assert_eq!(opened[0].text, packet.text, "{what}");
    assert!(!encrypted || !shows(scratch.contents(), &packet.text), "{what}");
}

fn every_length<P: Provider>(provider: &P) {
    for (index, length) in (0..=200).chain([575, 576, 1420, 2048, 4095, 9000, 65_535]).enumerate() {
        // One scratch for a length: what an earlier packet left in it cannot hide anything.
        let mut scratch = Scratch::new();
        for icv_length in [16, 12, 8] {
            for copy in [false, true] {
                let suite = Suite::new(GCM[index % 3], Authentication::None).unwrap();
                let seed = (length * 64 + icv_length * 2) as u64 + u64::from(copy);
                fails_without_a_trace(provider, &Packet::new(seed, (suite, icv_length), index % 2 == 0, length, copy), &mut scratch);
            }
        }
    }
}

fn every_suite<P: Provider>(provider: &P) {
    for (number, variant) in variants().into_iter().enumerate() {
        let block = variant.0.encryption().block_length();
        // Around every block of a hash, too.
        let lengths = if block == 1 { (0..20).chain(50..70).collect::<Vec<_>>() } else { (0..12).map(|blocks| blocks * block).collect() };
        for (index, length) in lengths.into_iter().chain([111, 112, 119, 128, 1419, 9000]).enumerate() {
            let mut scratch = Scratch::new();
            for copy in [false, true] {
                let packet = Packet::new((number * 20_000 + length * 2) as u64 + u64::from(copy), variant, index % 2 == 0, length, copy);
                fails_without_a_trace(provider, &packet, &mut scratch);
            }
        }
    }
}

#[test]
fn aws_lc_fails_without_a_trace() {
    every_length(&AwsLc);
}

#[test]
fn rust_crypto_fails_without_a_trace() {
    every_length(&RustCrypto);
}

#[test]
fn mbcrypto_fails_without_a_trace() {
    for path in paths() {
        every_length(&path);
    }
}

#[test]
fn the_choice_fails_without_a_trace() {
    for provider in Crypto::all() {
        every_length(&provider);
    }
}

/// a packet that fails comes back bit for bit, and no plaintext is released before the check; of every suite.
#[test]
fn r_04_every_suite_of_aws_lc_fails_without_a_trace() {
    every_suite(&AwsLc);
}

/// R-04, as above.
#[test]
fn r_04_every_suite_of_mbcrypto_fails_without_a_trace() {
    for path in paths() {
        every_suite(&path);
    }
}

/// R-04, as above.
#[test]
fn r_04_every_suite_of_rust_crypto_fails_without_a_trace() {
    every_suite(&RustCrypto);
}

/// R-04, as above, where the provider is chosen at run time.
#[test]
fn r_04_every_suite_of_the_choice_fails_without_a_trace() {
    let mut scratch = Scratch::new();
    for provider in Crypto::with_paths() {
        for (number, variant) in variants().into_iter().enumerate() {
            for copy in [false, true] {
                fails_without_a_trace(&provider, &Packet::new(number as u64, variant, number % 2 == 0, 200, copy), &mut scratch);
            }
        }
    }
}

/// in-place work touches what was handed over exclusively and nothing else: not the copy that somebody else holds, not the bytes before and after.
#[test]
fn r_03_bytes_of_other_holders_are_unchanged() {
    fn holds<P: Provider>(provider: &P) {
        for (number, variant) in variants().into_iter().enumerate() {
            let packet = Packet::new(number as u64, variant, true, 96, false);
            let (sealed, _) = seal(provider, std::slice::from_ref(&packet));
            let key = packet.key(provider);
            for genuine in [true, false] {
                let arrived = sealed[0].clone();
                let mut shared = [&[0xaa; 32][..], &arrived.text, &arrived.tag, &[0xbb; 32]].concat();
                if !genuine {
                    shared[40] ^= 1;
                }
                let (before, end) = (shared.clone(), 32 + arrived.text.len());
                // Somebody else's holding is a copy.
                let holder = shared.clone();
                let (text, rest) = shared[32..].split_at_mut(end - 32);
                let mut jobs = [OpenJob::new(&key, arrived.nonce(), arrived.aad(), Data::InPlace(text), &rest[..arrived.tag.len()])];
                provider.open(&mut jobs, &mut Scratch::new());
                let expected = genuine || !packet.suite.is_authenticated();
                assert_eq!(jobs[0].verdict.is_good(), expected, "{} {}", provider.name(), packet.suite);
                assert_eq!(holder, before);
                assert_eq!((&shared[..32], &shared[end..]), (&before[..32], &before[end..]), "{} {}", provider.name(), packet.suite);

                // From a place that is shared: only read.
                let mut output = vec![0x55; arrived.text.len()];
                let data = Data::Copy { src: &holder[32..end], dst: &mut output };
                let mut jobs = [OpenJob::new(&key, arrived.nonce(), arrived.aad(), data, &holder[end..][..arrived.tag.len()])];
                provider.open(&mut jobs, &mut Scratch::new());
                assert_eq!(holder, before);
                assert!(!genuine || output == packet.text, "{} {}", provider.name(), packet.suite);
            }
        }
    }
    holds(&AwsLc);
    holds(&RustCrypto);
    for provider in Crypto::with_paths() {
        holds(&provider);
    }
}

/// Jobs that no correct caller makes: refused, with output and ICV zero.
fn impossible<P: Provider>(provider: &P) {
    for (number, variant) in variants().into_iter().enumerate() {
        let packet = Packet::new(number as u64, variant, false, 48, false);
        let (key, icv_length) = (packet.key(provider), packet.icv_length);
        let what = format!("{} {}", provider.name(), packet.suite);
        let (mut text, mut tag) = ([0x11; 48], [0x22; 40]);
        for wrong in (0..=40).filter(|&length| length != icv_length) {
            let tag = &mut tag[..wrong];
            let mut jobs = [SealJob::new(&key, packet.nonce(), packet.aad(), Data::InPlace(&mut text), tag)];
            provider.seal(&mut jobs);
            assert_eq!(jobs[0].verdict, Verdict::Bad, "{what} {wrong}");
            assert!(jobs[0].tag.iter().all(|&byte| byte == 0));
            assert_eq!(text, [0; 48]);
            text = [0x11; 48];
        }
        if packet.suite.encryption().block_length() > 1 {
            for length in (1..48).filter(|length| length % packet.suite.encryption().block_length() != 0) {
                let mut jobs = [SealJob::new(&key, packet.nonce(), packet.aad(), Data::InPlace(&mut text[..length]), &mut tag[..icv_length])];
                provider.seal(&mut jobs);
                assert_eq!(jobs[0].verdict, Verdict::Bad, "{what} {length}");
                assert!(text[..length].iter().chain(&tag[..icv_length]).all(|&byte| byte == 0), "{what}");
                text = [0x11; 48];
            }
        }
        let mut dst = [0x33; 32];
        let mut jobs = [SealJob::new(&key, packet.nonce(), packet.aad(), Data::Copy { src: &text, dst: &mut dst }, &mut tag[..icv_length])];
        provider.seal(&mut jobs);
        assert_eq!(jobs[0].verdict, Verdict::Bad, "{what}");
        assert_eq!((dst, text), ([0; 32], [0x11; 48]), "{what}");
        // Genuine, but for the length of the destination.
        let (sealed, _) = seal(provider, std::slice::from_ref(&packet));
        let mut dst = [0x33; 64];
        let data = Data::Copy { src: &sealed[0].text, dst: &mut dst };
        let mut jobs = [OpenJob::new(&key, packet.nonce(), packet.aad(), data, &sealed[0].tag)];
        provider.open(&mut jobs, &mut Scratch::new());
        assert_eq!(jobs[0].verdict, Verdict::Bad, "{what}");
        assert_eq!(dst, [0; 64], "{what}");
    }
}

#[test]
fn impossible_jobs_are_refused() {
    impossible(&AwsLc);
    impossible(&RustCrypto);
    for (path, provider) in paths().zip(Crypto::with_paths()) {
        impossible(&path);
        impossible(&provider);
    }
    impossible(&Toy);
}

fn refuses_wrong_lengths<P: Provider>(provider: &P) {
    for suite in Suite::all() {
        let (encryption, authentication) = (suite.encryption(), suite.authentication());
        let (encryption_key, authentication_key) = (noise(1, encryption.cipher_key_length()), noise(2, authentication.mac_key_length()));
        let right = KeyParameters {
            encryption,
            encryption_key: &encryption_key,
            authentication,
            authentication_key: &authentication_key,
            icv_length: suite.icv_lengths()[0],
        };
        assert!(provider.key(&right).is_ok(), "{} {suite}", provider.name());
        for found in (0..=80).filter(|&length| length != encryption_key.len()) {
            let error = provider.key(&KeyParameters { encryption_key: &vec![0; found], ..right }).err();
            assert_eq!(error, Some(KeyError::EncryptionKeyLength { algorithm: encryption, expected: encryption_key.len(), found }));
        }
        for found in (0..=80).filter(|&length| length != authentication_key.len()) {
            let error = provider.key(&KeyParameters { authentication_key: &vec![0; found], ..right }).err();
            assert_eq!(error, Some(KeyError::AuthenticationKeyLength { algorithm: authentication, expected: authentication_key.len(), found }));
        }
        for found in (0..=70).filter(|length| !suite.icv_lengths().contains(length)) {
            let error = provider.key(&KeyParameters { icv_length: found, ..right }).err();
            assert_eq!(error, Some(KeyError::IcvLength { suite, expected: suite.icv_lengths(), found }));
        }
    }
    for algorithm in Authentication::ALL {
        let expected = algorithm.mac_key_length();
        for found in 0..=80 {
            let error = provider.auth_key(algorithm, &vec![0; found]).err();
            let wrong = (found != expected).then_some(KeyError::AuthenticationKeyLength { algorithm, expected, found });
            let wrong = if algorithm == Authentication::None { Some(KeyError::NoAuthentication) } else { wrong };
            assert_eq!(error, wrong, "{} {algorithm} {found}", provider.name());
        }
    }
}

/// R-36, without salts, which are the SA's: a key has exactly its length, and the error says what was expected and given. R-20: an ICV has, too.
#[test]
fn r_36_keys_have_exactly_their_length() {
    refuses_wrong_lengths(&AwsLc);
    refuses_wrong_lengths(&RustCrypto);
    for path in paths() {
        refuses_wrong_lengths(&path);
    }
    for provider in Crypto::with_paths() {
        refuses_wrong_lengths(&provider);
    }
    refuses_wrong_lengths(&Toy);
    let error = AwsLc.key(&KeyParameters::combined(GCM[1], &[0; 20], 16)).unwrap_err().to_string();
    assert_eq!(error, "aes-gcm-192 takes a key of 24 bytes, 20 were given");
}

#[test]
fn algorithms_that_do_not_go_together_are_refused() {
    let mut refused = 0;
    for encryption in Encryption::ALL {
        for authentication in Authentication::ALL {
            let (key, mac) = (noise(1, encryption.cipher_key_length()), noise(2, authentication.mac_key_length()));
            let parameters = KeyParameters { icv_length: 16, ..KeyParameters::separate(encryption, &key, authentication, &mac) };
            if Suite::all().any(|suite| (suite.encryption(), suite.authentication()) == (encryption, authentication)) {
                continue;
            }
            refused += 1;
            for provider in Crypto::with_paths() {
                assert_eq!(provider.key(&parameters).err(), Some(KeyError::Combination { encryption, authentication }));
            }
        }
    }
    // 10 by 9, but: 4 combined modes with 8 algorithms beside them; 5 ciphers with AES-GMAC.
    assert_eq!((Suite::all().count(), refused), (90 - 4 * 8 - 5 * 3, 4 * 8 + 5 * 3));
}

/// RFC 2451 section 2.3.
#[test]
fn a_3des_key_that_makes_it_des_is_refused() {
    let (one, two, three) = ([0x13; 8], [0x57; 8], [0x9b; 8]);
    let parity = one.map(|byte| byte ^ 1);
    for (key, good) in [
        ([one, two, three], true),
        ([one, two, one], true),
        ([one, one, two], false),
        ([one, parity, two], false),
        ([one, two, two], false),
        ([two, one, parity], false),
        ([one, one, one], false),
    ] {
        let key = key.concat();
        let parameters = KeyParameters::separate(Encryption::TripleDesCbc, &key, Authentication::None, &[]);
        let error = (!good).then_some(KeyError::Degenerate { algorithm: Encryption::TripleDesCbc });
        for provider in Crypto::with_paths() {
            assert_eq!(provider.key(&parameters).err(), error);
        }
        assert_eq!(Toy.key(&parameters).err(), error);
    }
}

#[test]
fn scratch_grows_once() {
    let variant = (Suite::new(GCM[0], Authentication::None).unwrap(), 16);
    let mut scratch = Scratch::new();
    let packet = Packet::new(1, variant, false, 1500, false);
    open(&AwsLc, &vec![packet; 3], &mut scratch);
    let place = scratch.contents().as_ptr();
    let length = scratch.contents().len();
    for shorter in [0, 1, 1499, 1500, length] {
        open(&AwsLc, &[Packet::new(2, variant, false, shorter, false)], &mut scratch);
        assert_eq!((scratch.contents().as_ptr(), scratch.contents().len()), (place, length));
    }
    let mut ready = Scratch::with_capacity(9000);
    let place = ready.contents().as_ptr();
    open(&AwsLc, &[Packet::new(3, variant, false, 9000, false)], &mut ready);
    assert_eq!((ready.contents().as_ptr(), ready.contents().len()), (place, 9000));
}

#[test]
fn additional_data_is_bounded() {
    for length in 0..=Aad::MAX {
        let bytes = noise(7, length);
        let aad = Aad::new(&bytes).unwrap();
        assert_eq!((aad.as_bytes(), aad.prefix(), aad.suffix()), (&bytes[..], &bytes[..], &[][..]));
    }
    for length in [33, 255, 256, 257, 288, 1000] {
        assert!(Aad::new(&noise(7, length)).is_none());
    }
    assert_eq!(Aad::esp([1, 2, 3, 4], 0x0506_0708, false).as_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(Aad::esp([1, 2, 3, 4], 0x0506_0708_090a_0b0c, true).as_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let iv = [21, 22, 23, 24, 25, 26, 27, 28];
    assert_eq!(Aad::gmac([1, 2, 3, 4], 0x0506_0708, false, iv).prefix(), [1, 2, 3, 4, 5, 6, 7, 8, 21, 22, 23, 24, 25, 26, 27, 28]);
    let extended = Aad::gmac([1, 2, 3, 4], 0x0506_0708_090a_0b0c, true, iv);
    assert_eq!((extended.prefix(), extended.suffix()), (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 21, 22, 23, 24, 25, 26, 27, 28][..], &[][..]));
    for length in [0, 8, 16] {
        let (header, iv) = ([1, 2, 3, 4, 5, 6, 7, 8], noise(9, length));
        let aad = Aad::encrypt_then_mac(header, &iv, None);
        assert_eq!((aad.prefix(), aad.suffix()), (&[&header[..], &iv].concat()[..], &[][..]));
        let aad = Aad::encrypt_then_mac(header, &iv, Some(0x0a0b_0c0d));
        assert_eq!((aad.prefix(), aad.suffix()), (&[&header[..], &iv].concat()[..], &[10, 11, 12, 13][..]));
    }
}

#[test]
fn the_toy_checks_its_sum_and_hides_nothing() {
    for (number, variant) in variants().into_iter().enumerate() {
        let packet = Packet::new(number as u64, variant, number % 2 == 0, 48, true);
        let (sealed, verdicts) = seal(&Toy, std::slice::from_ref(&packet));
        assert_eq!((verdicts, &sealed[0].text), (vec![Verdict::Good], &packet.text));
        assert_eq!(sealed[0].tag, vec![Toy::checksum(packet.aad().as_bytes(), &packet.text); packet.icv_length]);
        let (opened, verdicts) = open(&Toy, &sealed, &mut Scratch::new());
        assert_eq!((verdicts, &opened[0].text), (vec![Verdict::Good], &packet.text));
        let mut forged = sealed[0].clone();
        forged.text[3] ^= 1;
        let (opened, verdicts) = open(&Toy, &[forged.clone()], &mut Scratch::new());
        if packet.suite.is_authenticated() {
            assert_eq!((verdicts, opened[0].text.as_slice()), (vec![Verdict::Bad], &[0; 48][..]));
        } else {
            assert_eq!((verdicts, &opened[0].text), (vec![Verdict::Good], &forged.text));
        }
    }
}

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let gcm = GCM.map(|encryption| Suite::new(encryption, Authentication::None).unwrap());
    let gcm = proptest::sample::select([16, 12, 8].into_iter().flat_map(|icv| gcm.map(|suite| (suite, icv))).collect::<Vec<_>>());
    let packet = (any::<u64>(), prop_oneof![gcm, proptest::sample::select(variants())], any::<bool>(), prop_oneof![0..80_usize, 0..2048_usize], any::<bool>())
        .prop_map(|(seed, variant, extended, length, copy)| Packet::new(seed, variant, extended, length, copy));
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
        let combined = |packet: &&Packet| packet.suite.encryption().is_combined();
        let full: Vec<Packet> = packets.iter().filter(combined).cloned().map(|packet| Packet { icv_length: 16, tag: vec![0; 16], ..packet }).collect();
        let (full, _) = seal(&AwsLc, &full);
        for (reference, full) in reference.iter().filter(combined).zip(&full) {
            prop_assert_eq!(&reference.text, &full.text);
            prop_assert_eq!(&reference.tag[..], &full.tag[..reference.icv_length]);
        }
        let alone = paths().map(|path| seal(&path, &packets).0);
        let chosen = Crypto::with_paths().map(|provider| seal(&provider, &packets).0);
        for sealed in alone.chain(chosen).chain([seal(&AwsLc, &packets).0]) {
            for (reference, sealed) in reference.iter().zip(&sealed) {
                prop_assert_eq!((&reference.text, &reference.tag), (&sealed.text, &sealed.tag), "{}", reference.suite);
            }
        }

        // All open all, and refuse the same ones.
        let mut arrived = reference;
        let mut expected = Vec::new();
        for (packet, (forge, place)) in arrived.iter_mut().zip(forged) {
            let forge = forge && packet.suite.is_authenticated();
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
        let mut all = vec![open(&AwsLc, &arrived, &mut scratch), open(&RustCrypto, &arrived, &mut scratch)];
        all.extend(paths().map(|path| open(&path, &arrived, &mut scratch)));
        all.extend(Crypto::with_paths().map(|provider| open(&provider, &arrived, &mut scratch)));
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

    /// AH's ICVs are those of ESP over the same bytes, wherever these are cut; AES-GMAC's are those of AES-GCM without text.
    #[test]
    fn icvs_over_parts(algorithm in proptest::sample::select(Authentication::ALL[1..].to_vec()), seed: u64, message in proptest::collection::vec(any::<u8>(), 0..400), cuts in any::<(proptest::sample::Index, proptest::sample::Index)>()) {
        let key = noise(seed, algorithm.mac_key_length());
        let nonce: [u8; 12] = array(seed ^ 1);
        let (first, second) = (cuts.0.index(message.len() + 1), cuts.1.index(message.len() + 1));
        let parts = [&message[..first.min(second)], &message[first.min(second)..first.max(second)], &message[first.max(second)..]];
        let reference = icv(&RustCrypto, algorithm, &key, nonce, [&message, &[], &[]]);
        prop_assert_eq!(reference.as_bytes().len(), algorithm.icv_length());
        let alone = paths().map(|path| icv(&path, algorithm, &key, nonce, parts));
        let chosen = Crypto::with_paths().map(|provider| icv(&provider, algorithm, &key, nonce, parts));
        for computed in alone.chain(chosen).chain([icv(&AwsLc, algorithm, &key, nonce, parts), icv(&RustCrypto, algorithm, &key, nonce, parts)]) {
            prop_assert_eq!(computed.as_bytes(), reference.as_bytes());
            prop_assert!(computed.verify(reference.as_bytes()));
        }
        let native = match algorithm {
            Authentication::AesGmac(AesKeySize::Aes128) => &aead::AES_128_GCM,
            Authentication::AesGmac(AesKeySize::Aes192) => &aead::AES_192_GCM,
            Authentication::AesGmac(AesKeySize::Aes256) => &aead::AES_256_GCM,
            _ => return Ok(()),
        };
        let key = aead::LessSafeKey::new(aead::UnboundKey::new(native, &key).unwrap());
        let tag = key.seal_in_place_separate_tag(aead::Nonce::assume_unique_for_key(nonce), aead::Aad::from(&message), &mut []).unwrap();
        prop_assert_eq!(reference.as_bytes(), tag.as_ref());
    }
}

fn icv<P: Provider>(provider: &P, algorithm: Authentication, key: &[u8], nonce: [u8; 12], parts: [&[u8]; 3]) -> Icv {
    let key = provider.auth_key(algorithm, key).unwrap();
    let mut jobs = [AuthJob::new(&key, nonce, parts)];
    assert!(jobs[0].icv.as_bytes().is_empty());
    provider.authenticate(&mut jobs);
    jobs[0].icv
}

#[test]
fn an_icv_verifies_itself_and_nothing_else() {
    assert!(!Icv::default().verify(&[]), "one that was not computed");
    for algorithm in &Authentication::ALL[1..] {
        let icv = icv(&AwsLc, *algorithm, &noise(1, algorithm.mac_key_length()), [7; 12], [b"message", &[], &[]]);
        let good = icv.as_bytes().to_vec();
        assert!(icv.verify(&good));
        for length in (0..40).filter(|&length| length != good.len()) {
            let mut other = good.clone();
            other.resize(length, 0);
            assert!(!icv.verify(&other), "{algorithm} {length}");
        }
        for bit in 0..good.len() * 8 {
            let mut other = good.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!icv.verify(&other), "{algorithm} {bit}");
        }
    }
}

proptest! {
    #[test]
    fn any_packet_past_authentication_is_read_or_refused(mut esp in proptest::collection::vec(any::<u8>(), 0..400), variant in proptest::sample::select(variants()), extended: bool, high: u32) {
        let (suite, icv_length) = variant;
        let sa = EspSa::new(&Toy, &EspParameters {
            encryption: suite.encryption(),
            encryption_key: &SecretBytes::from(noise(1, suite.encryption().key_length())),
            icv_length,
            authentication: suite.authentication(),
            authentication_key: &SecretBytes::from(noise(2, suite.authentication().key_length())),
            allow_unauthenticated: true,
            extended_sequence_numbers: extended,
            iv_mask: 0,
        }).unwrap();
        let low = esp.get(4..8).map_or(0, |low| u32::from_be_bytes(low.try_into().unwrap()));
        let sequence = if extended { u64::from(high) << 32 | u64::from(low) } else { u64::from(low) };
        let Ok(text) = sa.text(esp.len()) else {
            prop_assert!(sa.open_job(&mut esp, sequence).is_err());
            return Ok(());
        };
        let Ok(job) = sa.open_job(&mut esp, sequence) else {
            prop_assert!(!text.len().is_multiple_of(suite.encryption().block_length()));
            return Ok(());
        };
        let aad = job.aad;
        let checksum = Toy::checksum(aad.as_bytes(), &esp[text.clone()]);
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
fn one_batch_may_mix_libraries_and_suites() {
    // Several rounds of the suites: the second pass has more than one chunk.
    let packets: Vec<Packet> = variants()
        .into_iter()
        .cycle()
        .take(150)
        .enumerate()
        .map(|(index, variant)| Packet::new(index as u64, variant, index % 2 == 0, 100, index % 3 == 0))
        .collect();
    let (reference, _) = seal(&RustCrypto, &packets);
    let libraries: Vec<Crypto> = Crypto::with_paths().collect();
    for provider in &libraries {
        for offset in 0..libraries.len() {
            let keys: Vec<_> = packets.iter().enumerate().map(|(index, packet)| packet.key(&libraries[(index + offset) % libraries.len()])).collect();
            let mut sealed = packets.clone();
            let mut outputs: Vec<Vec<u8>> = packets.iter().map(|packet| vec![0x55; packet.text.len()]).collect();
            let mut jobs: Vec<_> = sealed
                .iter_mut()
                .zip(&mut outputs)
                .zip(&keys)
                .map(|((packet, output), key)| {
                    let (nonce, aad) = (packet.nonce(), packet.aad());
                    let data = if packet.copy { Data::Copy { src: &packet.text, dst: output } } else { Data::InPlace(&mut packet.text) };
                    // What an earlier call has left says nothing.
                    SealJob { verdict: Verdict::Good, ..SealJob::new(key, nonce, aad, data, &mut packet.tag) }
                })
                .collect();
            provider.seal(&mut jobs);
            assert!(jobs.iter().all(|job| job.verdict.is_good()));
            drop(jobs);
            for ((sealed, output), reference) in sealed.iter_mut().zip(&outputs).zip(&reference) {
                if sealed.copy {
                    sealed.text.clone_from(output);
                }
                assert_eq!((&sealed.text, &sealed.tag), (&reference.text, &reference.tag), "{provider}, {}", reference.suite);
            }

            // Every fourth is not what was sent.
            let forged = |index: usize, packet: &Packet| index % 4 == 1 && packet.suite.is_authenticated();
            for (_, packet) in sealed.iter_mut().enumerate().filter(|(index, packet)| forged(*index, packet)) {
                packet.text[50] ^= 1;
            }
            let mut opened = sealed.clone();
            let mut jobs: Vec<_> = opened
                .iter_mut()
                .zip(&mut outputs)
                .zip(&keys)
                .map(|((packet, output), key)| {
                    let (nonce, aad) = (packet.nonce(), packet.aad());
                    let data = if packet.copy { Data::Copy { src: &packet.text, dst: output } } else { Data::InPlace(&mut packet.text) };
                    OpenJob { verdict: Verdict::Good, ..OpenJob::new(key, nonce, aad, data, &packet.tag) }
                })
                .collect();
            provider.open(&mut jobs, &mut Scratch::new());
            let verdicts: Vec<Verdict> = jobs.iter().map(|job| job.verdict).collect();
            drop(jobs);
            for (index, packet) in packets.iter().enumerate() {
                let what = format!("{provider}, {}", packet.suite);
                assert_eq!(verdicts[index].is_good(), !forged(index, packet), "{what}");
                match (packet.copy, verdicts[index].is_good()) {
                    (false, true) => assert_eq!(opened[index].text, packet.text, "{what}"),
                    (false, false) => assert_eq!(opened[index].text, sealed[index].text, "{what}"),
                    (true, true) => assert_eq!(outputs[index], packet.text, "{what}"),
                    (true, false) => assert_eq!(outputs[index], vec![0; packet.text.len()], "{what}"),
                }
            }
        }
    }
}

#[test]
fn one_batch_may_mix_keys_of_ah() {
    let libraries: Vec<Crypto> = Crypto::with_paths().collect();
    let algorithms = &Authentication::ALL[1..];
    let message = noise(7, 300);
    for provider in &libraries {
        let mut keys = Vec::new();
        let mut expected = Vec::new();
        for (number, algorithm) in algorithms.iter().cycle().take(algorithms.len() * libraries.len() * 2).enumerate() {
            let key = noise(number as u64, algorithm.mac_key_length());
            keys.push(libraries[number / 3 % libraries.len()].auth_key(*algorithm, &key).unwrap());
            expected.push(icv(&RustCrypto, *algorithm, &key, [9; 12], [&message[..number], &message[number..100], &message[100..]]));
        }
        let mut jobs: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(number, key)| {
                let parts = [&message[..number], &message[number..100], &message[100..]];
                AuthJob { icv: Icv::cut(&[1; 32], 12), ..AuthJob::new(key, [9; 12], parts) }
            })
            .collect();
        provider.authenticate(&mut jobs);
        for (job, expected) in jobs.iter().zip(expected) {
            assert_eq!(job.icv.as_bytes(), expected.as_bytes(), "{provider}");
        }
    }
}
