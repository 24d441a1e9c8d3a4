//! Why an SA is, or is not, offloaded: for people, and for programs (OV2-TRANS-2, R-32).

use core::fmt;

use ndis::{AuthenticationAlgorithms, CapabilityField, CapabilityValue, EncryptionAlgorithms, NotCovered, Status, V1Member};

/// Why an SA is, or is not, offloaded. Every SA has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffloadReason {
    /// The NIC has it.
    Offloaded,
    /// The NIC was asked and has not answered yet.
    Pending,
    /// There is no adapter.
    NoAdapter,
    /// All task offloads are switched off in the system (`DisableTaskOffload`).
    TaskOffloadDisabled,
    /// IPsec offload is switched off in the system (`EnabledOffload` 0).
    IpsecOffloadDisabled,
    /// The adapter did not take the encapsulation (OV2-CAP-9).
    EncapsulationRefused(Status),
    /// The adapter's hardware does not cover it; says the field that decided.
    NotCovered(NotCovered),
    /// The hardware would cover it, and the current configuration does not: a keyword, or who configured the adapter since, has it switched off.
    SwitchedOff(NotCovered),
    /// The NIC holds as many bundles as it can.
    Capacity,
    /// The NIC refused it.
    Refused(Status),
    /// The SA's owner forbids it.
    Forbidden,
    /// The NIC asked to have it deleted (OV2-SA-8).
    DeletedByNic,
    /// The adapter is resetting.
    Resetting,
    /// The SA's life is over.
    Expired,
}

impl fmt::Display for OffloadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offloaded => f.pad("offloaded"),
            Self::Pending => f.pad("the adapter has not answered yet"),
            Self::NoAdapter => f.pad("there is no adapter"),
            Self::TaskOffloadDisabled => f.pad("task offload is disabled in the system"),
            Self::IpsecOffloadDisabled => f.pad("IPsec offload is disabled in the system"),
            Self::EncapsulationRefused(status) => write!(f, "the adapter refused the encapsulation: {status}"),
            Self::NotCovered(field) => write!(f, "{field}"),
            Self::SwitchedOff(field) => write!(f, "switched off in the adapter's configuration: {field}"),
            Self::Capacity => f.pad("the adapter is full"),
            Self::Refused(status) => write!(f, "the adapter refused it: {status}"),
            Self::Forbidden => f.pad("forbidden for this SA"),
            Self::DeletedByNic => f.pad("the adapter asked to delete it"),
            Self::Resetting => f.pad("the adapter is resetting"),
            Self::Expired => f.pad("its life is over"),
        }
    }
}

/// An [`OffloadReason`] for programs: a code that stays as it is, and the field that decided where one did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What kind of reason it is; one of [`Why::CODES`].
    pub code: &'static str,
    /// Microsoft's name of the member of the capability structure that decided, or of the keyword.
    pub field: Option<&'static str>,
    /// What the SA needs of it.
    pub asked: Option<String>,
    /// What the adapter has of it.
    pub supported: Option<String>,
}

impl Why {
    /// All codes.
    pub const CODES: [&'static str; 22] = [
        "offloaded",
        "pending",
        "no-adapter",
        "not-supported",
        "operation",
        "algorithm",
        "key-length",
        "icv-length",
        "mode",
        "direction",
        "combination",
        "extended-sequence-numbers",
        "udp-esp-type",
        "ip-version",
        "capacity",
        "keyword",
        "encapsulation-not-set",
        "configuration-race",
        "refused",
        "forbidden",
        "deleted-by-adapter",
        "expired",
    ];

    const fn plain(code: &'static str) -> Self {
        Self { code, field: None, asked: None, supported: None }
    }

    fn missing(code: &'static str, missing: &NotCovered) -> Self {
        Self { code, field: Some(missing.field.name()), asked: Some(missing.asked.to_string()), supported: Some(missing.supported.to_string()) }
    }

    fn keyword(name: &'static str, supported: &str) -> Self {
        Self { code: "keyword", field: Some(name), asked: None, supported: Some(supported.to_owned()) }
    }
}

impl From<OffloadReason> for Why {
    fn from(reason: OffloadReason) -> Self {
        match reason {
            OffloadReason::Offloaded => Self::plain("offloaded"),
            OffloadReason::Pending | OffloadReason::Resetting => Self::plain("pending"),
            OffloadReason::NoAdapter => Self::plain("no-adapter"),
            OffloadReason::TaskOffloadDisabled => Self::keyword("DisableTaskOffload", "1"),
            OffloadReason::IpsecOffloadDisabled => Self::keyword("EnabledOffload", "0"),
            OffloadReason::EncapsulationRefused(status) => Self { supported: Some(status.to_string()), ..Self::plain("encapsulation-not-set") },
            OffloadReason::NotCovered(missing) => Self::missing(code_of(&missing), &missing),
            OffloadReason::SwitchedOff(missing) => Self::missing("keyword", &missing),
            OffloadReason::Capacity => Self { field: Some("SaOffloadCapacity"), ..Self::plain("capacity") },
            // The configuration had covered it when it was offered (OV2-SA-4).
            OffloadReason::Refused(Status::NOT_SUPPORTED) => Self::plain("configuration-race"),
            OffloadReason::Refused(status) => Self { supported: Some(status.to_string()), ..Self::plain("refused") },
            OffloadReason::Forbidden => Self::plain("forbidden"),
            OffloadReason::DeletedByNic => Self::plain("deleted-by-adapter"),
            OffloadReason::Expired => Self::plain("expired"),
        }
    }
}

fn code_of(missing: &NotCovered) -> &'static str {
    match missing.field {
        CapabilityField::Encapsulation => "not-supported",
        CapabilityField::Ipv6Supported => "ip-version",
        CapabilityField::Esp | CapabilityField::Ah | CapabilityField::V1(V1Member::Operation(_)) => "operation",
        CapabilityField::AhEspCombined | CapabilityField::TransportTunnelCombined => "combination",
        CapabilityField::Transport | CapabilityField::Tunnel | CapabilityField::V1(V1Member::Mode(..)) => "mode",
        CapabilityField::UdpEsp | CapabilityField::V1(V1Member::UdpEsp) => "udp-esp-type",
        CapabilityField::ExtendedSequenceNumbers => "extended-sequence-numbers",
        CapabilityField::IcvLength => "icv-length",
        CapabilityField::V1(V1Member::Direction(..)) => "direction",
        CapabilityField::V1(V1Member::Algorithm(_) | V1Member::Md5 | V1Member::Sha1 | V1Member::Des | V1Member::TripleDes | V1Member::NullEsp) => "algorithm",
        CapabilityField::EncryptionAlgorithms | CapabilityField::AuthenticationAlgorithms => {
            if has_other_key_length(missing) {
                "key-length"
            } else {
                "algorithm"
            }
        }
    }
}

/// Whether the adapter has the algorithm that was asked for, with keys of other lengths.
fn has_other_key_length(missing: &NotCovered) -> bool {
    use AuthenticationAlgorithms as Auth;
    use EncryptionAlgorithms as Enc;
    let gcm = Enc::AES_GCM_128 | Enc::AES_GCM_192 | Enc::AES_GCM_256;
    let cbc = Enc::AES_CBC_128 | Enc::AES_CBC_192 | Enc::AES_CBC_256;
    let gmac = Auth::AES_GCM_128 | Auth::AES_GCM_192 | Auth::AES_GCM_256;
    match (missing.asked, missing.supported) {
        (CapabilityValue::Encryption(asked), CapabilityValue::Encryption(supported)) => {
            [gcm, cbc].into_iter().any(|family| family.contains(asked) && family.intersects(supported))
        }
        (CapabilityValue::Authentication(asked), CapabilityValue::Authentication(supported)) => gmac.contains(asked) && gmac.intersects(supported),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(field: CapabilityField, asked: CapabilityValue, supported: CapabilityValue) -> OffloadReason {
        OffloadReason::NotCovered(NotCovered { field, asked, supported })
    }

    #[test]
    fn every_reason_has_a_code_of_the_list() {
        let (yes, no) = (CapabilityValue::Flag(true), CapabilityValue::Flag(false));
        let fields = CapabilityField::ALL.into_iter().chain([CapabilityField::TransportTunnelCombined]).chain(V1Member::ALL.map(CapabilityField::V1));
        let reasons = fields.map(|field| missing(field, yes, no)).chain([
            OffloadReason::Offloaded,
            OffloadReason::Pending,
            OffloadReason::NoAdapter,
            OffloadReason::TaskOffloadDisabled,
            OffloadReason::IpsecOffloadDisabled,
            OffloadReason::EncapsulationRefused(Status::INVALID_PARAMETER),
            OffloadReason::SwitchedOff(NotCovered { field: CapabilityField::Esp, asked: yes, supported: no }),
            OffloadReason::Capacity,
            OffloadReason::Refused(Status::NOT_SUPPORTED),
            OffloadReason::Refused(Status::FAILURE),
            OffloadReason::Forbidden,
            OffloadReason::DeletedByNic,
            OffloadReason::Resetting,
            OffloadReason::Expired,
            missing(
                CapabilityField::EncryptionAlgorithms,
                CapabilityValue::Encryption(EncryptionAlgorithms::AES_GCM_192),
                CapabilityValue::Encryption(EncryptionAlgorithms::AES_GCM_128),
            ),
        ]);
        let mut seen: Vec<&str> = reasons.map(|reason| Why::from(reason).code).collect();
        seen.sort_unstable();
        seen.dedup();
        let mut all = Why::CODES;
        all.sort_unstable();
        assert_eq!(seen, all);
    }

    #[test]
    fn another_key_length_is_not_another_algorithm() {
        use AuthenticationAlgorithms as Auth;
        use EncryptionAlgorithms as Enc;
        let encryption = |asked, supported| {
            let why = Why::from(missing(CapabilityField::EncryptionAlgorithms, CapabilityValue::Encryption(asked), CapabilityValue::Encryption(supported)));
            (why.code, why.asked.unwrap(), why.supported.unwrap())
        };
        let table = [
            (Enc::AES_GCM_256, Enc::AES_GCM_128 | Enc::NONE, "key-length"),
            (Enc::AES_CBC_192, Enc::AES_CBC_256, "key-length"),
            (Enc::AES_GCM_256, Enc::AES_CBC_256, "algorithm"),
            (Enc::DES_CBC, Enc::TRIPLE_DES_CBC, "algorithm"),
            (Enc::NONE, Enc::empty(), "algorithm"),
        ];
        for (asked, supported, code) in table {
            assert_eq!(encryption(asked, supported).0, code, "{asked:?} {supported:?}");
        }
        assert_eq!(encryption(Enc::AES_GCM_256, Enc::AES_GCM_128), ("key-length", "AES_GCM_256".to_owned(), "AES_GCM_128".to_owned()));
        let gmac = missing(
            CapabilityField::AuthenticationAlgorithms,
            CapabilityValue::Authentication(Auth::AES_GCM_192),
            CapabilityValue::Authentication(Auth::AES_GCM_128 | Auth::SHA_1),
        );
        assert_eq!(Why::from(gmac).code, "key-length");
    }
}
