//! A lane: the transport's data side for one worker. Outbound and inbound are in files of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ipsec::{Provider, Scratch};
use ndis::NblBatch;
use packet::{EthernetFrame, EthernetKind, Frame, IpVersion, Medium, ParseError, ParsedIp};
use wire_order::Outlet;

use crate::event::AuditEvent;
use crate::flows::Flows;
use crate::sa::Sa;
use crate::transport::{LaneNews, Shared, Snapshot};
use crate::verdict::LaneCounters;

/// Packets that go through the stages of a lane together.
pub(crate) const CHUNK: usize = ipsec::BATCH;

/// The data side of a transport for one worker: packets to protect, and packets to take protection off.
pub struct TransportLane<P: Provider> {
    pub(crate) shared: Arc<Shared<P>>,
    pub(crate) sad: sa_table::Lane<Sa<P>>,
    pub(crate) snapshot: Arc<Snapshot>,
    /// What `snapshot` says of outbound packets.
    pub(crate) flows: Flows,
    epoch: u64,
    pub(crate) counters: Arc<LaneCounters>,
    pub(crate) scratch: Scratch,
    /// Headers as AH authenticates them.
    pub(crate) masked: Vec<u8>,
    /// Recycled batches.
    pub(crate) batch: NblBatch,
    pub(crate) done: NblBatch,
    pub(crate) again: NblBatch,
    /// Protected packets that wait for the adapter to run.
    pub(crate) backlog: VecDeque<ndis::NetBufferList>,
    pub(crate) news: Vec<LaneNews>,
    pub(crate) audit: Vec<AuditEvent>,
    /// What large packets need.
    pub(crate) large: crate::large::Memory,
    /// Every packet goes the general way in.
    pub(crate) general_in: bool,
    /// Packets that went the swift way in.
    pub(crate) swiftly_in: u64,
    /// Every packet goes the general way out.
    pub(crate) general_out: bool,
    /// Turns on the wire, where lanes share SAs.
    pub(crate) outlet: Option<Outlet<Frame>>,
}

impl<P: Provider> TransportLane<P> {
    pub(crate) fn new(shared: Arc<Shared<P>>, counters: Arc<LaneCounters>, sharing: bool) -> Self {
        let sad = shared.sad.register_lane();
        // The epoch first: a change in between is noticed with the next batch.
        let epoch = shared.epoch.load(Ordering::Acquire);
        let snapshot = shared.snapshot();
        let outlet = sharing.then(|| Outlet::new(&shared.estate));
        Self {
            shared,
            sad,
            flows: Flows::new(&snapshot.spd),
            snapshot,
            epoch,
            counters,
            scratch: Scratch::new(),
            masked: Vec::new(),
            batch: NblBatch::new(),
            done: NblBatch::new(),
            again: NblBatch::new(),
            backlog: VecDeque::new(),
            news: Vec::new(),
            audit: Vec::new(),
            large: crate::large::Memory::default(),
            general_in: false,
            swiftly_in: 0,
            general_out: false,
            outlet,
        }
    }

    /// Sends every packet the general way in, also those that have a swifter one: for tests, which hold the two against each other.
    #[doc(hidden)]
    pub const fn take_the_general_way_in(&mut self) {
        self.general_in = true;
    }

    /// How many packets went the swift way in: for tests.
    #[doc(hidden)]
    pub const fn swiftly_in(&self) -> u64 {
        self.swiftly_in
    }

    /// Sends every packet the general way out, also those that have a swifter one: for tests, which hold the two against each other.
    #[doc(hidden)]
    pub const fn take_the_general_way_out(&mut self) {
        self.general_out = true;
    }

    /// Takes the policies as they are now; one atomic load where nothing has changed.
    #[inline]
    pub(crate) fn follow(&mut self) {
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.epoch = epoch;
            let snapshot = self.shared.snapshot();
            // Policies that are the same are in the same place, and others cannot be while these are held.
            if !Arc::ptr_eq(&self.snapshot.spd, &snapshot.spd) {
                self.flows.begin(&snapshot.spd);
            }
            self.snapshot = snapshot;
        }
    }

    /// Hands on what the batch had to say; seldom anything.
    #[inline]
    pub(crate) fn report(&mut self) {
        if !self.news.is_empty() {
            self.shared.tell(&mut self.news);
        }
        if !self.audit.is_empty() {
            self.shared.audit(&mut self.audit);
        }
    }

    /// This lane's counters.
    pub fn counters(&self) -> &LaneCounters {
        &self.counters
    }
}

/// Where the IP header of a frame begins, and which IP version its link header announces; `None` if it carries something other than IP, or IP in a way in
/// which it is left alone.
#[inline]
pub(crate) fn ip_at(medium: Medium, frame: &[u8]) -> Option<(usize, Option<IpVersion>)> {
    match medium {
        Medium::Ip => Some((0, None)),
        Medium::Ethernet => {
            let ethernet = EthernetFrame::new(frame).ok()?;
            // An LLC/SNAP frame carries its length, which protection would change: it is left alone.
            let EthernetKind::Type(ethertype) = ethernet.kind() else { return None };
            let version = ethertype.ip_version()?;
            Some((ethernet.l3_offset(), Some(version)))
        }
    }
}

/// A packet that could be read, and is of the version that its link header announces: who reads the link header and who reads the packet's first byte must
/// see the same packet. By reference, because a packet that was just read is costly to move.
#[inline]
pub(crate) fn as_announced(parsed: &Result<ParsedIp, ParseError>, announced: Option<IpVersion>) -> Option<&ParsedIp> {
    parsed.as_ref().ok().filter(|parsed| announced.is_none_or(|version| version == parsed.version()))
}
