//! The offload configuration as a whole: capabilities, settings, encapsulation.

use crate::base::{BOOLEAN, NDIS_OBJECT_HEADER, UCHAR, ULONG, USHORT};
use crate::checksum::NDIS_TCP_IP_CHECKSUM_OFFLOAD;
use crate::ipsec_v1::NDIS_IPSEC_OFFLOAD_V1;
use crate::ipsec_v2::NDIS_IPSEC_OFFLOAD_V2;
use crate::layout::{bits, both, constants, enumeration, layout, sizes};
use crate::lso::{NDIS_TCP_LARGE_SEND_OFFLOAD_V1, NDIS_TCP_LARGE_SEND_OFFLOAD_V2, NDIS_UDP_SEGMENTATION_OFFLOAD};

layout! {
    /// One IP family of [`NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD`].
    pub struct NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_IPv4 = 1 align 1 {
        /// Segments are coalesced.
        Enabled: BOOLEAN = 0,
    }
}

layout! {
    /// Receive segment coalescing; a member of [`NDIS_OFFLOAD`].
    ///
    /// Page: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD structure (ntddndis.h), NDIS 6.30 and later. IPsec packets are never
    /// coalesced by the NIC.
    pub struct NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD = 2 align 1 {
        /// TCP over IPv4.
        IPv4: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_IPv4 = 0,
        /// TCP over IPv6.
        IPv6: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD_IPv4 = 1,
    }
}

bits! {
    /// Offloads on encapsulated packets, each a set of `NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_...` bits.
    pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_Bits(ULONG) {
        /// Checksums on transmit.
        TransmitChecksumOffloadSupported = 0..=3,
        /// Checksums on receive.
        ReceiveChecksumOffloadSupported = 4..=7,
        /// Large sends version 2.
        LsoV2Supported = 8..=11,
        /// Receive side scaling.
        RssSupported = 12..=15,
        /// Virtual machine queues.
        VmqSupported = 16..=19,
        /// UDP segmentation; named in later headers only.
        UsoSupported = 20..=23,
        /// Reserved.
        Reserved = 24..=31,
    }
}

layout! {
    /// Offloads on packets encapsulated by GRE; a member of [`NDIS_OFFLOAD`] from revision 3.
    ///
    /// Page: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD structure (ntddndis.h), NDIS 6.30 and later.
    pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD = 8 align 4 {
        /// Which offloads.
        Bits: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_Bits = 0,
        /// Longest header, from the outer one through the inner TCP or UDP header, in bytes.
        MaxHeaderSizeSupported: ULONG = 4,
    }
}

bits! {
    /// Flags of [`VXLAN_INFO`].
    pub struct VXLAN_INFO_Bits(USHORT) {
        /// The port number can be set.
        VxlanUDPPortNumberConfigurable = 0..=0,
    }
}

layout! {
    /// VXLAN form of [`ENCAPSULATION_PROTOCOL_INFO`].
    pub struct VXLAN_INFO = 4 align 2 {
        /// UDP destination port that marks VXLAN, bytes as in the packet.
        VxlanUDPPortNumber: USHORT = 0,
        /// Flags.
        Bits: VXLAN_INFO_Bits = 2,
    }
}

layout! {
    /// What an adapter reports of an encapsulation protocol.
    ///
    /// Part of the page NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2 structure (ntddndis.h), NDIS 6.50 and later.
    pub struct ENCAPSULATION_PROTOCOL_INFO = 4 align 4 {
        /// The whole word.
        Value: ULONG = 0,
    }
    or {
        /// for VXLAN.
        VxlanInfo: VXLAN_INFO = 0,
    }
}

layout! {
    /// Offloads on packets encapsulated by VXLAN; a member of [`NDIS_OFFLOAD`] from revision 4.
    ///
    /// Page: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2 structure (ntddndis.h), NDIS 6.50 and later.
    pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2 = 20 align 4 {
        /// Which offloads.
        Bits: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_Bits = 0,
        /// Longest header, from the outer one through the inner TCP or UDP header, in bytes.
        MaxHeaderSizeSupported: ULONG = 4,
        /// The protocol's own information.
        EncapsulationProtocolInfo: ENCAPSULATION_PROTOCOL_INFO = 8,
        /// Reserved.
        Reserved1: ULONG = 12,
        /// Reserved.
        Reserved2: ULONG = 16,
    }
}

enumeration! {
    /// Support of 464XLAT in the NIC (RFC 6877).
    pub enum NDIS_RFC6877_464XLAT_OFFLOAD_OPTIONS {
        /// Not supported.
        NDIS_RFC6877_464XLAT_OFFLOAD_NOT_SUPPORTED = 0,
        /// Off.
        NDIS_RFC6877_464XLAT_OFFLOAD_DISABLED = 1,
        /// On.
        NDIS_RFC6877_464XLAT_OFFLOAD_ENABLED = 2,
        /// On when needed.
        NDIS_RFC6877_464XLAT_OFFLOAD_ON_DEMAND = 3,
    }
}

layout! {
    /// Translation between IPv4 and IPv6 in the NIC; a member of [`NDIS_OFFLOAD`] from revision 5.
    ///
    /// Page: NDIS_RFC6877_464XLAT_OFFLOAD structure (ntddndis.h), NDIS 6.70 and later.
    pub struct NDIS_RFC6877_464XLAT_OFFLOAD = 8 align 4 {
        /// State.
        XlatOffload: NDIS_RFC6877_464XLAT_OFFLOAD_OPTIONS = 0,
        /// Flags; none are defined.
        Flags: ULONG = 4,
    }
}

layout! {
    /// All task offloads of an adapter: its hardware capabilities, its default or its current configuration.
    ///
    /// Page: NDIS_OFFLOAD structure (ntddndis.h), NDIS 6.0 and later. This is the form of revisions 6 and 7; lower
    /// revisions end after the field that their `NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_n` names. Buffer of
    /// `OID_TCP_OFFLOAD_CURRENT_CONFIG`, `OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES` and of the indications
    /// `NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG` and `NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES`.
    pub struct NDIS_OFFLOAD = 216 align 4 {
        /// Type offload, revision 1 to 7.
        Header: NDIS_OBJECT_HEADER = 0,
        /// Checksums.
        Checksum: NDIS_TCP_IP_CHECKSUM_OFFLOAD = 4,
        /// Large sends version 1.
        LsoV1: NDIS_TCP_LARGE_SEND_OFFLOAD_V1 = 36,
        /// IPsec version 1.
        IPsecV1: NDIS_IPSEC_OFFLOAD_V1 = 52,
        /// Large sends version 2.
        LsoV2: NDIS_TCP_LARGE_SEND_OFFLOAD_V2 = 80,
        /// `NDIS_OFFLOAD_FLAGS_...` and `IPSEC_OFFLOAD_V2_AND_..._COEXISTENCE` bits.
        Flags: ULONG = 108,
        /// IPsec version 2; from revision 2.
        IPsecV2: NDIS_IPSEC_OFFLOAD_V2 = 112,
        /// Receive segment coalescing; from revision 3.
        Rsc: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD = 144,
        /// Packets encapsulated by GRE; from revision 3.
        EncapsulatedPacketTaskOffloadGre: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD = 148,
        /// Packets encapsulated by VXLAN; from revision 4.
        EncapsulatedPacketTaskOffloadVxlan: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2 = 156,
        /// `NDIS_ENCAPSULATION_TYPE_...` bits; from revision 4.
        EncapsulationTypes: UCHAR = 176,
        /// 464XLAT; from revision 5.
        Rfc6877Xlat: NDIS_RFC6877_464XLAT_OFFLOAD = 180,
        /// UDP segmentation; from revision 6.
        UdpSegmentation: NDIS_UDP_SEGMENTATION_OFFLOAD = 188,
    }
}

layout! {
    /// VXLAN form of [`ENCAPSULATION_PROTOCOL_PARAMETERS`].
    pub struct VXLAN_PARAMETERS = 2 align 2 {
        /// UDP destination port that marks VXLAN, bytes as in the packet.
        VxlanUDPPortNumber: USHORT = 0,
    }
}

layout! {
    /// Settings of an encapsulation protocol.
    ///
    /// Part of the page NDIS_OFFLOAD_PARAMETERS structure (ntddndis.h), NDIS 6.50 and later.
    pub struct ENCAPSULATION_PROTOCOL_PARAMETERS = 4 align 4 {
        /// The whole word.
        Value: ULONG = 0,
    }
    or {
        /// for VXLAN.
        VxlanParameters: VXLAN_PARAMETERS = 0,
    }
}

layout! {
    /// UDP segmentation settings of [`NDIS_OFFLOAD_PARAMETERS`].
    pub struct NDIS_OFFLOAD_PARAMETERS_UdpSegmentation = 2 align 1 {
        /// `NDIS_OFFLOAD_PARAMETERS_USO_...` for IPv4.
        IPv4: UCHAR = 0,
        /// `NDIS_OFFLOAD_PARAMETERS_USO_...` for IPv6.
        IPv6: UCHAR = 1,
    }
}

layout! {
    /// New settings of the task offloads; 0 in a member leaves it as it is.
    ///
    /// Page: NDIS_OFFLOAD_PARAMETERS structure (ntddndis.h), NDIS 6.0 and later. This is the form of revision 5; lower
    /// revisions end after the field that their `NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_n` names. Buffer of
    /// `OID_TCP_OFFLOAD_PARAMETERS`. But for `EncapsulatedPacketTaskOffload`, a value is the keyword's value plus one.
    pub struct NDIS_OFFLOAD_PARAMETERS = 36 align 4 {
        /// Type default, revision 1 to 5.
        Header: NDIS_OBJECT_HEADER = 0,
        /// IPv4 header checksum.
        IPv4Checksum: UCHAR = 4,
        /// TCP checksum over IPv4.
        TCPIPv4Checksum: UCHAR = 5,
        /// UDP checksum over IPv4.
        UDPIPv4Checksum: UCHAR = 6,
        /// TCP checksum over IPv6.
        TCPIPv6Checksum: UCHAR = 7,
        /// UDP checksum over IPv6.
        UDPIPv6Checksum: UCHAR = 8,
        /// Large sends version 1.
        LsoV1: UCHAR = 9,
        /// IPsec version 1.
        IPsecV1: UCHAR = 10,
        /// Large sends version 2 over IPv4.
        LsoV2IPv4: UCHAR = 11,
        /// Large sends version 2 over IPv6.
        LsoV2IPv6: UCHAR = 12,
        /// TCP connection offload over IPv4.
        TcpConnectionIPv4: UCHAR = 13,
        /// TCP connection offload over IPv6.
        TcpConnectionIPv6: UCHAR = 14,
        /// [`NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE`] or 0.
        Flags: ULONG = 16,
        /// IPsec version 2 over IPv4 and IPv6; from revision 2.
        IPsecV2: UCHAR = 20,
        /// IPsec version 2 of an adapter without IPv6; from revision 2.
        IPsecV2IPv4: UCHAR = 21,
        /// Receive segment coalescing over IPv4; from revision 3.
        RscIPv4: UCHAR = 22,
        /// Receive segment coalescing over IPv6; from revision 3.
        RscIPv6: UCHAR = 23,
        /// Offloads on encapsulated packets, `NDIS_OFFLOAD_SET_...`; from revision 3.
        EncapsulatedPacketTaskOffload: UCHAR = 24,
        /// `NDIS_ENCAPSULATION_TYPE_...` bits; from revision 3.
        EncapsulationTypes: UCHAR = 25,
        /// Settings of the encapsulation protocol; from revision 4.
        EncapsulationProtocolParameters: ENCAPSULATION_PROTOCOL_PARAMETERS = 28,
        /// UDP segmentation; from revision 5.
        UdpSegmentation: NDIS_OFFLOAD_PARAMETERS_UdpSegmentation = 32,
    }
}

layout! {
    /// One IP family of [`NDIS_OFFLOAD_ENCAPSULATION`].
    pub struct NDIS_OFFLOAD_ENCAPSULATION_IPv4 = 12 align 4 {
        /// [`NDIS_OFFLOAD_SET_NO_CHANGE`], [`NDIS_OFFLOAD_SET_ON`] or [`NDIS_OFFLOAD_SET_OFF`].
        Enabled: ULONG = 0,
        /// One `NDIS_ENCAPSULATION_...` bit; 0 unless on.
        EncapsulationType: ULONG = 4,
        /// Bytes of the MAC header; 0 unless on.
        HeaderSize: ULONG = 8,
    }
}

layout! {
    /// Activates the configured offloads for a MAC encapsulation.
    ///
    /// Page: NDIS_OFFLOAD_ENCAPSULATION structure (ndis/encapsulationconfig.h), NDIS 6.0 and later. Buffer of
    /// `OID_OFFLOAD_ENCAPSULATION` and of the indication `NDIS_STATUS_OFFLOAD_ENCASPULATION_CHANGE`.
    pub struct NDIS_OFFLOAD_ENCAPSULATION = 28 align 4 {
        /// Type offload encapsulation, revision 1.
        Header: NDIS_OBJECT_HEADER = 0,
        /// IPv4.
        IPv4: NDIS_OFFLOAD_ENCAPSULATION_IPv4 = 4,
        /// IPv6.
        IPv6: NDIS_OFFLOAD_ENCAPSULATION_IPv4 = 16,
    }
}

bits! {
    /// Capabilities of [`NDIS_TCP_CONNECTION_OFFLOAD`]; the two-bit fields are `NDIS_OFFLOAD_SUPPORTED` or not.
    pub struct NDIS_TCP_CONNECTION_OFFLOAD_Bits(ULONG) {
        /// Connections over IPv4.
        SupportIPv4 = 0..=1,
        /// Connections over IPv6.
        SupportIPv6 = 2..=3,
        /// IPv6 extension headers.
        SupportIPv6ExtensionHeaders = 4..=5,
        /// Selective acknowledgements.
        SupportSack = 6..=7,
        /// Congestion control algorithm; NDIS 6.1.
        CongestionAlgorithm = 8..=11,
    }
}

layout! {
    /// TCP connection offload, which IPsec offload stands beside.
    ///
    /// Page: NDIS_TCP_CONNECTION_OFFLOAD structure (ntddndis.h), NDIS 6.0 and later. Buffer of the indication
    /// `NDIS_STATUS_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES`.
    pub struct NDIS_TCP_CONNECTION_OFFLOAD = 20 align 4 {
        /// Type offload, revision 1 or 2.
        Header: NDIS_OBJECT_HEADER = 0,
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer.
        Encapsulation: ULONG = 4,
        /// Capabilities.
        Bits: NDIS_TCP_CONNECTION_OFFLOAD_Bits = 8,
        /// Number of connections that the NIC holds.
        TcpConnectionOffloadCapacity: ULONG = 12,
        /// Flags.
        Flags: ULONG = 16,
    }
}

constants! {
    /// Bits of [`NDIS_OFFLOAD::Flags`].
    pub const OFFLOAD_FLAGS: [ULONG] = {
        /// The adapter's checksum keywords are the grouped ones.
        NDIS_OFFLOAD_FLAGS_GROUP_CHECKSUM_CAPABILITIES = 0x0000_0001,
        /// IPsec version 2 and TCP checksum offload work on one packet; NDIS 6.30.
        IPSEC_OFFLOAD_V2_AND_TCP_CHECKSUM_COEXISTENCE = 0x0000_0002,
        /// IPsec version 2 and UDP checksum offload work on one packet; NDIS 6.30.
        IPSEC_OFFLOAD_V2_AND_UDP_CHECKSUM_COEXISTENCE = 0x0000_0004,
    }
}

constants! {
    /// Values of capabilities and of on-off settings.
    pub const OFFLOAD_VALUES: [ULONG] = {
        /// Capability: absent.
        NDIS_OFFLOAD_NOT_SUPPORTED = 0,
        /// Capability: present.
        NDIS_OFFLOAD_SUPPORTED = 1,
        /// Setting: leave as it is.
        NDIS_OFFLOAD_SET_NO_CHANGE = 0,
        /// Setting: on.
        NDIS_OFFLOAD_SET_ON = 1,
        /// Setting: off.
        NDIS_OFFLOAD_SET_OFF = 2,
    }
}

constants! {
    /// Encapsulations of the MAC layer, bits of every `Encapsulation` member.
    pub const MAC_ENCAPSULATIONS: [ULONG] = {
        /// None: the offload is not supported.
        NDIS_ENCAPSULATION_NOT_SUPPORTED = 0x0000_0000,
        /// No MAC header.
        NDIS_ENCAPSULATION_NULL = 0x0000_0001,
        /// Ethernet.
        NDIS_ENCAPSULATION_IEEE_802_3 = 0x0000_0002,
        /// Ethernet with the 802.1Q tag in the packet.
        NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q = 0x0000_0004,
        /// Ethernet with the 802.1Q tag out of band.
        NDIS_ENCAPSULATION_IEEE_802_3_P_AND_Q_IN_OOB = 0x0000_0008,
        /// LLC/SNAP.
        NDIS_ENCAPSULATION_IEEE_LLC_SNAP_ROUTED = 0x0000_0010,
    }
}

constants! {
    /// Which headers of encapsulated packets an offload handles.
    pub const ENCAPSULATED_PACKET_OFFLOADS: [ULONG] = {
        /// None.
        NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_NOT_SUPPORTED = 0x0,
        /// Inner IPv4.
        NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_INNER_IPV4 = 0x1,
        /// Outer IPv4.
        NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_OUTER_IPV4 = 0x2,
        /// Inner IPv6.
        NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_INNER_IPV6 = 0x4,
        /// Outer IPv6.
        NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_OUTER_IPV6 = 0x8,
    }
}

constants! {
    /// Bits of the `EncapsulationTypes` members.
    pub const ENCAPSULATION_TYPES: [UCHAR] = {
        /// GRE that carries MAC frames (NVGRE).
        NDIS_ENCAPSULATION_TYPE_GRE_MAC = 0x1,
        /// VXLAN.
        NDIS_ENCAPSULATION_TYPE_VXLAN = 0x2,
    }
}

constants! {
    /// Values of the members of [`NDIS_OFFLOAD_PARAMETERS`].
    pub const OFFLOAD_PARAMETER_VALUES: [UCHAR] = {
        /// Any member: leave as it is.
        NDIS_OFFLOAD_PARAMETERS_NO_CHANGE = 0,
        /// Checksum: off.
        NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED = 1,
        /// Checksum: transmit only.
        NDIS_OFFLOAD_PARAMETERS_TX_ENABLED_RX_DISABLED = 2,
        /// Checksum: receive only.
        NDIS_OFFLOAD_PARAMETERS_RX_ENABLED_TX_DISABLED = 3,
        /// Checksum: both.
        NDIS_OFFLOAD_PARAMETERS_TX_RX_ENABLED = 4,
        /// Large send version 1: off.
        NDIS_OFFLOAD_PARAMETERS_LSOV1_DISABLED = 1,
        /// Large send version 1: on.
        NDIS_OFFLOAD_PARAMETERS_LSOV1_ENABLED = 2,
        /// IPsec version 1: off.
        NDIS_OFFLOAD_PARAMETERS_IPSECV1_DISABLED = 1,
        /// IPsec version 1: AH.
        NDIS_OFFLOAD_PARAMETERS_IPSECV1_AH_ENABLED = 2,
        /// IPsec version 1: ESP.
        NDIS_OFFLOAD_PARAMETERS_IPSECV1_ESP_ENABLED = 3,
        /// IPsec version 1: AH and ESP.
        NDIS_OFFLOAD_PARAMETERS_IPSECV1_AH_AND_ESP_ENABLED = 4,
        /// Large send version 2: off.
        NDIS_OFFLOAD_PARAMETERS_LSOV2_DISABLED = 1,
        /// Large send version 2: on.
        NDIS_OFFLOAD_PARAMETERS_LSOV2_ENABLED = 2,
        /// IPsec version 2: off.
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_DISABLED = 1,
        /// IPsec version 2: AH.
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_ENABLED = 2,
        /// IPsec version 2: ESP.
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_ESP_ENABLED = 3,
        /// IPsec version 2: AH and ESP.
        NDIS_OFFLOAD_PARAMETERS_IPSECV2_AH_AND_ESP_ENABLED = 4,
        /// Receive segment coalescing: off.
        NDIS_OFFLOAD_PARAMETERS_RSC_DISABLED = 1,
        /// Receive segment coalescing: on.
        NDIS_OFFLOAD_PARAMETERS_RSC_ENABLED = 2,
        /// TCP connection offload: off.
        NDIS_OFFLOAD_PARAMETERS_CONNECTION_OFFLOAD_DISABLED = 1,
        /// TCP connection offload: on.
        NDIS_OFFLOAD_PARAMETERS_CONNECTION_OFFLOAD_ENABLED = 2,
        /// UDP segmentation: off.
        NDIS_OFFLOAD_PARAMETERS_USO_DISABLED = 1,
        /// UDP segmentation: on.
        NDIS_OFFLOAD_PARAMETERS_USO_ENABLED = 2,
    }
}

constants! {
    /// Bits of [`NDIS_OFFLOAD_PARAMETERS::Flags`].
    pub const OFFLOAD_PARAMETER_FLAGS: [ULONG] = {
        /// NDIS does not write the settings to the keywords; NDIS 6.30.
        NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE = 0x1,
    }
}

constants! {
    /// Revisions of the structures of this module.
    pub const OFFLOAD_REVISIONS: [UCHAR] = {
        /// [`NDIS_OFFLOAD`] of NDIS 6.0.
        NDIS_OFFLOAD_REVISION_1 = 1,
        /// [`NDIS_OFFLOAD`] of NDIS 6.1 and 6.20.
        NDIS_OFFLOAD_REVISION_2 = 2,
        /// [`NDIS_OFFLOAD`] of NDIS 6.30.
        NDIS_OFFLOAD_REVISION_3 = 3,
        /// [`NDIS_OFFLOAD`] of NDIS 6.50.
        NDIS_OFFLOAD_REVISION_4 = 4,
        /// [`NDIS_OFFLOAD`] of NDIS 6.70.
        NDIS_OFFLOAD_REVISION_5 = 5,
        /// [`NDIS_OFFLOAD`] of NDIS 6.83.
        NDIS_OFFLOAD_REVISION_6 = 6,
        /// [`NDIS_OFFLOAD`] of NDIS 6.85.
        NDIS_OFFLOAD_REVISION_7 = 7,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.0.
        NDIS_OFFLOAD_PARAMETERS_REVISION_1 = 1,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.1.
        NDIS_OFFLOAD_PARAMETERS_REVISION_2 = 2,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.30.
        NDIS_OFFLOAD_PARAMETERS_REVISION_3 = 3,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.50.
        NDIS_OFFLOAD_PARAMETERS_REVISION_4 = 4,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.83.
        NDIS_OFFLOAD_PARAMETERS_REVISION_5 = 5,
        /// [`NDIS_OFFLOAD_ENCAPSULATION`].
        NDIS_OFFLOAD_ENCAPSULATION_REVISION_1 = 1,
        /// [`NDIS_TCP_CONNECTION_OFFLOAD`] of NDIS 6.0.
        NDIS_TCP_CONNECTION_OFFLOAD_REVISION_1 = 1,
        /// [`NDIS_TCP_CONNECTION_OFFLOAD`] of NDIS 6.1.
        NDIS_TCP_CONNECTION_OFFLOAD_REVISION_2 = 2,
        /// [`NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD`].
        NDIS_TCP_RECV_SEG_COALESC_OFFLOAD_REVISION_1 = 1,
    }
}

sizes! {
    /// Sizes of the structures of this module by revision.
    pub const OFFLOAD_SIZES = {
        /// [`NDIS_OFFLOAD`] of NDIS 6.0.
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1 = 112 through NDIS_OFFLOAD.Flags,
        /// [`NDIS_OFFLOAD`] of NDIS 6.1 and 6.20.
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2 = 144 through NDIS_OFFLOAD.IPsecV2,
        /// [`NDIS_OFFLOAD`] of NDIS 6.30.
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3 = 156 through NDIS_OFFLOAD.EncapsulatedPacketTaskOffloadGre,
        /// [`NDIS_OFFLOAD`] of NDIS 6.50.
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4 = 177 through NDIS_OFFLOAD.EncapsulationTypes,
        /// [`NDIS_OFFLOAD`] of NDIS 6.70.
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_5 = 188 through NDIS_OFFLOAD.Rfc6877Xlat,
        /// [`NDIS_OFFLOAD`] of NDIS 6.83.
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6 = 216 through NDIS_OFFLOAD.UdpSegmentation,
        /// [`NDIS_OFFLOAD`] of NDIS 6.85; in later kits it may be longer.
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_7 = 216 through NDIS_OFFLOAD.UdpSegmentation,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.0.
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1 = 20 through NDIS_OFFLOAD_PARAMETERS.Flags,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.1.
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_2 = 22 through NDIS_OFFLOAD_PARAMETERS.IPsecV2IPv4,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.30.
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3 = 26 through NDIS_OFFLOAD_PARAMETERS.EncapsulationTypes,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.50.
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_4 = 32
            through NDIS_OFFLOAD_PARAMETERS.EncapsulationProtocolParameters,
        /// [`NDIS_OFFLOAD_PARAMETERS`] of NDIS 6.83.
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_5 = 34 through NDIS_OFFLOAD_PARAMETERS.UdpSegmentation,
        /// [`NDIS_OFFLOAD_ENCAPSULATION`], NDIS 6.0.
        NDIS_SIZEOF_OFFLOAD_ENCAPSULATION_REVISION_1 = 28 through NDIS_OFFLOAD_ENCAPSULATION.IPv6.HeaderSize,
        /// [`NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD`], NDIS 6.30.
        NDIS_SIZEOF_TCP_RECV_SEG_COALESC_OFFLOAD_REVISION_1 = 2
            through NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD.IPv6.Enabled,
        /// [`NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD`], NDIS 6.30.
        NDIS_SIZEOF_ENCAPSULATED_PACKET_TASK_OFFLOAD_REVISION_1 = 8
            through NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD.MaxHeaderSizeSupported,
    }
}
