//! Requests of IPsecOV1 in a trace, without their keys.

use core::fmt;

use super::TracedAssociation;
use crate::sa::{Direction, OffloadHandle};
use crate::v1::{MaskedAddress, V1EncapsulationType, V1Request, V1Sa, V1Scope};

/// A request of IPsecOV1, without its keys.
pub type TracedV1 = V1Request<TracedV1Sa>;

impl TracedV1 {
    pub(super) fn of(request: &V1Request) -> Self {
        match request {
            V1Request::AddSa { sa, handle } => Self::AddSa { sa: Box::new(TracedV1Sa::of(sa)), handle: *handle },
            V1Request::DeleteSa(handle) => Self::DeleteSa(*handle),
            V1Request::AddUdpEspSa { sa, entry, entry_handle, handle } => {
                Self::AddUdpEspSa { sa: Box::new(TracedV1Sa::of(sa)), entry: *entry, entry_handle: *entry_handle, handle: *handle }
            }
            V1Request::DeleteUdpEspSa { handle, entry_handle } => Self::DeleteUdpEspSa { handle: *handle, entry_handle: *entry_handle },
        }
    }
}

/// An SA of IPsecOV1 without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedV1Sa {
    /// Which way its packets go.
    pub direction: Direction,
    /// Which packets it is for.
    pub scope: V1Scope,
    /// The ESP association, if there is one.
    pub esp: Option<TracedAssociation>,
    /// The AH association, if there is one.
    pub ah: Option<TracedAssociation>,
}

impl TracedV1Sa {
    fn of(sa: &V1Sa) -> Self {
        let (esp, ah) = TracedAssociation::of(&sa.associations);
        Self { direction: sa.direction, scope: sa.scope(), esp, ah }
    }
}

impl fmt::Display for TracedV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = |f: &mut fmt::Formatter<'_>, handle: Option<OffloadHandle>| handle.map_or(Ok(()), |handle| write!(f, " = {:#x}", handle.to_bits()));
        match self {
            Self::AddSa { sa, handle } => {
                write!(f, "TCP_TASK_IPSEC_ADD_SA {sa}")?;
                answer(f, *handle)
            }
            Self::DeleteSa(handle) => write!(f, "TCP_TASK_IPSEC_DELETE_SA {handle:#x}"),
            Self::AddUdpEspSa { sa, entry, entry_handle, handle } => {
                let kind = if entry.kind == V1EncapsulationType::Ike { "IKE" } else { "OTHER" };
                write!(f, "TCP_TASK_IPSEC_ADD_UDPESP_SA {sa}, parser entry {kind} {}", entry.destination_port)?;
                entry_handle.map_or(Ok(()), |entry| write!(f, " {:#x}", entry.to_bits()))?;
                answer(f, *handle)
            }
            Self::DeleteUdpEspSa { handle, entry_handle } => {
                write!(f, "TCP_TASK_IPSEC_DELETE_UDPESP_SA {handle:#x}")?;
                entry_handle.map_or(Ok(()), |entry| write!(f, ", parser entry {:#x}", entry.to_bits()))
            }
        }
    }
}

impl fmt::Display for TracedV1Sa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let V1Scope { filter, tunnel } = &self.scope;
        let direction = if self.direction == Direction::Inbound { "inbound" } else { "outbound" };
        write!(f, "{direction} {} to {}", Masked(&filter.source), Masked(&filter.destination))?;
        if filter.looks_inside() {
            write!(f, " protocol {} ports {} to {}", filter.protocol, filter.source_port, filter.destination_port)?;
        }
        if let Some(tunnel) = tunnel {
            write!(f, ", tunnel {} to {}", tunnel.source, tunnel.destination)?;
        }
        for (name, association) in [("ESP", &self.esp), ("AH", &self.ah)] {
            if let Some(association) = association {
                write!(f, ", {name} {association}")?;
            }
        }
        Ok(())
    }
}

struct Masked<'a>(&'a MaskedAddress);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 {
            MaskedAddress::ANY => f.write_str("any"),
            one if one.as_single().is_some() => write!(f, "{}", one.address),
            MaskedAddress { address, mask } => write!(f, "{address} mask {mask}"),
        }
    }
}
