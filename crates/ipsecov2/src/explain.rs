//! Which SAs a NIC takes, which not, and why: SAs of a file offered to the NICs of profiles (OV2-TRANS-2, R-32).
//!
//! Nothing is worked out on paper here. A host with a NIC of the profile is put together, the SAs are added, the transport offers them by ADD_SA, and what
//! it notes as its reason is what is shown.

use ipsec::Crypto;
use ndis::{CapabilityField, CapabilityValue, Direction, IpsecOffloadV2, IpsecService, NotCovered, Operation, SaMode, V1Member};
use packet::Time;
use sa_table::Handle;
use serde::Serialize;
use transport::{OffloadReason, SaError, SaParameters, Why};

use crate::host::{Host, HostConfig, HostError};
use crate::profile::{Confidence, Profile};

/// What a NIC makes of a list of SAs.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Name of the profile.
    pub profile: String,
    /// What card it is.
    pub title: String,
    /// The NDIS version of its miniport.
    pub ndis_version: String,
    /// Which of the two IPsec services it has; absent without either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipsec_service: Option<&'static str>,
    /// How many SA bundles the NIC holds; 0 without IPsec, and where IPsecOV1 does not tell.
    pub capacity: u32,
    /// How sure that is; absent where the profile does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_confidence: Option<&'static str>,
    /// How many of the SAs it took.
    pub offloaded: usize,
    /// How many there are.
    pub sas: Vec<SaExplanation>,
    /// What else is to be known of the card.
    pub notes: Vec<String>,
}

/// What a NIC makes of an SA.
#[derive(Clone, Debug, Serialize)]
pub struct SaExplanation {
    /// The SA's name.
    pub name: String,
    /// The one reason.
    pub reason: Reason,
    /// The reason in words.
    pub text: String,
    /// How sure it is that the card is so; absent where the profile does not tell, or no capability decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<&'static str>,
    /// What would have to change, all of it, for the NIC to take it; empty where it has it.
    pub changes: Vec<String>,
}

/// A [`Why`] in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// One of [`Why::CODES`].
    pub code: &'static str,
    /// What decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    /// What the SA needs of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What the NIC has of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported: Option<String>,
}

impl From<OffloadReason> for Reason {
    fn from(reason: OffloadReason) -> Self {
        let Why { code, field, asked, supported } = reason.into();
        Self { code, field, asked, supported }
    }
}

/// Why SAs cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The host cannot be put together.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The transport takes none of the kind.
    #[error(transparent)]
    Sa(#[from] SaError),
}

/// Offers `sas` to a NIC of `profile`.
///
/// # Errors
/// [`ExplainError`].
pub fn explain(sas: Vec<SaParameters>, profile: &Profile, crypto: Crypto) -> Result<Explanation, ExplainError> {
    let config = HostConfig { crypto, reserved_spis: true, capacity: sas.len().max(1), ..HostConfig::default() };
    let mut host = Host::new(&config.with_profile(profile))?;
    let handles = host.add_sas(sas, Time::ZERO).map_err(|(_, error)| error)?;
    host.service(Time::ZERO, &mut Vec::new());
    let explained: Vec<_> = handles.iter().filter_map(|&handle| explain_sa(&host, handle, profile)).collect();
    Ok(Explanation {
        profile: profile.name.clone(),
        title: profile.title.clone(),
        ndis_version: profile.version.to_string(),
        ipsec_service: profile.service().map(IpsecService::name),
        capacity: profile.capacity(),
        capacity_confidence: confidence(profile, capacity_field(profile)).map(Confidence::name),
        offloaded: explained.iter().filter(|sa| sa.reason.code == "offloaded").count(),
        sas: explained,
        notes: profile.notes.clone(),
    })
}

fn explain_sa(host: &Host, handle: Handle, profile: &Profile) -> Option<SaExplanation> {
    let status = host.transport().sa(handle)?;
    let lacks = match profile.service() {
        Some(IpsecService::V1) => host.transport().lacks_v1(handle, &profile.offload.ipsec_v1)?,
        _ => host.transport().lacks(handle, &profile.offload.ipsec_v2)?,
    };
    let confidence = match status.offload {
        OffloadReason::NotCovered(missing) => confidence(profile, profile_field(missing.field)),
        OffloadReason::Capacity => confidence(profile, capacity_field(profile)),
        _ => None,
    };
    Some(SaExplanation {
        name: status.name.to_string(),
        text: status.offload.to_string(),
        confidence: confidence.map(Confidence::name),
        changes: changes(status.offload, &lacks, profile),
        reason: status.offload.into(),
    })
}

/// The field of a profile that says whether a card has a capability.
const fn profile_field(field: CapabilityField) -> &'static str {
    match field {
        CapabilityField::Encapsulation => "encapsulation",
        CapabilityField::Ipv6Supported => "ipv6-supported",
        CapabilityField::Esp => "esp",
        CapabilityField::Ah => "ah",
        CapabilityField::AhEspCombined => "ah-esp-combined",
        CapabilityField::Transport => "transport",
        CapabilityField::Tunnel => "tunnel",
        CapabilityField::UdpEsp => "udp-esp",
        CapabilityField::ExtendedSequenceNumbers => "extended-sequence-numbers",
        CapabilityField::EncryptionAlgorithms => "encryption-algorithms",
        CapabilityField::IcvLength => "icv-lengths",
        CapabilityField::AuthenticationAlgorithms => "authentication-algorithms",
        CapabilityField::TransportTunnelCombined => "transport-tunnel-combined",
        CapabilityField::V1(member) => match member {
            V1Member::Md5 => "ah-md5",
            V1Member::Sha1 => "ah-sha1",
            V1Member::Des => "esp-des",
            V1Member::TripleDes => "esp-3des",
            V1Member::NullEsp => "esp-null",
            V1Member::Mode(Operation::Ah, SaMode::Transport) => "ah-transport",
            V1Member::Mode(Operation::Ah, SaMode::Tunnel) => "ah-tunnel",
            V1Member::Mode(Operation::Esp, SaMode::Transport) => "esp-transport",
            V1Member::Mode(Operation::Esp, SaMode::Tunnel) => "esp-tunnel",
            V1Member::Direction(Operation::Ah, Direction::Outbound) => "ah-send",
            V1Member::Direction(Operation::Ah, Direction::Inbound) => "ah-receive",
            V1Member::Direction(Operation::Esp, Direction::Outbound) => "esp-send",
            V1Member::Direction(Operation::Esp, Direction::Inbound) => "esp-receive",
            V1Member::UdpEsp => "udp-esp-flags",
            // The structure has no member for it, which nobody can be unsure of.
            V1Member::Operation(_) | V1Member::Algorithm(_) => "",
        },
    }
}

/// The field of a profile that says how many SAs a card holds.
fn capacity_field(profile: &Profile) -> &'static str {
    if profile.service() == Some(IpsecService::V1) { "sa-capacity" } else { "sa-offload-capacity" }
}

fn confidence(profile: &Profile, field: &str) -> Option<Confidence> {
    let section = if profile.service() == Some(IpsecService::V1) { "ipsec-v1" } else { "ipsec-v2" };
    profile.provenance(&format!("{section}.{field}"))?.confidence
}

/// What would have to change for the NIC to take an SA: at the SA, or, where nothing at it would do, at the host.
fn changes(reason: OffloadReason, lacks: &[NotCovered], profile: &Profile) -> Vec<String> {
    let of_lacks = || lacks.iter().map(|missing| change(missing, &profile.offload.ipsec_v2)).collect();
    match reason {
        OffloadReason::Offloaded | OffloadReason::Pending | OffloadReason::Resetting => Vec::new(),
        OffloadReason::NotCovered(_) if profile.service().is_none() => vec!["a NIC with IPsecOV2".to_owned()],
        OffloadReason::NotCovered(_) => of_lacks(),
        OffloadReason::SwitchedOff(missing) => vec![format!("the adapter's keywords ({}): {}", keyword(profile), missing.field)],
        OffloadReason::Capacity => vec![format!("at most {} SAs on this NIC", profile.capacity())],
        OffloadReason::Forbidden => vec!["offload = \"prefer\" in the SA file".to_owned()],
        OffloadReason::TaskOffloadDisabled => vec!["DisableTaskOffload 0".to_owned()],
        OffloadReason::IpsecOffloadDisabled => vec!["EnabledOffload 1".to_owned()],
        other => vec![other.to_string()],
    }
}

fn keyword(profile: &Profile) -> &'static str {
    if profile.service() == Some(IpsecService::V1) { "*IPsecOffloadV1IPv4" } else { "*IPsecOffloadV2" }
}

fn change(missing: &NotCovered, capabilities: &IpsecOffloadV2) -> String {
    let one_of = |what: &str| format!("{what}: one of {}", missing.supported);
    match missing.field {
        CapabilityField::Encapsulation => "a NIC with IPsecOV2".to_owned(),
        CapabilityField::Ipv6Supported => "addresses of IPv4".to_owned(),
        CapabilityField::Esp | CapabilityField::V1(V1Member::Operation(Operation::Esp)) => "AH in place of ESP".to_owned(),
        CapabilityField::Ah | CapabilityField::V1(V1Member::Operation(Operation::Ah)) => "ESP in place of AH".to_owned(),
        CapabilityField::AhEspCombined => "AH or ESP, not both".to_owned(),
        CapabilityField::Transport | CapabilityField::V1(V1Member::Mode(_, SaMode::Transport)) => "tunnel mode".to_owned(),
        CapabilityField::Tunnel | CapabilityField::V1(V1Member::Mode(_, SaMode::Tunnel)) => "transport mode".to_owned(),
        CapabilityField::TransportTunnelCombined => "no tunnel around it".to_owned(),
        CapabilityField::V1(V1Member::Direction(..)) => "a NIC that does both directions".to_owned(),
        CapabilityField::UdpEsp if !capabilities.udp_esp.is_empty() => one_of("UDP encapsulation"),
        CapabilityField::UdpEsp | CapabilityField::V1(V1Member::UdpEsp) => "no UDP encapsulation".to_owned(),
        CapabilityField::ExtendedSequenceNumbers => "extended-sequence-numbers = false".to_owned(),
        CapabilityField::IcvLength => one_of("icv-length"),
        CapabilityField::AuthenticationAlgorithms if capabilities.authentication_algorithms.is_empty() => "a combined mode, no authentication".to_owned(),
        CapabilityField::EncryptionAlgorithms | CapabilityField::AuthenticationAlgorithms | CapabilityField::V1(_) => match missing.asked {
            CapabilityValue::Encryption(_) => one_of("encryption"),
            _ => one_of("authentication"),
        },
    }
}
