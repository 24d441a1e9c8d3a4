//! SA bundles of every kind, packets under them in any nesting, and an oracle for them on another cryptographic library.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use core::net::IpAddr;
use core::ops::Range;

use ipsec::{AhParameters, AhSa, Authentication, Encryption, EspParameters, EspSa, Provider, RustCrypto};
use ndis::{
    AesKeySize, AhAssociation, Associations, AuthenticationAlgorithm, Direction, EncryptionAlgorithm, Endpoints, EspAssociation, HeaderTransmit, Keyed,
    NetBufferList, OffloadHandle, SaBundle, SaExtension, UdpEspType,
};
use packet::{Buffer, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Repr, Spi};
use secret::SecretBytes;

pub const GCM: EncryptionAlgorithm = EncryptionAlgorithm::AesGcm(AesKeySize::Aes128);
pub const CBC: EncryptionAlgorithm = EncryptionAlgorithm::AesCbc(AesKeySize::Aes128);
pub const NULL: EncryptionAlgorithm = EncryptionAlgorithm::Null;
pub const SHA1: AuthenticationAlgorithm = AuthenticationAlgorithm::HmacSha1;
pub const SHA256: AuthenticationAlgorithm = AuthenticationAlgorithm::HmacSha256;
pub const GMAC: AuthenticationAlgorithm = AuthenticationAlgorithm::AesGmac(AesKeySize::Aes128);

/// One association.
#[derive(Clone, Copy, Debug)]
pub struct Half<A> {
    pub spi: u32,
    pub algorithms: A,
    /// High half of its extended sequence numbers.
    pub esn: Option<u32>,
}

impl<A> Half<A> {
    /// The 64-bit number of a packet.
    pub fn sequence(&self, low: u32) -> u64 {
        u64::from(self.esn.unwrap_or(0)) << 32 | u64::from(low)
    }
}

pub type EspHalf = Half<(EncryptionAlgorithm, Option<AuthenticationAlgorithm>)>;

/// A bundle.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub esp: Option<EspHalf>,
    pub ah: Option<Half<AuthenticationAlgorithm>>,
    pub ipv6: bool,
    /// Which pair of addresses.
    pub net: u8,
    pub udp: Option<UdpEspType>,
    /// ICV of a combined mode.
    pub icv: u32,
    /// IPv4 options, or an IPv6 destination options header, with bytes that may change on the way.
    pub extras: bool,
    /// Alignment of AH; 0: as RFC 4302 asks for.
    pub ah_alignment: usize,
    pub extension: SaExtension,
    /// UDP ports of its packets.
    pub ports: (u16, u16),
}

impl Kind {
    pub const fn esp(spi: u32, encryption: EncryptionAlgorithm, authentication: Option<AuthenticationAlgorithm>) -> Self {
        Self {
            esp: Some(Half { spi, algorithms: (encryption, authentication), esn: None }),
            ah: None,
            ipv6: false,
            net: 0,
            udp: None,
            icv: 0,
            extras: false,
            ah_alignment: 0,
            extension: SaExtension {
                iv_mask: 0x5eed_0000_0000_0001,
                replay_window: Some(64),
                allow_unauthenticated: false,
                udp_esp_port: None,
                v1_scope: None,
            },
            ports: (4500, 4500),
        }
    }

    pub const fn gcm(spi: u32) -> Self {
        Self::esp(spi, GCM, None)
    }

    pub const fn ah(spi: u32, authentication: AuthenticationAlgorithm) -> Self {
        Self { esp: None, ah: Some(Half { spi, algorithms: authentication, esn: None }), ..Self::gcm(spi) }
    }

    pub const fn both(
        esp: u32,
        encryption: EncryptionAlgorithm,
        authentication: Option<AuthenticationAlgorithm>,
        ah: u32,
        over: AuthenticationAlgorithm,
    ) -> Self {
        Self { ah: Some(Half { spi: ah, algorithms: over, esn: None }), ..Self::esp(esp, encryption, authentication) }
    }

    pub const fn v6(self) -> Self {
        Self { ipv6: true, ..self }
    }

    pub const fn net(self, net: u8) -> Self {
        Self { net, ..self }
    }

    pub const fn udp(self, kind: UdpEspType) -> Self {
        Self { udp: Some(kind), ..self }
    }

    /// With extended sequence numbers in both associations.
    pub fn esn(mut self, high: u32) -> Self {
        if let Some(esp) = &mut self.esp {
            esp.esn = Some(high);
        }
        if let Some(ah) = &mut self.ah {
            ah.esn = Some(high ^ 0x10);
        }
        self
    }

    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        if self.ipv6 {
            ([0x2001, 0xdb8, self.net.into(), 0, 0, 0, 0, 1].into(), [0x2001, 0xdb8, self.net.into(), 0, 0, 0, 0, 2].into())
        } else {
            ([198, 51, self.net, 1].into(), [198, 51, self.net, 2].into())
        }
    }

    fn key<A>(spi: u32, algorithm: A, length: usize, additional_info: u32) -> Keyed<A> {
        let key = (0..length).map(|at| (at as u8).wrapping_mul(7) ^ spi as u8 ^ (spi >> 8) as u8).collect::<Vec<_>>();
        Keyed { algorithm, key: SecretBytes::from(key), additional_info }
    }

    pub fn bundle(&self, direction: Direction) -> SaBundle {
        let esp = self.esp.map(|esp| {
            let (encryption, authentication) = esp.algorithms;
            let icv = if encryption.is_combined() { self.icv } else { 0 };
            EspAssociation {
                spi: Spi(esp.spi),
                extended_sequence_numbers: esp.esn.is_some(),
                sequence_number_high: esp.esn.unwrap_or(0),
                encryption: Self::key(esp.spi, encryption, encryption.key_length(), icv),
                authentication: authentication.map(|algorithm| Self::key(esp.spi + 1, algorithm, algorithm.key_length(), 0)),
            }
        });
        let ah = self.ah.map(|ah| AhAssociation {
            spi: Spi(ah.spi),
            extended_sequence_numbers: ah.esn.is_some(),
            sequence_number_high: ah.esn.unwrap_or(0),
            authentication: Self::key(ah.spi, ah.algorithms, ah.algorithms.key_length(), 0),
        });
        let (source, destination) = self.addresses();
        SaBundle {
            direction,
            endpoints: Endpoints { ipv6: self.ipv6, source: Some(source), destination: Some(destination) },
            udp_esp: self.udp,
            associations: match (esp, ah) {
                (Some(esp), None) => Associations::Esp(esp),
                (None, Some(ah)) => Associations::Ah(ah),
                (Some(esp), Some(ah)) => Associations::AhOverEsp { esp, ah },
                (None, None) => panic!("a bundle of nothing"),
            },
            extension: if direction == Direction::Outbound { SaExtension { udp_esp_port: None, ..self.extension } } else { self.extension },
        }
    }

    pub fn esp_oracle(&self) -> Option<EspSa<RustCrypto>> {
        let bundle = self.bundle(Direction::Outbound);
        let esp = bundle.associations.esp()?;
        let none = SecretBytes::default();
        let (authentication, authentication_key) = match &esp.authentication {
            Some(keyed) => (authentication(keyed.algorithm), &keyed.key),
            None => (Authentication::None, &none),
        };
        let parameters = EspParameters {
            encryption: encryption(esp.encryption.algorithm),
            encryption_key: &esp.encryption.key,
            icv_length: if self.icv == 0 { 16 } else { self.icv as usize },
            authentication,
            authentication_key,
            allow_unauthenticated: true,
            extended_sequence_numbers: esp.extended_sequence_numbers,
            iv_mask: self.extension.iv_mask,
        };
        Some(EspSa::new(&RustCrypto, &parameters).unwrap())
    }

    pub fn ah_oracle(&self) -> Option<AhSa<RustCrypto>> {
        let bundle = self.bundle(Direction::Outbound);
        let ah = bundle.associations.ah()?;
        let parameters = AhParameters {
            authentication: authentication(ah.authentication.algorithm),
            key: &ah.authentication.key,
            extended_sequence_numbers: ah.extended_sequence_numbers,
            iv_mask: self.extension.iv_mask,
        };
        Some(AhSa::new(&RustCrypto, &parameters).unwrap())
    }

    /// Whether its ESP is in UDP there.
    pub fn in_udp(&self, inner: bool) -> bool {
        match self.udp {
            None => false,
            Some(UdpEspType::Transport | UdpEspType::Tunnel) => true,
            Some(UdpEspType::TransportOverUdpTunnel) => !inner,
            Some(UdpEspType::UdpTransportOverTunnel) => inner,
        }
    }

    /// A packet that carries `payload`, with everything but what a NIC fills in: that is 0xEE.
    pub fn build(&self, payload: &[u8], next_header: u8, low: u32) -> Built {
        self.place(payload, next_header, low, self.in_udp(false), Vec::new())
    }

    /// As [`Kind::build`], to be put into a tunnel.
    pub fn build_inner(&self, payload: &[u8], next_header: u8, low: u32) -> Built {
        self.place(payload, next_header, low, self.in_udp(true), Vec::new())
    }

    /// Puts `inner` into a tunnel.
    pub fn around(&self, inner: &Built, low: u32) -> Built {
        let next_header = if inner.layers[0].kind.ipv6 { 41 } else { 4 };
        self.place(&inner.bytes, next_header, low, self.in_udp(false), inner.layers.clone())
    }

    pub fn place(&self, payload: &[u8], next_header: u8, low: u32, in_udp: bool, inner: Vec<Layer>) -> Built {
        let esp = self.esp_oracle();
        let ah = self.ah_oracle();
        let esp_len = esp.as_ref().map_or(payload.len(), |esp| payload.len() + esp.overhead(payload.len()));
        let alignment = match (self.ah_alignment, self.ipv6) {
            (0, false) => 4,
            (0, true) => 8,
            (other, _) => other,
        };
        let ah_len = ah.as_ref().map_or(0, |ah| ah.header_length(alignment));
        let udp_len = if in_udp { 8 } else { 0 };
        let first = match (&ah, in_udp) {
            (Some(_), _) => IpProtocol::AH,
            (None, true) => IpProtocol::UDP,
            (None, false) => IpProtocol::ESP,
        };
        let mut bytes = self.ip_header(first, udp_len + ah_len + esp_len);
        let header_len = bytes.len();
        if in_udp {
            let (source, destination) = self.ports;
            bytes.extend([source.to_be_bytes(), destination.to_be_bytes(), ((8 + esp_len) as u16).to_be_bytes(), [0, 0]].concat());
        }
        let mut layer = Layer {
            kind: *self,
            ip: 0,
            ah: None,
            esp: None,
            end: header_len + udp_len + ah_len + esp_len,
            payload: 0,
            esp_sequence: self.esp.map_or(0, |esp| esp.sequence(low)),
            ah_sequence: self.ah.map_or(0, |ah| ah.sequence(low)),
            header: HeaderTransmit::default(),
        };
        if let Some(half) = self.ah {
            layer.ah = Some(bytes.len());
            layer.header.ah_header_offset = (bytes.len() / 4) as u8;
            let next = if self.esp.is_some() { 50 } else { next_header };
            bytes.extend([next, (ah_len / 4 - 2) as u8, 0, 0]);
            bytes.extend(half.spi.to_be_bytes());
            bytes.extend(low.to_be_bytes());
            bytes.resize(bytes.len() + ah_len - 12, 0xEE);
        }
        if let (Some(half), Some(oracle)) = (self.esp, &esp) {
            let start = bytes.len();
            layer.esp = Some(start..start + esp_len);
            layer.header.esp_header_offset = (start / 4) as u8;
            bytes.extend(half.spi.to_be_bytes());
            bytes.extend(low.to_be_bytes());
            bytes.resize(start + esp_len, 0xEE);
            let text = oracle.text(esp_len).unwrap();
            layer.payload = start + text.start;
            let text = &mut bytes[start..][text];
            text[..payload.len()].copy_from_slice(payload);
            let trailer = ipsec::write_trailer(text, payload.len(), next_header).unwrap();
            (layer.header.next_header, layer.header.pad_length) = (trailer.next_header, trailer.pad_length);
        } else {
            layer.payload = bytes.len();
            bytes.extend_from_slice(payload);
        }
        assert_eq!(bytes.len(), layer.end);
        if !self.ipv6 {
            Ipv4Packet::new(&mut bytes[..]).unwrap().fill_checksum();
        }
        let inner = inner.into_iter().map(|inner| inner.moved(layer.payload));
        Built { layers: std::iter::once(layer.clone()).chain(inner).collect(), bytes }
    }

    /// The IP header, with options or extension headers if that is asked for, in front of `payload` bytes.
    pub fn ip_header(&self, protocol: IpProtocol, payload: usize) -> Vec<u8> {
        match self.addresses() {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options: &[u8] = if self.extras { &[148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0] } else { &[] };
                let mut ip = vec![0; 20];
                Ipv4Repr::new(protocol, source, destination, options.len() + payload).emit(&mut ip).unwrap();
                ip.extend_from_slice(options);
                ip[0] = 0x40 | (ip.len() / 4) as u8;
                ip
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let options: &[u8] = if self.extras { &[protocol.0, 0, 0x3e, 4, 1, 2, 3, 4] } else { &[] };
                let protocol = if self.extras { IpProtocol::DESTINATION_OPTIONS } else { protocol };
                let mut ip = vec![0; 40];
                Ipv6Repr::new(protocol, source, destination, options.len() + payload).emit(&mut ip).unwrap();
                [&ip, options].concat()
            }
            _ => unreachable!(),
        }
    }
}

/// What one bundle does to a packet. Offsets are from the packet's outermost IP header.
#[derive(Clone, Debug)]
pub struct Layer {
    pub kind: Kind,
    pub ip: usize,
    pub ah: Option<usize>,
    pub esp: Option<Range<usize>>,
    pub end: usize,
    pub payload: usize,
    pub esp_sequence: u64,
    pub ah_sequence: u64,
    pub header: HeaderTransmit,
}

impl Layer {
    fn moved(self, by: usize) -> Self {
        let unit = (by / 4) as u8;
        let there = |offset: u8| if offset == 0 { 0 } else { offset + unit };
        Self {
            ip: self.ip + by,
            ah: self.ah.map(|ah| ah + by),
            esp: self.esp.map(|esp| esp.start + by..esp.end + by),
            end: self.end + by,
            payload: self.payload + by,
            header: HeaderTransmit {
                ah_header_offset: there(self.header.ah_header_offset),
                esp_header_offset: there(self.header.esp_header_offset),
                ..self.header
            },
            ..self
        }
    }

    /// Seals this layer alone.
    pub fn seal(&self, bytes: &mut [u8]) {
        if let (Some(range), Some(oracle)) = (&self.esp, self.kind.esp_oracle()) {
            let mut jobs = [oracle.seal_job(&mut bytes[range.clone()], self.esp_sequence).unwrap()];
            RustCrypto.seal(&mut jobs);
            assert!(jobs[0].verdict.is_good());
        }
        if let (Some(ah), Some(oracle)) = (self.ah, self.kind.ah_oracle()) {
            oracle.seal_packet(&RustCrypto, &mut bytes[self.ip..self.end], ah - self.ip, self.ah_sequence).unwrap();
        }
    }
}

/// A packet with its layers, the outermost first.
#[derive(Clone, Debug)]
pub struct Built {
    pub bytes: Vec<u8>,
    pub layers: Vec<Layer>,
}

impl Built {
    /// The packet on the wire, by the oracle.
    pub fn sealed(&self) -> Vec<u8> {
        self.sealed_after(|_, _| {})
    }

    /// The packet on the wire, where `change` was made to each layer (by its number from outside) before it was sealed: what a peer with the keys can send.
    pub fn sealed_after(&self, change: impl Fn(usize, &mut [u8])) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (number, layer) in self.layers.iter().enumerate().rev() {
            change(number, &mut bytes);
            layer.seal(&mut bytes);
        }
        bytes
    }

    /// `wire` as it is after `layers` of its layers were opened: in clear, headers, IVs and ICVs as they are.
    pub fn opened(&self, wire: &[u8], layers: usize) -> Vec<u8> {
        let mut bytes = wire.to_vec();
        for layer in &self.layers[..layers] {
            let (Some(range), Some(oracle)) = (&layer.esp, layer.kind.esp_oracle()) else { continue };
            let mut jobs = [oracle.open_job(&mut bytes[range.clone()], layer.esp_sequence).unwrap()];
            RustCrypto.open(&mut jobs, &mut ipsec::Scratch::new());
            assert!(jobs[0].verdict.is_good());
        }
        bytes
    }

    /// The list that asks for it: `handles` of the layers, the outermost first.
    pub fn list(&self, handles: &[OffloadHandle]) -> NetBufferList {
        let mut list = NetBufferList::new(Buffer::copy_from(&self.bytes), 0);
        list.oob.set_offload_handle(handles.last().copied());
        list.oob.set_tunnel_handle(if handles.len() == 2 { Some(handles[0]) } else { None });
        list.oob.set_header_transmit(self.layers.last().unwrap().header);
        list
    }
}

pub fn encryption(algorithm: EncryptionAlgorithm) -> Encryption {
    match algorithm {
        EncryptionAlgorithm::Null => Encryption::Null,
        EncryptionAlgorithm::DesCbc => Encryption::DesCbc,
        EncryptionAlgorithm::TripleDesCbc => Encryption::TripleDesCbc,
        EncryptionAlgorithm::AesGcm(size) => Encryption::AesGcm(size_of_key(size)),
        EncryptionAlgorithm::AesCbc(size) => Encryption::AesCbc(size_of_key(size)),
        EncryptionAlgorithm::ChaCha20Poly1305 => Encryption::ChaCha20Poly1305,
    }
}

pub fn authentication(algorithm: AuthenticationAlgorithm) -> Authentication {
    match algorithm {
        AuthenticationAlgorithm::HmacMd5 => Authentication::HmacMd5,
        AuthenticationAlgorithm::HmacSha1 => Authentication::HmacSha1,
        AuthenticationAlgorithm::HmacSha256 => Authentication::HmacSha256,
        AuthenticationAlgorithm::AesGmac(size) => Authentication::AesGmac(size_of_key(size)),
        AuthenticationAlgorithm::HmacSha384 => Authentication::HmacSha384,
        AuthenticationAlgorithm::HmacSha512 => Authentication::HmacSha512,
    }
}

fn size_of_key(size: AesKeySize) -> ipsec::AesKeySize {
    match size {
        AesKeySize::Aes128 => ipsec::AesKeySize::Aes128,
        AesKeySize::Aes192 => ipsec::AesKeySize::Aes192,
        AesKeySize::Aes256 => ipsec::AesKeySize::Aes256,
    }
}
