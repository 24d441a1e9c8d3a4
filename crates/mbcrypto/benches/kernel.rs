//! Nanoseconds per packet of every path, beside aws-lc-rs one packet at a time, for AES-128-GCM. Rounds are interleaved and the
//! median is printed, so that the ratio holds on a machine that is not quiet. `cargo bench -p mbcrypto`; pin it with
//! `taskset` where there is one.

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use mbcrypto::{AadParts, Kernel, Key, Nonce as PacketNonce, Open, OpenParts, Path, Seal, SealParts, Text};

const ROUNDS: usize = 15;
const LENGTHS: [usize; 5] = [64, 256, 576, 1420, 9000];

struct Job<'a> {
    key: &'a Key,
    nonce: [u8; 12],
    aad: [u8; 8],
    src: &'a [u8],
    dst: &'a mut [u8],
    tag: &'a mut [u8; 16],
    good: bool,
}

impl Seal for Job<'_> {
    #[inline(always)]
    fn parts(&mut self) -> Option<SealParts<'_>> {
        Some(SealParts { key: self.key, nonce: PacketNonce::new(&self.nonce), aad: AadParts::Bytes(&self.aad), text: Text::InPlace(self.dst), tag: self.tag })
    }

    #[inline(always)]
    fn conclude(&mut self, good: bool) {
        self.good = good;
    }
}

impl Open for Job<'_> {
    #[inline(always)]
    fn parts(&mut self) -> Option<OpenParts<'_>> {
        // From source to destination, so that every round finds something authentic.
        let text = Text::Copy { src: self.src, dst: self.dst };
        Some(OpenParts { key: self.key, nonce: PacketNonce::new(&self.nonce), aad: AadParts::Bytes(&self.aad), text, tag: self.tag })
    }

    #[inline(always)]
    fn conclude(&mut self, good: bool) {
        self.good = good;
    }
}

/// Buffers of a batch.
struct Batch {
    sources: Vec<Vec<u8>>,
    buffers: Vec<Vec<u8>>,
    tags: Vec<[u8; 16]>,
}

impl Batch {
    fn new(packets: usize, length: usize) -> Self {
        Self { sources: vec![vec![3; length]; packets], buffers: vec![vec![3; length]; packets], tags: vec![[0; 16]; packets] }
    }

    fn jobs<'a>(&'a mut self, key: &'a Key, jobs: &mut Vec<Job<'a>>) {
        jobs.clear();
        jobs.extend(self.sources.iter().zip(&mut self.buffers).zip(&mut self.tags).map(|((src, dst), tag)| Job {
            key,
            nonce: [1; 12],
            aad: [2; 8],
            src,
            dst,
            tag,
            good: false,
        }));
    }
}

fn main() {
    let kernels: Vec<Kernel> = Path::ALL.into_iter().filter_map(Kernel::new).collect();
    let bytes = [0x5a; 16];
    let library = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes).expect("the key has the right length"));
    println!("AES-128-GCM, ICV of 16 bytes: ns per packet, median of {ROUNDS} rounds (times as fast as aws-lc-rs)");
    for packets in [32, 64] {
        for length in LENGTHS {
            let mut batch = Batch::new(packets, length);
            let calls = (2_000_000 / (packets * (length + 100))).max(4);
            // First aws-lc-rs, then seal and open of each kernel.
            let mut times = vec![Vec::with_capacity(ROUNDS); 1 + 2 * kernels.len()];
            for _ in 0..ROUNDS {
                times[0].push(time(calls, packets, || {
                    for (buffer, tag) in batch.buffers.iter_mut().zip(&mut batch.tags) {
                        let made = library.seal_in_place_separate_tag(Nonce::assume_unique_for_key([1; 12]), Aad::from([2; 8]), buffer);
                        tag.copy_from_slice(made.expect("a short text can be sealed").as_ref());
                    }
                }));
                for (i, kernel) in kernels.iter().enumerate() {
                    let key = kernel.key(&bytes, 16).expect("the lengths are right");
                    times[1 + 2 * i].push(time(calls, packets, || {
                        let mut jobs = Vec::with_capacity(packets);
                        batch.jobs(&key, &mut jobs);
                        kernel.seal(&mut jobs);
                        black_box(&jobs);
                    }));
                    // The source becomes what the tags are of.
                    batch.buffers.clone_from(&batch.sources);
                    let mut jobs = Vec::with_capacity(packets);
                    batch.jobs(&key, &mut jobs);
                    kernel.seal(&mut jobs);
                    drop(jobs);
                    core::mem::swap(&mut batch.sources, &mut batch.buffers);
                    times[2 + 2 * i].push(time(calls, packets, || {
                        let mut jobs = Vec::with_capacity(packets);
                        batch.jobs(&key, &mut jobs);
                        kernel.open(&mut jobs);
                        assert!(jobs.iter().all(|job| job.good), "what was sealed opens");
                    }));
                }
            }
            let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
            print!("batch {packets:2}, {length:4} bytes: aws-lc-rs {:6.1}", medians[0]);
            for (kernel, pair) in kernels.iter().zip(medians[1..].chunks(2)) {
                print!(" | {} seal {:6.1} ({:.2}) open {:6.1} ({:.2})", kernel.path(), pair[0], medians[0] / pair[0], pair[1], medians[0] / pair[1]);
            }
            println!();
        }
    }
}

/// Nanoseconds per packet.
fn time(calls: usize, packets: usize, mut call: impl FnMut()) -> f64 {
    call();
    let begin = Instant::now();
    for _ in 0..calls {
        call();
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from((calls * packets) as u32)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
