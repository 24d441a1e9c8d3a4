//! IPsec algorithms and transforms: crypto providers, ESP seal and open, replay windows, extended sequence numbers, IV sources.
//!
//! No I/O, no clock, no randomness: same inputs, same bytes out.
//!
//! | concern | items | source |
//! | --- | --- | --- |
//! | algorithms by name, and which go together | [`Encryption`], [`Authentication`], [`Suite`] | RFC 8221, SA file |
//! | cryptographic libraries | [`Provider`], [`SealJob`], [`OpenJob`], [`AuthJob`]; [`Crypto`], [`MbCrypto`], [`AwsLc`], [`RustCrypto`] | NIST SP 800-38A, 800-38D |
//! | one ESP SA | [`EspSa`], [`write_trailer`], [`read_trailer`] | RFC 4303, RFC 4106 |
//! | one AH SA | [`AhSa`] | RFC 4302, RFC 4543 |
//! | IVs | [`iv`] | RFC 4106, RFC 3602, OV2-SEND-7 |
//! | sequence numbers | [`SequenceCounter`], [`esn`], [`ReplayWindow`] | RFC 4303 with appendix A, RFC 4304, RFC 6479 |
//!
//! The suites of ESP ([`Suite::all`]), each with and without extended sequence numbers:
//!
//! | encryption | authentication | packets | mbcrypto does itself | aws-lc does itself |
//! | --- | --- | --- | --- | --- |
//! | AES-GCM, ICV 16, 12 or 8 | its own | RFC 4106 | all | ICV 16 |
//! | ChaCha20-Poly1305 | its own | RFC 7634 | | all |
//! | AES-CBC | HMAC or none | RFC 3602 | | AES, and HMAC with SHA |
//! | DES-CBC, 3DES-CBC | HMAC or none | RFC 2405, RFC 2451 | | HMAC with SHA |
//! | null | HMAC or none | RFC 2410 | | HMAC with SHA |
//! | null | AES-GMAC | RFC 4543 with erratum 1821 | all | |
//!
//! HMAC is HMAC-MD5-96 and HMAC-SHA1-96 (RFC 2403, 2404), HMAC-SHA-256-128, -384-192 and -512-256 (RFC 4868); each truncation is the algorithm's, and none is
//! taken for another. No authentication is only for who asks for it ([`EspParameters::allow_unauthenticated`]). [`RustCrypto`] does everything by itself, so
//! that whatever the others do has a second opinion. What [`MbCrypto`] does not do itself is aws-lc's, and what aws-lc does not, RustCrypto's. [`Crypto`] is
//! the choice among them at run time; by default the fastest that the processor has instructions for.
//!
//! A packet is sealed and opened:
//!
//! ```
//! use ipsec::{Authentication, Crypto, Encryption, EspParameters, EspSa, Provider, ReplayWindow, Scratch, SequenceCounter};
//! use secret::SecretBytes;
//!
//! let crypto = Crypto::default();
//! let sa = EspSa::new(&crypto, &EspParameters {
//!     encryption: "aes-gcm-128".parse::<Encryption>()?,
//!     encryption_key: &SecretBytes::from_hex("000102030405060708090a0b0c0d0e0f10111213")?, // the key, then 4 bytes of salt
//!     icv_length: 16,
//!     authentication: Authentication::None,
//!     authentication_key: &SecretBytes::default(),
//!     allow_unauthenticated: false,
//!     extended_sequence_numbers: false,
//!     iv_mask: 0x5eed_5eed_5eed_5eed,
//! })?;
//!
//! // Outbound: header, room for the IV, payload, padding and trailer, room for the ICV.
//! let payload = b"attack at dawn";
//! let sequence = SequenceCounter::new(false, 0).take(1)?;
//! let mut esp = vec![0; payload.len() + sa.overhead(payload.len())];
//! esp[..4].copy_from_slice(&0x1001_u32.to_be_bytes());
//! esp[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
//! let text = sa.text(esp.len())?;
//! esp[text.start..][..payload.len()].copy_from_slice(payload);
//! ipsec::write_trailer(&mut esp[text.clone()], payload.len(), 59)?;
//! let mut jobs = [sa.seal_job(&mut esp, sequence)?];
//! crypto.seal(&mut jobs);
//! assert!(jobs[0].verdict.is_good());
//! assert_ne!(&esp[text.start..][..payload.len()], payload);
//!
//! // Inbound.
//! let mut window = ReplayWindow::new(64)?;
//! assert!(window.check(sequence).is_new());
//! let mut jobs = [sa.open_job(&mut esp, sequence)?];
//! crypto.open(&mut jobs, &mut Scratch::new());
//! assert!(jobs[0].verdict.is_good());
//! assert!(window.update(sequence).is_new());
//! let (length, trailer) = ipsec::read_trailer(&esp[text.clone()])?;
//! assert_eq!((&esp[text][..length], trailer.next_header), (&payload[..], 59));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! AH covers a whole IP packet, less what may change on the way, and changes nothing but its own ICV field:
//!
//! ```
//! # use ipsec::{AhParameters, AhSa, Authentication, Crypto};
//! # use secret::SecretBytes;
//! let crypto = Crypto::default();
//! let key = SecretBytes::from_hex("000102030405060708090a0b0c0d0e0f10111213")?;
//! let parameters = AhParameters { authentication: Authentication::HmacSha1, key: &key, extended_sequence_numbers: false, iv_mask: 0 };
//! let sa = AhSa::new(&crypto, &parameters)?;
//!
//! // IPv4, AH with SPI 0x1001 and sequence number 1, nothing inside.
//! let mut packet = [0; 20 + 24];
//! packet[..20].copy_from_slice(&[0x45, 0, 0, 44, 0, 1, 0, 0, 64, 51, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
//! packet[20..32].copy_from_slice(&[59, 4, 0, 0, 0, 0, 0x10, 1, 0, 0, 0, 1]);
//! sa.seal_packet(&crypto, &mut packet, 20, 1)?;
//! packet[8] -= 1; // the time to live, by a router
//! assert!(sa.open_packet(&crypto, &packet, 20, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod algorithm;
pub use algorithm::{AesKeySize, Authentication, Encryption, UnknownAlgorithm};

mod suite;
pub use suite::{KeyError, KeyParameters, Suite};

mod aad;
pub use aad::{Aad, Nonce};

mod provider;
pub use provider::{AuthBatch, AuthJob, BATCH, CombinedBatch, Data, Icv, OpenBatch, OpenJob, Provider, Scratch, SealBatch, SealJob, Verdict};

mod encrypt_then_mac;

mod mac;

mod aws_lc;
pub use aws_lc::{AwsLc, AwsLcAuthKey, AwsLcKey};

mod rust_crypto;
pub use rust_crypto::{RustCrypto, RustCryptoAuthKey, RustCryptoKey};

mod mb;
pub use mb::{MbCrypto, MbCryptoAuthKey, MbCryptoKey};
pub use mbcrypto::Path as MbPath;

mod crypto;
pub use crypto::{Crypto, CryptoAuthKey, CryptoKey, ProviderError};

#[cfg(any(test, fuzzing, feature = "insecure"))]
#[doc(hidden)]
pub mod insecure;

mod combined;
pub use combined::CombinedJob;

mod esp;
pub use esp::{ESP_HEADER_LENGTH, EspError, EspParameters, EspSa, SaError};

mod ah;
mod ah_mask;
pub use ah::{AhParameters, AhPart, AhSa};
pub use ah_mask::AhError;

mod trailer;
pub use trailer::{TRAILER_LENGTH, Trailer, TrailerError, padding_for, read_trailer, write_trailer};

pub mod iv;

pub mod esn;

mod sequence;
pub use sequence::{Exhausted, SequenceCounter};

mod replay;
pub use replay::{Replay, ReplayWindow, WindowError};

#[cfg(test)]
mod contract_tests;

#[cfg(test)]
mod mac_tests;

// What the fuzz target checks calls the crate by its name.
#[cfg(test)]
extern crate self as ipsec;
#[cfg(test)]
mod fuzz_replay;
