//! Checksum offload for IPv4, TCP and UDP.

use crate::base::{PVOID, ULONG};
use crate::layout::{bits, both, layout};

bits! {
    /// Transmit form of [`NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO`]: what the NIC has to compute.
    pub struct NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_Transmit(ULONG) {
        /// The packet is IPv4.
        IsIPv4 = 0..=0,
        /// The packet is IPv6.
        IsIPv6 = 1..=1,
        /// Compute the TCP checksum.
        TcpChecksum = 2..=2,
        /// Compute the UDP checksum.
        UdpChecksum = 3..=3,
        /// Compute the IPv4 header checksum.
        IpHeaderChecksum = 4..=4,
        /// Reserved.
        Reserved = 5..=15,
        /// Bytes from the start of the packet to the TCP or UDP header.
        TcpHeaderOffset = 16..=25,
    }
}

bits! {
    /// Receive form of [`NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO`]: what the NIC found.
    pub struct NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_Receive(ULONG) {
        /// The TCP checksum is wrong.
        TcpChecksumFailed = 0..=0,
        /// The UDP checksum is wrong.
        UdpChecksumFailed = 1..=1,
        /// The IPv4 header checksum is wrong.
        IpChecksumFailed = 2..=2,
        /// The TCP checksum is right.
        TcpChecksumSucceeded = 3..=3,
        /// The UDP checksum is right.
        UdpChecksumSucceeded = 4..=4,
        /// The IPv4 header checksum is right.
        IpChecksumSucceeded = 5..=5,
        /// The packet was looped back.
        Loopback = 6..=6,
        /// The TCP checksum field has not been brought up to date (coalesced packets); NDIS 6.30.
        TcpChecksumValueInvalid = 7..=7,
        /// The IPv4 checksum field has not been brought up to date (coalesced packets); NDIS 6.30.
        IpChecksumValueInvalid = 8..=8,
    }
}

layout! {
    /// The slot `TcpIpChecksumNetBufferListInfo`: which checksums to compute, or which were checked.
    ///
    /// Page: NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO structure (ndis/nblchecksum.h), NDIS 6.0 and later.
    pub struct NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO = 8 align 8 / 4 align 4 {
        /// The whole slot.
        Value: PVOID = 0,
    }
    or {
        /// on transmit, the request.
        Transmit: NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_Transmit = 0,
        /// on receive, the findings.
        Receive: NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO_Receive = 0,
    }
}

bits! {
    /// IPv4 checksums; each field is `NDIS_OFFLOAD_SUPPORTED` or not.
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_Bits(ULONG) {
        /// Packets with IPv4 options.
        IpOptionsSupported = 0..=1,
        /// Packets with TCP options.
        TcpOptionsSupported = 2..=3,
        /// TCP checksum.
        TcpChecksum = 4..=5,
        /// UDP checksum.
        UdpChecksum = 6..=7,
        /// IPv4 header checksum.
        IpChecksum = 8..=9,
    }
}

bits! {
    /// IPv6 checksums; each field is `NDIS_OFFLOAD_SUPPORTED` or not.
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_Bits(ULONG) {
        /// Packets with IPv6 extension headers.
        IpExtensionHeadersSupported = 0..=1,
        /// Packets with TCP options.
        TcpOptionsSupported = 2..=3,
        /// TCP checksum.
        TcpChecksum = 4..=5,
        /// UDP checksum.
        UdpChecksum = 6..=7,
    }
}

layout! {
    /// One direction of [`NDIS_TCP_IP_CHECKSUM_OFFLOAD`] over IPv4.
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4 = 8 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no checksum offload.
        Encapsulation: ULONG = 0,
        /// Checksums and options.
        Bits: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_Bits = 4,
    }
}

layout! {
    /// One direction of [`NDIS_TCP_IP_CHECKSUM_OFFLOAD`] over IPv6.
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6 = 8 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no checksum offload.
        Encapsulation: ULONG = 0,
        /// Checksums and options.
        Bits: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_Bits = 4,
    }
}

layout! {
    /// What an adapter can do, or does, for checksums; a member of `NDIS_OFFLOAD`.
    ///
    /// Page: NDIS_TCP_IP_CHECKSUM_OFFLOAD structure (ntddndis.h), NDIS 6.0 and later.
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD = 32 align 4 {
        /// Sent IPv4 packets.
        IPv4Transmit: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4 = 0,
        /// Received IPv4 packets.
        IPv4Receive: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4 = 8,
        /// Sent IPv6 packets.
        IPv6Transmit: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6 = 16,
        /// Received IPv6 packets.
        IPv6Receive: NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6 = 24,
    }
}
