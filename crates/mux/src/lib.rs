//! A MUX intermediate driver: one adapter (its upper edge is a miniport) over several (its lower edge is a protocol on each), with failover or load balancing.
//!
//! What that means for IPsec offload:
//!
//! | mode | members in use | IPsec offload |
//! | --- | --- | --- |
//! | [`Teaming::Failover`] | the first that is able; it stays so until it is able no more | what that member has |
//! | [`Teaming::Balance`] | all that are able | none: packets through a load-balancing miniport are not offloaded (OV2-COMB-3) |
//! | [`Teaming::BalanceWithIpsec`] | all that are able | an extension: what all have, but for extended sequence numbers; every SA is on every member |
//!
//! A member is *able* while it is bound, its link is up ([`MuxDriver::set_link`]), it does not reset, and it is of the mux's medium and NDIS version.
//!
//! **When members change** SAs that the new members do not have are gone. A NIC drops SAs by itself only when it is reset or removed (OV2-SA-8), so that is what
//! those above see: the start of a reset, the hardware capabilities and the configuration if they are others now (OV2-CAP-11, OV2-CAP-10), and the end of the
//! reset, as soon as there is a member. A transport works in software from the first packet on and adds its SAs again at the end. With
//! [`Teaming::BalanceWithIpsec`] a member that goes takes nothing along, and only one that comes is a reset.
//!
//! **Sequence numbers** are the transport's, and the IV is the number under the SA's mask (OV2-SEND-7), on every member: so no IV comes twice, whichever members
//! an SA was on. [`Teaming::BalanceWithIpsec`] demands members that make their IVs so. It leaves out extended sequence numbers because a member that has not
//! sent for long cannot know which half a packet's number is in.
//!
//! **Handles** are the mux's own: a stale one is recognised whatever the members' handles look like (OV2-SA-5).
//!
//! IPsecOV1 is not passed on, and not reported.
#![forbid(unsafe_code)]

mod chain;
mod control;
mod member;
mod queue;
mod spread;

use core::fmt;
use std::sync::Arc;

use ndis::{AdapterAttributes, AdapterKeywords, Miniport, MiniportDriver, NdisVersion, Protocol, Status};
use packet::Medium;
use sa_table::{CapacityError, Seed};

use crate::control::{Inner, MuxMiniport};
use crate::member::Lower;

/// Most members of a mux.
pub const MAX_MEMBERS: usize = 8;

/// How members share the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Teaming {
    /// One works, the others stand by.
    #[default]
    Failover,
    /// All work; IPsec is not offloaded (OV2-COMB-3).
    Balance,
    /// All work, and every SA is on all of them. Only over members that make IVs by OV2-SEND-7.
    BalanceWithIpsec,
}

/// What a mux is made with.
#[derive(Clone, Debug)]
pub struct MuxParameters {
    /// Name of its adapter, and the beginning of its members' in debug output.
    pub name: String,
    /// How members share the work.
    pub teaming: Teaming,
    /// The NDIS version that it speaks, and its members must.
    pub version: NdisVersion,
    /// What its frames begin with, and those of its members must.
    pub medium: Medium,
    /// Number of members, at most [`MAX_MEMBERS`].
    pub members: usize,
    /// Most SA bundles.
    pub capacity: usize,
    /// Largest IP packet where no member says less.
    pub mtu: u32,
}

impl MuxParameters {
    /// Failover over two Ethernet adapters of NDIS 6.30.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), teaming: Teaming::Failover, version: NdisVersion::V6_30, medium: Medium::Ethernet, members: 2, capacity: 65_536, mtu: 1500 }
    }
}

/// What a mux counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MuxCounters {
    /// Times that the members in use changed.
    pub changes: u64,
    /// Changes after which SAs had to be added again.
    pub resets: u64,
    /// Handles that named nothing, in requests and on packets (OV2-SA-5, OV2-SA-7).
    pub unknown_handles: u64,
    /// SAs that members had added and that were deleted again, because nobody waited for them any more or another member refused them.
    pub undone: u64,
    /// Received frames that were dropped because no member was able.
    pub received_not_running: u64,
    /// SA bundles that are there now.
    pub live: usize,
}

/// The driver of a mux. Clones are the same mux.
///
/// Its members are protocols ([`MuxDriver::member`]) that are bound to the adapters below; the driver itself is loaded as an adapter above them. Both may be in one
/// stack.
#[derive(Clone)]
pub struct MuxDriver {
    inner: Arc<Inner>,
}

impl MuxDriver {
    /// A mux whose members are not bound yet. `seed` is the secret of its table's hash.
    ///
    /// # Errors
    /// A capacity that the table cannot have. More than [`MAX_MEMBERS`] members are cut.
    pub fn new(parameters: MuxParameters, seed: Seed) -> Result<Self, CapacityError> {
        Ok(Self { inner: Arc::new(Inner::new(parameters, seed)?) })
    }

    /// The lower edge on one member, to be bound to its adapter. `None` for a member that there is not.
    pub fn member(&self, member: usize) -> Option<Arc<dyn Protocol>> {
        (member < self.inner.parameters.members).then(|| Arc::new(Lower::new(Arc::clone(&self.inner), member)) as Arc<dyn Protocol>)
    }

    /// Says whether a member's link is up; it is until it is said that it is not.
    pub fn set_link(&self, member: usize, up: bool) {
        self.inner.lock().set_link(&self.inner, member, up);
    }

    /// Members that are in use now, in order.
    pub fn in_use(&self) -> Vec<usize> {
        spread::members(self.inner.team()).collect()
    }

    /// By which member's link a finished frame leaves; `None`: no member is able. Any link may carry any frame: what it carries is finished.
    pub fn route(&self, frame: &[u8]) -> Option<usize> {
        spread::pick(self.inner.team(), self.inner.parameters.medium, frame)
    }

    /// Its counters.
    pub fn counters(&self) -> MuxCounters {
        self.inner.counters()
    }
}

impl MiniportDriver for MuxDriver {
    fn initialize(&self, keywords: &AdapterKeywords) -> Result<(Box<dyn Miniport>, AdapterAttributes), Status> {
        let (instance, attributes) = self.inner.lock().initialize(&self.inner, keywords);
        Ok((Box::new(MuxMiniport::new(Arc::clone(&self.inner), instance)), attributes))
    }
}

impl fmt::Debug for MuxDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MuxDriver").field("parameters", &self.inner.parameters).field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}
