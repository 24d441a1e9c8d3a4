//! Base types of the Windows driver ABI, and the header that opens every versioned NDIS structure.

use crate::layout::{AbiType, Both, Parts, both, constants, layout, whole};

/// Unsigned 8-bit integer.
pub type UCHAR = u8;
/// Truth value in one byte: 0 is false, anything else is true.
pub type BOOLEAN = u8;
/// Unsigned 16-bit integer.
pub type USHORT = u16;
/// Signed 16-bit integer.
pub type SHORT = i16;
/// Unsigned 32-bit integer (also on 64-bit Windows).
pub type ULONG = u32;
/// Unsigned 32-bit integer under its newer name.
pub type UINT32 = u32;
/// Unsigned 32-bit integer under its C name.
pub type UINT = u32;
/// Signed 32-bit integer (also on 64-bit Windows).
pub type LONG = i32;
/// Unsigned integer as wide as a pointer.
pub type SIZE_T = usize;

/// Status of an operation or kind of an indication; the values are in [`status`](crate::status).
pub type NDIS_STATUS = LONG;
/// Object identifier; the values are in [`oid`](crate::oid).
pub type NDIS_OID = ULONG;
/// Port of an adapter; 0 is the default port.
pub type NDIS_PORT_NUMBER = ULONG;
/// Switch of a NIC.
pub type NDIS_NIC_SWITCH_ID = ULONG;
/// Virtual port of a NIC switch.
pub type NDIS_NIC_SWITCH_VPORT_ID = ULONG;
/// Port of an extensible switch.
pub type NDIS_SWITCH_PORT_ID = ULONG;
/// Index of a network interface.
pub type NET_IFINDEX = ULONG;
/// Compartment of a network interface.
pub type NET_IF_COMPARTMENT_ID = ULONG;
/// IANA interface type.
pub type NET_IFTYPE = USHORT;

macro_rules! words {
    ($( $(#[$meta:meta])* pub struct $name:ident($word:ty) = $x64:literal $(/ $x86:literal)?; )+) => {
        $(
            $(#[$meta])*
            #[repr(transparent)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(pub $word);
            whole!($name, Self(0), $x64 $(/ $x86)?;);
        )+
    };
}

words! {
    /// A pointer, kept as a number: this crate neither follows nor makes pointers.
    ///
    /// Where a structure travels as bytes, its reader says what stands in place of an address (an offset, as a rule).
    pub struct PVOID(usize) = 8 / 4;
    /// Opaque handle of NDIS or of a driver; 0 is no handle.
    pub struct NDIS_HANDLE(usize) = 8 / 4;
    /// Opaque handle in the older structures; 0 is no handle.
    pub struct HANDLE(usize) = 8 / 4;
    /// IPv4 address. Its four bytes in memory are those of the packet, on every host.
    pub struct IPAddr(ULONG) = 4;
    /// IPv4 address mask, bytes in memory as in an address of the packet.
    pub struct IPMask(ULONG) = 4;
    /// Medium of an adapter (`NdisMedium802_3` is 0).
    pub struct NDIS_MEDIUM(u32) = 4;
    /// Physical medium of an adapter.
    pub struct NDIS_PHYSICAL_MEDIUM(u32) = 4;
    /// Whether the medium is connected.
    pub struct NDIS_MEDIA_CONNECT_STATE(u32) = 4;
    /// Whether the medium is half or full duplex.
    pub struct NDIS_MEDIA_DUPLEX_STATE(u32) = 4;
    /// Whether an interface is broadcast, point to point and so on.
    pub struct NET_IF_ACCESS_TYPE(u32) = 4;
    /// Whether an interface sends, receives or both.
    pub struct NET_IF_DIRECTION_TYPE(u32) = 4;
    /// Whether an interface is dedicated, passive or on demand.
    pub struct NET_IF_CONNECTION_TYPE(u32) = 4;
}

impl PVOID {
    /// The null pointer.
    pub const NULL: Self = Self(0);
}

impl NDIS_HANDLE {
    /// No handle.
    pub const NULL: Self = Self(0);
}

impl HANDLE {
    /// No handle.
    pub const NULL: Self = Self(0);
}

macro_rules! wide_words {
    ($( $(#[$meta:meta])* pub struct $name:ident($word:ty); )+) => {
        $(
            $(#[$meta])*
            #[repr(C, align(8))]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(pub $word);
            whole!($name, Self(0), 8;);
        )+
    };
}

// On 32-bit targets outside Windows a 64-bit integer may be aligned to 4 only; Windows aligns it to 8 everywhere.
wide_words! {
    /// Unsigned 64-bit integer, aligned to 8 bytes.
    pub struct ULONG64(u64);
    /// Signed 64-bit integer, aligned to 8 bytes.
    pub struct LARGE_INTEGER(i64);
    /// Locally unique identifier of a network interface, aligned to 8 bytes.
    pub struct NET_LUID(u64);
}

/// As many bytes as a pointer has, without its alignment.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct POINTER_SIZED_BYTES(pub [UCHAR; size_of::<usize>()]);

whole!(POINTER_SIZED_BYTES, Self([0; size_of::<usize>()]), 8 / 4;);

/// A member that is declared with `DECLSPEC_ALIGN(MEMORY_ALLOCATION_ALIGNMENT)`: 16 bytes on 64-bit, 8 on 32-bit Windows.
#[repr(C)]
#[cfg_attr(target_pointer_width = "64", repr(align(16)))]
#[cfg_attr(target_pointer_width = "32", repr(align(8)))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MEMORY_ALLOCATION_ALIGNED<T>(pub T);

impl<T: AbiType> AbiType for MEMORY_ALLOCATION_ALIGNED<T> {
    const ZERO: Self = Self(T::ZERO);
    const SIZE: Both = Both { x64: T::SIZE.x64.next_multiple_of(16), x86: T::SIZE.x86.next_multiple_of(8) };
    const PARTS: Parts = T::PARTS;
}

/// Head of a lock-free list: 16 bytes on 64-bit, 8 on 32-bit Windows, aligned to its size.
pub type SLIST_HEADER = MEMORY_ALLOCATION_ALIGNED<[usize; 2]>;

macro_rules! pointers {
    ($( $name:ident: $what:literal; )+) => {
        $( #[doc = concat!("Pointer to ", $what, ".")] pub type $name = PVOID; )+
    };
}

pointers! {
    PIPSEC_OFFLOAD_V2_ADD_SA: "the next [`IPSEC_OFFLOAD_V2_ADD_SA`](crate::IPSEC_OFFLOAD_V2_ADD_SA)";
    PIPSEC_OFFLOAD_V2_DELETE_SA: "the next [`IPSEC_OFFLOAD_V2_DELETE_SA`](crate::IPSEC_OFFLOAD_V2_DELETE_SA)";
    PNDIS_OFFLOAD: "an [`NDIS_OFFLOAD`](crate::NDIS_OFFLOAD)";
    PNDIS_TCP_CONNECTION_OFFLOAD: "an [`NDIS_TCP_CONNECTION_OFFLOAD`](crate::NDIS_TCP_CONNECTION_OFFLOAD)";
    PNET_BUFFER: "a [`NET_BUFFER`](crate::NET_BUFFER)";
    PNET_BUFFER_LIST: "a [`NET_BUFFER_LIST`](crate::NET_BUFFER_LIST)";
    PNET_BUFFER_LIST_CONTEXT: "a [`NET_BUFFER_LIST_CONTEXT`](crate::NET_BUFFER_LIST_CONTEXT)";
    PNET_BUFFER_SHARED_MEMORY: "a [`NET_BUFFER_SHARED_MEMORY`](crate::NET_BUFFER_SHARED_MEMORY)";
    PMDL: "a memory descriptor list (`MDL`)";
    PSCATTER_GATHER_LIST: "a scatter-gather list";
    PNDIS_STRING: "a counted UTF-16 string";
    PDEVICE_OBJECT: "a device object";
    PNDIS_PNP_CAPABILITIES: "power management capabilities of NDIS 6.0 and 6.1";
    PNDIS_PM_CAPABILITIES: "power management capabilities of NDIS 6.20 and later";
    PNDIS_RECEIVE_SCALE_CAPABILITIES: "receive side scaling capabilities";
    PNDIS_PORT: "a list of active ports";
    PNDIS_HD_SPLIT_CURRENT_CONFIG: "the header-data split configuration";
    PNDIS_RECEIVE_FILTER_CAPABILITIES: "receive filter capabilities";
    PNDIS_NIC_SWITCH_CAPABILITIES: "NIC switch capabilities";
    PNDIS_NDK_CAPABILITIES: "kernel RDMA capabilities";
    PNDIS_SRIOV_CAPABILITIES: "single root I/O virtualization capabilities";
    PNDIS_NIC_SWITCH_INFO_ARRAY: "a list of NIC switches";
}

layout! {
    /// Globally unique identifier.
    ///
    /// Page: GUID structure (guiddef.h).
    pub struct GUID = 16 align 4 {
        /// First eight hexadecimal digits.
        Data1: ULONG = 0,
        /// First group of four digits.
        Data2: USHORT = 4,
        /// Second group of four digits.
        Data3: USHORT = 6,
        /// The remaining groups, byte by byte.
        Data4: [UCHAR; 8] = 8,
    }
}

layout! {
    /// Opens every versioned structure: what it is, which revision, and how many bytes.
    ///
    /// Page: NDIS_OBJECT_HEADER structure (ndis/objectheader.h), NDIS 6.0 and later.
    pub struct NDIS_OBJECT_HEADER = 4 align 2 {
        /// One of the `NDIS_OBJECT_TYPE_...` values.
        Type: UCHAR = 0,
        /// Revision of the structure, from 1.
        Revision: UCHAR = 1,
        /// Bytes of the structure, this header included.
        Size: USHORT = 2,
    }
}

constants! {
    /// Values of [`NDIS_OBJECT_HEADER::Type`].
    pub const OBJECT_TYPES: [UCHAR] = {
        /// Structures without a type of their own: the SA requests and `NDIS_OFFLOAD_PARAMETERS` among them.
        NDIS_OBJECT_TYPE_DEFAULT = 0x80,
        /// `NDIS_BIND_PARAMETERS`.
        NDIS_OBJECT_TYPE_BIND_PARAMETERS = 0x86,
        /// `NDIS_OID_REQUEST`.
        NDIS_OBJECT_TYPE_OID_REQUEST = 0x96,
        /// `NDIS_OID_REQUEST` under its older name.
        NDIS_OBJECT_TYPE_REQUEST_EX = 0x96,
        /// `NDIS_STATUS_INDICATION`.
        NDIS_OBJECT_TYPE_STATUS_INDICATION = 0x98,
        /// Filter attach parameters.
        NDIS_OBJECT_TYPE_FILTER_ATTACH_PARAMETERS = 0x99,
        /// Registration attributes of a miniport adapter.
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES = 0x9e,
        /// General attributes of a miniport adapter.
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES = 0x9f,
        /// `NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES`.
        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES = 0xa0,
        /// `NDIS_OFFLOAD`.
        NDIS_OBJECT_TYPE_OFFLOAD = 0xa7,
        /// `NDIS_OFFLOAD_ENCAPSULATION`.
        NDIS_OBJECT_TYPE_OFFLOAD_ENCAPSULATION = 0xa8,
        /// Configuration object.
        NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT = 0xa9,
    }
}
