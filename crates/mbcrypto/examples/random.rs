//! Random jobs, of all kinds, on every path, against aws-lc-rs and RustCrypto, for as long as is wanted.
//!
//! `scripts/mbcrypto-random` builds and runs it. Each batch has a number, and comes from it and the seed alone, so one that fails can be repeated by itself.

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::task::{Fault, Message, Secret, Task, authenticate, seal_and_open};
use common::{Numbers, kernels};
use mbcrypto::{ICV_LENGTHS, Kernel};

const USAGE: &str = "\
usage: random [--jobs N] [--seed N] [--batch N]
  --jobs N    jobs to do, each on every path (100000000)
  --seed N    where the numbers come from (the time)
  --batch N   only this batch of the seed";

/// Bytes of the pool that texts are cut out of.
const POOL: usize = 1 << 16;

/// Keys of the pool; a new one takes the place of the oldest every few batches.
const SECRETS: usize = 48;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("random: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let kernels = kernels();
    println!("seed {}, {} jobs, paths {}", options.seed, options.jobs, kernels.iter().map(|kernel| kernel.path().name()).collect::<Vec<_>>().join(", "));
    run(&kernels, &options);
    ExitCode::SUCCESS
}

struct Options {
    jobs: u64,
    seed: u64,
    batch: Option<u64>,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
        let mut options = Self { jobs: 100_000_000, seed: time, batch: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name}: a number is missing"))?;
            let number = value.parse().map_err(|_| format!("{name}: {value:?} is no number"))?;
            match name.as_str() {
                "--jobs" => options.jobs = number,
                "--seed" => options.seed = number,
                "--batch" => options.batch = Some(number),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }
}

/// Says which batch it was, should one fail.
struct Place {
    seed: u64,
    batch: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "failed in batch {batch} of seed {seed}; again: scripts/mbcrypto-random --seed {seed} --batch {batch}",
                seed = self.seed,
                batch = self.batch
            );
        }
    }
}

fn run(kernels: &[Kernel], options: &Options) {
    let pool = Numbers::new(options.seed).bytes(POOL);
    let mut place = Place { seed: options.seed, batch: options.batch.unwrap_or(0) };
    let (mut done, mut tally) = (0, Tally::default());
    let (started, mut shown) = (Instant::now(), Instant::now());
    // The keys of a block of batches come from the block's number, so that a batch can be repeated without those before it.
    let mut secrets = (u64::MAX, Vec::new());
    while done < options.jobs {
        let block = place.batch / 256;
        if secrets.0 != block {
            let mut numbers = Numbers::new(options.seed.wrapping_add(block.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let secret = |_| Secret::new(kernels, &numbers.key(), ICV_LENGTHS[numbers.below(3)]);
            secrets = (block, (0..SECRETS).map(secret).collect());
        }
        let mut numbers = Numbers::new(options.seed ^ place.batch.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(17));
        done += batch(kernels, &secrets.1, &pool, &mut numbers, &mut tally);
        if options.batch.is_some() {
            break;
        }
        place.batch += 1;
        if shown.elapsed() > Duration::from_secs(10) {
            shown = Instant::now();
            eprintln!("{done} jobs, {} batches, {} jobs/s", place.batch, u128::from(done) * 1000 / started.elapsed().as_millis().max(1));
        }
    }
    println!(
        "{done} jobs in {} batches as they should be: {} sealed and opened, {} not to be opened, {} impossible, {} skipped, {} authenticated; {} bytes; {:.0} s",
        place.batch + u64::from(options.batch.is_some()),
        tally.good,
        tally.forged,
        tally.impossible,
        tally.skipped,
        tally.messages,
        tally.bytes,
        started.elapsed().as_secs_f64()
    );
}

#[derive(Default)]
struct Tally {
    good: u64,
    forged: u64,
    impossible: u64,
    skipped: u64,
    messages: u64,
    bytes: u64,
}

/// Does one batch; how many jobs it had.
fn batch(kernels: &[Kernel], secrets: &[Secret], pool: &[u8], numbers: &mut Numbers, tally: &mut Tally) -> u64 {
    let size = [1 + numbers.below(64), 1 + numbers.below(64), 32, 64, 1 + numbers.below(150)][numbers.below(5)];
    // Traffic is of one kind, or a mixture; under one key, or under few or many.
    let (same, mixture, keys) = (numbers.below(300), numbers.below(6), [1, 1, 2, 5, SECRETS][numbers.below(5)]);
    let first = numbers.below(SECRETS);
    let cut = |numbers: &mut Numbers, length: usize| {
        let begin = numbers.below(POOL - length);
        &pool[begin..begin + length]
    };
    let length = |numbers: &mut Numbers| match mixture {
        0 => same,
        1 => numbers.below(100),
        2 => [64, 576, 1420, 80, 48, 240][numbers.below(6)],
        3 => numbers.below(2049),
        4 => 16 * numbers.below(40),
        _ => match numbers.below(100) {
            0 => numbers.below(20_000),
            1..10 => numbers.below(1500),
            _ => numbers.below(200),
        },
    };
    let secret = |numbers: &mut Numbers| &secrets[(first + numbers.below(keys)) % SECRETS];
    if numbers.below(8) == 0 {
        let messages: Vec<Message<'_>> = (0..size)
            .map(|_| {
                let length = length(numbers);
                let (mut rest, mut parts) = (cut(numbers, length), Vec::new());
                for _ in 0..numbers.below(4) {
                    let (part, after) = rest.split_at(numbers.below(rest.len() + 1));
                    parts.push(part);
                    rest = after;
                }
                parts.push(rest);
                tally.bytes += length as u64;
                let (skipped, foreign) = (numbers.below(50) == 0, numbers.below(50) == 0);
                Message { secret: secret(numbers), nonce: numbers.nonce(), parts, skipped, foreign }
            })
            .collect();
        authenticate(kernels, &messages);
        tally.messages += size as u64;
        return size as u64;
    }
    // Most batches have no fault, as in life; some have one, and some many.
    let faults = [0, 0, 0, 0, 100, 100, 8, 2][numbers.below(8)];
    let tasks: Vec<Task<'_>> = (0..size)
        .map(|_| {
            let length = length(numbers);
            let aad = [8, 12, 8, 12, 20, 0, numbers.below(33), 32][numbers.below(8)];
            let fault = if faults > 0 && numbers.below(faults) == 0 { fault(numbers) } else { Fault::None };
            let (nonce, copy) = (numbers.nonce(), numbers.below(4) == 0);
            Task { secret: secret(numbers), nonce, aad: cut(numbers, aad), text: cut(numbers, length), shift: numbers.below(64), copy, fault }
        })
        .collect();
    seal_and_open(kernels, &tasks);
    for task in &tasks {
        tally.bytes += task.text.len() as u64;
        *match task.fault {
            Fault::None => &mut tally.good,
            Fault::Source if !task.copy => &mut tally.good,
            Fault::Bit(_) => &mut tally.forged,
            Fault::Skipped => &mut tally.skipped,
            _ => &mut tally.impossible,
        } += 1;
    }
    size as u64
}

fn fault(numbers: &mut Numbers) -> Fault {
    match numbers.below(16) {
        0 => Fault::Skipped,
        1 => Fault::Foreign,
        2 => Fault::LongAad,
        3 => Fault::LongTag,
        4 => Fault::ShortTag,
        5 => Fault::Source,
        _ => Fault::Bit(numbers.next() as usize),
    }
}
