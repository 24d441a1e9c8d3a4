//! SA bundles of these tests, and packets under them that are built apart from the code under test.

use ipsec::{AesKeySize, AhParameters, AhSa, Authentication, Crypto, Encryption, EspParameters, EspSa, Provider};
use ndis::{Direction, Operation};
use packet::{IpAddress, IpProtocol, ParsedIp, Spi};
use secret::SecretBytes;
use transport::{AssociationParameters, Limits, Mode, SaParameters, Selector, TrafficFlow, UdpEncapsulation};

use super::{A, B, address, ip};

/// One association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    pub spi: u32,
    pub encryption: Encryption,
    pub icv: u8,
    pub authentication: Authentication,
    /// The last number that was used, of extended ones.
    pub esn: Option<u64>,
}

pub const GCM: Encryption = Encryption::AesGcm(AesKeySize::Aes128);

/// ESP with AES-GCM.
pub const fn gcm(spi: u32) -> Half {
    Half { spi, encryption: GCM, icv: 16, authentication: Authentication::None, esn: None }
}

/// AH with HMAC-SHA-256.
pub const fn sha256(spi: u32) -> Half {
    Half { spi, encryption: Encryption::Null, icv: 0, authentication: Authentication::HmacSha256, esn: None }
}

/// A bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub direction: Direction,
    pub mode: Mode,
    pub source: IpAddress,
    pub destination: IpAddress,
    pub esp: Option<Half>,
    pub ah: Option<Half>,
    pub udp: Option<u16>,
    pub inside: Option<String>,
    pub window: u32,
    pub ah_alignment: Option<u8>,
    pub traffic_flow: TrafficFlow,
    pub allow_unauthenticated: bool,
    pub selectors: Vec<Selector>,
    pub soft: Limits,
    pub hard: Limits,
}

/// Which headers a bundle has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    Esp,
    Ah,
    AhEsp,
    UdpEsp,
}

impl Headers {
    pub const ALL: [Self; 4] = [Self::Esp, Self::Ah, Self::AhEsp, Self::UdpEsp];
}

impl Bundle {
    pub fn new(direction: Direction, mode: Mode, esp: Option<Half>, ah: Option<Half>) -> Self {
        Self {
            direction,
            mode,
            source: address(A),
            destination: address(B),
            esp,
            ah,
            udp: None,
            inside: None,
            window: 64,
            ah_alignment: None,
            traffic_flow: TrafficFlow::NONE,
            allow_unauthenticated: false,
            selectors: vec![],
            soft: Limits::NONE,
            hard: Limits::NONE,
        }
    }

    /// A bundle with these headers and SPIs from `spi` on.
    pub fn of(direction: Direction, mode: Mode, headers: Headers, spi: u32) -> Self {
        let esp = (headers != Headers::Ah).then(|| gcm(spi));
        let ah = matches!(headers, Headers::Ah | Headers::AhEsp).then(|| sha256(spi + 1));
        Self { udp: (headers == Headers::UdpEsp).then_some(4500), ..Self::new(direction, mode, esp, ah) }
    }

    pub fn between(self, source: &str, destination: &str) -> Self {
        Self { source: address(source), destination: address(destination), ..self }
    }

    /// Inside another bundle.
    pub fn within(self, tunnel: &Self) -> Self {
        Self { inside: Some(tunnel.name()), ..self }
    }

    /// All its numbers extended; `last` was used last.
    pub fn extended(mut self, last: u64) -> Self {
        for half in [&mut self.esp, &mut self.ah].into_iter().flatten() {
            half.esn = Some(last);
        }
        self
    }

    pub fn toward(&self, direction: Direction) -> Self {
        Self { direction, ..self.clone() }
    }

    pub fn name(&self) -> String {
        format!("bundle-{:x}", self.esp.or(self.ah).unwrap().spi)
    }

    fn key(spi: u32, length: usize) -> SecretBytes {
        (0..length).map(|at| (at as u8).wrapping_mul(7) ^ spi as u8).collect::<Vec<_>>().into()
    }

    fn association(&self, half: Half, operation: Operation) -> AssociationParameters {
        let last = half.esn.unwrap_or(0);
        // Inbound: the high half of the first number.
        let high = if self.direction == Direction::Inbound { (last + 1) >> 32 } else { last >> 32 };
        AssociationParameters {
            operation,
            spi: Spi(half.spi),
            encryption: half.encryption,
            encryption_key: Self::key(half.spi, half.encryption.key_length()),
            icv_length: half.icv,
            authentication: half.authentication,
            authentication_key: Self::key(!half.spi, half.authentication.key_length()),
            extended_sequence_numbers: half.esn.is_some(),
            sequence_number_high: high as u32,
            sequence_number: last as u32,
        }
    }

    pub fn parameters(&self) -> SaParameters {
        let esp = self.esp.map(|half| self.association(half, Operation::Esp));
        let ah = self.ah.map(|half| self.association(half, Operation::Ah));
        SaParameters {
            selectors: self.selectors.clone(),
            replay_window: self.window,
            udp_encapsulation: self.udp.map(|port| UdpEncapsulation { source_port: port, destination_port: port }),
            inside: self.inside.clone(),
            ah_alignment: self.ah_alignment,
            traffic_flow: self.traffic_flow,
            allow_unauthenticated: self.allow_unauthenticated,
            soft_limits: self.soft,
            hard_limits: self.hard,
            ..SaParameters::new(self.name(), self.direction, self.mode, (self.source, self.destination), esp.into_iter().chain(ah).collect())
        }
    }

    pub fn esp_sa(&self) -> EspSa<Crypto> {
        let half = self.esp.unwrap();
        let parameters = EspParameters {
            encryption: half.encryption,
            encryption_key: &Self::key(half.spi, half.encryption.key_length()),
            icv_length: usize::from(half.icv),
            authentication: half.authentication,
            authentication_key: &Self::key(!half.spi, half.authentication.key_length()),
            allow_unauthenticated: true,
            extended_sequence_numbers: half.esn.is_some(),
            iv_mask: 0,
        };
        EspSa::new(&Crypto::default(), &parameters).unwrap()
    }

    pub fn ah_sa(&self) -> AhSa<Crypto> {
        let half = self.ah.unwrap();
        let key = Self::key(!half.spi, half.authentication.key_length());
        let parameters = AhParameters { authentication: half.authentication, key: &key, extended_sequence_numbers: half.esn.is_some(), iv_mask: 0 };
        AhSa::new(&Crypto::default(), &parameters).unwrap()
    }

    /// `packet`, which has a plain IP header, under this bundle, with these numbers.
    pub fn protect(&self, packet: &[u8], esp_number: u64, ah_number: u64) -> Vec<u8> {
        let parsed = ParsedIp::parse(packet).unwrap();
        let (source, destination, payload, next) = match self.mode {
            Mode::Tunnel => (self.source, self.destination, packet, parsed.version().protocol().0),
            Mode::Transport => (parsed.src(), parsed.dst(), parsed.payload(packet), parsed.protocol().0),
        };
        self.protect_payload(source, destination, payload, next, esp_number, ah_number)
    }

    /// The same of any payload.
    pub fn protect_payload(&self, source: IpAddress, destination: IpAddress, payload: &[u8], next: u8, esp_number: u64, ah_number: u64) -> Vec<u8> {
        let (mut body, mut protocol) = (payload.to_vec(), IpProtocol(next));
        if let Some(half) = self.esp {
            let sa = self.esp_sa();
            let pad = usize::from(sa.pad_length(payload.len()));
            let mut text = payload.to_vec();
            text.extend((1..=pad).map(|at| at as u8));
            text.extend([pad as u8, next]);
            body = Self::seal_text(&sa, half, &text, esp_number);
            protocol = IpProtocol::ESP;
        }
        if let Some(port) = self.udp {
            let mut udp = [port.to_be_bytes(), port.to_be_bytes(), (body.len() as u16 + 8).to_be_bytes(), [0; 2]].concat();
            udp.append(&mut body);
            (body, protocol) = (udp, IpProtocol::UDP);
        }
        let Some(half) = self.ah else { return ip(source, destination, protocol, &body) };
        let sa = self.ah_sa();
        let length = sa.header_length(usize::from(self.ah_alignment.unwrap_or(if source.is_v4() { 4 } else { 8 })));
        let mut ah = vec![0; length];
        ah[0] = protocol.0;
        ah[1] = (length / 4 - 2) as u8;
        ah[4..8].copy_from_slice(&half.spi.to_be_bytes());
        ah[8..12].copy_from_slice(&(ah_number as u32).to_be_bytes());
        ah.append(&mut body);
        let mut packet = ip(source, destination, IpProtocol::AH, &ah);
        let at = packet.len() - ah.len();
        sa.seal_packet(&Crypto::default(), &mut packet, at, ah_number).unwrap();
        packet
    }

    /// ESP with `text` (payload, padding, pad length, next header) in it.
    pub fn seal_text(sa: &EspSa<Crypto>, half: Half, text: &[u8], number: u64) -> Vec<u8> {
        let prefix = sa.prefix_length();
        let mut esp = vec![0; prefix + text.len() + sa.icv_length()];
        esp[..4].copy_from_slice(&half.spi.to_be_bytes());
        esp[4..8].copy_from_slice(&(number as u32).to_be_bytes());
        esp[prefix..prefix + text.len()].copy_from_slice(text);
        let mut jobs = [sa.seal_job(&mut esp, number).unwrap()];
        Crypto::default().seal(&mut jobs);
        assert!(jobs[0].verdict.is_good());
        esp
    }
}

impl super::Host {
    /// Adds a bundle and a policy for it.
    pub fn put(&self, bundle: &Bundle) -> sa_table::Handle {
        let handle = self.transport.add_sa(bundle.parameters(), self.now).unwrap();
        self.transport.protect(handle);
        handle
    }

    /// Adds bundles, tunnels first as `inside` needs it; policies name the innermost first.
    pub fn put_all(&self, bundles: &[Bundle]) -> Vec<sa_table::Handle> {
        let handles: Vec<_> = bundles.iter().map(|bundle| self.transport.add_sa(bundle.parameters(), self.now).unwrap()).collect();
        handles.iter().rev().for_each(|&handle| self.transport.protect(handle));
        handles
    }
}
