//! Every kind of SA: suites, modes, IP versions, UDP encapsulation, AH over ESP, transport over tunnel.

use std::fmt::Write as _;

use ipsec::{AesKeySize, Authentication, Encryption};
use ndis::{Direction, Operation};
use packet::{IpAddress, Spi};
use secret::SecretBytes;
use transport::{AssociationParameters, Mode, OffloadPolicy, SaParameters, UdpEncapsulation};

/// What an association is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub operation: Operation,
    pub encryption: Encryption,
    pub icv_length: u8,
    pub authentication: Authentication,
}

impl Spec {
    pub(crate) const fn combined(encryption: Encryption, icv_length: u8) -> Self {
        Self { operation: Operation::Esp, encryption, icv_length, authentication: Authentication::None }
    }

    pub(crate) const fn esp(encryption: Encryption, authentication: Authentication) -> Self {
        Self { operation: Operation::Esp, encryption, icv_length: 0, authentication }
    }

    pub(crate) const fn ah(authentication: Authentication) -> Self {
        Self { operation: Operation::Ah, encryption: Encryption::Null, icv_length: 0, authentication }
    }

    fn name(self) -> String {
        match (self.operation, self.authentication) {
            (Operation::Ah, authentication) => format!("ah-{authentication}"),
            (Operation::Esp, Authentication::None) => format!("{}/{}", self.encryption, self.icv_length),
            (Operation::Esp, authentication) => format!("{}+{authentication}", self.encryption),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub name: &'static str,
    pub mode: Mode,
    pub ends: (&'static str, &'static str),
    pub specs: Vec<Spec>,
    pub udp: bool,
    pub inside: Option<&'static str>,
}

/// One bundle, or a transport bundle and the tunnel that it is inside of; and between which addresses its packets go.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub bundles: Vec<Bundle>,
    pub inner: (&'static str, &'static str),
    pub esn: bool,
    /// The number used last, by every association.
    pub last: u64,
}

pub(crate) const HOST4: (&str, &str) = ("10.0.1.1", "10.0.2.1");
pub(crate) const HOST6: (&str, &str) = ("2001:db8:1::1", "2001:db8:2::1");
pub(crate) const GATE4: (&str, &str) = ("192.0.2.1", "192.0.2.2");
pub(crate) const GATE6: (&str, &str) = ("2001:db8::1", "2001:db8::2");

pub(crate) const GCM: Spec = Spec::combined(Encryption::AesGcm(AesKeySize::Aes128), 16);
pub(crate) const CBC: Spec = Spec::esp(Encryption::AesCbc(AesKeySize::Aes256), Authentication::HmacSha256);

fn address(text: &str) -> IpAddress {
    text.parse().unwrap()
}

impl Kind {
    pub(crate) fn single(mode: Mode, ends: (&'static str, &'static str), inner: (&'static str, &'static str), specs: Vec<Spec>) -> Self {
        Self { bundles: vec![Bundle { name: "sa", mode, ends, specs, udp: false, inside: None }], inner, esn: false, last: 0 }
    }

    pub(crate) fn tunnel(specs: Vec<Spec>) -> Self {
        Self::single(Mode::Tunnel, GATE4, HOST4, specs)
    }

    pub(crate) fn transport(specs: Vec<Spec>) -> Self {
        Self::single(Mode::Transport, HOST4, HOST4, specs)
    }

    /// A transport bundle inside a tunnel bundle.
    pub(crate) fn nested(ends: (&'static str, &'static str), inner: (&'static str, &'static str), transport: Vec<Spec>, tunnel: Vec<Spec>) -> Self {
        let bundles = vec![
            Bundle { name: "inner", mode: Mode::Transport, ends: inner, specs: transport, udp: false, inside: Some("outer") },
            Bundle { name: "outer", mode: Mode::Tunnel, ends, specs: tunnel, udp: false, inside: None },
        ];
        Self { bundles, inner, esn: false, last: 0 }
    }

    /// With the bundle of that place in UDP.
    pub(crate) fn udp(mut self, place: usize) -> Self {
        self.bundles[place].udp = true;
        self
    }

    pub(crate) fn extended(mut self, last: u64) -> Self {
        (self.esn, self.last) = (true, last);
        self
    }

    pub(crate) fn name(&self) -> String {
        let mut name = String::new();
        for bundle in &self.bundles {
            let specs: Vec<_> = bundle.specs.iter().map(|spec| spec.name()).collect();
            let (mode, udp) = (if bundle.mode == Mode::Tunnel { "tunnel" } else { "transport" }, if bundle.udp { " in UDP" } else { "" });
            let _ = write!(name, "[{mode}{udp} {} {}]", bundle.ends.0, specs.join(", "));
        }
        name + &format!(" {} esn {} from {:#x}", self.inner.0, self.esn, self.last)
    }

    /// The parameters of its bundles, in their order.
    pub(crate) fn parameters(&self, direction: Direction, offload: OffloadPolicy) -> Vec<SaParameters> {
        let number = if direction == Direction::Outbound { self.last } else { (self.last + 1) & !u64::from(u32::MAX) };
        let mut seed = 0;
        let mut bundles = Vec::new();
        for bundle in &self.bundles {
            let associations = bundle.specs.iter().map(|spec| {
                seed += 1;
                AssociationParameters {
                    operation: spec.operation,
                    spi: Spi(0x2000 + u32::from(seed)),
                    encryption: spec.encryption,
                    encryption_key: key(spec.encryption.key_length(), seed),
                    icv_length: spec.icv_length,
                    authentication: spec.authentication,
                    authentication_key: key(spec.authentication.key_length(), seed + 100),
                    extended_sequence_numbers: self.esn,
                    sequence_number_high: if self.esn { (number >> 32) as u32 } else { 0 },
                    sequence_number: number as u32,
                }
            });
            let associations: Vec<_> = associations.collect();
            let unauthenticated =
                associations.iter().all(|association| association.authentication == Authentication::None && !association.encryption.is_combined());
            bundles.push(SaParameters {
                iv_mask: 0x0123_4567_89ab_cdef,
                udp_encapsulation: bundle.udp.then_some(UdpEncapsulation { source_port: 4500, destination_port: 4500 }),
                inside: bundle.inside.map(str::to_owned),
                allow_unauthenticated: unauthenticated,
                offload,
                ..SaParameters::new(bundle.name, direction, bundle.mode, (address(bundle.ends.0), address(bundle.ends.1)), associations)
            });
        }
        bundles
    }
}

pub(crate) fn key(length: usize, seed: u8) -> SecretBytes {
    (0..length).map(|i| (i as u8).wrapping_mul(29).wrapping_add(seed.wrapping_mul(53))).collect::<Vec<u8>>().into()
}

const HMACS: [Authentication; 5] =
    [Authentication::HmacMd5, Authentication::HmacSha1, Authentication::HmacSha256, Authentication::HmacSha384, Authentication::HmacSha512];
const SIZES: [AesKeySize; 3] = [AesKeySize::Aes128, AesKeySize::Aes192, AesKeySize::Aes256];

/// Every suite of ESP.
pub(crate) fn esp_suites() -> Vec<Spec> {
    let mut suites = Vec::new();
    let ciphers = [Encryption::Null, Encryption::DesCbc, Encryption::TripleDesCbc].into_iter().chain(SIZES.map(Encryption::AesCbc));
    for cipher in ciphers {
        suites.extend(HMACS.map(|hmac| Spec::esp(cipher, hmac)));
        if cipher != Encryption::Null {
            suites.push(Spec::esp(cipher, Authentication::None));
        }
    }
    suites.extend(SIZES.map(|size| Spec::esp(Encryption::Null, Authentication::AesGmac(size))));
    suites.extend(SIZES.into_iter().flat_map(|size| [16, 12, 8].map(|icv| Spec::combined(Encryption::AesGcm(size), icv))));
    suites.push(Spec::combined(Encryption::ChaCha20Poly1305, 16));
    suites
}

/// Every suite of AH.
pub(crate) fn ah_suites() -> Vec<Spec> {
    HMACS.into_iter().chain(SIZES.map(Authentication::AesGmac)).map(Spec::ah).collect()
}

/// Every pairing of AH over ESP (OV2-COMB-1, OV2-COMB-2): any ESP, also without authentication and null without any.
pub(crate) fn ah_over_esp() -> Vec<Vec<Spec>> {
    let mut pairs = Vec::new();
    for ah in ah_suites() {
        pairs.extend(esp_suites().into_iter().map(|esp| vec![esp, ah]));
        pairs.push(vec![Spec::esp(Encryption::Null, Authentication::None), ah]);
    }
    pairs
}

/// Modes and versions, each with a few suites of every family.
pub(crate) fn shapes() -> Vec<Kind> {
    let suites = [
        vec![GCM],
        vec![CBC],
        vec![Spec::esp(Encryption::Null, Authentication::AesGmac(AesKeySize::Aes128))],
        vec![Spec::combined(Encryption::ChaCha20Poly1305, 16)],
        vec![Spec::ah(Authentication::HmacSha256)],
        vec![Spec::ah(Authentication::AesGmac(AesKeySize::Aes256))],
        vec![GCM, Spec::ah(Authentication::HmacSha1)],
        vec![CBC, Spec::ah(Authentication::AesGmac(AesKeySize::Aes128))],
    ];
    let mut kinds = Vec::new();
    for suite in &suites {
        for host in [HOST4, HOST6] {
            kinds.push(Kind::single(Mode::Transport, host, host, suite.clone()));
            for gate in [GATE4, GATE6] {
                kinds.push(Kind::single(Mode::Tunnel, gate, host, suite.clone()));
                for tunnel in [&suites[0], &suites[1], &suites[4], &suites[6]] {
                    kinds.push(Kind::nested(gate, host, suite.clone(), tunnel.clone()));
                }
            }
        }
    }
    // UDP-ESP, types 1 to 4.
    for suite in suites.iter().filter(|suite| suite.len() == 1 && suite[0].operation == Operation::Esp) {
        for host in [HOST4, HOST6] {
            kinds.push(Kind::single(Mode::Transport, host, host, suite.clone()).udp(0));
            for gate in [GATE4, GATE6] {
                kinds.push(Kind::single(Mode::Tunnel, gate, host, suite.clone()).udp(0));
                kinds.push(Kind::nested(gate, host, vec![GCM], suite.clone()).udp(1));
                kinds.push(Kind::nested(gate, host, suite.clone(), vec![GCM]).udp(0));
            }
        }
    }
    // AH under or over what is in UDP.
    let (ah, both) = (vec![Spec::ah(Authentication::HmacSha256)], vec![CBC, Spec::ah(Authentication::HmacSha1)]);
    for other in [ah, both] {
        kinds.push(Kind::nested(GATE4, HOST6, other.clone(), vec![GCM]).udp(1));
        kinds.push(Kind::nested(GATE6, HOST4, vec![GCM], other).udp(0));
    }
    kinds
}
