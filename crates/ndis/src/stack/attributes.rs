//! What an adapter may claim (OV2-CAP-0, OV2-CAP-1).

use core::fmt;

use packet::Medium;

use crate::driver::AdapterAttributes;
use crate::offload::{Encapsulation, IpsecOffloadV1, IpsecOffloadV2, Offload};
use crate::version::NdisVersion;

/// One service of a capability set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OffloadPart {
    /// Checksums.
    Checksum,
    /// Large send version 1.
    LsoV1,
    /// Large send version 2.
    LsoV2,
    /// IPsecOV1.
    IpsecV1,
    /// IPsecOV2.
    IpsecV2,
    /// Flags of the whole set.
    Flags,
}

impl OffloadPart {
    const ALL: [Self; 6] = [Self::Checksum, Self::LsoV1, Self::LsoV2, Self::IpsecV1, Self::IpsecV2, Self::Flags];

    /// `whole` with this part taken from `part`.
    fn replace(self, whole: &Offload, part: &Offload) -> Offload {
        let mut replaced = *whole;
        match self {
            Self::Checksum => replaced.checksum = part.checksum,
            Self::LsoV1 => replaced.lso_v1 = part.lso_v1,
            Self::LsoV2 => replaced.lso_v2 = part.lso_v2,
            Self::IpsecV1 => replaced.ipsec_v1 = part.ipsec_v1,
            Self::IpsecV2 => replaced.ipsec_v2 = part.ipsec_v2,
            Self::Flags => replaced.flags = part.flags,
        }
        replaced
    }
}

impl fmt::Display for OffloadPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Checksum => "checksum offload",
            Self::LsoV1 => "large send version 1",
            Self::LsoV2 => "large send version 2",
            Self::IpsecV1 => "IPsecOV1",
            Self::IpsecV2 => "IPsecOV2",
            Self::Flags => "flags",
        })
    }
}

/// Attributes that no adapter can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// The default configuration has more than the hardware capabilities (OV2-CAP-1).
    #[error("the default configuration of {part} goes beyond the hardware capabilities")]
    BeyondHardware {
        /// Where.
        part: OffloadPart,
    },
    /// IPsecOV2 on an adapter that is too old for it (OV2-CAP-0).
    #[error("IPsecOV2 is reported by an adapter of NDIS {found}; it exists from NDIS 6.1")]
    IpsecV2TooEarly {
        /// The adapter's version.
        found: NdisVersion,
    },
    /// IPsecOV2 without a direct request handler and a direct cancel handler (OV2-OID-3).
    #[error("IPsecOV2 is reported by an adapter whose driver has no direct request handlers")]
    IpsecV2WithoutDirectRequests,
    /// IPsecOV2 without tunnel mode, which it must have (OV2-CAP-2), and no word that this is meant so.
    #[error("IPsecOV2 is reported without tunnel mode, which is mandatory")]
    IpsecV2WithoutTunnel,
    /// IPsecOV2 on an Ethernet adapter, not for Ethernet frames (OV2-CAP-2).
    #[error("IPsecOV2 is reported by an Ethernet adapter without encapsulation IEEE 802.3, which is mandatory")]
    IpsecV2WithoutEthernet,
    /// IPsecOV1 on an adapter that is too new for it (OV2-CAP-0).
    #[error("IPsecOV1 is reported by an adapter of NDIS {found}; it is gone from NDIS 6.30")]
    IpsecV1TooLate {
        /// The adapter's version.
        found: NdisVersion,
    },
}

/// Checks what a miniport reported at initialisation.
pub(super) fn check(attributes: &AdapterAttributes) -> Result<(), AttributeError> {
    let AdapterAttributes { version, medium, hardware_capabilities: hardware, default_configuration: default, direct_requests, .. } = attributes;
    for part in OffloadPart::ALL {
        if !part.replace(hardware, default).is_within(hardware) {
            return Err(AttributeError::BeyondHardware { part });
        }
    }
    if hardware.ipsec_v2.is_supported() {
        if !version.has_ipsec_v2() {
            return Err(AttributeError::IpsecV2TooEarly { found: *version });
        }
        if !direct_requests {
            return Err(AttributeError::IpsecV2WithoutDirectRequests);
        }
        if !hardware.ipsec_v2.tunnel && !attributes.deviates_without_tunnel {
            return Err(AttributeError::IpsecV2WithoutTunnel);
        }
        // An adapter for bare IP packets has only encapsulation NULL to offer.
        if *medium == Medium::Ethernet && !hardware.ipsec_v2.encapsulation.contains(Encapsulation::IEEE_802_3) {
            return Err(AttributeError::IpsecV2WithoutEthernet);
        }
    }
    if hardware.ipsec_v1.is_supported() && !version.has_ipsec_v1() {
        return Err(AttributeError::IpsecV1TooLate { found: *version });
    }
    Ok(())
}

/// `offload` without the services that an adapter of this kind cannot have: indications cannot be refused.
pub(super) fn permitted(offload: &Offload, version: NdisVersion, direct_requests: bool) -> Offload {
    let mut permitted = *offload;
    if !version.has_ipsec_v2() || !direct_requests {
        permitted.ipsec_v2 = IpsecOffloadV2::default();
    }
    if !version.has_ipsec_v1() {
        permitted.ipsec_v1 = IpsecOffloadV1::default();
    }
    permitted
}
