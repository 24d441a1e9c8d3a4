//! Object identifiers and the request that carries them.

use crate::base::{
    NDIS_HANDLE, NDIS_NIC_SWITCH_ID, NDIS_NIC_SWITCH_VPORT_ID, NDIS_OBJECT_HEADER, NDIS_OID, NDIS_PORT_NUMBER, POINTER_SIZED_BYTES, PVOID, UCHAR, UINT, ULONG,
    USHORT,
};
use crate::layout::{both, constants, enumeration, layout, sizes};

constants! {
    /// OIDs of IPsec offload and of the offloads beside it.
    pub const OIDS: [NDIS_OID] = {
        /// Direct, set, NDIS 6.1 and 6.20. Buffer: `IPSEC_OFFLOAD_V2_ADD_SA`, linked. The miniport writes
        /// `OffloadHandle` of each element, null where it failed.
        OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA = 0xfc03_0202,
        /// Direct, set, NDIS 6.1 and later. Buffer: `IPSEC_OFFLOAD_V2_DELETE_SA`, linked.
        OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA = 0xfc03_0203,
        /// Direct, set, NDIS 6.1 and later. Buffer: `IPSEC_OFFLOAD_V2_UPDATE_SA`.
        OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA = 0xfc03_0204,
        /// Direct, set, NDIS 6.30 and later. Buffer: `IPSEC_OFFLOAD_V2_ADD_SA_EX` and the key area. The miniport
        /// writes `OffloadHandle`, null where it failed.
        OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX = 0xfc03_0205,
        /// Ordinary, set, version 1. Buffer: `OFFLOAD_IPSEC_ADD_SA`. The miniport writes `OffloadHandle`.
        OID_TCP_TASK_IPSEC_ADD_SA = 0xfc01_0202,
        /// Ordinary, set, version 1. Buffer: `OFFLOAD_IPSEC_DELETE_SA`.
        OID_TCP_TASK_IPSEC_DELETE_SA = 0xfc01_0203,
        /// Ordinary, set, version 1. Buffer: `OFFLOAD_IPSEC_ADD_UDPESP_SA`. The miniport writes both handles.
        OID_TCP_TASK_IPSEC_ADD_UDPESP_SA = 0xfc01_0205,
        /// Ordinary, set, version 1. Buffer: `OFFLOAD_IPSEC_DELETE_UDPESP_SA`.
        OID_TCP_TASK_IPSEC_DELETE_UDPESP_SA = 0xfc01_0206,
        /// Ordinary, query and set, NDIS 5.x. Buffer: a chain of NDIS 5 task offload structures.
        OID_TCP_TASK_OFFLOAD = 0xfc01_0201,
        /// Ordinary, query, NDIS 6.0 and later; NDIS answers. Buffer: `NDIS_OFFLOAD`.
        OID_TCP_OFFLOAD_CURRENT_CONFIG = 0xfc01_020b,
        /// Ordinary, set, NDIS 6.0 and later. Buffer: `NDIS_OFFLOAD_PARAMETERS`. Success is followed by
        /// `NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG`.
        OID_TCP_OFFLOAD_PARAMETERS = 0xfc01_020c,
        /// Ordinary, query, NDIS 6.0 and later; NDIS answers. Buffer: `NDIS_OFFLOAD`.
        OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES = 0xfc01_020d,
        /// Ordinary, set, and query (NDIS answers), NDIS 6.0 and later. Buffer: `NDIS_OFFLOAD_ENCAPSULATION`. Success of
        /// a set is followed by `NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG`.
        OID_OFFLOAD_ENCAPSULATION = 0x0101_010a,
        /// Neighbour: storage support in TCP.
        OID_TCP_SAN_SUPPORT = 0xfc01_0204,
        /// Neighbour: TCP connection offload, current configuration.
        OID_TCP_CONNECTION_OFFLOAD_CURRENT_CONFIG = 0xfc01_020e,
        /// Neighbour: TCP connection offload, hardware capabilities.
        OID_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES = 0xfc01_020f,
        /// Neighbour: TCP connection offload, settings.
        OID_TCP_CONNECTION_OFFLOAD_PARAMETERS = 0xfc03_0201,
        /// Neighbour: counters of receive segment coalescing.
        OID_TCP_RSC_STATISTICS = 0x0002_021d,
    }
}

enumeration! {
    /// What an OID request asks.
    pub enum NDIS_REQUEST_TYPE {
        /// Query.
        NdisRequestQueryInformation = 0,
        /// Set.
        NdisRequestSetInformation = 1,
        /// Query of statistics.
        NdisRequestQueryStatistics = 2,
        /// Legacy.
        NdisRequestOpen = 3,
        /// Legacy.
        NdisRequestClose = 4,
        /// Legacy.
        NdisRequestSend = 5,
        /// Legacy.
        NdisRequestTransferData = 6,
        /// Legacy.
        NdisRequestReset = 7,
        /// Legacy.
        NdisRequestGeneric1 = 8,
        /// Legacy.
        NdisRequestGeneric2 = 9,
        /// Legacy.
        NdisRequestGeneric3 = 10,
        /// Legacy.
        NdisRequestGeneric4 = 11,
        /// Method: input and output in one buffer.
        NdisRequestMethod = 12,
    }
}

layout! {
    /// Query form of [`REQUEST_DATA`].
    ///
    /// Part of the page NDIS_OID_REQUEST structure (ndis/oidrequest.h), NDIS 6.0 and later.
    pub struct QUERY = 32 align 8 / 20 align 4 {
        /// The object.
        Oid: NDIS_OID = 0,
        /// Where the answer goes.
        InformationBuffer: PVOID = 8 / 4,
        /// Bytes of the buffer.
        InformationBufferLength: UINT = 16 / 8,
        /// Output: bytes of the answer.
        BytesWritten: UINT = 20 / 12,
        /// Output: bytes that a sufficient buffer has.
        BytesNeeded: UINT = 24 / 16,
    }
}

layout! {
    /// Set form of [`REQUEST_DATA`].
    ///
    /// Part of the page NDIS_OID_REQUEST structure (ndis/oidrequest.h), NDIS 6.0 and later.
    pub struct SET = 32 align 8 / 20 align 4 {
        /// The object.
        Oid: NDIS_OID = 0,
        /// The new value.
        InformationBuffer: PVOID = 8 / 4,
        /// Bytes of the buffer.
        InformationBufferLength: UINT = 16 / 8,
        /// Output: bytes that were read.
        BytesRead: UINT = 20 / 12,
        /// Output: bytes that a sufficient buffer has.
        BytesNeeded: UINT = 24 / 16,
    }
}

layout! {
    /// Method form of [`REQUEST_DATA`].
    ///
    /// Part of the page NDIS_OID_REQUEST structure (ndis/oidrequest.h), NDIS 6.0 and later.
    pub struct METHOD = 40 align 8 / 32 align 4 {
        /// The object.
        Oid: NDIS_OID = 0,
        /// Input and output.
        InformationBuffer: PVOID = 8 / 4,
        /// Bytes of the input.
        InputBufferLength: ULONG = 16 / 8,
        /// Bytes of room for the output.
        OutputBufferLength: ULONG = 20 / 12,
        /// Number of the method.
        MethodId: ULONG = 24 / 16,
        /// Output: bytes of the answer.
        BytesWritten: UINT = 28 / 20,
        /// Output: bytes that were read.
        BytesRead: UINT = 32 / 24,
        /// Output: bytes that a sufficient buffer has.
        BytesNeeded: UINT = 36 / 28,
    }
}

layout! {
    /// The part of a request that depends on its type.
    ///
    /// Part of the page NDIS_OID_REQUEST structure (ndis/oidrequest.h), NDIS 6.0 and later.
    pub struct REQUEST_DATA = 40 align 8 / 32 align 4 {
        /// The widest form: of a method request.
        METHOD_INFORMATION: METHOD = 0,
    }
    or {
        /// the object, at the same place in each form.
        Oid: NDIS_OID = 0,
        /// of a query.
        QUERY_INFORMATION: QUERY = 0,
        /// of a set.
        SET_INFORMATION: SET = 0,
    }
}

layout! {
    /// An OID request, on the ordinary or the direct path.
    ///
    /// Page: NDIS_OID_REQUEST structure (ndis/oidrequest.h), NDIS 6.0 and later. This is the form of revision 2 (NDIS
    /// 6.50); revision 1 ends after `Reserved2`.
    pub struct NDIS_OID_REQUEST = 248 align 8 / 152 align 4 {
        /// Type OID request, revision 1 or 2.
        Header: NDIS_OBJECT_HEADER = 0,
        /// Query, set or method.
        RequestType: NDIS_REQUEST_TYPE = 4,
        /// Port that the request is for.
        PortNumber: NDIS_PORT_NUMBER = 8,
        /// Seconds until the request times out, or [`NDIS_OID_REQUEST_TIMEOUT_INFINITE`].
        Timeout: UINT = 12,
        /// Identifies the request for cancelling and in status indications.
        RequestId: PVOID = 16,
        /// Identifies who asked, in status indications.
        RequestHandle: NDIS_HANDLE = 24 / 20,
        /// Object and buffer.
        DATA: REQUEST_DATA = 32 / 24,
        /// NDIS's.
        NdisReserved: [POINTER_SIZED_BYTES; 16] = 72 / 56,
        /// The miniport's.
        MiniportReserved: [POINTER_SIZED_BYTES; 2] = 200 / 120,
        /// The issuer's.
        SourceReserved: [POINTER_SIZED_BYTES; 2] = 216 / 128,
        /// Output: highest revision of the buffer's structure that the miniport knows.
        SupportedRevision: UCHAR = 232 / 136,
        /// Reserved.
        Reserved1: UCHAR = 233 / 137,
        /// Reserved.
        Reserved2: USHORT = 234 / 138,
        /// NIC switch; from revision 2.
        SwitchId: NDIS_NIC_SWITCH_ID = 236 / 140,
        /// Virtual port; from revision 2.
        VPortId: NDIS_NIC_SWITCH_VPORT_ID = 240 / 144,
        /// [`NDIS_OID_REQUEST_FLAGS_VPORT_ID_VALID`] or 0; from revision 2.
        Flags: ULONG = 244 / 148,
    }
}

constants! {
    /// Values within an [`NDIS_OID_REQUEST`].
    pub const OID_REQUEST_VALUES: [ULONG] = {
        /// The request never times out.
        NDIS_OID_REQUEST_TIMEOUT_INFINITE = 0,
        /// Length of `NdisReserved` in pointers.
        NDIS_OID_REQUEST_NDIS_RESERVED_SIZE = 16,
        /// `VPortId` is valid.
        NDIS_OID_REQUEST_FLAGS_VPORT_ID_VALID = 0x1,
    }
}

constants! {
    /// Revisions of [`NDIS_OID_REQUEST`].
    pub const OID_REQUEST_REVISIONS: [UCHAR] = {
        /// NDIS 6.0.
        NDIS_OID_REQUEST_REVISION_1 = 1,
        /// NDIS 6.50.
        NDIS_OID_REQUEST_REVISION_2 = 2,
    }
}

sizes! {
    /// Sizes of [`NDIS_OID_REQUEST`] by revision.
    pub const OID_REQUEST_SIZES = {
        /// NDIS 6.0.
        NDIS_SIZEOF_OID_REQUEST_REVISION_1 = 236 / 140 through NDIS_OID_REQUEST.Reserved2,
        /// NDIS 6.50.
        NDIS_SIZEOF_OID_REQUEST_REVISION_2 = 248 / 152 through NDIS_OID_REQUEST.Flags,
    }
}
