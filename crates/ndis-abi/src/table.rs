//! Everything that this crate declares, as lists: for tests, for dumps, for names in traces.

use crate::layout::{Constant, SizeConstant, StructLayout};
use crate::{base, bind, checksum, ipsec_v1, ipsec_v2, lso, nbl, offload, oid, status};

/// An enumeration with its enumerators.
#[derive(Clone, Copy, Debug)]
pub struct Enumeration {
    /// Microsoft's name.
    pub name: &'static str,
    /// The enumerators.
    pub enumerators: &'static [Constant],
}

macro_rules! layouts {
    ($($module:ident::$name:ident,)+) => { &[$($module::$name::LAYOUT,)+] };
}

/// The structures that Microsoft names. (Structures that exist for an anonymous part of another are within it.)
pub const STRUCTURES: &[StructLayout] = layouts![
    base::NDIS_OBJECT_HEADER,
    ipsec_v2::IPSEC_OFFLOAD_V2_ALGORITHM_INFO,
    ipsec_v2::IPSEC_OFFLOAD_V2_SECURITY_ASSOCIATION,
    ipsec_v2::IPSEC_OFFLOAD_V2_ADD_SA,
    ipsec_v2::IPSEC_OFFLOAD_V2_ADD_SA_EX,
    ipsec_v2::IPSEC_OFFLOAD_V2_UPDATE_SA,
    ipsec_v2::IPSEC_OFFLOAD_V2_DELETE_SA,
    ipsec_v2::NDIS_IPSEC_OFFLOAD_V2,
    ipsec_v2::NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO,
    ipsec_v2::NDIS_IPSEC_OFFLOAD_V2_TUNNEL_NET_BUFFER_LIST_INFO,
    ipsec_v2::NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO,
    ipsec_v1::OFFLOAD_ALGO_INFO,
    ipsec_v1::OFFLOAD_SECURITY_ASSOCIATION,
    ipsec_v1::OFFLOAD_IPSEC_ADD_SA,
    ipsec_v1::OFFLOAD_IPSEC_DELETE_SA,
    ipsec_v1::OFFLOAD_IPSEC_UDPESP_ENCAPTYPE_ENTRY,
    ipsec_v1::OFFLOAD_IPSEC_ADD_UDPESP_SA,
    ipsec_v1::OFFLOAD_IPSEC_DELETE_UDPESP_SA,
    ipsec_v1::NDIS_IPSEC_OFFLOAD_V1,
    ipsec_v1::NDIS_IPSEC_OFFLOAD_V1_NET_BUFFER_LIST_INFO,
    ipsec_v1::NDIS_IPSEC_PACKET_INFO,
    lso::NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO,
    lso::NDIS_TCP_LARGE_SEND_OFFLOAD_V1,
    lso::NDIS_TCP_LARGE_SEND_OFFLOAD_V2,
    lso::NDIS_UDP_SEGMENTATION_OFFLOAD_NET_BUFFER_LIST_INFO,
    lso::NDIS_UDP_SEGMENTATION_OFFLOAD,
    lso::NDIS_TCP_SEND_OFFLOADS_SUPPLEMENTAL_NET_BUFFER_LIST_INFO,
    checksum::NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO,
    checksum::NDIS_TCP_IP_CHECKSUM_OFFLOAD,
    offload::NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD,
    offload::NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD,
    offload::NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2,
    offload::ENCAPSULATION_PROTOCOL_INFO,
    offload::NDIS_RFC6877_464XLAT_OFFLOAD,
    offload::NDIS_OFFLOAD,
    offload::NDIS_OFFLOAD_PARAMETERS,
    offload::ENCAPSULATION_PROTOCOL_PARAMETERS,
    offload::NDIS_OFFLOAD_ENCAPSULATION,
    offload::NDIS_TCP_CONNECTION_OFFLOAD,
    oid::NDIS_OID_REQUEST,
    oid::REQUEST_DATA,
    oid::QUERY,
    oid::SET,
    oid::METHOD,
    status::NDIS_STATUS_INDICATION,
    bind::NDIS_BIND_PARAMETERS,
    bind::NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES,
    nbl::NET_BUFFER,
    nbl::NET_BUFFER_SHARED_MEMORY,
    nbl::NET_BUFFER_LIST,
    nbl::NET_BUFFER_LIST_CONTEXT,
    nbl::NDIS_NET_BUFFER_LIST_8021Q_INFO,
];

/// The constants, group by group. Enumerators, slots and sizes have lists of their own.
pub const CONSTANTS: &[&[Constant]] = &[
    base::OBJECT_TYPES,
    ipsec_v2::IPSEC_V2_AUTHENTICATION_ALGORITHMS,
    ipsec_v2::IPSEC_V2_ENCRYPTION_ALGORITHMS,
    ipsec_v2::IPSEC_V2_UDP_ESP_ENCAPSULATIONS,
    ipsec_v2::IPSEC_V2_SA_FLAGS,
    ipsec_v2::CRYPTO_STATUSES,
    ipsec_v2::IPSEC_V2_REVISIONS,
    ipsec_v1::IPSEC_V1_SA_FLAGS,
    ipsec_v1::IPSEC_V1_LIMITS,
    ipsec_v1::IPSEC_V1_UDP_ESP_FLAGS,
    lso::SEGMENTATION_VALUES,
    offload::OFFLOAD_FLAGS,
    offload::OFFLOAD_VALUES,
    offload::MAC_ENCAPSULATIONS,
    offload::ENCAPSULATED_PACKET_OFFLOADS,
    offload::ENCAPSULATION_TYPES,
    offload::OFFLOAD_PARAMETER_VALUES,
    offload::OFFLOAD_PARAMETER_FLAGS,
    offload::OFFLOAD_REVISIONS,
    oid::OIDS,
    oid::OID_REQUEST_VALUES,
    oid::OID_REQUEST_REVISIONS,
    status::STATUSES,
    status::INDICATIONS,
    status::STATUS_INDICATION_FLAGS,
    status::STATUS_INDICATION_REVISIONS,
    bind::BIND_REVISIONS,
    nbl::NBL_FLAGS,
    nbl::TRANSFER_FLAGS,
];

macro_rules! enumerations {
    ($($module:ident::$name:ident,)+) => {
        &[$(Enumeration { name: stringify!($name), enumerators: $module::$name::ENUMERATORS },)+]
    };
}

/// The enumerations.
pub const ENUMERATIONS: &[Enumeration] = enumerations![
    ipsec_v2::IPSEC_OFFLOAD_V2_OPERATION,
    ipsec_v1::OFFLOAD_OPERATION_E,
    ipsec_v1::OFFLOAD_CONF_ALGO,
    ipsec_v1::OFFLOAD_INTEGRITY_ALGO,
    ipsec_v1::UDP_ENCAP_TYPE,
    offload::NDIS_RFC6877_464XLAT_OFFLOAD_OPTIONS,
    oid::NDIS_REQUEST_TYPE,
];

/// The `NDIS_SIZEOF_..._REVISION_n` constants, group by group.
pub const SIZES: &[&[SizeConstant]] =
    &[ipsec_v2::IPSEC_V2_SIZES, offload::OFFLOAD_SIZES, oid::OID_REQUEST_SIZES, status::STATUS_INDICATION_SIZES, bind::BIND_SIZES];
