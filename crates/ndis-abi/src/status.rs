//! Status codes, and the indications that travel up from a miniport.

use crate::base::{GUID, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_PORT_NUMBER, NDIS_STATUS, PVOID, UCHAR, ULONG};
use crate::layout::{both, constants, layout, sizes};

layout! {
    /// A status indication.
    ///
    /// Page: NDIS_STATUS_INDICATION structure (ndis.h), NDIS 6.0 and later.
    pub struct NDIS_STATUS_INDICATION = 112 align 8 / 68 align 4 {
        /// Type status indication, revision 1.
        Header: NDIS_OBJECT_HEADER = 0,
        /// Who indicates.
        SourceHandle: NDIS_HANDLE = 8 / 4,
        /// Port that the status is about.
        PortNumber: NDIS_PORT_NUMBER = 16 / 8,
        /// What happened.
        StatusCode: NDIS_STATUS = 20 / 12,
        /// `NDIS_STATUS_INDICATION_FLAGS_...` bits.
        Flags: ULONG = 24 / 16,
        /// Whom it is for; null is everyone.
        DestinationHandle: NDIS_HANDLE = 32 / 20,
        /// The OID request that it belongs to, or null.
        RequestId: PVOID = 40 / 24,
        /// What the status carries.
        StatusBuffer: PVOID = 48 / 28,
        /// Bytes of the buffer.
        StatusBufferSize: ULONG = 56 / 32,
        /// For statuses that are identified by GUID.
        Guid: GUID = 60 / 36,
        /// NDIS's.
        NdisReserved: [PVOID; 4] = 80 / 52,
    }
}

constants! {
    /// Codes that requests, sends and calls complete with.
    pub const STATUSES: [NDIS_STATUS] = {
        /// Done.
        NDIS_STATUS_SUCCESS = 0x0000_0000,
        /// Will be completed later.
        NDIS_STATUS_PENDING = 0x0000_0103,
        /// Not recognised.
        NDIS_STATUS_NOT_RECOGNIZED = 0x0001_0001,
        /// Not copied.
        NDIS_STATUS_NOT_COPIED = 0x0001_0002,
        /// Not accepted, as while a reset is under way.
        NDIS_STATUS_NOT_ACCEPTED = 0x0001_0003,
        /// A call is active.
        NDIS_STATUS_CALL_ACTIVE = 0x0001_0007,
        /// Done, and a status indication will follow.
        NDIS_STATUS_INDICATION_REQUIRED = 0x4023_0001,
        /// More data than the buffer holds.
        NDIS_STATUS_BUFFER_OVERFLOW = 0x8000_0005,
        /// Busy.
        NDIS_STATUS_BUSY = 0x8000_0011,
        /// The device cannot be reset.
        NDIS_STATUS_NOT_RESETTABLE = 0x8001_0001,
        /// Recovered errors.
        NDIS_STATUS_SOFT_ERRORS = 0x8001_0003,
        /// Unrecovered errors.
        NDIS_STATUS_HARD_ERRORS = 0x8001_0004,
        /// Failed, without a more telling code.
        NDIS_STATUS_FAILURE = 0xc000_0001,
        /// A parameter is invalid.
        NDIS_STATUS_INVALID_PARAMETER = 0xc000_000d,
        /// The device does not take such a request.
        NDIS_STATUS_INVALID_DEVICE_REQUEST = 0xc000_0010,
        /// No room.
        NDIS_STATUS_RESOURCES = 0xc000_009a,
        /// Not supported.
        NDIS_STATUS_NOT_SUPPORTED = 0xc000_00bb,
        /// The state does not allow it.
        NDIS_STATUS_INVALID_STATE = 0xc000_0184,
        /// The binding is closing.
        NDIS_STATUS_CLOSING = 0xc001_0002,
        /// Unknown version.
        NDIS_STATUS_BAD_VERSION = 0xc001_0004,
        /// Invalid driver characteristics.
        NDIS_STATUS_BAD_CHARACTERISTICS = 0xc001_0005,
        /// No such adapter.
        NDIS_STATUS_ADAPTER_NOT_FOUND = 0xc001_0006,
        /// Opening failed.
        NDIS_STATUS_OPEN_FAILED = 0xc001_0007,
        /// The device failed.
        NDIS_STATUS_DEVICE_FAILED = 0xc001_0008,
        /// Given up, by cancelling or by a reset.
        NDIS_STATUS_REQUEST_ABORTED = 0xc001_000c,
        /// A reset is under way.
        NDIS_STATUS_RESET_IN_PROGRESS = 0xc001_000d,
        /// The binding is closing and indicating.
        NDIS_STATUS_CLOSING_INDICATING = 0xc001_000e,
        /// The packet is invalid.
        NDIS_STATUS_INVALID_PACKET = 0xc001_000f,
        /// The adapter is not ready.
        NDIS_STATUS_ADAPTER_NOT_READY = 0xc001_0011,
        /// The adapter is not open.
        NDIS_STATUS_ADAPTER_NOT_OPEN = 0xc001_0012,
        /// The buffer's length does not fit.
        NDIS_STATUS_INVALID_LENGTH = 0xc001_0014,
        /// The buffer's content is invalid.
        NDIS_STATUS_INVALID_DATA = 0xc001_0015,
        /// The buffer is too short for the answer.
        NDIS_STATUS_BUFFER_TOO_SHORT = 0xc001_0016,
        /// No such object.
        NDIS_STATUS_INVALID_OID = 0xc001_0017,
        /// The adapter is gone.
        NDIS_STATUS_ADAPTER_REMOVED = 0xc001_0018,
        /// The medium is not supported.
        NDIS_STATUS_UNSUPPORTED_MEDIA = 0xc001_0019,
        /// No such file.
        NDIS_STATUS_FILE_NOT_FOUND = 0xc001_001b,
        /// The address is invalid.
        NDIS_STATUS_INVALID_ADDRESS = 0xc001_0022,
        /// The send was cancelled.
        NDIS_STATUS_SEND_ABORTED = 0xc023_000c,
        /// The medium is disconnected.
        NDIS_STATUS_MEDIA_DISCONNECTED = 0xc023_001f,
        /// The adapter is paused.
        NDIS_STATUS_PAUSED = 0xc023_002a,
        /// No such interface.
        NDIS_STATUS_INTERFACE_NOT_FOUND = 0xc023_002b,
        /// The structure's revision is not supported.
        NDIS_STATUS_UNSUPPORTED_REVISION = 0xc023_002c,
        /// No such port.
        NDIS_STATUS_INVALID_PORT = 0xc023_002d,
        /// The port's state does not allow it.
        NDIS_STATUS_INVALID_PORT_STATE = 0xc023_002e,
        /// The adapter is in a low power state.
        NDIS_STATUS_LOW_POWER_STATE = 0xc023_002f,
        /// The adapter has to be initialised again.
        NDIS_STATUS_REINIT_REQUIRED = 0xc023_0030,
    }
}

constants! {
    /// Values of [`NDIS_STATUS_INDICATION::StatusCode`].
    pub const INDICATIONS: [NDIS_STATUS] = {
        /// A reset begins.
        NDIS_STATUS_RESET_START = 0x4001_0004,
        /// A reset has ended.
        NDIS_STATUS_RESET_END = 0x4001_0005,
        /// The link's state has changed.
        NDIS_STATUS_LINK_STATE = 0x4001_0017,
        /// The network has changed.
        NDIS_STATUS_NETWORK_CHANGE = 0x4001_0018,
        /// A port's state has changed.
        NDIS_STATUS_PORT_STATE = 0x4001_0022,
        /// The operational state has changed.
        NDIS_STATUS_OPER_STATUS = 0x4001_0023,
        /// TCP connection offload pauses.
        NDIS_STATUS_OFFLOAD_PAUSE = 0x4002_0001,
        /// All offloaded TCP connections shall be taken back.
        NDIS_STATUS_UPLOAD_ALL = 0x4002_0002,
        /// TCP connection offload goes on.
        NDIS_STATUS_OFFLOAD_RESUME = 0x4002_0003,
        /// A TCP connection offload succeeded in part.
        NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS = 0x4002_0004,
        /// Offloaded TCP state is invalid.
        NDIS_STATUS_OFFLOAD_STATE_INVALID = 0x4002_0005,
        /// The current configuration has changed. Buffer: `NDIS_OFFLOAD`.
        NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG = 0x4002_0006,
        /// The hardware capabilities have changed. Buffer: `NDIS_OFFLOAD`.
        NDIS_STATUS_TASK_OFFLOAD_HARDWARE_CAPABILITIES = 0x4002_0007,
        /// The encapsulation has changed (the misspelling is Microsoft's). Buffer: `NDIS_OFFLOAD_ENCAPSULATION`.
        NDIS_STATUS_OFFLOAD_ENCASPULATION_CHANGE = 0x4002_0008,
        /// TCP connection offload capabilities have changed. Buffer: `NDIS_TCP_CONNECTION_OFFLOAD`.
        NDIS_STATUS_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES = 0x4002_000b,
    }
}

constants! {
    /// Bits of [`NDIS_STATUS_INDICATION::Flags`].
    pub const STATUS_INDICATION_FLAGS: [ULONG] = {
        /// NDIS's.
        NDIS_STATUS_INDICATION_FLAGS_NDIS_RESERVED = 0x0fff,
        /// The medium stays connected, only its properties change.
        NDIS_STATUS_INDICATION_FLAGS_MEDIA_CONNECT_TO_CONNECT = 0x1000,
    }
}

constants! {
    /// Revisions of [`NDIS_STATUS_INDICATION`].
    pub const STATUS_INDICATION_REVISIONS: [UCHAR] = {
        /// NDIS 6.0.
        NDIS_STATUS_INDICATION_REVISION_1 = 1,
    }
}

sizes! {
    /// Sizes of [`NDIS_STATUS_INDICATION`] by revision.
    pub const STATUS_INDICATION_SIZES = {
        /// NDIS 6.0.
        NDIS_SIZEOF_STATUS_INDICATION_REVISION_1 = 112 / 68 through NDIS_STATUS_INDICATION.NdisReserved,
    }
}
