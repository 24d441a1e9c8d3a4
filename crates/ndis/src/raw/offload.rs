//! `NDIS_OFFLOAD`: capability sets in adapter attributes, bind and attach parameters, answers and status indications (OV2-CAP-2, OV2-CAP-7).
//!
//! The structure grows by revision. What the typed set does not hold (RSC, encapsulated packets, 464XLAT, UDP segmentation) is written as zero and not
//! read. Bits that are not defined are not read either: what cannot be understood cannot be used.

use core::mem::offset_of;

use bitflags::Flags;
use ndis_abi::layout::BitField;
use ndis_abi::{
    NDIS_IPSEC_OFFLOAD_V1, NDIS_IPSEC_OFFLOAD_V1_IPv4AH, NDIS_IPSEC_OFFLOAD_V1_IPv4ESP, NDIS_IPSEC_OFFLOAD_V2, NDIS_OBJECT_TYPE_OFFLOAD, NDIS_OFFLOAD,
    NDIS_OFFLOAD_SUPPORTED, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3,
    NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_5, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6, NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_7,
    NDIS_TCP_IP_CHECKSUM_OFFLOAD, NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4, NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_Bits, NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6,
    NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_Bits, NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4, NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_Bits, NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4,
    NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6, NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_Bits,
};

use super::RawError;
use super::wire::{Header, Reading, Wire, Writing, put};
use crate::offload::{AuthenticationAlgorithms, ChecksumSet, EncryptionAlgorithms, IpsecOffloadV1, IpsecOffloadV2, LargeSendSet, Offload};
use crate::version::NdisVersion;

/// Bits from here on are this product's own and have no place in the ABI.
const EXTENSIONS: u32 = 0xffff_0000;

const HEADER: Header = Header {
    kind: NDIS_OBJECT_TYPE_OFFLOAD,
    sizes: &[
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1,
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2,
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3,
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4,
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_5,
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_6,
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_7,
    ],
    alternative: None,
};

/// The revision of the structure in an NDIS version.
pub const fn revision(version: NdisVersion) -> u8 {
    match (version.major, version.minor) {
        (..6, _) | (6, 0) => 1,
        (6, 1..30) => 2,
        (6, 30..50) => 3,
        (6, 50..70) => 4,
        (6, 70..83) => 5,
        (6, 83..85) => 6,
        _ => 7,
    }
}

/// The structure's length in bytes in an NDIS version.
pub const fn size(version: NdisVersion) -> usize {
    HEADER.size(revision(version))
}

/// The bytes of a capability set as a driver of that NDIS version lays them out. Members that the version's revision does not have, and vendor
/// extensions, are left out.
pub fn encode(offload: &Offload, version: NdisVersion) -> Vec<u8> {
    let mut bytes = vec![0; NDIS_OFFLOAD::SIZEOF];
    let mut offload = *offload;
    // Writing finds no fault: only what is read can be out of range.
    let written = members(&mut Writing(&mut bytes), &mut offload);
    debug_assert_eq!(written, Ok(()));
    HEADER.write(&mut bytes, revision(version));
    bytes.truncate(size(version));
    bytes
}

/// Writes the bytes of a capability set as the answer to a query; returns their number.
///
/// # Errors
/// [`RawError::NoRoom`] with the length that is needed (OV2-CAP-7).
pub fn answer(offload: &Offload, version: NdisVersion, buffer: &mut [u8]) -> Result<usize, RawError> {
    put(&encode(offload, version), buffer)
}

/// Reads a capability set of any revision; bytes after it are not looked at.
///
/// # Errors
/// [`RawError`] if the buffer is short, the header is not that of the structure, or a field is out of range.
pub fn decode(buffer: &[u8]) -> Result<Offload, RawError> {
    let mut structure = [0; NDIS_OFFLOAD::SIZEOF];
    HEADER.read_growing(buffer, &mut structure)?;
    let mut offload = Offload::default();
    members(&mut Reading(&structure), &mut offload)?;
    Ok(offload)
}

fn members(wire: &mut impl Wire, offload: &mut Offload) -> Result<(), RawError> {
    let checksum = offset_of!(NDIS_OFFLOAD, Checksum);
    checksum_ipv4(wire, checksum + offset_of!(NDIS_TCP_IP_CHECKSUM_OFFLOAD, IPv4Transmit), &mut offload.checksum.ipv4_transmit)?;
    checksum_ipv4(wire, checksum + offset_of!(NDIS_TCP_IP_CHECKSUM_OFFLOAD, IPv4Receive), &mut offload.checksum.ipv4_receive)?;
    checksum_ipv6(wire, checksum + offset_of!(NDIS_TCP_IP_CHECKSUM_OFFLOAD, IPv6Transmit), &mut offload.checksum.ipv6_transmit)?;
    checksum_ipv6(wire, checksum + offset_of!(NDIS_TCP_IP_CHECKSUM_OFFLOAD, IPv6Receive), &mut offload.checksum.ipv6_receive)?;
    lso_v1(wire, offset_of!(NDIS_OFFLOAD, LsoV1.IPv4), &mut offload.lso_v1)?;
    ipsec_v1(wire, offset_of!(NDIS_OFFLOAD, IPsecV1), &mut offload.ipsec_v1)?;
    lso_v2_ipv4(wire, offset_of!(NDIS_OFFLOAD, LsoV2.IPv4), &mut offload.lso_v2.ipv4);
    lso_v2_ipv6(wire, offset_of!(NDIS_OFFLOAD, LsoV2.IPv6), &mut offload.lso_v2.ipv6)?;
    mask(wire, offset_of!(NDIS_OFFLOAD, Flags), &mut offload.flags, u32::MAX);
    ipsec_v2(wire, offset_of!(NDIS_OFFLOAD, IPsecV2), &mut offload.ipsec_v2);
    Ok(())
}

fn checksum_ipv4(wire: &mut impl Wire, base: usize, set: &mut ChecksumSet) -> Result<(), RawError> {
    type Bits = NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4_Bits;
    mask(wire, base + offset_of!(NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4, Encapsulation), &mut set.encapsulation, u32::MAX);
    supported(
        wire,
        base + offset_of!(NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv4, Bits),
        &mut [
            (Bits::IpOptionsSupported, "IpOptionsSupported", &mut set.ip_options_supported),
            (Bits::TcpOptionsSupported, "TcpOptionsSupported", &mut set.tcp_options_supported),
            (Bits::TcpChecksum, "TcpChecksum", &mut set.tcp_checksum),
            (Bits::UdpChecksum, "UdpChecksum", &mut set.udp_checksum),
            (Bits::IpChecksum, "IpChecksum", &mut set.ip_checksum),
        ],
    )
}

fn checksum_ipv6(wire: &mut impl Wire, base: usize, set: &mut ChecksumSet) -> Result<(), RawError> {
    type Bits = NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6_Bits;
    mask(wire, base + offset_of!(NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6, Encapsulation), &mut set.encapsulation, u32::MAX);
    supported(
        wire,
        base + offset_of!(NDIS_TCP_IP_CHECKSUM_OFFLOAD_IPv6, Bits),
        &mut [
            (Bits::IpExtensionHeadersSupported, "IpExtensionHeadersSupported", &mut set.ip_options_supported),
            (Bits::TcpOptionsSupported, "TcpOptionsSupported", &mut set.tcp_options_supported),
            (Bits::TcpChecksum, "TcpChecksum", &mut set.tcp_checksum),
            (Bits::UdpChecksum, "UdpChecksum", &mut set.udp_checksum),
        ],
    )
}

fn lso_v1(wire: &mut impl Wire, base: usize, set: &mut LargeSendSet) -> Result<(), RawError> {
    type Layout = NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4;
    type Bits = NDIS_TCP_LARGE_SEND_OFFLOAD_V1_IPv4_Bits;
    mask(wire, base + offset_of!(Layout, Encapsulation), &mut set.encapsulation, u32::MAX);
    wire.u32(base + offset_of!(Layout, MaxOffLoadSize), &mut set.max_offload_size);
    wire.u32(base + offset_of!(Layout, MinSegmentCount), &mut set.min_segment_count);
    supported(
        wire,
        base + offset_of!(Layout, Bits),
        &mut [(Bits::TcpOptions, "TcpOptions", &mut set.tcp_options), (Bits::IpOptions, "IpOptions", &mut set.ip_options)],
    )
}

fn lso_v2_ipv4(wire: &mut impl Wire, base: usize, set: &mut LargeSendSet) {
    type Layout = NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv4;
    mask(wire, base + offset_of!(Layout, Encapsulation), &mut set.encapsulation, u32::MAX);
    wire.u32(base + offset_of!(Layout, MaxOffLoadSize), &mut set.max_offload_size);
    wire.u32(base + offset_of!(Layout, MinSegmentCount), &mut set.min_segment_count);
}

fn lso_v2_ipv6(wire: &mut impl Wire, base: usize, set: &mut LargeSendSet) -> Result<(), RawError> {
    type Layout = NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6;
    type Bits = NDIS_TCP_LARGE_SEND_OFFLOAD_V2_IPv6_Bits;
    mask(wire, base + offset_of!(Layout, Encapsulation), &mut set.encapsulation, u32::MAX);
    wire.u32(base + offset_of!(Layout, MaxOffLoadSize), &mut set.max_offload_size);
    wire.u32(base + offset_of!(Layout, MinSegmentCount), &mut set.min_segment_count);
    supported(
        wire,
        base + offset_of!(Layout, Bits),
        &mut [
            (Bits::IpExtensionHeadersSupported, "IpExtensionHeadersSupported", &mut set.ip_options),
            (Bits::TcpOptionsSupported, "TcpOptionsSupported", &mut set.tcp_options),
        ],
    )
}

fn ipsec_v1(wire: &mut impl Wire, base: usize, set: &mut IpsecOffloadV1) -> Result<(), RawError> {
    type Layout = NDIS_IPSEC_OFFLOAD_V1;
    type Ah = NDIS_IPSEC_OFFLOAD_V1_IPv4AH;
    type Esp = NDIS_IPSEC_OFFLOAD_V1_IPv4ESP;
    mask(wire, base + offset_of!(Layout, Supported.Encapsulation), &mut set.encapsulation, u32::MAX);
    supported_word(wire, base + offset_of!(Layout, Supported.AhEspCombined), "AhEspCombined", &mut set.ah_esp_combined)?;
    supported_word(wire, base + offset_of!(Layout, Supported.TransportTunnelCombined), "TransportTunnelCombined", &mut set.transport_tunnel_combined)?;
    supported_word(wire, base + offset_of!(Layout, Supported.IPv4Options), "IPv4Options", &mut set.ipv4_options)?;
    wire.u32(base + offset_of!(Layout, Supported.Flags), &mut set.flags);
    supported(
        wire,
        base + offset_of!(Layout, IPv4AH),
        &mut [
            (Ah::Md5, "Md5", &mut set.ipv4_ah.md5),
            (Ah::Sha_1, "Sha_1", &mut set.ipv4_ah.sha_1),
            (Ah::Transport, "Transport", &mut set.ipv4_ah.transport),
            (Ah::Tunnel, "Tunnel", &mut set.ipv4_ah.tunnel),
            (Ah::Send, "Send", &mut set.ipv4_ah.send),
            (Ah::Receive, "Receive", &mut set.ipv4_ah.receive),
        ],
    )?;
    supported(
        wire,
        base + offset_of!(Layout, IPv4ESP),
        &mut [
            (Esp::Des, "Des", &mut set.ipv4_esp.des),
            (Esp::TripleDes, "TripleDes", &mut set.ipv4_esp.triple_des),
            (Esp::NullEsp, "NullEsp", &mut set.ipv4_esp.null_esp),
            (Esp::Transport, "Transport", &mut set.ipv4_esp.transport),
            (Esp::Tunnel, "Tunnel", &mut set.ipv4_esp.tunnel),
            (Esp::Send, "Send", &mut set.ipv4_esp.send),
            (Esp::Receive, "Receive", &mut set.ipv4_esp.receive),
        ],
    )
}

fn ipsec_v2(wire: &mut impl Wire, base: usize, set: &mut IpsecOffloadV2) {
    type Layout = NDIS_IPSEC_OFFLOAD_V2;
    mask(wire, base + offset_of!(Layout, Encapsulation), &mut set.encapsulation, u32::MAX);
    for (at, value) in [
        (offset_of!(Layout, IPv6Supported), &mut set.ipv6_supported),
        (offset_of!(Layout, IPv4Options), &mut set.ipv4_options),
        (offset_of!(Layout, IPv6NonIPsecExtensionHeaders), &mut set.ipv6_non_ipsec_extension_headers),
        (offset_of!(Layout, Ah), &mut set.ah),
        (offset_of!(Layout, Esp), &mut set.esp),
        (offset_of!(Layout, AhEspCombined), &mut set.ah_esp_combined),
        (offset_of!(Layout, Transport), &mut set.transport),
        (offset_of!(Layout, Tunnel), &mut set.tunnel),
        (offset_of!(Layout, TransportTunnelCombined), &mut set.transport_tunnel_combined),
        (offset_of!(Layout, LsoSupported), &mut set.lso_supported),
        (offset_of!(Layout, ExtendedSequenceNumbers), &mut set.extended_sequence_numbers),
    ] {
        wire.boolean(base + at, value);
    }
    mask(wire, base + offset_of!(Layout, UdpEsp), &mut set.udp_esp, u32::MAX);
    mask::<AuthenticationAlgorithms>(wire, base + offset_of!(Layout, AuthenticationAlgorithms), &mut set.authentication_algorithms, !EXTENSIONS);
    mask::<EncryptionAlgorithms>(wire, base + offset_of!(Layout, EncryptionAlgorithms), &mut set.encryption_algorithms, !EXTENSIONS);
    wire.u32(base + offset_of!(Layout, SaOffloadCapacity), &mut set.sa_offload_capacity);
}

/// A mask of which only defined bits within `known` are written and read.
fn mask<F: Flags<Bits = u32> + Copy>(wire: &mut impl Wire, at: usize, flags: &mut F, known: u32) {
    let mut bits = flags.bits() & F::all().bits() & known;
    wire.u32(at, &mut bits);
    *flags = F::from_bits_truncate(bits & known);
}

/// A word of two-bit fields, each `NDIS_OFFLOAD_NOT_SUPPORTED` or `NDIS_OFFLOAD_SUPPORTED`.
fn supported<W>(wire: &mut impl Wire, at: usize, fields: &mut [(BitField<W>, &'static str, &mut bool)]) -> Result<(), RawError> {
    let mut word = fields.iter().fold(0, |word, (field, _, value)| word | ((u32::from(**value) * NDIS_OFFLOAD_SUPPORTED) << field.shift()));
    wire.u32(at, &mut word);
    for (field, name, value) in fields {
        **value = flag(name, at, (word >> field.shift()) & field.max())?;
    }
    Ok(())
}

/// A whole word that is `NDIS_OFFLOAD_NOT_SUPPORTED` or `NDIS_OFFLOAD_SUPPORTED`.
fn supported_word(wire: &mut impl Wire, at: usize, name: &'static str, value: &mut bool) -> Result<(), RawError> {
    let mut word = u32::from(*value) * NDIS_OFFLOAD_SUPPORTED;
    wire.u32(at, &mut word);
    *value = flag(name, at, word)?;
    Ok(())
}

fn flag(field: &'static str, offset: usize, found: u32) -> Result<bool, RawError> {
    match found {
        0 => Ok(false),
        NDIS_OFFLOAD_SUPPORTED => Ok(true),
        _ => Err(RawError::Field { field, offset, found: u64::from(found), allowed: "0 (not supported) or 1 (supported)" }),
    }
}
