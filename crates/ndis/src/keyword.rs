//! Standardized keywords: what an administrator can set for an adapter, and what each value means (OV2-CAP-5).
//!
//! A keyword's value is text that holds a number. [`Keyword`] knows its name, its allowed numbers and its default; the enums [`IpsecSetting`],
//! [`TxRx`] and [`Switch`] are the meanings of those numbers.

use core::fmt;

/// What an IPsec keyword allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpsecSetting {
    /// No IPsec offload.
    Disabled = 0,
    /// AH only.
    Ah = 1,
    /// ESP only.
    Esp = 2,
    /// AH and ESP.
    AhAndEsp = 3,
}

/// What a checksum keyword allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TxRx {
    /// Neither direction.
    Disabled = 0,
    /// Packets that are sent.
    Transmit = 1,
    /// Packets that are received.
    Receive = 2,
    /// Both directions.
    Both = 3,
}

/// What an on/off keyword allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// Off.
    Disabled = 0,
    /// On.
    Enabled = 1,
}

/// A setting that a keyword's number stands for.
pub trait Setting: Copy + Eq + fmt::Debug + 'static {
    /// All settings, in order of their numbers, which begin at 0 and have no gap.
    const ALL: &'static [Self];

    /// The number, as the keyword holds it.
    fn value(self) -> u32;

    /// The setting of a number; `None` if none has it.
    fn from_value(value: u32) -> Option<Self> {
        Self::ALL.get(value as usize).copied()
    }
}

impl Setting for IpsecSetting {
    const ALL: &'static [Self] = &[Self::Disabled, Self::Ah, Self::Esp, Self::AhAndEsp];

    fn value(self) -> u32 {
        self as u32
    }
}

impl IpsecSetting {
    /// Whether AH is allowed.
    pub const fn ah(self) -> bool {
        matches!(self, Self::Ah | Self::AhAndEsp)
    }

    /// Whether ESP is allowed.
    pub const fn esp(self) -> bool {
        matches!(self, Self::Esp | Self::AhAndEsp)
    }
}

impl Setting for TxRx {
    const ALL: &'static [Self] = &[Self::Disabled, Self::Transmit, Self::Receive, Self::Both];

    fn value(self) -> u32 {
        self as u32
    }
}

impl TxRx {
    /// Whether packets that are sent are meant.
    pub const fn transmit(self) -> bool {
        matches!(self, Self::Transmit | Self::Both)
    }

    /// Whether packets that are received are meant.
    pub const fn receive(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }
}

impl Setting for Switch {
    const ALL: &'static [Self] = &[Self::Disabled, Self::Enabled];

    fn value(self) -> u32 {
        self as u32
    }
}

impl Switch {
    /// Whether it is on.
    pub const fn is_on(self) -> bool {
        matches!(self, Self::Enabled)
    }
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Self::Enabled } else { Self::Disabled }
    }
}

/// What the numbers of a keyword mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeywordKind {
    /// [`IpsecSetting`].
    Ipsec,
    /// [`TxRx`].
    TxRx,
    /// [`Switch`].
    Switch,
}

impl KeywordKind {
    /// The largest allowed number; all from 0 to it are allowed.
    pub const fn largest(self) -> u32 {
        match self {
            Self::Ipsec | Self::TxRx => 3,
            Self::Switch => 1,
        }
    }

    /// The allowed numbers and their meanings, for messages.
    pub const fn allowed(self) -> &'static str {
        match self {
            Self::Ipsec => "0 (disabled), 1 (AH), 2 (ESP) or 3 (AH and ESP)",
            Self::TxRx => "0 (disabled), 1 (transmit), 2 (receive) or 3 (transmit and receive)",
            Self::Switch => "0 (disabled) or 1 (enabled)",
        }
    }
}

macro_rules! keywords {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident, $default:literal;)*) => {
        /// A standardized keyword of one adapter. Names begin with an asterisk and are compared without regard to case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Keyword {
            $($(#[$doc])* $variant,)*
        }

        impl Keyword {
            /// All keywords.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Microsoft's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What its numbers mean.
            pub const fn kind(self) -> KeywordKind {
                match self { $(Self::$variant => KeywordKind::$kind,)* }
            }

            /// The number that holds when none is stored.
            pub const fn default_value(self) -> u32 {
                match self { $(Self::$variant => $default,)* }
            }
        }
    };
}

keywords! {
    /// IPv4 header checksums.
    IpChecksumIpv4 = "*IPChecksumOffloadIPv4", TxRx, 3;
    /// TCP checksums over IPv4.
    TcpChecksumIpv4 = "*TCPChecksumOffloadIPv4", TxRx, 3;
    /// TCP checksums over IPv6.
    TcpChecksumIpv6 = "*TCPChecksumOffloadIPv6", TxRx, 3;
    /// UDP checksums over IPv4.
    UdpChecksumIpv4 = "*UDPChecksumOffloadIPv4", TxRx, 3;
    /// UDP checksums over IPv6.
    UdpChecksumIpv6 = "*UDPChecksumOffloadIPv6", TxRx, 3;
    /// Grouped: IP, TCP and UDP checksums over IPv4.
    TcpUdpChecksumIpv4 = "*TCPUDPChecksumOffloadIPv4", TxRx, 3;
    /// Grouped: TCP and UDP checksums over IPv6.
    TcpUdpChecksumIpv6 = "*TCPUDPChecksumOffloadIPv6", TxRx, 3;
    /// Large send version 1, IPv4.
    LsoV1Ipv4 = "*LsoV1IPv4", Switch, 1;
    /// Large send version 2, IPv4.
    LsoV2Ipv4 = "*LsoV2IPv4", Switch, 1;
    /// Large send version 2, IPv6.
    LsoV2Ipv6 = "*LsoV2IPv6", Switch, 1;
    /// IPsecOV1 (OV1-4).
    IpsecV1Ipv4 = "*IPsecOffloadV1IPv4", Ipsec, 3;
    /// IPsecOV2 of an adapter that supports IPv6 there.
    IpsecV2 = "*IPsecOffloadV2", Ipsec, 3;
    /// IPsecOV2 of an adapter that does not support IPv6 there.
    IpsecV2Ipv4 = "*IPsecOffloadV2IPv4", Ipsec, 3;
    /// TCP connections, IPv4.
    TcpConnectionIpv4 = "*TCPConnectionOffloadIPv4", Switch, 1;
    /// TCP connections, IPv6.
    TcpConnectionIpv6 = "*TCPConnectionOffloadIPv6", Switch, 1;
    /// Receive segment coalescing, IPv4.
    RscIpv4 = "*RscIPv4", Switch, 1;
    /// Receive segment coalescing, IPv6.
    RscIpv6 = "*RscIPv6", Switch, 1;
    /// Task offloads of encapsulated packets.
    EncapsulatedPacketTaskOffload = "*EncapsulatedPacketTaskOffload", Switch, 1;
    /// UDP segmentation, IPv4. The sources give no default; it is on, as everything else (OV2-CAP-1).
    UsoIpv4 = "*UsoIPv4", Switch, 1;
    /// UDP segmentation, IPv6. The sources give no default; it is on, as everything else (OV2-CAP-1).
    UsoIpv6 = "*UsoIPv6", Switch, 1;
}

impl Keyword {
    /// The keyword of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|keyword| keyword.name().eq_ignore_ascii_case(name))
    }

    /// Whether the number is allowed.
    pub const fn allows(self, value: u32) -> bool {
        value <= self.kind().largest()
    }

    /// Reads the text of a value: decimal digits, white space around them permitted.
    ///
    /// # Errors
    /// [`KeywordError`] if the text is no number or the number is not allowed.
    pub fn parse(self, text: &str) -> Result<u32, KeywordError> {
        match parse_number(text) {
            Some(value) if self.allows(value) => Ok(value),
            _ => Err(KeywordError { name: self.name(), found: text.to_owned(), allowed: self.kind().allowed() }),
        }
    }

    /// Checks a number.
    ///
    /// # Errors
    /// [`KeywordError`] if it is not allowed.
    pub fn check(self, value: u32) -> Result<(), KeywordError> {
        if self.allows(value) { Ok(()) } else { Err(KeywordError { name: self.name(), found: value.to_string(), allowed: self.kind().allowed() }) }
    }
}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Values that hold for the whole system and are read by the transport (OV2-CAP-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemValue {
    /// `DisableTaskOffload`: 1 turns off every task offload.
    DisableTaskOffload,
    /// `EnabledOffload` of the IPsec service: 0 turns off IPsec offload only.
    EnabledOffload,
}

impl SystemValue {
    /// All values.
    pub const ALL: &'static [Self] = &[Self::DisableTaskOffload, Self::EnabledOffload];

    /// Microsoft's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DisableTaskOffload => "DisableTaskOffload",
            Self::EnabledOffload => "EnabledOffload",
        }
    }

    /// The value of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name().eq_ignore_ascii_case(name))
    }

    /// The number that holds when none is stored: offloads are on.
    pub const fn default_value(self) -> u32 {
        match self {
            Self::DisableTaskOffload => 0,
            Self::EnabledOffload => 1,
        }
    }

    /// Reads the text of a value: 0 or 1.
    ///
    /// # Errors
    /// [`KeywordError`] for anything else.
    pub fn parse(self, text: &str) -> Result<u32, KeywordError> {
        match parse_number(text) {
            Some(value @ 0..=1) => Ok(value),
            _ => Err(KeywordError { name: self.name(), found: text.to_owned(), allowed: "0 or 1" }),
        }
    }

    /// Checks a number.
    ///
    /// # Errors
    /// [`KeywordError`] for anything but 0 and 1.
    pub fn check(self, value: u32) -> Result<(), KeywordError> {
        if value <= 1 { Ok(()) } else { Err(KeywordError { name: self.name(), found: value.to_string(), allowed: "0 or 1" }) }
    }
}

impl fmt::Display for SystemValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A value that its keyword does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {found:?} found, {allowed} allowed")]
pub struct KeywordError {
    /// Name of the keyword or system value.
    pub name: &'static str,
    /// The text that was found.
    pub found: String,
    /// What is allowed.
    pub allowed: &'static str,
}

/// Decimal digits only: no sign, and nothing that `u32` cannot hold.
fn parse_number(text: &str) -> Option<u32> {
    let digits = text.trim();
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}
