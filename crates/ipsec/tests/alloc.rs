//! Nothing is allocated for a packet, of whatever suite: building the jobs included.

#[path = "../../nic/tests/counting/mod.rs"]
mod counting;

use core::hint::black_box;

use counting::allocations;
use ipsec::{
    AuthBatch, AuthJob, Authentication, AwsLc, Crypto, EspParameters, EspSa, MbCrypto, OpenBatch, Provider, RustCrypto, Scratch, SealBatch, Suite,
    write_trailer,
};
use secret::SecretBytes;

const PAYLOAD: usize = 700;
const PACKETS: u64 = 5;

fn key(length: usize) -> SecretBytes {
    SecretBytes::from((0..length).map(|index| index as u8).collect::<Vec<_>>())
}

fn esp<P: Provider>(provider: &P, suite: Suite, icv_length: usize) {
    let parameters = EspParameters {
        encryption: suite.encryption(),
        encryption_key: &key(suite.encryption().key_length()),
        icv_length,
        authentication: suite.authentication(),
        authentication_key: &key(suite.authentication().key_length()),
        allow_unauthenticated: true,
        extended_sequence_numbers: true,
        iv_mask: 0,
    };
    let sa = EspSa::new(provider, &parameters).unwrap();
    let mut packets: Vec<Vec<u8>> = (1..=PACKETS)
        .map(|sequence| {
            let mut esp = vec![0; PAYLOAD + sa.overhead(PAYLOAD)];
            esp[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
            let text = sa.text(esp.len()).unwrap();
            write_trailer(&mut esp[text], PAYLOAD, 59).unwrap();
            esp
        })
        .collect();
    let mut scratch = Scratch::with_capacity(2048);
    let mut round_trip = || {
        let mut jobs = SealBatch::new();
        for (sequence, esp) in (1..).zip(&mut packets) {
            jobs.push(sa.seal_job(esp, sequence).unwrap());
        }
        provider.seal(&mut jobs);
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
        drop(jobs);
        for good in [false, true] {
            let mut jobs = OpenBatch::new();
            for (sequence, esp) in (1..).zip(&mut packets) {
                // A wrong number first: a failure allocates nothing either.
                jobs.push(sa.open_job(esp, if good { sequence } else { sequence | 1 << 32 }).unwrap());
            }
            provider.open(&mut jobs, &mut scratch);
            assert!(!suite.is_authenticated() || jobs.iter().all(|job| job.verdict.is_good() == good));
        }
    };
    // The library may set something up at its first use.
    round_trip();
    assert_eq!(allocations(round_trip), 0, "{} {suite} {icv_length}", provider.name());
}

fn ah<P: Provider>(provider: &P, algorithm: Authentication) {
    let key = provider.auth_key(algorithm, key(algorithm.mac_key_length()).expose()).unwrap();
    let parts: [&[u8]; 3] = [&[1; 44], &[2; 1000], &[3; 4]];
    let authenticate = || {
        let mut jobs: AuthBatch<'_, P::AuthKey> = (0..PACKETS).map(|_| AuthJob::new(&key, [7; 12], parts)).collect();
        provider.authenticate(&mut jobs);
        assert!(jobs.iter().all(|job| !black_box(job).icv.as_bytes().is_empty()));
    };
    authenticate();
    assert_eq!(allocations(authenticate), 0, "{} {algorithm}", provider.name());
}

fn every_suite<P: Provider>(provider: &P) {
    for suite in Suite::all() {
        for &icv_length in suite.icv_lengths() {
            esp(provider, suite, icv_length);
        }
    }
    for algorithm in &Authentication::ALL[1..] {
        ah(provider, *algorithm);
    }
}

#[test]
fn a_packet_of_any_suite_allocates_nothing() {
    every_suite(&AwsLc);
    every_suite(&RustCrypto);
    every_suite(&MbCrypto::best());
    for provider in Crypto::with_paths() {
        every_suite(&provider);
    }
}
