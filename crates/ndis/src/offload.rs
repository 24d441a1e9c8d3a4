//! Capability sets: what an adapter's hardware can do, what it is configured to do (OV2-CAP-2 to OV2-CAP-4, OV1-1).

use bitflags::bitflags;

use crate::sa::{AesKeySize, AuthenticationAlgorithm, EncryptionAlgorithm, UdpEspType};

bitflags! {
    /// MAC encapsulations under which an offload works.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Encapsulation: u32 {
        /// No link header.
        const NULL = 0x01;
        /// Ethernet.
        const IEEE_802_3 = 0x02;
        /// Ethernet with 802.1p/q tags in the data.
        const IEEE_802_3_P_AND_Q = 0x04;
        /// Ethernet with 802.1p/q tags out of band.
        const IEEE_802_3_P_AND_Q_IN_OOB = 0x08;
        /// 802.3 LLC/SNAP.
        const IEEE_LLC_SNAP_ROUTED = 0x10;
    }

    /// UDP-ESP encapsulation types.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct UdpEspTypes: u32 {
        /// UDP-encapsulated transport mode.
        const TRANSPORT = 0x1;
        /// UDP-encapsulated tunnel mode.
        const TUNNEL = 0x2;
        /// Transport mode over a UDP-encapsulated tunnel.
        const TRANSPORT_OVER_UDP_TUNNEL = 0x4;
        /// UDP-encapsulated transport mode over a tunnel.
        const UDP_TRANSPORT_OVER_TUNNEL = 0x8;
    }

    /// Authentication algorithms of IPsecOV2; the bits above 16 are this product's vendor extensions and appear in no raw structure.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AuthenticationAlgorithms: u32 {
        /// HMAC-MD5-96.
        const MD5 = 0x01;
        /// HMAC-SHA1-96.
        const SHA_1 = 0x02;
        /// HMAC-SHA-256-128.
        const SHA_256 = 0x04;
        /// AES-GMAC with a 128-bit key.
        const AES_GCM_128 = 0x08;
        /// AES-GMAC with a 192-bit key.
        const AES_GCM_192 = 0x10;
        /// AES-GMAC with a 256-bit key.
        const AES_GCM_256 = 0x20;
        /// Extension: HMAC-SHA-384-192.
        const EXT_SHA_384 = 0x1_0000;
        /// Extension: HMAC-SHA-512-256.
        const EXT_SHA_512 = 0x2_0000;
    }

    /// Encryption algorithms of IPsecOV2; the bits above 16 are this product's vendor extensions and appear in no raw structure.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct EncryptionAlgorithms: u32 {
        /// Null encryption.
        const NONE = 0x001;
        /// DES-CBC.
        const DES_CBC = 0x002;
        /// 3DES-CBC.
        const TRIPLE_DES_CBC = 0x004;
        /// AES-GCM with a 128-bit key.
        const AES_GCM_128 = 0x008;
        /// AES-GCM with a 192-bit key.
        const AES_GCM_192 = 0x010;
        /// AES-GCM with a 256-bit key.
        const AES_GCM_256 = 0x020;
        /// AES-CBC with a 128-bit key.
        const AES_CBC_128 = 0x040;
        /// AES-CBC with a 192-bit key.
        const AES_CBC_192 = 0x080;
        /// AES-CBC with a 256-bit key.
        const AES_CBC_256 = 0x100;
        /// Extension: ChaCha20-Poly1305.
        const EXT_CHACHA20_POLY1305 = 0x1_0000;
    }

    /// Lengths of the ICV of AES-GCM and ChaCha20-Poly1305 in ESP, in bytes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct IcvLengths: u32 {
        /// 8.
        const ICV_8 = 0x1;
        /// 12.
        const ICV_12 = 0x2;
        /// 16.
        const ICV_16 = 0x4;
    }

    /// Flags of a whole capability set.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OffloadFlags: u32 {
        /// Checksum capabilities are grouped.
        const GROUP_CHECKSUM_CAPABILITIES = 0x1;
        /// IPsecOV2 and TCP checksum offload may be used on the same packet (OV2-CAP-4).
        const IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE = 0x2;
        /// IPsecOV2 and UDP checksum offload may be used on the same packet (OV2-CAP-4).
        const IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE = 0x4;
    }
}

impl EncryptionAlgorithm {
    /// The algorithm's bit.
    pub const fn bit(self) -> EncryptionAlgorithms {
        match self {
            Self::Null => EncryptionAlgorithms::NONE,
            Self::DesCbc => EncryptionAlgorithms::DES_CBC,
            Self::TripleDesCbc => EncryptionAlgorithms::TRIPLE_DES_CBC,
            Self::AesGcm(AesKeySize::Aes128) => EncryptionAlgorithms::AES_GCM_128,
            Self::AesGcm(AesKeySize::Aes192) => EncryptionAlgorithms::AES_GCM_192,
            Self::AesGcm(AesKeySize::Aes256) => EncryptionAlgorithms::AES_GCM_256,
            Self::AesCbc(AesKeySize::Aes128) => EncryptionAlgorithms::AES_CBC_128,
            Self::AesCbc(AesKeySize::Aes192) => EncryptionAlgorithms::AES_CBC_192,
            Self::AesCbc(AesKeySize::Aes256) => EncryptionAlgorithms::AES_CBC_256,
            Self::ChaCha20Poly1305 => EncryptionAlgorithms::EXT_CHACHA20_POLY1305,
        }
    }

    /// All algorithms.
    pub const ALL: [Self; 10] = [
        Self::Null,
        Self::DesCbc,
        Self::TripleDesCbc,
        Self::AesGcm(AesKeySize::Aes128),
        Self::AesGcm(AesKeySize::Aes192),
        Self::AesGcm(AesKeySize::Aes256),
        Self::AesCbc(AesKeySize::Aes128),
        Self::AesCbc(AesKeySize::Aes192),
        Self::AesCbc(AesKeySize::Aes256),
        Self::ChaCha20Poly1305,
    ];

    /// The algorithm of a single bit; `None` for no, several or unknown bits.
    pub fn from_bit(bits: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.bit().bits() == bits)
    }
}

impl IcvLengths {
    /// The length's bit: that of `additional_info` of a combined mode, 0 meaning 16 (OV2-SA-3). A length that no such algorithm has, has none.
    pub const fn of_additional_info(additional_info: u32) -> Self {
        match additional_info {
            8 => Self::ICV_8,
            12 => Self::ICV_12,
            0 | 16 => Self::ICV_16,
            _ => Self::empty(),
        }
    }
}

impl AuthenticationAlgorithm {
    /// The algorithm's bit.
    pub const fn bit(self) -> AuthenticationAlgorithms {
        match self {
            Self::HmacMd5 => AuthenticationAlgorithms::MD5,
            Self::HmacSha1 => AuthenticationAlgorithms::SHA_1,
            Self::HmacSha256 => AuthenticationAlgorithms::SHA_256,
            Self::AesGmac(AesKeySize::Aes128) => AuthenticationAlgorithms::AES_GCM_128,
            Self::AesGmac(AesKeySize::Aes192) => AuthenticationAlgorithms::AES_GCM_192,
            Self::AesGmac(AesKeySize::Aes256) => AuthenticationAlgorithms::AES_GCM_256,
            Self::HmacSha384 => AuthenticationAlgorithms::EXT_SHA_384,
            Self::HmacSha512 => AuthenticationAlgorithms::EXT_SHA_512,
        }
    }

    /// All algorithms.
    pub const ALL: [Self; 8] = [
        Self::HmacMd5,
        Self::HmacSha1,
        Self::HmacSha256,
        Self::AesGmac(AesKeySize::Aes128),
        Self::AesGmac(AesKeySize::Aes192),
        Self::AesGmac(AesKeySize::Aes256),
        Self::HmacSha384,
        Self::HmacSha512,
    ];

    /// The algorithm of a single bit; `None` for no, several or unknown bits.
    pub fn from_bit(bits: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.bit().bits() == bits)
    }
}

impl UdpEspType {
    /// The type's bit.
    pub const fn bit(self) -> UdpEspTypes {
        match self {
            Self::Transport => UdpEspTypes::TRANSPORT,
            Self::Tunnel => UdpEspTypes::TUNNEL,
            Self::TransportOverUdpTunnel => UdpEspTypes::TRANSPORT_OVER_UDP_TUNNEL,
            Self::UdpTransportOverTunnel => UdpEspTypes::UDP_TRANSPORT_OVER_TUNNEL,
        }
    }
}

/// IPsecOV2 capabilities (`NDIS_IPSEC_OFFLOAD_V2`, OV2-CAP-2). The default is "not supported": all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IpsecOffloadV2 {
    /// Encapsulations; empty = IPsecOV2 is not supported.
    pub encapsulation: Encapsulation,
    /// IPv6 packets.
    pub ipv6_supported: bool,
    /// IPv4 packets with options.
    pub ipv4_options: bool,
    /// IPv6 packets with extension headers other than AH and ESP.
    pub ipv6_non_ipsec_extension_headers: bool,
    /// AH.
    pub ah: bool,
    /// ESP.
    pub esp: bool,
    /// AH over ESP in one packet.
    pub ah_esp_combined: bool,
    /// Transport mode.
    pub transport: bool,
    /// Tunnel mode.
    pub tunnel: bool,
    /// Transport mode over tunnel mode in one packet.
    pub transport_tunnel_combined: bool,
    /// Large sends of protected packets, within the limits of LSO (OV2-CAP-13).
    pub lso_supported: bool,
    /// Extended (64-bit) sequence numbers.
    pub extended_sequence_numbers: bool,
    /// UDP-ESP encapsulation types.
    pub udp_esp: UdpEspTypes,
    /// Authentication algorithms.
    pub authentication_algorithms: AuthenticationAlgorithms,
    /// Encryption algorithms.
    pub encryption_algorithms: EncryptionAlgorithms,
    /// How many SA bundles the NIC holds.
    pub sa_offload_capacity: u32,
    /// Extension: lengths of the ICV that the NIC does *not* take, although it has the algorithm. The ABI has no member for it, and says that it takes all.
    pub ext_refused_icv_lengths: IcvLengths,
    /// Extension: large sends under tunnel bundles, too, although the classical rule is that nobody asks for them (OV2-SEND-4).
    pub ext_lso_tunnel: bool,
}

/// Capabilities of one protocol of IPsecOV1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ipv4Ah {
    /// HMAC-MD5-96.
    pub md5: bool,
    /// HMAC-SHA1-96.
    pub sha_1: bool,
    /// Transport mode.
    pub transport: bool,
    /// Tunnel mode.
    pub tunnel: bool,
    /// Packets that are sent.
    pub send: bool,
    /// Packets that are received.
    pub receive: bool,
}

/// Capabilities of ESP in IPsecOV1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ipv4Esp {
    /// DES-CBC.
    pub des: bool,
    /// 3DES-CBC.
    pub triple_des: bool,
    /// Null encryption.
    pub null_esp: bool,
    /// Transport mode.
    pub transport: bool,
    /// Tunnel mode.
    pub tunnel: bool,
    /// Packets that are sent.
    pub send: bool,
    /// Packets that are received.
    pub receive: bool,
}

/// IPsecOV1 capabilities (`NDIS_IPSEC_OFFLOAD_V1`, OV1-1). The default is "not supported".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IpsecOffloadV1 {
    /// Encapsulations; empty = IPsecOV1 is not supported.
    pub encapsulation: Encapsulation,
    /// AH over ESP in one packet.
    pub ah_esp_combined: bool,
    /// Transport mode over tunnel mode in one packet.
    pub transport_tunnel_combined: bool,
    /// Packets with IPv4 options.
    pub ipv4_options: bool,
    /// UDP-ESP parser flags, as in the ABI.
    pub flags: u32,
    /// AH.
    pub ipv4_ah: Ipv4Ah,
    /// ESP.
    pub ipv4_esp: Ipv4Esp,
    /// Extension: how many SA bundles the NIC holds; 0 = it does not tell. The ABI has no member for it: the transport asks until it hears
    /// [`Status::RESOURCES`](crate::Status::RESOURCES).
    pub ext_sa_capacity: u32,
}

/// Checksum work on one family of packets in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChecksumSet {
    /// Encapsulations; empty = none of the work below.
    pub encapsulation: Encapsulation,
    /// Packets with IPv4 options, or IPv6 extension headers.
    pub ip_options_supported: bool,
    /// Segments with TCP options.
    pub tcp_options_supported: bool,
    /// TCP checksums.
    pub tcp_checksum: bool,
    /// UDP checksums.
    pub udp_checksum: bool,
    /// IPv4 header checksums (never for IPv6).
    pub ip_checksum: bool,
}

/// Checksum capabilities (`NDIS_TCP_IP_CHECKSUM_OFFLOAD`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChecksumOffload {
    /// IPv4 packets that are sent.
    pub ipv4_transmit: ChecksumSet,
    /// IPv4 packets that are received.
    pub ipv4_receive: ChecksumSet,
    /// IPv6 packets that are sent.
    pub ipv6_transmit: ChecksumSet,
    /// IPv6 packets that are received.
    pub ipv6_receive: ChecksumSet,
}

/// Large send, version 1 or 2, for one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LargeSendSet {
    /// Encapsulations; empty = not supported.
    pub encapsulation: Encapsulation,
    /// Most payload bytes in one large send.
    pub max_offload_size: u32,
    /// Fewest segments that make one.
    pub min_segment_count: u32,
    /// Segments with TCP options (v1 over IPv4; v2 over IPv6).
    pub tcp_options: bool,
    /// Packets with IPv4 options (v1), or IPv6 extension headers (v2 over IPv6).
    pub ip_options: bool,
    /// Extension of version 2: UDP segmentation, within the same limits.
    pub ext_udp: bool,
}

/// Large send version 2 (`NDIS_TCP_LARGE_SEND_OFFLOAD_V2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LargeSendV2 {
    /// IPv4.
    pub ipv4: LargeSendSet,
    /// IPv6.
    pub ipv6: LargeSendSet,
}

/// A whole capability set of an adapter (`NDIS_OFFLOAD`): hardware capabilities, default or current configuration. The default offloads nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offload {
    /// Checksums.
    pub checksum: ChecksumOffload,
    /// Large send version 1 (IPv4 only).
    pub lso_v1: LargeSendSet,
    /// Large send version 2.
    pub lso_v2: LargeSendV2,
    /// IPsecOV1.
    pub ipsec_v1: IpsecOffloadV1,
    /// IPsecOV2.
    pub ipsec_v2: IpsecOffloadV2,
    /// Flags of the whole set.
    pub flags: OffloadFlags,
}
