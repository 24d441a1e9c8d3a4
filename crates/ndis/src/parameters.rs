//! `OID_TCP_OFFLOAD_PARAMETERS`, typed: which offloads to switch on, off or leave (OV2-CAP-8).

use crate::keyword::{IpsecSetting, Keyword, Setting, Switch, TxRx};

/// What `OID_TCP_OFFLOAD_PARAMETERS` asks for. Each member is a new setting, or `None` for "no change"; the default changes nothing.
///
/// ```
/// use ndis::{IpsecSetting, Keyword, OffloadParameters};
///
/// let off = OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled);
/// assert_eq!(off.keyword_changes(), [(Keyword::IpsecV2, 0), (Keyword::IpsecV2Ipv4, 0)]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OffloadParameters {
    /// IPv4 header checksums.
    pub ip_checksum_ipv4: Option<TxRx>,
    /// TCP checksums over IPv4.
    pub tcp_checksum_ipv4: Option<TxRx>,
    /// UDP checksums over IPv4.
    pub udp_checksum_ipv4: Option<TxRx>,
    /// TCP checksums over IPv6.
    pub tcp_checksum_ipv6: Option<TxRx>,
    /// UDP checksums over IPv6.
    pub udp_checksum_ipv6: Option<TxRx>,
    /// Large send version 1.
    pub lso_v1: Option<Switch>,
    /// IPsecOV1 (OV1-4).
    pub ipsec_v1: Option<IpsecSetting>,
    /// Large send version 2, IPv4.
    pub lso_v2_ipv4: Option<Switch>,
    /// Large send version 2, IPv6.
    pub lso_v2_ipv6: Option<Switch>,
    /// TCP connections, IPv4.
    pub tcp_connection_ipv4: Option<Switch>,
    /// TCP connections, IPv6.
    pub tcp_connection_ipv6: Option<Switch>,
    /// The registry is not to be changed (`NDIS_OFFLOAD_PARAMETERS_SKIP_REGISTRY_UPDATE`).
    pub skip_registry_update: bool,
    /// IPsecOV2 of an adapter that supports IPv6 there; others ignore it.
    pub ipsec_v2: Option<IpsecSetting>,
    /// IPsecOV2 of an adapter that does not support IPv6 there; others ignore it.
    pub ipsec_v2_ipv4: Option<IpsecSetting>,
    /// Receive segment coalescing, IPv4.
    pub rsc_ipv4: Option<Switch>,
    /// Receive segment coalescing, IPv6.
    pub rsc_ipv6: Option<Switch>,
    /// Task offloads of encapsulated packets.
    pub encapsulated_packet_task_offload: Option<Switch>,
    /// Which encapsulations those are, as bits of the ABI (1 = NVGRE, 2 = VXLAN).
    pub encapsulation_types: u8,
    /// UDP port of VXLAN, as the ABI's word has it; 0 = not given.
    pub vxlan_udp_port: u16,
    /// UDP segmentation, IPv4.
    pub uso_ipv4: Option<Switch>,
    /// UDP segmentation, IPv6.
    pub uso_ipv6: Option<Switch>,
}

impl OffloadParameters {
    /// Sets IPsecOV2, whether the adapter supports IPv6 or not, and changes nothing else.
    pub fn ipsec_v2_setting(setting: IpsecSetting) -> Self {
        Self { ipsec_v2: Some(setting), ipsec_v2_ipv4: Some(setting), ..Self::default() }
    }

    /// The setting for a keyword, as the keyword's number; `None` = no change, or the keyword has no counterpart (the grouped ones).
    pub fn get(&self, keyword: Keyword) -> Option<u32> {
        fn number<S: Setting>(setting: Option<S>) -> Option<u32> {
            setting.map(Setting::value)
        }
        match keyword {
            Keyword::IpChecksumIpv4 => number(self.ip_checksum_ipv4),
            Keyword::TcpChecksumIpv4 => number(self.tcp_checksum_ipv4),
            Keyword::TcpChecksumIpv6 => number(self.tcp_checksum_ipv6),
            Keyword::UdpChecksumIpv4 => number(self.udp_checksum_ipv4),
            Keyword::UdpChecksumIpv6 => number(self.udp_checksum_ipv6),
            Keyword::TcpUdpChecksumIpv4 | Keyword::TcpUdpChecksumIpv6 => None,
            Keyword::LsoV1Ipv4 => number(self.lso_v1),
            Keyword::LsoV2Ipv4 => number(self.lso_v2_ipv4),
            Keyword::LsoV2Ipv6 => number(self.lso_v2_ipv6),
            Keyword::IpsecV1Ipv4 => number(self.ipsec_v1),
            Keyword::IpsecV2 => number(self.ipsec_v2),
            Keyword::IpsecV2Ipv4 => number(self.ipsec_v2_ipv4),
            Keyword::TcpConnectionIpv4 => number(self.tcp_connection_ipv4),
            Keyword::TcpConnectionIpv6 => number(self.tcp_connection_ipv6),
            Keyword::RscIpv4 => number(self.rsc_ipv4),
            Keyword::RscIpv6 => number(self.rsc_ipv6),
            Keyword::EncapsulatedPacketTaskOffload => number(self.encapsulated_packet_task_offload),
            Keyword::UsoIpv4 => number(self.uso_ipv4),
            Keyword::UsoIpv6 => number(self.uso_ipv6),
        }
    }

    /// Sets the member that is the keyword's counterpart, to the setting of the keyword's number or to "no change".
    ///
    /// Returns `false`, and changes nothing, if the keyword has no counterpart (the grouped ones) or does not allow the number.
    pub fn set(&mut self, keyword: Keyword, value: Option<u32>) -> bool {
        fn put<S: Setting>(member: &mut Option<S>, value: Option<u32>) -> bool {
            let setting = value.and_then(S::from_value);
            let known = setting.is_some() == value.is_some();
            if known {
                *member = setting;
            }
            known
        }
        match keyword {
            Keyword::IpChecksumIpv4 => put(&mut self.ip_checksum_ipv4, value),
            Keyword::TcpChecksumIpv4 => put(&mut self.tcp_checksum_ipv4, value),
            Keyword::TcpChecksumIpv6 => put(&mut self.tcp_checksum_ipv6, value),
            Keyword::UdpChecksumIpv4 => put(&mut self.udp_checksum_ipv4, value),
            Keyword::UdpChecksumIpv6 => put(&mut self.udp_checksum_ipv6, value),
            Keyword::TcpUdpChecksumIpv4 | Keyword::TcpUdpChecksumIpv6 => false,
            Keyword::LsoV1Ipv4 => put(&mut self.lso_v1, value),
            Keyword::LsoV2Ipv4 => put(&mut self.lso_v2_ipv4, value),
            Keyword::LsoV2Ipv6 => put(&mut self.lso_v2_ipv6, value),
            Keyword::IpsecV1Ipv4 => put(&mut self.ipsec_v1, value),
            Keyword::IpsecV2 => put(&mut self.ipsec_v2, value),
            Keyword::IpsecV2Ipv4 => put(&mut self.ipsec_v2_ipv4, value),
            Keyword::TcpConnectionIpv4 => put(&mut self.tcp_connection_ipv4, value),
            Keyword::TcpConnectionIpv6 => put(&mut self.tcp_connection_ipv6, value),
            Keyword::RscIpv4 => put(&mut self.rsc_ipv4, value),
            Keyword::RscIpv6 => put(&mut self.rsc_ipv6, value),
            Keyword::EncapsulatedPacketTaskOffload => put(&mut self.encapsulated_packet_task_offload, value),
            Keyword::UsoIpv4 => put(&mut self.uso_ipv4, value),
            Keyword::UsoIpv6 => put(&mut self.uso_ipv6, value),
        }
    }

    /// What NDIS writes back to the registry before it passes the request down: keywords and their new numbers, in the order of [`Keyword::ALL`].
    /// Nothing with [`OffloadParameters::skip_registry_update`].
    pub fn keyword_changes(&self) -> Vec<(Keyword, u32)> {
        if self.skip_registry_update {
            return Vec::new();
        }
        Keyword::ALL.iter().filter_map(|&keyword| Some((keyword, self.get(keyword)?))).collect()
    }

    /// Parameters that set every member that is a keyword's counterpart to the keyword's number.
    pub fn from_keywords(keywords: &crate::registry::AdapterKeywords) -> Self {
        let mut parameters = Self::default();
        for &keyword in Keyword::ALL {
            parameters.set(keyword, Some(keywords.get(keyword)));
        }
        parameters
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        Keyword::ALL.iter().all(|&keyword| self.get(keyword).is_none())
    }
}
