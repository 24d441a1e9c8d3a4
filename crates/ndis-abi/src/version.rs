//! What depends on the NDIS version that a driver is compiled for.

/// Sizes, in bytes, of a structure whose form grew, by NDIS version as in [`VERSIONS`].
#[derive(Clone, Copy, Debug)]
pub struct ByVersion {
    /// Microsoft's name.
    pub name: &'static str,
    /// On 64-bit Windows.
    pub x64: [u32; VERSIONS.len()],
    /// On 32-bit Windows.
    pub x86: [u32; VERSIONS.len()],
}

/// NDIS versions at which something of this crate's matter changed, ascending.
pub const VERSIONS: [&str; 12] = ["6.0", "6.1", "6.20", "6.30", "6.40", "6.50", "6.70", "6.80", "6.82", "6.83", "6.85", "6.87"];

/// `sizeof` of the structures that grew. A driver that was compiled for an older version sees the shorter form.
pub const SIZEOF_BY_VERSION: &[ByVersion] = &[
    ByVersion {
        name: "NET_BUFFER_LIST",
        x64: [240, 256, 288, 336, 336, 352, 352, 368, 368, 368, 368, 368],
        x86: [128, 136, 152, 168, 168, 168, 168, 176, 192, 192, 192, 192],
    },
    ByVersion { name: "NET_BUFFER", x64: [176; 12], x86: [88, 88, 96, 96, 96, 96, 96, 96, 96, 96, 96, 96] },
    ByVersion {
        name: "NDIS_OFFLOAD",
        x64: [112, 144, 144, 156, 156, 180, 188, 188, 188, 216, 216, 216],
        x86: [112, 144, 144, 156, 156, 180, 188, 188, 188, 216, 216, 216],
    },
    ByVersion { name: "NDIS_OFFLOAD_PARAMETERS", x64: [20, 24, 24, 28, 28, 32, 32, 32, 32, 36, 36, 36], x86: [20, 24, 24, 28, 28, 32, 32, 32, 32, 36, 36, 36] },
    ByVersion {
        name: "NDIS_OID_REQUEST",
        x64: [240, 240, 240, 240, 240, 248, 248, 248, 248, 248, 248, 248],
        x86: [140, 140, 140, 140, 140, 152, 152, 152, 152, 152, 152, 152],
    },
    ByVersion {
        name: "NDIS_BIND_PARAMETERS",
        x64: [248, 256, 280, 312, 312, 312, 312, 312, 312, 312, 312, 312],
        x86: [208, 208, 224, 240, 240, 240, 240, 240, 240, 240, 240, 240],
    },
];

/// `MaxNetBufferListInfo`: the number of out-of-band slots of a net buffer list.
pub const MAX_NET_BUFFER_LIST_INFO: ByVersion =
    ByVersion { name: "MaxNetBufferListInfo", x64: [11, 13, 18, 24, 24, 26, 26, 27, 27, 27, 27, 27], x86: [11, 13, 18, 21, 21, 21, 21, 23, 27, 27, 27, 27] };
