//! The algorithms of IPsec by name, with the sizes of their keys, IVs, blocks and ICVs.
//!
//! The names are those of the SA file; [`Encryption`] and [`Authentication`] read and write them. Every algorithm of the grammar is here.

use core::fmt;
use core::str::FromStr;

/// Length of an AES key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AesKeySize {
    /// 16 bytes.
    Aes128,
    /// 24 bytes.
    Aes192,
    /// 32 bytes.
    Aes256,
}

impl AesKeySize {
    /// Length in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }
}

/// Encryption algorithms of ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// NULL (RFC 2410).
    Null,
    /// DES-CBC (RFC 2405).
    DesCbc,
    /// 3DES-CBC (RFC 2451).
    TripleDesCbc,
    /// AES-CBC (RFC 3602).
    AesCbc(AesKeySize),
    /// AES-GCM (RFC 4106): combined mode, with ICVs of 16, 12 or 8 bytes.
    AesGcm(AesKeySize),
    /// ChaCha20-Poly1305 (RFC 7634): combined mode.
    ChaCha20Poly1305,
}

impl Encryption {
    /// All of them, in the order in which help and errors list them.
    pub const ALL: [Self; 10] = [
        Self::Null,
        Self::DesCbc,
        Self::TripleDesCbc,
        Self::AesCbc(AesKeySize::Aes128),
        Self::AesCbc(AesKeySize::Aes192),
        Self::AesCbc(AesKeySize::Aes256),
        Self::AesGcm(AesKeySize::Aes128),
        Self::AesGcm(AesKeySize::Aes192),
        Self::AesGcm(AesKeySize::Aes256),
        Self::ChaCha20Poly1305,
    ];

    /// Name in SA files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::DesCbc => "des-cbc",
            Self::TripleDesCbc => "3des-cbc",
            Self::AesCbc(AesKeySize::Aes128) => "aes-cbc-128",
            Self::AesCbc(AesKeySize::Aes192) => "aes-cbc-192",
            Self::AesCbc(AesKeySize::Aes256) => "aes-cbc-256",
            Self::AesGcm(AesKeySize::Aes128) => "aes-gcm-128",
            Self::AesGcm(AesKeySize::Aes192) => "aes-gcm-192",
            Self::AesGcm(AesKeySize::Aes256) => "aes-gcm-256",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// Whether it authenticates as well, and so takes no [`Authentication`] beside it.
    pub const fn is_combined(self) -> bool {
        matches!(self, Self::AesGcm(_) | Self::ChaCha20Poly1305)
    }

    /// Bytes of the cipher's own key, without a salt.
    pub const fn cipher_key_length(self) -> usize {
        match self {
            Self::Null => 0,
            Self::DesCbc => 8,
            Self::TripleDesCbc => 24,
            Self::AesCbc(size) | Self::AesGcm(size) => size.bytes(),
            Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Bytes of salt after the cipher's key.
    pub const fn salt_length(self) -> usize {
        if self.is_combined() { 4 } else { 0 }
    }

    /// Bytes of an SA's encryption key: the cipher's key, then the salt. A key has exactly this length.
    pub const fn key_length(self) -> usize {
        self.cipher_key_length() + self.salt_length()
    }

    /// Bytes of IV that each packet carries.
    pub const fn iv_length(self) -> usize {
        match self {
            Self::Null => 0,
            Self::DesCbc | Self::TripleDesCbc | Self::AesGcm(_) | Self::ChaCha20Poly1305 => 8,
            Self::AesCbc(_) => 16,
        }
    }

    /// Bytes of the cipher's block: what it encrypts is a multiple of it. 1 for stream ciphers and counter modes.
    pub const fn block_length(self) -> usize {
        match self {
            Self::Null | Self::AesGcm(_) | Self::ChaCha20Poly1305 => 1,
            Self::DesCbc | Self::TripleDesCbc => 8,
            Self::AesCbc(_) => 16,
        }
    }

    /// The multiple of bytes at which the ESP trailer ends: the block, and at least 4 (RFC 4303 section 2.4).
    pub const fn alignment(self) -> usize {
        if self.block_length() < 4 { 4 } else { self.block_length() }
    }

    /// ICV lengths in bytes that a combined mode can have, the usual one first; empty for the others.
    pub const fn icv_lengths(self) -> &'static [usize] {
        match self {
            Self::AesGcm(_) => &[16, 12, 8],
            Self::ChaCha20Poly1305 => &[16],
            Self::Null | Self::DesCbc | Self::TripleDesCbc | Self::AesCbc(_) => &[],
        }
    }
}

/// Authentication algorithms of ESP and AH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// None, beside a combined mode.
    #[default]
    None,
    /// HMAC-MD5-96 (RFC 2403).
    HmacMd5,
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1,
    /// HMAC-SHA-256-128 (RFC 4868).
    HmacSha256,
    /// HMAC-SHA-384-192 (RFC 4868).
    HmacSha384,
    /// HMAC-SHA-512-256 (RFC 4868).
    HmacSha512,
    /// AES-GMAC (RFC 4543).
    AesGmac(AesKeySize),
}

impl Authentication {
    /// All of them, in the order in which help and errors list them.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::HmacMd5,
        Self::HmacSha1,
        Self::HmacSha256,
        Self::HmacSha384,
        Self::HmacSha512,
        Self::AesGmac(AesKeySize::Aes128),
        Self::AesGmac(AesKeySize::Aes192),
        Self::AesGmac(AesKeySize::Aes256),
    ];

    /// Name in SA files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::HmacMd5 => "hmac-md5-96",
            Self::HmacSha1 => "hmac-sha1-96",
            Self::HmacSha256 => "hmac-sha-256-128",
            Self::HmacSha384 => "hmac-sha-384-192",
            Self::HmacSha512 => "hmac-sha-512-256",
            Self::AesGmac(AesKeySize::Aes128) => "aes-gmac-128",
            Self::AesGmac(AesKeySize::Aes192) => "aes-gmac-192",
            Self::AesGmac(AesKeySize::Aes256) => "aes-gmac-256",
        }
    }

    /// Bytes of salt after the key.
    pub const fn salt_length(self) -> usize {
        if matches!(self, Self::AesGmac(_)) { 4 } else { 0 }
    }

    /// Bytes of the algorithm's own key, without a salt.
    pub const fn mac_key_length(self) -> usize {
        match self {
            Self::None => 0,
            Self::HmacMd5 => 16,
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            Self::AesGmac(size) => size.bytes(),
        }
    }

    /// Bytes of an SA's authentication key, salt included. A key has exactly this length.
    pub const fn key_length(self) -> usize {
        self.mac_key_length() + self.salt_length()
    }

    /// Bytes of IV that each packet carries.
    pub const fn iv_length(self) -> usize {
        if matches!(self, Self::AesGmac(_)) { 8 } else { 0 }
    }

    /// Bytes of ICV.
    pub const fn icv_length(self) -> usize {
        self.icv_lengths()[0]
    }

    /// The one ICV length, as [`Encryption::icv_lengths`] gives those of a combined mode. Other truncations are other algorithms.
    pub const fn icv_lengths(self) -> &'static [usize; 1] {
        match self {
            Self::None => &[0],
            Self::HmacMd5 | Self::HmacSha1 => &[12],
            Self::HmacSha256 | Self::AesGmac(_) => &[16],
            Self::HmacSha384 => &[24],
            Self::HmacSha512 => &[32],
        }
    }
}

/// A name that is no algorithm's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} algorithm {found:?}: expected one of {}", .allowed.join(", "))]
pub struct UnknownAlgorithm {
    /// "encryption" or "authentication".
    pub kind: &'static str,
    /// The name given.
    pub found: String,
    /// The names there are.
    pub allowed: Vec<&'static str>,
}

impl FromStr for Encryption {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(|| UnknownAlgorithm {
            kind: "encryption",
            found: name.to_owned(),
            allowed: Self::ALL.map(Self::name).to_vec(),
        })
    }
}

impl FromStr for Authentication {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(|| UnknownAlgorithm {
            kind: "authentication",
            found: name.to_owned(),
            allowed: Self::ALL.map(Self::name).to_vec(),
        })
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, key with salt, IV, alignment, combined, ICV lengths: from the RFCs, not from the code above.
    type Row = (&'static str, usize, usize, usize, bool, &'static [usize]);

    const ENCRYPTION: [Row; 10] = [
        ("null", 0, 0, 4, false, &[]),
        ("des-cbc", 8, 8, 8, false, &[]),
        ("3des-cbc", 24, 8, 8, false, &[]),
        ("aes-cbc-128", 16, 16, 16, false, &[]),
        ("aes-cbc-192", 24, 16, 16, false, &[]),
        ("aes-cbc-256", 32, 16, 16, false, &[]),
        ("aes-gcm-128", 20, 8, 4, true, &[16, 12, 8]),
        ("aes-gcm-192", 28, 8, 4, true, &[16, 12, 8]),
        ("aes-gcm-256", 36, 8, 4, true, &[16, 12, 8]),
        ("chacha20-poly1305", 36, 8, 4, true, &[16]),
    ];

    const AUTHENTICATION: [(&str, usize, usize, usize); 9] = [
        ("none", 0, 0, 0),
        ("hmac-md5-96", 16, 0, 12),
        ("hmac-sha1-96", 20, 0, 12),
        ("hmac-sha-256-128", 32, 0, 16),
        ("hmac-sha-384-192", 48, 0, 24),
        ("hmac-sha-512-256", 64, 0, 32),
        ("aes-gmac-128", 20, 8, 16),
        ("aes-gmac-192", 28, 8, 16),
        ("aes-gmac-256", 36, 8, 16),
    ];

    #[test]
    fn encryption_algorithms_have_their_sizes() {
        for ((name, key, iv, alignment, combined, icv), expected) in ENCRYPTION.into_iter().zip(Encryption::ALL) {
            let algorithm: Encryption = name.parse().unwrap();
            assert_eq!(algorithm, expected);
            assert_eq!(algorithm.to_string(), name);
            assert_eq!(algorithm.key_length(), key, "{name}");
            assert_eq!(algorithm.iv_length(), iv, "{name}");
            assert_eq!(algorithm.alignment(), alignment, "{name}");
            assert_eq!(algorithm.is_combined(), combined, "{name}");
            assert_eq!(algorithm.icv_lengths(), icv, "{name}");
        }
    }

    #[test]
    fn authentication_algorithms_have_their_sizes() {
        for ((name, key, iv, icv), expected) in AUTHENTICATION.into_iter().zip(Authentication::ALL) {
            let algorithm: Authentication = name.parse().unwrap();
            assert_eq!(algorithm, expected);
            assert_eq!(algorithm.to_string(), name);
            assert_eq!(algorithm.key_length(), key, "{name}");
            assert_eq!(algorithm.iv_length(), iv, "{name}");
            assert_eq!(algorithm.icv_length(), icv, "{name}");
        }
    }

    #[test]
    fn unknown_names_are_named_with_the_known_ones() {
        for name in ["", "AES-GCM-128", "aes-gcm", "aes-gcm-128 ", "none"] {
            let error = name.parse::<Encryption>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")) && error.contains("null, des-cbc") && error.contains("chacha20-poly1305"), "{error}");
        }
        let error = "hmac-sha256".parse::<Authentication>().unwrap_err().to_string();
        assert!(error.contains("\"hmac-sha256\"") && error.contains("hmac-sha-256-128"), "{error}");
    }
}
