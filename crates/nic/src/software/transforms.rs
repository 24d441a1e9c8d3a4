//! From a request's algorithms and keys to the transforms that packets go through.

use ipsec::{AhParameters, AhSa, Authentication, Encryption, EspParameters, EspSa, KeyError, Provider, SaError};
use ndis::{AhAssociation, Associations, AuthenticationAlgorithm, EncryptionAlgorithm, EspAssociation, SaBundle, Status};
use secret::SecretBytes;

/// The cryptography of a bundle, behind a pointer, so that no key bytes stay on the stack when the bundle is moved into the table.
pub(super) enum Transforms<P: Provider> {
    /// ESP alone.
    Esp(Box<EspSa<P>>),
    /// AH alone.
    Ah(Box<AhSa<P>>),
    /// ESP, and AH over it.
    AhOverEsp(Box<(EspSa<P>, AhSa<P>)>),
}

impl<P: Provider> Transforms<P> {
    /// Expands a bundle's keys.
    ///
    /// # Errors
    /// [`Status::NOT_SUPPORTED`] for what the provider does not do, [`Status::INVALID_DATA`] for keys that do not fit.
    pub(super) fn new(provider: &P, bundle: &SaBundle) -> Result<Self, Status> {
        let iv_mask = bundle.extension.iv_mask;
        Ok(match &bundle.associations {
            Associations::Esp(esp) => Self::Esp(Box::new(esp_sa(provider, esp, iv_mask)?)),
            Associations::Ah(ah) => Self::Ah(Box::new(ah_sa(provider, ah, iv_mask)?)),
            Associations::AhOverEsp { esp, ah } => Self::AhOverEsp(Box::new((esp_sa(provider, esp, iv_mask)?, ah_sa(provider, ah, iv_mask)?))),
        })
    }

    /// That of ESP, if the bundle has one.
    #[inline]
    pub(super) fn esp(&self) -> Option<&EspSa<P>> {
        match self {
            Self::Esp(esp) => Some(esp),
            Self::AhOverEsp(both) => Some(&both.0),
            Self::Ah(_) => None,
        }
    }

    /// That of AH, if the bundle has one.
    #[inline]
    pub(super) fn ah(&self) -> Option<&AhSa<P>> {
        match self {
            Self::Ah(ah) => Some(ah),
            Self::AhOverEsp(both) => Some(&both.1),
            Self::Esp(_) => None,
        }
    }
}

fn esp_sa<P: Provider>(provider: &P, esp: &EspAssociation, iv_mask: u64) -> Result<EspSa<P>, Status> {
    let none = SecretBytes::default();
    let (authentication, authentication_key) = match &esp.authentication {
        None => (Authentication::None, &none),
        Some(keyed) => (authentication(keyed.algorithm), &keyed.key),
    };
    let parameters = EspParameters {
        encryption: encryption(esp.encryption.algorithm),
        encryption_key: &esp.encryption.key,
        icv_length: match esp.encryption.additional_info {
            0 => 16,
            length => length as usize,
        },
        authentication,
        authentication_key,
        // Whether that is allowed, or AH makes up for it, was looked at when the request was validated (OV2-COMB-2).
        allow_unauthenticated: true,
        extended_sequence_numbers: esp.extended_sequence_numbers,
        iv_mask,
    };
    EspSa::new(provider, &parameters).map_err(status)
}

fn ah_sa<P: Provider>(provider: &P, ah: &AhAssociation, iv_mask: u64) -> Result<AhSa<P>, Status> {
    let parameters = AhParameters {
        authentication: authentication(ah.authentication.algorithm),
        key: &ah.authentication.key,
        extended_sequence_numbers: ah.extended_sequence_numbers,
        iv_mask,
    };
    AhSa::new(provider, &parameters).map_err(status)
}

fn status(error: SaError) -> Status {
    match error {
        SaError::Provider(KeyError::Unsupported { .. }) => Status::NOT_SUPPORTED,
        SaError::Provider(_) => Status::RESOURCES,
        _ => Status::INVALID_DATA,
    }
}

const fn encryption(algorithm: EncryptionAlgorithm) -> Encryption {
    match algorithm {
        EncryptionAlgorithm::Null => Encryption::Null,
        EncryptionAlgorithm::DesCbc => Encryption::DesCbc,
        EncryptionAlgorithm::TripleDesCbc => Encryption::TripleDesCbc,
        EncryptionAlgorithm::AesGcm(size) => Encryption::AesGcm(key_size(size)),
        EncryptionAlgorithm::AesCbc(size) => Encryption::AesCbc(key_size(size)),
        EncryptionAlgorithm::ChaCha20Poly1305 => Encryption::ChaCha20Poly1305,
    }
}

const fn authentication(algorithm: AuthenticationAlgorithm) -> Authentication {
    match algorithm {
        AuthenticationAlgorithm::HmacMd5 => Authentication::HmacMd5,
        AuthenticationAlgorithm::HmacSha1 => Authentication::HmacSha1,
        AuthenticationAlgorithm::HmacSha256 => Authentication::HmacSha256,
        AuthenticationAlgorithm::AesGmac(size) => Authentication::AesGmac(key_size(size)),
        AuthenticationAlgorithm::HmacSha384 => Authentication::HmacSha384,
        AuthenticationAlgorithm::HmacSha512 => Authentication::HmacSha512,
    }
}

const fn key_size(size: ndis::AesKeySize) -> ipsec::AesKeySize {
    match size {
        ndis::AesKeySize::Aes128 => ipsec::AesKeySize::Aes128,
        ndis::AesKeySize::Aes192 => ipsec::AesKeySize::Aes192,
        ndis::AesKeySize::Aes256 => ipsec::AesKeySize::Aes256,
    }
}
