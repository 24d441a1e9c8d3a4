//! `NDIS_OFFLOAD_PARAMETERS`: the buffer of `OID_TCP_OFFLOAD_PARAMETERS`, revisions 1 to 5 (OV2-CAP-8).

use core::mem::offset_of;

use ndis_abi::{
    NDIS_OBJECT_TYPE_DEFAULT, NDIS_OFFLOAD_PARAMETERS, NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE, NDIS_OFFLOAD_SET_OFF, NDIS_OFFLOAD_SET_ON,
    NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1, NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_2, NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3,
    NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_4, NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_5,
};

use super::RawError;
use super::wire::{Header, Reading, Wire, Writing};
use crate::keyword::{Keyword, KeywordKind, Switch};
use crate::parameters::OffloadParameters;
use crate::version::NdisVersion;

const HEADER: Header = Header {
    kind: NDIS_OBJECT_TYPE_DEFAULT,
    sizes: &[
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1,
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_2,
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_3,
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_4,
        NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_5,
    ],
    alternative: None,
};

/// Members that hold a keyword's number plus one, or 0 for "no change".
const MEMBERS: [(Keyword, &str, usize); 17] = [
    (Keyword::IpChecksumIpv4, "IPv4Checksum", offset_of!(NDIS_OFFLOAD_PARAMETERS, IPv4Checksum)),
    (Keyword::TcpChecksumIpv4, "TCPIPv4Checksum", offset_of!(NDIS_OFFLOAD_PARAMETERS, TCPIPv4Checksum)),
    (Keyword::UdpChecksumIpv4, "UDPIPv4Checksum", offset_of!(NDIS_OFFLOAD_PARAMETERS, UDPIPv4Checksum)),
    (Keyword::TcpChecksumIpv6, "TCPIPv6Checksum", offset_of!(NDIS_OFFLOAD_PARAMETERS, TCPIPv6Checksum)),
    (Keyword::UdpChecksumIpv6, "UDPIPv6Checksum", offset_of!(NDIS_OFFLOAD_PARAMETERS, UDPIPv6Checksum)),
    (Keyword::LsoV1Ipv4, "LsoV1", offset_of!(NDIS_OFFLOAD_PARAMETERS, LsoV1)),
    (Keyword::IpsecV1Ipv4, "IPsecV1", offset_of!(NDIS_OFFLOAD_PARAMETERS, IPsecV1)),
    (Keyword::LsoV2Ipv4, "LsoV2IPv4", offset_of!(NDIS_OFFLOAD_PARAMETERS, LsoV2IPv4)),
    (Keyword::LsoV2Ipv6, "LsoV2IPv6", offset_of!(NDIS_OFFLOAD_PARAMETERS, LsoV2IPv6)),
    (Keyword::TcpConnectionIpv4, "TcpConnectionIPv4", offset_of!(NDIS_OFFLOAD_PARAMETERS, TcpConnectionIPv4)),
    (Keyword::TcpConnectionIpv6, "TcpConnectionIPv6", offset_of!(NDIS_OFFLOAD_PARAMETERS, TcpConnectionIPv6)),
    (Keyword::IpsecV2, "IPsecV2", offset_of!(NDIS_OFFLOAD_PARAMETERS, IPsecV2)),
    (Keyword::IpsecV2Ipv4, "IPsecV2IPv4", offset_of!(NDIS_OFFLOAD_PARAMETERS, IPsecV2IPv4)),
    (Keyword::RscIpv4, "RscIPv4", offset_of!(NDIS_OFFLOAD_PARAMETERS, RscIPv4)),
    (Keyword::RscIpv6, "RscIPv6", offset_of!(NDIS_OFFLOAD_PARAMETERS, RscIPv6)),
    (Keyword::UsoIpv4, "UdpSegmentation.IPv4", offset_of!(NDIS_OFFLOAD_PARAMETERS, UdpSegmentation.IPv4)),
    (Keyword::UsoIpv6, "UdpSegmentation.IPv6", offset_of!(NDIS_OFFLOAD_PARAMETERS, UdpSegmentation.IPv6)),
];

const FLAGS: usize = offset_of!(NDIS_OFFLOAD_PARAMETERS, Flags);
const TASK_OFFLOAD: usize = offset_of!(NDIS_OFFLOAD_PARAMETERS, EncapsulatedPacketTaskOffload);
const TYPES: usize = offset_of!(NDIS_OFFLOAD_PARAMETERS, EncapsulationTypes);
/// `VxlanParameters.VxlanUDPPortNumber` is the first member of the union.
const VXLAN_PORT: usize = offset_of!(NDIS_OFFLOAD_PARAMETERS, EncapsulationProtocolParameters);
const KNOWN_TYPES: u8 = ndis_abi::NDIS_ENCAPSULATION_TYPE_GRE_MAC | ndis_abi::NDIS_ENCAPSULATION_TYPE_VXLAN;

/// The revision of the structure in an NDIS version.
pub const fn revision(version: NdisVersion) -> u8 {
    match (version.major, version.minor) {
        (..6, _) | (6, 0) => 1,
        (6, 1..30) => 2,
        (6, 30..50) => 3,
        (6, 50..83) => 4,
        _ => 5,
    }
}

/// The bytes of a request to a driver of that NDIS version.
///
/// # Errors
/// [`RawError::NotRepresentable`] if something is to be changed that the version's revision has no member for.
pub fn encode(parameters: &OffloadParameters, version: NdisVersion) -> Result<Vec<u8>, RawError> {
    let mut bytes = vec![0; NDIS_OFFLOAD_PARAMETERS::SIZEOF];
    let mut wire = Writing(&mut bytes);
    for (keyword, _, at) in MEMBERS {
        let mut value = parameters.get(keyword).map_or(0, |value| value as u8 + 1);
        wire.u8(at, &mut value);
    }
    wire.u32(FLAGS, &mut if parameters.skip_registry_update { NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE } else { 0 });
    let mut task_offload = match parameters.encapsulated_packet_task_offload {
        None => 0,
        Some(Switch::Enabled) => NDIS_OFFLOAD_SET_ON as u8,
        Some(Switch::Disabled) => NDIS_OFFLOAD_SET_OFF as u8,
    };
    wire.u8(TASK_OFFLOAD, &mut task_offload);
    wire.u8(TYPES, &mut (parameters.encapsulation_types & KNOWN_TYPES));
    wire.u16(VXLAN_PORT, &mut parameters.vxlan_udp_port.to_owned());
    let revision = revision(version);
    let (kept, lost) = bytes.split_at(HEADER.size(revision));
    if lost.iter().any(|&byte| byte != 0) {
        return Err(RawError::NotRepresentable { what: "a setting that is newer than the revision", structure: "NDIS_OFFLOAD_PARAMETERS" });
    }
    let mut bytes = kept.to_vec();
    HEADER.write(&mut bytes, revision);
    Ok(bytes)
}

/// Reads a request of any revision; bytes after it are not looked at.
///
/// # Errors
/// [`RawError`] if the buffer is short, the header is not that of the structure, or a member is none of its values.
pub fn decode(buffer: &[u8]) -> Result<OffloadParameters, RawError> {
    let mut structure = [0; NDIS_OFFLOAD_PARAMETERS::SIZEOF];
    HEADER.read_growing(buffer, &mut structure)?;
    let mut wire = Reading(&structure);
    let mut parameters = OffloadParameters::default();
    for (keyword, field, at) in MEMBERS {
        let mut value = 0;
        wire.u8(at, &mut value);
        let setting = u32::from(value).checked_sub(1);
        if !parameters.set(keyword, setting) {
            let allowed = match keyword.kind() {
                KeywordKind::Switch => "0 (no change), 1 (disabled) or 2 (enabled)",
                KeywordKind::Ipsec => "0 (no change), 1 (disabled), 2 (AH), 3 (ESP) or 4 (AH and ESP)",
                KeywordKind::TxRx => "0 (no change), 1 (disabled), 2 (transmit), 3 (receive) or 4 (transmit and receive)",
            };
            return Err(RawError::Field { field, offset: at, found: u64::from(value), allowed });
        }
    }
    let mut flags = 0;
    wire.u32(FLAGS, &mut flags);
    if flags & !NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE != 0 {
        return Err(RawError::Field { field: "Flags", offset: FLAGS, found: u64::from(flags), allowed: "0 or 1 (skip registry update)" });
    }
    parameters.skip_registry_update = flags != 0;
    let mut task_offload = 0;
    wire.u8(TASK_OFFLOAD, &mut task_offload);
    parameters.encapsulated_packet_task_offload = match u32::from(task_offload) {
        0 => None,
        NDIS_OFFLOAD_SET_ON => Some(Switch::Enabled),
        NDIS_OFFLOAD_SET_OFF => Some(Switch::Disabled),
        found => {
            let allowed = "0 (no change), 1 (on) or 2 (off)";
            return Err(RawError::Field { field: "EncapsulatedPacketTaskOffload", offset: TASK_OFFLOAD, found: u64::from(found), allowed });
        }
    };
    wire.u8(TYPES, &mut parameters.encapsulation_types);
    if parameters.encapsulation_types & !KNOWN_TYPES != 0 {
        let found = u64::from(parameters.encapsulation_types);
        return Err(RawError::Field { field: "EncapsulationTypes", offset: TYPES, found, allowed: "0 to 3 (1 NVGRE, 2 VXLAN)" });
    }
    wire.u16(VXLAN_PORT, &mut parameters.vxlan_udp_port);
    Ok(parameters)
}
