//! What must hold when any frames come in to a host and go out of it, beyond that nothing panics.
//!
//! Two hosts, one that offloads to its software NIC and one that does everything in software, must do the same. The provider is the insecure one, so that
//! made-up packets get past authentication. Shared by the fuzz target and by the test that replays its seeds and crashes.
//!
//! Input: a byte of choices (medium, what becomes of clear text), then frames: a byte (1: its ICVs are made to fit), the length (2 bytes), the bytes.

use std::sync::Arc;

use ipsec::insecure::Toy;
use ipsec::{AesKeySize, AhParameters, AhSa, Authentication, Encryption};
use ndis::{Datapath, Direction, LaneContext, MemoryRegistry, MiniportDriver, NblBatch, Protocol, Stack};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{AhPacket, Buffer, BufferPool, EthernetFrame, Frame, FrameBatch, IpProtocol, Medium, ParsedIp, Spi, Time, UDP_ESP_PORT, UDP_HEADER_LEN};
use sa_table::{SEED_WORDS, Seed};
use secret::SecretBytes;
use transport::{
    AssociationParameters, ClearPolicy, InboundBatch, InboundVerdict, Mode, OffloadPolicy, SaParameters, Transport, TransportConfig, TransportLane,
    UdpEncapsulation, Verdict,
};

const ICV: usize = 16;
/// Algorithm of all AHs.
const AH: Authentication = Authentication::HmacSha256;
/// ESP header and IV.
const PREFIX: usize = 16;
/// SPI of the SA with extended sequence numbers: NIC and transport may infer different high halves after packets that are authentic and malformed.
const EXTENDED: Spi = Spi(0x1003);
/// SPIs of the SA under which packets go out and come in again: ESP, and AH over it.
const LOOPED: [Spi; 2] = [Spi(0x2001), Spi(0x2002)];
const MAX_FRAMES: usize = 100;
/// Headers of protection whose ICVs are made to fit.
const MAX_DEPTH: u8 = 6;

/// Takes `data` for what comes in from a wire, and for what is to be sent.
pub(crate) fn check(data: &[u8]) {
    let Some((&choices, rest)) = data.split_first() else { return };
    let medium = if choices & 1 == 0 { Medium::Ip } else { Medium::Ethernet };
    let clear = if choices & 2 == 0 { ClearPolicy::Decide } else { ClearPolicy::PassAll };
    let frames = frames(medium, rest);
    let (mut offloading, mut software) = (Host::new(medium, clear, true), Host::new(medium, clear, false));
    let (one, other) = (offloading.receive(&frames), software.receive(&frames));
    let taken = one.iter().any(|outcome| outcome.verdict.associations.iter().any(|seen| LOOPED.contains(&seen.spi)));
    for (one, other) in one.iter().zip(&other) {
        if one.verdict.associations.iter().chain(&other.verdict.associations).any(|seen| seen.spi == EXTENDED) {
            continue;
        }
        assert_eq!(one.bytes, other.bytes);
        // A packet that fails in more than one way is dropped for what is looked at first.
        let kind = |outcome: &Outcome| core::mem::discriminant(&outcome.verdict.verdict);
        assert_eq!((kind(one), &one.verdict.associations), (kind(other), &other.verdict.associations));
    }
    let (one, other) = (offloading.send(&frames), software.send(&frames));
    assert_eq!(one, other, "the same bytes on the wire");
    // What went out comes in again, unless somebody forged its numbers before.
    if taken {
        return;
    }
    let sent: Vec<_> = frames.iter().filter_map(|frame| protectable(medium, frame)).collect();
    for outcomes in [offloading.receive(&one), software.receive(&one)] {
        assert_eq!(outcomes.len(), sent.len());
        for (outcome, frame) in outcomes.iter().zip(&sent) {
            // One that carries IPsec itself is looked at again once the outer layer is off.
            if !carries_ipsec(medium, frame) {
                assert_eq!(outcome.verdict.verdict, Verdict::Delivered);
                assert_eq!(outcome.bytes.as_deref(), Some(*frame));
            }
        }
    }
}

fn frames(medium: Medium, mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let (Some((&[choices, high, low], rest)), true) = (data.split_first_chunk(), frames.len() < MAX_FRAMES) {
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        data = rest;
        let mut frame = frame.to_vec();
        if choices & 1 != 0
            && let Some(l3) = l3_offset(medium, &frame)
        {
            authenticate(&mut frame[l3..], 0);
        }
        frames.push(frame);
    }
    frames
}

fn l3_offset(medium: Medium, frame: &[u8]) -> Option<usize> {
    match medium {
        Medium::Ip => Some(0),
        Medium::Ethernet => EthernetFrame::new(frame).ok().map(|frame| frame.l3_offset()),
    }
}

/// Makes the ICVs of an IPsec packet, and of one inside it, fit: the innermost first.
fn authenticate(ip: &mut [u8], depth: u8) {
    let Ok(parsed) = ParsedIp::parse(ip) else { return };
    if parsed.fragment().is_part() || depth == MAX_DEPTH {
        return;
    }
    let (at, end) = (parsed.header_len(), parsed.total_len());
    match parsed.protocol() {
        IpProtocol::ESP => authenticate_esp(&mut ip[at..end], depth),
        IpProtocol::UDP if parsed.ports().is_some_and(|(_, port)| port == UDP_ESP_PORT) && end - at > UDP_HEADER_LEN => {
            authenticate_esp(&mut ip[at + UDP_HEADER_LEN..end], depth);
        }
        IpProtocol::AH => {
            let Ok(ah) = AhPacket::new(&ip[at..end]) else { return };
            let (next, length, low) = (ah.next_header(), ah.header_len(), ah.sequence());
            match next {
                IpProtocol::ESP => authenticate_esp(&mut ip[at + length..end], depth + 1),
                IpProtocol::IPV4 | IpProtocol::IPV6 => authenticate(&mut ip[at + length..end], depth + 1),
                _ => {}
            }
            let key = SecretBytes::from(vec![7; AH.key_length()]);
            let parameters = AhParameters { authentication: AH, key: &key, extended_sequence_numbers: false, iv_mask: 0 };
            let sa = AhSa::new(&Toy, &parameters).expect("the key has its length");
            // What has no AH of this kind stays as it is.
            let _ = sa.seal_packet(&Toy, &mut ip[..end], at, u64::from(low));
        }
        _ => {}
    }
}

fn authenticate_esp(esp: &mut [u8], depth: u8) {
    if esp.len() < PREFIX + ICV || depth >= MAX_DEPTH {
        return;
    }
    let text = PREFIX..esp.len() - ICV;
    authenticate(&mut esp[text.clone()], depth + 1);
    let spi = Spi::from_be_bytes([esp[0], esp[1], esp[2], esp[3]]);
    let low = u32::from_be_bytes([esp[4], esp[5], esp[6], esp[7]]);
    let aad = ipsec::Aad::esp(spi.to_be_bytes(), u64::from(low), spi == EXTENDED);
    let checksum = Toy::checksum(aad.as_bytes(), &esp[text.clone()]);
    esp[text.end..].fill(checksum);
}

/// The frame without the link's padding, if the outbound policy of these hosts protects it.
fn protectable(medium: Medium, frame: &[u8]) -> Option<&[u8]> {
    let l3 = match medium {
        Medium::Ip => 0,
        Medium::Ethernet => {
            let ethernet = EthernetFrame::new(frame).ok()?;
            let packet::EthernetKind::Type(ethertype) = ethernet.kind() else { return None };
            let l3 = ethernet.l3_offset();
            // Who looks at the type and who looks at the packet must see the same.
            (ethertype.ip_version() == Some(ParsedIp::parse(&frame[l3..]).ok()?.version())).then_some(l3)?
        }
    };
    let parsed = ParsedIp::parse(&frame[l3..]).ok()?;
    // Longer ones do not fit into an outer packet.
    (parsed.total_len() <= 60_000).then(|| &frame[..l3 + parsed.total_len()])
}

fn carries_ipsec(medium: Medium, frame: &[u8]) -> bool {
    let l3 = l3_offset(medium, frame).unwrap_or_default();
    let in_udp = |parsed: &ParsedIp| parsed.protocol() == IpProtocol::UDP && parsed.ports().is_some_and(|(_, port)| port == UDP_ESP_PORT);
    ParsedIp::parse(&frame[l3..]).is_ok_and(|parsed| [IpProtocol::ESP, IpProtocol::AH].contains(&parsed.protocol()) || in_udp(&parsed))
}

/// What became of a received frame.
struct Outcome {
    verdict: InboundVerdict,
    /// What was handed on of it.
    bytes: Option<Vec<u8>>,
}

struct Host {
    transport: Transport<Toy>,
    lane: TransportLane<Toy>,
    path: Datapath,
    pool: BufferPool,
    received: u64,
    sent: u64,
    _stack: Stack,
}

impl Host {
    fn new(medium: Medium, clear: ClearPolicy, offload: bool) -> Self {
        let seed = Seed::new([7; SEED_WORDS]);
        let transport = Transport::new(TransportConfig { medium, capacity: 32, seed, clear }, Toy).expect("32 is no capacity to refuse");
        let stack = Stack::new(Arc::new(MemoryRegistry::new()));
        let driver = NicDriver::new(NicParameters { medium, ..NicParameters::new("fuzz") }, || SoftwareEngine::new(Toy, 32).expect("nor here"));
        stack.add_adapter("fuzz", Arc::new(driver) as Arc<dyn MiniportDriver>).expect("it is the first");
        stack.bind(Arc::new(transport.clone()) as Arc<dyn Protocol>, "fuzz").expect("the adapter is there");
        stack.pump();
        let inbound = |spi, mode, source, destination| sa(spi, Direction::Inbound, mode, source, destination, offload);
        for parameters in [
            inbound(0x1001, Mode::Tunnel, "0.0.0.0", "192.0.2.2"),
            inbound(0x1002, Mode::Transport, "0.0.0.0", "0.0.0.0"),
            inbound(EXTENDED.0, Mode::Tunnel, "::", "2001:db8::2"),
            ah_alone(inbound(0x1004, Mode::Transport, "0.0.0.0", "0.0.0.0")),
            ah_alone(inbound(0x1005, Mode::Tunnel, "::", "2001:db8::2")),
            with_ah(inbound(0x1006, Mode::Tunnel, "0.0.0.0", "192.0.2.2")),
            in_udp(inbound(0x1008, Mode::Tunnel, "0.0.0.0", "192.0.2.2")),
            inside(in_udp(inbound(0x1009, Mode::Transport, "0.0.0.0", "0.0.0.0")), 0x1001),
            inside(with_ah(inbound(0x100a, Mode::Transport, "0.0.0.0", "0.0.0.0")), 0x1006),
            with_ah(inbound(LOOPED[0].0, Mode::Tunnel, "192.0.2.1", "192.0.2.3")),
            with_ah(sa(LOOPED[0].0, Direction::Outbound, Mode::Tunnel, "192.0.2.1", "192.0.2.3", offload)),
        ] {
            let sa = transport.add_sa(parameters, Time::ZERO).expect("they are all different");
            transport.protect(sa);
        }
        stack.pump();
        transport.service(Time::ZERO);
        let path = stack.open_datapath("fuzz").expect("the adapter is there");
        Self { lane: transport.open_lane(), transport, path, pool: BufferPool::new(), received: 0, sent: 0, _stack: stack }
    }

    /// Everything that comes in has one outcome.
    fn receive(&mut self, frames: &[Vec<u8>]) -> Vec<Outcome> {
        let mut batch = batch(frames);
        let mut cx = LaneContext { now: Time::ZERO, pool: &mut self.pool };
        let (mut up, mut out) = (NblBatch::new(), InboundBatch { report: true, ..InboundBatch::default() });
        assert_eq!(self.path.receive(&mut cx, &mut batch, &mut up), 0);
        self.lane.inbound(&mut cx, &mut up, &mut out);
        self.received += frames.len() as u64;
        let counts = self.transport.inbound();
        assert_eq!((counts.seen.packets, counts.ended()), (self.received, self.received));
        let (mut delivered, mut passed) = (out.delivered.iter(), out.passed.iter());
        let outcomes: Vec<_> = out
            .verdicts
            .iter()
            .zip(0..)
            .map(|(verdict, tag)| {
                assert_eq!(verdict.tag, tag);
                let frame = match verdict.verdict {
                    Verdict::Delivered => delivered.next(),
                    Verdict::Passed => passed.next(),
                    Verdict::Dropped(_) => None,
                };
                let bytes = frame.map(|frame| {
                    assert_eq!(frame.tag, tag);
                    frame.buffer.as_slice().to_vec()
                });
                if verdict.verdict == Verdict::Passed {
                    assert_eq!(bytes.as_ref(), frames.get(tag as usize), "what is passed is as it came");
                }
                Outcome { verdict: verdict.clone(), bytes }
            })
            .collect();
        assert_eq!((outcomes.len(), delivered.len(), passed.len()), (frames.len(), 0, 0));
        outcomes
    }

    /// Everything that goes out is protected: all of it in ESP of the one SA.
    fn send(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut batch, mut wire) = (batch(frames), FrameBatch::new());
        let mut cx = LaneContext { now: Time::ZERO, pool: &mut self.pool };
        self.lane.outbound(&mut cx, &mut batch, &mut self.path, &mut wire);
        self.sent += frames.len() as u64;
        let counts = self.transport.outbound();
        assert_eq!((counts.seen.packets, counts.ended(), counts.clear.packets), (self.sent, self.sent, 0));
        assert_eq!(counts.offloaded.packets + counts.software.packets, wire.len() as u64);
        wire.into_iter().map(|frame| frame.buffer.as_slice().to_vec()).collect()
    }
}

fn batch(frames: &[Vec<u8>]) -> FrameBatch {
    frames.iter().zip(0..).map(|(bytes, tag)| Frame { tag, ..Frame::new(Buffer::copy_from(bytes)) }).collect()
}

fn sa(spi: u32, direction: Direction, mode: Mode, source: &str, destination: &str, offload: bool) -> SaParameters {
    let encryption = Encryption::AesGcm(AesKeySize::Aes128);
    let address = |text: &str| text.parse().expect("it is an address");
    SaParameters {
        iv_mask: 0x5eed,
        offload: if offload { OffloadPolicy::Prefer } else { OffloadPolicy::Forbid },
        ..SaParameters::new(
            format!("{direction:?} {spi:x}"),
            direction,
            mode,
            (address(source), address(destination)),
            vec![AssociationParameters {
                icv_length: ICV as u8,
                extended_sequence_numbers: spi == EXTENDED.0,
                ..AssociationParameters::esp(Spi(spi), encryption, SecretBytes::from(vec![7; encryption.key_length()]))
            }],
        )
    }
}

/// AH in place of ESP.
fn ah_alone(mut parameters: SaParameters) -> SaParameters {
    let spi = parameters.associations.remove(0).spi;
    parameters.associations.push(ah(spi));
    parameters
}

/// AH over the ESP, with the next SPI.
fn with_ah(mut parameters: SaParameters) -> SaParameters {
    let spi = Spi(parameters.associations[0].spi.0 + 1);
    parameters.associations.push(ah(spi));
    parameters
}

fn ah(spi: Spi) -> AssociationParameters {
    AssociationParameters::ah(spi, AH, SecretBytes::from(vec![7; AH.key_length()]))
}

fn in_udp(parameters: SaParameters) -> SaParameters {
    SaParameters { udp_encapsulation: Some(UdpEncapsulation { source_port: UDP_ESP_PORT, destination_port: UDP_ESP_PORT }), ..parameters }
}

/// Inside the tunnel that has this SPI.
fn inside(parameters: SaParameters, tunnel: u32) -> SaParameters {
    SaParameters { inside: Some(format!("{:?} {tunnel:x}", parameters.direction)), ..parameters }
}
