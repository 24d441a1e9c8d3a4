//! Names of what masks have bits for, as profiles write them: those of SA files where there are such.

use ndis::{AuthenticationAlgorithms as Auth, Encapsulation, EncryptionAlgorithms as Enc, IcvLengths, UdpEspTypes};

/// A mask and the names of its bits.
pub(super) trait Named: Copy + Default + core::ops::BitOrAssign + 'static {
    /// All bits with their names.
    const NAMES: &'static [(&'static str, Self)];

    /// The bit of a name.
    fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit)
    }

    /// The names that there are, for errors.
    fn allowed() -> String {
        Self::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

impl Named for Encapsulation {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("ieee-802.3", Self::IEEE_802_3),
        ("p-and-q", Self::IEEE_802_3_P_AND_Q),
        ("p-and-q-in-oob", Self::IEEE_802_3_P_AND_Q_IN_OOB),
        ("llc-snap", Self::IEEE_LLC_SNAP_ROUTED),
        ("null", Self::NULL),
    ];
}

impl Named for UdpEspTypes {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("transport", Self::TRANSPORT),
        ("tunnel", Self::TUNNEL),
        ("transport-over-udp-tunnel", Self::TRANSPORT_OVER_UDP_TUNNEL),
        ("udp-transport-over-tunnel", Self::UDP_TRANSPORT_OVER_TUNNEL),
    ];
}

impl Named for Auth {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("hmac-md5-96", Self::MD5),
        ("hmac-sha1-96", Self::SHA_1),
        ("hmac-sha-256-128", Self::SHA_256),
        ("aes-gmac-128", Self::AES_GCM_128),
        ("aes-gmac-192", Self::AES_GCM_192),
        ("aes-gmac-256", Self::AES_GCM_256),
        ("hmac-sha-384-192", Self::EXT_SHA_384),
        ("hmac-sha-512-256", Self::EXT_SHA_512),
    ];
}

impl Named for Enc {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("null", Self::NONE),
        ("des-cbc", Self::DES_CBC),
        ("3des-cbc", Self::TRIPLE_DES_CBC),
        ("aes-gcm-128", Self::AES_GCM_128),
        ("aes-gcm-192", Self::AES_GCM_192),
        ("aes-gcm-256", Self::AES_GCM_256),
        ("aes-cbc-128", Self::AES_CBC_128),
        ("aes-cbc-192", Self::AES_CBC_192),
        ("aes-cbc-256", Self::AES_CBC_256),
        ("chacha20-poly1305", Self::EXT_CHACHA20_POLY1305),
    ];
}

impl Named for IcvLengths {
    const NAMES: &'static [(&'static str, Self)] = &[("8", Self::ICV_8), ("12", Self::ICV_12), ("16", Self::ICV_16)];
}
