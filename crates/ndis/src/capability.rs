//! The algebra of capability sets: cutting them down, comparing them, and asking whether one covers an SA (OV2-CAP-1, OV2-CAP-8, OV2-CAP-14).
//!
//! Capability sets are ordered: `a` is within `b` if whatever `a` offers, `b` offers too. `intersect` gives the largest set within both. A set whose
//! `encapsulation` is empty offers nothing, whatever its other members say; every function here returns sets in normal form, in which members that
//! can have no effect are zero.

use core::fmt;
use core::ops::ControlFlow;

use crate::capability_v1::V1Member;
use crate::keyword::{IpsecSetting, Switch, TxRx};
use crate::offload::{
    AuthenticationAlgorithms, ChecksumOffload, ChecksumSet, Encapsulation, EncryptionAlgorithms, IcvLengths, IpsecOffloadV1, IpsecOffloadV2, Ipv4Ah, Ipv4Esp,
    LargeSendSet, LargeSendV2, Offload, OffloadFlags, UdpEspTypes,
};
use crate::oid::{OffloadEncapsulation, SetEncapsulation};
use crate::parameters::OffloadParameters;
use crate::registry::AdapterKeywords;
use crate::sa::{AuthenticationAlgorithm, EncryptionAlgorithm, Keyed, SaBundle};
use crate::status::Status;
use crate::version::NdisVersion;

/// Mode of an SA. No structure of the ABI says it; the transport knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaMode {
    /// Transport mode.
    Transport,
    /// Tunnel mode.
    Tunnel,
}

/// The capability that an SA needs and a set does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapabilityField {
    /// IPsecOV2 as such.
    Encapsulation,
    /// ESP.
    Esp,
    /// AH.
    Ah,
    /// AH over ESP in one packet.
    AhEspCombined,
    /// The encryption algorithm, with its key size.
    EncryptionAlgorithms,
    /// The length of the ICV of a combined mode; an extension, see [`IpsecOffloadV2::ext_refused_icv_lengths`].
    IcvLength,
    /// The authentication algorithm, with its key size.
    AuthenticationAlgorithms,
    /// Extended sequence numbers.
    ExtendedSequenceNumbers,
    /// The UDP-ESP encapsulation type.
    UdpEsp,
    /// IPv6.
    Ipv6Supported,
    /// Transport mode.
    Transport,
    /// Tunnel mode.
    Tunnel,
    /// A transport bundle and the tunnel bundle around it in one packet. No bundle shows that it needs this: whoever nests them asks.
    TransportTunnelCombined,
    /// A member that only `NDIS_IPSEC_OFFLOAD_V1` has.
    V1(V1Member),
}

impl CapabilityField {
    /// All fields that [`IpsecOffloadV2::covers`] looks at, in its order.
    pub const ALL: [Self; 12] = [
        Self::Encapsulation,
        Self::Ipv6Supported,
        Self::Esp,
        Self::Ah,
        Self::AhEspCombined,
        Self::Transport,
        Self::Tunnel,
        Self::UdpEsp,
        Self::ExtendedSequenceNumbers,
        Self::EncryptionAlgorithms,
        Self::IcvLength,
        Self::AuthenticationAlgorithms,
    ];

    /// Microsoft's name of the member of `NDIS_IPSEC_OFFLOAD_V2`, or of `NDIS_IPSEC_OFFLOAD_V1`; `IcvLength`, an extension, is no member of either.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encapsulation => "Encapsulation",
            Self::Esp => "Esp",
            Self::Ah => "Ah",
            Self::AhEspCombined => "AhEspCombined",
            Self::EncryptionAlgorithms => "EncryptionAlgorithms",
            Self::IcvLength => "IcvLength",
            Self::AuthenticationAlgorithms => "AuthenticationAlgorithms",
            Self::ExtendedSequenceNumbers => "ExtendedSequenceNumbers",
            Self::UdpEsp => "UdpEsp",
            Self::Ipv6Supported => "IPv6Supported",
            Self::Transport => "Transport",
            Self::Tunnel => "Tunnel",
            Self::TransportTunnelCombined => "TransportTunnelCombined",
            Self::V1(member) => member.name(),
        }
    }
}

impl fmt::Display for CapabilityField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A value of a [`CapabilityField`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapabilityValue {
    /// Needed, or there.
    Flag(bool),
    /// Encryption algorithms.
    Encryption(EncryptionAlgorithms),
    /// Authentication algorithms.
    Authentication(AuthenticationAlgorithms),
    /// UDP-ESP encapsulation types.
    UdpEsp(UdpEspTypes),
    /// Lengths of ICVs.
    Icv(IcvLengths),
}

impl fmt::Display for CapabilityValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn mask<B: bitflags::Flags>(f: &mut fmt::Formatter<'_>, flags: &B, none: &str) -> fmt::Result
        where
            B::Bits: bitflags::parser::WriteHex,
        {
            if flags.is_empty() { f.write_str(none) } else { bitflags::parser::to_writer(flags, f) }
        }
        match self {
            Self::Flag(true) => f.write_str("yes"),
            Self::Flag(false) => f.write_str("no"),
            // A set that has no bit offers nothing; `NONE` is the name of null encryption.
            Self::Encryption(set) => mask(f, set, "nothing"),
            Self::Authentication(set) => mask(f, set, "nothing"),
            Self::UdpEsp(set) => mask(f, set, "nothing"),
            Self::Icv(set) => mask(f, set, "nothing"),
        }
    }
}

/// Why a capability set does not cover an SA: the first capability that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{field}: {asked} asked, {supported} supported")]
pub struct NotCovered {
    /// Which capability.
    pub field: CapabilityField,
    /// What the SA needs.
    pub asked: CapabilityValue,
    /// What the set offers.
    pub supported: CapabilityValue,
}

impl From<NotCovered> for Status {
    /// What a miniport answers when it is asked for something that is not in its current configuration (OV2-SA-4).
    fn from(_: NotCovered) -> Self {
        Self::NOT_SUPPORTED
    }
}

/// Sets with a largest common subset. Normal forms only.
trait Meet: Sized {
    /// The largest value within both.
    fn meet(&self, other: &Self) -> Self;
}

impl Meet for bool {
    fn meet(&self, other: &Self) -> Self {
        *self && *other
    }
}

macro_rules! meet_bits {
    ($($flags:ty),*) => { $(impl Meet for $flags {
        fn meet(&self, other: &Self) -> Self {
            *self & *other
        }
    })* };
}

meet_bits!(Encapsulation, UdpEspTypes, AuthenticationAlgorithms, EncryptionAlgorithms, OffloadFlags);

/// Members of which more is more; a number is an amount. `u32` masks and numbers of which less is more are named apart.
macro_rules! meet_members {
    ($name:ident { $($member:ident),* $(; least $least:ident)? $(; greatest $greatest:ident)? $(; mask $mask:ident)? $(; told $told:ident)? $(; union $union:ident)? }) => {
        impl $name {
            fn meet(&self, other: &Self) -> Self {
                Self {
                    $($member: self.$member.meet(&other.$member),)*
                    $($least: self.$least.min(other.$least),)?
                    $($greatest: self.$greatest.max(other.$greatest),)?
                    $($mask: self.$mask & other.$mask,)?
                    // 0 is no number.
                    $($told: if self.$told == 0 || other.$told == 0 { self.$told.max(other.$told) } else { self.$told.min(other.$told) },)?
                    $($union: self.$union | other.$union,)?
                }
                .normalized()
            }
        }
    };
}

meet_members!(IpsecOffloadV2 {
    encapsulation, ipv6_supported, ipv4_options, ipv6_non_ipsec_extension_headers, ah, esp, ah_esp_combined, transport, tunnel,
    transport_tunnel_combined, lso_supported, extended_sequence_numbers, udp_esp, authentication_algorithms, encryption_algorithms,
    ext_lso_tunnel;
    least sa_offload_capacity; union ext_refused_icv_lengths
});
meet_members!(Ipv4Ah { md5, sha_1, transport, tunnel, send, receive });
meet_members!(Ipv4Esp { des, triple_des, null_esp, transport, tunnel, send, receive });
meet_members!(IpsecOffloadV1 { encapsulation, ah_esp_combined, transport_tunnel_combined, ipv4_options, ipv4_ah, ipv4_esp; mask flags; told ext_sa_capacity });
meet_members!(ChecksumSet { encapsulation, ip_options_supported, tcp_options_supported, tcp_checksum, udp_checksum, ip_checksum });
meet_members!(ChecksumOffload { ipv4_transmit, ipv4_receive, ipv6_transmit, ipv6_receive });
meet_members!(LargeSendSet { encapsulation, tcp_options, ip_options, ext_udp; least max_offload_size; greatest min_segment_count });
meet_members!(LargeSendV2 { ipv4, ipv6 });
meet_members!(Offload { checksum, lso_v1, lso_v2, ipsec_v1, ipsec_v2, flags });

impl Ipv4Ah {
    fn normalized(self) -> Self {
        if self.is_supported() { self } else { Self::default() }
    }

    /// Whether AH is offered at all.
    pub const fn is_supported(self) -> bool {
        self.md5 || self.sha_1
    }
}

impl Ipv4Esp {
    fn normalized(self) -> Self {
        if self.is_supported() { self } else { Self::default() }
    }

    /// Whether ESP is offered at all.
    pub const fn is_supported(self) -> bool {
        self.des || self.triple_des || self.null_esp
    }
}

impl IpsecOffloadV1 {
    /// Whether IPsecOV1 is offered at all.
    pub fn is_supported(&self) -> bool {
        !self.encapsulation.is_empty() && (self.ipv4_ah.is_supported() || self.ipv4_esp.is_supported())
    }

    /// The same set with all members zero that can have no effect.
    #[must_use]
    pub fn normalized(self) -> Self {
        if !self.is_supported() {
            return Self::default();
        }
        let (ah, esp) = (self.ipv4_ah.is_supported(), self.ipv4_esp.is_supported());
        Self {
            ah_esp_combined: self.ah_esp_combined && ah && esp,
            flags: if esp { self.flags } else { 0 },
            ipv4_ah: self.ipv4_ah.normalized(),
            ipv4_esp: self.ipv4_esp.normalized(),
            ..self
        }
    }

    /// What a setting of `*IPsecOffloadV1IPv4` leaves of the set (OV1-4, as OV2-CAP-14).
    #[must_use]
    pub fn restrict(self, setting: IpsecSetting) -> Self {
        Self {
            ipv4_ah: if setting.ah() { self.ipv4_ah } else { Ipv4Ah::default() },
            ipv4_esp: if setting.esp() { self.ipv4_esp } else { Ipv4Esp::default() },
            ..self
        }
        .normalized()
    }
}

impl IpsecOffloadV2 {
    /// Whether IPsecOV2 is offered at all.
    pub fn is_supported(&self) -> bool {
        !self.encapsulation.is_empty() && (self.ah || self.esp)
    }

    /// The same set with all members zero that can have no effect.
    #[must_use]
    pub fn normalized(self) -> Self {
        if !self.is_supported() {
            return Self::default();
        }
        Self {
            ah_esp_combined: self.ah_esp_combined && self.ah && self.esp,
            transport_tunnel_combined: self.transport_tunnel_combined && self.transport && self.tunnel,
            ipv6_non_ipsec_extension_headers: self.ipv6_non_ipsec_extension_headers && self.ipv6_supported,
            udp_esp: if self.esp { self.udp_esp } else { UdpEspTypes::empty() },
            encryption_algorithms: if self.esp { self.encryption_algorithms } else { EncryptionAlgorithms::empty() },
            ext_refused_icv_lengths: if self.esp { self.ext_refused_icv_lengths } else { IcvLengths::empty() },
            ext_lso_tunnel: self.ext_lso_tunnel && self.lso_supported && self.tunnel,
            ..self
        }
    }

    /// What a setting of `*IPsecOffloadV2` leaves of the set (OV2-CAP-14). Disabled, or nothing left: all zero.
    ///
    /// ```
    /// use ndis::{Encapsulation, EncryptionAlgorithms, IpsecOffloadV2, IpsecSetting};
    ///
    /// let hardware = IpsecOffloadV2 {
    ///     encapsulation: Encapsulation::IEEE_802_3,
    ///     esp: true,
    ///     ah: true,
    ///     ah_esp_combined: true,
    ///     encryption_algorithms: EncryptionAlgorithms::AES_GCM_128,
    ///     ..IpsecOffloadV2::default()
    /// };
    /// let esp = hardware.restrict(IpsecSetting::Esp);
    /// assert!(esp.esp && !esp.ah && !esp.ah_esp_combined);
    /// assert_eq!(hardware.restrict(IpsecSetting::Disabled), IpsecOffloadV2::default());
    /// ```
    #[must_use]
    pub fn restrict(self, setting: IpsecSetting) -> Self {
        Self { ah: self.ah && setting.ah(), esp: self.esp && setting.esp(), ..self }.normalized()
    }

    /// The largest set within both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.meet(other)
    }

    /// Whether `other` offers all that this set offers.
    pub fn is_within(&self, other: &Self) -> bool {
        self.meet(other) == self.normalized()
    }

    /// Whether the set covers an SA, in that mode if it is known; packets under it may still be beyond the set. Capacity is not looked at, and an ICV
    /// of 8, 12 or 16 bytes is covered by the algorithm's bit unless the set refuses that length.
    ///
    /// # Errors
    /// [`NotCovered`] with the first capability that is missing, in the order of [`CapabilityField::ALL`].
    pub fn covers(&self, bundle: &SaBundle, mode: Option<SaMode>) -> Result<(), NotCovered> {
        match self.look(bundle, mode, &mut ControlFlow::Break) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(missing) => Err(missing),
        }
    }

    /// Everything that an SA needs and the set does not have, in the order of [`CapabilityField::ALL`]; nothing if the set covers it.
    pub fn lacks(&self, bundle: &SaBundle, mode: Option<SaMode>) -> Vec<NotCovered> {
        let mut all = Vec::new();
        let _: ControlFlow<()> = self.look(bundle, mode, &mut |missing| {
            all.push(missing);
            ControlFlow::Continue(())
        });
        all
    }

    /// Hands what is missing to `found`, one after the other, until that breaks off.
    fn look<B>(&self, bundle: &SaBundle, mode: Option<SaMode>, found: &mut impl FnMut(NotCovered) -> ControlFlow<B>) -> ControlFlow<B> {
        let (esp, ah) = (bundle.associations.esp(), bundle.associations.ah());
        let extended = esp.is_some_and(|esp| esp.extended_sequence_numbers) || ah.is_some_and(|ah| ah.extended_sequence_numbers);
        let mut flag = |field, asked: bool, supported: bool| {
            if asked && !supported {
                found(NotCovered { field, asked: CapabilityValue::Flag(true), supported: CapabilityValue::Flag(false) })
            } else {
                ControlFlow::Continue(())
            }
        };
        flag(CapabilityField::Encapsulation, true, self.is_supported())?;
        flag(CapabilityField::Ipv6Supported, bundle.endpoints.ipv6, self.ipv6_supported)?;
        flag(CapabilityField::Esp, esp.is_some(), self.esp)?;
        flag(CapabilityField::Ah, ah.is_some(), self.ah)?;
        flag(CapabilityField::AhEspCombined, esp.is_some() && ah.is_some(), self.ah_esp_combined)?;
        flag(CapabilityField::Transport, mode == Some(SaMode::Transport), self.transport)?;
        flag(CapabilityField::Tunnel, mode == Some(SaMode::Tunnel), self.tunnel)?;
        if let Some(kind) = bundle.udp_esp
            && !self.udp_esp.contains(kind.bit())
        {
            let (asked, supported) = (CapabilityValue::UdpEsp(kind.bit()), CapabilityValue::UdpEsp(self.udp_esp));
            found(NotCovered { field: CapabilityField::UdpEsp, asked, supported })?;
        }
        if extended && !self.extended_sequence_numbers {
            let (asked, supported) = (CapabilityValue::Flag(true), CapabilityValue::Flag(false));
            found(NotCovered { field: CapabilityField::ExtendedSequenceNumbers, asked, supported })?;
        }
        let encryption = esp.and_then(|esp| self.lacks_encryption(esp.encryption.algorithm));
        let icv = esp.and_then(|esp| self.lacks_icv(&esp.encryption));
        let esp_authentication = esp.and_then(|esp| self.lacks_authentication(esp.authentication.as_ref()?.algorithm));
        let ah_authentication = ah.and_then(|ah| self.lacks_authentication(ah.authentication.algorithm));
        // Of one thing that both halves lack it is enough to hear once.
        let ah_authentication = ah_authentication.filter(|missing| esp_authentication != Some(*missing));
        for missing in [encryption, icv, esp_authentication, ah_authentication].into_iter().flatten() {
            found(missing)?;
        }
        ControlFlow::Continue(())
    }

    fn lacks_encryption(&self, algorithm: EncryptionAlgorithm) -> Option<NotCovered> {
        let (asked, supported) = (algorithm.bit(), self.encryption_algorithms);
        let missing = NotCovered {
            field: CapabilityField::EncryptionAlgorithms,
            asked: CapabilityValue::Encryption(asked),
            supported: CapabilityValue::Encryption(supported),
        };
        (!supported.contains(asked)).then_some(missing)
    }

    fn lacks_icv(&self, encryption: &Keyed<EncryptionAlgorithm>) -> Option<NotCovered> {
        let combined = matches!(encryption.algorithm, EncryptionAlgorithm::AesGcm(_) | EncryptionAlgorithm::ChaCha20Poly1305);
        let asked = IcvLengths::of_additional_info(encryption.additional_info);
        let supported = CapabilityValue::Icv(IcvLengths::all() - self.ext_refused_icv_lengths);
        let missing = NotCovered { field: CapabilityField::IcvLength, asked: CapabilityValue::Icv(asked), supported };
        (combined && self.ext_refused_icv_lengths.intersects(asked)).then_some(missing)
    }

    fn lacks_authentication(&self, algorithm: AuthenticationAlgorithm) -> Option<NotCovered> {
        let (asked, supported) = (algorithm.bit(), self.authentication_algorithms);
        let missing = NotCovered {
            field: CapabilityField::AuthenticationAlgorithms,
            asked: CapabilityValue::Authentication(asked),
            supported: CapabilityValue::Authentication(supported),
        };
        (!supported.contains(asked)).then_some(missing)
    }
}

impl ChecksumSet {
    /// Whether any checksum is offered.
    pub fn is_supported(&self) -> bool {
        !self.encapsulation.is_empty() && (self.tcp_checksum || self.udp_checksum || self.ip_checksum)
    }

    /// The same set with all members zero that can have no effect.
    #[must_use]
    pub fn normalized(self) -> Self {
        if !self.is_supported() {
            return Self::default();
        }
        Self { tcp_options_supported: self.tcp_options_supported && self.tcp_checksum, ..self }
    }
}

impl ChecksumOffload {
    /// The same capabilities with all members zero that can have no effect; there is no header checksum in IPv6.
    #[must_use]
    pub fn normalized(self) -> Self {
        Self {
            ipv4_transmit: self.ipv4_transmit.normalized(),
            ipv4_receive: self.ipv4_receive.normalized(),
            ipv6_transmit: ChecksumSet { ip_checksum: false, ..self.ipv6_transmit }.normalized(),
            ipv6_receive: ChecksumSet { ip_checksum: false, ..self.ipv6_receive }.normalized(),
        }
    }
}

impl LargeSendSet {
    /// Whether large sends are offered.
    pub fn is_supported(&self) -> bool {
        !self.encapsulation.is_empty() && self.max_offload_size != 0
    }

    /// The same set with all members zero that can have no effect.
    #[must_use]
    pub fn normalized(self) -> Self {
        if self.is_supported() { self } else { Self::default() }
    }
}

impl LargeSendV2 {
    /// The same capabilities with all members zero that can have no effect.
    #[must_use]
    pub fn normalized(self) -> Self {
        Self { ipv4: self.ipv4.normalized(), ipv6: self.ipv6.normalized() }
    }
}

impl Offload {
    /// The same capabilities with all members zero that can have no effect.
    #[must_use]
    pub fn normalized(self) -> Self {
        Self {
            checksum: self.checksum.normalized(),
            lso_v1: LargeSendSet { ext_udp: false, ..self.lso_v1 }.normalized(),
            lso_v2: self.lso_v2.normalized(),
            ipsec_v1: self.ipsec_v1.normalized(),
            ipsec_v2: self.ipsec_v2.normalized(),
            flags: self.flags,
        }
    }

    /// Whether no offload at all is offered.
    pub fn is_empty(&self) -> bool {
        Self { flags: OffloadFlags::empty(), ..self.normalized() } == Self::default()
    }

    /// The largest set within both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.meet(other)
    }

    /// Whether `other` offers all that this set offers.
    pub fn is_within(&self, other: &Self) -> bool {
        self.meet(other) == self.normalized()
    }

    /// What an adapter of that NDIS version can report of the set (OV2-CAP-0).
    #[must_use]
    pub fn for_version(self, version: NdisVersion) -> Self {
        let coexistence = OffloadFlags::IPSEC_V2_AND_TCP_CHECKSUM_COEXISTENCE | OffloadFlags::IPSEC_V2_AND_UDP_CHECKSUM_COEXISTENCE;
        Self {
            ipsec_v1: if version.has_ipsec_v1() { self.ipsec_v1 } else { IpsecOffloadV1::default() },
            ipsec_v2: if version.has_ipsec_v2() { self.ipsec_v2 } else { IpsecOffloadV2::default() },
            // The two flags came with NDIS 6.30.
            flags: if version >= NdisVersion::V6_30 { self.flags } else { self.flags - coexistence },
            ..self
        }
        .normalized()
    }

    /// The default configuration of an adapter with these hardware capabilities: what the keywords leave of them (OV2-CAP-1).
    ///
    /// Of the two IPsecOV2 keywords one counts: `*IPsecOffloadV2IPv4` for hardware without IPv6 there, `*IPsecOffloadV2` for all other (OV2-CAP-8).
    #[must_use]
    pub fn configured(&self, keywords: &AdapterKeywords) -> Self {
        self.changed(&OffloadParameters::from_keywords(keywords), self)
    }

    /// This current configuration as `OID_TCP_OFFLOAD_PARAMETERS` changes it, never beyond `hardware` (OV2-CAP-8). What is switched on comes back with
    /// all that the hardware offers.
    ///
    /// # Errors
    /// [`Status::NOT_SUPPORTED`] if the hardware offers no offload at all.
    pub fn apply(&self, parameters: &OffloadParameters, hardware: &Self) -> Result<Self, Status> {
        if hardware.is_empty() { Err(Status::NOT_SUPPORTED) } else { Ok(self.changed(parameters, hardware)) }
    }

    fn changed(&self, parameters: &OffloadParameters, hardware: &Self) -> Self {
        let mut next = *self;
        let of = parameters;
        let ipsec_v2 = if hardware.ipsec_v2.ipv6_supported { of.ipsec_v2 } else { of.ipsec_v2_ipv4 };
        if let Some(setting) = ipsec_v2 {
            next.ipsec_v2 = hardware.ipsec_v2.restrict(setting);
        }
        if let Some(setting) = of.ipsec_v1 {
            next.ipsec_v1 = hardware.ipsec_v1.restrict(setting);
        }
        switch(&mut next.lso_v1, of.lso_v1, &hardware.lso_v1);
        switch(&mut next.lso_v2.ipv4, of.lso_v2_ipv4, &hardware.lso_v2.ipv4);
        switch(&mut next.lso_v2.ipv6, of.lso_v2_ipv6, &hardware.lso_v2.ipv6);
        let (ipv4, ipv6) = ([of.ip_checksum_ipv4, of.tcp_checksum_ipv4, of.udp_checksum_ipv4], [None, of.tcp_checksum_ipv6, of.udp_checksum_ipv6]);
        let (checksum, available) = (&mut next.checksum, &hardware.checksum);
        checksums(&mut checksum.ipv4_transmit, ipv4, TxRx::transmit, &available.ipv4_transmit);
        checksums(&mut checksum.ipv4_receive, ipv4, TxRx::receive, &available.ipv4_receive);
        checksums(&mut checksum.ipv6_transmit, ipv6, TxRx::transmit, &available.ipv6_transmit);
        checksums(&mut checksum.ipv6_receive, ipv6, TxRx::receive, &available.ipv6_receive);
        next.meet(hardware)
    }

    /// Whether any offload for packets of that family works under an encapsulation: under all the forms that `encapsulation` names.
    pub fn supports_encapsulation(&self, ipv6: bool, encapsulation: Encapsulation) -> bool {
        let set = self.normalized();
        let of_family = if ipv6 {
            let ipsec = if set.ipsec_v2.ipv6_supported { set.ipsec_v2.encapsulation } else { Encapsulation::empty() };
            [set.checksum.ipv6_transmit.encapsulation, set.checksum.ipv6_receive.encapsulation, set.lso_v2.ipv6.encapsulation, ipsec, ipsec, ipsec]
        } else {
            [
                set.checksum.ipv4_transmit.encapsulation,
                set.checksum.ipv4_receive.encapsulation,
                set.lso_v2.ipv4.encapsulation,
                set.lso_v1.encapsulation,
                set.ipsec_v1.encapsulation,
                set.ipsec_v2.encapsulation,
            ]
        };
        !encapsulation.is_empty() && of_family.iter().any(|offered| offered.contains(encapsulation))
    }

    /// What a miniport with these hardware capabilities answers to `OID_OFFLOAD_ENCAPSULATION` (OV2-CAP-9): [`Status::NOT_SUPPORTED`] if it has no
    /// offload, [`Status::INVALID_PARAMETER`] if a family is to be switched on under no or an unknown encapsulation, or none of those to be switched on
    /// has an offload that works under its encapsulation.
    pub fn check_encapsulation(&self, request: &OffloadEncapsulation) -> Status {
        if self.is_empty() {
            return Status::NOT_SUPPORTED;
        }
        let mut supported = None;
        for (ipv6, set) in [(false, request.ipv4), (true, request.ipv6)] {
            if let SetEncapsulation::On { encapsulation, .. } = set {
                if encapsulation.is_empty() || !Encapsulation::all().contains(encapsulation) {
                    return Status::INVALID_PARAMETER;
                }
                supported = Some(supported.unwrap_or(false) | self.supports_encapsulation(ipv6, encapsulation));
            }
        }
        if supported.unwrap_or(true) { Status::SUCCESS } else { Status::INVALID_PARAMETER }
    }
}

fn switch(set: &mut LargeSendSet, setting: Option<Switch>, hardware: &LargeSendSet) {
    match setting {
        Some(Switch::Enabled) => *set = *hardware,
        Some(Switch::Disabled) => *set = LargeSendSet::default(),
        None => {}
    }
}

/// `settings` are those of IP, TCP and UDP checksums.
fn checksums(set: &mut ChecksumSet, settings: [Option<TxRx>; 3], direction: fn(TxRx) -> bool, hardware: &ChecksumSet) {
    if settings == [None; 3] {
        return;
    }
    let base = if set.is_supported() { *set } else { ChecksumSet { ip_checksum: false, tcp_checksum: false, udp_checksum: false, ..*hardware } };
    let on = |setting: Option<TxRx>, now: bool, can: bool| setting.map_or(now, |setting| direction(setting) && can);
    let [ip, tcp, udp] = settings;
    *set = ChecksumSet {
        ip_checksum: on(ip, base.ip_checksum, hardware.ip_checksum),
        tcp_checksum: on(tcp, base.tcp_checksum, hardware.tcp_checksum),
        udp_checksum: on(udp, base.udp_checksum, hardware.udp_checksum),
        // Only with TCP checksums does the set keep this member: take the hardware's when they come back.
        tcp_options_supported: if base.tcp_checksum { base.tcp_options_supported } else { hardware.tcp_options_supported },
        ..base
    }
    .normalized();
}
