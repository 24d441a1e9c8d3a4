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
use std::time::{Duration, Instant};

use ipsec::{AesKeySize, Authentication, Encryption};
use packet::IpVersion;
use transport::{DropReason, Mode, TrafficFlow};

use crate::case::{Bundle, Case, Suite};
use crate::exchange::{Forward, Gateway, Ipsec, Meddler, Swallow};
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

/// Runs cases against the guest; all of them, whatever becomes of the first. `IPSECOV2_LINUX_PEER_CASES` narrows them down to those with this in their
/// names.
fn judge(test: &str, cases: impl IntoIterator<Item = Case>) {
    let Some(mut guest) = guest(test) else { return };
    let guest = guest.as_mut().unwrap();
    let (mut count, mut failed) = (0, vec![]);
    let only = std::env::var("IPSECOV2_LINUX_PEER_CASES").unwrap_or_default();
    for case in cases.into_iter().filter(|case| case.name.contains(&only)) {
        let begun = Instant::now();
        let mut gateway = Ipsec::new(&case, guest.now());
        let faults = exchange::run(guest, &case, &mut gateway).faults();
        count += 1;
        println!("{:4} ms, {} faults: {}", begun.elapsed().as_millis(), faults.len(), case.name);
        if !faults.is_empty() {
            failed.push(format!("{}:\n    {}", case.name, faults.join("\n    ")));
        }
    }
    assert!(count > 0 || !only.is_empty(), "nothing was tried");
    assert!(failed.is_empty(), "{} of {count} cases failed against {}\n{}", failed.len(), guest.version, failed.join("\n"));
}

const VERSIONS: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];
const MODES: [Mode; 2] = [Mode::Transport, Mode::Tunnel];
/// Versions outside and inside.
const COMBINATIONS: [(IpVersion, IpVersion); 4] =
    [(IpVersion::V4, IpVersion::V4), (IpVersion::V4, IpVersion::V6), (IpVersion::V6, IpVersion::V4), (IpVersion::V6, IpVersion::V6)];
const KEY_SIZES: [AesKeySize; 3] = [AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256];
const HMACS: [Authentication; 5] =
    [Authentication::HmacMd5, Authentication::HmacSha1, Authentication::HmacSha256, Authentication::HmacSha384, Authentication::HmacSha512];
const GCM: Suite = Suite::combined(Encryption::AesGcm(AesKeySize::Aes128), 16);
const CBC: Suite = Suite::pair(Encryption::AesCbc(AesKeySize::Aes256), Authentication::HmacSha256);

/// A bundle in both modes over both versions.
fn everywhere(bundle: Bundle) -> Vec<Case> {
    let cases = MODES.into_iter().flat_map(|mode| VERSIONS.map(|version| Case::new(format!("{bundle:?}, {mode:?}, {version:?}"), mode, version, bundle)));
    cases.collect()
}

/// Suites in transport mode over one version and in tunnel mode over the other, by turns.
fn by_turns(suites: impl IntoIterator<Item = Suite>) -> impl Iterator<Item = Case> {
    suites.into_iter().enumerate().flat_map(|(number, suite)| {
        let turn = |mode: Mode| VERSIONS[(number + usize::from(mode == Mode::Tunnel)) % 2];
        MODES.map(|mode| Case::new(format!("{suite}, {mode:?}, {:?}", turn(mode)), mode, turn(mode), Bundle::esp(suite)))
    })
}

#[test]
fn esp_with_aes_gcm() {
    let suites = KEY_SIZES.into_iter().flat_map(|size| [8, 12, 16].map(|icv_length| Suite::combined(Encryption::AesGcm(size), icv_length)));
    judge("esp_with_aes_gcm", by_turns(suites).chain(everywhere(Bundle::esp(GCM))));
}

#[test]
fn esp_with_aes_gmac_and_chacha20_poly1305() {
    let mut suites: Vec<_> = KEY_SIZES.map(|size| Suite::pair(Encryption::Null, Authentication::AesGmac(size))).into();
    suites.push(Suite::combined(Encryption::ChaCha20Poly1305, 16));
    judge("esp_with_aes_gmac_and_chacha20_poly1305", suites.into_iter().flat_map(|suite| everywhere(Bundle::esp(suite))));
}

/// Every cipher with every HMAC.
#[test]
fn esp_with_ciphers_and_hmacs() {
    let ciphers = Encryption::ALL.into_iter().filter(|encryption| !encryption.is_combined());
    let suites = ciphers.flat_map(|encryption| HMACS.map(|authentication| Suite::pair(encryption, authentication)));
    judge("esp_with_ciphers_and_hmacs", by_turns(suites));
}

/// By their owner's leave only (OV2-COMB-2).
#[test]
fn esp_without_authentication() {
    let ciphers = Encryption::ALL.into_iter().filter(|encryption| !encryption.is_combined() && *encryption != Encryption::Null);
    judge("esp_without_authentication", by_turns(ciphers.map(|encryption| Suite::pair(encryption, Authentication::None))));
}

#[test]
fn ah_with_every_hmac() {
    let cases = HMACS.into_iter().flat_map(|authentication| everywhere(Bundle::ah(authentication)));
    // Linux's header is 8-byte aligned also in IPv4 unless told otherwise.
    let cases = cases.flat_map(|case| {
        let aligned = (case.version == IpVersion::V4).then(|| Case { name: format!("{}, align4", case.name), align4: true, ..case.clone() });
        aligned.into_iter().chain([case])
    });
    judge("ah_with_every_hmac", cases);
}

#[test]
fn ah_over_esp() {
    let bundles = [
        Bundle::ah_esp(Authentication::HmacSha256, CBC),
        Bundle::ah_esp(Authentication::HmacMd5, GCM),
        Bundle::ah_esp(Authentication::HmacSha1, Suite::pair(Encryption::AesCbc(AesKeySize::Aes128), Authentication::None)),
        Bundle::ah_esp(Authentication::HmacSha512, Suite::pair(Encryption::Null, Authentication::HmacSha384)),
    ];
    judge("ah_over_esp", bundles.into_iter().flat_map(everywhere));
}

#[test]
fn tunnels_carry_the_other_version() {
    // Linux has no AH over ESP here: its AH is in transport mode around the tunnel's ESP then, and takes no packets of another version.
    let bundles = [Bundle::esp(GCM), Bundle::esp(CBC), Bundle::ah(Authentication::HmacSha256)];
    let cases = bundles.into_iter().flat_map(|bundle| {
        [COMBINATIONS[1], COMBINATIONS[2]]
            .map(|(version, inner)| Case { inner, ..Case::new(format!("{bundle:?}, {inner:?} in {version:?}"), Mode::Tunnel, version, bundle) })
    });
    judge("tunnels_carry_the_other_version", cases);
}

#[test]
fn transport_over_tunnel() {
    let ah = Bundle::ah(Authentication::HmacSha256);
    let both = Bundle::ah_esp(Authentication::HmacSha1, CBC);
    let pairs = [(Bundle::esp(GCM), Bundle::esp(CBC)), (ah, Bundle::esp(GCM)), (Bundle::esp(CBC), ah), (ah, ah), (both, Bundle::esp(GCM)), (both, both)];
    let cases = pairs.into_iter().flat_map(|(transport, tunnel)| {
        // See `tunnels_carry_the_other_version`.
        let possible = move |versions: &(IpVersion, IpVersion)| tunnel != both || versions.0 == versions.1;
        COMBINATIONS
            .into_iter()
            .filter(possible)
            .map(move |versions| Case::nested(format!("{transport:?} in {tunnel:?}, {:?} in {:?}", versions.1, versions.0), versions, transport, tunnel))
    });
    judge("transport_over_tunnel", cases);
}

#[test]
fn esp_in_udp() {
    let suites = [GCM, CBC, Suite::combined(Encryption::ChaCha20Poly1305, 16), Suite::pair(Encryption::Null, Authentication::AesGmac(AesKeySize::Aes128))];
    let plain = suites.into_iter().flat_map(|suite| everywhere(Bundle::esp_in_udp(suite)));
    let plain = plain.flat_map(|case| {
        let translated = Case { name: format!("{}, translated", case.name), translated: true, ..case.clone() };
        [Case { ike: true, ..case }, translated]
    });
    // The transport bundle inside a tunnel in UDP (type 3), and in UDP inside a tunnel (type 4).
    let nested = COMBINATIONS.into_iter().flat_map(|versions| {
        let in_tunnel = |name: &str, transport, tunnel| Case::nested(format!("{name}, {:?} in {:?}", versions.1, versions.0), versions, transport, tunnel);
        [
            in_tunnel("ESP in a tunnel in UDP", Bundle::esp(CBC), Bundle::esp_in_udp(GCM)),
            in_tunnel("AH in a tunnel in UDP", Bundle::ah(Authentication::HmacSha1), Bundle::esp_in_udp(CBC)),
            in_tunnel("ESP in UDP in a tunnel", Bundle::esp_in_udp(GCM), Bundle::esp(CBC)),
        ]
    });
    judge("esp_in_udp", plain.chain(nested));
}

#[test]
fn extended_numbers_wrap_at_their_low_half() {
    let bundles = [
        Bundle::esp(GCM),
        Bundle::esp(CBC),
        Bundle::esp(Suite::pair(Encryption::Null, Authentication::HmacMd5)),
        Bundle::esp(Suite::pair(Encryption::Null, Authentication::AesGmac(AesKeySize::Aes256))),
        Bundle::esp(Suite::combined(Encryption::ChaCha20Poly1305, 16)),
        Bundle::esp_in_udp(Suite::pair(Encryption::TripleDesCbc, Authentication::HmacSha1)),
        Bundle::ah(Authentication::HmacSha256),
        Bundle::ah_esp(Authentication::HmacSha384, GCM),
    ];
    let cases = bundles.into_iter().flat_map(everywhere);
    let nested = Case::nested("ESN, nested", COMBINATIONS[1], Bundle::ah(Authentication::HmacSha1), Bundle::esp(CBC));
    judge("extended_numbers_wrap_at_their_low_half", cases.chain([nested]).map(|case| Case { esn: true, last: 0x7_ffff_fff5, replay_window: 256, ..case }));
}

#[test]
fn large_replay_windows() {
    let windows = [(false, 128), (false, 4096), (true, 1024), (true, 4096)];
    let cases = windows.into_iter().flat_map(|(esn, replay_window)| {
        let bundles = [Bundle::esp(CBC), Bundle::ah(Authentication::HmacSha256)];
        bundles.map(|bundle| Case { esn, replay_window, ..Case::new(format!("window of {replay_window}, ESN {esn}"), Mode::Tunnel, IpVersion::V4, bundle) })
    });
    judge("large_replay_windows", cases);
}

#[test]
fn padding_and_dummy_packets() {
    let cases = [GCM, CBC].into_iter().flat_map(|suite| {
        COMBINATIONS.into_iter().flat_map(move |(version, inner)| {
            [TrafficFlow { pad_to: 1000, dummy_every: 0 }, TrafficFlow { pad_to: 0, dummy_every: 3 }, TrafficFlow { pad_to: 1400, dummy_every: 1 }].map(
                |traffic_flow| Case {
                    inner,
                    traffic_flow,
                    ..Case::new(format!("{suite}, {traffic_flow:?}, {inner:?} in {version:?}"), Mode::Tunnel, version, Bundle::esp(suite))
                },
            )
        })
    });
    judge("padding_and_dummy_packets", cases);
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
fn dressed(name: &str, mode: Mode, bundle: Bundle) -> Vec<Case> {
    let cases = DRESSES.into_iter().map(move |(version, dress, guest_dress)| Case {
        dress,
        guest_dress,
        ..Case::new(format!("{name}, {version:?}, {dress:?}"), mode, version, bundle)
    });
    cases.collect()
}

#[test]
fn packets_with_options_and_extension_headers() {
    let mut bundles = vec![("ESP", Bundle::esp(GCM)), ("AH over ESP", Bundle::ah_esp(Authentication::HmacSha256, CBC))];
    bundles.extend([("AH with SHA-256", Bundle::ah(Authentication::HmacSha256)), ("AH with SHA1", Bundle::ah(Authentication::HmacSha1))]);
    let cases = bundles.into_iter().flat_map(|(name, bundle)| MODES.into_iter().flat_map(move |mode| dressed(&format!("{name}, {mode:?}"), mode, bundle)));
    // Linux covers a fragment header in front of AH, RFC 4302 (appendix A2) does not.
    let cases = cases.filter(|case| case.dress != Dress::Atomic || case.transport.is_none_or(|bundle| bundle.ah.is_none()));
    judge("packets_with_options_and_extension_headers", cases);
}

/// Every frame comes twice, or damaged first: both sides refuse that one and take the other.
#[test]
fn replayed_and_damaged_frames_are_refused() {
    let Some(mut guest) = guest("replayed_and_damaged_frames_are_refused") else { return };
    let guest = guest.as_mut().unwrap();
    let bundles =
        [Bundle::esp(GCM), Bundle::esp(CBC), Bundle::ah(Authentication::HmacSha256), Bundle::ah_esp(Authentication::HmacSha1, CBC), Bundle::esp_in_udp(GCM)];
    for case in bundles.into_iter().flat_map(everywhere) {
        for (damages, error, reason) in [(false, "XfrmInStateSeqError", DropReason::Replayed), (true, "XfrmInStateProtoError", DropReason::AuthFailed)] {
            let mut meddler = Meddler { ipsec: Ipsec::new(&case, guest.now()), damages };
            let outcome = exchange::run(guest, &case, &mut meddler);
            assert!(outcome.unanswered.is_empty() && outcome.guest_unanswered.is_none() && outcome.complaints.is_empty(), "{}: {outcome:?}", case.name);
            let [ours, guests] = outcome.protected;
            assert!(ours >= 40 && guests >= 20, "{}: {outcome:?}", case.name);
            assert_eq!(outcome.guest_errors.into_iter().collect::<Vec<_>>(), [(error.to_owned(), ours as u64 / 2)], "{}", case.name);
            assert_eq!(meddler.ipsec.received(reason), [2 * guests, guests], "{}", case.name);
        }
    }
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
