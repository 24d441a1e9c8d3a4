//! Wireshark's `esp_sa` table: the file of that name in its configuration directory, and the secrets of ESP in pcapng files.
//!
//! One line an SA, each column in quotation marks: protocol, source, destination, SPI, encryption, its key, authentication, its key; newer versions have two
//! more, the length of sequence numbers and their high half (Wireshark 4.0.17 takes such a line and drops them). The table says neither mode nor direction.

mod read;
mod write;

pub(super) use read::parse;
pub(crate) use write::secret;
pub(super) use write::write;

use ipsec::AesKeySize::{Aes128, Aes192, Aes256};
use ipsec::{Authentication, Encryption};

/// Encryption algorithms that are the table's and ours: what the table calls them, what that can be, and the length of the ICV that the name says.
const ENCRYPTIONS: [(&str, &[Encryption], Option<u8>); 9] = [
    ("NULL", &[Encryption::Null], None),
    ("DES-CBC [RFC2405]", &[Encryption::DesCbc], None),
    ("TripleDES-CBC [RFC2451]", &[Encryption::TripleDesCbc], None),
    ("AES-CBC [RFC3602]", &[Encryption::AesCbc(Aes128), Encryption::AesCbc(Aes192), Encryption::AesCbc(Aes256)], None),
    (OPEN_GCM, &GCM, None),
    ("AES-GCM with 8 octet ICV [RFC4106]", &GCM, Some(8)),
    ("AES-GCM with 12 octet ICV [RFC4106]", &GCM, Some(12)),
    ("AES-GCM with 16 octet ICV [RFC4106]", &GCM, Some(16)),
    ("ChaCha20 with Poly1305 [RFC7634]", &[Encryption::ChaCha20Poly1305], Some(16)),
];
const GCM: [Encryption; 3] = [Encryption::AesGcm(Aes128), Encryption::AesGcm(Aes192), Encryption::AesGcm(Aes256)];
/// AES-GCM of which the authentication column says how long the ICV is, in tables of versions that had no other.
const OPEN_GCM: &str = "AES-GCM [RFC4106]";

/// Authentication algorithms that are the table's and ours.
const AUTHENTICATIONS: [(&str, Authentication); 6] = [
    ("NULL", Authentication::None),
    ("HMAC-MD5-96 [RFC2403]", Authentication::HmacMd5),
    ("HMAC-SHA-1-96 [RFC2404]", Authentication::HmacSha1),
    ("HMAC-SHA-256-128 [RFC4868]", Authentication::HmacSha256),
    ("HMAC-SHA-384-192 [RFC4868]", Authentication::HmacSha384),
    ("HMAC-SHA-512-256 [RFC4868]", Authentication::HmacSha512),
];

/// What stands for an ICV that the viewer does not check, and its bytes.
const UNCHECKED: [(&str, u8); 5] = [
    ("ANY 64 bit authentication [no checking]", 8),
    ("ANY 96 bit authentication [no checking]", 12),
    ("ANY 128 bit authentication [no checking]", 16),
    ("ANY 192 bit authentication [no checking]", 24),
    ("ANY 256 bit authentication [no checking]", 32),
];

/// The table's other algorithms, so that they are refused by their names.
const OTHERS: [&str; 9] = [
    "AES-CTR [RFC3686]",
    "CAST5-CBC [RFC2144]",
    "BLOWFISH-CBC [RFC2451]",
    "TWOFISH-CBC",
    "AES-GCM with IIV and 16 octet ICV [RFC4106 & RFC8750]",
    "ChaCha20 with Poly1305 and IIV [RFC7634 & RFC8750]",
    SHA_256_96,
    "MAC-RIPEMD-160-96 [RFC2857]",
    "AES-XCBC-MAC-96 [RFC3566]",
];
/// Cut to 96 bits; not RFC 4868's.
const SHA_256_96: &str = "HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]";

#[cfg(test)]
mod tests;
