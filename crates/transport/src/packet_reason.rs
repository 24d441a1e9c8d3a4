//! Why a packet was done in software: for people, and for programs (OV2-TRANS-2).
//!
//! A packet whose SA the NIC has can still leave the offload path, for a reason of its own; one whose SA the NIC has not never was on it, and the SA's
//! [reason](crate::OffloadReason) says why. Either way it is counted under exactly one of these: together they are the packets done in software.

use core::fmt;

/// Why a packet was protected, or opened, in software: the first thing that decided so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketReason {
    /// The NIC does not have its SA; the [reason](crate::OffloadReason) is the SA's.
    #[default]
    SaNotOffloaded,
    /// It has IPv4 options, which the adapter does not take (`IPv4Options`).
    Ipv4Options,
    /// It has IPv6 extension headers, which the adapter does not take (`IPv6NonIPsecExtensionHeaders`).
    ExtensionHeaders,
    /// It is a fragment.
    Fragment,
    /// Its headers are further behind than the adapter can be told (OV2-OOB-3).
    Size,
    /// It is a large send beyond the adapter's limits (OV2-SEND-4).
    LargeSendLimits,
    /// Its extended number is one that the adapter may take for another (OV2-SA-6).
    SequenceInDoubt,
    /// Two bundles are around it, and the adapter has done, or has, only one of them (`TransportTunnelCombined`).
    Combination,
    /// Its link header is none that the offload is active for (`Encapsulation`, OV2-CAP-9).
    Encapsulation,
    /// The adapter gave it back (OV2-SEND-1, OV2-SEND-2).
    GivenBack,
    /// The adapter could not make sense of its IPsec headers (OV2-RECV-3).
    NotUnderstood,
    /// It came up undone, and nothing of it says why: it was on its way while the SA or the configuration changed.
    Untouched,
}

impl PacketReason {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::SaNotOffloaded,
        Self::Ipv4Options,
        Self::ExtensionHeaders,
        Self::Fragment,
        Self::Size,
        Self::LargeSendLimits,
        Self::SequenceInDoubt,
        Self::Combination,
        Self::Encapsulation,
        Self::GivenBack,
        Self::NotUnderstood,
        Self::Untouched,
    ];

    /// The name in reports; it stays as it is.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SaNotOffloaded => "sa-not-offloaded",
            Self::Ipv4Options => "ipv4-options",
            Self::ExtensionHeaders => "extension-headers",
            Self::Fragment => "fragment",
            Self::Size => "size",
            Self::LargeSendLimits => "large-send-limits",
            Self::SequenceInDoubt => "sequence-in-doubt",
            Self::Combination => "combination",
            Self::Encapsulation => "encapsulation",
            Self::GivenBack => "given-back",
            Self::NotUnderstood => "not-understood",
            Self::Untouched => "untouched",
        }
    }

    /// The reason of a number; of one that is none, the first.
    pub(crate) const fn from_number(number: u8) -> Self {
        if (number as usize) < Self::ALL.len() { Self::ALL[number as usize] } else { Self::SaNotOffloaded }
    }
}

impl fmt::Display for PacketReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_as_they_are_listed_and_named_apart() {
        let mut names: Vec<_> = PacketReason::ALL.iter().map(|reason| reason.name()).collect();
        for (number, reason) in PacketReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert_eq!(PacketReason::from_number(number as u8), reason);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PacketReason::ALL.len());
        assert_eq!(PacketReason::from_number(u8::MAX), PacketReason::SaNotOffloaded);
    }
}
