//! This project's side of the comparison in `bench/peers`: measures its providers, and the kernel below the fastest of them, when it
//! is told to, line by line. `peers.c` speaks the same lines for the other libraries and does everything in the same way;
//! `bench/peers/README.md` has the protocol.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{self, BufRead as _, Write as _};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use ipsec::{Aad, BATCH, Crypto, CryptoKey, Data, KeyParameters, OpenBatch, OpenJob, Provider, Scratch, SealBatch, SealJob};
use mbcrypto::{AadParts, Kernel, Key, Nonce, Open, OpenParts, Seal, SealParts, Text};
use packet::{Buffer, BufferPool};

const MAX_LENGTH: usize = 65536;
const TAG: usize = 16;
const SPI: [u8; 4] = [0, 0, 0x10, 1];
/// The kernel without the provider around it.
const KERNEL: &str = "mbcrypto-kernel";

const MAX_SLICES: usize = 4096;
const LEAST_SLICES: usize = 5;
const SLICE: Duration = Duration::from_micros(250);

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = command(&line?).unwrap_or_else(|error| format!("error {error}"));
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn command(line: &str) -> Result<String, String> {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["describe"] => Ok(format!("mbcrypto ({})", Kernel::best().path())),
        ["list"] => Ok(std::iter::once(KERNEL).chain(Crypto::names()).fold(String::new(), |mut list, name| {
            let _ = write!(list, "{name} ");
            list
        })),
        ["check", name, suite, length, count, layout] => {
            let mut memory = Memory::new(number(length, MAX_LENGTH)?, number(count, BATCH)?, layout)?;
            let (mut way, mut batch) = (way(name, suite)?, memory.batch());
            check(&mut *way, &mut batch).map(|digest| format!("{digest:016x}")).map_err(|fault| format!("{name} {fault}"))
        }
        ["round", name, suite, operation, length, count, milliseconds, layout] => {
            let mut memory = Memory::new(number(length, MAX_LENGTH)?, number(count, BATCH)?, layout)?;
            let (mut way, mut batch) = (way(name, suite)?, memory.batch());
            let time = Duration::from_millis(number(milliseconds, 10_000)? as u64);
            let measured = match operation {
                "seal" => measure(time, batch.count, || way.seal(&mut batch) == batch.count),
                "open" => prepare_to_open(&mut *way, &mut batch).and_then(|()| {
                    measure(time, batch.count, || {
                        let good = way.open(&mut batch);
                        batch.restart(batch.turn ^ 1);
                        good == batch.count
                    })
                }),
                _ => return Err(format!("operations are seal and open, not {operation}")),
            };
            measured.map(|nanoseconds| format!("{nanoseconds:.3}")).ok_or_else(|| format!("{name} failed"))
        }
        _ => Err("unknown command".to_owned()),
    }
}

/// The text alternates between plaintext and ciphertext. In counter mode each is the ciphertext of the other under the same nonce, so with a tag for each
/// every opening is of something authentic, in place, and nothing has to be put back in between.
fn prepare_to_open(way: &mut dyn Way, batch: &mut Batch<'_>) -> Option<()> {
    for turn in [0, 1, 0] {
        batch.restart(turn);
        if way.seal(batch) != batch.count {
            return None;
        }
    }
    batch.restart(0);
    Some(())
}

fn number(text: &str, most: usize) -> Result<usize, String> {
    text.parse().ok().filter(|number| (1..=most).contains(number)).ok_or_else(|| format!("numbers from 1 to {most} here, not {text}"))
}

/// Nanoseconds per packet: the median of slices, so that what else the machine did in a few of them does not count. `None` once a call fails.
fn measure(time: Duration, count: usize, mut once: impl FnMut() -> bool) -> Option<f64> {
    // Warms up, and tells how many calls make a slice.
    let (begin, mut calls) = (Instant::now(), 0);
    while calls == 0 || begin.elapsed() < time / 10 {
        if !once() {
            return None;
        }
        calls += 1;
    }
    let each = (calls * SLICE.as_nanos() / begin.elapsed().as_nanos().max(1)) as u32 + 1;
    let (begin, mut slices) = (Instant::now(), Vec::with_capacity(MAX_SLICES));
    while slices.len() < LEAST_SLICES || slices.len() < MAX_SLICES && begin.elapsed() < time {
        let start = Instant::now();
        for _ in 0..each {
            if !once() {
                return None;
            }
        }
        slices.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(each) / f64::from(count as u32));
    }
    slices.sort_unstable_by(f64::total_cmp);
    slices.get(slices.len() / 2).copied()
}

/// Seals, and returns a digest of ciphertexts and tags; opens, and sees that everything is authentic and as before, and that a damaged packet
/// is not.
fn check(way: &mut dyn Way, batch: &mut Batch<'_>) -> Result<u64, &'static str> {
    if way.seal(batch) != batch.count {
        return Err("does not seal");
    }
    let length = batch.length;
    let digest = batch.packets().flat_map(|packet| &packet[..length + TAG]).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        // FNV-1a: enough to see that two programs made the same bytes.
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    batch.restart(0);
    if way.open(batch) != batch.count || !batch.is_pattern() {
        return Err("does not open what it sealed");
    }
    batch.restart(0);
    if way.seal(batch) != batch.count {
        return Err("does not seal twice");
    }
    let damaged = batch.count / 2;
    if let Some(packet) = batch.packets().nth(damaged) {
        packet[length - 1] ^= 1;
    }
    batch.restart(0);
    if way.open(batch) != batch.count - 1 {
        return Err("takes a damaged packet");
    }
    Ok(digest)
}

/// Bytes of Ethernet, IPv4 and ESP with its IV: what is before a text in a packet.
const HEADERS: usize = 14 + 20 + 16;

/// What the texts of a batch lie in, and the two tags behind each.
enum Memory {
    /// In a row, each at an address divisible by 64.
    Packed { bytes: Vec<u8>, length: usize, count: usize },
    /// Each in one of the product's packet buffers, behind headers.
    Buffers { buffers: Vec<Buffer>, length: usize },
}

impl Memory {
    fn new(length: usize, count: usize, layout: &str) -> Result<Self, String> {
        match layout {
            "packed" => Ok(Self::Packed { bytes: vec![0; stride(length) * count + 64], length, count }),
            "buffers" => {
                let mut pool = BufferPool::new();
                let mut buffers: Vec<Buffer> = (0..count).map(|_| pool.take(HEADERS + length + TAG)).collect();
                for buffer in &mut buffers {
                    // The second tag is in the tailroom: a packet of the product has one.
                    buffer.append(TAG).map_err(|error| error.to_string())?;
                }
                Ok(Self::Buffers { buffers, length })
            }
            _ => Err(format!("layouts are packed and buffers, not {layout}")),
        }
    }

    fn batch(&mut self) -> Batch<'_> {
        let (packets, length): (Vec<&mut [u8]>, usize) = match self {
            Self::Packed { bytes, length, count } => {
                let start = bytes.as_ptr().align_offset(64);
                (bytes[start..].chunks_exact_mut(stride(*length)).take(*count).collect(), *length)
            }
            Self::Buffers { buffers, length } => (buffers.iter_mut().map(|buffer| &mut buffer.as_mut_slice()[HEADERS..]).collect(), *length),
        };
        let mut batch = Batch { count: packets.len(), packets, length, turn: 0, counter: 0 };
        for (i, packet) in batch.packets().enumerate() {
            packet[..length].iter_mut().enumerate().for_each(|(j, byte)| *byte = pattern(i, j));
        }
        batch
    }
}

/// Bytes from one packed text to the next.
const fn stride(length: usize) -> usize {
    (length + 2 * TAG).next_multiple_of(64) + 64
}

/// Packets, each a text and behind it two tags: that of what it is now, and that of what opening makes of it.
struct Batch<'m> {
    packets: Vec<&'m mut [u8]>,
    /// Bytes of a text.
    length: usize,
    count: usize,
    /// Which tag is meant, 0 or 1.
    turn: usize,
    /// The last packet's IV and sequence number.
    counter: u64,
}

impl Batch<'_> {
    /// The same nonces as ever from here, for tag `turn`.
    fn restart(&mut self, turn: usize) {
        (self.counter, self.turn) = (0, turn);
    }

    fn packets(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.packets.iter_mut().map(|packet| &mut **packet)
    }

    fn is_pattern(&mut self) -> bool {
        let length = self.length;
        self.packets().enumerate().all(|(i, packet)| packet[..length].iter().enumerate().all(|(j, byte)| *byte == pattern(i, j)))
    }

    /// Number, text and tag of every packet.
    fn parts(&mut self) -> impl Iterator<Item = (u64, &mut [u8], &mut [u8; TAG])> {
        let Self { length, turn, count, .. } = *self;
        let first = self.counter + 1;
        self.counter += count as u64;
        (first..).zip(self.packets()).filter_map(move |(number, packet)| {
            let (text, tags) = packet.split_at_mut(length);
            Some((number, text, tags.get_mut(turn * TAG..)?.first_chunk_mut()?))
        })
    }
}

/// The same bytes in all programs.
fn pattern(packet: usize, at: usize) -> u8 {
    (packet * 31 + at * 7 + at / 256) as u8
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = *b"salt\0\0\0\0\0\0\0\0";
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// Something that seals and opens batches in place. Both return how many packets went well.
trait Way {
    fn seal(&mut self, batch: &mut Batch<'_>) -> usize;
    fn open(&mut self, batch: &mut Batch<'_>) -> usize;
}

fn way(name: &str, suite: &str) -> Result<Box<dyn Way>, String> {
    let key: Vec<u8> = (0..32).map(|i| i * 11 + 1).collect();
    let key = match suite {
        "aes-gcm-128" => &key[..16],
        "aes-gcm-192" => &key[..24],
        "aes-gcm-256" => &key[..],
        _ => return Err(format!("no suite {suite}")),
    };
    if name == KERNEL {
        let kernel = Kernel::best();
        return Ok(Box::new(Bare { kernel, key: kernel.key(key, TAG).map_err(|error| error.to_string())? }));
    }
    let crypto = name.parse::<Crypto>().map_err(|error| error.to_string())?;
    let encryption = suite.parse().map_err(|_| format!("no suite {suite}"))?;
    let key = crypto.key(&KeyParameters::combined(encryption, key, TAG)).map_err(|error| error.to_string())?;
    Ok(Box::new(Whole { crypto, key, scratch: Scratch::new() }))
}

/// A provider, as the engine calls it.
struct Whole {
    crypto: Crypto,
    key: CryptoKey,
    scratch: Scratch,
}

impl Way for Whole {
    fn seal(&mut self, batch: &mut Batch<'_>) -> usize {
        let mut jobs = SealBatch::new();
        for (number, text, tag) in batch.parts() {
            jobs.push(SealJob::new(&self.key, nonce(number), Aad::esp(SPI, number, false), Data::InPlace(text), tag));
        }
        self.crypto.seal(&mut jobs);
        jobs.iter().filter(|job| job.verdict.is_good()).count()
    }

    fn open(&mut self, batch: &mut Batch<'_>) -> usize {
        let mut jobs = OpenBatch::new();
        for (number, text, tag) in batch.parts() {
            jobs.push(OpenJob::new(&self.key, nonce(number), Aad::esp(SPI, number, false), Data::InPlace(text), tag));
        }
        self.crypto.open(&mut jobs, &mut self.scratch);
        jobs.iter().filter(|job| job.verdict.is_good()).count()
    }
}

/// The kernel, with jobs that have nothing more than it needs.
struct Bare {
    kernel: Kernel,
    key: Key,
}

struct Job<'a> {
    key: &'a Key,
    nonce: [u8; 12],
    aad: [u8; 8],
    text: &'a mut [u8],
    tag: &'a mut [u8; TAG],
    good: bool,
}

impl Bare {
    #[inline(always)]
    fn jobs<'a>(&'a self, batch: &'a mut Batch<'_>) -> ArrayVec<Job<'a>, BATCH> {
        let mut jobs = ArrayVec::new();
        for (number, text, tag) in batch.parts() {
            let mut aad = [0; 8];
            aad[..4].copy_from_slice(&SPI);
            aad[4..].copy_from_slice(&(number as u32).to_be_bytes());
            jobs.push(Job { key: &self.key, nonce: nonce(number), aad, text, tag, good: false });
        }
        jobs
    }
}

impl Way for Bare {
    fn seal(&mut self, batch: &mut Batch<'_>) -> usize {
        let mut jobs = self.jobs(batch);
        self.kernel.seal(&mut jobs);
        jobs.iter().filter(|job| job.good).count()
    }

    fn open(&mut self, batch: &mut Batch<'_>) -> usize {
        let mut jobs = self.jobs(batch);
        self.kernel.open(&mut jobs);
        jobs.iter().filter(|job| job.good).count()
    }
}

impl Seal for Job<'_> {
    #[inline(always)]
    fn parts(&mut self) -> Option<SealParts<'_>> {
        Some(SealParts { key: self.key, nonce: Nonce::new(&self.nonce), aad: AadParts::Bytes(&self.aad), text: Text::InPlace(self.text), tag: self.tag })
    }

    #[inline(always)]
    fn conclude(&mut self, good: bool) {
        self.good = good;
    }
}

impl Open for Job<'_> {
    #[inline(always)]
    fn parts(&mut self) -> Option<OpenParts<'_>> {
        Some(OpenParts { key: self.key, nonce: Nonce::new(&self.nonce), aad: AadParts::Bytes(&self.aad), text: Text::InPlace(self.text), tag: self.tag })
    }

    #[inline(always)]
    fn conclude(&mut self, good: bool) {
        self.good = good;
    }
}
