//! By the clock: whether a kernel takes longer for one secret than for others (Reparaz, Balasch, Verbauwhede, "dude, is my code constant time?", 2017).
//!
//! Each measurement is of one of two classes, in random order. A class has one fixed secret, the other a new one each time; or the two are wrong in
//! different places. Welch's t says how far apart the mean times are, in units of what chance makes of them. It is computed over all measurements
//! and over the fastest 99, 95, 90, 75 and 50 hundredths, as interrupts and other programs only make a measurement slower; the largest |t| counts. Code
//! that leaks on purpose must be found.
//!
//! `scripts/mbcrypto-timing` builds and runs it. It says what it measures by, and fails when a |t| is above the limit.

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::rc::Rc;

use mbcrypto::{Kernel, Key, Path};
use mbcrypto_constant_time::{Job, Message, Numbers};

/// Secrets that are prepared; both classes' take turns in memory, so that caches treat them alike.
const SLOTS: usize = 1024;

/// Packets of a batch.
const BATCH: usize = 8;

/// Above this the two classes differ: chance alone gets there once in a hundred thousand tests.
const LIMIT: f64 = 4.5;

/// Parts of the measurements, the fastest ones, in hundredths.
const PARTS: [usize; 6] = [100, 99, 95, 90, 75, 50];

fn main() -> ExitCode {
    let mut measurements = 200_000;
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next();
        match (name.as_str(), value.as_deref().map(|value| (value, value.parse()))) {
            ("--measurements", Some((_, Ok(number)))) if number >= 1000 => measurements = number,
            ("--path", Some((value, _))) if Path::ALL.iter().any(|path| path.name() == value) => only = Some(value.to_owned()),
            _ => {
                eprintln!("usage: clock [--measurements N (200000, at least 1000)] [--path avx512|avx2|aes-ni|portable]");
                return ExitCode::from(2);
            }
        }
    }
    println!("{measurements} measurements each, batches of {BATCH} packets, in cycles of the time stamp counter; a |t| above {LIMIT} is a leak\n");
    println!(
        "| path | bytes | operation | classes | median | t, of all and of the fastest 99, 95, 90, 75, 50 % | largest |t| |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    let mut bad = 0;
    for path in Path::ALL.into_iter().filter(|path| only.as_ref().is_none_or(|only| only == path.name())) {
        let Some(kernel) = Kernel::new(path) else {
            eprintln!("clock: this processor has not the instructions of {path}");
            continue;
        };
        for length in [64, 1420] {
            for test in tests(kernel, length) {
                let mut result = test.run(measurements);
                // Once more, before it is believed: a true difference stays.
                if result.largest > LIMIT {
                    result = test.run(2 * measurements);
                }
                bad += usize::from(result.largest > LIMIT);
                println!("| {path} | {length} | {} | {} | {} | {} | {:.1} |", test.operation, test.classes, result.median, result.all, result.largest);
            }
        }
    }
    let leak = early_comparison().run(measurements);
    println!("\nleaking on purpose, a comparison that ends early: t {}, largest |t| {:.1}", leak.all, leak.largest);
    if leak.largest <= LIMIT {
        eprintln!("clock: this machine is too noisy to find a leak");
        return ExitCode::FAILURE;
    }
    if bad > 0 {
        eprintln!("clock: {bad} tests found a difference");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Something to measure with the secret of a slot.
struct Test<'a> {
    operation: &'static str,
    classes: &'static str,
    /// Puts the secret of a slot where it is worked on: not measured.
    prepare: Step<'a>,
    work: Step<'a>,
}

/// Something that is done with a slot's secret.
type Step<'a> = Box<dyn Fn(&mut State, usize) + 'a>;

/// What every measurement works on: the same memory, so that caches treat all secrets alike.
struct State {
    texts: [Vec<u8>; BATCH],
    tags: [[u8; 16]; BATCH],
    keys: [Option<Key>; BATCH],
    /// Each packet has a key of its own; otherwise all have the first.
    each: bool,
}

impl State {
    fn new() -> Self {
        Self { texts: core::array::from_fn(|_| vec![0; 2048]), tags: [[0; 16]; BATCH], keys: [const { None }; BATCH], each: false }
    }
}

/// Numbers of a test.
struct Outcome {
    median: u64,
    all: String,
    largest: f64,
}

impl Test<'_> {
    fn run(&self, measurements: usize) -> Outcome {
        let mut numbers = Numbers::new(99);
        let mut state = State::new();
        let mut times: [Vec<u64>; 2] = [Vec::with_capacity(measurements), Vec::with_capacity(measurements)];
        for number in 0..measurements + measurements / 10 {
            let slot = (numbers.number() >> 32) as usize % SLOTS;
            (self.prepare)(&mut state, slot);
            let begin = now();
            (self.work)(&mut state, slot);
            let time = now() - begin;
            // The first are for warming up.
            if number >= measurements / 10 {
                times[class(slot)].push(time);
            }
        }
        let mut sorted: Vec<u64> = times.iter().flatten().copied().collect();
        sorted.sort_unstable();
        let (mut all, mut largest) = (String::new(), 0.0_f64);
        for part in PARTS {
            let limit = sorted[(sorted.len() - 1) * part / 100];
            let t = welch(&times, limit);
            largest = largest.max(t.abs());
            write!(all, "{}{t:.1}", if all.is_empty() { "" } else { ", " }).expect("a string takes everything");
        }
        Outcome { median: sorted[sorted.len() / 2], all, largest }
    }
}

/// Slots of the two classes are mixed as if at random, so that neither has better places in memory.
fn class(slot: usize) -> usize {
    (slot.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) & 1
}

/// Welch's t of those times that are not above the limit.
fn welch(times: &[Vec<u64>; 2], limit: u64) -> f64 {
    let [first, second] = times.each_ref().map(|times| {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for &time in times.iter().filter(|&&time| time <= limit) {
            let time = time as f64;
            count += 1.0;
            let off = time - mean;
            mean += off / count;
            squares += off * (time - mean);
        }
        (mean, squares / (count - 1.0) / count)
    });
    let spread = (first.1 + second.1).sqrt();
    if spread > 0.0 { (first.0 - second.0) / spread } else { 0.0 }
}

/// A class's bytes: the fixed ones, or some that nobody else has.
fn secret<const N: usize>(numbers: &mut Numbers, slot: usize) -> [u8; N] {
    let mut bytes = [0; N];
    numbers.fill(&mut bytes);
    if class(slot) == 0 { [0; N] } else { bytes }
}

fn tests<'a>(kernel: Kernel, length: usize) -> Vec<Test<'a>> {
    let mut numbers = Numbers::new(5);
    let keys = (0..SLOTS).map(|slot| secret(&mut numbers, slot)).collect();
    let texts = (0..SLOTS).map(|slot| secret::<2048>(&mut numbers, slot)[..length].to_vec()).collect();
    let slots = Rc::new(Slots { kernel, length, keys, texts });

    // What is measured.
    let seal = move |state: &mut State| {
        let mut jobs = jobs(state, length);
        kernel.seal(&mut jobs);
        assert!(jobs.iter().all(|job| job.good));
    };
    let open = move |state: &mut State, good: bool| {
        let mut jobs = jobs(state, length);
        kernel.open(&mut jobs);
        assert!(jobs.iter().all(|job| job.good == good));
    };
    let authenticate = move |state: &mut State| {
        let State { texts: [first, ..], keys: [Some(key), ..], .. } = state else { panic!("there is a key") };
        let mut messages: [Message<'_>; BATCH] =
            core::array::from_fn(|number| Message { key, nonce: [number as u8; 12], parts: [&[7; 44], &first[..length], &[]], tag: [0; 16] });
        kernel.authenticate(&mut messages);
        black_box(&messages[0].tag);
    };

    let mut all: Vec<Test<'a>> = Vec::new();
    for secret in [Secret::Key, Secret::Keys, Secret::Text, Secret::Tag] {
        let own = Rc::clone(&slots);
        let fresh = move |state: &mut State, slot: usize| own.load(state, secret, slot);
        // What a slot's packets look like sealed.
        let arrived: Vec<Sealed> = (0..SLOTS)
            .map(|slot| {
                let mut state = State::new();
                fresh(&mut state, slot);
                seal(&mut state);
                (state.texts.iter().map(|text| text[..length].to_vec()).collect(), state.tags)
            })
            .collect();
        if secret != Secret::Tag {
            all.push(Test { operation: "seal", classes: secret.name(), prepare: Box::new(fresh.clone()), work: Box::new(move |state, _| seal(state)) });
        }
        let again = fresh.clone();
        let restore = move |state: &mut State, slot: usize| {
            again(state, slot);
            let (texts, tags) = &arrived[slot];
            for ((to, from), (tag, made)) in state.texts.iter_mut().zip(texts).zip(state.tags.iter_mut().zip(tags)) {
                to[..length].copy_from_slice(from);
                *tag = *made;
                if secret == Secret::Tag {
                    tag[15 * class(slot)] ^= 0x10;
                }
            }
        };
        let work = move |state: &mut State, _: usize| open(state, secret != Secret::Tag);
        all.push(Test { operation: "open", classes: secret.name(), prepare: Box::new(restore), work: Box::new(work) });
        if matches!(secret, Secret::Key | Secret::Text) {
            all.push(Test { operation: "authenticate", classes: secret.name(), prepare: Box::new(fresh), work: Box::new(move |state, _| authenticate(state)) });
        }
    }
    if length == 64 {
        // From the same place to the same place.
        let prepare = move |state: &mut State, slot: usize| state.tags[0] = slots.keys[slot];
        let work = move |state: &mut State, _: usize| drop(black_box(kernel.key(&state.tags[0], 16)));
        all.push(Test { operation: "expand a key", classes: Secret::Key.name(), prepare: Box::new(prepare), work: Box::new(work) });
    }
    all
}

/// Texts and tags of a slot's packets.
type Sealed = (Vec<Vec<u8>>, [[u8; 16]; BATCH]);

/// What is secret in a test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    /// The key of all packets.
    Key,
    /// The keys of the packets, each of which has its own; kernels treat such a batch otherwise.
    Keys,
    Text,
    /// Where a tag is wrong.
    Tag,
}

impl Secret {
    const fn name(self) -> &'static str {
        match self {
            Self::Key => "key: zero, any",
            Self::Keys => "keys, one for each packet: zero, any",
            Self::Text => "text: zero, any",
            Self::Tag => "tag: wrong in its first byte, in its last",
        }
    }
}

/// The secrets of all slots.
struct Slots {
    kernel: Kernel,
    length: usize,
    keys: Vec<[u8; 16]>,
    texts: Vec<Vec<u8>>,
}

impl Slots {
    /// Puts a slot's secret, and what is no secret, where packets are worked on.
    fn load(&self, state: &mut State, secret: Secret, slot: usize) {
        let expand = |key: &[u8; 16]| Some(self.kernel.key(key, 16).expect("the lengths are right"));
        state.each = secret == Secret::Keys;
        match secret {
            Secret::Key => state.keys[0] = expand(&self.keys[slot]),
            Secret::Keys => state.keys.iter_mut().zip(fellows(slot)).for_each(|(key, slot)| *key = expand(&self.keys[slot])),
            Secret::Text | Secret::Tag => state.keys[0] = expand(b"sixteen byte key"),
        }
        for text in &mut state.texts {
            let text = &mut text[..self.length];
            if secret == Secret::Text { text.copy_from_slice(&self.texts[slot]) } else { text.fill(0x5a) }
        }
    }
}

/// This slot and the next ones of its class.
fn fellows(slot: usize) -> [usize; BATCH] {
    let mut fellows = (0..SLOTS).map(|off| (slot + off) % SLOTS).filter(|&other| class(other) == class(slot));
    core::array::from_fn(|_| fellows.next().expect("half of the slots are of a class"))
}

fn jobs(state: &mut State, length: usize) -> [Job<'_>; BATCH] {
    let State { texts, tags, keys, each } = state;
    let mut parts = texts.iter_mut().zip(tags);
    core::array::from_fn(|number| {
        let (text, tag) = parts.next().expect("there are as many");
        let key = keys[if *each { number } else { 0 }].as_ref().expect("a slot was loaded");
        Job { key, nonce: [number as u8; 12], aad: &[7; 8], text: &mut text[..length], source: None, tag, good: false }
    })
}

/// Code as it must not be.
fn early_comparison() -> Test<'static> {
    let prepare = |state: &mut State, slot: usize| {
        state.tags[0] = [0x41; 16];
        state.tags[0][15 * class(slot)] ^= 0x10;
    };
    let work = |state: &mut State, _: usize| {
        black_box(state.tags[0].iter().zip(&[0x41; 16]).all(|(made, received)| black_box(made) == received));
    };
    Test { operation: "compare", classes: "", prepare: Box::new(prepare), work: Box::new(work) }
}

/// The processor's time stamp, when all that was begun before is done.
#[cfg(target_arch = "x86_64")]
fn now() -> u64 {
    use core::arch::x86_64::{__rdtscp, _mm_lfence};
    let mut processor = 0;
    // SAFETY: every processor of this family that has AES instructions has it; it only writes to the place given.
    let time = unsafe { __rdtscp(&raw mut processor) };
    // SAFETY: part of SSE2, which all of the family have.
    unsafe { _mm_lfence() };
    time
}

#[cfg(not(target_arch = "x86_64"))]
fn now() -> u64 {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed().as_nanos() as u64
}
