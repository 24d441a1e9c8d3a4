//! Security associations as requests name them: bundles, algorithms, keys, handles.

use core::fmt;
use core::net::IpAddr;
use core::num::NonZeroU64;

use packet::Spi;
use secret::SecretBytes;

use crate::v1::V1Scope;

/// Names an offloaded SA bundle: opaque, never reused while live (OV2-SA-5). The miniport makes it; the same value stands in OOB, UPDATE_SA and DELETE_SA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct OffloadHandle(NonZeroU64);

impl OffloadHandle {
    /// A handle from its bits; `None` for zero, which means "no offload".
    #[inline]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// The bits, as OOB slots hold them.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for OffloadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OffloadHandle({:#x})", self.0)
    }
}

/// Which way an SA's packets go, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Packets come in under it.
    Inbound,
    /// Packets go out under it.
    Outbound,
}

/// The operation of a security association: which of the two IPsec protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Authentication header (`IPsecOffloadV2Ah`).
    Ah,
    /// Encapsulating security payload (`IPsecOffloadV2Esp`).
    Esp,
}

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

/// Encryption algorithms that a request can name; each is one bit of [`crate::EncryptionAlgorithms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncryptionAlgorithm {
    /// Null (RFC 2410).
    Null,
    /// DES-CBC (RFC 2405).
    DesCbc,
    /// 3DES-CBC (RFC 2451).
    TripleDesCbc,
    /// AES-GCM (RFC 4106): the key, then the 4-byte salt.
    AesGcm(AesKeySize),
    /// AES-CBC (RFC 3602).
    AesCbc(AesKeySize),
    /// ChaCha20-Poly1305 (RFC 7634): a vendor extension beyond IPsecOV2's masks; the key, then the 4-byte salt.
    ChaCha20Poly1305,
}

/// Authentication algorithms that a request can name; each is one bit of [`crate::AuthenticationAlgorithms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthenticationAlgorithm {
    /// HMAC-MD5-96 (RFC 2403).
    HmacMd5,
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1,
    /// HMAC-SHA-256-128 (RFC 4868).
    HmacSha256,
    /// AES-GMAC (RFC 4543): the key, then the 4-byte salt.
    AesGmac(AesKeySize),
    /// HMAC-SHA-384-192 (RFC 4868): a vendor extension beyond IPsecOV2's masks.
    HmacSha384,
    /// HMAC-SHA-512-256 (RFC 4868): a vendor extension beyond IPsecOV2's masks.
    HmacSha512,
}

/// An algorithm with its key.
#[derive(Debug)]
pub struct Keyed<A> {
    /// The algorithm.
    pub algorithm: A,
    /// The key; for AES-GCM, GMAC and ChaCha20-Poly1305 followed by the 4-byte salt (OV2-SA-3).
    pub key: SecretBytes,
    /// AES-GCM, GMAC and ChaCha20-Poly1305: length of the ICV in bytes, 0 meaning 16 (OV2-SA-3). Other algorithms: 0.
    pub additional_info: u32,
}

/// The ESP half of a bundle.
#[derive(Debug)]
pub struct EspAssociation {
    /// Security parameters index; never 0.
    pub spi: Spi,
    /// Whether sequence numbers are 64 bit (RFC 4304).
    pub extended_sequence_numbers: bool,
    /// High-order 32 bits of the sequence number; only with extended sequence numbers.
    pub sequence_number_high: u32,
    /// Encryption; [`EncryptionAlgorithm::Null`] has an empty key.
    pub encryption: Keyed<EncryptionAlgorithm>,
    /// Authentication, where the encryption algorithm is not a combined one.
    pub authentication: Option<Keyed<AuthenticationAlgorithm>>,
}

/// The AH half of a bundle.
#[derive(Debug)]
pub struct AhAssociation {
    /// Security parameters index; never 0.
    pub spi: Spi,
    /// Whether sequence numbers are 64 bit (RFC 4304).
    pub extended_sequence_numbers: bool,
    /// High-order 32 bits of the sequence number; only with extended sequence numbers.
    pub sequence_number_high: u32,
    /// Authentication.
    pub authentication: Keyed<AuthenticationAlgorithm>,
}

impl<A: Copy> Keyed<A> {
    fn duplicate(&self) -> Self {
        Self { key: self.key.duplicate(), ..*self }
    }
}

impl EspAssociation {
    fn duplicate(&self) -> Self {
        let authentication = self.authentication.as_ref().map(Keyed::duplicate);
        Self { encryption: self.encryption.duplicate(), authentication, ..*self }
    }
}

impl AhAssociation {
    fn duplicate(&self) -> Self {
        Self { authentication: self.authentication.duplicate(), ..*self }
    }
}

/// The one or two security associations of a bundle; two are always ESP first, then AH on top (OV2-SA-2).
#[derive(Debug)]
pub enum Associations {
    /// ESP alone.
    Esp(EspAssociation),
    /// AH alone.
    Ah(AhAssociation),
    /// ESP, and AH over it.
    AhOverEsp {
        /// The inner one.
        esp: EspAssociation,
        /// The outer one.
        ah: AhAssociation,
    },
}

impl Associations {
    /// The ESP association, if the bundle has one.
    pub const fn esp(&self) -> Option<&EspAssociation> {
        match self {
            Self::Esp(esp) | Self::AhOverEsp { esp, .. } => Some(esp),
            Self::Ah(_) => None,
        }
    }

    /// The same a second time, with copies of the keys.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        match self {
            Self::Esp(esp) => Self::Esp(esp.duplicate()),
            Self::Ah(ah) => Self::Ah(ah.duplicate()),
            Self::AhOverEsp { esp, ah } => Self::AhOverEsp { esp: esp.duplicate(), ah: ah.duplicate() },
        }
    }

    /// The AH association, if the bundle has one.
    pub const fn ah(&self) -> Option<&AhAssociation> {
        match self {
            Self::Ah(ah) | Self::AhOverEsp { ah, .. } => Some(ah),
            Self::Esp(_) => None,
        }
    }
}

/// How ESP is carried in UDP (OV2-RECV-7); the four types of `UdpEspEncapsulation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UdpEspType {
    /// Transport mode in UDP.
    Transport,
    /// Tunnel mode in UDP.
    Tunnel,
    /// Transport mode over a UDP-encapsulated tunnel.
    TransportOverUdpTunnel,
    /// UDP-encapsulated transport mode over a tunnel.
    UdpTransportOverTunnel,
}

/// Addresses of a bundle: those of its packets' IP header next to the IPsec header; for a tunnel the tunnel's ends.
///
/// `None` (all zero in the ABI) means: not used as a filter. Both are of the family that `ipv6` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// Whether the addresses are IPv6.
    pub ipv6: bool,
    /// Source, if it filters.
    pub source: Option<IpAddr>,
    /// Destination, if it filters.
    pub destination: Option<IpAddr>,
}

/// What the typed request carries beyond the ABI (OV2-SEND-7, OV2-SA-6, OV2-COMB-2, OV2-RECV-7). The raw form has no field for it, and gets the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SaExtension {
    /// XORed with the 64-bit sequence number to make the IV of counter-mode algorithms.
    pub iv_mask: u64,
    /// Size of the SA's replay window in packets, for the inference of the high half of inbound extended sequence numbers (RFC 4303 appendix A2.2);
    /// `None`: the number nearest to the highest one verified.
    pub replay_window: Option<u32>,
    /// The owner of the SA explicitly allows ESP with encryption only and no AH over it (OV2-COMB-2).
    pub allow_unauthenticated: bool,
    /// Inbound with UDP encapsulation: the local UDP port, if it is not the adapter's (OV2-RECV-7).
    pub udp_esp_port: Option<u16>,
    /// The bundle is that of a request of IPsecOV1: which packets it is for. A miniport sets it for its engine; no request of IPsecOV2 has it.
    pub v1_scope: Option<V1Scope>,
}

/// An SA bundle: what one entry of ADD_SA or one ADD_SA_EX asks the NIC to hold (OV2-SA-2).
#[derive(Debug)]
pub struct SaBundle {
    /// Which way its packets go.
    pub direction: Direction,
    /// Addresses.
    pub endpoints: Endpoints,
    /// UDP encapsulation, if any.
    pub udp_esp: Option<UdpEspType>,
    /// The security associations.
    pub associations: Associations,
    /// Beyond the ABI.
    pub extension: SaExtension,
}
