//! Keys in captures: what goes into a pcapng Decryption Secrets Block so that a viewer of the file can decrypt it.
//!
//! The secrets type for ESP is 0x45535053 ("ESPS"). Wireshark's development tree has it as `SECRETS_TYPE_ESP` (merge request 20256, June 2025) and loads the
//! data as lines of its `esp_sa` table; the text for the pcapng specification is pull request 184 of the IETF working group's repository, which says
//! that every column has a value. So a line here has all ten columns, each in quotation marks:
//!
//! ```text
//! "IPv4","192.0.2.1","192.0.2.2","0x00001001","AES-GCM with 16 octet ICV [RFC4106]","0x<key and salt>","NULL","","32-bit","0"
//! ```
//!
//! in order: protocol, source, destination, SPI, encryption, its key, authentication, its key, length of sequence numbers, their high half in hexadecimal
//! (one value for the whole capture). Older programs skip the block: Wireshark 4.0 reads the file, but not the keys; there the first eight columns go into
//! the preference `uat:esp_sa`. In any version, decryption is off until the preference `esp.enable_encryption_decode` is on.

use core::fmt::Write as _;
use core::net::IpAddr;

use packet::Spi;
use secret::SecretBytes;

/// "ESPS".
const ESP_TYPE: u32 = 0x4553_5053;
/// More than the longest line has beside the keys.
const LINE_LEN: usize = 320;

/// Keys to be written into a capture. They are in clear in the file, which is therefore created readable by its owner only.
#[derive(Debug)]
#[non_exhaustive]
pub enum Secrets {
    /// Keys of ESP SAs.
    Esp(Vec<EspSecret>),
}

/// The keys of an ESP SA (of one direction).
#[derive(Debug)]
pub struct EspSecret {
    /// Source address of the packets that carry ESP; `None`: any.
    pub source: Option<IpAddr>,
    /// Destination address of the packets that carry ESP; it says whether they are IPv4 or IPv6. Unspecified: any of that version.
    pub destination: IpAddr,
    /// SPI.
    pub spi: Spi,
    /// Encryption algorithm.
    pub encryption: EspEncryption,
    /// Its key; for AES-GCM and ChaCha20-Poly1305 followed by the 4 bytes of salt.
    pub encryption_key: SecretBytes,
    /// Authentication algorithm; [`EspAuthentication::Null`] for combined encryption.
    pub authentication: EspAuthentication,
    /// Its key.
    pub authentication_key: SecretBytes,
    /// The high half of the sequence numbers, if they are extended. Viewers know one value for the whole capture.
    pub sequence_number_high: Option<u32>,
}

/// Encryption algorithms that viewers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum EspEncryption {
    Null,
    DesCbc,
    TripleDesCbc,
    AesCbc,
    AesGcm8,
    AesGcm12,
    AesGcm16,
    ChaCha20Poly1305,
}

impl EspEncryption {
    /// The name that Wireshark has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::DesCbc => "DES-CBC [RFC2405]",
            Self::TripleDesCbc => "TripleDES-CBC [RFC2451]",
            Self::AesCbc => "AES-CBC [RFC3602]",
            Self::AesGcm8 => "AES-GCM with 8 octet ICV [RFC4106]",
            Self::AesGcm12 => "AES-GCM with 12 octet ICV [RFC4106]",
            Self::AesGcm16 => "AES-GCM with 16 octet ICV [RFC4106]",
            Self::ChaCha20Poly1305 => "ChaCha20 with Poly1305 [RFC7634]",
        }
    }
}

/// Authentication algorithms that viewers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum EspAuthentication {
    Null,
    HmacMd5_96,
    HmacSha1_96,
    HmacSha256_128,
    HmacSha384_192,
    HmacSha512_256,
    /// An ICV of 96 bits that the viewer skips.
    Unchecked96,
    /// An ICV of 128 bits that the viewer skips, such as AES-GMAC's.
    Unchecked128,
}

impl EspAuthentication {
    /// The name that Wireshark has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::HmacMd5_96 => "HMAC-MD5-96 [RFC2403]",
            Self::HmacSha1_96 => "HMAC-SHA-1-96 [RFC2404]",
            Self::HmacSha256_128 => "HMAC-SHA-256-128 [RFC4868]",
            Self::HmacSha384_192 => "HMAC-SHA-384-192 [RFC4868]",
            Self::HmacSha512_256 => "HMAC-SHA-512-256 [RFC4868]",
            Self::Unchecked96 => "ANY 96 bit authentication [no checking]",
            Self::Unchecked128 => "ANY 128 bit authentication [no checking]",
        }
    }
}

impl Secrets {
    /// The secrets type of the block.
    pub const fn secrets_type(&self) -> u32 {
        match self {
            Self::Esp(_) => ESP_TYPE,
        }
    }

    /// The secrets data of the block: lines of text, each ended by a line feed.
    pub fn data(&self) -> SecretBytes {
        self.lines(EspSecret::line)
    }

    /// The file `esp_sa` of a Wireshark configuration directory. Only SAs with extended sequence numbers have the columns for them: versions without these
    /// columns warn of a line with more than eight, and those with them take one with eight.
    pub fn table(&self) -> SecretBytes {
        self.lines(
            |secret, text| if secret.sequence_number_high.is_some() { secret.line(text) } else { secret.eight_columns(text).and_then(|()| writeln!(text)) },
        )
    }

    fn lines(&self, write: impl Fn(&EspSecret, &mut Text) -> core::fmt::Result) -> SecretBytes {
        let Self::Esp(secrets) = self;
        // All the capacity at once: a vector that grows leaves copies of keys behind.
        let keys: usize = secrets.iter().map(|secret| secret.encryption_key.len() + secret.authentication_key.len()).sum();
        let mut text = Text(Vec::with_capacity(secrets.len() * LINE_LEN + 2 * keys));
        let capacity = text.0.capacity();
        for secret in secrets {
            // Writing into memory does not fail.
            let _ = write(secret, &mut text);
        }
        debug_assert_eq!(capacity, text.0.capacity(), "the lines are shorter than was reckoned");
        SecretBytes::from(text.0)
    }
}

impl EspSecret {
    fn line(&self, text: &mut Text) -> core::fmt::Result {
        self.eight_columns(text)?;
        let length = if self.sequence_number_high.is_some() { "64-bit" } else { "32-bit" };
        writeln!(text, ",\"{length}\",\"{:x}\"", self.sequence_number_high.unwrap_or_default())
    }

    fn eight_columns(&self, text: &mut Text) -> core::fmt::Result {
        write!(text, "\"{}\",\"", if self.destination.is_ipv4() { "IPv4" } else { "IPv6" })?;
        match self.source {
            Some(source) => write!(text, "{source}")?,
            None => text.write_str("*")?,
        }
        text.write_str("\",\"")?;
        match self.destination {
            any if any.is_unspecified() => text.write_str("*")?,
            destination => write!(text, "{destination}")?,
        }
        write!(text, "\",\"{:#010x}\",\"{}\",\"", self.spi.0, self.encryption.name())?;
        text.key(&self.encryption_key);
        write!(text, "\",\"{}\",\"", self.authentication.name())?;
        text.key(&self.authentication_key);
        write!(text, "\"")
    }
}

struct Text(Vec<u8>);

impl Text {
    /// `0x` and digits; nothing for no key.
    fn key(&mut self, key: &SecretBytes) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if !key.is_empty() {
            self.0.extend(b"0x");
        }
        for byte in key.expose() {
            self.0.push(DIGITS[usize::from(byte >> 4)]);
            self.0.push(DIGITS[usize::from(byte & 15)]);
        }
    }
}

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gcm() -> EspSecret {
        EspSecret {
            source: Some("192.0.2.1".parse().unwrap()),
            destination: "192.0.2.2".parse().unwrap(),
            spi: Spi(0x1001),
            encryption: EspEncryption::AesGcm16,
            encryption_key: SecretBytes::from((0..20).collect::<Vec<u8>>()),
            authentication: EspAuthentication::Null,
            authentication_key: SecretBytes::default(),
            sequence_number_high: None,
        }
    }

    #[test]
    fn lines_of_the_esp_sa_table() {
        let extended = EspSecret {
            source: None,
            destination: "2001:db8::2".parse().unwrap(),
            spi: Spi(0xfedc_ba98),
            encryption: EspEncryption::AesCbc,
            encryption_key: SecretBytes::from(vec![0xab; 16]),
            authentication: EspAuthentication::HmacSha256_128,
            authentication_key: SecretBytes::from(vec![0x0c; 2]),
            sequence_number_high: Some(0x1f),
        };
        let anywhere = EspSecret { destination: IpAddr::from([0; 4]), ..gcm() };
        let secrets = Secrets::Esp(vec![gcm(), extended, anywhere]);
        assert_eq!(secrets.secrets_type().to_be_bytes(), *b"ESPS");
        let expected = concat!(
            "\"IPv4\",\"192.0.2.1\",\"192.0.2.2\",\"0x00001001\",\"AES-GCM with 16 octet ICV [RFC4106]\",",
            "\"0x000102030405060708090a0b0c0d0e0f10111213\",\"NULL\",\"\",\"32-bit\",\"0\"\n",
            "\"IPv6\",\"*\",\"2001:db8::2\",\"0xfedcba98\",\"AES-CBC [RFC3602]\",",
            "\"0xabababababababababababababababab\",\"HMAC-SHA-256-128 [RFC4868]\",\"0x0c0c\",\"64-bit\",\"1f\"\n",
            "\"IPv4\",\"192.0.2.1\",\"*\",\"0x00001001\",\"AES-GCM with 16 octet ICV [RFC4106]\",",
            "\"0x000102030405060708090a0b0c0d0e0f10111213\",\"NULL\",\"\",\"32-bit\",\"0\"\n",
        );
        assert_eq!(core::str::from_utf8(secrets.data().expose()).unwrap(), expected);
        // As a file, only the extended one has the columns that older versions do not know.
        let table = expected.replace(",\"32-bit\",\"0\"", "");
        assert_eq!(core::str::from_utf8(secrets.table().expose()).unwrap(), table);
        assert_eq!(table.lines().map(|line| line.split(',').count()).collect::<Vec<_>>(), [8, 10, 8]);
    }

    #[test]
    fn the_longest_line_fits_what_is_reckoned() {
        let address = IpAddr::from([0xffff_u16; 8]);
        for encryption in [EspEncryption::AesGcm12, EspEncryption::ChaCha20Poly1305, EspEncryption::TripleDesCbc] {
            let secret = EspSecret {
                source: Some(address),
                destination: address,
                encryption,
                authentication: EspAuthentication::Unchecked128,
                sequence_number_high: Some(u32::MAX),
                ..gcm()
            };
            let data = Secrets::Esp(vec![secret]).data();
            assert!(data.len() <= LINE_LEN + 2 * 20, "{}", data.len());
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", Secrets::Esp(vec![gcm()]));
        assert!(shown.contains("SecretBytes(20 bytes)") && !shown.contains("0001020304"), "{shown}");
    }
}
