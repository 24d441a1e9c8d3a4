//! Segmentation in the NIC: large send offload versions 1 and 2, UDP segmentation offload.

use crate::base::{PVOID, ULONG};
use crate::layout::{bits, both, constants, layout};

bits! {
    /// Form common to all of [`NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO`]: enough to tell the version.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_Transmit(ULONG) {
        /// Depends on the version.
        Unused = 0..=29,
        /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE`] or [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE`].
        Type = 30..=30,
        /// Depends on the version.
        Reserved2 = 31..=31,
    }
}

bits! {
    /// Request of version 1.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV1Transmit(ULONG) {
        /// Maximum segment size: TCP payload bytes of each segment but the last.
        MSS = 0..=19,
        /// Bytes from the start of the packet to the TCP header.
        TcpHeaderOffset = 20..=29,
        /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE`].
        Type = 30..=30,
        /// Reserved.
        Reserved2 = 31..=31,
    }
}

bits! {
    /// Completion of version 1.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV1TransmitComplete(ULONG) {
        /// TCP payload bytes that were sent.
        TcpPayload = 0..=29,
        /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE`].
        Type = 30..=30,
        /// Reserved.
        Reserved2 = 31..=31,
    }
}

bits! {
    /// Request of version 2.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV2Transmit(ULONG) {
        /// Maximum segment size: TCP payload bytes of each segment but the last.
        MSS = 0..=19,
        /// Bytes from the start of the packet to the TCP header.
        TcpHeaderOffset = 20..=29,
        /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE`].
        Type = 30..=30,
        /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_IPv4`] or [`NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6`].
        IPVersion = 31..=31,
    }
}

bits! {
    /// Completion of version 2.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV2TransmitComplete(ULONG) {
        /// Zero.
        Reserved = 0..=29,
        /// [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE`], as requested.
        Type = 30..=30,
        /// Reserved.
        Reserved2 = 31..=31,
    }
}

layout! {
    /// The slot `TcpLargeSendNetBufferListInfo`: request and completion of a large send; zero asks for none.
    ///
    /// Page: NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO structure (ndis/nbllso.h), NDIS 6.0 and later.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO = 8 align 8 / 4 align 4 {
        /// The whole slot.
        Value: PVOID = 0,
    }
    or {
        /// common form.
        Transmit: NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_Transmit = 0,
        /// request of version 1.
        LsoV1Transmit: NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV1Transmit = 0,
        /// completion of version 1.
        LsoV1TransmitComplete: NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV1TransmitComplete = 0,
        /// request of version 2.
        LsoV2Transmit: NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV2Transmit = 0,
        /// completion of version 2.
        LsoV2TransmitComplete: NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO_LsoV2TransmitComplete = 0,
    }
}

bits! {
    /// Options of [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4`]; each field is `NDIS_OFFLOAD_SUPPORTED` or not.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_Bits(ULONG) {
        /// TCP options in the template.
        TcpOptions = 0..=1,
        /// IPv4 options in the template.
        IpOptions = 2..=3,
    }
}

layout! {
    /// IPv4 part of [`NDIS_TCP_LARGE_SEND_OFFLOAD_V1`], which has no other.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4 = 16 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no large send.
        Encapsulation: ULONG = 0,
        /// Most TCP payload bytes in one large send.
        MaxOffLoadSize: ULONG = 4,
        /// Fewest segments for which a large send may be asked.
        MinSegmentCount: ULONG = 8,
        /// Options.
        Bits: NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_Bits = 12,
    }
}

layout! {
    /// What an adapter can do, or does, for large sends version 1; a member of `NDIS_OFFLOAD`.
    ///
    /// Page: NDIS_TCP_LARGE_SEND_OFFLOAD_V1 structure (ntddndis.h), NDIS 6.0 and later.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1 = 16 align 4 {
        /// TCP over IPv4.
        IPv4: NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4 = 0,
    }
}

layout! {
    /// IPv4 part of [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2`].
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4 = 12 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no large send.
        Encapsulation: ULONG = 0,
        /// Most TCP payload bytes in one large send.
        MaxOffLoadSize: ULONG = 4,
        /// Fewest segments for which a large send may be asked.
        MinSegmentCount: ULONG = 8,
    }
}

bits! {
    /// Options of [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6`]; each field is `NDIS_OFFLOAD_SUPPORTED` or not.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_Bits(ULONG) {
        /// IPv6 extension headers in the template.
        IpExtensionHeadersSupported = 0..=1,
        /// TCP options in the template.
        TcpOptionsSupported = 2..=3,
    }
}

layout! {
    /// IPv6 part of [`NDIS_TCP_LARGE_SEND_OFFLOAD_V2`].
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6 = 16 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no large send.
        Encapsulation: ULONG = 0,
        /// Most TCP payload bytes in one large send.
        MaxOffLoadSize: ULONG = 4,
        /// Fewest segments for which a large send may be asked.
        MinSegmentCount: ULONG = 8,
        /// Options.
        Bits: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_Bits = 12,
    }
}

layout! {
    /// What an adapter can do, or does, for large sends version 2; a member of `NDIS_OFFLOAD`.
    ///
    /// Page: NDIS_TCP_LARGE_SEND_OFFLOAD_V2 structure (ntddndis.h), NDIS 6.0 and later.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2 = 28 align 4 {
        /// TCP over IPv4.
        IPv4: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4 = 0,
        /// TCP over IPv6.
        IPv6: NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6 = 12,
    }
}

bits! {
    /// Request form of [`NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO`].
    pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO_Transmit(ULONG) {
        /// UDP payload bytes of each segment but the last.
        MSS = 0..=19,
        /// Bytes from the start of the packet to the UDP header.
        UdpHeaderOffset = 20..=29,
        /// Reserved.
        Reserved = 30..=30,
        /// [`NDIS_UDP_SEGMENTATION_OFFLOAD_IPV4`] or [`NDIS_UDP_SEGMENTATION_OFFLOAD_IPV6`].
        IPVersion = 31..=31,
    }
}

layout! {
    /// The slot `UdpSegmentationOffloadInfo`: request of a UDP large send; zero asks for none.
    ///
    /// Page: NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO structure (ndis/nbluso.h), NDIS 6.83 and later.
    pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO = 8 align 8 / 4 align 4 {
        /// The whole slot.
        Value: PVOID = 0,
    }
    or {
        /// on transmit, the request.
        Transmit: NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO_Transmit = 0,
    }
}

bits! {
    /// Limits of [`NDIS_UDP_SEGMENTATION_OFFLOAD_IPv4`].
    pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_IPv4_Bits(ULONG) {
        /// Fewest segments for which a large send may be asked.
        MinSegmentCount = 0..=5,
        /// The last segment may be shorter than the others.
        SubMssFinalSegmentSupported = 6..=6,
        /// Reserved.
        Reserved = 7..=31,
    }
}

layout! {
    /// IPv4 part of [`NDIS_UDP_SEGMENTATION_OFFLOAD`].
    pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_IPv4 = 12 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no segmentation.
        Encapsulation: ULONG = 0,
        /// Most UDP payload bytes in one large send.
        MaxOffLoadSize: ULONG = 4,
        /// Limits.
        Bits: NDIS_UDP_SEGMENTATION_OFFLOAD_IPv4_Bits = 8,
    }
}

bits! {
    /// Limits of [`NDIS_UDP_SEGMENTATION_OFFLOAD_IPv6`].
    pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_IPv6_Bits(ULONG) {
        /// Fewest segments for which a large send may be asked.
        MinSegmentCount = 0..=5,
        /// The last segment may be shorter than the others.
        SubMssFinalSegmentSupported = 6..=6,
        /// Reserved.
        Reserved1 = 7..=31,
    }
}

bits! {
    /// Options of [`NDIS_UDP_SEGMENTATION_OFFLOAD_IPv6`]: its second bit word, anonymous like the first.
    pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_IPv6_Bits2(ULONG) {
        /// IPv6 extension headers in the template: `NDIS_OFFLOAD_SUPPORTED` or not.
        IpExtensionHeadersSupported = 0..=1,
        /// Reserved.
        Reserved2 = 2..=31,
    }
}

layout! {
    /// IPv6 part of [`NDIS_UDP_SEGMENTATION_OFFLOAD`].
    pub struct NDIS_UDP_SEGMENTATION_OFFLOAD_IPv6 = 16 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no segmentation.
        Encapsulation: ULONG = 0,
        /// Most UDP payload bytes in one large send.
        MaxOffLoadSize: ULONG = 4,
        /// Limits.
        Bits: NDIS_UDP_SEGMENTATION_OFFLOAD_IPv6_Bits = 8,
        /// Options.
        Bits2: NDIS_UDP_SEGMENTATION_OFFLOAD_IPv6_Bits2 = 12,
    }
}

layout! {
    /// What an adapter can do, or does, for UDP segmentation; a member of `NDIS_OFFLOAD` from revision 6.
    ///
    /// Page: NDIS_UDP_SEGMENTATION_OFFLOAD structure (ntddndis.h), NDIS 6.83 and later.
    pub struct NDIS_UDP_SEGMENTATION_OFFLOAD = 28 align 4 {
        /// UDP over IPv4.
        IPv4: NDIS_UDP_SEGMENTATION_OFFLOAD_IPv4 = 0,
        /// UDP over IPv6.
        IPv6: NDIS_UDP_SEGMENTATION_OFFLOAD_IPv6 = 12,
    }
}

bits! {
    /// Form of [`NDIS_TCP_SEND_OFFLOADS_SUPPLEMENTAL_NET_BUFFER_LIST_INFO`] for encapsulated packets.
    pub struct NDIS_TCP_SEND_OFFLOADS_SUPPLEMENTAL_NET_BUFFER_LIST_INFO_EncapsulatedPacketOffsets(ULONG) {
        /// The packet is encapsulated.
        IsEncapsulatedPacket = 0..=0,
        /// The offsets below are valid.
        EncapsulatedPacketOffsetsValid = 1..=1,
        /// Bytes from the start of the packet to the inner frame.
        InnerFrameOffset = 2..=9,
        /// Bytes from the inner frame to the inner IP header.
        TransportIpHeaderRelativeOffset = 10..=15,
        /// Bytes from the inner IP header to the inner TCP header.
        TcpHeaderRelativeOffset = 16..=25,
        /// The inner packet is IPv6.
        IsInnerIPv6 = 26..=26,
        /// The inner TCP header has options.
        TcpOptionsPresent = 27..=27,
        /// Reserved.
        Reserved = 28..=31,
    }
}

layout! {
    /// The slot `TcpSendOffloadsSupplementalNetBufferListInfo`: where the inner headers of an encapsulated packet are.
    ///
    /// Page: NDIS_TCP_SEND_OFFLOADS_SUPPLEMENTAL_NET_BUFFER_LIST_INFO structure (ndis.h), NDIS 6.30 and later.
    pub struct NDIS_TCP_SEND_OFFLOADS_SUPPLEMENTAL_NET_BUFFER_LIST_INFO = 8 align 8 / 4 align 4 {
        /// The whole slot.
        Value: PVOID = 0,
    }
    or {
        /// on transmit, the offsets.
        EncapsulatedPacketOffsets:
            NDIS_TCP_SEND_OFFLOADS_SUPPLEMENTAL_NET_BUFFER_LIST_INFO_EncapsulatedPacketOffsets = 0,
    }
}

constants! {
    /// Values within the out-of-band forms of large sends, and the longest template header.
    pub const SEGMENTATION_VALUES: [ULONG] = {
        /// Large send version 1.
        NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE = 0,
        /// Large send version 2.
        NDIS_TCP_LARGE_SEND_OFFLOAD_V2_TYPE = 1,
        /// TCP over IPv4.
        NDIS_TCP_LARGE_SEND_OFFLOAD_IPv4 = 0,
        /// TCP over IPv6.
        NDIS_TCP_LARGE_SEND_OFFLOAD_IPv6 = 1,
        /// Limit on the length of the headers of a large send, in bytes.
        NDIS_LARGE_SEND_OFFLOAD_MAX_HEADER_LENGTH = 128,
        /// UDP over IPv4.
        NDIS_UDP_SEGMENTATION_OFFLOAD_IPV4 = 0,
        /// UDP over IPv6.
        NDIS_UDP_SEGMENTATION_OFFLOAD_IPV6 = 1,
    }
}
