//! Why sends failed and packets were left alone: what the software engine counts beyond the miniport's counters.

use core::sync::atomic::{AtomicU64, Ordering};

use ndis::Status;

macro_rules! failures {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a list was not sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub(super) enum SendFailure { $($(#[$doc])* $variant,)* }

        impl SendFailure {
            const NAMES: [&'static str; [$(Self::$variant,)*].len()] = [$($name,)*];
        }
    };
}

failures! {
    /// It asks for a checksum or a tag that is not offered (OV2-SEND-9, OV2-OOB-4).
    UnsupportedRequest = "send_unsupported_request",
    /// It names a tunnel bundle, and no other bundle in the first slot (OV2-OOB-1).
    TunnelHandle = "send_tunnel_handle",
    /// The handle names no live SA (OV2-SEND-2).
    StaleHandle = "send_stale_handle",
    /// The handle names an inbound SA (OV2-OOB-1).
    InboundHandle = "send_inbound_handle",
    /// The SA does not fit the current configuration any more (OV2-SEND-1, OV2-CAP-14).
    NotConfigured = "send_not_in_configuration",
    /// The frame is no IP packet where it should be one.
    Malformed = "send_malformed",
    /// The packet is a fragment (OV2-SEND-5).
    Fragment = "send_fragment",
    /// The packet has options or extension headers that are not configured.
    OutsideCapabilities = "send_outside_capabilities",
    /// The headers are not where the out-of-band data says, or not those of the SA (OV2-OOB-3).
    HeaderMismatch = "send_header_mismatch",
    /// The ESP trailer is not what the out-of-band data says (OV2-OOB-3).
    TrailerMismatch = "send_trailer_mismatch",
    /// The packet is none of those that an SA of IPsecOV1 is for (OV1-2).
    OutsideFilter = "send_outside_filter",
    /// Lengths of frame, IP packet and ESP do not fit one another (OV2-SEND-8).
    Lengths = "send_lengths",
    /// It asks for a large send of a kind that is not configured, or not together with its SA (OV2-SEND-5, OV2-CAP-13).
    LargeSendOff = "send_large_not_configured",
    /// It asks for a large send of more payload, or of fewer segments, than is configured (OV2-SEND-4).
    LargeSendLimits = "send_large_limits",
    /// It asks for a large send that nobody can cut: what it asks, its headers, flags or lengths are not those of one (OV2-SEND-4).
    LargeSend = "send_large_malformed",
    /// A large send has more segments than its SA has sequence numbers from that of the template on.
    Numbers = "send_large_numbers",
    /// The cryptographic provider refused a job that it can do. Such a list comes back empty.
    Provider = "send_provider",
}

/// Shared by all lanes of an engine. Touched for what goes wrong, and at most once a batch for what goes right.
#[derive(Debug, Default)]
pub(super) struct Counters {
    failures: [AtomicU64; SendFailure::NAMES.len()],
    /// Received packets that were left alone, because they lie outside the capabilities (OV2-RECV-4).
    pub(super) outside_capabilities: AtomicU64,
    /// Received IPsec packets that were left alone, because no SA matched (OV2-RECV-3).
    pub(super) no_sa: AtomicU64,
    /// Large lists that were sent, and the segments that they were cut into.
    large_sends: AtomicU64,
    segments: AtomicU64,
    /// Received packets that were left alone, because the SA of IPsecOV1 that they are under is not for what they carry (OV1-2).
    pub(super) outside_filter: AtomicU64,
}

impl Counters {
    /// Counts a failure and returns the status that the list completes with.
    #[cold]
    pub(super) fn failed(&self, failure: SendFailure) -> Status {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
        Status::FAILURE
    }

    /// Counts a large list that was sent in so many segments.
    pub(super) fn cut(&self, segments: u64) {
        self.large_sends.fetch_add(1, Ordering::Relaxed);
        self.segments.fetch_add(segments, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let failures = SendFailure::NAMES.into_iter().zip(self.failures.iter().map(load));
        let received = [
            ("receive_outside_capabilities", load(&self.outside_capabilities)),
            ("receive_no_sa", load(&self.no_sa)),
            ("receive_outside_filter", load(&self.outside_filter)),
        ];
        let large = [("large_sends", load(&self.large_sends)), ("large_send_segments", load(&self.segments))];
        failures.chain(received).chain(large).collect()
    }
}
