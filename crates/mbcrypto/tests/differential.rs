//! Against aws-lc-rs and RustCrypto: every length, batch size, key size, ICV length, both forms of data, on every path.

mod common;

use common::{Job, Mac, Numbers, kernels, reference};
use mbcrypto::{Kernel, Key, Path, Text};

const KEYS: [usize; 3] = [16, 24, 32];
const ICVS: [usize; 3] = [8, 12, 16];

/// A packet and what should become of it.
struct Packet {
    key: Vec<u8>,
    nonce: [u8; 12],
    aad: Vec<u8>,
    plain: Vec<u8>,
    cipher: Vec<u8>,
    tag: [u8; 16],
}

impl Packet {
    fn new(numbers: &mut Numbers, key: &[u8], length: usize) -> Self {
        let aad_length = [8, 12, 8, 16, 20, 0, numbers.below(33), 32][numbers.below(8)];
        let (nonce, aad, plain) = (numbers.nonce(), numbers.bytes(aad_length), numbers.bytes(length));
        let (cipher, tag) = reference(key, nonce, &aad, &plain);
        Self { key: key.to_vec(), nonce, aad, plain, cipher, tag }
    }
}

/// Seals and opens all packets as one batch.
fn check(kernel: Kernel, keys: &[&Key], packets: &[&Packet], shifts: &[usize], copies: &[bool]) {
    let jobs = |sealed: bool| -> Vec<Job<'_>> {
        (0..packets.len())
            .map(|i| {
                let packet = packets[i];
                let icv = keys[i].icv_length();
                let (text, tag) = if sealed { (&packet.cipher, packet.tag[..icv].to_vec()) } else { (&packet.plain, vec![0; icv]) };
                Job::new(keys[i], packet.nonce, &packet.aad, text, shifts[i], copies[i], &tag)
            })
            .collect()
    };
    let mut seals = jobs(false);
    kernel.seal(&mut seals);
    let mut opens = jobs(true);
    kernel.open(&mut opens);
    for (i, packet) in packets.iter().enumerate() {
        let what = || format!("{kernel:?}: packet {i} of {}, {} bytes, {:?}, key of {}", packets.len(), packet.plain.len(), keys[i], packet.key.len());
        assert_eq!(seals[i].good, Some(true), "{}", what());
        assert!(seals[i].text() == packet.cipher, "wrong ciphertext: {}", what());
        assert_eq!(seals[i].tag, packet.tag[..keys[i].icv_length()], "{}", what());
        assert_eq!(opens[i].good, Some(true), "{}", what());
        assert!(opens[i].text() == packet.plain, "wrong plaintext: {}", what());
        seals[i].check_guards();
        opens[i].check_guards();
    }
}

#[test]
fn every_length_key_icv_form_and_path() {
    let mut numbers = Numbers::new(1);
    for key_length in KEYS {
        let key = numbers.bytes(key_length);
        // Up to 2048 bytes, and as many more as fill batches of 1 to 64 packets.
        let packets: Vec<Packet> = (0..(1..=64).sum()).map(|length| Packet::new(&mut numbers, &key, length)).collect();
        assert!(packets.len() > 2048);
        for kernel in kernels() {
            for icv in ICVS {
                // All packets under one key, and each under one of its own.
                let keys: Vec<Key> = (0..64).map(|_| kernel.key(&key, icv).unwrap()).collect();
                for (copy, shared) in [(false, false), (false, true), (true, false), (true, true)] {
                    let mut rest = &packets[..];
                    for size in 1..=64 {
                        let (batch, after) = rest.split_at(size);
                        rest = after;
                        let batch: Vec<&Packet> = batch.iter().collect();
                        let keys: Vec<&Key> = keys[..size].iter().map(|key| if shared { &keys[0] } else { key }).collect();
                        let shifts: Vec<usize> = batch.iter().map(|_| numbers.below(64)).collect();
                        check(kernel, &keys, &batch, &shifts, &vec![copy; size]);
                    }
                    assert!(rest.is_empty());
                }
            }
        }
    }
}

/// Everything differs within a batch; lengths are those of one traffic mix or another.
#[test]
fn every_batch_size_of_mixed_jobs() {
    let mut numbers = Numbers::new(2);
    let keys: Vec<Vec<u8>> = (0..9).map(|i| numbers.bytes(KEYS[i % 3])).collect();
    for size in 1..=64 {
        for mix in 0..4 {
            let same = numbers.below(300);
            let packets: Vec<Packet> = (0..size)
                .map(|i| {
                    let length = match mix {
                        0 => same,
                        1 => numbers.below(130),
                        2 => [64, 576, 1420, 80, 48, 240][numbers.below(6)],
                        _ => numbers.below(1700),
                    };
                    let key = if mix == 0 { &keys[0] } else { &keys[[i, i / 5, numbers.below(9)][numbers.below(3)] % 9] };
                    Packet::new(&mut numbers, key, length)
                })
                .collect();
            let packets: Vec<&Packet> = packets.iter().collect();
            for kernel in kernels() {
                let icv = ICVS[numbers.below(3)];
                let shared: Vec<Key> = keys.iter().map(|key| kernel.key(key, icv).unwrap()).collect();
                let own: Vec<Key> = packets.iter().map(|packet| kernel.key(&packet.key, ICVS[numbers.below(3)]).unwrap()).collect();
                // Runs under one key, broken by packets that have the same in another place, or with another ICV.
                let keys: Vec<&Key> = (0..size)
                    .map(|i| {
                        let place = keys.iter().position(|key| *key == packets[i].key);
                        if numbers.below(4) == 0 { &own[i] } else { place.map_or(&own[i], |place| &shared[place]) }
                    })
                    .collect();
                let shifts: Vec<usize> = (0..size).map(|_| numbers.below(64)).collect();
                let copies: Vec<bool> = (0..size).map(|_| numbers.below(2) == 0).collect();
                check(kernel, &keys, &packets, &shifts, &copies);
            }
        }
    }
}

/// Long enough for counters of more than one byte, and of more than two.
#[test]
fn long_texts() {
    let mut numbers = Numbers::new(3);
    for length in [4000, 4063, 4064, 4065, 4096, 9000, 65_535, 0x10_0000 - 32, 0x10_0000 - 31, 0x10_0000 + 77] {
        let key = numbers.key();
        let packet = Packet::new(&mut numbers, &key, length);
        for kernel in kernels() {
            check(kernel, &[&kernel.key(&key, 16).unwrap()], &[&packet], &[numbers.below(64)], &[numbers.below(2) == 0]);
        }
    }
}

/// One packet of a batch is not authentic, in one way after the other and at every place; the others are not concerned.
#[test]
fn failed_opens_at_every_place() {
    let mut numbers = Numbers::new(4);
    for kernel in kernels() {
        for size in [1, 2, 4, 5, 33, 64] {
            let keys: Vec<Vec<u8>> = (0..size).map(|_| numbers.key()).collect();
            let lengths: Vec<usize> = (0..size).map(|_| [64, 64, 0, 80, 200, 300, 1420][numbers.below(7)]).collect();
            let packets: Vec<Packet> = keys.iter().zip(&lengths).map(|(key, &length)| Packet::new(&mut numbers, key, length)).collect();
            let keys: Vec<Key> = keys.iter().map(|key| kernel.key(key, ICVS[numbers.below(3)]).unwrap()).collect();
            for place in 0..size {
                for way in 0..6 {
                    let mut jobs: Vec<Job<'_>> = packets
                        .iter()
                        .zip(&keys)
                        .map(|(packet, key)| {
                            let copy = numbers.below(2) == 0;
                            Job::new(key, packet.nonce, &packet.aad, &packet.cipher, numbers.below(64), copy, &packet.tag[..key.icv_length()])
                        })
                        .collect();
                    let job = &mut jobs[place];
                    match way {
                        0 => job.tag[0] ^= 1,
                        1 => *job.tag.last_mut().unwrap() ^= 0x80,
                        2 => job.nonce[11] ^= 4,
                        3 => job.aad.push(0),
                        4 => drop(job.tag.pop()),
                        _ => {
                            let bit = numbers.below(8 * job.tag.len());
                            job.tag[bit / 8] ^= 1 << (bit % 8);
                        }
                    }
                    kernel.open(&mut jobs);
                    for (i, (job, packet)) in jobs.iter().zip(&packets).enumerate() {
                        assert_eq!(job.good, Some(i != place), "{kernel:?}: packet {i} of {size}, bad one at {place}, way {way}");
                        match (i == place, job.in_place()) {
                            (false, _) => assert!(job.text() == packet.plain, "{kernel:?}: wrong plaintext of {i} beside {place}"),
                            (true, true) => assert!(job.text() == packet.cipher, "{kernel:?}: packet {place} is not as it came"),
                            (true, false) => assert!(job.text().iter().all(|&byte| byte == 0), "{kernel:?}: packet {place} was not wiped"),
                        }
                        job.check_guards();
                    }
                }
            }
        }
    }
}

/// Every bit of a ciphertext, of its AAD and of its tag counts.
#[test]
fn every_bit_counts() {
    let mut numbers = Numbers::new(5);
    for kernel in kernels() {
        for icv in ICVS {
            let key = numbers.bytes(16);
            let packet = Packet::new(&mut numbers, &key, 133);
            let key = kernel.key(&key, icv).unwrap();
            let (cipher, aad) = (8 * packet.cipher.len(), 8 * packet.aad.len());
            let mut jobs: Vec<Job<'_>> = (0..cipher + aad + 8 * icv)
                .map(|bit| {
                    let (mut text, mut authenticated, mut tag) = (packet.cipher.clone(), packet.aad.clone(), packet.tag[..icv].to_vec());
                    match bit {
                        bit if bit < cipher => text[bit / 8] ^= 1 << (bit % 8),
                        bit if bit < cipher + aad => authenticated[(bit - cipher) / 8] ^= 1 << (bit % 8),
                        bit => tag[(bit - cipher - aad) / 8] ^= 1 << (bit % 8),
                    }
                    Job::new(&key, packet.nonce, &authenticated, &text, 0, false, &tag)
                })
                .collect();
            kernel.open(&mut jobs);
            assert!(jobs.iter().all(|job| job.good == Some(false)), "{kernel:?}");
        }
    }
}

#[test]
fn impossible_jobs_reveal_nothing() {
    let mut numbers = Numbers::new(6);
    let bytes = numbers.bytes(16);
    for kernel in kernels() {
        let key = kernel.key(&bytes, 12).unwrap();
        let other = Kernel::new(if kernel.path() == Path::Portable { Path::AesNi } else { Path::Portable });
        let foreign = other.map(|other| other.key(&bytes, 12).unwrap());
        let packet = Packet::new(&mut numbers, &bytes, 100);
        let make = |copy: bool, text: &[u8], key| Job::new(key, packet.nonce, &packet.aad, text, 3, copy, &packet.tag[..12]);
        for copy in [false, true] {
            for sealing in [true, false] {
                let text = if sealing { &packet.plain } else { &packet.cipher };
                let mut jobs: Vec<Job<'_>> = (0..6).map(|_| make(copy, text, &key)).collect();
                jobs[1].tag.push(0);
                jobs[2].aad = vec![0; 33];
                jobs[3].skip = true;
                if copy {
                    jobs[4].resize_source(99);
                } else {
                    jobs[4].tag.clear();
                }
                if let Some(foreign) = &foreign {
                    jobs.push(make(copy, text, foreign));
                }
                let before: Vec<Vec<u8>> = jobs.iter().map(|job| job.text().to_vec()).collect();
                if sealing {
                    kernel.seal(&mut jobs);
                } else {
                    kernel.open(&mut jobs);
                }
                for (i, job) in jobs.iter().enumerate() {
                    match i {
                        0 | 5 => assert_eq!((job.good, job.text()), (Some(true), &*(if sealing { &packet.cipher } else { &packet.plain }).clone())),
                        3 => assert_eq!((job.good, job.text()), (None, &*before[3])),
                        _ if sealing => assert!(job.good == Some(false) && job.text().iter().chain(&job.tag).all(|&byte| byte == 0)),
                        _ if copy => assert!(job.good == Some(false) && job.text().iter().all(|&byte| byte == 0)),
                        _ => assert_eq!((job.good, job.text()), (Some(false), &*before[i])),
                    }
                    job.check_guards();
                }
            }
        }
    }
}

#[test]
fn gmac_of_every_length_and_partition() {
    let mut numbers = Numbers::new(7);
    let kernels = kernels();
    for key_length in KEYS {
        let key = numbers.bytes(key_length);
        let keys: Vec<Key> = kernels.iter().map(|kernel| kernel.key(&key, 16).unwrap()).collect();
        let messages: Vec<(Vec<u8>, [u8; 12], [u8; 16])> = (0..=2048)
            .chain([9000, 70_001])
            .map(|length| {
                let (data, nonce) = (numbers.bytes(length), numbers.nonce());
                let tag = reference(&key, nonce, &data, &[]).1;
                (data, nonce, tag)
            })
            .collect();
        for (kernel, key) in kernels.iter().zip(&keys) {
            let mut rest = &messages[..];
            for batch in (1..=64).cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, after) = rest.split_at(batch.min(rest.len()));
                rest = after;
                let parts: Vec<Vec<&[u8]>> = now
                    .iter()
                    .map(|(data, _, _)| {
                        let cut = numbers.below(data.len() + 1);
                        let (head, tail) = data.split_at(cut);
                        let (middle, tail) = tail.split_at(numbers.below(tail.len() + 1));
                        vec![head, middle, &[][..], tail]
                    })
                    .collect();
                let mut jobs: Vec<Mac<'_>> =
                    now.iter().zip(&parts).map(|((_, nonce, _), data)| Mac { key, nonce: *nonce, data, tag: None, concluded: false, skip: false }).collect();
                kernel.authenticate(&mut jobs);
                for (job, (data, _, tag)) in jobs.iter().zip(now) {
                    assert_eq!(
                        job.tag.as_ref(),
                        Some(tag),
                        "{kernel:?}: {} bytes in parts of {:?}",
                        data.len(),
                        job.data.iter().map(|part| part.len()).collect::<Vec<_>>()
                    );
                }
            }
        }
    }
}

#[test]
fn keys_of_other_lengths_are_refused() {
    use mbcrypto::KeyError;
    for kernel in kernels() {
        for length in (0..40).filter(|length| !KEYS.contains(length)) {
            assert_eq!(kernel.key(&vec![0; length], 16).unwrap_err(), KeyError::KeyLength { found: length });
        }
        for found in (0..20).filter(|length| !ICVS.contains(length)) {
            assert_eq!(kernel.key(&[0; 16], found).unwrap_err(), KeyError::IcvLength { found });
        }
        assert_eq!(format!("{:?}", kernel.key(&[0x41; 16], 12).unwrap()), "Key(ICV of 12 bytes)");
    }
}

#[test]
fn no_jobs_are_no_work() {
    for kernel in kernels() {
        kernel.seal::<Job<'_>>(&mut []);
        kernel.open::<Job<'_>>(&mut []);
        kernel.authenticate::<Mac<'_>>(&mut []);
    }
    assert_eq!(format!("{:?}", Text::InPlace(&mut [1, 2])), "InPlace(2 bytes)");
}

/// A GMAC job with a key for another kernel gets no tag.
#[test]
fn foreign_keys_make_no_tag() {
    let portable = Kernel::new(Path::Portable).unwrap();
    for kernel in kernels().into_iter().filter(|kernel| kernel.path() != Path::Portable) {
        let (own, foreign) = (kernel.key(&[1; 16], 16).unwrap(), portable.key(&[1; 16], 16).unwrap());
        let mut jobs = [&own, &foreign, &own].map(|key| Mac { key, nonce: [0; 12], data: &[], tag: None, concluded: false, skip: false });
        kernel.authenticate(&mut jobs);
        assert!(jobs[0].tag.is_some() && jobs[0].tag == jobs[2].tag && jobs[1].tag.is_none() && jobs[1].concluded);
    }
}
