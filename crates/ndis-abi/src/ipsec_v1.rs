//! IPsec task offload version 1 (NDIS 5.x and 6.0): SA requests, capabilities, out-of-band information.

use crate::base::{HANDLE, IPAddr, IPMask, NDIS_HANDLE, SHORT, UCHAR, ULONG, USHORT};
use crate::layout::{bits, both, constants, enumeration, layout, whole};

enumeration! {
    /// What a security association does.
    pub enum OFFLOAD_OPERATION_E {
        /// Integrity only: AH.
        AUTHENTICATE = 1,
        /// ESP.
        ENCRYPT = 2,
    }
}

enumeration! {
    /// Confidentiality algorithms, values of [`OFFLOAD_ALGO_INFO::algoIdentifier`].
    pub enum OFFLOAD_CONF_ALGO {
        /// No encryption.
        OFFLOAD_IPSEC_CONF_NONE = 0,
        /// DES-CBC.
        OFFLOAD_IPSEC_CONF_DES = 1,
        /// Reserved.
        OFFLOAD_IPSEC_CONF_RESERVED = 2,
        /// 3DES-CBC.
        OFFLOAD_IPSEC_CONF_3_DES = 3,
        /// One past the last algorithm.
        OFFLOAD_IPSEC_CONF_MAX = 4,
    }
}

enumeration! {
    /// Integrity algorithms, values of [`OFFLOAD_ALGO_INFO::algoIdentifier`].
    pub enum OFFLOAD_INTEGRITY_ALGO {
        /// No integrity check.
        OFFLOAD_IPSEC_INTEGRITY_NONE = 0,
        /// HMAC-MD5-96.
        OFFLOAD_IPSEC_INTEGRITY_MD5 = 1,
        /// HMAC-SHA1-96.
        OFFLOAD_IPSEC_INTEGRITY_SHA = 2,
        /// One past the last algorithm.
        OFFLOAD_IPSEC_INTEGRITY_MAX = 3,
    }
}

enumeration! {
    /// How UDP encapsulation tells ESP from other traffic of its port.
    pub enum UDP_ENCAP_TYPE {
        /// Encapsulation of early drafts; reserved.
        OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_IKE = 0,
        /// Encapsulation of RFC 3948.
        OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_OTHER = 1,
    }
}

/// Security parameters index. Its four bytes in memory are those of the packet, on every host.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SPI_TYPE(pub ULONG);

whole!(SPI_TYPE, Self(0), 4;);

layout! {
    /// One algorithm of a security association.
    ///
    /// Page: OFFLOAD_ALGO_INFO structure (ntddndis.h), NDIS 5.0 and later.
    pub struct OFFLOAD_ALGO_INFO = 12 align 4 {
        /// An [`OFFLOAD_CONF_ALGO`] or [`OFFLOAD_INTEGRITY_ALGO`] value.
        algoIdentifier: ULONG = 0,
        /// Length of the key in bytes.
        algoKeylen: ULONG = 4,
        /// Rounds of the algorithm; unused.
        algoRounds: ULONG = 8,
    }
}

layout! {
    /// One security association of a request.
    ///
    /// Page: OFFLOAD_SECURITY_ASSOCIATION structure (ntddndis.h), NDIS 5.0 and later.
    pub struct OFFLOAD_SECURITY_ASSOCIATION = 44 align 4 {
        /// AH or ESP.
        Operation: OFFLOAD_OPERATION_E = 0,
        /// Security parameters index, bytes as in the packet.
        SPI: SPI_TYPE = 4,
        /// Integrity algorithm.
        IntegrityAlgo: OFFLOAD_ALGO_INFO = 8,
        /// Confidentiality algorithm; unused with AH.
        ConfAlgo: OFFLOAD_ALGO_INFO = 20,
        /// Reserved.
        Reserved: OFFLOAD_ALGO_INFO = 32,
    }
}

layout! {
    /// Adds one or two security associations.
    ///
    /// Page: OFFLOAD_IPSEC_ADD_SA structure (ntddndis.h), NDIS 5.0 to 6.0. Buffer of `OID_TCP_TASK_IPSEC_ADD_SA`. A zero
    /// address or other filter matches anything.
    pub struct OFFLOAD_IPSEC_ADD_SA = 184 align 8 / 180 align 4 {
        /// Source address.
        SrcAddr: IPAddr = 0,
        /// Which bits of the source address count.
        SrcMask: IPMask = 4,
        /// Destination address.
        DestAddr: IPAddr = 8,
        /// Which bits of the destination address count.
        DestMask: IPMask = 12,
        /// IP protocol.
        Protocol: ULONG = 16,
        /// Source port.
        SrcPort: USHORT = 20,
        /// Destination port.
        DestPort: USHORT = 22,
        /// Source end point of the tunnel, zero in transport mode.
        SrcTunnelAddr: IPAddr = 24,
        /// Destination end point of the tunnel, zero in transport mode.
        DestTunnelAddr: IPAddr = 28,
        /// [`OFFLOAD_INBOUND_SA`] or [`OFFLOAD_OUTBOUND_SA`].
        Flags: USHORT = 32,
        /// How many elements of `SecAssoc` are in use: one or two.
        NumSAs: SHORT = 34,
        /// The associations in order of operation.
        SecAssoc: [OFFLOAD_SECURITY_ASSOCIATION; 3] = 36,
        /// Output: handle of the offloaded SA.
        OffloadHandle: HANDLE = 168,
        /// Length of the key area in bytes.
        KeyLen: ULONG = 176 / 172,
    }
    then {
        /// the key area, `KeyLen` bytes: the keys one after the other.
        KeyMat: [UCHAR; 1] = 180 / 176,
    }
}

layout! {
    /// Deletes what [`OFFLOAD_IPSEC_ADD_SA`] added.
    ///
    /// Page: OFFLOAD_IPSEC_DELETE_SA structure (ntddndis.h), NDIS 5.0 to 6.0. Buffer of `OID_TCP_TASK_IPSEC_DELETE_SA`.
    pub struct OFFLOAD_IPSEC_DELETE_SA = 8 align 8 / 4 align 4 {
        /// Handle of the offloaded SA.
        OffloadHandle: HANDLE = 0,
    }
}

layout! {
    /// An entry of the NIC's parser list: which UDP packets carry ESP.
    ///
    /// Page: OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY structure (ntddndis.h), NDIS 5.1 to 6.0.
    pub struct OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY = 8 align 4 {
        /// Kind of encapsulation.
        UdpEncapType: UDP_ENCAP_TYPE = 0,
        /// Destination port.
        DstEncapPort: USHORT = 4,
    }
}

layout! {
    /// Adds one or two security associations with UDP-encapsulated ESP, and a parser entry if need be.
    ///
    /// Page: OFFLOAD_IPSEC_ADD_UDPESP_SA structure (ntddndis.h), NDIS 5.1 to 6.0. Buffer of
    /// `OID_TCP_TASK_IPSEC_ADD_UDPESP_SA`.
    pub struct OFFLOAD_IPSEC_ADD_UDPESP_SA = 200 align 8 / 192 align 4 {
        /// Source address.
        SrcAddr: IPAddr = 0,
        /// Which bits of the source address count.
        SrcMask: IPMask = 4,
        /// Destination address.
        DstAddr: IPAddr = 8,
        /// Which bits of the destination address count.
        DstMask: IPMask = 12,
        /// IP protocol.
        Protocol: ULONG = 16,
        /// Source port.
        SrcPort: USHORT = 20,
        /// Destination port.
        DstPort: USHORT = 22,
        /// Source end point of the tunnel, zero in transport mode.
        SrcTunnelAddr: IPAddr = 24,
        /// Destination end point of the tunnel, zero in transport mode.
        DstTunnelAddr: IPAddr = 28,
        /// [`OFFLOAD_INBOUND_SA`] or [`OFFLOAD_OUTBOUND_SA`].
        Flags: USHORT = 32,
        /// How many elements of `SecAssoc` are in use: one or two.
        NumSAs: SHORT = 34,
        /// The associations in order of operation.
        SecAssoc: [OFFLOAD_SECURITY_ASSOCIATION; 3] = 36,
        /// Output: handle of the offloaded SA.
        OffloadHandle: HANDLE = 168,
        /// The parser entry that the SA needs.
        EncapTypeEntry: OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY = 176 / 172,
        /// Handle of the parser entry; null asks for one, and its handle is the output.
        EncapTypeEntryOffldHandle: HANDLE = 184 / 180,
        /// Length of the key area in bytes.
        KeyLen: ULONG = 192 / 184,
    }
    then {
        /// the key area, `KeyLen` bytes: the keys one after the other.
        KeyMat: [UCHAR; 1] = 196 / 188,
    }
}

layout! {
    /// Deletes what [`OFFLOAD_IPSEC_ADD_UDPESP_SA`] added.
    ///
    /// Page: OFFLOAD_IPSEC_DELETE_UDPESP_SA structure (ntddndis.h), NDIS 5.1 to 6.0. Buffer of
    /// `OID_TCP_TASK_IPSEC_DELETE_UDPESP_SA`.
    pub struct OFFLOAD_IPSEC_DELETE_UDPESP_SA = 16 align 8 / 8 align 4 {
        /// Handle of the offloaded SA.
        OffloadHandle: HANDLE = 0,
        /// Handle of the parser entry to delete as well; null leaves the entry.
        EncapTypeEntryOffldHandle: HANDLE = 8 / 4,
    }
}

layout! {
    /// General part of [`NDIS_IPSEC_OFFLOAD_V1`].
    pub struct NDIS_IPSEC_OFFLOAD_V1_Supported = 20 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no IPsec offload.
        Encapsulation: ULONG = 0,
        /// AH and ESP on one packet.
        AhEspCombined: ULONG = 4,
        /// Transport mode within a tunnel.
        TransportTunnelCombined: ULONG = 8,
        /// IPv4 packets with options.
        IPv4Options: ULONG = 12,
        /// `IPSEC_..._ENCAPTYPE_...` bits.
        Flags: ULONG = 16,
    }
}

bits! {
    /// What [`NDIS_IPSEC_OFFLOAD_V1`] supports of AH over IPv4; each field is `NDIS_OFFLOAD_SUPPORTED` or not.
    pub struct NDIS_IPSEC_OFFLOAD_V1_IPv4AH(ULONG) {
        /// HMAC-MD5-96.
        Md5 = 0..=1,
        /// HMAC-SHA1-96.
        Sha_1 = 2..=3,
        /// Transport mode.
        Transport = 4..=5,
        /// Tunnel mode.
        Tunnel = 6..=7,
        /// Sending.
        Send = 8..=9,
        /// Receiving.
        Receive = 10..=11,
    }
}

bits! {
    /// What [`NDIS_IPSEC_OFFLOAD_V1`] supports of ESP over IPv4; each field is `NDIS_OFFLOAD_SUPPORTED` or not.
    pub struct NDIS_IPSEC_OFFLOAD_V1_IPv4ESP(ULONG) {
        /// DES-CBC.
        Des = 0..=1,
        /// Reserved.
        Reserved = 2..=3,
        /// 3DES-CBC.
        TripleDes = 4..=5,
        /// Null encryption.
        NullEsp = 6..=7,
        /// Transport mode.
        Transport = 8..=9,
        /// Tunnel mode.
        Tunnel = 10..=11,
        /// Sending.
        Send = 12..=13,
        /// Receiving.
        Receive = 14..=15,
    }
}

layout! {
    /// What an adapter can do, or does, for IPsec version 1; a member of `NDIS_OFFLOAD`.
    ///
    /// Page: NDIS_IPSEC_OFFLOAD_V1 structure (ntddndis.h), NDIS 6.0.
    pub struct NDIS_IPSEC_OFFLOAD_V1 = 28 align 4 {
        /// General part.
        Supported: NDIS_IPSEC_OFFLOAD_V1_Supported = 0,
        /// AH over IPv4.
        IPv4AH: NDIS_IPSEC_OFFLOAD_V1_IPv4AH = 20,
        /// ESP over IPv4.
        IPv4ESP: NDIS_IPSEC_OFFLOAD_V1_IPv4ESP = 24,
    }
}

layout! {
    /// Transmit form of [`NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO`].
    pub struct NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO_Transmit = 8 align 8 / 4 align 4 {
        /// The SA that protects the packets of this list; null is no offload.
        OffloadHandle: NDIS_HANDLE = 0,
    }
}

bits! {
    /// First half of [`NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO_Receive`].
    pub struct NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO_Receive_Bits(USHORT) {
        /// The transport shall delete the SA that this packet came over, and its outbound partner.
        SaDeleteReq = 0..=0,
        /// At least one IPsec payload was checked.
        CryptoDone = 1..=1,
        /// Both the tunnel and the transport payload were checked.
        NextCryptoDone = 2..=2,
        /// Unused.
        Pad = 3..=15,
    }
}

layout! {
    /// Receive form of [`NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO`]: two 16-bit words.
    pub struct NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO_Receive = 4 align 2 {
        /// Flags.
        Bits: NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO_Receive_Bits = 0,
        /// A `CRYPTO_...` value.
        CryptoStatus: USHORT = 2,
    }
}

layout! {
    /// The slot `IPsecOffloadV1NetBufferListInfo`: which SA to use, or what the NIC found.
    ///
    /// Page: NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO structure (ndis.h), NDIS 6.0.
    pub struct NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO = 8 align 8 / 4 align 4 {
        /// On transmit: the SA to use.
        Transmit: NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO_Transmit = 0,
    }
    or {
        /// on receive, what the NIC did and found.
        Receive: NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO_Receive = 0,
    }
}

layout! {
    /// Transmit form of [`NDIS_IPSEC_PACKET_INFO`].
    pub struct NDIS_IPSEC_PACKET_INFO_Transmit = 16 align 8 / 8 align 4 {
        /// The SA of the transport portion, or the only one.
        OffloadHandle: NDIS_HANDLE = 0,
        /// The SA of the tunnel portion, or null.
        NextOffloadHandle: NDIS_HANDLE = 8 / 4,
    }
}

bits! {
    /// First word of [`NDIS_IPSEC_PACKET_INFO_Receive`].
    pub struct NDIS_IPSEC_PACKET_INFO_Receive_Bits(ULONG) {
        /// The transport shall delete the SA that this packet came over.
        SA_DELETE_REQ = 0..=0,
        /// At least one IPsec payload was checked.
        CRYPTO_DONE = 1..=1,
        /// Both the tunnel and the transport payload were checked.
        NEXT_CRYPTO_DONE = 2..=2,
    }
}

layout! {
    /// Receive form of [`NDIS_IPSEC_PACKET_INFO`].
    pub struct NDIS_IPSEC_PACKET_INFO_Receive = 8 align 4 {
        /// Flags.
        Bits: NDIS_IPSEC_PACKET_INFO_Receive_Bits = 0,
        /// A `CRYPTO_...` value.
        CryptoStatus: ULONG = 4,
    }
}

layout! {
    /// Per-packet information of NDIS 5; it does not fit the slots of NDIS 6.
    ///
    /// Page: NDIS_IPSEC_PACKET_INFO structure (ndis.h), NDIS 5.x.
    pub struct NDIS_IPSEC_PACKET_INFO = 16 align 8 / 8 align 4 {
        /// On transmit: the SAs to use.
        Transmit: NDIS_IPSEC_PACKET_INFO_Transmit = 0,
    }
    or {
        /// on receive, what the NIC did and found.
        Receive: NDIS_IPSEC_PACKET_INFO_Receive = 0,
    }
}

constants! {
    /// Values of `Flags` of the add requests.
    pub const IPSEC_V1_SA_FLAGS: [USHORT] = {
        /// Inbound SA.
        OFFLOAD_INBOUND_SA = 1,
        /// Outbound SA.
        OFFLOAD_OUTBOUND_SA = 2,
    }
}

constants! {
    /// Length of `SecAssoc`.
    pub const IPSEC_V1_LIMITS: [ULONG] = {
        /// Elements declared; at most two are in use.
        OFFLOAD_MAX_SAS = 3,
    }
}

constants! {
    /// Bits of [`NDIS_IPSEC_OFFLOAD_V1_Supported::Flags`]; those of type IKE are reserved.
    pub const IPSEC_V1_UDP_ESP_FLAGS: [ULONG] = {
        /// UDP-encapsulated transport mode, type IKE.
        IPSEC_TPT_UDPESP_ENCAPTYPE_IKE = 0x01,
        /// UDP-encapsulated tunnel mode, type IKE.
        IPSEC_TUN_UDPESP_ENCAPTYPE_IKE = 0x02,
        /// Transport mode over a UDP-encapsulated tunnel, type IKE.
        IPSEC_TPTOVERTUN_UDPESP_ENCAPTYPE_IKE = 0x04,
        /// UDP-encapsulated transport mode over a plain tunnel, type IKE.
        IPSEC_TPT_UDPESP_OVER_PURE_TUN_ENCAPTYPE_IKE = 0x08,
        /// UDP-encapsulated transport mode.
        IPSEC_TPT_UDPESP_ENCAPTYPE_OTHER = 0x10,
        /// UDP-encapsulated tunnel mode.
        IPSEC_TUN_UDPESP_ENCAPTYPE_OTHER = 0x20,
        /// Transport mode over a UDP-encapsulated tunnel.
        IPSEC_TPTOVERTUN_UDPESP_ENCAPTYPE_OTHER = 0x40,
        /// UDP-encapsulated transport mode over a plain tunnel.
        IPSEC_TPT_UDPESP_OVER_PURE_TUN_ENCAPTYPE_OTHER = 0x80,
    }
}
