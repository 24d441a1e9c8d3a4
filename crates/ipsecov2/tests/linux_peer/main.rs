//! This project's stack against a Linux kernel's ESP and AH: both encrypt and decrypt, answer and ask.
//!
//! The kernel runs in QEMU's software emulation, one boot for all tests. `scripts/linux-peer` builds what it boots, and `IPSECOV2_LINUX_PEER` says where
//! that is. Where it or QEMU is missing the tests say so and pass; with `IPSECOV2_PEERS=required` they fail. See `docs/interop.md`.
//!
//! The guest's policy is strict: it takes and sends nothing in clear but neighbour discovery, and demands exactly the headers of the case. This side counts
//! every frame on the wire, and wants each of them done by its NIC.

mod case;
mod exchange;
mod guest;
mod wire;

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipsec::{AesKeySize, Encryption};
use packet::IpVersion;
use transport::Mode;

use crate::case::{Bundle, Case, Suite};
use crate::exchange::{Forward, Gateway, Ipsec, Swallow};
use crate::guest::Guest;
use crate::wire::Dress;

/// The guest that all tests share: booted by the first, used by one at a time.
static GUEST: Mutex<Option<Guest>> = Mutex::new(None);

/// Interfaces, routes and a policy that lets nothing through. The tunnels' inner addresses are the loopback interface's.
const SET_UP: &str = "set -e
/bin/ip address add 192.0.2.2/24 dev eth0
/bin/ip address add 2001:db8::2/64 dev eth0 nodad
/bin/ip address add 10.0.2.1/32 dev lo
/bin/ip address add fd00:2::1/128 dev lo nodad
/bin/ip link set eth0 up
/bin/ip route add 10.0.1.0/24 via 192.0.2.1 src 10.0.2.1
/bin/ip route add fd00:1::/64 via 2001:db8::1 src fd00:2::1
/bin/ip xfrm policy setdefault in block fwd block out block
";

/// The guest, or `None` where it cannot be, which is said, and wrong where it is required.
fn guest(test: &str) -> Option<MutexGuard<'static, Option<Guest>>> {
    let image = match guest::image() {
        Ok(image) => image,
        Err(missing) => {
            assert!(std::env::var_os("IPSECOV2_PEERS").is_none_or(|wish| wish != "required"), "{missing} is required and not there");
            // Not by `println!`, whose text the test runner keeps to itself when a test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {missing} is not there");
            return None;
        }
    };
    let mut guest = GUEST.lock().unwrap_or_else(PoisonError::into_inner);
    if guest.is_none() {
        let mut booted = Guest::boot(&image);
        booted.run(SET_UP);
        let _ = writeln!(std::io::stderr(), "Linux peer: {}", booted.version);
        *guest = Some(booted);
    }
    Some(guest)
}

/// Runs cases against the guest; all of them, whatever becomes of the first.
fn judge(test: &str, cases: impl IntoIterator<Item = Case>) {
    let Some(mut guest) = guest(test) else { return };
    let guest = guest.as_mut().unwrap();
    let (mut count, mut failed) = (0, vec![]);
    for case in cases {
        let mut gateway = Ipsec::new(&case, guest.now());
        let faults = exchange::run(guest, &case, &mut gateway).faults();
        count += 1;
        if !faults.is_empty() {
            failed.push(format!("{}:\n    {}", case.name, faults.join("\n    ")));
        }
    }
    assert!(count > 0, "nothing was tried");
    assert!(failed.is_empty(), "{} of {count} cases failed against {}\n{}", failed.len(), guest.version, failed.join("\n"));
}

const VERSIONS: [(IpVersion, &str); 2] = [(IpVersion::V4, "IPv4"), (IpVersion::V6, "IPv6")];
const KEY_SIZES: [AesKeySize; 3] = [AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256];

/// One SA suite in tunnel and transport mode over both versions.
fn everywhere(name: &str, suite: Suite) -> Vec<Case> {
    let mut cases = Vec::new();
    for (version, version_name) in VERSIONS {
        for (mode, mode_name) in [(Mode::Transport, "transport"), (Mode::Tunnel, "tunnel")] {
            cases.push(Case::new(format!("{name}, {mode_name}, {version_name}"), mode, version, Bundle::esp(suite)));
        }
    }
    cases
}

const GCM: Suite = Suite::combined(Encryption::AesGcm(AesKeySize::Aes128), 16);

#[test]
fn aes_gcm_in_every_size() {
    let mut cases = Vec::new();
    for size in KEY_SIZES {
        for icv_length in [8, 12, 16] {
            let encryption = Encryption::AesGcm(size);
            cases.extend(everywhere(&format!("{encryption} with {} bits of ICV", icv_length * 8), Suite::combined(encryption, icv_length)));
        }
    }
    judge("aes_gcm_in_every_size", cases);
}

#[test]
fn tunnels_carry_the_other_version() {
    let cases = [(IpVersion::V4, IpVersion::V6), (IpVersion::V6, IpVersion::V4)]
        .map(|(version, inner)| Case { inner, ..Case::new(format!("{inner:?} in {version:?}"), Mode::Tunnel, version, Bundle::esp(GCM)) });
    judge("tunnels_carry_the_other_version", cases);
}

#[test]
fn extended_numbers_wrap_at_their_low_half() {
    let cases = everywhere("ESN", GCM).into_iter().map(|case| Case { esn: true, last: 0x7_ffff_fff5, replay_window: 256, ..case });
    judge("extended_numbers_wrap_at_their_low_half", cases);
}

/// What this side's packets can have in front of their payload, and what the guest's have.
const DRESSES: [(IpVersion, Dress, &str); 6] = [
    (IpVersion::V4, Dress::RecordRoute, "-r"),
    (IpVersion::V4, Dress::ManyOptions, ""),
    (IpVersion::V6, Dress::HopByHop, "-h"),
    (IpVersion::V6, Dress::DestinationOptions, "-d"),
    (IpVersion::V6, Dress::Chain, "-h -d"),
    (IpVersion::V6, Dress::Atomic, ""),
];

/// Bundles over packets with options and extension headers.
fn dressed(name: &str, mode: Mode, bundle: Bundle) -> impl Iterator<Item = Case> {
    DRESSES.into_iter().map(move |(version, dress, guest_dress)| Case {
        dress,
        guest_dress,
        ..Case::new(format!("{name}, {version:?}, {dress:?}"), mode, version, bundle)
    })
}

#[test]
fn esp_of_packets_with_options_and_extension_headers() {
    let cases = dressed("ESP transport", Mode::Transport, Bundle::esp(GCM)).chain(dressed("ESP tunnel", Mode::Tunnel, Bundle::esp(GCM)));
    judge("esp_of_packets_with_options_and_extension_headers", cases);
}

/// A gateway that protects nothing must not get past these tests.
#[test]
fn gateways_that_do_nothing_fail() {
    let Some(mut guest) = guest("gateways_that_do_nothing_fail") else { return };
    let guest = guest.as_mut().unwrap();
    for (version, mode) in [(IpVersion::V4, Mode::Tunnel), (IpVersion::V6, Mode::Transport)] {
        // Protected, the answers take a few milliseconds.
        let case = Case { sizes: &[56], patience: Duration::from_secs(1), ..Case::new("nothing", mode, version, Bundle::esp(GCM)) };
        let gateways: [(&mut dyn Gateway, bool); 2] = [(&mut Forward, true), (&mut Swallow, false)];
        for (gateway, forwards) in gateways {
            let outcome = exchange::run(guest, &case, gateway);
            assert_eq!(outcome.unanswered.len(), 2, "{outcome:?}");
            assert!(outcome.guest_unanswered.is_some(), "{outcome:?}");
            assert_eq!(outcome.protected[0], 0, "{outcome:?}");
            assert_eq!((outcome.stray[0].len(), outcome.legible[0]), if forwards { (1, 2) } else { (0, 0) }, "{outcome:?}");
            // It noticed the clear text that it was sent.
            assert_eq!(!outcome.guest_complaints.is_empty(), forwards, "{outcome:?}");
            assert!(outcome.faults().len() >= 3, "{outcome:?}");
        }
        let mut ipsec = Ipsec::new(&case, guest.now());
        assert_eq!(exchange::run(guest, &case, &mut ipsec).faults(), Vec::<String>::new());
    }
}
