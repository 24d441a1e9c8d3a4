//! Standardized keywords of the adapter's registry key, and the settings of the whole system.
//!
//! Keyword values are strings that hold a number. They are not the values of `NDIS_OFFLOAD_PARAMETERS`, which are one
//! higher where both exist; `EncapsulatedPacketTaskOffload` alone is set by `NDIS_OFFLOAD_SET_ON` and
//! `NDIS_OFFLOAD_SET_OFF`.

use crate::base::ULONG;

/// A standardized keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyword {
    /// Name, with its asterisk.
    pub name: &'static str,
    /// What a user interface shows.
    pub display: &'static str,
    /// Values and what they mean; empty where any number is a value.
    pub values: &'static [(ULONG, &'static str)],
    /// Default, where one is documented.
    pub default: Option<ULONG>,
    /// Least value of a keyword that takes any number.
    pub minimum: Option<ULONG>,
    /// Counterpart in `NDIS_OFFLOAD_PARAMETERS`, where there is one.
    pub parameter: Option<&'static str>,
}

/// A setting outside the adapter's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemSetting {
    /// Registry key.
    pub key: &'static str,
    /// Name of the value.
    pub value: &'static str,
    /// Values and what they mean.
    pub values: &'static [(ULONG, &'static str)],
}

const ON_OFF: &[(ULONG, &str)] = &[(0, "Disabled"), (1, "Enabled")];
const TX_RX: &[(ULONG, &str)] = &[(0, "Disabled"), (1, "Tx enabled"), (2, "Rx enabled"), (3, "Rx and Tx enabled")];
const AH_ESP: &[(ULONG, &str)] = &[(0, "Disabled"), (1, "AH enabled"), (2, "ESP enabled"), (3, "AH and ESP enabled")];

/// IPv4 header checksum.
pub const KEYWORD_IPChecksumOffloadIPv4: Keyword = Keyword {
    name: "*IPChecksumOffloadIPv4",
    display: "IPv4 Checksum Offload",
    values: TX_RX,
    default: Some(3),
    minimum: None,
    parameter: Some("IPv4Checksum"),
};

/// TCP checksum over IPv4.
pub const KEYWORD_TCPChecksumOffloadIPv4: Keyword = Keyword {
    name: "*TCPChecksumOffloadIPv4",
    display: "TCP Checksum Offload (IPv4)",
    values: TX_RX,
    default: Some(3),
    minimum: None,
    parameter: Some("TCPIPv4Checksum"),
};

/// TCP checksum over IPv6.
pub const KEYWORD_TCPChecksumOffloadIPv6: Keyword = Keyword {
    name: "*TCPChecksumOffloadIPv6",
    display: "TCP Checksum Offload (IPv6)",
    values: TX_RX,
    default: Some(3),
    minimum: None,
    parameter: Some("TCPIPv6Checksum"),
};

/// UDP checksum over IPv4.
pub const KEYWORD_UDPChecksumOffloadIPv4: Keyword = Keyword {
    name: "*UDPChecksumOffloadIPv4",
    display: "UDP Checksum Offload (IPv4)",
    values: TX_RX,
    default: Some(3),
    minimum: None,
    parameter: Some("UDPIPv4Checksum"),
};

/// UDP checksum over IPv6.
pub const KEYWORD_UDPChecksumOffloadIPv6: Keyword = Keyword {
    name: "*UDPChecksumOffloadIPv6",
    display: "UDP Checksum Offload (IPv6)",
    values: TX_RX,
    default: Some(3),
    minimum: None,
    parameter: Some("UDPIPv6Checksum"),
};

/// IPv4 header, TCP and UDP checksum over IPv4 as a group; the keywords above are the granular ones.
pub const KEYWORD_TCPUDPChecksumOffloadIPv4: Keyword =
    Keyword { name: "*TCPUDPChecksumOffloadIPv4", display: "TCP/UDP Checksum Offload (IPv4)", values: TX_RX, default: Some(3), minimum: None, parameter: None };

/// TCP and UDP checksum over IPv6 as a group; the keywords above are the granular ones.
pub const KEYWORD_TCPUDPChecksumOffloadIPv6: Keyword =
    Keyword { name: "*TCPUDPChecksumOffloadIPv6", display: "TCP/UDP Checksum Offload (IPv6)", values: TX_RX, default: Some(3), minimum: None, parameter: None };

/// Large send version 1.
pub const KEYWORD_LsoV1IPv4: Keyword =
    Keyword { name: "*LsoV1IPv4", display: "Large Send Offload Version 1 (IPv4)", values: ON_OFF, default: Some(1), minimum: None, parameter: Some("LsoV1") };

/// Large send version 2 over IPv4.
pub const KEYWORD_LsoV2IPv4: Keyword = Keyword {
    name: "*LsoV2IPv4",
    display: "Large Send Offload Version 2 (IPv4)",
    values: ON_OFF,
    default: Some(1),
    minimum: None,
    parameter: Some("LsoV2IPv4"),
};

/// Large send version 2 over IPv6.
pub const KEYWORD_LsoV2IPv6: Keyword = Keyword {
    name: "*LsoV2IPv6",
    display: "Large Send Offload Version 2 (IPv6)",
    values: ON_OFF,
    default: Some(1),
    minimum: None,
    parameter: Some("LsoV2IPv6"),
};

/// IPsec version 1.
pub const KEYWORD_IPsecOffloadV1IPv4: Keyword = Keyword {
    name: "*IPsecOffloadV1IPv4",
    display: "IPsec Offload Version 1 (IPv4)",
    values: AH_ESP,
    default: Some(3),
    minimum: None,
    parameter: Some("IPsecV1"),
};

/// IPsec version 2 over IPv4 and IPv6.
pub const KEYWORD_IPsecOffloadV2: Keyword =
    Keyword { name: "*IPsecOffloadV2", display: "IPsec Offload", values: AH_ESP, default: Some(3), minimum: None, parameter: Some("IPsecV2") };

/// IPsec version 2 of an adapter without IPv6.
pub const KEYWORD_IPsecOffloadV2IPv4: Keyword = Keyword {
    name: "*IPsecOffloadV2IPv4",
    display: "IPsec Offload (IPv4 only)",
    values: AH_ESP,
    default: Some(3),
    minimum: None,
    parameter: Some("IPsecV2IPv4"),
};

/// TCP connection offload over IPv4.
pub const KEYWORD_TCPConnectionOffloadIPv4: Keyword = Keyword {
    name: "*TCPConnectionOffloadIPv4",
    display: "TCP Connection Offload (IPv4)",
    values: ON_OFF,
    default: Some(1),
    minimum: None,
    parameter: Some("TcpConnectionIPv4"),
};

/// TCP connection offload over IPv6.
pub const KEYWORD_TCPConnectionOffloadIPv6: Keyword = Keyword {
    name: "*TCPConnectionOffloadIPv6",
    display: "TCP Connection Offload (IPv6)",
    values: ON_OFF,
    default: Some(1),
    minimum: None,
    parameter: Some("TcpConnectionIPv6"),
};

/// Receive segment coalescing over IPv4.
pub const KEYWORD_RscIPv4: Keyword =
    Keyword { name: "*RscIPv4", display: "Recv Segment Coalescing (IPv4)", values: ON_OFF, default: Some(1), minimum: None, parameter: Some("RscIPv4") };

/// Receive segment coalescing over IPv6.
pub const KEYWORD_RscIPv6: Keyword =
    Keyword { name: "*RscIPv6", display: "Recv Segment Coalescing (IPv6)", values: ON_OFF, default: Some(1), minimum: None, parameter: Some("RscIPv6") };

/// Offloads on encapsulated packets.
pub const KEYWORD_EncapsulatedPacketTaskOffload: Keyword = Keyword {
    name: "*EncapsulatedPacketTaskOffload",
    display: "Encapsulated Task Offload",
    values: ON_OFF,
    default: Some(1),
    minimum: None,
    parameter: Some("EncapsulatedPacketTaskOffload"),
};

/// UDP segmentation over IPv4; no default is documented.
pub const KEYWORD_UsoIPv4: Keyword = Keyword {
    name: "*UsoIPv4",
    display: "UDP Segmentation Offload (IPv4)",
    values: ON_OFF,
    default: None,
    minimum: None,
    parameter: Some("UdpSegmentation.IPv4"),
};

/// UDP segmentation over IPv6; no default is documented.
pub const KEYWORD_UsoIPv6: Keyword = Keyword {
    name: "*UsoIPv6",
    display: "UDP Segmentation Offload (IPv6)",
    values: ON_OFF,
    default: None,
    minimum: None,
    parameter: Some("UdpSegmentation.IPv6"),
};

/// UDP receive coalescing.
pub const KEYWORD_UdpRsc: Keyword = Keyword { name: "*UdpRsc", display: "URO", values: ON_OFF, default: Some(1), minimum: None, parameter: None };

/// 802.1Q tags.
pub const KEYWORD_PriorityVLANTag: Keyword = Keyword {
    name: "*PriorityVLANTag",
    display: "Packet Priority & VLAN",
    values: &[(0, "Both disabled"), (1, "Packet priority enabled"), (2, "VLAN enabled"), (3, "Both enabled")],
    default: Some(3),
    minimum: None,
    parameter: None,
};

/// Flow control; the default on servers is 0.
pub const KEYWORD_FlowControl: Keyword = Keyword {
    name: "*FlowControl",
    display: "Flow Control",
    values: &[(0, "Tx and Rx disabled"), (1, "Tx enabled"), (2, "Rx enabled"), (3, "Rx and Tx enabled"), (4, "Auto negotiation")],
    default: Some(3),
    minimum: None,
    parameter: None,
};

/// Interrupt moderation.
pub const KEYWORD_InterruptModeration: Keyword =
    Keyword { name: "*InterruptModeration", display: "Interrupt Moderation", values: ON_OFF, default: Some(1), minimum: None, parameter: None };

/// Receive side scaling.
pub const KEYWORD_RSS: Keyword = Keyword { name: "*RSS", display: "Receive Side Scaling", values: ON_OFF, default: Some(1), minimum: None, parameter: None };

/// Header-data split.
pub const KEYWORD_HeaderDataSplit: Keyword =
    Keyword { name: "*HeaderDataSplit", display: "Header Data Split", values: ON_OFF, default: Some(0), minimum: None, parameter: None };

/// Largest frame in bytes, the MAC header included.
pub const KEYWORD_JumboPacket: Keyword =
    Keyword { name: "*JumboPacket", display: "Jumbo Packet", values: &[], default: Some(1514), minimum: Some(1514), parameter: None };

/// Number of receive buffers.
pub const KEYWORD_ReceiveBuffers: Keyword =
    Keyword { name: "*ReceiveBuffers", display: "Receive Buffers", values: &[], default: None, minimum: Some(1), parameter: None };

/// Number of transmit buffers.
pub const KEYWORD_TransmitBuffers: Keyword =
    Keyword { name: "*TransmitBuffers", display: "Transmit Buffers", values: &[], default: None, minimum: Some(0), parameter: None };

/// All keywords.
pub const KEYWORDS: &[Keyword] = &[
    KEYWORD_IPChecksumOffloadIPv4,
    KEYWORD_TCPChecksumOffloadIPv4,
    KEYWORD_TCPChecksumOffloadIPv6,
    KEYWORD_UDPChecksumOffloadIPv4,
    KEYWORD_UDPChecksumOffloadIPv6,
    KEYWORD_TCPUDPChecksumOffloadIPv4,
    KEYWORD_TCPUDPChecksumOffloadIPv6,
    KEYWORD_LsoV1IPv4,
    KEYWORD_LsoV2IPv4,
    KEYWORD_LsoV2IPv6,
    KEYWORD_IPsecOffloadV1IPv4,
    KEYWORD_IPsecOffloadV2,
    KEYWORD_IPsecOffloadV2IPv4,
    KEYWORD_TCPConnectionOffloadIPv4,
    KEYWORD_TCPConnectionOffloadIPv6,
    KEYWORD_RscIPv4,
    KEYWORD_RscIPv6,
    KEYWORD_EncapsulatedPacketTaskOffload,
    KEYWORD_UsoIPv4,
    KEYWORD_UsoIPv6,
    KEYWORD_UdpRsc,
    KEYWORD_PriorityVLANTag,
    KEYWORD_FlowControl,
    KEYWORD_InterruptModeration,
    KEYWORD_RSS,
    KEYWORD_HeaderDataSplit,
    KEYWORD_JumboPacket,
    KEYWORD_ReceiveBuffers,
    KEYWORD_TransmitBuffers,
];

/// Turns every task offload of the TCP/IP transport off; protocols then do not issue `OID_OFFLOAD_ENCAPSULATION`.
pub const DISABLE_TASK_OFFLOAD: SystemSetting = SystemSetting {
    key: r"HKLM\System\CurrentControlSet\Services\TCPIP\Parameters",
    value: "DisableTaskOffload",
    values: &[(0, "all on"), (1, "all task offloads of the TCP/IP transport off")],
};

/// Turns IPsec offloads off.
pub const ENABLED_OFFLOAD: SystemSetting = SystemSetting {
    key: r"HKLM\System\CurrentControlSet\Services\Ipsec",
    value: "EnabledOffload",
    values: &[(0, "IPsec offloads off; checksum and LSO stay"), (1, "IPsec offloads on")],
};

/// The settings of the whole system.
pub const SYSTEM_SETTINGS: &[SystemSetting] = &[DISABLE_TASK_OFFLOAD, ENABLED_OFFLOAD];
