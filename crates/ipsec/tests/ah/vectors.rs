//! Packets of scapy, as `testdata/peers/scapy_ah.py` recorded them.

use std::io::Write as _;
use std::process::Command;

use ipsec::{AhParameters, AhSa, Authentication, Crypto};
use secret::SecretBytes;

struct Vector {
    name: &'static str,
    authentication: Authentication,
    key: Vec<u8>,
    high: Option<u32>,
    ah: usize,
    packet: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<_> = include_str!("scapy.txt")
        .lines()
        .map(|line| {
            let [name, algorithm, key, high, ah, packet] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            Vector {
                name,
                authentication: algorithm.parse().unwrap(),
                key: hex(key),
                high: (high != "-").then(|| u32::from_str_radix(high, 16).unwrap()),
                ah: usize::from_str_radix(ah, 16).unwrap(),
                packet: hex(packet),
            }
        })
        .collect();
    assert!(vectors.len() >= 80, "{} vectors", vectors.len());
    vectors
}

fn hex(text: &str) -> Vec<u8> {
    SecretBytes::from_hex(text).unwrap().expose().to_vec()
}

impl Vector {
    fn low(&self) -> u32 {
        u32::from_be_bytes(self.packet[self.ah + 8..self.ah + 12].try_into().unwrap())
    }

    fn sequence(&self) -> u64 {
        u64::from(self.high.unwrap_or_default()) << 32 | u64::from(self.low())
    }

    fn sa(&self, crypto: Crypto) -> AhSa<Crypto> {
        // The IV of the vector is what the mask makes of the number.
        let iv = u64::from_be_bytes(self.packet[self.ah + 12..self.ah + 20].try_into().unwrap());
        let parameters = AhParameters {
            authentication: self.authentication,
            key: &SecretBytes::copy_from_slice(&self.key),
            extended_sequence_numbers: self.high.is_some(),
            iv_mask: iv ^ self.sequence(),
        };
        AhSa::new(&crypto, &parameters).unwrap()
    }
}

#[test]
fn what_scapy_made_is_authentic() {
    for crypto in Crypto::with_paths() {
        for vector in vectors() {
            let sa = vector.sa(crypto);
            assert!(sa.open_packet(&crypto, &vector.packet, vector.ah, vector.sequence()), "{} {} {crypto}", vector.name, vector.authentication);
        }
    }
}

#[test]
fn the_same_bytes_are_made_as_scapy_made() {
    for crypto in Crypto::with_paths() {
        for vector in vectors() {
            let sa = vector.sa(crypto);
            let mut packet = vector.packet.clone();
            packet[vector.ah + 12..][..sa.icv_field_length()].fill(0xee);
            sa.seal_packet(&crypto, &mut packet, vector.ah, vector.sequence()).unwrap();
            assert_eq!(packet, vector.packet, "{} {} {crypto}", vector.name, vector.authentication);
        }
    }
}

#[test]
fn every_algorithm_and_shape_has_vectors() {
    let vectors = vectors();
    for algorithm in super::algorithms() {
        for extended in [false, true] {
            for version in ["ipv4", "ipv6"] {
                let found = |vector: &Vector| vector.authentication == algorithm && vector.high.is_some() == extended && vector.name.starts_with(version);
                assert!(vectors.iter().any(found), "{algorithm} {version} {extended}");
            }
        }
    }
    for shape in
        ["options", "loose-route-sent", "strict-route-halfway", "padded", "hop-by-hop", "routing-0-sent", "routing-2-sent", "home-sent", "everything-atomic"]
    {
        assert!(vectors.iter().any(|vector| vector.name.ends_with(shape)), "{shape}");
    }
}

/// The high half is authenticated only with extended numbers, and then all of it.
#[test]
fn another_high_half_is_not_authentic() {
    for vector in vectors().iter().filter(|vector| vector.high.is_some()) {
        let crypto = Crypto::default();
        let sa = vector.sa(crypto);
        for bit in 32..64 {
            assert!(!sa.open_packet(&crypto, &vector.packet, vector.ah, vector.sequence() ^ 1 << bit), "{} bit {bit}", vector.name);
        }
    }
}

/// What is recorded is what the script makes. Without scapy the test says so and passes; with `IPSECOV2_PEERS=required` it fails.
#[test]
fn the_recorded_packets_are_scapys() {
    let python = std::env::var_os("IPSECOV2_SCAPY_PYTHON");
    let python = python.filter(|python| Command::new(python).args(["-c", "import scapy, cryptography"]).output().is_ok_and(|output| output.status.success()));
    let Some(python) = python else {
        assert!(std::env::var_os("IPSECOV2_PEERS").is_none_or(|wish| wish != "required"), "a Python with scapy is required and not installed");
        // Not by `println!`, whose text the test runner keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: the_recorded_packets_are_scapys: a Python with scapy (IPSECOV2_SCAPY_PYTHON) is not installed");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/peers/scapy_ah.py");
    let output = Command::new(python).env("PYTHONDONTWRITEBYTECODE", "1").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), include_str!("scapy.txt"));
}
