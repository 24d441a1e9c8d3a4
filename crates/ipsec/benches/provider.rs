//! Cost of a packet: the libraries alone, and the same work through [`EspSa`] and [`Provider`], in batches of 64.
//!
//! AES-GCM in every size; some of the other suites, and AH's authentication, for comparison. At the end a table of nanoseconds a packet, of each one's best batch, says what our own code adds. Opening is timed without the restoring of the ciphertext.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::Aes128;
use aws_lc_rs::aead;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use ipsec::{
    AesKeySize, AuthBatch, AuthJob, Authentication, AwsLc, BATCH, Crypto, Encryption, EspParameters, EspSa, MbCrypto, OpenBatch, Provider, RustCrypto, Scratch,
    SealBatch, Suite,
};
use secret::SecretBytes;

const SIZES: [usize; 5] = [64, 256, 576, 1420, 9000];
const KEY: [u8; 20] = *b"sixteen byte key and";
const TEXT: usize = 16;
const ICV: usize = 16;

type RustGcm = aes_gcm::AesGcm<Aes128, U12>;

fn main() {
    let mut criterion =
        Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500)).configure_from_args();
    let results = Results::default();
    seal(&mut criterion, &results);
    open(&mut criterion, &results);
    open_in_place(&mut criterion, &results);
    suites(&mut criterion, &results);
    authenticate(&mut criterion, &results);
    criterion.final_summary();
    results.print();
}

fn seal(criterion: &mut Criterion, results: &Results) {
    let (aws, rust) = (aws_key(), rust_key());
    for size in SIZES {
        let mut group = group(criterion, "seal", size);
        let mut packets = packets(size);
        let run = |group: &mut BenchmarkGroup<'_, WallTime>, name, step: &mut dyn FnMut()| results.bench(group, "seal", size, name, &mut || {}, step);
        run(&mut group, "aws-lc raw", &mut || {
            for (sequence, esp) in (1..).zip(&mut packets) {
                let (header, iv, text, tag) = split(esp);
                *iv = u64::to_be_bytes(sequence);
                aws.seal_in_place_scatter(aead::Nonce::assume_unique_for_key(nonce(*iv)), aead::Aad::from(header), text, &[], tag).unwrap();
            }
        });
        run(&mut group, "mbcrypto", &mut seal_with(MbCrypto::best(), &mut packets.clone()));
        run(&mut group, "mbcrypto by choice", &mut seal_with(Crypto::MbCrypto(MbCrypto::best()), &mut packets.clone()));
        run(&mut group, "aws-lc", &mut seal_with(AwsLc, &mut packets.clone()));
        run(&mut group, "aws-lc by choice", &mut seal_with(Crypto::AwsLc, &mut packets.clone()));
        run(&mut group, "rustcrypto raw", &mut || {
            for (sequence, esp) in (1..).zip(&mut packets) {
                let (header, iv, text, tag) = split(esp);
                *iv = u64::to_be_bytes(sequence);
                tag.copy_from_slice(&rust.encrypt_inout_detached(&nonce(*iv).into(), header, text.into()).unwrap());
            }
        });
        run(&mut group, "rustcrypto", &mut seal_with(RustCrypto, &mut packets.clone()));
        group.finish();
    }
}

fn seal_with<P: Provider>(provider: P, packets: &mut [Vec<u8>]) -> impl FnMut() {
    let sa = sa(&provider);
    move || {
        let mut jobs = SealBatch::new();
        for (sequence, esp) in (1..).zip(packets.iter_mut()) {
            jobs.push(sa.seal_job(esp, sequence).unwrap());
        }
        provider.seal(&mut jobs);
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
    }
}

fn open(criterion: &mut Criterion, results: &Results) {
    let (aws, rust) = (aws_key(), rust_key());
    for size in SIZES {
        let mut group = group(criterion, "open", size);
        let sealed = sealed(size);
        let arrived = RefCell::new(sealed.clone());
        let restore = || restore(&mut arrived.borrow_mut(), &sealed);
        let run = |group: &mut BenchmarkGroup<'_, WallTime>, name, step: &mut dyn FnMut()| results.bench(group, "open", size, name, &mut &restore, step);
        // What the library can do alone: it destroys a packet that is not authentic.
        run(&mut group, "aws-lc raw", &mut || {
            for esp in arrived.borrow_mut().iter_mut() {
                let (header, iv, text, tag) = split(esp);
                aws.open_in_place_separate_tag(aead::Nonce::assume_unique_for_key(nonce(*iv)), aead::Aad::from(header), tag, text).unwrap();
            }
        });
        run(&mut group, "mbcrypto", &mut open_with(MbCrypto::best(), &arrived));
        run(&mut group, "mbcrypto by choice", &mut open_with(Crypto::MbCrypto(MbCrypto::best()), &arrived));
        run(&mut group, "aws-lc", &mut open_with(AwsLc, &arrived));
        run(&mut group, "aws-lc by choice", &mut open_with(Crypto::AwsLc, &arrived));
        run(&mut group, "rustcrypto raw", &mut || {
            for esp in arrived.borrow_mut().iter_mut() {
                let (header, iv, text, tag) = split(esp);
                rust.decrypt_inout_detached(&nonce(*iv).into(), header, text.into(), &(*tag).into()).unwrap();
            }
        });
        run(&mut group, "rustcrypto", &mut open_with(RustCrypto, &arrived));
        group.finish();
    }
}

fn open_with<P: Provider>(provider: P, arrived: &RefCell<Vec<Vec<u8>>>) -> impl FnMut() {
    let sa = sa(&provider);
    let mut scratch = Scratch::new();
    move || {
        let mut arrived = arrived.borrow_mut();
        let mut jobs = OpenBatch::new();
        for (sequence, esp) in (1..).zip(arrived.iter_mut()) {
            jobs.push(sa.open_job(esp, sequence).unwrap());
        }
        provider.open(&mut jobs, &mut scratch);
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
    }
}

/// Two ways to keep a packet that turns out not to be authentic: copy the ciphertext aside and open back from there, or open aside and copy the plaintext back.
fn open_in_place(criterion: &mut Criterion, results: &Results) {
    let key = aws_key();
    for size in [64, 1420] {
        let mut group = group(criterion, "open in place", size);
        let sealed = sealed(size);
        let arrived = RefCell::new(sealed.clone());
        let restore = || restore(&mut arrived.borrow_mut(), &sealed);
        let mut aside = vec![0; size];
        let run =
            |group: &mut BenchmarkGroup<'_, WallTime>, name, step: &mut dyn FnMut()| results.bench(group, "open in place", size, name, &mut &restore, step);
        run(&mut group, "copy aside, open back", &mut || {
            for esp in arrived.borrow_mut().iter_mut() {
                let (header, iv, text, tag) = split(esp);
                aside.copy_from_slice(text);
                key.open_separate_gather(aead::Nonce::assume_unique_for_key(nonce(*iv)), aead::Aad::from(header), &aside, tag, text).unwrap();
            }
        });
        run(&mut group, "open aside, copy back", &mut || {
            for esp in arrived.borrow_mut().iter_mut() {
                let (header, iv, text, tag) = split(esp);
                key.open_separate_gather(aead::Nonce::assume_unique_for_key(nonce(*iv)), aead::Aad::from(header), text, tag, &mut aside).unwrap();
                text.copy_from_slice(&aside);
            }
        });
        group.finish();
    }
}

/// Suites beside AES-GCM: encryption, authentication or none.
const SUITES: [(&str, &str); 6] = [
    ("aes-cbc-128", "hmac-sha1-96"),
    ("aes-cbc-256", "hmac-sha-256-128"),
    ("3des-cbc", "hmac-md5-96"),
    ("null", "hmac-sha-512-256"),
    ("null", "aes-gmac-128"),
    ("chacha20-poly1305", "none"),
];

fn suites(criterion: &mut Criterion, results: &Results) {
    for (encryption, authentication) in SUITES {
        let suite = Suite::new(encryption.parse().unwrap(), authentication.parse().unwrap()).unwrap();
        for size in [64, 1420] {
            let operation: &'static str = format!("{suite}").leak();
            let mut group = group(criterion, operation, size);
            round_trips(&mut group, results, operation, size, suite, ["mbcrypto seal", "mbcrypto open"], &MbCrypto::best());
            round_trips(&mut group, results, operation, size, suite, ["aws-lc seal", "aws-lc open"], &AwsLc);
            round_trips(&mut group, results, operation, size, suite, ["rustcrypto seal", "rustcrypto open"], &RustCrypto);
            group.finish();
        }
    }
}

fn round_trips<P: Provider>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    results: &Results,
    operation: &'static str,
    size: usize,
    suite: Suite,
    [seal, open]: [&'static str; 2],
    provider: &P,
) {
    let sa = sa_of(provider, suite);
    // The text ends at the block; sequence numbers from 1 on.
    let mut packets: Vec<Vec<u8>> = (1..=BATCH as u32)
        .map(|sequence| {
            let mut esp = vec![0x5a; sa.prefix_length() + size.next_multiple_of(sa.alignment()) + sa.icv_length()];
            esp[4..8].copy_from_slice(&sequence.to_be_bytes());
            esp
        })
        .collect();
    let seal_all = |packets: &mut [Vec<u8>]| {
        let mut jobs = SealBatch::new();
        for (sequence, esp) in (1..).zip(packets) {
            jobs.push(sa.seal_job(esp, sequence).unwrap());
        }
        provider.seal(&mut jobs);
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
    };
    let mut again = packets.clone();
    results.bench(group, operation, size, seal, &mut || {}, &mut || seal_all(&mut again));
    seal_all(&mut packets);
    let arrived = RefCell::new(packets.clone());
    let mut scratch = Scratch::new();
    results.bench(group, operation, size, open, &mut || restore(&mut arrived.borrow_mut(), &packets), &mut || {
        let mut arrived = arrived.borrow_mut();
        let mut jobs = OpenBatch::new();
        for (sequence, esp) in (1..).zip(arrived.iter_mut()) {
            jobs.push(sa.open_job(esp, sequence).unwrap());
        }
        provider.open(&mut jobs, &mut scratch);
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
    });
}

/// What AH asks of a provider: the ICV of masked headers and the rest of a packet.
fn authenticate(criterion: &mut Criterion, results: &Results) {
    fn run<P: Provider>(provider: &P, algorithm: Authentication, packet: &[u8]) -> impl FnMut() {
        let key = provider.auth_key(algorithm, &vec![7; algorithm.mac_key_length()]).unwrap();
        move || {
            let mut jobs: AuthBatch<'_, P::AuthKey> = (0..BATCH).map(|_| AuthJob::new(&key, [9; 12], [&packet[..44], &packet[44..], &[]])).collect();
            provider.authenticate(&mut jobs);
            black_box(jobs);
        }
    }
    for algorithm in ["hmac-md5-96", "hmac-sha1-96", "hmac-sha-256-128", "aes-gmac-128"] {
        let operation: &'static str = format!("ah {algorithm}").leak();
        let algorithm: Authentication = algorithm.parse().unwrap();
        for size in [64, 1420] {
            let packet = vec![0x5a; 44 + size];
            let mut group = group(criterion, operation, size);
            results.bench(&mut group, operation, size, "mbcrypto", &mut || {}, &mut run(&MbCrypto::best(), algorithm, &packet));
            results.bench(&mut group, operation, size, "aws-lc", &mut || {}, &mut run(&AwsLc, algorithm, &packet));
            results.bench(&mut group, operation, size, "rustcrypto", &mut || {}, &mut run(&RustCrypto, algorithm, &packet));
            group.finish();
        }
    }
}

fn sa_of<P: Provider>(provider: &P, suite: Suite) -> EspSa<P> {
    let key = |length: usize| SecretBytes::from((0..length).map(|index| index as u8).collect::<Vec<_>>());
    let parameters = EspParameters {
        encryption: suite.encryption(),
        encryption_key: &key(suite.encryption().key_length()),
        icv_length: suite.icv_lengths()[0],
        authentication: suite.authentication(),
        authentication_key: &key(suite.authentication().key_length()),
        allow_unauthenticated: false,
        extended_sequence_numbers: false,
        iv_mask: 0,
    };
    EspSa::new(provider, &parameters).unwrap()
}

fn group<'a>(criterion: &'a mut Criterion, operation: &str, size: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("{operation} {size}"));
    group.throughput(Throughput::Elements(BATCH as u64));
    group
}

fn aws_key() -> aead::LessSafeKey {
    aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, &KEY[..16]).unwrap())
}

fn rust_key() -> RustGcm {
    RustGcm::new_from_slice(&KEY[..16]).unwrap()
}

fn nonce(iv: [u8; 8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&KEY[16..]);
    nonce[4..].copy_from_slice(&iv);
    nonce
}

fn sa<P: Provider>(provider: &P) -> EspSa<P> {
    let parameters = EspParameters {
        encryption: Encryption::AesGcm(AesKeySize::Aes128),
        encryption_key: &SecretBytes::copy_from_slice(&KEY),
        icv_length: ICV,
        authentication: Authentication::None,
        authentication_key: &SecretBytes::default(),
        allow_unauthenticated: false,
        extended_sequence_numbers: false,
        iv_mask: 0,
    };
    EspSa::new(provider, &parameters).unwrap()
}

/// A batch of packets with `size` bytes to encrypt, sequence numbers from 1 on.
fn packets(size: usize) -> Vec<Vec<u8>> {
    (1..=BATCH as u32)
        .map(|sequence| {
            let mut esp = vec![0x5a; TEXT + size.next_multiple_of(4) + ICV];
            esp[4..8].copy_from_slice(&sequence.to_be_bytes());
            esp
        })
        .collect()
}

fn sealed(size: usize) -> Vec<Vec<u8>> {
    let mut packets = packets(size);
    seal_with(RustCrypto, &mut packets)();
    packets
}

fn restore(arrived: &mut [Vec<u8>], sealed: &[Vec<u8>]) {
    for (arrived, sealed) in arrived.iter_mut().zip(sealed) {
        arrived.copy_from_slice(sealed);
    }
}

fn split(esp: &mut [u8]) -> (&[u8; 8], &mut [u8; 8], &mut [u8], &mut [u8; ICV]) {
    let (header, rest) = esp.split_first_chunk_mut().unwrap();
    let (iv, rest) = rest.split_first_chunk_mut().unwrap();
    let (text, tag) = rest.split_last_chunk_mut().unwrap();
    (header, iv, text, tag)
}

/// The best batch by operation, size and name, in nanoseconds a packet: what a machine that does other things as well disturbs least.
#[derive(Default)]
struct Results(RefCell<BTreeMap<(&'static str, usize), Vec<Row>>>);

/// Name and nanoseconds.
type Row = (&'static str, f64);

impl Results {
    fn bench(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        operation: &'static str,
        size: usize,
        name: &'static str,
        prepare: &mut dyn FnMut(),
        step: &mut dyn FnMut(),
    ) {
        let mut best = Duration::MAX;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    prepare();
                    let start = Instant::now();
                    black_box(&mut *step)();
                    let elapsed = start.elapsed();
                    best = best.min(elapsed);
                    total += elapsed;
                }
                total
            });
        });
        if best < Duration::MAX {
            let nanoseconds = best.as_secs_f64() * 1e9 / f64::from(BATCH as u32);
            self.0.borrow_mut().entry((operation, size)).or_default().push((name, nanoseconds));
        }
    }

    fn print(&self) {
        println!("\n{:<32} {:>5}  {:<22} {:>10} {:>10} {:>7}", "", "bytes", "", "ns/packet", "over raw", "ratio");
        for ((operation, size), rows) in self.0.borrow().iter() {
            let mut raw = None;
            for (name, nanoseconds) in rows {
                if name.ends_with("raw") || raw.is_none() {
                    raw = Some(nanoseconds);
                }
                let raw = raw.unwrap_or(nanoseconds);
                println!("{operation:<32} {size:>5}  {name:<22} {nanoseconds:>10.1} {:>+10.1} {:>7.3}", nanoseconds - raw, raw / nanoseconds);
            }
        }
    }
}
