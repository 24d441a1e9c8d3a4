//! What IPsecOV1 covers: the members of `NDIS_IPSEC_OFFLOAD_V1` asked for an SA (OV1-1), and which of the two services an adapter has (OV2-CAP-0).

use core::fmt;
use core::ops::ControlFlow;

use ndis_abi::{
    IPSEC_TPT_UDPESP_ENCAPTYPE_OTHER, IPSEC_TPT_UDPESP_OVER_PURE_TUN_ENCAPTYPE_OTHER, IPSEC_TPTOVERTUN_UDPESP_ENCAPTYPE_OTHER, IPSEC_TUN_UDPESP_ENCAPTYPE_OTHER,
};

use crate::capability::{CapabilityField, CapabilityValue, NotCovered, SaMode};
use crate::offload::{AuthenticationAlgorithms, EncryptionAlgorithms, IpsecOffloadV1, IpsecOffloadV2, Offload, UdpEspTypes};
use crate::sa::{AuthenticationAlgorithm, Direction, EncryptionAlgorithm, Operation, SaBundle};
use crate::version::NdisVersion;

/// One of the two IPsec offload services. An adapter uses one (OV2-OOB-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpsecService {
    /// IPsecOV1: requests on the standard path.
    V1,
    /// IPsecOV2: requests on the direct path.
    V2,
}

impl IpsecService {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "IPsecOV1",
            Self::V2 => "IPsecOV2",
        }
    }
}

impl fmt::Display for IpsecService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A member that `NDIS_IPSEC_OFFLOAD_V1` has and `NDIS_IPSEC_OFFLOAD_V2` has not, or has under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum V1Member {
    /// `IPv4AH` or `IPv4ESP` as a whole: whether the operation is offered.
    Operation(Operation),
    /// `IPv4AH` or `IPv4ESP` as a whole: the algorithm is one that it has no member for.
    Algorithm(Operation),
    /// `IPv4AH.Md5`.
    Md5,
    /// `IPv4AH.Sha_1`.
    Sha1,
    /// `IPv4ESP.Des`.
    Des,
    /// `IPv4ESP.TripleDes`.
    TripleDes,
    /// `IPv4ESP.NullEsp`.
    NullEsp,
    /// `Transport` or `Tunnel` of `IPv4AH` or `IPv4ESP`.
    Mode(Operation, SaMode),
    /// `Send` or `Receive` of `IPv4AH` or `IPv4ESP`.
    Direction(Operation, Direction),
    /// `Flags`: the UDP-ESP types.
    UdpEsp,
}

impl V1Member {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Operation(Operation::Ah),
        Self::Operation(Operation::Esp),
        Self::Algorithm(Operation::Ah),
        Self::Algorithm(Operation::Esp),
        Self::Md5,
        Self::Sha1,
        Self::Des,
        Self::TripleDes,
        Self::NullEsp,
        Self::Mode(Operation::Ah, SaMode::Transport),
        Self::Mode(Operation::Ah, SaMode::Tunnel),
        Self::Mode(Operation::Esp, SaMode::Transport),
        Self::Mode(Operation::Esp, SaMode::Tunnel),
        Self::Direction(Operation::Ah, Direction::Outbound),
        Self::Direction(Operation::Ah, Direction::Inbound),
        Self::Direction(Operation::Esp, Direction::Outbound),
        Self::Direction(Operation::Esp, Direction::Inbound),
        Self::UdpEsp,
    ];

    /// Microsoft's name, with that of the member that it is in where two have one of that name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operation(Operation::Ah) | Self::Algorithm(Operation::Ah) => "IPv4AH",
            Self::Operation(Operation::Esp) | Self::Algorithm(Operation::Esp) => "IPv4ESP",
            Self::Md5 => "IPv4AH.Md5",
            Self::Sha1 => "IPv4AH.Sha_1",
            Self::Des => "IPv4ESP.Des",
            Self::TripleDes => "IPv4ESP.TripleDes",
            Self::NullEsp => "IPv4ESP.NullEsp",
            Self::Mode(Operation::Ah, SaMode::Transport) => "IPv4AH.Transport",
            Self::Mode(Operation::Ah, SaMode::Tunnel) => "IPv4AH.Tunnel",
            Self::Mode(Operation::Esp, SaMode::Transport) => "IPv4ESP.Transport",
            Self::Mode(Operation::Esp, SaMode::Tunnel) => "IPv4ESP.Tunnel",
            Self::Direction(Operation::Ah, Direction::Outbound) => "IPv4AH.Send",
            Self::Direction(Operation::Ah, Direction::Inbound) => "IPv4AH.Receive",
            Self::Direction(Operation::Esp, Direction::Outbound) => "IPv4ESP.Send",
            Self::Direction(Operation::Esp, Direction::Inbound) => "IPv4ESP.Receive",
            Self::UdpEsp => "Flags",
        }
    }
}

impl fmt::Display for V1Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<V1Member> for CapabilityField {
    fn from(member: V1Member) -> Self {
        Self::V1(member)
    }
}

/// What `IPv4AH` or `IPv4ESP` says of modes and directions.
#[derive(Clone, Copy)]
struct Common {
    transport: bool,
    tunnel: bool,
    send: bool,
    receive: bool,
}

impl IpsecOffloadV1 {
    /// Whether the set covers an SA in that mode; packets under it may still be beyond the set. Of what IPsecOV1 has no member for, IPv6 and extended sequence
    /// numbers are named by the members that IPsecOV2 has for them. Integrity of ESP has no member either: HMAC-MD5-96 and HMAC-SHA1-96 come with ESP.
    ///
    /// # Errors
    /// [`NotCovered`] with the first capability that is missing.
    pub fn covers(&self, bundle: &SaBundle, mode: SaMode) -> Result<(), NotCovered> {
        match self.look(bundle, mode, &mut ControlFlow::Break) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(missing) => Err(missing),
        }
    }

    /// Everything that an SA needs and the set does not have, in the order in which [`IpsecOffloadV1::covers`] looks; nothing if the set covers it.
    pub fn lacks(&self, bundle: &SaBundle, mode: SaMode) -> Vec<NotCovered> {
        let mut all = Vec::new();
        let _: ControlFlow<()> = self.look(bundle, mode, &mut |missing| {
            all.push(missing);
            ControlFlow::Continue(())
        });
        all
    }

    /// What an engine that knows IPsecOV2 needs to know of the set: the least that offers all that this set offers, for `capacity` bundles. What modes and
    /// directions are to AH and what to ESP is lost; that is for [`IpsecOffloadV1::covers`] to ask before an SA is added.
    #[must_use]
    pub fn to_v2(&self, capacity: u32) -> IpsecOffloadV2 {
        let set = self.normalized();
        let (ah, esp) = (set.ipv4_ah, set.ipv4_esp);
        IpsecOffloadV2 {
            encapsulation: set.encapsulation,
            ipv4_options: set.ipv4_options,
            ah: ah.is_supported(),
            esp: esp.is_supported(),
            ah_esp_combined: set.ah_esp_combined,
            transport: ah.transport || esp.transport,
            tunnel: ah.tunnel || esp.tunnel,
            transport_tunnel_combined: set.transport_tunnel_combined,
            udp_esp: set.udp_esp(),
            authentication_algorithms: self.integrity(Operation::Ah) | self.integrity(Operation::Esp),
            encryption_algorithms: set.encryption(),
            sa_offload_capacity: capacity,
            ..IpsecOffloadV2::default()
        }
        .normalized()
    }

    /// UDP-ESP types of the flags; those of IKE are reserved, and not among them.
    pub fn udp_esp(&self) -> UdpEspTypes {
        let kinds = [
            (IPSEC_TPT_UDPESP_ENCAPTYPE_OTHER, UdpEspTypes::TRANSPORT),
            (IPSEC_TUN_UDPESP_ENCAPTYPE_OTHER, UdpEspTypes::TUNNEL),
            (IPSEC_TPTOVERTUN_UDPESP_ENCAPTYPE_OTHER, UdpEspTypes::TRANSPORT_OVER_UDP_TUNNEL),
            (IPSEC_TPT_UDPESP_OVER_PURE_TUN_ENCAPTYPE_OTHER, UdpEspTypes::UDP_TRANSPORT_OVER_TUNNEL),
        ];
        kinds.into_iter().filter(|(flag, _)| self.flags & flag != 0).map(|(_, kind)| kind).collect()
    }

    /// Hands what is missing to `found`, one after the other, until that breaks off.
    fn look<B>(&self, bundle: &SaBundle, mode: SaMode, found: &mut impl FnMut(NotCovered) -> ControlFlow<B>) -> ControlFlow<B> {
        let (esp, ah) = (bundle.associations.esp(), bundle.associations.ah());
        let extended = esp.is_some_and(|esp| esp.extended_sequence_numbers) || ah.is_some_and(|ah| ah.extended_sequence_numbers);
        let mut flag = |field: CapabilityField, needed: bool| {
            if needed {
                found(NotCovered { field, asked: CapabilityValue::Flag(true), supported: CapabilityValue::Flag(false) })
            } else {
                ControlFlow::Continue(())
            }
        };
        flag(CapabilityField::Encapsulation, !self.is_supported())?;
        flag(CapabilityField::Ipv6Supported, bundle.endpoints.ipv6)?;
        for (operation, there) in [(Operation::Esp, esp.is_some()), (Operation::Ah, ah.is_some())] {
            if !there {
                continue;
            }
            let common = self.common(operation);
            flag(V1Member::Operation(operation).into(), common.is_none())?;
            // Of what is not there at all it says nothing more.
            let Some(common) = common else { continue };
            let in_mode = if mode == SaMode::Transport { common.transport } else { common.tunnel };
            let in_direction = if bundle.direction == Direction::Outbound { common.send } else { common.receive };
            flag(V1Member::Mode(operation, mode).into(), !in_mode)?;
            flag(V1Member::Direction(operation, bundle.direction).into(), !in_direction)?;
        }
        flag(CapabilityField::AhEspCombined, esp.is_some() && ah.is_some() && !self.ah_esp_combined)?;
        flag(CapabilityField::ExtendedSequenceNumbers, extended)?;
        if let Some(kind) = bundle.udp_esp
            && !self.udp_esp().contains(kind.bit())
        {
            let (asked, supported) = (CapabilityValue::UdpEsp(kind.bit()), CapabilityValue::UdpEsp(self.udp_esp()));
            found(NotCovered { field: V1Member::UdpEsp.into(), asked, supported })?;
        }
        let encryption = esp.and_then(|esp| self.lacks_encryption(esp.encryption.algorithm));
        let esp_integrity = esp.and_then(|esp| self.lacks_integrity(Operation::Esp, esp.authentication.as_ref()?.algorithm));
        let ah_integrity = ah.and_then(|ah| self.lacks_integrity(Operation::Ah, ah.authentication.algorithm));
        for missing in [encryption, esp_integrity, ah_integrity].into_iter().flatten() {
            found(missing)?;
        }
        ControlFlow::Continue(())
    }

    /// `None`: the operation is not offered.
    const fn common(&self, operation: Operation) -> Option<Common> {
        let (ah, esp) = (self.ipv4_ah, self.ipv4_esp);
        match operation {
            Operation::Ah if ah.is_supported() => Some(Common { transport: ah.transport, tunnel: ah.tunnel, send: ah.send, receive: ah.receive }),
            Operation::Esp if esp.is_supported() => Some(Common { transport: esp.transport, tunnel: esp.tunnel, send: esp.send, receive: esp.receive }),
            _ => None,
        }
    }

    fn encryption(&self) -> EncryptionAlgorithms {
        let esp = self.ipv4_esp;
        let all =
            [(esp.null_esp, EncryptionAlgorithms::NONE), (esp.des, EncryptionAlgorithms::DES_CBC), (esp.triple_des, EncryptionAlgorithms::TRIPLE_DES_CBC)];
        all.into_iter().filter(|(offered, _)| *offered).map(|(_, algorithm)| algorithm).collect()
    }

    fn integrity(&self, operation: Operation) -> AuthenticationAlgorithms {
        let (md5, sha_1) = match operation {
            Operation::Ah => (self.ipv4_ah.md5, self.ipv4_ah.sha_1),
            Operation::Esp => (self.ipv4_esp.is_supported(), self.ipv4_esp.is_supported()),
        };
        let all = [(md5, AuthenticationAlgorithms::MD5), (sha_1, AuthenticationAlgorithms::SHA_1)];
        all.into_iter().filter(|(offered, _)| *offered).map(|(_, algorithm)| algorithm).collect()
    }

    fn lacks_encryption(&self, algorithm: EncryptionAlgorithm) -> Option<NotCovered> {
        let member = match algorithm {
            EncryptionAlgorithm::Null => V1Member::NullEsp,
            EncryptionAlgorithm::DesCbc => V1Member::Des,
            EncryptionAlgorithm::TripleDesCbc => V1Member::TripleDes,
            _ => V1Member::Algorithm(Operation::Esp),
        };
        let (asked, supported) = (algorithm.bit(), self.encryption());
        let (asked_value, supported_value) = (CapabilityValue::Encryption(asked), CapabilityValue::Encryption(supported));
        let missing = NotCovered { field: member.into(), asked: asked_value, supported: supported_value };
        (self.ipv4_esp.is_supported() && !supported.contains(asked)).then_some(missing)
    }

    fn lacks_integrity(&self, operation: Operation, algorithm: AuthenticationAlgorithm) -> Option<NotCovered> {
        let member = match (operation, algorithm) {
            (Operation::Ah, AuthenticationAlgorithm::HmacMd5) => V1Member::Md5,
            (Operation::Ah, AuthenticationAlgorithm::HmacSha1) => V1Member::Sha1,
            _ => V1Member::Algorithm(operation),
        };
        let (asked, supported) = (algorithm.bit(), self.integrity(operation));
        let (asked_value, supported_value) = (CapabilityValue::Authentication(asked), CapabilityValue::Authentication(supported));
        let missing = NotCovered { field: member.into(), asked: asked_value, supported: supported_value };
        (self.common(operation).is_some() && !supported.contains(asked)).then_some(missing)
    }
}

impl Offload {
    /// Which IPsec service an adapter of that NDIS version has, by its hardware capabilities: IPsecOV2 where it has it, otherwise IPsecOV1 (OV2-CAP-0).
    pub fn ipsec_service(&self, version: NdisVersion) -> Option<IpsecService> {
        if self.ipsec_v2.is_supported() && version.has_ipsec_v2() {
            Some(IpsecService::V2)
        } else if self.ipsec_v1.is_supported() && version.has_ipsec_v1() {
            Some(IpsecService::V1)
        } else {
            None
        }
    }
}
