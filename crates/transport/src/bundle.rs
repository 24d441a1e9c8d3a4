//! An SA in the contract's terms: what ADD_SA asks the NIC to hold.

use ipsec::{Authentication, Encryption};
use ndis::{
    AhAssociation, Associations, AuthenticationAlgorithm, Direction, EncryptionAlgorithm, Endpoints, EspAssociation, IpsecOffloadV2, Keyed, Operation,
    SaBundle, SaExtension, UdpEspType,
};
use packet::{IpAddress, UDP_ESP_PORT};
use secret::SecretBytes;

use crate::parameters::{AssociationParameters, Mode, SaParameters};

/// High halves of the sequence numbers at which the NIC begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HighHalves {
    pub(crate) esp: u32,
    pub(crate) ah: u32,
}

/// What of the UDP-ESP type of a bundle depends on other bundles (OV2-RECV-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nesting {
    /// Neither inside a tunnel bundle, nor anything inside it.
    Alone,
    /// A transport bundle inside a tunnel; whether that one is in UDP.
    Inside { udp: bool },
    /// A tunnel with transport bundles inside; whether any of them is in UDP.
    Around { udp: bool },
}

/// The type that a bundle has for a NIC of this configuration.
///
/// A tunnel carries packets with and without another IPsec layer. It gets a type of two layers only where the NIC does both of them at once; to a NIC that
/// does not, the inner layer is nothing but payload. The types know ESP alone: a bundle with AH above or below UDP that another bundle has is bare, and has no
/// type.
pub(crate) fn udp_esp_type(parameters: &SaParameters, nesting: Nesting, config: &IpsecOffloadV2) -> Option<UdpEspType> {
    let both = |kind: UdpEspType| (config.transport_tunnel_combined && config.udp_esp.contains(kind.bit())).then_some(kind);
    let own = parameters.udp_encapsulation.is_some();
    let esp_alone = parameters.associations.iter().all(|association| association.operation == Operation::Esp);
    match (parameters.mode, nesting) {
        (Mode::Transport, Nesting::Inside { udp: true }) => esp_alone.then_some(UdpEspType::TransportOverUdpTunnel),
        (Mode::Transport, Nesting::Inside { udp: false }) => own.then_some(UdpEspType::UdpTransportOverTunnel),
        (Mode::Transport, _) => own.then_some(UdpEspType::Transport),
        (Mode::Tunnel, Nesting::Around { .. }) if own => both(UdpEspType::TransportOverUdpTunnel).or(Some(UdpEspType::Tunnel)),
        (Mode::Tunnel, Nesting::Around { udp: true }) => both(UdpEspType::UdpTransportOverTunnel).filter(|_| esp_alone),
        (Mode::Tunnel, _) => own.then_some(UdpEspType::Tunnel),
    }
}

/// The bundle of an SA; `key` makes its keys from those of the parameters.
pub(crate) fn bundle(parameters: &SaParameters, udp_esp: Option<UdpEspType>, high: HighHalves, key: impl Fn(&SecretBytes) -> SecretBytes) -> SaBundle {
    let filter = |address: IpAddress| (!address.is_unspecified()).then(|| address.into());
    let local_port = parameters.udp_encapsulation.filter(|_| parameters.direction == Direction::Inbound).map(|udp| udp.destination_port);
    SaBundle {
        direction: parameters.direction,
        endpoints: Endpoints { ipv6: !parameters.destination.is_v4(), source: filter(parameters.source), destination: filter(parameters.destination) },
        udp_esp,
        associations: associations(parameters, high, key),
        extension: SaExtension {
            iv_mask: parameters.iv_mask,
            replay_window: Some(parameters.replay_window),
            allow_unauthenticated: parameters.allow_unauthenticated,
            udp_esp_port: local_port.filter(|&port| port != UDP_ESP_PORT),
            v1_scope: None,
        },
    }
}

fn associations(parameters: &SaParameters, high: HighHalves, key: impl Fn(&SecretBytes) -> SecretBytes) -> Associations {
    let of = |operation| parameters.associations.iter().find(|association| association.operation == operation);
    let esp = |association: &AssociationParameters| EspAssociation {
        spi: association.spi,
        extended_sequence_numbers: association.extended_sequence_numbers,
        sequence_number_high: if association.extended_sequence_numbers { high.esp } else { 0 },
        encryption: Keyed {
            algorithm: contract_encryption(association.encryption),
            key: key(&association.encryption_key),
            additional_info: if association.encryption.is_combined() { u32::from(association.icv_length) } else { 0 },
        },
        authentication: contract_authentication(association.authentication).map(|algorithm| Keyed {
            algorithm,
            key: key(&association.authentication_key),
            additional_info: 0,
        }),
    };
    let ah = |association: &AssociationParameters| AhAssociation {
        spi: association.spi,
        extended_sequence_numbers: association.extended_sequence_numbers,
        sequence_number_high: if association.extended_sequence_numbers { high.ah } else { 0 },
        authentication: Keyed {
            // An AH without algorithm makes no SA, and never comes here.
            algorithm: contract_authentication(association.authentication).unwrap_or(AuthenticationAlgorithm::HmacSha1),
            key: key(&association.authentication_key),
            additional_info: 0,
        },
    };
    match (of(Operation::Esp), of(Operation::Ah)) {
        (Some(inner), Some(outer)) => Associations::AhOverEsp { esp: esp(inner), ah: ah(outer) },
        (None, Some(only)) => Associations::Ah(ah(only)),
        (Some(only), None) => Associations::Esp(esp(only)),
        // Parameters that were checked have one.
        (None, None) => Associations::Esp(EspAssociation {
            spi: packet::Spi(0),
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            encryption: Keyed { algorithm: EncryptionAlgorithm::Null, key: SecretBytes::default(), additional_info: 0 },
            authentication: None,
        }),
    }
}

/// The contract's name of an encryption algorithm.
pub(crate) const fn contract_encryption(encryption: Encryption) -> EncryptionAlgorithm {
    match encryption {
        Encryption::Null => EncryptionAlgorithm::Null,
        Encryption::DesCbc => EncryptionAlgorithm::DesCbc,
        Encryption::TripleDesCbc => EncryptionAlgorithm::TripleDesCbc,
        Encryption::AesCbc(size) => EncryptionAlgorithm::AesCbc(contract_size(size)),
        Encryption::AesGcm(size) => EncryptionAlgorithm::AesGcm(contract_size(size)),
        Encryption::ChaCha20Poly1305 => EncryptionAlgorithm::ChaCha20Poly1305,
    }
}

/// The contract's name of an authentication algorithm; `None` where there is none.
pub(crate) const fn contract_authentication(authentication: Authentication) -> Option<AuthenticationAlgorithm> {
    Some(match authentication {
        Authentication::None => return None,
        Authentication::HmacMd5 => AuthenticationAlgorithm::HmacMd5,
        Authentication::HmacSha1 => AuthenticationAlgorithm::HmacSha1,
        Authentication::HmacSha256 => AuthenticationAlgorithm::HmacSha256,
        Authentication::HmacSha384 => AuthenticationAlgorithm::HmacSha384,
        Authentication::HmacSha512 => AuthenticationAlgorithm::HmacSha512,
        Authentication::AesGmac(size) => AuthenticationAlgorithm::AesGmac(contract_size(size)),
    })
}

const fn contract_size(size: ipsec::AesKeySize) -> ndis::AesKeySize {
    match size {
        ipsec::AesKeySize::Aes128 => ndis::AesKeySize::Aes128,
        ipsec::AesKeySize::Aes192 => ndis::AesKeySize::Aes192,
        ipsec::AesKeySize::Aes256 => ndis::AesKeySize::Aes256,
    }
}
