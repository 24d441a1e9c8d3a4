//! What NDIS tells a protocol when it binds, and what a miniport tells NDIS about its offloads.

use crate::base::{
    BOOLEAN, NDIS_MEDIA_CONNECT_STATE, NDIS_MEDIA_DUPLEX_STATE, NDIS_MEDIUM, NDIS_OBJECT_HEADER, NDIS_PHYSICAL_MEDIUM, NET_IF_ACCESS_TYPE,
    NET_IF_COMPARTMENT_ID, NET_IF_CONNECTION_TYPE, NET_IF_DIRECTION_TYPE, NET_IFINDEX, NET_IFTYPE, NET_LUID, PDEVICE_OBJECT, PNDIS_HD_SPLIT_CURRENT_CONFIG,
    PNDIS_NDK_CAPABILITIES, PNDIS_NIC_SWITCH_CAPABILITIES, PNDIS_NIC_SWITCH_INFO_ARRAY, PNDIS_OFFLOAD, PNDIS_PM_CAPABILITIES, PNDIS_PNP_CAPABILITIES,
    PNDIS_PORT, PNDIS_RECEIVE_FILTER_CAPABILITIES, PNDIS_RECEIVE_SCALE_CAPABILITIES, PNDIS_SRIOV_CAPABILITIES, PNDIS_STRING, PNDIS_TCP_CONNECTION_OFFLOAD,
    UCHAR, ULONG, ULONG64, USHORT,
};
use crate::layout::{both, constants, layout, sizes};

layout! {
    /// The adapter as a protocol driver gets to know it, its default offload configuration among the rest.
    ///
    /// Page: NDIS_BIND_PARAMETERS structure (ndis.h), NDIS 6.0 and later. This is the form of revision 4; lower revisions
    /// end after the field that their `NDIS_SIZEOF_BIND_PARAMETERS_REVISION_n` names.
    pub struct NDIS_BIND_PARAMETERS = 312 align 8 / 240 align 8 {
        /// Type bind parameters, revision 1 to 4.
        Header: NDIS_OBJECT_HEADER = 0,
        /// Registry section of the protocol.
        ProtocolSection: PNDIS_STRING = 8 / 4,
        /// Name to bind to.
        AdapterName: PNDIS_STRING = 16 / 8,
        /// The adapter's device.
        PhysicalDeviceObject: PDEVICE_OBJECT = 24 / 12,
        /// Medium.
        MediaType: NDIS_MEDIUM = 32 / 16,
        /// Largest packet above the MAC header, in bytes.
        MtuSize: ULONG = 36 / 20,
        /// Highest transmit rate, bits per second.
        MaxXmitLinkSpeed: ULONG64 = 40 / 24,
        /// Present transmit rate, bits per second.
        XmitLinkSpeed: ULONG64 = 48 / 32,
        /// Highest receive rate, bits per second.
        MaxRcvLinkSpeed: ULONG64 = 56 / 40,
        /// Present receive rate, bits per second.
        RcvLinkSpeed: ULONG64 = 64 / 48,
        /// Whether the medium is connected.
        MediaConnectState: NDIS_MEDIA_CONNECT_STATE = 72 / 56,
        /// Half or full duplex.
        MediaDuplexState: NDIS_MEDIA_DUPLEX_STATE = 76 / 60,
        /// Bytes of look-ahead.
        LookaheadSize: ULONG = 80 / 64,
        /// Power management of NDIS 6.0 and 6.1.
        PowerManagementCapabilities: PNDIS_PNP_CAPABILITIES = 88 / 68,
        /// Packet filters.
        SupportedPacketFilters: ULONG = 96 / 72,
        /// Length of the multicast list.
        MaxMulticastListSize: ULONG = 100 / 76,
        /// Bytes of a MAC address.
        MacAddressLength: USHORT = 104 / 80,
        /// MAC address in use.
        CurrentMacAddress: [UCHAR; 32] = 106 / 82,
        /// Physical medium.
        PhysicalMediumType: NDIS_PHYSICAL_MEDIUM = 140 / 116,
        /// Receive side scaling, or null.
        RcvScaleCapabilities: PNDIS_RECEIVE_SCALE_CAPABILITIES = 144 / 120,
        /// Interface that is bound to.
        BoundIfNetluid: NET_LUID = 152 / 128,
        /// Index of the interface that is bound to.
        BoundIfIndex: NET_IFINDEX = 160 / 136,
        /// Lowest interface of the stack.
        LowestIfNetluid: NET_LUID = 168 / 144,
        /// Index of the lowest interface.
        LowestIfIndex: NET_IFINDEX = 176 / 152,
        /// Broadcast, point to point and so on.
        AccessType: NET_IF_ACCESS_TYPE = 180 / 156,
        /// Directions.
        DirectionType: NET_IF_DIRECTION_TYPE = 184 / 160,
        /// Kind of connection.
        ConnectionType: NET_IF_CONNECTION_TYPE = 188 / 164,
        /// IANA interface type.
        IfType: NET_IFTYPE = 192 / 168,
        /// There is a physical connector.
        IfConnectorPresent: BOOLEAN = 194 / 170,
        /// Active ports.
        ActivePorts: PNDIS_PORT = 200 / 172,
        /// Bytes of headroom that the stack below wants.
        DataBackFillSize: ULONG = 208 / 176,
        /// Bytes of context that the stack below wants.
        ContextBackFillSize: ULONG = 212 / 180,
        /// MAC options.
        MacOptions: ULONG = 216 / 184,
        /// Compartment.
        CompartmentId: NET_IF_COMPARTMENT_ID = 220 / 188,
        /// Default offload configuration, or null.
        DefaultOffloadConfiguration: PNDIS_OFFLOAD = 224 / 192,
        /// TCP connection offload, or null.
        TcpConnectionOffloadCapabilities: PNDIS_TCP_CONNECTION_OFFLOAD = 232 / 196,
        /// Name of the adapter that is bound to.
        BoundAdapterName: PNDIS_STRING = 240 / 200,
        /// Header-data split, or null; from revision 2.
        HDSplitCurrentConfig: PNDIS_HD_SPLIT_CURRENT_CONFIG = 248 / 204,
        /// Receive filters, or null; from revision 3.
        ReceiveFilterCapabilities: PNDIS_RECEIVE_FILTER_CAPABILITIES = 256 / 208,
        /// Power management of NDIS 6.20; from revision 3.
        PowerManagementCapabilitiesEx: PNDIS_PM_CAPABILITIES = 264 / 212,
        /// NIC switch, or null; from revision 3.
        NicSwitchCapabilities: PNDIS_NIC_SWITCH_CAPABILITIES = 272 / 216,
        /// Kernel RDMA is on; from revision 4.
        NDKEnabled: BOOLEAN = 280 / 220,
        /// Kernel RDMA, or null; from revision 4.
        NDKCapabilities: PNDIS_NDK_CAPABILITIES = 288 / 224,
        /// Single root I/O virtualization, or null; from revision 4.
        SriovCapabilities: PNDIS_SRIOV_CAPABILITIES = 296 / 228,
        /// NIC switches, or null; from revision 4.
        NicSwitchArray: PNDIS_NIC_SWITCH_INFO_ARRAY = 304 / 232,
    }
}

layout! {
    /// The offload attributes that a miniport sets at initialisation.
    ///
    /// Page: NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES structure (ndis.h), NDIS 6.0 and later.
    pub struct NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES = 40 align 8 / 20 align 4 {
        /// Type miniport adapter offload attributes, revision 1.
        Header: NDIS_OBJECT_HEADER = 0,
        /// What is on after initialisation.
        DefaultOffloadConfiguration: PNDIS_OFFLOAD = 8 / 4,
        /// What the hardware can do, keywords aside.
        HardwareOffloadCapabilities: PNDIS_OFFLOAD = 16 / 8,
        /// TCP connection offload that is on after initialisation, or null.
        DefaultTcpConnectionOffloadConfiguration: PNDIS_TCP_CONNECTION_OFFLOAD = 24 / 12,
        /// TCP connection offload that the hardware can do, or null.
        TcpConnectionOffloadHardwareCapabilities: PNDIS_TCP_CONNECTION_OFFLOAD = 32 / 16,
    }
}

constants! {
    /// Revisions of the structures of this module.
    pub const BIND_REVISIONS: [UCHAR] = {
        /// [`NDIS_BIND_PARAMETERS`] of NDIS 6.0.
        NDIS_BIND_PARAMETERS_REVISION_1 = 1,
        /// [`NDIS_BIND_PARAMETERS`] of NDIS 6.1.
        NDIS_BIND_PARAMETERS_REVISION_2 = 2,
        /// [`NDIS_BIND_PARAMETERS`] of NDIS 6.20.
        NDIS_BIND_PARAMETERS_REVISION_3 = 3,
        /// [`NDIS_BIND_PARAMETERS`] of NDIS 6.30.
        NDIS_BIND_PARAMETERS_REVISION_4 = 4,
        /// [`NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES`].
        NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1 = 1,
    }
}

sizes! {
    /// Sizes of the structures of this module by revision.
    pub const BIND_SIZES = {
        /// [`NDIS_BIND_PARAMETERS`] of NDIS 6.0.
        NDIS_SIZEOF_BIND_PARAMETERS_REVISION_1 = 248 / 204 through NDIS_BIND_PARAMETERS.BoundAdapterName,
        /// [`NDIS_BIND_PARAMETERS`] of NDIS 6.1.
        NDIS_SIZEOF_BIND_PARAMETERS_REVISION_2 = 256 / 208 through NDIS_BIND_PARAMETERS.HDSplitCurrentConfig,
        /// [`NDIS_BIND_PARAMETERS`] of NDIS 6.20.
        NDIS_SIZEOF_BIND_PARAMETERS_REVISION_3 = 280 / 220 through NDIS_BIND_PARAMETERS.NicSwitchCapabilities,
        /// [`NDIS_BIND_PARAMETERS`] of NDIS 6.30.
        NDIS_SIZEOF_BIND_PARAMETERS_REVISION_4 = 312 / 236 through NDIS_BIND_PARAMETERS.NicSwitchArray,
        /// [`NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES`], NDIS 6.0.
        NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1 = 40 / 20
            through NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES.TcpConnectionOffloadHardwareCapabilities,
    }
}
