//! NDIS versions of adapters.

use core::fmt;

/// The NDIS version that an adapter's driver was written for: it decides which IPsec offload service and which form of requests it takes (OV2-CAP-0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NdisVersion {
    /// Major number.
    pub major: u8,
    /// Minor number: 20 for NDIS 6.20.
    pub minor: u8,
}

impl NdisVersion {
    /// NDIS 6.0: IPsecOV1 only, no direct OID path.
    pub const V6_0: Self = Self { major: 6, minor: 0 };
    /// NDIS 6.1: the first with IPsecOV2 and direct OIDs.
    pub const V6_1: Self = Self { major: 6, minor: 1 };
    /// NDIS 6.20.
    pub const V6_20: Self = Self { major: 6, minor: 20 };
    /// NDIS 6.30: ADD_SA_EX in place of ADD_SA; IPsecOV1 is gone.
    pub const V6_30: Self = Self { major: 6, minor: 30 };

    /// Whether adapters of this version can offer IPsecOV1.
    pub fn has_ipsec_v1(self) -> bool {
        self < Self::V6_30
    }

    /// Whether adapters of this version can offer IPsecOV2, and have a direct OID path.
    pub fn has_ipsec_v2(self) -> bool {
        self >= Self::V6_1
    }

    /// Whether SAs are added with `ADD_SA_EX` (else `ADD_SA`, OV2-SA-1).
    pub fn uses_add_sa_ex(self) -> bool {
        self >= Self::V6_30
    }
}

impl fmt::Display for NdisVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
