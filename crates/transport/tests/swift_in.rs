//! The swift way in is the general way, only swifter: the same traffic through both has the same results, whatever it is. And it is gone by what should.

mod common;

use std::sync::Arc;

use common::bundle::{Bundle, Half, Headers};
use common::{A, B, Host, Received, Setup, address, everything, ip, udp};
use ipsec::{Authentication, Encryption};
use ndis::{Direction, MemoryRegistry, NblBatch, NetBufferList};
use packet::{IpProtocol, Medium, ParsedIp};
use proptest::prelude::*;
use sa_table::Handle;
use transport::{ClearPolicy, DropReason, Limits, Mode, PortRange, Selector, Verdict};

const IN: Direction = Direction::Inbound;
const A6: &str = "2001:db8::1";
const B6: &str = "2001:db8::2";

fn host(medium: Medium, clear: ClearPolicy) -> Host {
    Host::with(&Setup { medium, clear, ..Setup::default() }, &Arc::new(MemoryRegistry::new()), |nic| {
        let mut attributes = nic.attributes.lock().unwrap();
        let attributes = attributes.as_mut().unwrap();
        (attributes.hardware_capabilities, attributes.default_configuration) = (everything(100), everything(100));
    })
}

fn tunnel(spi: u32) -> Bundle {
    Bundle::of(IN, Mode::Tunnel, Headers::Esp, spi)
}

fn networks(protocol: Option<IpProtocol>, destination_port: PortRange) -> Selector {
    let network = |text: &str| transport::AddressRange::prefix(address(text), 24);
    Selector { source: network("10.0.1.0"), destination: network("10.0.2.0"), protocol, destination_port, ..Selector::ANY }
}

fn limits(packets: Option<u64>, bytes: Option<u64>, seconds: Option<u64>) -> Limits {
    Limits { packets, bytes, time: seconds.map(core::time::Duration::from_secs) }
}

/// Bundles of every kind, tunnels before what goes inside of them.
fn bundles() -> Vec<Bundle> {
    let separate = |spi, encryption, authentication| Half { spi, encryption, icv: 0, authentication, esn: None };
    let https = PortRange { first: 443, last: 443 };
    let around = Bundle { selectors: vec![networks(Some(IpProtocol::TCP), PortRange::ANY)], ..tunnel(0x2001) };
    let only_around = tunnel(0x2101).between("192.0.2.1", "192.0.2.9");
    let within = |tunnel: &Bundle, spi| Bundle::of(IN, Mode::Transport, Headers::Esp, spi).between("10.0.1.1", "10.0.2.1").within(tunnel);
    vec![
        tunnel(0x1001),
        tunnel(0x1101).extended((1 << 32) - 40),
        Bundle { selectors: vec![networks(Some(IpProtocol::TCP), PortRange::ANY), networks(Some(IpProtocol::UDP), https)], ..tunnel(0x1201) },
        Bundle::of(IN, Mode::Transport, Headers::Esp, 0x1301),
        Bundle { selectors: vec![Selector { protocol: Some(IpProtocol::UDP), ..Selector::ANY }], ..tunnel(0x1401).between(A6, B6) },
        Bundle::of(IN, Mode::Tunnel, Headers::UdpEsp, 0x1501),
        Bundle::of(IN, Mode::Transport, Headers::UdpEsp, 0x1601),
        Bundle { soft: limits(Some(9), None, None), hard: limits(Some(25), None, None), ..tunnel(0x1701) },
        Bundle { soft: limits(None, Some(700), Some(3)), hard: limits(None, Some(1800), Some(9)), ..tunnel(0x1801).extended(3 << 32) },
        Bundle::of(IN, Mode::Tunnel, Headers::Ah, 0x1901),
        Bundle::of(IN, Mode::Tunnel, Headers::AhEsp, 0x1a01),
        Bundle::of(IN, Mode::Transport, Headers::Esp, 0x1b01).between(A6, B6),
        Bundle { window: 0, ..tunnel(0x1c01).extended(5 << 32) },
        Bundle { window: 1000, ..tunnel(0x1d01) },
        Bundle::new(IN, Mode::Tunnel, Some(separate(0x1e01, Encryption::AesCbc(ipsec::AesKeySize::Aes256), Authentication::HmacSha256)), None),
        Bundle::new(IN, Mode::Tunnel, Some(separate(0x1f01, Encryption::Null, Authentication::HmacSha1)), None),
        Bundle {
            source: packet::IpAddress::UNSPECIFIED_V4,
            destination: packet::IpAddress::UNSPECIFIED_V4,
            ..Bundle::of(IN, Mode::Transport, Headers::Esp, 0x2201)
        },
        within(&around, 0x2301),
        within(&only_around, 0x2401),
        around,
        only_around,
    ]
}

/// What is protected.
#[derive(Clone, Copy, Debug)]
enum Content {
    Udp {
        port: u16,
    },
    /// From a network that no selector has.
    Stranger,
    Tcp,
    Icmp,
    V6,
    /// Nothing but a header.
    Bare,
    Options,
    Fragment {
        offset: u16,
    },
    /// IPv6 with destination options.
    Extension,
    /// ESP or AH that nobody has asked for.
    Ipsec {
        ah: bool,
    },
    /// Padding for traffic flow confidentiality behind it.
    Padded,
    Dummy,
    /// Of no protocol in particular.
    Bytes {
        next: u8,
        first: u8,
        length: usize,
    },
    /// Shorter than its header says.
    Short,
}

/// The numbers of packets, from the highest that there was.
#[derive(Clone, Copy, Debug)]
enum Number {
    Ahead(u64),
    Back(u64),
}

/// What is wrong with a packet on the wire, or odd.
#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    Flip(prop::sample::Index),
    Cut(prop::sample::Index),
    LinkPadding,
    /// A VLAN tag, where there is a link header.
    Tag,
    /// Options in its IP header.
    Options,
    MoreFragments,
    /// The other version's.
    EtherType,
}

#[derive(Clone, Debug)]
struct Packet {
    /// Most are of the bundle that the one before was of.
    bundle: Option<prop::sample::Index>,
    content: Content,
    number: Number,
    /// ECN of the inner and the outer header.
    ecn: (u8, u8),
    change: Change,
}

#[derive(Clone, Debug)]
enum Turn {
    Receive {
        packets: Vec<Packet>,
        ask_delete: bool,
    },
    /// The NIC has looked at none of them.
    Untouched(Vec<Packet>),
    Service,
    Wait {
        seconds: u64,
    },
    Tick,
    /// The NIC does no ESP for a while.
    Configure {
        esp: bool,
    },
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        12 => prop_oneof![Just(443), Just(4500), Just(53)].prop_map(|port| Content::Udp { port }),
        1 => Just(Content::Stranger),
        6 => Just(Content::Tcp),
        2 => Just(Content::Icmp),
        4 => Just(Content::V6),
        1 => Just(Content::Bare),
        1 => Just(Content::Options),
        1 => prop_oneof![Just(0), Just(5)].prop_map(|offset| Content::Fragment { offset }),
        1 => Just(Content::Extension),
        1 => any::<bool>().prop_map(|ah| Content::Ipsec { ah }),
        1 => Just(Content::Padded),
        1 => Just(Content::Dummy),
        1 => (proptest::sample::select(vec![4_u8, 41, 59, 60, 0, 6, 17, 50]), any::<u8>(), 0..50_usize).prop_map(|(next, first, length)| Content::Bytes { next, first, length }),
        1 => Just(Content::Short),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let number = prop_oneof![16 => Just(Number::Ahead(1)), 2 => (2..90_u64).prop_map(Number::Ahead), 2 => (0..80_u64).prop_map(Number::Back)];
    let ecn = prop_oneof![3 => Just((0, 0)), 1 => (0..4_u8, 0..4_u8)];
    let change = prop_oneof![
        24 => Just(Change::Nothing),
        1 => any::<prop::sample::Index>().prop_map(Change::Flip),
        1 => any::<prop::sample::Index>().prop_map(Change::Cut),
        1 => Just(Change::LinkPadding),
        1 => Just(Change::Tag),
        1 => Just(Change::Options),
        1 => Just(Change::MoreFragments),
        1 => Just(Change::EtherType),
    ];
    (prop::option::weighted(0.25, any::<prop::sample::Index>()), content(), number, ecn, change).prop_map(|(bundle, content, number, ecn, change)| Packet {
        bundle,
        content,
        number,
        ecn,
        change,
    })
}

fn turn() -> impl Strategy<Value = Turn> {
    let packets = || proptest::collection::vec(packet(), 1..150);
    prop_oneof![
        8 => (packets(), prop::bool::weighted(0.1)).prop_map(|(packets, ask_delete)| Turn::Receive { packets, ask_delete }),
        1 => packets().prop_map(Turn::Untouched),
        3 => Just(Turn::Service),
        1 => (1..4_u64).prop_map(|seconds| Turn::Wait { seconds }),
        1 => Just(Turn::Tick),
        1 => any::<bool>().prop_map(|esp| Turn::Configure { esp }),
    ]
}

/// A packet before protection: with its IP header, and what protocol that is of.
fn clear(content: Content, ecn: u8) -> (Vec<u8>, u8) {
    let (a, b) = (address("10.0.1.1"), address("10.0.2.1"));
    let segment = |port: u16| [&[0x13, 0x88][..], &port.to_be_bytes(), &[0; 20], b"clear"].concat();
    let mut bytes = match content {
        Content::Udp { port } => {
            let mut bytes = udp("10.0.1.1", "10.0.2.1", 7);
            bytes[22..24].copy_from_slice(&port.to_be_bytes());
            bytes
        }
        Content::Stranger => udp("10.9.1.1", "10.0.2.1", 7),
        Content::Tcp | Content::Padded | Content::Short | Content::Options | Content::Dummy => ip(a, b, IpProtocol::TCP, &segment(80)),
        Content::Icmp => ip(a, b, IpProtocol::ICMP, &[8, 0, 0, 0, 0, 1]),
        Content::V6 => ip(address("2001:db8:1::1"), address("2001:db8:2::1"), IpProtocol::UDP, &segment(443)),
        Content::Bare => ip(a, b, IpProtocol(253), &[]),
        Content::Fragment { offset } => {
            let mut bytes = ip(a, b, IpProtocol::UDP, &segment(443));
            bytes[6..8].copy_from_slice(&(0x2000 | offset).to_be_bytes());
            bytes
        }
        Content::Extension => {
            let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &segment(443)].concat();
            ip(address("2001:db8:1::1"), address("2001:db8:2::1"), IpProtocol::DESTINATION_OPTIONS, &options)
        }
        Content::Ipsec { ah } => ip(a, b, if ah { IpProtocol::AH } else { IpProtocol::ESP }, &[9; 40]),
        Content::Bytes { next, first, length } => return (core::iter::once(first).chain(0..).take(length).collect(), next),
    };
    let v4 = bytes[0] >> 4 == 4;
    if v4 {
        bytes[1] |= ecn;
    } else {
        bytes[1] |= ecn << 4;
    }
    match content {
        Content::Options => {
            bytes.splice(20..20, [1, 1, 1, 0]);
            (bytes[0], bytes[3]) = (0x46, bytes[3] + 4);
        }
        Content::Padded => bytes.extend([0; 33]),
        Content::Short => bytes.truncate(bytes.len() - 3),
        _ => {}
    }
    let next = if matches!(content, Content::Dummy) {
        59
    } else if v4 {
        4
    } else {
        41
    };
    (bytes, next)
}

/// The frame of a packet under `bundle`, perhaps inside `around`.
fn frame(packet: &Packet, bundle: &Bundle, around: Option<&Bundle>, number: u64, medium: Medium) -> Vec<u8> {
    let (clear, next) = clear(packet.content, packet.ecn.0);
    let payload = match (bundle.mode, ParsedIp::parse(&clear)) {
        // In transport mode it keeps an IP header of the bundle's.
        (Mode::Transport, Ok(parsed)) => (parsed.payload(&clear).to_vec(), if next == 59 { 59 } else { parsed.protocol().0 }),
        _ => (clear, next),
    };
    let any = bundle.source.is_unspecified();
    let (source, destination) = if any { (address("192.0.2.77"), address("192.0.2.78")) } else { (bundle.source, bundle.destination) };
    let mut bytes = bundle.protect_payload(source, destination, &payload.0, payload.1, number, number);
    if let Some(around) = around {
        bytes = around.protect(&bytes, number, number);
    }
    let v4 = bytes[0] >> 4 == 4;
    if v4 {
        bytes[1] |= packet.ecn.1;
    } else {
        bytes[1] |= packet.ecn.1 << 4;
    }
    match packet.change {
        Change::Flip(at) => {
            let at = at.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
        }
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Change::LinkPadding => bytes.extend([0; 9]),
        Change::Options if v4 => {
            bytes.splice(20..20, [1, 1, 1, 0]);
            let total = (bytes.len() as u16).to_be_bytes();
            bytes[0] = 0x46;
            bytes[2..4].copy_from_slice(&total);
        }
        Change::MoreFragments if v4 => bytes[6] |= 0x20,
        _ => {}
    }
    if medium == Medium::Ip {
        return bytes;
    }
    let mut framed = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if matches!(packet.change, Change::Tag) {
        framed.extend([0x81, 0x00, 0x00, 0x05]);
    }
    let v4 = v4 != matches!(packet.change, Change::EtherType);
    framed.extend(if v4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    framed.append(&mut bytes);
    framed
}

/// Two hosts that are the same, but that one of them sends everything the general way.
struct Both {
    medium: Medium,
    bundles: Vec<Bundle>,
    swift: Host,
    general: Host,
    /// Of both, whose tables number them apart.
    handles: Vec<(Handle, Handle)>,
    /// Highest numbers used.
    numbers: Vec<u64>,
    bundle: usize,
}

impl Both {
    fn new(medium: Medium, clear: ClearPolicy) -> Self {
        let bundles = bundles();
        let (swift, mut general) = (host(medium, clear), host(medium, clear));
        general.lane.take_the_general_way_in();
        // Those that others are inside of come last in the list, and first into the hosts.
        let (inner, outer): (Vec<_>, Vec<_>) = bundles.iter().cloned().partition(|bundle| bundle.inside.is_some());
        let order = [outer, inner].concat();
        let handles = swift.put_all(&order).into_iter().zip(general.put_all(&order)).collect();
        let numbers = bundles.iter().map(|bundle| bundle.esp.or(bundle.ah).unwrap().esn.unwrap_or(0)).collect();
        let mut both = Self { medium, bundles, swift, general, handles, numbers, bundle: 0 };
        both.turn(&Turn::Service);
        both
    }

    fn frames(&mut self, packets: &[Packet]) -> Vec<Vec<u8>> {
        let frame = |packet: &Packet| {
            if let Some(bundle) = packet.bundle {
                self.bundle = bundle.index(self.bundles.len());
            }
            let bundle = &self.bundles[self.bundle];
            let around = bundle.inside.as_ref().and_then(|name| self.bundles.iter().position(|other| other.name() == *name));
            // A tunnel and what is inside of it have numbers in common.
            let highest = &mut self.numbers[around.unwrap_or(self.bundle)];
            let number = match packet.number {
                Number::Ahead(by) => *highest + by,
                Number::Back(by) => highest.saturating_sub(by),
            };
            *highest = number.max(*highest);
            frame(packet, bundle, around.map(|at| &self.bundles[at]), number, self.medium)
        };
        packets.iter().map(frame).collect()
    }

    fn turn(&mut self, turn: &Turn) {
        let frames = match turn {
            Turn::Receive { packets, .. } | Turn::Untouched(packets) => self.frames(packets),
            _ => vec![],
        };
        let [swift, general] = [&mut self.swift, &mut self.general].map(|host| take(host, turn, &frames));
        assert_eq!(swift.verdicts.len(), general.verdicts.len());
        for (at, (swift, general)) in swift.verdicts.iter().zip(&general.verdicts).enumerate() {
            assert_eq!(swift, general, "packet {at}");
        }
        assert_eq!(swift.delivered, general.delivered);
        assert_eq!(swift.passed, general.passed);
        let (swift, general) = (&self.swift, &self.general);
        assert_eq!(swift.transport.inbound(), general.transport.inbound());
        assert_eq!(swift.transport.take_audit(), general.transport.take_audit());
        let events = |host: &Host| {
            let mut events: Vec<_> = host.transport.take_events().into_iter().map(|event| (event.time, event.name, format!("{:?}", event.kind))).collect();
            // What lanes tell of a batch comes in no order of its own.
            events.sort();
            events
        };
        assert_eq!(events(swift), events(general));
        let status = |host: &Host, handle| host.transport.sa(handle).map(|status| (status.associations, status.packets, status.bytes, status.offload));
        for &(of_swift, of_general) in &self.handles {
            assert_eq!(status(swift, of_swift), status(general, of_general));
        }
        let seen = |host: &Host| {
            let mut seen: Vec<_> = host.nic.take_seen().into_iter().map(|seen| format!("{seen:?}")).collect();
            seen.sort();
            seen
        };
        assert_eq!(seen(swift), seen(general));
        assert_eq!(general.lane.swiftly_in(), 0);
        for host in [swift, general] {
            host.assert_all_ended();
            assert_eq!(host.pool.free() as u64, host.pool.allocated(), "buffers come back");
        }
    }
}

fn take(host: &mut Host, turn: &Turn, frames: &[Vec<u8>]) -> Received {
    match turn {
        Turn::Receive { ask_delete, .. } => {
            host.nic.script().ask_delete = *ask_delete;
            return host.receive(frames);
        }
        Turn::Untouched(_) => {
            let lists: NblBatch = frames.iter().map(|bytes| NetBufferList::new(host.pool.copy_from(bytes), 0)).collect();
            return host.take(lists);
        }
        Turn::Service => drop(host.service()),
        Turn::Wait { seconds } => host.wait(core::time::Duration::from_secs(*seconds)),
        Turn::Tick => host.transport.tick(host.now),
        Turn::Configure { esp } => {
            host.nic.set_config(|config| config.ipsec_v2.esp = *esp);
            host.service();
        }
    }
    Received { delivered: vec![], passed: vec![], verdicts: vec![] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_in_have_the_same_results(
        medium in prop_oneof![Just(Medium::Ethernet), Just(Medium::Ip)],
        pass: bool,
        turns in proptest::collection::vec(turn(), 1..14),
    ) {
        let mut both = Both::new(medium, if pass { ClearPolicy::PassAll } else { ClearPolicy::Decide });
        for turn in &turns {
            both.turn(turn);
        }
    }
}

fn plain(content: Content) -> Packet {
    Packet { bundle: None, content, number: Number::Ahead(1), ecn: (0, 0), change: Change::Nothing }
}

/// How many of `packets` of a bundle went the swift way in, and what became of them.
fn swiftly(bundle: &Bundle, medium: Medium, packets: &[Packet]) -> (u64, Vec<String>) {
    let mut host = host(medium, ClearPolicy::Decide);
    host.put(bundle);
    host.service();
    let first = bundle.esp.unwrap().esn.map_or(1, |last| last + 1);
    let frames: Vec<_> = (first..).zip(packets).map(|(number, packet)| frame(packet, bundle, None, number, medium)).collect();
    let received = host.receive(&frames);
    assert_eq!(host.transport.inbound().seen.packets, packets.len() as u64);
    (host.lane.swiftly_in(), received.words())
}

#[test]
fn what_nearly_all_traffic_is_goes_the_swift_way() {
    let all = [Content::Udp { port: 443 }, Content::Tcp, Content::Icmp, Content::V6, Content::Bare, Content::Padded].map(plain);
    let transport = [Content::Udp { port: 443 }, Content::Tcp, Content::Icmp].map(plain);
    for medium in [Medium::Ethernet, Medium::Ip] {
        let tunnels = [
            tunnel(0x1001),
            tunnel(0x1001).between(A6, B6),
            tunnel(0x1001).extended(7 << 32),
            Bundle { soft: limits(Some(100), None, Some(100)), hard: limits(None, Some(100_000), None), ..tunnel(0x1001) },
            Bundle { selectors: vec![Selector::ANY], ..tunnel(0x1001) },
            Bundle::of(IN, Mode::Tunnel, Headers::UdpEsp, 0x1001),
            Bundle::of(IN, Mode::Tunnel, Headers::UdpEsp, 0x1001).between(A6, B6),
        ];
        let modes = [Bundle::of(IN, Mode::Transport, Headers::Esp, 0x1001), Bundle::of(IN, Mode::Transport, Headers::Esp, 0x1001).between(A6, B6)];
        for (bundle, packets) in tunnels.iter().map(|bundle| (bundle, &all[..])).chain(modes.iter().map(|bundle| (bundle, &transport[..]))) {
            let packets: Vec<_> = packets.iter().cycle().take(150).cloned().collect();
            let expected = if bundle.soft == Limits::NONE { 150 } else { 149 };
            let (swift, words) = swiftly(bundle, medium, &packets);
            assert_eq!(swift, expected, "{bundle:?}");
            assert!(words.iter().all(|word| word == "delivered"), "{words:?}");
        }
    }
}

#[test]
fn what_is_odd_goes_the_general_way() {
    let of = |content| plain(content);
    let odd = [
        of(Content::Options),
        of(Content::Fragment { offset: 0 }),
        of(Content::Extension),
        of(Content::Ipsec { ah: false }),
        of(Content::Udp { port: 4500 }),
        of(Content::Dummy),
        of(Content::Short),
        Packet { ecn: (0, 3), ..of(Content::Tcp) },
        Packet { ecn: (2, 1), ..of(Content::Tcp) },
        Packet { change: Change::Tag, ..of(Content::Tcp) },
        Packet { change: Change::Options, ..of(Content::Tcp) },
        Packet { change: Change::MoreFragments, ..of(Content::Tcp) },
    ];
    for packet in &odd {
        // Between two that are not.
        let packets = [of(Content::Tcp), packet.clone(), of(Content::Tcp)];
        let (swift, words) = swiftly(&tunnel(0x1001), Medium::Ethernet, &packets);
        assert_eq!((swift, words[0].as_str(), words[2].as_str()), (2, "delivered", "delivered"), "{packet:?}: {words:?}");
    }
    for bundle in [Bundle::of(IN, Mode::Transport, Headers::UdpEsp, 0x1001), Bundle::of(IN, Mode::Tunnel, Headers::AhEsp, 0x1001)] {
        let frames = vec![plain(Content::Tcp); 3];
        assert_eq!(swiftly(&bundle, Medium::Ethernet, &frames), (0, vec!["delivered".to_owned(); 3]), "{bundle:?}");
    }
}

#[test]
fn a_repeated_packet_and_one_of_another_network_are_refused_between_others() {
    let bundle = Bundle { selectors: vec![networks(None, PortRange::ANY)], ..tunnel(0x1001) };
    let mut host = host(Medium::Ethernet, ClearPolicy::Decide);
    host.put(&bundle);
    host.service();
    let make = |content, number| frame(&plain(content), &bundle, None, number, Medium::Ethernet);
    let frames = [
        make(Content::Tcp, 5),
        make(Content::Tcp, 5),
        make(Content::Tcp, 6),
        make(Content::Stranger, 7),
        make(Content::Udp { port: 53 }, 8),
        make(Content::Tcp, 7),
    ];
    let received = host.receive(&frames);
    let drop = |reason| Verdict::Dropped(reason);
    let expected = [
        Verdict::Delivered,
        drop(DropReason::Replayed),
        Verdict::Delivered,
        drop(DropReason::Policy),
        Verdict::Delivered,
        // The stranger was authentic, and has used its number.
        drop(DropReason::Replayed),
    ];
    assert_eq!(received.verdicts.iter().map(|verdict| verdict.verdict).collect::<Vec<_>>(), expected);
    assert_eq!(host.lane.swiftly_in(), 3);
    let audit: Vec<_> = host.transport.take_audit().into_iter().map(|event| event.to_string()).collect();
    assert_eq!(audit[0], format!("replayed {A} > {B} ESP SPI 0x00001001 sequence 5"));
    assert_eq!(audit.len(), 3);
}

#[test]
fn what_a_run_has_carried_is_counted_before_a_limit_is_looked_at() {
    let bundle = Bundle { soft: limits(Some(70), None, None), hard: limits(Some(100), None, None), ..tunnel(0x1001) };
    let (swift, words) = swiftly(&bundle, Medium::Ethernet, &vec![plain(Content::Tcp); 120]);
    assert_eq!(words.iter().filter(|word| *word == "delivered").count(), 100);
    assert_eq!(words.iter().position(|word| word == "expired"), Some(100));
    // All but the one at which the soft limit is told.
    assert_eq!(swift, 99);
}
