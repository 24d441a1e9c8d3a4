//! Net buffers, net buffer lists, and the slots of out-of-band information that a list carries.

use crate::base::{
    LARGE_INTEGER, LONG, MEMORY_ALLOCATION_ALIGNED, NDIS_HANDLE, NDIS_STATUS, PMDL, PNET_BUFFER, PNET_BUFFER_LIST, PNET_BUFFER_LIST_CONTEXT,
    PNET_BUFFER_SHARED_MEMORY, PSCATTER_GATHER_LIST, PVOID, SIZE_T, SLIST_HEADER, UCHAR, UINT32, ULONG, USHORT,
};
use crate::layout::{Slot, bits, both, constants, layout, slots};

layout! {
    /// Opening part of a [`NET_BUFFER`], aligned as a whole.
    #[cfg_attr(target_pointer_width = "64", repr(align(16)))]
    #[cfg_attr(target_pointer_width = "32", repr(align(8)))]
    pub struct NET_BUFFER_HEADER = 48 align 16 / 24 align 8 {
        /// The next net buffer of the list, or null.
        Next: PNET_BUFFER = 0,
        /// The descriptor in which the data begins.
        CurrentMdl: PMDL = 8 / 4,
        /// Bytes into that descriptor.
        CurrentMdlOffset: ULONG = 16 / 8,
        /// Length of the data in bytes, in pointer width.
        stDataLength: SIZE_T = 24 / 12,
        /// The first descriptor.
        MdlChain: PMDL = 32 / 16,
        /// Bytes from the first descriptor's start to the data.
        DataOffset: ULONG = 40 / 20,
    }
    or {
        /// length of the data in bytes, in place of `stDataLength`.
        DataLength: ULONG = 24 / 12,
        /// link of a free net buffer, in place of the first fields.
        Link: SLIST_HEADER = 0,
    }
}

layout! {
    /// One packet, or one large send.
    ///
    /// Page: NET_BUFFER structure (ndis/nbl.h), NDIS 6.0 and later; on x86 the last member came with NDIS 6.20.
    pub struct NET_BUFFER = 176 align 16 / 96 align 8 {
        /// Opening part, anonymous in C.
        NetBufferHeader: NET_BUFFER_HEADER = 0,
        /// Bias of the checksum.
        ChecksumBias: USHORT = 48 / 24,
        /// Reserved.
        Reserved: USHORT = 50 / 26,
        /// The pool that it came from.
        NdisPoolHandle: NDIS_HANDLE = 56 / 28,
        /// NDIS's.
        NdisReserved: MEMORY_ALLOCATION_ALIGNED<[PVOID; 2]> = 64 / 32,
        /// The protocol's.
        ProtocolReserved: MEMORY_ALLOCATION_ALIGNED<[PVOID; 6]> = 80 / 40,
        /// The miniport's.
        MiniportReserved: MEMORY_ALLOCATION_ALIGNED<[PVOID; 4]> = 128 / 64,
        /// Physical address of the data.
        DataPhysicalAddress: LARGE_INTEGER = 160 / 80,
        /// Shared memory that the data lies in; NDIS 6.20.
        SharedMemoryInfo: PNET_BUFFER_SHARED_MEMORY = 168 / 88,
    }
    or {
        /// in place of `SharedMemoryInfo`.
        ScatterGatherList: PSCATTER_GATHER_LIST = 168 / 88,
    }
}

layout! {
    /// A stretch of shared memory that a packet's data lies in.
    ///
    /// Page: NET_BUFFER_SHARED_MEMORY structure (ndis/nbl.h), NDIS 6.20 and later.
    pub struct NET_BUFFER_SHARED_MEMORY = 32 align 8 / 20 align 4 {
        /// The next stretch, or null.
        NextSharedMemorySegment: PNET_BUFFER_SHARED_MEMORY = 0,
        /// Flags.
        SharedMemoryFlags: ULONG = 8 / 4,
        /// The block of shared memory.
        SharedMemoryHandle: NDIS_HANDLE = 16 / 8,
        /// Bytes into the block.
        SharedMemoryOffset: ULONG = 24 / 12,
        /// Bytes of the stretch.
        SharedMemoryLength: ULONG = 28 / 16,
    }
}

layout! {
    /// A list of net buffers that share out-of-band information, and complete together.
    ///
    /// Page: NET_BUFFER_LIST structure (ndis/nbl.h), NDIS 6.0 and later. This is the form of NDIS 6.80 (x64) and 6.82
    /// (x86); earlier ones have fewer slots ([`version`](crate::version)).
    pub struct NET_BUFFER_LIST = 368 align 16 / 192 align 8 {
        /// The next list of the chain, or null.
        Next: PNET_BUFFER_LIST = 0,
        /// The first net buffer.
        FirstNetBuffer: PNET_BUFFER = 8 / 4,
        /// Context space.
        Context: PNET_BUFFER_LIST_CONTEXT = 16 / 8,
        /// The list that this one was derived from, or null.
        ParentNetBufferList: PNET_BUFFER_LIST = 24 / 12,
        /// The pool that it came from.
        NdisPoolHandle: NDIS_HANDLE = 32 / 16,
        /// NDIS's.
        NdisReserved: MEMORY_ALLOCATION_ALIGNED<[PVOID; 2]> = 48 / 24,
        /// The protocol's.
        ProtocolReserved: MEMORY_ALLOCATION_ALIGNED<[PVOID; 4]> = 64 / 32,
        /// The miniport's.
        MiniportReserved: MEMORY_ALLOCATION_ALIGNED<[PVOID; 2]> = 96 / 48,
        /// Whoever holds the list uses it.
        Scratch: PVOID = 112 / 56,
        /// Who sent or indicated the list.
        SourceHandle: NDIS_HANDLE = 120 / 60,
        /// Flags of NDIS.
        NblFlags: ULONG = 128 / 64,
        /// Number of lists derived from this one.
        ChildRefCount: LONG = 132 / 68,
        /// `NDIS_NBL_FLAGS_...` bits.
        Flags: ULONG = 136 / 72,
        /// How the send completed.
        Status: NDIS_STATUS = 140 / 76,
        /// Out-of-band information, indexed by [`NDIS_NET_BUFFER_LIST_INFO`].
        NetBufferListInfo: [PVOID; 27] = 144 / 80,
    }
    or {
        /// link of a free list, in place of the first fields.
        Link: SLIST_HEADER = 0,
        /// in place of `Status`, while NDIS has the list.
        NdisReserved2: ULONG = 140 / 76,
    }
}

layout! {
    /// Head of a list's context space.
    ///
    /// Page: NET_BUFFER_LIST_CONTEXT structure (ndis/nbl.h), NDIS 6.0 and later.
    #[cfg_attr(target_pointer_width = "64", repr(align(16)))]
    #[cfg_attr(target_pointer_width = "32", repr(align(8)))]
    pub struct NET_BUFFER_LIST_CONTEXT = 16 align 16 / 8 align 8 {
        /// The next context, or null.
        Next: PNET_BUFFER_LIST_CONTEXT = 0,
        /// Bytes of the context space.
        Size: USHORT = 8 / 4,
        /// Bytes of it that are free.
        Offset: USHORT = 10 / 6,
    }
    then {
        /// the context space, `Size` bytes.
        ContextData: [UCHAR; 0] = 16 / 8,
    }
}

bits! {
    /// Ethernet form of [`NDIS_NET_BUFFER_LIST_8021Q_INFO`].
    pub struct NDIS_NET_BUFFER_LIST_8021Q_INFO_TagHeader(UINT32) {
        /// Priority (PCP).
        UserPriority = 0..=2,
        /// Canonical format indicator, today the drop eligible indicator.
        CanonicalFormatId = 3..=3,
        /// VLAN, 0 is none.
        VlanId = 4..=15,
        /// Reserved.
        Reserved = 16..=31,
    }
}

bits! {
    /// Wireless form of [`NDIS_NET_BUFFER_LIST_8021Q_INFO`].
    pub struct NDIS_NET_BUFFER_LIST_8021Q_INFO_WLanTagHeader(UINT32) {
        /// Priority (PCP).
        UserPriority = 0..=2,
        /// Canonical format indicator, today the drop eligible indicator.
        CanonicalFormatId = 3..=3,
        /// VLAN, 0 is none.
        VlanId = 4..=15,
        /// Wireless multimedia information.
        WMMInfo = 16..=19,
        /// Reserved.
        Reserved = 20..=31,
    }
}

layout! {
    /// The slot `Ieee8021QNetBufferListInfo`: the 802.1Q tag.
    ///
    /// Page: NDIS_NET_BUFFER_LIST_8021Q_INFO structure (ndis/nbl8021q.h), NDIS 6.0 and later.
    pub struct NDIS_NET_BUFFER_LIST_8021Q_INFO = 8 align 8 / 4 align 4 {
        /// The whole slot.
        Value: PVOID = 0,
    }
    or {
        /// on Ethernet.
        TagHeader: NDIS_NET_BUFFER_LIST_8021Q_INFO_TagHeader = 0,
        /// on wireless media.
        WLanTagHeader: NDIS_NET_BUFFER_LIST_8021Q_INFO_WLanTagHeader = 0,
    }
}

slots! {
    /// Indexes of [`NET_BUFFER_LIST::NetBufferListInfo`]. Send and receive forms share slots, and so do uses that exclude
    /// each other.
    pub enum NDIS_NET_BUFFER_LIST_INFO {
        /// Checksums, `NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO`.
        TcpIpChecksumNetBufferListInfo = 0 / 0,
        /// Bytes sent over an offloaded TCP connection.
        TcpOffloadBytesTransferred = 0 / 0,
        /// IPsec version 1, `NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO`.
        IPsecOffloadV1NetBufferListInfo = 1 / 1,
        /// IPsec version 2, `NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO`; NDIS 6.1.
        IPsecOffloadV2NetBufferListInfo = 1 / 1,
        /// Large sends, `NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO`.
        TcpLargeSendNetBufferListInfo = 2 / 2,
        /// Receive on an offloaded TCP connection.
        TcpReceiveNoPush = 2 / 2,
        /// Packet classification.
        ClassificationHandleNetBufferListInfo = 3 / 3,
        /// 802.1Q tag, `NDIS_NET_BUFFER_LIST_8021Q_INFO`.
        Ieee8021QNetBufferListInfo = 4 / 4,
        /// Identifier for cancelling sends.
        NetBufferListCancelId = 5 / 5,
        /// Depends on the medium.
        MediaSpecificInformation = 6 / 6,
        /// EtherType.
        NetBufferListFrameType = 7 / 7,
        /// Protocol identifier.
        NetBufferListProtocolId = 7 / 7,
        /// Hash of receive side scaling.
        NetBufferListHashValue = 8 / 8,
        /// Function and type of the hash.
        NetBufferListHashInfo = 9 / 9,
        /// Filtering platform.
        WfpNetBufferListInfo = 10 / 10,
        /// Tunnel SA, `NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO`; NDIS 6.1.
        IPsecOffloadV2TunnelNetBufferListInfo = 11 / 11,
        /// IPsec headers, `NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO`; NDIS 6.1.
        IPsecOffloadV2HeaderNetBufferListInfo = 12 / 12,
        /// Correlation identifier; NDIS 6.20.
        NetBufferListCorrelationId = 13 / 13,
        /// Receive filters; NDIS 6.20.
        NetBufferListFilteringInfo = 14 / 14,
        /// Depends on the medium; NDIS 6.20.
        MediaSpecificInformationEx = 15 / 15,
        /// Interface that the packet came in on; NDIS 6.20.
        NblOriginalInterfaceIfIndex = 16 / 16,
        /// Filtering platform; NDIS 6.20.
        NblReAuthWfpFlowContext = 16 / 16,
        /// Name resolution; NDIS 6.20.
        NrtNameResolutionId = 17 / 17,
        /// Bytes received on an offloaded TCP connection; NDIS 6.20.
        TcpReceiveBytesTransferred = 17 / 17,
        /// UDP receive coalescing; NDIS 6.84.
        UdpRecvSegCoalesceOffloadInfo = 17 / 17,
        /// Extensible switch; NDIS 6.30, on x86 6.82.
        SwitchForwardingReserved = 18 / 23,
        /// Extensible switch; NDIS 6.30, 64-bit only.
        SwitchForwardingDetail = 19 / none,
        /// Extensible switch; NDIS 6.82, x86 only.
        SwitchForwardingDetail_b0_to_b31 = none / 24,
        /// Extensible switch; NDIS 6.82, x86 only.
        SwitchForwardingDetail_b32_to_b63 = none / 25,
        /// Virtual subnet; NDIS 6.30, on x86 6.82.
        VirtualSubnetInfo = 20 / 26,
        /// Intermediate drivers; NDIS 6.30.
        IMReserved = 21 / 18,
        /// Receive segment coalescing; NDIS 6.30.
        TcpRecvSegCoalesceInfo = 22 / 19,
        /// UDP segmentation, `NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO`; NDIS 6.83.
        UdpSegmentationOffloadInfo = 22 / 19,
        /// Time stamps of coalesced segments; NDIS 6.30.
        RscTcpTimestampDelta = 23 / 20,
        /// Inner headers, `NDIS_TCP_SEND_OFFLOADS_SUPPLEMENTAL_NET_BUFFER_LIST_INFO`; NDIS 6.30.
        TcpSendOffloadsSupplementalNetBufferListInfo = 23 / 20,
        /// Generic flow tables; NDIS 6.50, 64-bit only.
        GftOffloadInformation = 24 / none,
        /// Generic flow tables; NDIS 6.50, 64-bit only.
        GftFlowEntryId = 25 / none,
        /// Reserved; NDIS 6.80.
        NetBufferListInfoReserved3 = 26 / 21,
        /// Reserved; NDIS 6.80, x86 only.
        NetBufferListInfoReserved4 = none / 22,
    }
}

constants! {
    /// Bits of [`NET_BUFFER_LIST::Flags`].
    pub const NBL_FLAGS: [ULONG] = {
        /// Sent data must not be written to.
        NDIS_NBL_FLAGS_SEND_READ_ONLY = 0x0000_0001,
        /// Received data must not be written to.
        NDIS_NBL_FLAGS_RECV_READ_ONLY = 0x0000_0002,
        /// Header and data are split.
        NDIS_NBL_FLAGS_HD_SPLIT = 0x0000_0100,
        /// The packets are IPv4.
        NDIS_NBL_FLAGS_IS_IPV4 = 0x0000_0200,
        /// The packets are IPv6.
        NDIS_NBL_FLAGS_IS_IPV6 = 0x0000_0400,
        /// The packets are TCP.
        NDIS_NBL_FLAGS_IS_TCP = 0x0000_0800,
        /// The packets are UDP.
        NDIS_NBL_FLAGS_IS_UDP = 0x0000_1000,
        /// Split where the upper layer's header begins.
        NDIS_NBL_FLAGS_SPLIT_AT_UPPER_LAYER_PROTOCOL_HEADER = 0x0000_2000,
        /// Split where the upper layer's payload begins.
        NDIS_NBL_FLAGS_SPLIT_AT_UPPER_LAYER_PROTOCOL_PAYLOAD = 0x0000_4000,
        /// Looped back.
        NDIS_NBL_FLAGS_IS_LOOPBACK_PACKET = 0x0000_8000,
        /// A time stamp is wanted.
        NDIS_NBL_FLAGS_CAPTURE_TIMESTAMP_ON_TRANSMIT = 0x0001_0000,
        /// Bits that are NDIS's.
        NBL_FLAGS_NDIS_RESERVED = 0x0000_0ffc,
        /// Bits that are the miniport's.
        NBL_FLAGS_MINIPORT_RESERVED = 0x0000_f000,
        /// Bits that whoever holds the list uses.
        NBL_FLAGS_SCRATCH = 0x000f_0000,
        /// Bits that are the protocol's.
        NBL_FLAGS_PROTOCOL_RESERVED = 0xfff0_0003,
    }
}

constants! {
    /// Flags of the calls that send, complete, indicate and return lists.
    pub const TRANSFER_FLAGS: [ULONG] = {
        /// Send: the caller is at dispatch level.
        NDIS_SEND_FLAGS_DISPATCH_LEVEL = 0x0001,
        /// Send: NDIS checks for loopback.
        NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK = 0x0002,
        /// Send: all lists are for one queue.
        NDIS_SEND_FLAGS_SINGLE_QUEUE = 0x0004,
        /// Completion of sends: the caller is at dispatch level.
        NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL = 0x0001,
        /// Completion of sends: all lists are of one queue.
        NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE = 0x0002,
        /// Receive: the caller is at dispatch level.
        NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL = 0x0001,
        /// Receive: the miniport takes the lists back when the call returns.
        NDIS_RECEIVE_FLAGS_RESOURCES = 0x0002,
        /// Receive: all packets have one EtherType.
        NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE = 0x0100,
        /// Receive: all packets are of one VLAN.
        NDIS_RECEIVE_FLAGS_SINGLE_VLAN = 0x0200,
        /// Receive: the NIC's filter was exact.
        NDIS_RECEIVE_FLAGS_PERFECT_FILTERED = 0x0400,
        /// Receive: all packets are of one queue.
        NDIS_RECEIVE_FLAGS_SINGLE_QUEUE = 0x0800,
        /// Receive: the shared memory information is valid.
        NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID = 0x1000,
        /// Receive: more lists will follow at once.
        NDIS_RECEIVE_FLAGS_MORE_NBLS = 0x2000,
        /// Return: the caller is at dispatch level.
        NDIS_RETURN_FLAGS_DISPATCH_LEVEL = 0x0001,
        /// Return: all lists are of one queue.
        NDIS_RETURN_FLAGS_SINGLE_QUEUE = 0x0002,
    }
}
