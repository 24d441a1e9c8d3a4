//! The cryptography of the double: a NIC as the contract has it, packet by packet and written for that alone.

use std::collections::HashMap;

use ipsec::{AhParameters, AhSa, Authentication, Crypto, Encryption, EspParameters, EspSa, Provider, Scratch, esn};
use ndis::{
    Associations, AuthenticationAlgorithm, CryptoStatus, Direction, EncryptionAlgorithm, IpsecOffloadV2, IpsecReceive, NetBufferList, OffloadHandle, Operation,
    SaBundle, Status, UdpEspType, UpdateSa,
};
use packet::{AhPacket, IpAddress, IpProtocol, ParsedIp};
use secret::SecretBytes;

/// Numbers of one association.
pub struct Numbers {
    pub spi: u32,
    extended: bool,
    window: u32,
    /// Outbound: the last sent; inbound: the highest verified.
    reference: u64,
    verified: bool,
}

impl Numbers {
    fn new(spi: u32, extended: bool, high: u32, window: u32) -> Self {
        Self { spi, extended, window, reference: u64::from(high) << 32 | 0x7fff_ffff, verified: false }
    }

    fn send(&mut self, low: u32) -> u64 {
        let sequence = if self.extended { esn::nearest(low, self.reference) } else { u64::from(low) };
        self.reference = self.reference.max(sequence);
        sequence
    }

    fn infer(&self, low: u32) -> u64 {
        match (self.extended, self.verified) {
            (false, _) => u64::from(low),
            (true, true) => esn::infer(low, self.reference, self.window),
            (true, false) => esn::nearest(low, self.reference),
        }
    }

    fn verified(&mut self, sequence: u64) {
        self.reference = if self.verified { self.reference.max(sequence) } else { sequence };
        self.verified = true;
    }
}

pub struct NicSa {
    esp: Option<(EspSa<Crypto>, Numbers)>,
    ah: Option<(AhSa<Crypto>, Numbers)>,
    pub direction: Direction,
    destination: Option<core::net::IpAddr>,
    source: Option<core::net::IpAddr>,
    pub udp: Option<UdpEspType>,
}

const fn size(size: ndis::AesKeySize) -> ipsec::AesKeySize {
    match size {
        ndis::AesKeySize::Aes128 => ipsec::AesKeySize::Aes128,
        ndis::AesKeySize::Aes192 => ipsec::AesKeySize::Aes192,
        ndis::AesKeySize::Aes256 => ipsec::AesKeySize::Aes256,
    }
}

const fn encryption(algorithm: EncryptionAlgorithm) -> Encryption {
    match algorithm {
        EncryptionAlgorithm::Null => Encryption::Null,
        EncryptionAlgorithm::DesCbc => Encryption::DesCbc,
        EncryptionAlgorithm::TripleDesCbc => Encryption::TripleDesCbc,
        EncryptionAlgorithm::AesGcm(bits) => Encryption::AesGcm(size(bits)),
        EncryptionAlgorithm::AesCbc(bits) => Encryption::AesCbc(size(bits)),
        EncryptionAlgorithm::ChaCha20Poly1305 => Encryption::ChaCha20Poly1305,
    }
}

const fn authentication(algorithm: AuthenticationAlgorithm) -> Authentication {
    match algorithm {
        AuthenticationAlgorithm::HmacMd5 => Authentication::HmacMd5,
        AuthenticationAlgorithm::HmacSha1 => Authentication::HmacSha1,
        AuthenticationAlgorithm::HmacSha256 => Authentication::HmacSha256,
        AuthenticationAlgorithm::AesGmac(bits) => Authentication::AesGmac(size(bits)),
        AuthenticationAlgorithm::HmacSha384 => Authentication::HmacSha384,
        AuthenticationAlgorithm::HmacSha512 => Authentication::HmacSha512,
    }
}

impl NicSa {
    pub fn new(bundle: &SaBundle) -> Self {
        let window = bundle.extension.replay_window.unwrap_or(0);
        let iv_mask = bundle.extension.iv_mask;
        let esp = bundle.associations.esp().map(|esp| {
            let none = SecretBytes::default();
            let parameters = EspParameters {
                encryption: encryption(esp.encryption.algorithm),
                encryption_key: &esp.encryption.key,
                icv_length: esp.encryption.additional_info as usize,
                authentication: esp.authentication.as_ref().map_or(Authentication::None, |keyed| authentication(keyed.algorithm)),
                authentication_key: esp.authentication.as_ref().map_or(&none, |keyed| &keyed.key),
                allow_unauthenticated: bundle.extension.allow_unauthenticated || matches!(bundle.associations, Associations::AhOverEsp { .. }),
                extended_sequence_numbers: esp.extended_sequence_numbers,
                iv_mask,
            };
            let sa = EspSa::new(&Crypto::default(), &parameters).unwrap();
            (sa, Numbers::new(esp.spi.0, esp.extended_sequence_numbers, esp.sequence_number_high, window))
        });
        let ah = bundle.associations.ah().map(|ah| {
            let parameters = AhParameters {
                authentication: authentication(ah.authentication.algorithm),
                key: &ah.authentication.key,
                extended_sequence_numbers: ah.extended_sequence_numbers,
                iv_mask,
            };
            let sa = AhSa::new(&Crypto::default(), &parameters).unwrap();
            (sa, Numbers::new(ah.spi.0, ah.extended_sequence_numbers, ah.sequence_number_high, window))
        });
        let (source, destination) = (bundle.endpoints.source, bundle.endpoints.destination);
        Self { esp, ah, direction: bundle.direction, destination, source, udp: bundle.udp_esp }
    }

    pub fn update(&mut self, update: &UpdateSa) -> Status {
        let numbers = match update.operation {
            Operation::Esp => self.esp.as_mut().map(|(_, numbers)| numbers),
            Operation::Ah => self.ah.as_mut().map(|(_, numbers)| numbers),
        };
        let Some(numbers) = numbers.filter(|numbers| numbers.spi == update.spi.0 && numbers.extended) else { return Status::INVALID_PARAMETER };
        let (high, now) = (update.sequence_number_high, (numbers.reference >> 32) as u32);
        let before_wrap = now + 1 == high && numbers.reference as u32 > 0x7fff_ffff;
        if high > now && !before_wrap {
            numbers.reference = u64::from(high) << 32;
        }
        Status::SUCCESS
    }

    /// SPI and operation of the first header.
    fn first(&self) -> (u32, Operation) {
        match (&self.ah, &self.esp) {
            (Some((_, numbers)), _) => (numbers.spi, Operation::Ah),
            (None, Some((_, numbers))) => (numbers.spi, Operation::Esp),
            (None, None) => panic!("an SA of nothing"),
        }
    }
}

/// Where the headers of a portion are, from the start of the frame.
#[derive(Clone, Copy, Debug)]
struct Places {
    ip: usize,
    ah: Option<usize>,
    esp: Option<usize>,
    end: usize,
    udp: bool,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The IPsec headers of the packet at `ip`, as they stand.
fn places(frame: &[u8], ip: usize) -> Option<Places> {
    let parsed = ParsedIp::parse(&frame[ip..]).ok().filter(|parsed| !parsed.fragment().is_part())?;
    let (mut at, mut protocol, end) = (ip + parsed.header_len(), parsed.protocol(), ip + parsed.total_len());
    let mut places = Places { ip, ah: None, esp: None, end, udp: false };
    if protocol == IpProtocol::UDP && parsed.ports().is_some_and(|(_, port)| port == 4500) && end - at >= 16 && word(frame, at + 8) != 0 {
        (places.udp, protocol) = (true, IpProtocol::ESP);
        at += 8;
    }
    if protocol == IpProtocol::AH {
        let ah = AhPacket::new(&frame[at..end]).ok()?;
        places.ah = Some(at);
        at += ah.header_len();
        protocol = ah.next_header();
    }
    if protocol == IpProtocol::ESP && end - at >= 8 {
        places.esp = Some(at);
    }
    (places.ah.is_some() || places.esp.is_some()).then_some(places)
}

/// Seals under the first bundle, then under the tunnel; whether it could.
pub fn seal(table: &mut HashMap<u64, NicSa>, list: &mut NetBufferList, first: OffloadHandle, tunnel: Option<OffloadHandle>) -> bool {
    let l3 = usize::from(list.l3_offset);
    let live = |handle: OffloadHandle| table.get(&handle.to_bits()).is_some_and(|sa| sa.direction == Direction::Outbound);
    if !live(first) || !tunnel.is_none_or(live) {
        return false;
    }
    let header = list.oob.header_transmit();
    let bytes = list.buffer.as_mut_slice();
    let outer = places(bytes, l3).unwrap();
    let mut own = outer;
    if let Some(tunnel) = tunnel {
        // What is inside begins behind the tunnel's headers.
        let sa = &table[&tunnel.to_bits()];
        let inside = match (&sa.esp, outer.ah) {
            (Some((esp, _)), _) => outer.esp.unwrap() + esp.prefix_length(),
            (None, Some(ah)) => ah + AhPacket::new(&bytes[ah..]).unwrap().header_len(),
            _ => panic!("a tunnel of nothing"),
        };
        own = places(bytes, inside).unwrap();
    }
    let sa = table.get_mut(&first.to_bits()).unwrap();
    // Another ESP may stand behind an AH alone.
    let at = |place: Option<usize>| place.map_or(0, |at| (at - l3) / 4) as u8;
    assert_eq!(header.ah_header_offset, at(own.ah.filter(|_| sa.ah.is_some())));
    assert_eq!(header.esp_header_offset, at(own.esp.filter(|_| sa.esp.is_some())));
    if let (Some((esp, _)), Some(at)) = (&sa.esp, own.esp) {
        let trailer = &bytes[at..own.end - esp.icv_length()];
        assert_eq!([header.pad_length, header.next_header], trailer[trailer.len() - 2..]);
    }
    let mut good = seal_portion(sa, bytes, own);
    if let Some(tunnel) = tunnel {
        good &= seal_portion(table.get_mut(&tunnel.to_bits()).unwrap(), bytes, outer);
    }
    good
}

fn seal_portion(sa: &mut NicSa, bytes: &mut [u8], at: Places) -> bool {
    assert_eq!(
        at.udp,
        match sa.udp {
            None => false,
            Some(UdpEspType::Transport | UdpEspType::Tunnel) => true,
            Some(UdpEspType::TransportOverUdpTunnel | UdpEspType::UdpTransportOverTunnel) => at.udp,
        }
    );
    if let Some((esp, numbers)) = &mut sa.esp {
        let packet = &mut bytes[at.esp.unwrap()..at.end];
        assert_eq!(word(packet, 0), numbers.spi);
        let sequence = numbers.send(word(packet, 4));
        let mut jobs = [esp.seal_job(packet, sequence).unwrap()];
        Crypto::default().seal(&mut jobs);
        if !jobs[0].verdict.is_good() {
            return false;
        }
    }
    if let Some((ah, numbers)) = &mut sa.ah {
        let place = at.ah.unwrap();
        assert_eq!(word(bytes, place + 4), numbers.spi);
        let sequence = numbers.send(word(bytes, place + 8));
        ah.seal_packet(&Crypto::default(), &mut bytes[at.ip..at.end], place - at.ip, sequence).unwrap();
    }
    true
}

/// What became of a portion.
enum Portion {
    Nothing,
    Done(CryptoStatus, Option<usize>),
}

/// Opens the outer portion, and then the inner one if both can be done at once.
pub fn open(table: &mut HashMap<u64, NicSa>, list: &mut NetBufferList, config: &IpsecOffloadV2, ask: bool, report: Option<CryptoStatus>) {
    let l3 = usize::from(list.l3_offset);
    let frame = list.buffer.as_slice();
    if !config.esp && !config.ah {
        return;
    }
    let Some(Ok(parsed)) = frame.get(l3..).map(ParsedIp::parse) else { return };
    if l3 != 0 && frame[12..14] != packet::EtherType::from(parsed.version()).0.to_be_bytes() {
        return;
    }
    let bytes = list.buffer.as_mut_slice();
    let Portion::Done(mut status, inside) = open_portion(table, bytes, l3, report, true) else { return };
    let mut next = false;
    if let Some(inside) = inside.filter(|_| config.transport_tunnel_combined)
        && let Portion::Done(inner, _) = open_portion(table, bytes, inside, None, false)
    {
        (status, next) = (inner, true);
    }
    list.oob.set_ipsec_receive(IpsecReceive { sa_delete_request: ask, crypto_done: true, next_crypto_done: next, crypto_status: status });
}

fn open_portion(table: &mut HashMap<u64, NicSa>, bytes: &mut [u8], ip: usize, report: Option<CryptoStatus>, outer: bool) -> Portion {
    let Some(at) = places(bytes, ip) else { return Portion::Nothing };
    let parsed = ParsedIp::parse(&bytes[ip..]).unwrap();
    let (first, place) = at.ah.map_or_else(|| (Operation::Esp, at.esp.unwrap()), |ah| (Operation::Ah, ah + 4));
    let spi = word(bytes, place);
    let admits = |filter: Option<core::net::IpAddr>, address: IpAddress| filter.is_none_or(|only| IpAddress::from(only) == address);
    let found = table
        .values_mut()
        .find(|sa| sa.direction == Direction::Inbound && sa.first() == (spi, first) && admits(sa.destination, parsed.dst()) && admits(sa.source, parsed.src()));
    let Some(sa) = found else { return Portion::Nothing };
    let wants_udp = match sa.udp {
        None => false,
        Some(UdpEspType::Transport | UdpEspType::Tunnel) => true,
        Some(UdpEspType::TransportOverUdpTunnel) => outer,
        Some(UdpEspType::UdpTransportOverTunnel) => !outer,
    };
    let tunnel = matches!(sa.udp, Some(UdpEspType::Tunnel)) || (outer && sa.udp.is_some_and(|kind| kind != UdpEspType::Transport));
    let failed = |tunnel_status, transport_status| Portion::Done(if tunnel { tunnel_status } else { transport_status }, None);
    if let Some(status) = report {
        return Portion::Done(status, None);
    }
    let follows = |(_, numbers): &(EspSa<Crypto>, Numbers)| at.esp.is_some_and(|at| word(bytes, at) == numbers.spi);
    if wants_udp != at.udp || (sa.ah.is_some() && sa.esp.as_ref().is_some_and(|esp| !follows(esp))) {
        return Portion::Done(CryptoStatus::InvalidProtocol, None);
    }
    let (mut next, mut inside) = (IpProtocol(0), at.end);
    if let Some((ah, numbers)) = &mut sa.ah {
        let place = at.ah.unwrap();
        let header = AhPacket::new(&bytes[place..at.end]).unwrap();
        if !ah.accepts_header_length(header.header_len()) {
            return Portion::Done(CryptoStatus::InvalidPacketSyntax, None);
        }
        (next, inside) = (header.next_header(), place + header.header_len());
        let sequence = numbers.infer(header.sequence());
        if !ah.open_packet(&Crypto::default(), &bytes[at.ip..at.end], place - at.ip, sequence) {
            return failed(CryptoStatus::TunnelAhAuthFailed, CryptoStatus::TransportAhAuthFailed);
        }
        numbers.verified(sequence);
    }
    let mut end = at.end;
    if let Some((esp, numbers)) = &mut sa.esp {
        let place = at.esp.unwrap();
        let sequence = numbers.infer(word(bytes, place + 4));
        let as_it_came = bytes[place..at.end].to_vec();
        let Ok(job) = esp.open_job(&mut bytes[place..at.end], sequence) else { return Portion::Done(CryptoStatus::InvalidPacketSyntax, None) };
        let mut jobs = [job];
        Crypto::default().open(&mut jobs, &mut Scratch::new());
        if !jobs[0].verdict.is_good() {
            return failed(CryptoStatus::TunnelEspAuthFailed, CryptoStatus::TransportEspAuthFailed);
        }
        numbers.verified(sequence);
        let text = esp.text(at.end - place).unwrap();
        let Ok((length, trailer)) = ipsec::read_trailer(&bytes[place + text.start..place + text.end]) else {
            bytes[place..at.end].copy_from_slice(&as_it_came);
            return Portion::Done(CryptoStatus::InvalidPacketSyntax, None);
        };
        (next, inside) = (IpProtocol(trailer.next_header), place + text.start);
        end = inside + length;
        if disagrees(next, &bytes[inside..end]) {
            bytes[place..at.end].copy_from_slice(&as_it_came);
            return Portion::Done(CryptoStatus::GenericError, None);
        }
    } else if disagrees(next, &bytes[inside..end]) {
        return Portion::Done(CryptoStatus::GenericError, None);
    }
    let tunnelled = (next == IpProtocol::IPV4 || next == IpProtocol::IPV6) && ParsedIp::parse(&bytes[inside..end]).is_ok();
    Portion::Done(CryptoStatus::Success, tunnelled.then_some(inside))
}

fn disagrees(announced: IpProtocol, payload: &[u8]) -> bool {
    let version = payload.first().map(|first| first >> 4);
    (announced == IpProtocol::IPV4 && version != Some(4)) || (announced == IpProtocol::IPV6 && version != Some(6))
}
