//! Typed validation of SA bundles: what a miniport checks before it looks at its capabilities (OV2-SA-3, OV2-SA-4, OV2-COMB-2).

use core::fmt;
use core::net::IpAddr;

use packet::Spi;

use crate::sa::{AhAssociation, Associations, AuthenticationAlgorithm, EncryptionAlgorithm, Endpoints, EspAssociation, Keyed, SaBundle};
use crate::status::Status;

/// What the SA's owner explicitly allows; the default allows neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SaRules {
    /// SPIs 1 to 255, which are reserved by IANA (OV2-SA-4).
    pub reserved_spis: bool,
    /// ESP with encryption only and no AH over it (OV2-COMB-2).
    pub unauthenticated_esp: bool,
}

/// The part of an SA bundle that is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaField {
    /// Source address.
    SourceAddress,
    /// Destination address.
    DestinationAddress,
    /// UDP-ESP encapsulation type.
    UdpEsp,
    /// UDP-ESP port.
    UdpEspPort,
    /// SPI of the ESP association.
    EspSpi,
    /// High-order half of ESP's sequence number.
    EspSequenceNumberHigh,
    /// Length of ESP's encryption key, in bytes.
    EncryptionKeyLength,
    /// Additional information of ESP's encryption algorithm.
    EncryptionAdditionalInfo,
    /// ESP's authentication algorithm, or that there is none.
    EspAuthentication,
    /// Length of ESP's authentication key, in bytes.
    EspAuthenticationKeyLength,
    /// Additional information of ESP's authentication algorithm.
    EspAuthenticationAdditionalInfo,
    /// SPI of the AH association.
    AhSpi,
    /// High-order half of AH's sequence number.
    AhSequenceNumberHigh,
    /// Length of AH's key, in bytes.
    AhKeyLength,
    /// Additional information of AH's authentication algorithm.
    AhAdditionalInfo,
}

impl SaField {
    /// A name for messages and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceAddress => "source address",
            Self::DestinationAddress => "destination address",
            Self::UdpEsp => "UDP-ESP encapsulation",
            Self::UdpEspPort => "UDP-ESP port",
            Self::EspSpi => "ESP SPI",
            Self::EspSequenceNumberHigh => "ESP sequence number, high half",
            Self::EncryptionKeyLength => "encryption key length",
            Self::EncryptionAdditionalInfo => "encryption ICV length",
            Self::EspAuthentication => "ESP authentication",
            Self::EspAuthenticationKeyLength => "ESP authentication key length",
            Self::EspAuthenticationAdditionalInfo => "ESP authentication ICV length",
            Self::AhSpi => "AH SPI",
            Self::AhSequenceNumberHigh => "AH sequence number, high half",
            Self::AhKeyLength => "AH key length",
            Self::AhAdditionalInfo => "AH ICV length",
        }
    }
}

impl fmt::Display for SaField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An SA bundle that no miniport can hold. Shows lengths of keys, never their bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {found} found, {allowed} allowed")]
pub struct Invalid {
    /// Which part.
    pub field: SaField,
    /// What it is.
    pub found: String,
    /// What it could be.
    pub allowed: &'static str,
}

impl From<Invalid> for Status {
    /// What a miniport answers (OV2-SA-4).
    fn from(_: Invalid) -> Self {
        Self::INVALID_DATA
    }
}

impl SaBundle {
    /// Checks what does not depend on an adapter: addresses, SPIs, key and ICV lengths, and which algorithms and operations go together. The bundle's
    /// own [`allow_unauthenticated`](crate::SaExtension::allow_unauthenticated) counts as [`SaRules::unauthenticated_esp`].
    ///
    /// # Errors
    /// [`Invalid`] with the first part that is wrong; [`Status::from`] makes the answer of it.
    pub fn validate(&self, allow: SaRules) -> Result<(), Invalid> {
        endpoints(&self.endpoints)?;
        if self.udp_esp.is_some() {
            let found = match &self.associations {
                Associations::Esp(_) => None,
                Associations::Ah(_) => Some("UDP-ESP with AH alone"),
                Associations::AhOverEsp { .. } => Some("UDP-ESP with AH over ESP"),
            };
            if let Some(found) = found {
                return invalid(SaField::UdpEsp, found, "UDP-ESP with ESP alone");
            }
        }
        match self.extension.udp_esp_port {
            Some(port) if self.udp_esp.is_none() => return invalid(SaField::UdpEspPort, port, "none without UDP-ESP"),
            Some(0) => return invalid(SaField::UdpEspPort, 0, "1 to 65535"),
            Some(_) | None => {}
        }
        check_associations(&self.associations, SaRules { unauthenticated_esp: allow.unauthenticated_esp || self.extension.allow_unauthenticated, ..allow })
    }
}

pub(crate) fn check_associations(associations: &Associations, allow: SaRules) -> Result<(), Invalid> {
    let has_ah = associations.ah().is_some();
    associations.esp().map_or(Ok(()), |esp| esp_association(esp, allow, has_ah))?;
    associations.ah().map_or(Ok(()), |ah| ah_association(ah, allow))
}

fn invalid(field: SaField, found: impl fmt::Display, allowed: &'static str) -> Result<(), Invalid> {
    Err(Invalid { field, found: found.to_string(), allowed })
}

fn endpoints(endpoints: &Endpoints) -> Result<(), Invalid> {
    for (field, address) in [(SaField::SourceAddress, endpoints.source), (SaField::DestinationAddress, endpoints.destination)] {
        let Some(address) = address else { continue };
        if matches!(address, IpAddr::V6(_)) != endpoints.ipv6 {
            return invalid(field, address, if endpoints.ipv6 { "an IPv6 address" } else { "an IPv4 address" });
        }
        // All zero means "not used as a filter", which is `None` here; as an address it would match nothing.
        if address.is_unspecified() {
            return invalid(field, address, "an address, or none");
        }
    }
    Ok(())
}

fn spi(field: SaField, spi: Spi, allow: SaRules) -> Result<(), Invalid> {
    match spi.0 {
        0 => invalid(field, 0, if allow.reserved_spis { "1 to 4294967295" } else { "256 to 4294967295" }),
        1..=255 if !allow.reserved_spis => invalid(field, spi.0, "256 to 4294967295"),
        _ => Ok(()),
    }
}

fn sequence_number_high(field: SaField, extended: bool, high: u32) -> Result<(), Invalid> {
    if !extended && high != 0 { invalid(field, high, "0 without extended sequence numbers") } else { Ok(()) }
}

fn esp_association(esp: &EspAssociation, allow: SaRules, has_ah: bool) -> Result<(), Invalid> {
    spi(SaField::EspSpi, esp.spi, allow)?;
    sequence_number_high(SaField::EspSequenceNumberHigh, esp.extended_sequence_numbers, esp.sequence_number_high)?;
    encryption(&esp.encryption)?;
    let combined = esp.encryption.algorithm.is_combined();
    match &esp.authentication {
        None if combined || has_ah => {}
        None if esp.encryption.algorithm == EncryptionAlgorithm::Null => {
            // RFC 4303 section 3.2: one of the two services at the least.
            return invalid(SaField::EspAuthentication, "none with null encryption", "an authentication algorithm, or AH over it");
        }
        None if !allow.unauthenticated_esp => {
            return invalid(SaField::EspAuthentication, "none", "an authentication algorithm, a combined encryption algorithm, or AH over it");
        }
        None => {}
        Some(authentication) => {
            if combined {
                let found = format_args!("{:?} with {:?}", authentication.algorithm, esp.encryption.algorithm);
                return invalid(SaField::EspAuthentication, found, "none with a combined encryption algorithm");
            }
            let gmac = matches!(authentication.algorithm, AuthenticationAlgorithm::AesGmac(_));
            if gmac && esp.encryption.algorithm != EncryptionAlgorithm::Null {
                let found = format_args!("{:?} with {:?}", authentication.algorithm, esp.encryption.algorithm);
                return invalid(SaField::EspAuthentication, found, "AES-GMAC with null encryption");
            }
            keyed(authentication, SaField::EspAuthenticationKeyLength, SaField::EspAuthenticationAdditionalInfo)?;
        }
    }
    Ok(())
}

fn ah_association(ah: &AhAssociation, allow: SaRules) -> Result<(), Invalid> {
    spi(SaField::AhSpi, ah.spi, allow)?;
    sequence_number_high(SaField::AhSequenceNumberHigh, ah.extended_sequence_numbers, ah.sequence_number_high)?;
    keyed(&ah.authentication, SaField::AhKeyLength, SaField::AhAdditionalInfo)
}

fn encryption(encryption: &Keyed<EncryptionAlgorithm>) -> Result<(), Invalid> {
    key_length(SaField::EncryptionKeyLength, encryption.key.len(), encryption.algorithm.key_length())?;
    let info = encryption.additional_info;
    let (fits, allowed) = match encryption.algorithm {
        EncryptionAlgorithm::AesGcm(_) => (matches!(info, 0 | 8 | 12 | 16), "8, 12, 16, or 0 for 16"),
        EncryptionAlgorithm::ChaCha20Poly1305 => (matches!(info, 0 | 16), "16, or 0 for 16"),
        _ => (info == 0, "0"),
    };
    if fits { Ok(()) } else { invalid(SaField::EncryptionAdditionalInfo, info, allowed) }
}

fn keyed(authentication: &Keyed<AuthenticationAlgorithm>, length_field: SaField, info_field: SaField) -> Result<(), Invalid> {
    key_length(length_field, authentication.key.len(), authentication.algorithm.key_length())?;
    let info = authentication.additional_info;
    let (fits, allowed) = match authentication.algorithm {
        AuthenticationAlgorithm::AesGmac(_) => (matches!(info, 0 | 16), "16, or 0 for 16"),
        _ => (info == 0, "0"),
    };
    if fits { Ok(()) } else { invalid(info_field, info, allowed) }
}

fn key_length(field: SaField, found: usize, expected: usize) -> Result<(), Invalid> {
    let allowed = match expected {
        0 => "0 bytes",
        8 => "8 bytes",
        16 => "16 bytes",
        20 => "20 bytes",
        24 => "24 bytes",
        28 => "28 bytes",
        32 => "32 bytes",
        36 => "36 bytes",
        48 => "48 bytes",
        _ => "64 bytes",
    };
    if found == expected { Ok(()) } else { invalid(field, format_args!("{found} bytes"), allowed) }
}

impl EncryptionAlgorithm {
    /// Length of the key in bytes as requests carry it: of AES-GCM and ChaCha20-Poly1305 with the 4-byte salt (OV2-SA-3).
    pub const fn key_length(self) -> usize {
        match self {
            Self::Null => 0,
            Self::DesCbc => 8,
            Self::TripleDesCbc => 24,
            Self::AesGcm(size) => size.bytes() + 4,
            Self::AesCbc(size) => size.bytes(),
            Self::ChaCha20Poly1305 => 36,
        }
    }

    /// Whether the algorithm authenticates too (RFC 5116), and thus stands alone.
    pub const fn is_combined(self) -> bool {
        matches!(self, Self::AesGcm(_) | Self::ChaCha20Poly1305)
    }
}

impl AuthenticationAlgorithm {
    /// Length of the key in bytes as requests carry it: of AES-GMAC with the 4-byte salt (OV2-SA-3).
    pub const fn key_length(self) -> usize {
        match self {
            Self::HmacMd5 => 16,
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::AesGmac(size) => size.bytes() + 4,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }
}
