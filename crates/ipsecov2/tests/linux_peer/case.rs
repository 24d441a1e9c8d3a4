//! What is tried: SAs, in the words of both sides.

use std::fmt::{self, Write as _};
use std::time::Duration;

use ipsec::{Authentication, Encryption};
use ndis::{Direction, Operation};
use packet::{IpAddress, IpProtocol, IpVersion, Spi, UDP_ESP_PORT};
use secret::SecretBytes;
use transport::{AssociationParameters, Mode, SaParameters, Selector, TrafficFlow, UdpEncapsulation};

use crate::wire::{Dress, Ends, Seen};

/// Algorithms of one ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) encryption: Encryption,
    pub(crate) icv_length: u8,
    pub(crate) authentication: Authentication,
}

impl Suite {
    /// A combined mode.
    pub(crate) const fn combined(encryption: Encryption, icv_length: u8) -> Self {
        Self { encryption, icv_length, authentication: Authentication::None }
    }

    /// Encryption that nothing authenticates.
    pub(crate) fn is_bare(self) -> bool {
        !self.encryption.is_combined() && self.authentication == Authentication::None
    }

    /// Encryption, then authentication.
    pub(crate) const fn pair(encryption: Encryption, authentication: Authentication) -> Self {
        Self { encryption, icv_length: 0, authentication }
    }

    /// As `ip xfrm state add` has it.
    fn xfrm(self, encryption_key: &[u8], authentication_key: &[u8]) -> String {
        let bits = u32::from(self.icv_length) * 8;
        let name = match (self.encryption, self.authentication) {
            (Encryption::AesGcm(_), _) => return format!("aead 'rfc4106(gcm(aes))' {} {bits}", hex(encryption_key)),
            (Encryption::ChaCha20Poly1305, _) => return format!("aead 'rfc7539esp(chacha20,poly1305)' {} {bits}", hex(encryption_key)),
            (Encryption::Null, Authentication::AesGmac(_)) => return format!("aead 'rfc4543(gcm(aes))' {} 128", hex(authentication_key)),
            (Encryption::Null, _) => "ecb(cipher_null)",
            (Encryption::DesCbc, _) => "cbc(des)",
            (Encryption::TripleDesCbc, _) => "cbc(des3_ede)",
            (Encryption::AesCbc(_), _) => "cbc(aes)",
        };
        format!(
            "enc '{name}' '{}' {}",
            if encryption_key.is_empty() { String::new() } else { hex(encryption_key) },
            auth(self.authentication, authentication_key)
        )
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.encryption, self.authentication) {
            (encryption, _) if encryption.is_combined() => write!(f, "{encryption} with an ICV of {}", self.icv_length),
            (encryption, authentication) => write!(f, "{encryption} and {authentication}"),
        }
    }
}

/// An authentication algorithm as `ip xfrm state add` has it.
fn auth(authentication: Authentication, key: &[u8]) -> String {
    let (name, bits) = match authentication {
        Authentication::None => return String::new(),
        Authentication::HmacMd5 => ("md5", 96),
        Authentication::HmacSha1 => ("sha1", 96),
        Authentication::HmacSha256 => ("sha256", 128),
        Authentication::HmacSha384 => ("sha384", 192),
        Authentication::HmacSha512 => ("sha512", 256),
        Authentication::AesGmac(_) => panic!("Linux has AES-GMAC only as a combined mode of ESP"),
    };
    format!("auth-trunc 'hmac({name})' {} {bits}", hex(key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".into(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// IPsec headers of one mode: ESP, AH, or AH in front of ESP.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub(crate) esp: Option<Suite>,
    pub(crate) ah: Option<Authentication>,
    /// ESP is in UDP.
    pub(crate) udp: bool,
}

impl Bundle {
    pub(crate) const fn esp(suite: Suite) -> Self {
        Self { esp: Some(suite), ah: None, udp: false }
    }

    pub(crate) const fn esp_in_udp(suite: Suite) -> Self {
        Self { esp: Some(suite), ah: None, udp: true }
    }

    pub(crate) const fn ah(authentication: Authentication) -> Self {
        Self { esp: None, ah: Some(authentication), udp: false }
    }

    pub(crate) const fn ah_esp(authentication: Authentication, suite: Suite) -> Self {
        Self { esp: Some(suite), ah: Some(authentication), udp: false }
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(authentication) = self.ah {
            write!(f, "AH with {authentication}{}", if self.esp.is_some() { " over " } else { "" })?;
        }
        if let Some(suite) = self.esp {
            write!(f, "ESP with {suite}{}", if self.udp { " in UDP" } else { "" })?;
        }
        Ok(())
    }
}

/// One connection with the guest.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Version of the packets on the wire.
    pub(crate) version: IpVersion,
    /// Version of the packets that are protected; the same without a tunnel.
    pub(crate) inner: IpVersion,
    pub(crate) transport: Option<Bundle>,
    pub(crate) tunnel: Option<Bundle>,
    pub(crate) esn: bool,
    /// The sequence number that both sides used last.
    pub(crate) last: u64,
    pub(crate) replay_window: u32,
    /// UDP around ESP has other source ports than 4500, as a NAT makes them.
    pub(crate) translated: bool,
    /// IKE messages go to port 4500 as well, in clear.
    pub(crate) ike: bool,
    /// AH of IPv4 is 4-byte aligned, as RFC 4302 has it; Linux does it only if told.
    pub(crate) align4: bool,
    /// Padding and dummy packets of this side.
    pub(crate) traffic_flow: TrafficFlow,
    /// What is in the packets that this side sends besides.
    pub(crate) dress: Dress,
    /// What the guest's have: options of its program.
    pub(crate) guest_dress: &'static str,
    /// Payload sizes of pings and datagrams.
    pub(crate) sizes: &'static [usize],
    /// How long an answer may take. Emulation on a busy machine is slow, and a wait ends as soon as there is an answer.
    pub(crate) patience: Duration,
}

/// One association: what its two directions have in common.
struct Layer {
    mode: Mode,
    operation: Operation,
    ends: Ends,
    suite: Suite,
    udp: bool,
    /// Distinguishes the layers of a case.
    number: u32,
}

/// Who sends under an SA.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Us,
    Guest,
}

impl Case {
    /// ESP or AH of one mode, without anything special.
    pub(crate) fn new(name: impl Into<String>, mode: Mode, version: IpVersion, bundle: Bundle) -> Self {
        let tunnel = mode == Mode::Tunnel;
        Self {
            name: name.into(),
            version,
            inner: version,
            transport: (!tunnel).then_some(bundle),
            tunnel: tunnel.then_some(bundle),
            esn: false,
            last: 0,
            replay_window: 64,
            translated: false,
            ike: false,
            align4: false,
            traffic_flow: TrafficFlow::NONE,
            dress: Dress::Plain,
            guest_dress: "",
            sizes: &[0, 1, 56, 1000, 1300],
            patience: Duration::from_secs(4),
        }
    }

    /// Transport mode inside a tunnel.
    pub(crate) fn nested(name: impl Into<String>, (version, inner): (IpVersion, IpVersion), transport: Bundle, tunnel: Bundle) -> Self {
        // Linux makes no packets above IPv6's least MTU of these when the tunnel is IPv6 and carries IPv4, and fragments of ESP are not opened here.
        let sizes = &[0, 1, 56, 500, 1000];
        Self { inner, transport: Some(transport), sizes, ..Self::new(name, Mode::Tunnel, version, tunnel) }
    }

    /// The two ends of the wire.
    pub(crate) fn outer_ends(&self) -> Ends {
        let [ours, guests] = if self.version == IpVersion::V4 { ["192.0.2.1", "192.0.2.2"] } else { ["2001:db8::1", "2001:db8::2"] };
        ends(ours, guests)
    }

    /// Between whom the packets go that are protected.
    pub(crate) fn ends(&self) -> Ends {
        match (&self.tunnel, self.inner) {
            (None, _) => self.outer_ends(),
            (Some(_), IpVersion::V4) => ends("10.0.1.1", "10.0.2.1"),
            (Some(_), IpVersion::V6) => ends("fd00:1::1", "fd00:2::1"),
        }
    }

    /// What every packet of this case must look like on the wire.
    pub(crate) fn on_the_wire(&self) -> Seen {
        let outer = self.tunnel.or(self.transport).unwrap();
        Seen::Protected { protocol: if outer.ah.is_some() { IpProtocol::AH } else { IpProtocol::ESP }, in_udp: outer.udp }
    }

    /// Whether nothing of the payload can be read on the wire.
    pub(crate) fn encrypts(&self) -> bool {
        [self.tunnel, self.transport].into_iter().flatten().filter_map(|bundle| bundle.esp).any(|suite| suite.encryption != Encryption::Null)
    }

    /// The associations, the innermost first, as Linux's templates have them.
    fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        for (bundle, mode, ends) in [(self.transport, Mode::Transport, self.ends()), (self.tunnel, Mode::Tunnel, self.outer_ends())] {
            let Some(Bundle { esp, ah, udp }) = bundle else { continue };
            if let Some(suite) = esp {
                layers.push(Layer { mode, operation: Operation::Esp, ends, suite, udp, number: layers.len() as u32 + 1 });
            }
            if let Some(authentication) = ah {
                // Around ESP, AH protects the packet that is there already.
                let mode = if esp.is_some() { Mode::Transport } else { mode };
                layers.push(Layer {
                    mode,
                    operation: Operation::Ah,
                    ends,
                    suite: Suite::pair(Encryption::Null, authentication),
                    udp: false,
                    number: layers.len() as u32 + 1,
                });
            }
        }
        layers
    }

    /// Number of associations each way.
    pub(crate) fn depth(&self) -> usize {
        self.layers().len()
    }

    /// What the guest is told: commands for `ip -batch`.
    pub(crate) fn guest_commands(&self) -> String {
        let mut script = String::new();
        let between = |ends: Ends, from: From| match from {
            From::Us => (ends.ours, ends.guests),
            From::Guest => (ends.guests, ends.ours),
        };
        for layer in self.layers() {
            for from in [From::Us, From::Guest] {
                let (source, destination) = between(layer.ends, from);
                let mut flags = vec![];
                if self.esn {
                    flags.push("esn");
                }
                if self.align4 && layer.operation == Operation::Ah {
                    flags.push("align4");
                }
                if layer.mode == Mode::Tunnel && self.inner != self.version {
                    flags.push("af-unspec");
                }
                let flags = if flags.is_empty() { String::new() } else { format!("flag {}", flags.join(" ")) };
                let algorithm = match layer.operation {
                    Operation::Esp => layer.suite.xfrm(&layer.key(from, true), &layer.key(from, false)),
                    Operation::Ah => auth(layer.suite.authentication, &layer.key(from, false)),
                };
                let numbers = if self.last == 0 {
                    String::new()
                } else {
                    // Of a state one direction is used; the other's numbers do no harm.
                    let (low, high) = (self.last as u32, self.last >> 32);
                    let high = if self.esn { format!(" replay-seq-hi {high} replay-oseq-hi {high}") } else { String::new() };
                    format!("replay-seq {low} replay-oseq {low}{high}")
                };
                let any = if self.version == IpVersion::V4 { "0.0.0.0" } else { "::" };
                let encapsulation = if layer.udp { format!("encap espinudp {} {UDP_ESP_PORT} {any}", self.ports(from)) } else { String::new() };
                writeln!(
                    script,
                    "xfrm state add src {source} dst {destination} proto {} spi {} reqid {} mode {} replay-window {} {numbers} {flags} {algorithm} {encapsulation}",
                    proto(layer.operation),
                    layer.spi(from).0,
                    layer.number,
                    mode(layer.mode),
                    self.replay_window,
                )
                .unwrap();
            }
        }
        // Linux also checks the UDP packets that ESP is in by policy, and in what they came.
        let in_udp = self.layers().iter().position(|layer| layer.udp);
        let policies = [Some((0, String::new())), in_udp.map(|number| (number + 1, format!("proto 17 dport {UDP_ESP_PORT}")))];
        for ((from, direction), (first, selector)) in
            [(From::Us, "in"), (From::Guest, "out")].into_iter().flat_map(|way| policies.iter().flatten().map(move |policy| (way, policy)))
        {
            let own = &self.layers()[*first..];
            // With nothing around it, UDP goes between the ends of the wire.
            let ends = if self.tunnel.is_some() && own.is_empty() { self.outer_ends() } else { self.ends() };
            let (source, destination) = between(ends, from);
            let priority = 100 - first;
            write!(script, "xfrm policy add src {source} dst {destination} {selector} dir {direction} priority {priority}").unwrap();
            for layer in own {
                let (source, destination) = between(layer.ends, from);
                write!(
                    script,
                    " tmpl src {source} dst {destination} proto {} reqid {} mode {} level required",
                    proto(layer.operation),
                    layer.number,
                    mode(layer.mode)
                )
                .unwrap();
            }
            script.push('\n');
        }
        script
    }

    /// What this side's host is told.
    pub(crate) fn our_sas(&self) -> Vec<SaParameters> {
        let layers = self.layers();
        let nested = self.tunnel.is_some() && self.transport.is_some();
        let mut sas = Vec::new();
        for from in [From::Us, From::Guest] {
            let way = if from == From::Us { "out" } else { "in" };
            for (bundle, mode) in [(self.tunnel, Mode::Tunnel), (self.transport, Mode::Transport)] {
                let Some(bundle) = bundle else { continue };
                let ends = if mode == Mode::Tunnel { self.outer_ends() } else { self.ends() };
                let own = layers.iter().filter(|layer| layer.ends == ends);
                let inner = self.ends();
                let (source, destination, selector) = match from {
                    From::Us => (ends.ours, ends.guests, Selector::between(inner.ours, inner.guests)),
                    From::Guest => (ends.guests, ends.ours, Selector::between(inner.guests, inner.ours)),
                };
                sas.push(SaParameters {
                    // A tunnel with a transport bundle inside has nothing else to carry.
                    selectors: if nested && mode == Mode::Tunnel { vec![] } else { vec![selector] },
                    replay_window: self.replay_window,
                    iv_mask: 0x5eed_0000_1234,
                    udp_encapsulation: bundle.udp.then_some(UdpEncapsulation { source_port: self.ports(from), destination_port: UDP_ESP_PORT }),
                    inside: (nested && mode == Mode::Transport).then(|| format!("tunnel-{way}")),
                    ah_alignment: (bundle.ah.is_some() && ends.ours.is_v4() && !self.align4).then_some(8),
                    traffic_flow: if from == From::Us { self.traffic_flow } else { TrafficFlow::NONE },
                    allow_unauthenticated: bundle.esp.is_some_and(Suite::is_bare),
                    ..SaParameters::new(
                        format!("{}-{way}", self::mode(mode)),
                        if from == From::Us { Direction::Outbound } else { Direction::Inbound },
                        mode,
                        (source, destination),
                        own.map(|layer| layer.association(from, self)).collect(),
                    )
                });
            }
        }
        sas
    }

    /// The source port of UDP around ESP.
    fn ports(&self, from: From) -> u16 {
        match (self.translated, from) {
            (false, _) => UDP_ESP_PORT,
            (true, From::Us) => 40_001,
            (true, From::Guest) => 40_002,
        }
    }
}

impl Layer {
    fn spi(&self, from: From) -> Spi {
        Spi(if from == From::Us { 0x1000 } else { 0x2000 } + self.number)
    }

    /// A key of its own for each layer, direction and use.
    fn key(&self, from: From, encryption: bool) -> Vec<u8> {
        let length = if encryption { self.suite.encryption.key_length() } else { self.suite.authentication.key_length() };
        let seed = self.spi(from).0.wrapping_mul(0x9e37_79b9) ^ u32::from(encryption);
        (0..length as u32).map(|i| (seed.wrapping_add(i).wrapping_mul(0x85eb_ca6b) >> 23) as u8).collect()
    }

    fn association(&self, from: From, case: &Case) -> AssociationParameters {
        let key = |encryption| SecretBytes::from(self.key(from, encryption));
        // Outbound: the number used last; inbound: the high half of the one that comes first.
        let high = if from == From::Us { case.last } else { case.last + 1 } >> 32;
        AssociationParameters {
            operation: self.operation,
            spi: self.spi(from),
            encryption: self.suite.encryption,
            encryption_key: key(true),
            icv_length: self.suite.icv_length,
            authentication: self.suite.authentication,
            authentication_key: key(false),
            extended_sequence_numbers: case.esn,
            sequence_number_high: if case.esn { high as u32 } else { 0 },
            sequence_number: case.last as u32,
        }
    }
}

const fn proto(operation: Operation) -> &'static str {
    match operation {
        Operation::Esp => "esp",
        Operation::Ah => "ah",
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    }
}

fn ends(ours: &str, guests: &str) -> Ends {
    let address = |text: &str| text.parse::<IpAddress>().unwrap();
    Ends { ours: address(ours), guests: address(guests) }
}
