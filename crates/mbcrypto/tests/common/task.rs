//! Batches of jobs of any kind, good and bad, done on every path and held against two other libraries: what the random jobs and the
//! fuzz target share.

use core::fmt;

use mbcrypto::{Kernel, Key, Path};

use super::{Job, Mac, Reference};

/// A key with one ICV length, for every path and for the references.
pub struct Secret {
    /// In the order of the kernels that it was made for.
    keys: Vec<Key>,
    /// Likewise, what such a kernel cannot use: a key of the portable path, or for that one's a key of another.
    foreign: Vec<Option<Key>>,
    reference: Reference,
    icv_length: usize,
}

impl Secret {
    pub fn new(kernels: &[Kernel], key: &[u8], icv_length: usize) -> Self {
        let portable = |kernel: &&Kernel| kernel.path() == Path::Portable;
        let foreign = |kernel: &Kernel| kernels.iter().find(|other| portable(other) != portable(&kernel)).map(|other| other.key(key, icv_length).unwrap());
        Self {
            keys: kernels.iter().map(|kernel| kernel.key(key, icv_length).unwrap()).collect(),
            foreign: kernels.iter().map(foreign).collect(),
            reference: Reference::new(key),
            icv_length,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ICV of {} bytes", self.icv_length)
    }
}

/// What is wrong with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It says that it is not for this crate.
    Skipped,
    /// Key of another family of paths.
    Foreign,
    /// More additional data than there may be.
    LongAad,
    /// A tag that is longer or shorter by one byte.
    LongTag,
    ShortTag,
    /// Source and destination of different lengths; nothing is wrong in place.
    Source,
    /// A bit is wrong on arrival, in the ciphertext, the AAD, the tag, or the nonce: the number wraps around. Nothing is wrong with sealing.
    Bit(usize),
}

/// A packet to seal and to open.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub secret: &'a Secret,
    pub nonce: [u8; 12],
    pub aad: &'a [u8],
    pub text: &'a [u8],
    /// Place of the text from a boundary of 64 bytes, less than 64.
    pub shift: usize,
    pub copy: bool,
    pub fault: Fault,
}

impl Task<'_> {
    /// The job for kernel `number`, to seal or to open.
    fn job(&self, number: usize, nonce: [u8; 12], aad: &[u8], text: &[u8], tag: &[u8]) -> Job<'_> {
        let secret = self.secret;
        let mut job = Job::new(&secret.keys[number], nonce, aad, text, self.shift, self.copy, tag);
        match self.fault {
            Fault::Skipped => job.skip = true,
            Fault::Foreign => job.key = secret.foreign[number].as_ref().unwrap_or(job.key),
            Fault::LongAad => job.aad.resize(mbcrypto::MAX_AAD + 1, 7),
            Fault::LongTag => job.tag.push(0),
            Fault::ShortTag => drop(job.tag.pop()),
            Fault::Source if self.copy => job.resize_source(text.len() + 1),
            Fault::None | Fault::Source | Fault::Bit(_) => {}
        }
        job
    }

    /// Whether the job cannot be done at all.
    fn impossible(&self, number: usize) -> bool {
        match self.fault {
            Fault::Foreign => self.secret.foreign[number].is_some(),
            Fault::LongAad | Fault::LongTag | Fault::ShortTag => true,
            Fault::Source => self.copy,
            Fault::None | Fault::Skipped | Fault::Bit(_) => false,
        }
    }
}

/// A packet on its way, for opening.
struct Arrived {
    nonce: [u8; 12],
    aad: Vec<u8>,
    text: Vec<u8>,
    tag: Vec<u8>,
}

impl Arrived {
    fn new(task: &Task<'_>, (cipher, tag): &(Vec<u8>, [u8; 16])) -> Self {
        let mut arrived = Self { nonce: task.nonce, aad: task.aad.to_vec(), text: cipher.clone(), tag: tag[..task.secret.icv_length].to_vec() };
        if let Fault::Bit(bit) = task.fault {
            arrived.turn(bit);
        }
        arrived
    }

    fn turn(&mut self, bit: usize) {
        let parts: [&mut [u8]; 4] = [&mut self.text, &mut self.aad, &mut self.tag, &mut self.nonce];
        let mut byte = bit / 8 % parts.iter().map(|part| part.len()).sum::<usize>();
        for part in parts {
            if let Some(place) = part.get_mut(byte) {
                *place ^= 1 << (bit % 8);
                return;
            }
            byte -= part.len();
        }
    }
}

/// Seals and opens all as one batch on every path.
///
/// # Panics
/// When anything is not as it should be.
pub fn seal_and_open(kernels: &[Kernel], tasks: &[Task<'_>]) {
    let sealed: Vec<(Vec<u8>, [u8; 16])> = tasks.iter().map(|task| task.secret.reference.seal(task.nonce, task.aad, task.text)).collect();
    let arrived: Vec<Arrived> = tasks.iter().zip(&sealed).map(|(task, sealed)| Arrived::new(task, sealed)).collect();
    for (number, &kernel) in kernels.iter().enumerate() {
        seal(kernel, number, tasks, &sealed);
        open(kernel, number, tasks, &arrived);
    }
}

fn seal(kernel: Kernel, number: usize, tasks: &[Task<'_>], sealed: &[(Vec<u8>, [u8; 16])]) {
    let room = [0xdd; 16];
    let mut jobs: Vec<Job<'_>> = tasks.iter().map(|task| task.job(number, task.nonce, task.aad, task.text, &room[..task.secret.icv_length])).collect();
    kernel.seal(&mut jobs);
    for (i, ((job, task), (cipher, tag))) in jobs.iter().zip(tasks).zip(sealed).enumerate() {
        let what = || format!("{kernel:?}: sealing {i} of {}, {task:?}", tasks.len());
        if task.fault == Fault::Skipped {
            assert!(job.good.is_none() && job.tag.iter().all(|&byte| byte == 0xdd), "{}", what());
            assert!(task.copy || job.text() == task.text, "{}", what());
        } else if task.impossible(number) {
            assert_eq!(job.good, Some(false), "{}", what());
            assert!(job.text().iter().chain(&job.tag).all(|&byte| byte == 0), "not wiped: {}", what());
        } else {
            assert_eq!(job.good, Some(true), "{}", what());
            assert!(job.text() == cipher, "wrong ciphertext: {}", what());
            assert_eq!(job.tag, tag[..task.secret.icv_length], "{}", what());
        }
        job.check_guards();
    }
}

fn open(kernel: Kernel, number: usize, tasks: &[Task<'_>], arrived: &[Arrived]) {
    let mut jobs: Vec<Job<'_>> =
        tasks.iter().zip(arrived).map(|(task, arrived)| task.job(number, arrived.nonce, &arrived.aad, &arrived.text, &arrived.tag)).collect();
    kernel.open(&mut jobs);
    for (i, ((job, task), arrived)) in jobs.iter().zip(tasks).zip(arrived).enumerate() {
        let what = || format!("{kernel:?}: opening {i} of {}, {task:?}", tasks.len());
        if task.fault == Fault::Skipped {
            assert!(job.good.is_none() && (task.copy || job.text() == arrived.text), "{}", what());
        } else if task.impossible(number) || matches!(task.fault, Fault::Bit(_)) {
            assert_eq!(job.good, Some(false), "{}", what());
            if task.copy {
                assert!(job.text().iter().all(|&byte| byte == 0), "not wiped: {}", what());
            } else {
                assert!(job.text() == arrived.text, "not as it came: {}", what());
            }
        } else {
            assert_eq!(job.good, Some(true), "{}", what());
            assert!(job.text() == task.text, "wrong plaintext: {}", what());
        }
        job.check_guards();
    }
}

impl fmt::Debug for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, nonce, aad, text, shift, copy, fault } = self;
        write!(f, "{} bytes at {shift}, copy {copy}, AAD of {}, nonce {nonce:02x?}, {secret:?}, fault {fault:?}", text.len(), aad.len())
    }
}

/// Data to authenticate, in parts.
#[derive(Clone)]
pub struct Message<'a> {
    pub secret: &'a Secret,
    pub nonce: [u8; 12],
    pub parts: Vec<&'a [u8]>,
    /// Not for this crate, as far as its owner knows.
    pub skipped: bool,
    /// The key is of another family of paths.
    pub foreign: bool,
}

/// Authenticates all as one batch on every path.
///
/// # Panics
/// When a tag is not as it should be.
pub fn authenticate(kernels: &[Kernel], messages: &[Message<'_>]) {
    let tags: Vec<[u8; 16]> = messages.iter().map(|message| message.secret.reference.seal(message.nonce, &message.parts.concat(), &[]).1).collect();
    for (number, &kernel) in kernels.iter().enumerate() {
        let foreign = |message: &Message<'_>| message.secret.foreign[number].is_some() && message.foreign;
        let mut jobs: Vec<Mac<'_>> = messages
            .iter()
            .map(|message| {
                let secret = message.secret;
                let key = if foreign(message) { secret.foreign[number].as_ref().unwrap() } else { &secret.keys[number] };
                Mac { key, nonce: message.nonce, data: &message.parts, tag: None, concluded: false, skip: message.skipped }
            })
            .collect();
        kernel.authenticate(&mut jobs);
        for (i, ((job, message), tag)) in jobs.iter().zip(messages).zip(&tags).enumerate() {
            let lengths: Vec<usize> = message.parts.iter().map(|part| part.len()).collect();
            let what = || format!("{kernel:?}: message {i} of {}, parts of {lengths:?}, {:?}", messages.len(), message.secret);
            assert_eq!(job.concluded, !message.skipped, "{}", what());
            assert_eq!(job.tag.as_ref(), (!message.skipped && !foreign(message)).then_some(tag), "{}", what());
        }
    }
}
