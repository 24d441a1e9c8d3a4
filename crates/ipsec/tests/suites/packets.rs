//! Packets of every suite: round trips, trailers of every length, forgeries, truncated ICVs, replays.

use aws_lc_rs::hmac;
use ipsec::{
    AwsLc, Crypto, Data, ESP_HEADER_LENGTH, Encryption, EspError, EspSa, MbCrypto, OpenJob, Provider, Replay, ReplayWindow, RustCrypto, Scratch, SealJob,
    TRAILER_LENGTH, TrailerError, Verdict, padding_for, read_trailer,
};
use proptest::prelude::*;

use super::{Parameters, all, frame, open, seal, seal_frame, suite};

/// One suite for each alignment.
fn of_each_alignment() -> [Parameters; 3] {
    [suite("aes-gcm-128", ""), suite("3des-cbc", "hmac-sha1-96"), suite("aes-cbc-256", "hmac-sha-256-128")].map(Parameters::new)
}

#[test]
fn sizes_fit_together() {
    for parameters in all() {
        let sa = parameters.build(&AwsLc).unwrap();
        let (iv, icv, alignment) = (sa.iv_length(), sa.icv_length(), sa.alignment());
        assert_eq!(sa.prefix_length(), ESP_HEADER_LENGTH + iv);
        for payload in 0..100 {
            let length = payload + sa.overhead(payload);
            assert_eq!(sa.pad_length(payload), padding_for(payload, alignment));
            assert_eq!(length, 8 + iv + payload + usize::from(sa.pad_length(payload)) + 2 + icv);
            assert_eq!(sa.text(length).unwrap(), 8 + iv..length - icv);
            assert_eq!(sa.text(length).unwrap().len() % alignment, 0);
            let most = sa.max_payload(length).unwrap();
            assert!(most >= payload && most + sa.overhead(most) == length);
            assert!(most + 1 + sa.overhead(most + 1) > length);
        }
        let smallest = 8 + iv + alignment + icv;
        assert_eq!((sa.max_payload(smallest - 1), sa.max_payload(smallest)), (None, Some(alignment - 2)));
    }
}

#[test]
fn what_is_too_short_or_not_whole_blocks_is_refused_and_left_alone() {
    for parameters in all() {
        let sa = parameters.build(&AwsLc).unwrap();
        let block = parameters.suite.encryption().block_length();
        let minimum = sa.prefix_length() + block.max(TRAILER_LENGTH) + sa.icv_length();
        for length in 0..minimum + 70 {
            let mut esp = vec![0xee; length];
            let number = esp.len().min(8);
            esp[..number].fill(0);
            let before = esp.clone();
            let found = length.saturating_sub(sa.prefix_length() + sa.icv_length());
            let too_short = (length < minimum).then_some(EspError::TooShort { minimum, found: length });
            assert_eq!(sa.text(length).err(), too_short);

            let misaligned = (found % sa.alignment() != 0).then_some(EspError::Alignment { alignment: sa.alignment(), found });
            let error = too_short.or(misaligned);
            assert_eq!(sa.seal_job(&mut esp, 0).err(), error, "{} {length}", parameters.suite);
            if error.is_some() {
                assert_eq!(esp, before);
            }
            let mut esp = before.clone();
            // Whoever does not pad to 4 bytes is opened all the same.
            let misaligned = (found % block != 0).then_some(EspError::Alignment { alignment: block, found });
            assert_eq!(sa.open_job(&mut esp, 0).err(), too_short.or(misaligned), "{} {length}", parameters.suite);
            assert_eq!(esp, before);
        }
    }
}

#[test]
fn numbers_are_those_of_the_header() {
    for parameters in all() {
        for extended in [false, true] {
            let sa = Parameters::new(parameters.suite).extended(extended).build(&AwsLc).unwrap();
            let mut esp = frame(&sa, 7, &[1; 20], 0);
            for (given, good) in [(7, true), (8, false), (0, false), (1 << 32 | 7, extended), (1 << 32 | 8, false)] {
                let error = (!good).then_some(EspError::Sequence { header: 7, given });
                assert_eq!(sa.open_job(&mut esp, given).err(), error, "{}", parameters.suite);
                let before = esp.clone();
                assert_eq!(sa.seal_job(&mut esp, given).err(), error, "{}", parameters.suite);
                assert!(good || esp == before);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_was_sealed_opens(number in any::<proptest::sample::Index>(), extended: bool, mask: u64, sequence: u64, payload in proptest::collection::vec(any::<u8>(), 0..1500), more in 0..5_usize, sender in proptest::sample::select(Crypto::with_paths().collect::<Vec<_>>()), receiver in proptest::sample::select(Crypto::with_paths().collect::<Vec<_>>())) {
        let mut all = all();
        let parameters = Parameters { extended, mask, ..all.swap_remove(number.index(all.len())) };
        let sequence = if extended { sequence } else { sequence >> 32 };
        let (out, into) = (parameters.build(&sender).unwrap(), parameters.build(&receiver).unwrap());
        let mut esp = frame(&out, sequence, &payload, more);
        seal_frame(&sender, &out, sequence, &mut esp);
        let mut again = frame(&into, sequence, &payload, more);
        seal_frame(&receiver, &into, sequence, &mut again);
        prop_assert_eq!(&esp, &again, "NIC and software make the same bytes");
        let mut wrong = esp.clone();
        prop_assert_eq!(open(&receiver, &into, sequence, &mut esp), Verdict::Good);
        let text = into.text(esp.len()).unwrap();
        let (length, trailer) = read_trailer(&esp[text.clone()]).unwrap();
        prop_assert_eq!(&esp[text][..length], &payload[..]);
        prop_assert_eq!((trailer.next_header, usize::from(trailer.pad_length)), (17, usize::from(out.pad_length(payload.len())) + more * out.alignment()));

        // Under another high half nothing opens, unless nothing authenticates.
        if extended {
            let arrived = wrong.clone();
            let verdict = open(&receiver, &into, sequence ^ 1 << 40, &mut wrong);
            prop_assert_eq!(verdict.is_good(), !parameters.suite.is_authenticated());
            prop_assert!(verdict.is_good() || wrong == arrived);
        }
    }
}

#[test]
fn the_iv_of_cbc_is_that_of_the_number_and_the_key() {
    for parameters in all() {
        let (encryption, mask) = (parameters.suite.encryption(), 0x0123_4567_89ab_cdef);
        if !matches!(encryption, Encryption::DesCbc | Encryption::TripleDesCbc | Encryption::AesCbc(_)) {
            continue;
        }
        let sa = Parameters { mask, ..Parameters::new(parameters.suite) }.build(&RustCrypto).unwrap();
        let ivs = ipsec::iv::CbcIvs::new(parameters.encryption_key.expose());
        let mut last = Vec::new();
        for sequence in 1..20 {
            let esp = seal(&RustCrypto, &sa, sequence, &[0; 64]);
            let (iv, text) = (&esp[8..sa.prefix_length()], &esp[sa.text(esp.len()).unwrap()]);
            assert_eq!(iv, &ivs.iv(sequence, mask)[..iv.len()], "{encryption}");
            assert!(!last.ends_with(iv) && text != last, "{encryption}");
            last = text.to_vec();
        }
    }
}

/// an IV is not the end of the packet before, nor what one more step of the cipher makes of it, nor of the IV before; and does not change with what
/// was sent in between.
#[test]
fn r_16_ivs_are_not_chained() {
    use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
    let parameters = Parameters::new(suite("aes-cbc-128", "hmac-sha-256-128"));
    let step = |block: &[u8]| {
        let key = EncryptingKey::ecb(UnboundCipherKey::new(&AES_128, parameters.encryption_key.expose()).unwrap()).unwrap();
        let mut block = block.to_vec();
        key.less_safe_encrypt(&mut block, EncryptionContext::None).unwrap();
        block
    };
    let sa = parameters.build(&AwsLc).unwrap();
    let packet = |sequence, payload: &[u8]| seal(&AwsLc, &sa, sequence, payload);
    for sequence in 1..200 {
        let (esp, next) = (packet(sequence, &[sequence as u8; 40]), packet(sequence + 1, &[0; 40]));
        let (iv, next_iv) = (&esp[8..24], &next[8..24]);
        let text = &esp[sa.text(esp.len()).unwrap()];
        for block in text.chunks(16).chain([iv]) {
            assert_ne!(next_iv, block);
            assert_ne!(next_iv, step(block));
        }
        packet(sequence + 2, &[1; 100]);
        assert_eq!(packet(sequence + 1, &[9; 4])[8..24], *next_iv);
    }
}

/// Seals `text` as it is, whatever trailer it has, and opens it again.
fn carries(sa: &EspSa<AwsLc>, text: &[u8]) {
    let mut esp = vec![0; sa.prefix_length() + text.len() + sa.icv_length()];
    esp[7] = 9;
    let place = sa.text(esp.len()).unwrap();
    esp[place.clone()].copy_from_slice(text);
    seal_frame(&AwsLc, sa, 9, &mut esp);
    assert_eq!(open(&AwsLc, sa, 9, &mut esp), Verdict::Good);
    assert_eq!(&esp[place.clone()], text);
    let (pad_length, carried) = (text[text.len() - 2], text.len() - 2);
    let expected = match carried.checked_sub(usize::from(pad_length)) {
        Some(payload) => Ok((payload, ipsec::Trailer { next_header: text[text.len() - 1], pad_length })),
        None => Err(TrailerError::PadLength { pad_length, carried }),
    };
    assert_eq!(read_trailer(&esp[place]), expected);
}

/// every pad length against every length of what was carried, by an authentic packet: read, or refused by name; never past the end.
#[test]
fn r_18_every_pad_length_against_every_length() {
    for parameters in of_each_alignment() {
        let sa = parameters.build(&AwsLc).unwrap();
        let mut text = vec![0xa5; 304];
        for length in (1..=304 / sa.alignment()).map(|count| count * sa.alignment()) {
            for pad_length in 0..=255 {
                text[length - 2..length].copy_from_slice(&[pad_length, 4]);
                carries(&sa, &text[..length]);
                text[length - 2..length].fill(0xa5);
            }
        }
    }
}

/// R-18 for the other suites: every pad length where it just fits and where it just does not.
#[test]
fn r_18_every_pad_length_with_every_suite() {
    for parameters in all() {
        let sa = parameters.build(&AwsLc).unwrap();
        for pad_length in 0..=255_u8 {
            let fits = (usize::from(pad_length) + TRAILER_LENGTH).next_multiple_of(sa.alignment());
            for length in [sa.alignment(), fits.saturating_sub(sa.alignment()).max(sa.alignment()), fits] {
                let mut text = vec![0x5a; length];
                text[length - 2..].copy_from_slice(&[pad_length, 59]);
                carries(&sa, &text);
            }
        }
    }
}

/// what is taken off is what the packet says, not what its length needs: all pad lengths that a sender may choose, with every suite.
#[test]
fn r_38_the_trailer_is_as_long_as_its_pad_byte_says() {
    for parameters in all() {
        let sa = parameters.build(&AwsLc).unwrap();
        for pad_length in 0..=255_usize {
            let payload = (pad_length + TRAILER_LENGTH).next_multiple_of(sa.alignment()) - pad_length - TRAILER_LENGTH + sa.alignment();
            let least = usize::from(sa.pad_length(payload));
            let carried: Vec<u8> = (0..payload).map(|index| index as u8 ^ 0x33).collect();
            let mut esp = frame(&sa, 1, &carried, (pad_length - least) / sa.alignment());
            seal_frame(&AwsLc, &sa, 1, &mut esp);
            assert_eq!(open(&AwsLc, &sa, 1, &mut esp), Verdict::Good);
            let text = sa.text(esp.len()).unwrap();
            let (length, trailer) = read_trailer(&esp[text.clone()]).unwrap();
            assert_eq!((usize::from(trailer.pad_length), &esp[text][..length]), (pad_length, &carried[..]), "{}", parameters.suite);
        }
    }
}

/// whatever bit of a packet was changed, it is not taken, and it is afterwards as it came. (Without authentication nothing is promised.)
#[test]
fn r_04_any_changed_bit_fails_and_leaves_the_packet_as_it_came() {
    fn holds<P: Provider>(provider: &P, parameters: &Parameters) {
        let sa = parameters.build(provider).unwrap();
        let sealed = seal(provider, &sa, 0x0102_0304, &[0x77; 20]);
        let mut scratch = Scratch::new();
        for bit in 0..sealed.len() * 8 {
            let mut esp = sealed.clone();
            esp[bit / 8] ^= 1 << (bit % 8);
            let arrived = esp.clone();
            let sequence = u64::from(u32::from_be_bytes(esp[4..8].try_into().unwrap()));
            let mut jobs = [sa.open_job(&mut esp, sequence).unwrap()];
            provider.open(&mut jobs, &mut scratch);
            assert_eq!(jobs[0].verdict, Verdict::Bad, "{} {} bit {bit}", provider.name(), parameters.suite);
            assert_eq!(esp, arrived, "{} {} bit {bit}", provider.name(), parameters.suite);
        }
    }
    for parameters in all().into_iter().filter(|parameters| parameters.suite.is_authenticated()) {
        for extended in [false, true] {
            let parameters = Parameters { extended, ..Parameters::new(parameters.suite).with_icv(parameters.icv_length) };
            holds(&AwsLc, &parameters);
            holds(&RustCrypto, &parameters);
            holds(&MbCrypto::best(), &parameters);
        }
    }
}

/// a MAC that was cut to another length than the algorithm's is no ICV, though its bytes are right.
#[test]
fn r_20_wrong_truncation_fails() {
    for encryption in ["null", "aes-cbc-128"] {
        for (authentication, native) in [
            ("hmac-sha1-96", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            ("hmac-sha-256-128", hmac::HMAC_SHA256),
            ("hmac-sha-384-192", hmac::HMAC_SHA384),
            ("hmac-sha-512-256", hmac::HMAC_SHA512),
        ] {
            let parameters = Parameters::new(suite(encryption, authentication));
            let sa = parameters.build(&AwsLc).unwrap();
            let sealed = seal(&AwsLc, &sa, 5, &[3; 30]);
            let right = sa.icv_length();
            let (covered, icv) = sealed.split_at(sealed.len() - right);
            let mac = hmac::sign(&hmac::Key::new(native, parameters.authentication_key.expose()), covered);
            assert_eq!(icv, &mac.as_ref()[..right], "{authentication}");
            for length in (0..=mac.as_ref().len()).filter(|&length| length != right) {
                // As a peer would send it who cuts in another way: the packet is longer or shorter.
                let mut esp = [covered, &mac.as_ref()[..length]].concat();
                let arrived = esp.clone();
                match sa.open_job(&mut esp, 5) {
                    Ok(job) => {
                        let mut jobs = [job];
                        AwsLc.open(&mut jobs, &mut Scratch::new());
                        assert_eq!(jobs[0].verdict, Verdict::Bad, "{authentication} cut to {length}");
                    }
                    Err(error) => assert!(matches!(error, EspError::Alignment { .. } | EspError::TooShort { .. }), "{error}"),
                }
                assert_eq!(esp, arrived);
            }
        }
    }
}

/// HMAC-SHA-256 cut to 96 bits, which some senders make, never verifies as 128, nor the reverse; there is no algorithm here that takes 96.
#[test]
fn r_20_sha_256_of_96_bits_is_not_sha_256_of_128() {
    fn holds<P: Provider>(provider: &P) {
        let parameters = Parameters::new(suite("null", "hmac-sha-256-128"));
        let sa = parameters.build(provider).unwrap();
        let sealed = seal(provider, &sa, 5, &[3; 30]);
        let (covered, icv) = sealed.split_at(sealed.len() - 16);
        for wrong in [&icv[..12], &[icv, &[0; 4]].concat()] {
            let mut esp = [covered, wrong].concat();
            assert_eq!(open(provider, &sa, 5, &mut esp), Verdict::Bad);
        }
        // Nor as a job that says that it has 12 bytes.
        let mut esp = sealed.clone();
        let job = sa.open_job(&mut esp, 5).unwrap();
        let (key, nonce, aad) = (job.key, job.nonce, job.aad);
        for (length, good) in [(12, false), (15, false), (16, true)] {
            let mut text = covered[8..].to_vec();
            let mut jobs = [OpenJob::new(key, nonce, aad, Data::InPlace(&mut text), &icv[..length])];
            provider.open(&mut jobs, &mut Scratch::new());
            assert_eq!(jobs[0].verdict.is_good(), good, "{length}");
        }
        assert!("hmac-sha-256-96".parse::<ipsec::Authentication>().is_err());
    }
    holds(&AwsLc);
    holds(&RustCrypto);
    for provider in Crypto::with_paths() {
        holds(&provider);
    }
}

/// AES-GCM's ICVs of 16, 12 and 8 bytes are each other's beginning, and not taken for each other.
#[test]
fn r_20_icvs_of_gcm_are_not_taken_for_each_other() {
    let sas = [16, 12, 8].map(|icv| Parameters::new(suite("aes-gcm-128", "")).with_icv(icv).build(&AwsLc).unwrap());
    for sender in &sas {
        let sealed = seal(&AwsLc, sender, 1, &[1; 50]);
        for receiver in &sas {
            let same = sender.icv_length() == receiver.icv_length();
            assert_eq!(open(&AwsLc, receiver, 1, &mut sealed.clone()).is_good(), same);
        }
    }
}

/// Opens, looks and notes, in the order that a receiver has to keep: the window moves only for what was authentic.
fn receive(sa: &EspSa<AwsLc>, window: &mut ReplayWindow, esp: &mut [u8]) -> Option<u64> {
    let low = u32::from_be_bytes(esp[4..8].try_into().unwrap());
    let sequence = if sa.esn() { window.infer(low) } else { u64::from(low) };
    if !window.check(sequence).is_new() || !open(&AwsLc, sa, sequence, esp).is_good() {
        return None;
    }
    window.update(sequence).is_new().then_some(sequence)
}

/// R-12 with every suite, with and without ESN: each number gets through once, whatever window; forged packets move nothing.
#[test]
fn r_12_every_suite_delivers_each_number_once() {
    for parameters in all() {
        for (size, extended) in [(64, false), (64, true), (1, true), (32, false), (4096, true)] {
            let sa = Parameters { extended, ..Parameters::new(parameters.suite) }.build(&AwsLc).unwrap();
            let base = if extended { (7 << 32) + u64::from(u32::MAX) - 10 } else { 1 };
            let mut window = ReplayWindow::with_high(size, (base >> 32) as u32).unwrap();
            let mut delivered = Vec::new();
            for offset in 0..24 {
                let sealed = seal(&AwsLc, &sa, base + offset, &[offset as u8; 9]);
                if parameters.suite.is_authenticated() {
                    // Far ahead, which would push everything out of the window.
                    let mut forged = sealed.clone();
                    forged[5] ^= 0x40;
                    assert_eq!(receive(&sa, &mut window, &mut forged), None);
                }
                delivered.extend(receive(&sa, &mut window, &mut sealed.clone()));
                assert_eq!(window.check(base + offset), Replay::Duplicate);
                assert_eq!(receive(&sa, &mut window, &mut sealed.clone()), None, "{} {size}", parameters.suite);
            }
            assert_eq!(delivered, (base..base + 24).collect::<Vec<_>>(), "{} {size}", parameters.suite);
        }
    }
}

/// A job of opening has all that is needed to make the packet's bytes again: what a NIC does that cannot use what it opened.
#[test]
fn what_was_opened_can_be_sealed_again_from_its_job() {
    for parameters in all() {
        let sa = Parameters { extended: true, ..Parameters::new(parameters.suite) }.build(&AwsLc).unwrap();
        let sealed = seal(&AwsLc, &sa, 3 << 32 | 8, &[0x31; 77]);
        let mut esp = sealed.clone();
        let mut jobs = [sa.open_job(&mut esp, 3 << 32 | 8).unwrap()];
        AwsLc.open(&mut jobs, &mut Scratch::new());
        let [job] = jobs;
        let Data::InPlace(text) = job.data else { unreachable!() };
        let mut icv = vec![0; job.tag.len()];
        let mut again = [SealJob::new(job.key, job.nonce, job.aad, Data::InPlace(text), &mut icv)];
        AwsLc.seal(&mut again);
        assert!(again[0].verdict.is_good() && icv == job.tag, "{}", parameters.suite);
        assert_eq!(esp, sealed, "{}", parameters.suite);
    }
}
