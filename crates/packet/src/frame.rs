//! Frames: what crosses a link.

use core::fmt;
use core::ops::{Add, Sub};

use crate::buffer::Buffer;
use crate::train::FrameForm;

/// A point in time, in nanoseconds since an origin that the caller chose: the Unix epoch for frames of captures, the start of the process or of the
/// test for the clock that is handed into engines. Nothing below the program reads a clock of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin; for a frame: when it was captured is not known.
    pub const ZERO: Self = Self(0);

    /// A time from nanoseconds since the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> core::time::Duration {
        core::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<core::time::Duration> for Time {
    type Output = Self;

    /// Saturates after 584 years.
    fn add(self, duration: core::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = core::time::Duration;

    fn sub(self, earlier: Self) -> core::time::Duration {
        self.since(earlier)
    }
}

/// What is known of the TCP or UDP checksum of the packet in a frame; with IPsec or tunnels inside, of the packet as it is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChecksumState {
    /// Nothing: it is to be taken as it stands.
    #[default]
    Unknown,
    /// On the way out: its field holds the sum over the pseudo-header, length included, and whoever sends the packet computes the rest, as virtio and TUN
    /// devices have it (`CHECKSUM_PARTIAL`).
    Partial,
    /// On the way in: it was verified, and need not be verified again.
    Verified,
}

/// A frame on its way from or to a link: its bytes and what goes along with them.
#[derive(Default)]
pub struct Frame {
    /// The bytes: an Ethernet frame without its check sequence, or a bare IP packet, as the link's medium says.
    pub buffer: Buffer,
    /// When it was captured or handed in; [`Time::ZERO`] if not known.
    pub timestamp: Time,
    /// The caller's mark: carried along from the frame that comes in to what leaves for it, and looked at by nobody on the way.
    pub tag: u64,
    /// The ordering group that it belongs to, 0 if to none: given by the transport on the way out, where several lanes share an SA, so that whoever puts
    /// frames on the wire knows which of them have to wait for their turn. Means nothing outside of the call that the frame comes from.
    pub order: u16,
    /// Whether the bytes are one packet, a train of packets, or a packet that is to be cut. Links take the packets of a train one by one.
    pub form: FrameForm,
    /// What is known of the TCP or UDP checksum.
    pub checksum: ChecksumState,
}

impl Frame {
    /// One packet, without timestamp, tag and ordering group.
    pub fn new(buffer: Buffer) -> Self {
        Self { buffer, ..Self::default() }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("buffer", &self.buffer)
            .field("timestamp", &self.timestamp.0)
            .field("tag", &self.tag)
            .field("order", &self.order)
            .field("form", &self.form)
            .field("checksum", &self.checksum)
            .finish()
    }
}

/// Frames that travel together; recycled by their owner, so that a batch costs no allocation.
pub type FrameBatch = Vec<Frame>;

/// What a link's frames begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Medium {
    /// An Ethernet header, with up to two VLAN tags.
    Ethernet,
    /// The IP header itself.
    Ip,
}
