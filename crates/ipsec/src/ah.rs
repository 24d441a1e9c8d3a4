//! The cryptographic half of an AH SA (RFC 4302, RFC 4543): from an IP packet with an AH in it to a job for a provider.
//!
//! ```text
//!  IP header, options or extension headers in front of AH        |  mutable fields zero or as they will arrive: ah_mask.rs
//! +---------------+---------------+-------------------------------+
//! |  next header  |  AH length    |           reserved            |
//! +---------------+---------------+-------------------------------+
//! |               security parameters index (SPI)                 |  as they stand
//! +---------------------------------------------------------------+
//! |                  sequence number, low half                    |
//! +---------------------------------------------------------------+
//! |                  ICV (12 to 32 bytes);                        |  zero
//! |           AES-GMAC: IV (8 bytes), then ICV (16 bytes)         |
//! +---------------------------------------------------------------+
//! |     padding to a multiple of 4 or 8 bytes, if it needs it     |  as it stands
//! +---------------------------------------------------------------+
//!  what follows, to the end of the packet                        |  as it stands
//!  high half of the sequence number, with ESN                    |  not carried
//! ```
//!
//! What is authenticated goes to the provider in three parts: a copy of the headers with the mutable fields made alike, the rest of the packet where it is,
//! the high half of an extended number.
//!
//! AES-GMAC: RFC 4543 section 4 (with erratum 3643) puts IV and tag together into the field that RFC 4302 counts as zero, so the IV is zero in what is
//! authenticated; it is the nonce, and so protected, all the same. (No other implementation of AES-GMAC in AH is at hand to compare with.)

use core::fmt;
use core::ops::Range;

use packet::AH_FIXED_LEN;
use secret::SecretBytes;
use zeroize::Zeroize;

use crate::ah_mask::{self, AhError};
use crate::algorithm::Authentication;
use crate::esp::SaError;
use crate::iv;
use crate::provider::{AuthJob, Icv, Provider};

/// What an AH SA is made from.
#[derive(Clone, Copy, Debug)]
pub struct AhParameters<'a> {
    /// Authentication algorithm.
    pub authentication: Authentication,
    /// Its key; for AES-GMAC the cipher's key, then the 4-byte salt.
    pub key: &'a SecretBytes,
    /// Whether sequence numbers have 64 bits (RFC 4304).
    pub extended_sequence_numbers: bool,
    /// XORed with the sequence number to make the IV of AES-GMAC (OV2-SEND-7). Only sealing uses it.
    pub iv_mask: u64,
}

/// Keys and parameters of one AH SA, ready for use. It is shared by all lanes and does not change.
///
/// For batches: [`AhSa::prepare_seal`] or [`AhSa::prepare_open`] for each packet, [`AhSa::job`] for each, one call to [`Provider::authenticate`], then
/// [`AhSa::write_icv`] or [`AhSa::verify_icv`] for each. For one packet: [`AhSa::seal_packet`] and [`AhSa::open_packet`].
///
/// What the ICV covers, and how:
///
/// | field | in the ICV | source |
/// | --- | --- | --- |
/// | IPv4 type of service, flags, fragment offset, time to live, header checksum | zero | RFC 4302 section 3.3.3.1.1.1 |
/// | IPv4 destination address | as it stands; with a source route that is not used up: the last address of the route | RFC 4302 section 3.3.3.1.1.1 |
/// | IPv4 options end of list, no operation, security (130, 133, 134), router alert (148), multi-destination delivery (149), and what follows an end of list | as they stand | RFC 4302 appendix A1 |
/// | every other IPv4 option, source routes among them | zero, type and length too | RFC 4302 appendix A1 |
/// | IPv6 traffic class, flow label, hop limit | zero | RFC 4302 section 3.3.3.1.2.1 |
/// | IPv6 hop-by-hop and destination options whose type has the bit 0x20 | data zero; type and length as they stand | RFC 4302 appendix A2 |
/// | the others of these options | as they stand | RFC 4302 appendix A2 |
/// | home address option in destination options | home address and source address exchanged | RFC 6275 section 11.3.2 |
/// | IPv6 routing header of type 0 or 2, and the destination address | as at the end of the route: no segments left | RFC 4302 appendix A2, RFC 6275 section 6.4 |
/// | other routing headers | as they stand, if no segments are left | RFC 8200 section 4.4 |
/// | IPv6 fragment header of a whole packet (RFC 6946) | not there: next header and payload length as without it | RFC 4302 appendix A2 |
/// | other IPv6 extension headers | none may be there | RFC 4302 section 3.3.3.1.2.2 |
/// | AH: ICV field, with AES-GMAC the IV in it too | zero | RFC 4302 section 2, RFC 4543 section 4 |
/// | AH: padding after the ICV | as it stands | RFC 4302 section 3.3.3.2.1 |
/// | everything else, and everything after the AH | as it stands | |
///
/// ```
/// use ipsec::{AhParameters, AhSa, Authentication, Crypto};
/// use secret::SecretBytes;
///
/// let crypto = Crypto::default();
/// let sa = AhSa::new(&crypto, &AhParameters {
///     authentication: Authentication::HmacSha256,
///     key: &SecretBytes::from(vec![7; 32]),
///     extended_sequence_numbers: false,
///     iv_mask: 0,
/// })?;
/// // IPv4 of 20 bytes with protocol 51, AH of 28 bytes, four bytes of payload.
/// let mut packet = [0; 52];
/// packet[..20].copy_from_slice(&[0x45, 0, 0, 52, 0, 1, 0, 0, 64, 51, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
/// packet[20..32].copy_from_slice(&[17, (sa.header_length(4) / 4 - 2) as u8, 0, 0, 0, 0, 0x10, 1, 0, 0, 0, 1]);
/// sa.seal_packet(&crypto, &mut packet, 20, 1)?;
/// packet[8] -= 1; // A router counts the time to live down.
/// assert!(sa.open_packet(&crypto, &packet, 20, 1));
/// packet[12] ^= 1; // Somebody else's address.
/// assert!(!sa.open_packet(&crypto, &packet, 20, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AhSa<P: Provider> {
    key: P::AuthKey,
    authentication: Authentication,
    extended: bool,
    iv_mask: u64,
    /// Of AES-GMAC.
    salt: iv::Salt,
}

/// Where the parts of one packet are, from [`AhSa::prepare_seal`] or [`AhSa::prepare_open`]. It holds no bytes of the packet.
#[derive(Clone, Copy, Debug)]
pub struct AhPart {
    /// The headers in the buffer of masked ones.
    masked: (u32, u32),
    /// The AH in the packet, and what follows it.
    ah: u32,
    rest: u32,
    /// High half of the sequence number, and how much of it is authenticated: none or all.
    high: [u8; 4],
    high_length: u8,
}

impl<P: Provider> AhSa<P> {
    /// Expands the key.
    ///
    /// # Errors
    /// [`SaError`]: no algorithm, a key of the wrong length, or a provider that cannot do it.
    pub fn new(provider: &P, parameters: &AhParameters<'_>) -> Result<Self, SaError> {
        let &AhParameters { authentication, key, extended_sequence_numbers, iv_mask } = parameters;
        let expected = authentication.key_length();
        let wrong_length = SaError::AuthenticationKeyLength { algorithm: authentication, expected, found: key.len() };
        if key.len() != expected {
            return Err(wrong_length);
        }
        let (key, salt) = key.expose().split_at_checked(expected - authentication.salt_length()).ok_or(wrong_length)?;
        let key = provider.auth_key(authentication, key)?;
        let salt = salt.first_chunk().copied().unwrap_or_default();
        Ok(Self { key, authentication, extended: extended_sequence_numbers, iv_mask, salt })
    }

    /// Authentication algorithm.
    pub const fn authentication(&self) -> Authentication {
        self.authentication
    }

    /// Whether sequence numbers are extended: 64 bits.
    pub const fn esn(&self) -> bool {
        self.extended
    }

    /// Bytes of the ICV field without padding: the ICV, and with AES-GMAC the IV in front of it.
    #[inline]
    pub const fn icv_field_length(&self) -> usize {
        self.authentication.iv_length() + self.authentication.icv_length()
    }

    /// Bytes of the AH, rounded up to `alignment`: 4 (IPv4) or 8 (IPv6; Linux's default for IPv4 too). Any other alignment counts as 4.
    #[inline]
    pub const fn header_length(&self, alignment: usize) -> usize {
        ah_mask::header_length(self.icv_field_length(), alignment)
    }

    /// Whether a received AH may have this length: rounded up to 4 or to 8, whichever the IP version. Everything else is the header of another algorithm
    /// (R-20).
    #[inline]
    pub const fn accepts_header_length(&self, length: usize) -> bool {
        ah_mask::accepts(self.icv_field_length(), length)
    }

    /// Prepares `packet` to be authenticated. It goes from the IP header to the end of the IP packet, everything in it is final but the ICV field, and the AH
    /// is at `ah`. Writes the IV into the ICV field if the algorithm has one (OV2-SEND-7), and appends the headers up to and including the AH to `masked`,
    /// mutable fields made alike. `sequence` must never have been used before under this key.
    ///
    /// # Errors
    /// [`AhError`]; neither `packet` nor `masked` has been changed then.
    #[inline]
    pub fn prepare_seal(&self, packet: &mut [u8], ah: usize, sequence: u64, masked: &mut Vec<u8>) -> Result<AhPart, AhError> {
        let part = self.prepare_open(packet, ah, sequence, masked)?;
        let iv = self.authentication.iv_length();
        if let Some(field) = packet.get_mut(ah + AH_FIXED_LEN..).and_then(|field| field.first_chunk_mut())
            && iv != 0
        {
            *field = iv::counter(sequence, self.iv_mask);
        }
        Ok(part)
    }

    /// As [`Self::prepare_seal`], for a packet that was received: the IV is the packet's. `sequence` is the packet's 64-bit number; without extended sequence
    /// numbers the header's.
    ///
    /// # Errors
    /// [`AhError`]; `masked` has not been changed then.
    #[inline]
    pub fn prepare_open(&self, packet: &[u8], ah: usize, sequence: u64, masked: &mut Vec<u8>) -> Result<AhPart, AhError> {
        let before = masked.len();
        let (length, range) = ah_mask::append(packet, ah, self.icv_field_length(), masked)?;
        if let Err(error) = self.check_number(packet, ah, sequence) {
            masked.truncate(before);
            return Err(error);
        }
        Ok(AhPart {
            masked: (range.start as u32, range.end as u32),
            ah: ah as u32,
            rest: (ah + length) as u32,
            high: ((sequence >> 32) as u32).to_be_bytes(),
            high_length: if self.extended { 4 } else { 0 },
        })
    }

    /// The job for a packet that was prepared. `masked` is the buffer that was given to prepare it; others may have been appended since.
    #[inline]
    pub fn job<'a>(&'a self, packet: &'a [u8], masked: &'a [u8], part: &'a AhPart) -> AuthJob<'a, P::AuthKey> {
        let iv = packet.get(part.ah as usize + AH_FIXED_LEN..).and_then(|field| field.first_chunk()).filter(|_| self.authentication.iv_length() != 0);
        let nonce = iv.map_or([0; 12], |&iv| iv::nonce(self.salt, iv));
        let (from, to) = part.masked;
        let parts = [
            masked.get(from as usize..to as usize).unwrap_or_default(),
            packet.get(part.rest as usize..).unwrap_or_default(),
            part.high.get(..part.high_length.into()).unwrap_or_default(),
        ];
        AuthJob::new(&self.key, nonce, parts)
    }

    /// Puts the ICV into the packet. An ICV that no provider has computed leaves zero there.
    #[inline]
    pub fn write_icv(&self, packet: &mut [u8], part: &AhPart, icv: &Icv) {
        if let Some(field) = packet.get_mut(self.icv(part)) {
            if icv.as_bytes().len() == field.len() {
                field.copy_from_slice(icv.as_bytes());
            } else {
                field.fill(0);
            }
        }
    }

    /// Whether the packet carries this ICV; compared in constant time.
    #[inline]
    pub fn verify_icv(&self, packet: &[u8], part: &AhPart, icv: &Icv) -> bool {
        packet.get(self.icv(part)).is_some_and(|field| icv.verify(field))
    }

    /// Makes the IV and the ICV of one packet; arguments as of [`Self::prepare_seal`]. It allocates.
    ///
    /// # Errors
    /// [`AhError`]; `packet` is as it was then.
    pub fn seal_packet(&self, provider: &P, packet: &mut [u8], ah: usize, sequence: u64) -> Result<(), AhError> {
        let mut masked = Vec::new();
        let part = self.prepare_seal(packet, ah, sequence, &mut masked)?;
        let icv = self.authenticate(provider, packet, &masked, &part);
        self.write_icv(packet, &part, &icv);
        Ok(())
    }

    /// Whether one packet is authentic; arguments as of [`Self::prepare_open`]. What is no packet with an AH of this SA is not. It allocates.
    pub fn open_packet(&self, provider: &P, packet: &[u8], ah: usize, sequence: u64) -> bool {
        let mut masked = Vec::new();
        self.prepare_open(packet, ah, sequence, &mut masked)
            .is_ok_and(|part| self.verify_icv(packet, &part, &self.authenticate(provider, packet, &masked, &part)))
    }

    fn authenticate(&self, provider: &P, packet: &[u8], masked: &[u8], part: &AhPart) -> Icv {
        let mut jobs = [self.job(packet, masked, part)];
        provider.authenticate(&mut jobs);
        let [job] = jobs;
        job.icv
    }

    /// Where the packet has its ICV.
    fn icv(&self, part: &AhPart) -> Range<usize> {
        let start = part.ah as usize + AH_FIXED_LEN + self.authentication.iv_length();
        start..start + self.authentication.icv_length()
    }

    /// Checks that `sequence` is the number of which the header carries all or the low half.
    fn check_number(&self, packet: &[u8], ah: usize, sequence: u64) -> Result<(), AhError> {
        let low = packet.get(ah + 8..).and_then(|field| field.first_chunk()).map_or(0, |&low| u32::from_be_bytes(low));
        let carried = if self.extended { u64::from(sequence as u32) } else { sequence };
        if carried == u64::from(low) { Ok(()) } else { Err(AhError::Sequence { header: low, given: sequence }) }
    }
}

impl<P: Provider> Drop for AhSa<P> {
    fn drop(&mut self) {
        // The key erases itself.
        self.salt.zeroize();
    }
}

impl<P: Provider> fmt::Debug for AhSa<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AhSa").field("authentication", &self.authentication).field("extended_sequence_numbers", &self.extended).finish_non_exhaustive()
    }
}
