//! Under Valgrind: every operation with keys, texts and tags that are called undefined, so that memcheck complains of each branch and each address that
//! depends on one. And code that leaks on purpose, of which it must complain.
//!
//! `scripts/mbcrypto-constant-time` builds and runs it.

#[cfg(not(mbcrypto_constant_time))]
fn main() {
    eprintln!("memcheck: built without --cfg mbcrypto_constant_time; scripts/mbcrypto-constant-time does it right");
    std::process::exit(2);
}

#[cfg(mbcrypto_constant_time)]
fn main() -> std::process::ExitCode {
    checks::main()
}

#[cfg(mbcrypto_constant_time)]
mod checks {
    use std::hint::black_box;
    use std::process::ExitCode;

    use mbcrypto::memcheck::{defined, errors, is_running, undefined};
    use mbcrypto::{ICV_LENGTHS, Kernel, Key, Path};
    use mbcrypto_constant_time::{Job, Message, Numbers};

    /// Bytes of texts: whatever takes another way through a kernel.
    const LENGTHS: [usize; 40] = [
        0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 79, 80, 81, 96, 100, 112, 127, 128, 129, 160, 200, 240, 241, 255, 256, 257, 320, 512,
        576, 580, 1024, 1420, 2048,
    ];

    /// Paths with instructions that Valgrind knows.
    const PATHS: [Path; 2] = [Path::AesNi, Path::Portable];

    pub(super) fn main() -> ExitCode {
        if !is_running() {
            eprintln!("memcheck: this is not Valgrind's memcheck");
            return ExitCode::from(2);
        }
        let mut failed = false;
        for path in PATHS {
            let Some(kernel) = Kernel::new(path) else {
                eprintln!("memcheck: there is no {path} here");
                return ExitCode::from(2);
            };
            for key_length in [16, 24, 32] {
                for icv_length in ICV_LENGTHS {
                    let found = count(|| operations(kernel, key_length, icv_length));
                    println!("{path}, key of {key_length}, ICV of {icv_length}: {found} complaints");
                    failed |= found > 0;
                }
            }
            for (name, leak) in LEAKS {
                let found = count(|| leak(kernel));
                println!("{path}, leaking on purpose, {name}: {found} complaints, as it should be if not 0");
                failed |= found == 0;
            }
        }
        ExitCode::from(u8::from(failed))
    }

    fn count(work: impl FnOnce()) -> usize {
        let before = errors();
        work();
        errors() - before
    }

    /// Everything that there is to do with a key, once with secrets that memcheck follows, once without. Both must come to the same, so that it is known
    /// that the work was done.
    fn operations(kernel: Kernel, key_length: usize, icv_length: usize) {
        // All packets under one key, and neighbours under different ones.
        for keys in [1, 2] {
            let mut secret = run(kernel, key_length, icv_length, keys, undefined);
            let open = run(kernel, key_length, icv_length, keys, |_| ());
            for (secret, open) in secret.iter_mut().zip(open) {
                defined(secret);
                assert!(*secret == open, "the work was not done");
            }
        }
    }

    /// The outputs: ciphertexts, tags, plaintexts, what failed, GMAC's tags.
    fn run(kernel: Kernel, key_length: usize, icv_length: usize, keys: usize, hide: impl Fn(&mut [u8])) -> Vec<Vec<u8>> {
        let mut numbers = Numbers::new(7);
        let keys: Vec<Key> = (0..keys)
            .map(|_| {
                let mut bytes = [0; 32];
                numbers.fill(&mut bytes);
                hide(&mut bytes);
                kernel.key(&bytes[..key_length], icv_length).expect("the lengths are right")
            })
            .collect();
        let mut texts: Vec<Vec<u8>> = LENGTHS.map(|length| vec![0; length]).to_vec();
        let mut aads: Vec<Vec<u8>> = LENGTHS.map(|length| vec![0; length % 33]).to_vec();
        for bytes in texts.iter_mut().chain(&mut aads) {
            numbers.fill(bytes);
            hide(bytes);
        }
        let mut tags = vec![vec![0; icv_length]; LENGTHS.len()];
        let mut outputs = Vec::new();

        // Each in place and from source to destination; what comes out of one round goes into the next.
        for copy in [false, true] {
            let places = jobs(&keys, &aads, &texts, &tags, copy, |jobs| _ = kernel.seal(jobs), true);
            outputs.extend(places.0.iter().chain(&places.1).cloned());
            (texts, tags) = if copy { (texts, tags) } else { places };
        }
        for copy in [false, true] {
            let (opened, _) = jobs(&keys, &aads, &texts, &tags, copy, |jobs| _ = kernel.open(jobs), true);
            outputs.extend(opened);
        }
        // The last bit of every tag is wrong.
        for tag in &mut tags {
            *tag.last_mut().expect("a tag has bytes") ^= 1;
        }
        for copy in [false, true] {
            let (failed, _) = jobs(&keys, &aads, &texts, &tags, copy, |jobs| _ = kernel.open(jobs), false);
            outputs.extend(failed);
        }
        let mut messages: Vec<Message<'_>> = texts
            .iter()
            .zip(&aads)
            .zip(keys.iter().cycle())
            .map(|((text, aad), key)| Message { key, nonce: [3; 12], parts: [aad, &[], text], tag: [0; 16] })
            .collect();
        kernel.authenticate(&mut messages);
        outputs.extend(messages.iter().map(|message| message.tag.to_vec()));
        outputs
    }

    /// Texts and tags after some work, and all of them `good`.
    fn jobs(
        keys: &[Key],
        aads: &[Vec<u8>],
        texts: &[Vec<u8>],
        tags: &[Vec<u8>],
        copy: bool,
        work: impl Fn(&mut [Job<'_>]),
        good: bool,
    ) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut outputs, mut tags) = (texts.to_vec(), tags.to_vec());
        if copy {
            for output in &mut outputs {
                output.fill(0x55);
            }
        }
        let mut jobs: Vec<Job<'_>> = outputs
            .iter_mut()
            .zip(&mut tags)
            .zip(texts.iter().zip(aads))
            .zip(0_u8..)
            .map(|(((text, tag), (source, aad)), number)| Job {
                key: &keys[usize::from(number) % keys.len()],
                nonce: [number; 12],
                aad,
                text,
                source: copy.then_some(source),
                tag,
                good: false,
            })
            .collect();
        work(&mut jobs);
        assert!(jobs.iter().all(|job| job.good == good), "the work was not done");
        drop(jobs);
        (outputs, tags)
    }

    type Leak = fn(Kernel);

    /// Code as it must not be. The last three show that what a kernel makes from secrets is followed through it.
    const LEAKS: [(&str, Leak); 5] = [
        ("a branch on a key byte", |_| branch(hidden()[0])),
        ("a table looked up by a key byte", |_| look_up(hidden()[0])),
        ("a branch on ciphertext", |kernel| branch(sealed(kernel).0[5])),
        ("a table looked up by ciphertext", |kernel| look_up(sealed(kernel).0[700])),
        ("a comparison of tags that ends early", |kernel| {
            let (_, tag) = sealed(kernel);
            let equal = tag.iter().zip(&[0x41; 16]).all(|(made, received)| black_box(made) == received);
            black_box(equal);
        }),
    ];

    fn hidden() -> [u8; 16] {
        let mut key = *b"sixteen byte key";
        undefined(&mut key);
        key
    }

    fn sealed(kernel: Kernel) -> (Vec<u8>, [u8; 16]) {
        let (mut text, mut tag) = (vec![0x5a; 800], [0; 16]);
        let key = kernel.key(&hidden(), 16).expect("the lengths are right");
        kernel.seal(&mut [Job { key: &key, nonce: [1; 12], aad: &[2; 8], text: &mut text, source: None, tag: &mut tag, good: false }]);
        (text, tag)
    }

    #[inline(never)]
    fn branch(secret: u8) {
        if black_box(secret) & 1 == 0 {
            black_box(3);
        } else {
            black_box(String::from("odd"));
        }
    }

    #[inline(never)]
    fn look_up(secret: u8) {
        let table: [u64; 256] = black_box(core::array::from_fn(|i| i as u64 * 3));
        black_box(table[usize::from(black_box(secret))]);
    }
}
