//! A lane: the transport's data side for one worker. Outbound and inbound are in files of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ipsec::{Provider, Scratch};
use ndis::NblBatch;
use packet::{EthernetFrame, EthernetKind, Medium, ParsedIp};

use crate::event::AuditEvent;
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
    epoch: u64,
    pub(crate) counters: Arc<LaneCounters>,
    pub(crate) scratch: Scratch,
    /// Recycled batches.
    pub(crate) batch: NblBatch,
    pub(crate) done: NblBatch,
    pub(crate) again: NblBatch,
    /// Protected packets that wait for the adapter to run.
    pub(crate) backlog: VecDeque<ndis::NetBufferList>,
    pub(crate) news: Vec<LaneNews>,
    pub(crate) audit: Vec<AuditEvent>,
}

impl<P: Provider> TransportLane<P> {
    pub(crate) fn new(shared: Arc<Shared<P>>, counters: Arc<LaneCounters>) -> Self {
        let sad = shared.sad.register_lane();
        // The epoch first: a change in between is noticed with the next batch.
        let epoch = shared.epoch.load(Ordering::Acquire);
        let snapshot = shared.snapshot();
        Self {
            shared,
            sad,
            snapshot,
            epoch,
            counters,
            scratch: Scratch::new(),
            batch: NblBatch::new(),
            done: NblBatch::new(),
            again: NblBatch::new(),
            backlog: VecDeque::new(),
            news: Vec::new(),
            audit: Vec::new(),
        }
    }

    /// Takes the policies as they are now; one atomic load where nothing has changed.
    #[inline]
    pub(crate) fn follow(&mut self) {
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.epoch = epoch;
            self.snapshot = self.shared.snapshot();
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

/// What a frame carries.
pub(crate) enum Carried {
    /// Something other than IP, or IP in a way in which it is left alone.
    Other,
    /// What its link header calls IP begins here, and cannot be read as such.
    Bad(usize),
    /// An IP packet, which begins here.
    Ip(usize, ParsedIp),
}

/// Reads a frame as far as the end of its IP headers.
#[inline]
pub(crate) fn read_frame(medium: Medium, frame: &[u8]) -> Carried {
    let (l3, announced) = match medium {
        Medium::Ip => (0, None),
        Medium::Ethernet => match EthernetFrame::new(frame) {
            // An LLC/SNAP frame carries its length, which protection would change: it is left alone.
            Ok(ethernet) => match ethernet.kind() {
                EthernetKind::Type(ethertype) if ethertype.ip_version().is_some() => (ethernet.l3_offset(), ethertype.ip_version()),
                _ => return Carried::Other,
            },
            Err(_) => return Carried::Other,
        },
    };
    match frame.get(l3..).map(ParsedIp::parse) {
        // Who reads the link header and who reads the packet's first byte must see the same packet.
        Some(Ok(parsed)) if announced.is_none_or(|version| version == parsed.version()) => Carried::Ip(l3, parsed),
        _ => Carried::Bad(l3),
    }
}
