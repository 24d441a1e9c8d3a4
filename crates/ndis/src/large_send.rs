//! The slots that ask for large sends, typed: LSO versions 1 and 2, and UDP segmentation (OV2-OOB-4).
//!
//! ```
//! use ndis::{LargeSend, OutOfBand};
//! use packet::IpVersion;
//!
//! let mut oob = OutOfBand::default();
//! assert_eq!(oob.large_send(), Ok(None));
//! let request = LargeSend::V2 { mss: 1440, header_offset: 34, version: IpVersion::V4 };
//! oob.set_large_send(request);
//! assert_eq!(oob.large_send(), Ok(Some(request)));
//! oob.complete_large_send(1 << 16); // what a NIC reports: nothing, in version 2
//! assert_eq!(oob.large_send_completed(), 0);
//! ```

use packet::{IpVersion, Segments};

use crate::oob::OutOfBand;

/// A large send that is asked for. Lengths and offsets are in bytes, offsets from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LargeSend {
    /// LSO version 1: TCP over IPv4, with the true length in the IP header.
    V1 {
        /// TCP payload of each segment but the last.
        mss: u32,
        /// Where the TCP header is.
        header_offset: u16,
    },
    /// LSO version 2: TCP, with no length in the IP header.
    V2 {
        /// TCP payload of each segment but the last.
        mss: u32,
        /// Where the TCP header is.
        header_offset: u16,
        /// Version of the IP header that TCP stands behind.
        version: IpVersion,
    },
    /// UDP segmentation, with no length in the IP header.
    Udp {
        /// UDP payload of each segment but the last.
        mss: u32,
        /// Where the UDP header is.
        header_offset: u16,
        /// Version of the IP header that UDP stands behind.
        version: IpVersion,
    },
}

/// The slots ask for two large sends at once, or have bits that mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no large send: slot holds {large_send:#010x}, slot of UDP segmentation {udp_segmentation:#010x}")]
pub struct LargeSendError {
    /// The large-send slot.
    pub large_send: u32,
    /// The slot of UDP segmentation.
    pub udp_segmentation: u32,
}

const MSS_BITS: u32 = 20;
const OFFSET_BITS: u32 = 10;
/// LSO version 2; reserved for UDP segmentation.
const TYPE_V2: u32 = 1 << 30;
/// IPv6; reserved in version 1.
const IPV6: u32 = 1 << 31;

impl LargeSend {
    /// Largest segment size that can be asked for.
    pub const MAX_MSS: u32 = (1 << MSS_BITS) - 1;
    /// Largest offset that can be told.
    pub const MAX_HEADER_OFFSET: u16 = (1 << OFFSET_BITS) - 1;

    /// Payload of each segment but the last, in bytes.
    pub const fn mss(self) -> u32 {
        match self {
            Self::V1 { mss, .. } | Self::V2 { mss, .. } | Self::Udp { mss, .. } => mss,
        }
    }

    /// Where in the frame the TCP or UDP header is, in bytes.
    pub const fn header_offset(self) -> u16 {
        match self {
            Self::V1 { header_offset, .. } | Self::V2 { header_offset, .. } | Self::Udp { header_offset, .. } => header_offset,
        }
    }

    /// Version of the IP header that the TCP or UDP header stands behind.
    pub const fn version(self) -> IpVersion {
        match self {
            Self::V1 { .. } => IpVersion::V4,
            Self::V2 { version, .. } | Self::Udp { version, .. } => version,
        }
    }

    /// What it is cut into.
    pub const fn segments(self) -> Segments {
        match self {
            Self::V1 { .. } | Self::V2 { .. } => Segments::Tcp,
            Self::Udp { .. } => Segments::Udp,
        }
    }

    /// Bits of its slot; numbers beyond their fields are cut to them.
    const fn word(self) -> u32 {
        let word = self.mss() & Self::MAX_MSS | ((self.header_offset() & Self::MAX_HEADER_OFFSET) as u32) << MSS_BITS;
        let kind = if matches!(self, Self::V2 { .. }) { TYPE_V2 } else { 0 };
        let version = if matches!(self.version(), IpVersion::V6) { IPV6 } else { 0 };
        word | kind | version
    }
}

impl OutOfBand {
    /// Whether a large send is asked for (or was, of a completed list).
    #[inline]
    pub const fn is_large_send(&self) -> bool {
        self.large_send | self.udp_segmentation != 0
    }

    /// Transmit: the large send that is asked for.
    ///
    /// # Errors
    /// [`LargeSendError`] if the slots ask for two at once or have reserved bits.
    pub const fn large_send(&self) -> Result<Option<LargeSend>, LargeSendError> {
        let error = LargeSendError { large_send: self.large_send, udp_segmentation: self.udp_segmentation };
        let word = self.large_send | self.udp_segmentation;
        let (mss, header_offset) = (word & LargeSend::MAX_MSS, (word >> MSS_BITS) as u16 & LargeSend::MAX_HEADER_OFFSET);
        let version = if word & IPV6 == 0 { IpVersion::V4 } else { IpVersion::V6 };
        match (self.large_send, self.udp_segmentation) {
            (0, 0) => Ok(None),
            (0, _) if word & TYPE_V2 == 0 => Ok(Some(LargeSend::Udp { mss, header_offset, version })),
            (_, 0) if word & TYPE_V2 != 0 => Ok(Some(LargeSend::V2 { mss, header_offset, version })),
            (_, 0) if word & IPV6 == 0 => Ok(Some(LargeSend::V1 { mss, header_offset })),
            _ => Err(error),
        }
    }

    /// Transmit: asks for a large send. A segment size or an offset beyond its field is cut to it: see [`LargeSend::MAX_MSS`] and
    /// [`LargeSend::MAX_HEADER_OFFSET`].
    pub const fn set_large_send(&mut self, request: LargeSend) {
        (self.large_send, self.udp_segmentation) = match request {
            LargeSend::Udp { .. } => (0, request.word()),
            LargeSend::V1 { .. } | LargeSend::V2 { .. } => (request.word(), 0),
        };
    }

    /// Completion: what a NIC reports of a large send of `payload` bytes. Version 1: the bytes; version 2: none. UDP segmentation has no completion form.
    pub const fn complete_large_send(&mut self, payload: u32) {
        if self.large_send & TYPE_V2 != 0 {
            self.large_send = TYPE_V2;
        } else if self.large_send != 0 {
            self.large_send = if payload < TYPE_V2 { payload } else { TYPE_V2 - 1 };
        }
    }

    /// Completion: TCP payload bytes that a NIC has reported; 0 of version 2.
    pub const fn large_send_completed(&self) -> u32 {
        self.large_send & (TYPE_V2 - 1)
    }
}

#[cfg(test)]
mod tests {
    use ndis_abi::{NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV2Transmit as V2, NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO_Transmit as Udp};

    use super::*;

    const REQUESTS: [LargeSend; 7] = [
        LargeSend::V1 { mss: 1, header_offset: 0 },
        LargeSend::V1 { mss: LargeSend::MAX_MSS, header_offset: LargeSend::MAX_HEADER_OFFSET },
        LargeSend::V2 { mss: 1460, header_offset: 54, version: IpVersion::V4 },
        LargeSend::V2 { mss: 0, header_offset: 0, version: IpVersion::V4 },
        LargeSend::V2 { mss: 1440, header_offset: 74, version: IpVersion::V6 },
        LargeSend::Udp { mss: 1472, header_offset: 42, version: IpVersion::V4 },
        LargeSend::Udp { mss: 1452, header_offset: 62, version: IpVersion::V6 },
    ];

    /// OV2-OOB-4: what is asked for comes back, in the bits of the ABI.
    #[test]
    fn requests_are_the_words_of_the_abi() {
        for request in REQUESTS {
            let mut oob = OutOfBand::default();
            (oob.large_send, oob.udp_segmentation) = (u32::MAX, u32::MAX);
            oob.set_large_send(request);
            assert!(oob.is_large_send());
            assert_eq!(oob.large_send(), Ok(Some(request)));
        }
        let mut oob = OutOfBand::default();
        oob.set_large_send(LargeSend::V2 { mss: 1440, header_offset: 74, version: IpVersion::V6 });
        let abi = V2(oob.large_send);
        assert_eq!([V2::MSS, V2::TcpHeaderOffset, V2::Type, V2::IPVersion].map(|field| abi.get(field)), [1440, 74, 1, 1]);
        oob.set_large_send(LargeSend::Udp { mss: 1452, header_offset: 62, version: IpVersion::V6 });
        let abi = Udp(oob.udp_segmentation);
        assert_eq!([Udp::MSS, Udp::UdpHeaderOffset, Udp::Reserved, Udp::IPVersion].map(|field| abi.get(field)), [1452, 62, 0, 1]);
    }

    #[test]
    fn two_at_once_and_reserved_bits_are_no_request() {
        for (large_send, udp_segmentation) in [(IPV6, 0), (IPV6 | 1, 0), (0, TYPE_V2), (0, TYPE_V2 | 5), (1, 1), (TYPE_V2, 1), (u32::MAX, u32::MAX)] {
            let mut oob = OutOfBand::default();
            (oob.large_send, oob.udp_segmentation) = (large_send, udp_segmentation);
            assert_eq!(oob.large_send(), Err(LargeSendError { large_send, udp_segmentation }));
        }
        assert_eq!(OutOfBand::default().large_send(), Ok(None));
    }

    /// OV2-OOB-4: version 1 reports payload bytes, version 2 zero.
    #[test]
    fn completion_reports_bytes_in_version_1_only() {
        for request in REQUESTS {
            let mut oob = OutOfBand::default();
            oob.set_large_send(request);
            let word = oob.udp_segmentation;
            oob.complete_large_send(65_000);
            let reported = if matches!(request, LargeSend::V1 { .. }) { 65_000 } else { 0 };
            assert_eq!((oob.large_send_completed(), oob.udp_segmentation), (reported, word));
            assert!(oob.is_large_send());
        }
        let mut oob = OutOfBand::default();
        oob.set_large_send(LargeSend::V1 { mss: 1, header_offset: 1 });
        oob.complete_large_send(u32::MAX);
        assert_eq!(oob.large_send_completed(), TYPE_V2 - 1);
        oob.clear();
        oob.complete_large_send(9);
        assert!(!oob.is_large_send(), "nothing was asked for");
    }
}
