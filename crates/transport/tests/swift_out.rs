//! The swift way out and the general one make the same of the same packets, in every respect that anybody can see.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::bundle::{Bundle, Half, Headers, gcm, sha256};
use common::{Host, Sa, Setup, address, hardware, ip};
use ipsec::{AesKeySize, Authentication, Encryption};
use ndis::{Direction, LaneContext, MemoryRegistry, Offload};
use packet::{Buffer, Frame, FrameBatch, IpAddress, IpProtocol, Medium, Time};
use proptest::prelude::*;
use sa_table::Handle;
use transport::{Action, AddressRange, Limits, Mode, Policy, PortRange, Selector, TrafficFlow};

const OUT: Direction = Direction::Outbound;
/// Networks with an SA each.
const SAS: u8 = 12;
/// Behind them: one that is bypassed, one that is discarded, one whose SA is gone, one that no policy is about.
const NETWORKS: u8 = SAS + 4;

fn source(v4: bool) -> IpAddress {
    address(if v4 { "10.0.0.1" } else { "2001:db8::1" })
}

fn destination(v4: bool, network: u8) -> IpAddress {
    if v4 { IpAddress::v4([10, 0, network, 1]) } else { address(&format!("2001:db8:{network:x}::1")) }
}

/// The SAs, one for each network; which limits and numbers they have is the case's.
fn bundle(network: u8, limits: (Limits, Limits), last: u64) -> Bundle {
    let spi = 0x1000 + u32::from(network);
    let cbc = |spi| Half { encryption: Encryption::AesCbc(AesKeySize::Aes128), icv: 0, authentication: Authentication::HmacSha256, ..gcm(spi) };
    let esn = |half: Half| Half { esn: Some(last), ..half };
    let tunnel = |half| Bundle::new(OUT, Mode::Tunnel, Some(half), None);
    let tunnel6 = |half| tunnel(half).between("2001:db8:ffff::1", "2001:db8:ffff::2");
    let own = |v4, half| {
        let (source, destination) = (source(v4).to_string(), destination(v4, network).to_string());
        Bundle::new(OUT, Mode::Transport, Some(half), None).between(&source, &destination)
    };
    let bundle = match network {
        0 => tunnel(gcm(spi)),
        1 => tunnel(esn(gcm(spi))),
        2 => tunnel6(cbc(spi)),
        3 => Bundle { udp: Some(4500), ..tunnel6(esn(gcm(spi))) },
        4 => own(true, gcm(spi)),
        5 => Bundle { udp: Some(4500), ..own(true, esn(cbc(spi))) },
        6 => own(false, Half { icv: 8, ..gcm(spi) }),
        7 => Bundle { traffic_flow: TrafficFlow { pad_to: 150, dummy_every: 0 }, ..tunnel(gcm(spi)) },
        8 => Bundle { traffic_flow: TrafficFlow { pad_to: 0, dummy_every: 3 }, ..tunnel(gcm(spi)) },
        9 => Bundle { ah: Some(sha256(spi + 0x100)), ..tunnel(esn(gcm(spi))) },
        10 => Bundle { inside: Some(Bundle::of(OUT, Mode::Tunnel, Headers::Esp, 0x1000).name()), ..own(true, gcm(spi)) },
        _ => tunnel(Half { encryption: Encryption::Null, icv: 0, authentication: Authentication::HmacSha1, ..gcm(spi) }),
    };
    Bundle { soft: limits.0, hard: limits.1, ..bundle }
}

/// What the SAs begin with.
#[derive(Clone, Debug)]
struct Start {
    limits: Vec<(Limits, Limits)>,
    /// Numbers used last, of extended ones.
    last: u64,
    /// 32-bit numbers that are left.
    left: Option<u32>,
    /// 0: nothing, 1: most, 2: everything.
    nic: u8,
    fail_every: usize,
    medium: Medium,
    /// All policies in one, without selectors.
    one_policy: bool,
}

/// One frame that is to be sent.
#[derive(Clone, Debug)]
struct Send {
    network: u8,
    v4: bool,
    length: usize,
    protocol: u8,
    ports: u8,
    class: u8,
    df: bool,
    /// What is odd about it.
    kind: u8,
    headroom: usize,
}

/// What happens between batches.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    Wait(u64),
    Configure(bool),
    /// The policy of this network goes to the end.
    Move(u8),
    Remove(u8),
    Service,
}

struct Side {
    host: Host,
    sas: Vec<Handle>,
}

impl Side {
    fn new(start: &Start, general: bool) -> Self {
        let setup = Setup { medium: start.medium, sas: 64, ..Setup::default() };
        let mut host = Host::with(&setup, &Arc::new(MemoryRegistry::new()), |nic| {
            let mut attributes = nic.attributes.lock().unwrap();
            let attributes = attributes.as_mut().unwrap();
            let set = match start.nic {
                0 => Offload::default(),
                1 => hardware(100),
                _ => common::everything(100),
            };
            (attributes.hardware_capabilities, attributes.default_configuration) = (set, set);
        });
        if general {
            host.lane.take_the_general_way_out();
        }
        let mut sas = Vec::new();
        for network in 0..SAS {
            // The first carries packets of its own and those of another. Which of them get the last that it has depends on where a batch is cut.
            let limits = if network == 0 { (Limits::NONE, Limits::NONE) } else { start.limits[usize::from(network)] };
            let mut parameters = bundle(network, limits, start.last).parameters();
            if let (Some(left), (Limits::NONE, Limits::NONE)) = (start.left, limits)
                && let [one] = parameters.associations.as_mut_slice()
                && !one.extended_sequence_numbers
                && network != 0
            {
                one.sequence_number = u32::MAX - left;
            }
            sas.push(host.transport.add_sa(parameters, host.now).unwrap());
        }
        let gone = host.transport.add_sa(Sa::tunnel(OUT).spi(0x7777).parameters(), host.now).unwrap();
        host.transport.remove_sa(gone);
        host.transport.set_policies(|spd| {
            if start.one_policy {
                spd.push(Policy { direction: OUT, selectors: vec![], action: Action::Protect(Some(sas[0])) });
            }
            for network in 0..NETWORKS - 1 {
                let action = match network {
                    SAS => Action::Bypass,
                    14 => Action::Protect(Some(gone)),
                    network => sas.get(usize::from(network)).map_or(Action::Discard, |&sa| Action::Protect(Some(sa))),
                };
                let to = |v4| Selector { destination: Some(AddressRange::single(destination(v4, network))), ..Selector::ANY };
                // Some ports of one network are another's.
                let ports = Selector { destination_port: PortRange { first: 7, last: 9 }, ..to(true) };
                spd.push(Policy { direction: OUT, selectors: vec![ports], action: if network == 2 { Action::Protect(Some(sas[0])) } else { action } });
                spd.push(Policy { direction: OUT, selectors: vec![to(true), to(false)], action });
            }
            spd.non_ip = Action::Bypass;
        });
        host.nic.script().fail_every = start.fail_every;
        host.service();
        Self { host, sas }
    }

    fn between(&mut self, what: Between) {
        match what {
            Between::Nothing => {}
            Between::Wait(seconds) => self.host.wait(Duration::from_secs(seconds)),
            Between::Configure(esp) => self.host.nic.set_config(|config| config.ipsec_v2.esp = esp),
            Between::Move(network) => self.host.transport.set_policies(|spd| {
                let policies = spd.policies_mut();
                let at = usize::from(network) % policies.len();
                let policy = policies.remove(at);
                policies.push(policy);
            }),
            Between::Remove(network) => drop(self.host.transport.remove_sa(self.sas[usize::from(network)])),
            Between::Service => {
                self.host.stack.pump();
                self.host.transport.tick(self.host.now);
            }
        }
    }

    /// Sends, and says all that can be seen of it.
    fn send(&mut self, medium: Medium, sends: &[Send]) -> Vec<String> {
        let host = &mut self.host;
        let mut frames: FrameBatch = sends
            .iter()
            .enumerate()
            .map(|(at, send)| Frame { tag: at as u64, timestamp: Time::from_nanos(at as u64 * 3), ..Frame::new(buffer(medium, send)) })
            .collect();
        let mut wire = FrameBatch::new();
        let mut cx = LaneContext { now: host.now, pool: &mut host.pool };
        host.lane.outbound(&mut cx, &mut frames, &mut host.path, &mut wire);
        assert!(frames.is_empty());
        let mut seen: Vec<_> =
            wire.iter().map(|frame| format!("{} {:?} {:02x?} {:?}", frame.tag, frame.timestamp, frame.buffer.as_slice(), frame.buffer)).collect();
        seen.push(format!("{:?}", host.transport.outbound()));
        seen.extend(host.transport.take_audit().iter().map(|event| format!("{:?} {event}", event.time)));
        host.transport.service(host.now);
        let mut events: Vec<_> = host.transport.take_events().iter().map(|event| format!("{} {:?}", event.name, event.kind)).collect();
        events.sort();
        seen.extend(events);
        let status = |sa: &transport::SaStatus| format!("{} {:?} {} {} {}", sa.name, sa.associations, sa.packets, sa.bytes, sa.offload);
        seen.extend(host.transport.sas().iter().map(status));
        // What is asked of the NIC on account of one batch has no order among SAs.
        let mut requests: Vec<_> = host.nic.take_seen().iter().map(|request| format!("{request:?}")).collect();
        requests.sort();
        seen.extend(requests);
        seen.push(format!("{:?}", host.transport.offload_counts()));
        seen
    }
}

fn buffer(medium: Medium, send: &Send) -> Buffer {
    let &Send { network, v4, length, protocol, ports, class, df, kind, headroom } = send;
    let mut payload = vec![0x5a; length];
    payload.iter_mut().zip([0, 5, 0, ports]).for_each(|(byte, port)| *byte = port);
    let mut packet = ip(source(v4), destination(v4, network), IpProtocol(protocol), &payload);
    if v4 {
        (packet[1], packet[6]) = (class, if df { 0x40 } else { 0 });
    } else {
        (packet[0], packet[1]) = (0x60 | class >> 4, class << 4 | 3);
    }
    match (kind, v4) {
        (1, true) => packet[6] = 0x20,
        (1, false) => {
            packet[6] = 44;
            packet.splice(40..40, [protocol, 0, 0, 1, 0, 0, 0, 9]);
        }
        (2, true) => {
            packet[0] = 0x46;
            packet.splice(20..20, [1; 4]);
        }
        (2, false) => {
            packet[6] = 60;
            packet.splice(40..40, [protocol, 0, 1, 4, 0, 0, 0, 0]);
        }
        (3, true) => packet[7] = 3,
        (4, _) => packet.truncate(packet.len().saturating_sub(3)),
        (5, _) => packet[0] = 0x45,
        (6, _) => packet[0] = 0x75,
        _ => {}
    }
    if kind == 1 || kind == 2 {
        let length = packet.len() as u16;
        if v4 {
            packet[2..4].copy_from_slice(&length.to_be_bytes());
        } else {
            packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
        }
    }
    if medium == Medium::Ethernet {
        let mut link = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if kind == 7 {
            link.extend([0x81, 0x00, 0, 9]);
        }
        link.extend(if v4 == (kind == 8) { [0x86, 0xdd] } else { [0x08, 0x00] });
        packet.splice(0..0, link);
    }
    if kind == 9 {
        packet.extend([0xee; 11]);
    }
    if kind == 10 {
        packet.truncate(length);
    }
    let mut buffer = Buffer::zeroed(headroom, packet.len(), 128);
    buffer.as_mut_slice().copy_from_slice(&packet);
    buffer
}

fn limits() -> impl Strategy<Value = (Limits, Limits)> {
    let some = |limits: core::ops::Range<u64>| prop_oneof![2 => Just(None), 1 => limits.prop_map(Some)];
    let one = (some(1..60), some(100..6000), some(1..20)).prop_map(|(packets, bytes, time)| Limits { bytes, packets, time: time.map(Duration::from_secs) });
    prop_oneof![3 => Just((Limits::NONE, Limits::NONE)), 1 => (one.clone(), one)]
}

fn starts() -> impl Strategy<Value = Start> {
    let limits = proptest::collection::vec(limits(), usize::from(SAS));
    let last = prop_oneof![Just(0), (0..200_u64).prop_map(|before| (7 << 32) - before), Just(u64::MAX - 50), Just(u64::MAX / 10 * 9 - 20)];
    let left = prop_oneof![2 => Just(None), 1 => (0..150_u32).prop_map(Some), 1 => Just(Some(u32::MAX / 10 + 20))];
    let medium = prop_oneof![Just(Medium::Ip), Just(Medium::Ethernet)];
    let one_policy = prop_oneof![3 => Just(false), 1 => Just(true)];
    (limits, last, left, 0..3_u8, prop_oneof![2 => Just(0), 1 => 1..30_usize], medium, one_policy)
        .prop_map(|(limits, last, left, nic, fail_every, medium, one_policy)| Start { limits, last, left, nic, fail_every, medium, one_policy })
}

fn sends() -> impl Strategy<Value = Vec<Send>> {
    let network = prop_oneof![4 => 0..7_u8, 1 => 0..NETWORKS];
    let protocol = prop_oneof![4 => Just(17_u8), 1 => Just(6), 1 => proptest::sample::select(vec![1_u8, 0, 43, 50, 58, 59, 132, 135, 253])];
    let length = prop_oneof![6 => 0..100_usize, 1 => 1000..1500_usize];
    let kind = prop_oneof![12 => Just(0_u8), 1 => 0..11_u8, 1 => Just(9)];
    let headroom = prop_oneof![30 => Just(256_usize), 1 => 0..80_usize];
    let one = (network, any::<bool>(), length, protocol, 0..12_u8, any::<u8>(), any::<bool>(), kind, headroom)
        .prop_map(|(network, v4, length, protocol, ports, class, df, kind, headroom)| Send { network, v4, length, protocol, ports, class, df, kind, headroom });
    // Runs of like packets, as traffic has them, and single ones.
    let run = (one, 1..40_usize).prop_map(|(send, count)| if send.kind == 0 { vec![send; count] } else { vec![send] });
    proptest::collection::vec(run, 1..12).prop_map(|runs| runs.concat())
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        3 => Just(Between::Nothing),
        1 => (0..5_u64).prop_map(Between::Wait),
        1 => any::<bool>().prop_map(Between::Configure),
        1 => (0..40_u8).prop_map(Between::Move),
        1 => (0..SAS).prop_map(Between::Remove),
        3 => Just(Between::Service),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_are_one(start in starts(), batches in proptest::collection::vec((sends(), between()), 1..8)) {
        let (mut swift, mut general) = (Side::new(&start, false), Side::new(&start, true));
        for (number, (sends, between)) in batches.iter().enumerate() {
            let (one, other) = (swift.send(start.medium, sends), general.send(start.medium, sends));
            for (one, other) in one.iter().zip(&other) {
                prop_assert_eq!(one, other, "batch {}", number);
            }
            prop_assert_eq!(one.len(), other.len());
            swift.between(*between);
            general.between(*between);
        }
    }
}
