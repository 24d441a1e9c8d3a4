//! IPsec task offload version 2 (NDIS 6.1 and later): SA requests, capabilities, out-of-band information.

use crate::base::{
    BOOLEAN, IPAddr, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_SWITCH_PORT_ID, PIPSEC_OFFLOAD_V2_ADD_SA, PIPSEC_OFFLOAD_V2_DELETE_SA, PVOID, UCHAR, ULONG, USHORT,
};
use crate::layout::{bits, both, constants, enumeration, layout, sizes, whole};

enumeration! {
    /// What a security association does.
    pub enum IPSEC_OFFLOAD_V2_OPERATION {
        /// Authentication header.
        IPsecOffloadV2Ah = 1,
        /// Encapsulating security payload, with or without encryption.
        IPsecOffloadV2Esp = 2,
        /// One past the last operation.
        IPsecOffloadV2Max = 3,
    }
}

/// Security parameters index. Its four bytes in memory are those of the packet, on every host.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IPSEC_OFFLOAD_V2_SPI_TYPE(pub ULONG);

whole!(IPSEC_OFFLOAD_V2_SPI_TYPE, Self(0), 4;);

layout! {
    /// One algorithm of a security association, and where its key lies in the key area.
    ///
    /// Page: IPSEC_OFFLOAD_V2_ALGORITHM_INFO structure (ndis.h), NDIS 6.1 and later.
    pub struct IPSEC_OFFLOAD_V2_ALGORITHM_INFO = 16 align 4 {
        /// One `IPSEC_OFFLOAD_V2_AUTHENTICATION_...` or `IPSEC_OFFLOAD_V2_ENCRYPTION_...` bit, or 0.
        Identifier: ULONG = 0,
        /// Length of the key in bytes.
        KeyLength: ULONG = 4,
        /// Where the key begins, in bytes from the start of the key area.
        KeyOffsetBytes: ULONG = 8,
        /// For AES-GCM the length of the ICV; otherwise unused.
        AdditionalInfo: ULONG = 12,
    }
}

layout! {
    /// One security association of a bundle: AH or ESP.
    ///
    /// Page: IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION structure (ndis.h), NDIS 6.1 and later.
    pub struct IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION = 48 align 4 {
        /// [`IPSEC_OFFLOAD_V2_ESN_SA`] or 0.
        Flags: ULONG = 0,
        /// AH or ESP.
        Operation: IPSEC_OFFLOAD_V2_OPERATION = 4,
        /// Security parameters index, bytes as in the packet.
        Spi: IPSEC_OFFLOAD_V2_SPI_TYPE = 8,
        /// Integrity algorithm; unused with AES-GCM.
        AuthenticationAlgorithm: IPSEC_OFFLOAD_V2_ALGORITHM_INFO = 12,
        /// Confidentiality or combined algorithm; all zero with AH.
        EncryptionAlgorithm: IPSEC_OFFLOAD_V2_ALGORITHM_INFO = 28,
        /// High-order 32 bits of the extended sequence number.
        SequenceNumberHighOrder: ULONG = 44,
    }
}

layout! {
    /// IPv4 form of the addresses of a bundle; all-zero addresses match anything.
    pub struct IPSEC_OFFLOAD_V2_IPv4Endpoints = 8 align 4 {
        /// Source address.
        SrcAddr: IPAddr = 0,
        /// Destination address.
        DestAddr: IPAddr = 4,
    }
}

layout! {
    /// IPv6 form of the addresses of a bundle; all-zero addresses match anything.
    pub struct IPSEC_OFFLOAD_V2_IPv6Endpoints = 32 align 1 {
        /// Source address, bytes as in the packet.
        SrcAddr: [UCHAR; 16] = 0,
        /// Destination address, bytes as in the packet.
        DestAddr: [UCHAR; 16] = 16,
    }
}

layout! {
    /// Adds a bundle of one or two security associations, or a list of bundles, to an NDIS 6.1 or 6.20 adapter.
    ///
    /// Page: IPSEC_OFFLOAD_V2_ADD_SA structure (ndis.h), NDIS 6.1 and 6.20; later adapters take
    /// [`IPSEC_OFFLOAD_V2_ADD_SA_EX`]. Buffer of `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA`. `Header.Size` occurs both as
    /// `sizeof` and as [`NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1`].
    pub struct IPSEC_OFFLOAD_V2_ADD_SA = 176 align 8 / 160 align 4 {
        /// Type default, revision 1.
        Header: NDIS_OBJECT_HEADER = 0,
        /// The next bundle of the list, or null.
        Next: PIPSEC_OFFLOAD_V2_ADD_SA = 8 / 4,
        /// Number of IPsec headers: 1, or 2 for AH with ESP.
        NumExtHdrs: ULONG = 16 / 8,
        /// [`IPSEC_OFFLOAD_V2_INBOUND`] and [`IPSEC_OFFLOAD_V2_IPv6`]; clear means outbound, IPv4.
        Flags: ULONG = 20 / 12,
        /// Addresses as filters, for a tunnel its end points.
        IPv6Endpoints: IPSEC_OFFLOAD_V2_IPv6Endpoints = 24 / 16,
        /// Output: the bundle's handle, or null if it was not offloaded.
        OffloadHandle: NDIS_HANDLE = 56 / 48,
        /// One `IPSEC_OFFLOAD_V2_..._ENCAPSULATION_...` bit, or 0.
        UdpEspEncapsulation: ULONG = 64 / 52,
        /// The associations in order of operation: ESP comes before AH.
        SecAssoc: [IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION; 2] = 68 / 56,
        /// Length of the whole key area in bytes.
        KeyLength: ULONG = 164 / 152,
    }
    or {
        /// used unless [`IPSEC_OFFLOAD_V2_IPv6`] is set.
        IPv4Endpoints: IPSEC_OFFLOAD_V2_IPv4Endpoints = 24 / 16,
    }
    then {
        /// the key area, `KeyLength` bytes.
        KeyData: [UCHAR; 1] = 168 / 156,
    }
}

layout! {
    /// Adds one bundle of one or two security associations to an NDIS 6.30 or later adapter.
    ///
    /// Page: IPSEC_OFFLOAD_V2_ADD_SA_EX structure (ndis.h), NDIS 6.30 and later. Buffer of
    /// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX`; the key area lies in the same buffer, `KeyOffset` bytes from the start.
    pub struct IPSEC_OFFLOAD_V2_ADD_SA_EX = 176 align 8 / 164 align 4 {
        /// Type default, revision 1.
        Header: NDIS_OBJECT_HEADER = 0,
        /// Number of IPsec headers: 1, or 2 for AH with ESP.
        NumExtHdrs: ULONG = 4,
        /// [`IPSEC_OFFLOAD_V2_INBOUND`] and [`IPSEC_OFFLOAD_V2_IPv6`]; clear means outbound, IPv4.
        Flags: ULONG = 8,
        /// Addresses as filters, for a tunnel its end points.
        IPv6Endpoints: IPSEC_OFFLOAD_V2_IPv6Endpoints = 12,
        /// Output: the bundle's handle, or null if it was not offloaded.
        OffloadHandle: NDIS_HANDLE = 48 / 44,
        /// One `IPSEC_OFFLOAD_V2_..._ENCAPSULATION_...` bit, or 0.
        UdpEspEncapsulation: ULONG = 56 / 48,
        /// The associations in order of operation: ESP comes before AH.
        SecAssoc: [IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION; 2] = 60 / 52,
        /// Length of the whole key area in bytes.
        KeyLength: ULONG = 156 / 148,
        /// Where the key area begins, in bytes from the start of this structure.
        KeyOffset: ULONG = 160 / 152,
        /// Reserved.
        SourceSwitchPortId: NDIS_SWITCH_PORT_ID = 164 / 156,
        /// Reserved.
        VlanId: USHORT = 168 / 160,
    }
    or {
        /// used unless [`IPSEC_OFFLOAD_V2_IPv6`] is set.
        IPv4Endpoints: IPSEC_OFFLOAD_V2_IPv4Endpoints = 12,
    }
}

layout! {
    /// Tells the NIC the high-order sequence number bits of one association.
    ///
    /// Page: IPSEC_OFFLOAD_V2_UPDATE_SA structure (ndis.h), NDIS 6.1 and later. Buffer of
    /// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA`. There is no link to a next element. `Header.Size` occurs both as
    /// `sizeof` and as [`NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1`].
    pub struct IPSEC_OFFLOAD_V2_UPDATE_SA = 32 align 8 / 20 align 4 {
        /// Type default, revision 1.
        Header: NDIS_OBJECT_HEADER = 0,
        /// The bundle.
        OffloadHandle: NDIS_HANDLE = 8 / 4,
        /// AH or ESP: with `Spi`, which association of the bundle.
        Operation: IPSEC_OFFLOAD_V2_OPERATION = 16 / 8,
        /// SPI of the association, bytes as in the packet.
        Spi: IPSEC_OFFLOAD_V2_SPI_TYPE = 20 / 12,
        /// New high-order 32 bits.
        SequenceNumberHighOrder: ULONG = 24 / 16,
    }
}

layout! {
    /// Deletes a bundle, or a list of bundles.
    ///
    /// Page: IPSEC_OFFLOAD_V2_DELETE_SA structure (ndis.h), NDIS 6.1 and later. Buffer of
    /// `OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA`.
    pub struct IPSEC_OFFLOAD_V2_DELETE_SA = 24 align 8 / 12 align 4 {
        /// Type default, revision 1.
        Header: NDIS_OBJECT_HEADER = 0,
        /// The next element of the list, or null.
        Next: PIPSEC_OFFLOAD_V2_DELETE_SA = 8 / 4,
        /// The bundle.
        OffloadHandle: NDIS_HANDLE = 16 / 8,
    }
}

layout! {
    /// What an adapter can do, or does, for IPsec version 2; a member of `NDIS_OFFLOAD`.
    ///
    /// Page: NDIS_IPSEC_OFFLOAD_V2 structure (ntddndis.h), NDIS 6.1 and later.
    pub struct NDIS_IPSEC_OFFLOAD_V2 = 32 align 4 {
        /// `NDIS_ENCAPSULATION_...` bits of the MAC layer; 0 is no IPsec offload.
        Encapsulation: ULONG = 0,
        /// IPv6 packets.
        IPv6Supported: BOOLEAN = 4,
        /// IPv4 packets with options.
        IPv4Options: BOOLEAN = 5,
        /// IPv6 packets with extension headers other than AH and ESP.
        IPv6NonIPsecExtensionHeaders: BOOLEAN = 6,
        /// AH.
        Ah: BOOLEAN = 7,
        /// ESP.
        Esp: BOOLEAN = 8,
        /// AH and ESP on one packet.
        AhEspCombined: BOOLEAN = 9,
        /// Transport mode.
        Transport: BOOLEAN = 10,
        /// Tunnel mode; has to be set for IPsec offload to be used at all.
        Tunnel: BOOLEAN = 11,
        /// Transport mode within a tunnel.
        TransportTunnelCombined: BOOLEAN = 12,
        /// Large send offload on IPsec packets.
        LsoSupported: BOOLEAN = 13,
        /// Extended (64-bit) sequence numbers.
        ExtendedSequenceNumbers: BOOLEAN = 14,
        /// `IPSEC_OFFLOAD_V2_..._ENCAPSULATION_...` bits.
        UdpEsp: ULONG = 16,
        /// `IPSEC_OFFLOAD_V2_AUTHENTICATION_...` bits.
        AuthenticationAlgorithms: ULONG = 20,
        /// `IPSEC_OFFLOAD_V2_ENCRYPTION_...` bits.
        EncryptionAlgorithms: ULONG = 24,
        /// Number of bundles that the NIC holds.
        SaOffloadCapacity: ULONG = 28,
    }
}

layout! {
    /// Transmit form of [`NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO`].
    pub struct NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_Transmit = 8 align 8 / 4 align 4 {
        /// The bundle that protects the packets of this list; null is no offload.
        OffloadHandle: PVOID = 0,
    }
}

bits! {
    /// Receive form of [`NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO`]: the low 32 bits of the slot.
    pub struct NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_Receive(ULONG) {
        /// The transport shall delete the SA that this packet came over, and its outbound partner.
        SaDeleteReq = 0..=0,
        /// At least one IPsec payload was checked.
        CryptoDone = 1..=1,
        /// Both the tunnel and the transport payload were checked; only together with `CryptoDone`.
        NextCryptoDone = 2..=2,
        /// Reserved.
        Reserved = 3..=15,
        /// A `CRYPTO_...` value; valid with `CryptoDone`.
        CryptoStatus = 16..=31,
    }
}

layout! {
    /// The slot `IPsecOffloadV2NetBufferListInfo`: which SA to use, or what the NIC found.
    ///
    /// Page: NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO structure (ndis.h), NDIS 6.1 and later.
    pub struct NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO = 8 align 8 / 4 align 4 {
        /// On transmit: the SA to use.
        Transmit: NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_Transmit = 0,
    }
    or {
        /// on receive, what the NIC did and found.
        Receive: NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_Receive = 0,
    }
}

layout! {
    /// Transmit form of [`NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO`], the only one.
    pub struct NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO_Transmit = 8 align 8 / 4 align 4 {
        /// The tunnel bundle of a transport-over-tunnel packet; null is none.
        TunnelHandle: NDIS_HANDLE = 0,
    }
}

layout! {
    /// The slot `IPsecOffloadV2TunnelNetBufferListInfo`: the tunnel SA of transport-over-tunnel packets.
    ///
    /// Page: NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO structure (ndis.h), NDIS 6.1 and later.
    pub struct NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO = 8 align 8 / 4 align 4 {
        /// On transmit: the tunnel SA.
        Transmit: NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO_Transmit = 0,
    }
}

bits! {
    /// Transmit form of [`NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO`].
    pub struct NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_Transmit(ULONG) {
        /// Next header value of the ESP trailer.
        NextHeader = 0..=7,
        /// Bytes of ESP padding.
        PadLength = 8..=15,
        /// Where the AH header begins: units of 4 bytes from the start of the IP header, 0 is absent.
        AhHeaderOffset = 16..=23,
        /// Where the ESP header begins: units of 4 bytes from the start of the IP header, 0 is absent.
        EspHeaderOffset = 24..=31,
    }
}

bits! {
    /// Receive form of [`NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO`].
    pub struct NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_Receive(ULONG) {
        /// Next header value of the ESP trailer.
        NextHeader = 0..=7,
        /// Bytes of ESP padding.
        PadLength = 8..=15,
        /// The other two fields are valid.
        HeaderInfoSet = 16..=16,
    }
}

layout! {
    /// The slot `IPsecOffloadV2HeaderNetBufferListInfo`: where the IPsec headers are and what the ESP trailer says.
    ///
    /// Page: NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO structure (ndis.h), NDIS 6.1 and later. It is 4 bytes on
    /// every target and lies in the low 32 bits of its slot.
    pub struct NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO = 4 align 4 {
        /// On transmit: what the transport tells the NIC.
        Transmit: NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_Transmit = 0,
    }
    or {
        /// on receive, what the NIC took from the trailer.
        Receive: NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_Receive = 0,
    }
}

constants! {
    /// Bits of [`NDIS_IPSEC_OFFLOAD_V2::AuthenticationAlgorithms`] and identifiers of integrity algorithms.
    pub const IPSEC_V2_AUTHENTICATION_ALGORITHMS: [ULONG] = {
        /// HMAC-MD5-96 (RFC 2403).
        IPSEC_OFFLOAD_V2_AUTHENTICATION_MD5 = 0x0000_0001,
        /// HMAC-SHA1-96 (RFC 2404).
        IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_1 = 0x0000_0002,
        /// HMAC-SHA-256-128 (RFC 4868).
        IPSEC_OFFLOAD_V2_AUTHENTICATION_SHA_256 = 0x0000_0004,
        /// AES-GMAC with a 128-bit key (RFC 4543).
        IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_128 = 0x0000_0008,
        /// AES-GMAC with a 192-bit key (RFC 4543).
        IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_192 = 0x0000_0010,
        /// AES-GMAC with a 256-bit key (RFC 4543).
        IPSEC_OFFLOAD_V2_AUTHENTICATION_AES_GCM_256 = 0x0000_0020,
    }
}

constants! {
    /// Bits of [`NDIS_IPSEC_OFFLOAD_V2::EncryptionAlgorithms`] and identifiers of confidentiality algorithms.
    pub const IPSEC_V2_ENCRYPTION_ALGORITHMS: [ULONG] = {
        /// No encryption (RFC 2410).
        IPSEC_OFFLOAD_V2_ENCRYPTION_NONE = 0x0000_0001,
        /// DES-CBC (RFC 2405).
        IPSEC_OFFLOAD_V2_ENCRYPTION_DES_CBC = 0x0000_0002,
        /// 3DES-CBC (RFC 2451).
        IPSEC_OFFLOAD_V2_ENCRYPTION_3_DES_CBC = 0x0000_0004,
        /// AES-GCM with a 128-bit key (RFC 4106).
        IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128 = 0x0000_0008,
        /// AES-GCM with a 192-bit key (RFC 4106).
        IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192 = 0x0000_0010,
        /// AES-GCM with a 256-bit key (RFC 4106).
        IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256 = 0x0000_0020,
        /// AES-CBC with a 128-bit key (RFC 3602).
        IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_128 = 0x0000_0040,
        /// AES-CBC with a 192-bit key (RFC 3602).
        IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_192 = 0x0000_0080,
        /// AES-CBC with a 256-bit key (RFC 3602).
        IPSEC_OFFLOAD_V2_ENCRYPTION_AES_CBC_256 = 0x0000_0100,
    }
}

constants! {
    /// Bits of [`NDIS_IPSEC_OFFLOAD_V2::UdpEsp`] and values of `UdpEspEncapsulation` (RFC 3948).
    pub const IPSEC_V2_UDP_ESP_ENCAPSULATIONS: [ULONG] = {
        /// No UDP encapsulation.
        IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE = 0x0000_0000,
        /// Transport mode: IP, UDP, ESP, TCP.
        IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT = 0x0000_0001,
        /// Tunnel mode, inner packet not protected by ESP: IP, UDP, ESP, IP, TCP.
        IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TUNNEL = 0x0000_0002,
        /// Transport mode within a UDP-encapsulated tunnel: IP, UDP, ESP, IP, ESP, TCP.
        IPSEC_OFFLOAD_V2_TRANSPORT_OVER_UDP_ESP_ENCAPSULATION_TUNNEL = 0x0000_0004,
        /// UDP-encapsulated transport mode within a tunnel: IP, ESP, IP, UDP, ESP, TCP.
        IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT_OVER_TUNNEL = 0x0000_0008,
    }
}

constants! {
    /// Flags of bundles and associations, and the number of associations in a bundle.
    pub const IPSEC_V2_SA_FLAGS: [ULONG] = {
        /// Bundle: inbound; clear is outbound.
        IPSEC_OFFLOAD_V2_INBOUND = 0x0000_0001,
        /// Bundle: IPv6 addresses; clear is IPv4.
        IPSEC_OFFLOAD_V2_IPv6 = 0x0000_0010,
        /// Association: extended sequence numbers.
        IPSEC_OFFLOAD_V2_ESN_SA = 0x0000_0001,
        /// Length of `SecAssoc`.
        IPSEC_OFFLOAD_V2_MAX_EXTENSION_HEADERS = 2,
    }
}

constants! {
    /// Results of the NIC's work on a received packet, for both versions of IPsec offload.
    pub const CRYPTO_STATUSES: [ULONG] = {
        /// All checks passed.
        CRYPTO_SUCCESS = 0,
        /// Failed for another reason than those below.
        CRYPTO_GENERIC_ERROR = 1,
        /// AH check failed in transport mode.
        CRYPTO_TRANSPORT_AH_AUTH_FAILED = 2,
        /// ESP check failed in transport mode.
        CRYPTO_TRANSPORT_ESP_AUTH_FAILED = 3,
        /// AH check failed in tunnel mode.
        CRYPTO_TUNNEL_AH_AUTH_FAILED = 4,
        /// ESP check failed in tunnel mode.
        CRYPTO_TUNNEL_ESP_AUTH_FAILED = 5,
        /// Lengths within the packet do not fit.
        CRYPTO_INVALID_PACKET_SYNTAX = 6,
        /// The packet's IPsec headers are not those of its SA.
        CRYPTO_INVALID_PROTOCOL = 7,
    }
}

constants! {
    /// Revisions of the SA requests.
    pub const IPSEC_V2_REVISIONS: [UCHAR] = {
        /// [`IPSEC_OFFLOAD_V2_ADD_SA`].
        NDIS_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1 = 1,
        /// [`IPSEC_OFFLOAD_V2_ADD_SA_EX`].
        NDIS_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1 = 1,
        /// [`IPSEC_OFFLOAD_V2_DELETE_SA`].
        NDIS_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1 = 1,
        /// [`IPSEC_OFFLOAD_V2_UPDATE_SA`].
        NDIS_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1 = 1,
    }
}

sizes! {
    /// Sizes of the SA requests by revision.
    pub const IPSEC_V2_SIZES = {
        /// [`IPSEC_OFFLOAD_V2_ADD_SA`] with the one key byte that C declares; NDIS 6.1.
        NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_REVISION_1 = 169 / 157 through IPSEC_OFFLOAD_V2_ADD_SA.KeyData,
        /// [`IPSEC_OFFLOAD_V2_ADD_SA_EX`], NDIS 6.30.
        NDIS_SIZEOF_IPSEC_OFFLOAD_V2_ADD_SA_EX_REVISION_1 = 170 / 162 through IPSEC_OFFLOAD_V2_ADD_SA_EX.VlanId,
        /// [`IPSEC_OFFLOAD_V2_DELETE_SA`], NDIS 6.1.
        NDIS_SIZEOF_IPSEC_OFFLOAD_V2_DELETE_SA_REVISION_1 = 24 / 12 through IPSEC_OFFLOAD_V2_DELETE_SA.OffloadHandle,
        /// [`IPSEC_OFFLOAD_V2_UPDATE_SA`], NDIS 6.1.
        NDIS_SIZEOF_IPSEC_OFFLOAD_V2_UPDATE_SA_REVISION_1 = 28 / 20
            through IPSEC_OFFLOAD_V2_UPDATE_SA.SequenceNumberHighOrder,
    }
}
