//! What must hold of any batch of jobs for mbcrypto's kernels: every path gives what two other libraries give, what was sealed opens, what is damaged does
//! not and is left as it came, what is impossible is refused and wiped, and nothing beside a text is written.
//!
//! Shared by the fuzz target and by the test that replays its seeds and crashes.
//!
//! Input: a byte of choices (1: messages to authenticate instead of packets), then for each job eight bytes: choices, number of a key, two numbers that say
//! where something lies or what is wrong, the length of the AAD or of a part, the length of the text (two bytes), a byte that all contents come from.

use std::sync::LazyLock;

use mbcrypto::{ICV_LENGTHS, Kernel};

use crate::common::task::{Fault, Message, Secret, Task, authenticate, seal_and_open};
use crate::common::{Numbers, kernels};

/// Jobs of one input; two of the driver's and four of the kernels' groups of packets.
const JOBS: usize = 130;

/// Bytes of a text are less than this; longer ones show a fuzzer nothing new.
const TEXT: usize = 2400;

static KERNELS: LazyLock<Vec<Kernel>> = LazyLock::new(kernels);

/// Keys of every length, two of each, with every ICV length.
static SECRETS: LazyLock<Vec<Secret>> = LazyLock::new(|| {
    let mut numbers = Numbers::new(1);
    let keys: Vec<Vec<u8>> = [16, 24, 32, 16, 24, 32].map(|length| numbers.bytes(length)).to_vec();
    keys.iter().flat_map(|key| ICV_LENGTHS.map(|icv_length| Secret::new(&KERNELS, key, icv_length))).collect()
});

/// What texts are cut out of.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| Numbers::new(2).bytes(256 * 8 + 2 * TEXT));

/// Takes `data` for a batch.
pub(crate) fn check(data: &[u8]) {
    let Some((&choices, jobs)) = data.split_first() else { return };
    let (jobs, _) = jobs.as_chunks::<8>();
    let jobs = &jobs[..jobs.len().min(JOBS)];
    if choices & 0x01 == 0 {
        seal_and_open(&KERNELS, &jobs.iter().copied().map(task).collect::<Vec<_>>());
    } else {
        authenticate(&KERNELS, &jobs.iter().copied().map(message).collect::<Vec<_>>());
    }
}

fn task([choices, key, place, more, part, high, low, content]: [u8; 8]) -> Task<'static> {
    let noise = &NOISE[8 * usize::from(content)..];
    let wrong = usize::from(place) | usize::from(more) << 8;
    Task {
        secret: &SECRETS[usize::from(key) % SECRETS.len()],
        nonce: nonce(noise),
        aad: &noise[1..][..usize::from(part) % (mbcrypto::MAX_AAD + 1)],
        text: &noise[2..][..length(high, low)],
        shift: usize::from(place) % 64,
        copy: choices & 0x01 != 0,
        fault: match choices >> 1 & 0x0f {
            0..=7 => Fault::None,
            8..=10 => Fault::Bit(wrong),
            11 => Fault::Skipped,
            12 => Fault::Foreign,
            13 => Fault::LongAad,
            14 if place.is_multiple_of(2) => Fault::LongTag,
            14 => Fault::ShortTag,
            _ => Fault::Source,
        },
    }
}

fn message([choices, key, place, more, part, high, low, content]: [u8; 8]) -> Message<'static> {
    let noise = &NOISE[8 * usize::from(content)..];
    let (first, rest) = noise[2..][..length(high, low)].split_at(length(place, more).min(length(high, low)));
    let (second, third) = rest.split_at(usize::from(part).min(rest.len()));
    let parts = match choices >> 4 & 0x03 {
        0 => vec![first, second, third],
        1 => vec![first, &[], third],
        2 => vec![third],
        _ => vec![second, first, &[], &[], third, second],
    };
    Message { secret: &SECRETS[usize::from(key) % SECRETS.len()], nonce: nonce(noise), parts, skipped: choices & 0x0e == 0x0e, foreign: choices & 0x0e == 0x0c }
}

fn length(high: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([high, low])) % TEXT
}

fn nonce(noise: &[u8]) -> [u8; 12] {
    core::array::from_fn(|i| noise[i])
}
