//! Plain packets have a way of their own through the engine. Nothing shows which way they went: any traffic gives the same bytes, statuses, out-of-band data
//! and counters as through an engine without it.

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use std::sync::LazyLock;

use common::{Link, Nic, all_sums, checksum_set, software};
use ipsec::Crypto;
use kinds::{Built, CBC, GMAC, Half, Kind, NULL, SHA1, SHA256};
use ndis::{
    AesKeySize, DirectOid, Direction, Encapsulation, EncryptionAlgorithm, IpsecSetting, NetBufferList, OffloadFlags, OffloadHandle, Oid, Operation,
    SetEncapsulation, Status, TxRx, UdpEspType, UpdateSa,
};
use nic::{NicParameters, SoftwareEngine, software_capabilities};
use packet::{Buffer, IpProtocol, ParsedIp, Spi, checksum};
use proptest::prelude::*;

/// Numbers of packets: the first ones, and some on both sides of where an SA asks for its deletion.
const NUMBERS: [u32; 11] = [1, 2, 3, 9, 0x7fff_ffff, 0xffef_ffff, 0xfff0_0000, 0xffff_f000, 0xffff_fffd, 0xffff_fffe, 0xffff_ffff];

/// Extended numbers around a wrap: how many wraps after the first high half, and the low half. They are within a replay window, so that each is clear
/// whichever was verified before.
const EXTENDED: [(u32, u32); 11] = [
    (0, 0xffff_fff0),
    (0, 0xffff_fff1),
    (0, 0xffff_fff2),
    (0, 0xffff_fffa),
    (0, 0xffff_fffb),
    (0, 0xffff_fffe),
    (0, 0xffff_ffff),
    (1, 0),
    (1, 1),
    (1, 2),
    (1, 20),
];

/// Plain kinds, odd kinds, and at the end two that are nested in the first one.
fn kinds() -> Vec<Kind> {
    let gcm = |spi, size, icv| Kind { icv, ..Kind::esp(spi, EncryptionAlgorithm::AesGcm(size), None) };
    vec![
        Kind::gcm(0x1001),
        Kind::gcm(0x1002).esn(4),
        Kind::gcm(0x1003).v6(),
        gcm(0x1004, AesKeySize::Aes256, 8).esn(4).v6(),
        gcm(0x1005, AesKeySize::Aes192, 12),
        Kind::esp(0x1006, EncryptionAlgorithm::ChaCha20Poly1305, None),
        Kind::gcm(0x1007).udp(UdpEspType::Transport),
        Kind::gcm(0x1008).udp(UdpEspType::Tunnel).v6().esn(4),
        Kind { extras: true, ..Kind::gcm(0x1009) },
        Kind { extras: true, ..Kind::gcm(0x100a).v6() },
        Kind::esp(0x100b, CBC, Some(SHA256)),
        Kind::esp(0x100c, NULL, Some(GMAC)).esn(4),
        Kind::ah(0x3001, SHA1),
        Kind::both(0x100d, CBC, Some(SHA1), 0x3002, SHA256),
        Kind::gcm(0x2001).net(1),
        Kind::ah(0x3003, SHA1).net(1),
    ]
}

fn at(kind: &Kind, after: u32) -> Kind {
    let mut kind = *kind;
    kind.esp = kind.esp.map(|esp| Half { esn: esp.esn.map(|high| high + after), ..esp });
    kind.ah = kind.ah.map(|ah| Half { esn: ah.esn.map(|high| high + after), ..ah });
    kind
}

fn inner_udp(port: u16) -> Vec<u8> {
    let mut packet = Kind::gcm(1).net(9).ip_header(IpProtocol::UDP, 20);
    packet.extend([[0x12, 0x34], port.to_be_bytes(), [0, 20], [0, 0]].concat());
    packet.extend([7; 12]);
    packet
}

/// TCP or UDP in an IP packet, with its checksum, as `spoil` leaves it.
fn inner_summed(ipv6: bool, protocol: IpProtocol, segment: &[u8], spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let kind = if ipv6 { Kind::gcm(1).net(9).v6() } else { Kind::gcm(1).net(9) };
    let mut packet = kind.ip_header(protocol, segment.len());
    let header = packet.len();
    packet.extend(segment);
    let parsed = ParsedIp::parse(&packet).unwrap();
    let (source, destination) = (parsed.src(), parsed.dst());
    assert!(checksum::fill_segment(source, destination, protocol, &mut packet[header..]).unwrap());
    spoil(&mut packet);
    packet
}

/// Packets whose checksums are looked at: right ones and wrong ones, with TCP options, with bytes behind them, parts of packets, none of UDP.
fn inner_sums() -> Vec<(Vec<u8>, u8)> {
    let tcp = |options: usize| {
        let mut segment = vec![0x11; 20 + options + 33];
        segment[12] = ((5 + options / 4) << 4) as u8;
        segment
    };
    let udp = [&[0x12, 0x34, 0, 53, 0, 30, 0, 0][..], &[0x77; 22]].concat();
    let mut all = Vec::new();
    for (ipv6, next_header) in [(false, 4), (true, 41)] {
        let header = if ipv6 { 40 } else { 20 };
        let mut add = |protocol, segment: &[u8], spoil: &dyn Fn(&mut Vec<u8>)| all.push((inner_summed(ipv6, protocol, segment, spoil), next_header));
        add(IpProtocol::TCP, &tcp(0), &|_| {});
        add(IpProtocol::TCP, &tcp(12), &|packet| packet.extend([0; 9]));
        add(IpProtocol::TCP, &tcp(0), &|packet| packet[header + 40] ^= 4);
        add(IpProtocol::TCP, &tcp(0), &|packet| packet[header + 12] = 0xf0);
        add(IpProtocol::UDP, &udp, &|_| {});
        add(IpProtocol::UDP, &udp, &|packet| packet[header + 20] ^= 4);
        add(IpProtocol::UDP, &udp, &|packet| packet[header + 6..header + 8].fill(0));
        add(IpProtocol::UDP, &udp, &|packet| packet[header + 5] = 31);
        if !ipv6 {
            add(IpProtocol::UDP, &udp, &|packet| packet[6] |= 0x20);
            add(IpProtocol::UDP, &udp, &|packet| packet[3] -= 1);
        }
    }
    all
}

/// Packets under every kind: in transport and tunnel mode, with what may be taken for a nested portion, and with one.
static BUILT: LazyLock<Vec<(usize, Built)>> = LazyLock::new(|| {
    let kinds = kinds();
    let plain = [&Kind::gcm(1).net(9).ip_header(IpProtocol::TCP, 20)[..], &[0; 20]].concat();
    let plain6 = [&Kind::gcm(1).net(9).v6().ip_header(IpProtocol::TCP, 20)[..], &[0; 20]].concat();
    let (plain_udp, esp_in_udp, summed) = (inner_udp(53), inner_udp(4500), inner_sums());
    let mut payloads: Vec<(&[u8], u8)> =
        vec![(b"payload", 6), (b"", 59), (&[0x5a; 300], 17), (&plain, 4), (&plain6, 41), (&plain, 41), (b"\x75", 4), (&plain_udp, 4), (&esp_in_udp, 4)];
    payloads.extend(summed.iter().map(|(packet, next_header)| (&packet[..], *next_header)));
    let mut all = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let extended = kind.esp.is_some_and(|esp| esp.esn.is_some());
        let numbers = if extended { EXTENDED } else { NUMBERS.map(|low| (0, low)) };
        for (turn, (after, low)) in numbers.into_iter().enumerate() {
            let (payload, next_header) = payloads[(turn + 5 * index) % payloads.len()];
            all.push((index, at(kind, after).build(payload, next_header, low)));
        }
    }
    for inner in &kinds[kinds.len() - 2..] {
        for low in [1, 2] {
            all.push((0, kinds[0].around(&inner.build_inner(b"nested", 6, low), low)));
        }
    }
    all
});

static SEALED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| BUILT.iter().map(|(_, built)| built.sealed()).collect());

/// How a packet is spoilt.
#[derive(Clone, Debug)]
enum Spoil {
    Not,
    Poke(u16, u8),
    /// In the last bytes: ICV, trailer.
    Flip(u8),
    Cut(u8),
    Tail(u8),
    /// On send: other out-of-band data.
    L3(u16),
    Header(u32),
    Large,
    NoHandle,
    Stale,
    Second,
    /// Another SPI, of which there is no bundle.
    Foreign,
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        24 => Just(Spoil::Not),
        4 => (any::<u16>(), any::<u8>()).prop_map(|(at, value)| Spoil::Poke(at, value)),
        2 => (0..64_u16, any::<u8>()).prop_map(|(at, value)| Spoil::Poke(at, value)),
        2 => (0..24_u8).prop_map(Spoil::Flip),
        1 => any::<u8>().prop_map(Spoil::Cut),
        1 => (1..9_u8).prop_map(Spoil::Tail),
        1 => (0..40_u16).prop_map(Spoil::L3),
        1 => any::<u32>().prop_map(Spoil::Header),
        1 => Just(Spoil::Large),
        1 => Just(Spoil::NoHandle),
        1 => Just(Spoil::Stale),
        1 => Just(Spoil::Second),
        1 => Just(Spoil::Foreign),
    ]
}

impl Spoil {
    fn bytes(&self, mut bytes: Vec<u8>, link: usize, esp: Option<usize>) -> Vec<u8> {
        let length = bytes.len();
        match *self {
            Self::Poke(at, value) => bytes[usize::from(at) % length] = value,
            Self::Flip(back) => bytes[length - 1 - usize::from(back) % (length - link)] ^= 1,
            Self::Cut(by) => bytes.truncate(length - usize::from(by) % length),
            Self::Tail(by) => bytes.resize(length + usize::from(by), 0),
            Self::Foreign => {
                if let Some(esp) = esp {
                    bytes[link + esp + 1] ^= 0x40;
                }
            }
            _ => {}
        }
        bytes
    }
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![4 => Just(Link::Ethernet), 2 => Just(Link::Bare), 1 => Just(Link::Vlan)]
}

/// An engine with the plain way, and one without.
fn pair(link: Link, direction: Direction) -> [(Nic, Vec<OffloadHandle>); 2] {
    let parameters = || NicParameters { medium: link.medium(), ..NicParameters::new("test") };
    [Nic::with(parameters(), software), Nic::with(parameters(), || software().without_plain_way())].map(|mut nic| {
        assert_eq!(nic.set(Oid::SetParameters(all_sums(TxRx::Both))), Status::SUCCESS);
        if link == Link::Bare {
            nic.activate_null();
        } else {
            nic.activate();
        }
        let handles = kinds().iter().map(|kind| nic.try_add(kind.bundle(direction)).unwrap()).collect();
        (nic, handles)
    })
}

/// What is done between two batches.
#[derive(Clone, Debug)]
enum Between {
    Nothing,
    Update(usize, u32),
    Delete(usize),
    Configure(IpsecSetting),
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        4 => Just(Between::Nothing),
        1 => (0..16_usize, 3..7_u32).prop_map(|(which, high)| Between::Update(which, high)),
        1 => (0..16_usize).prop_map(Between::Delete),
        1 => prop_oneof![Just(IpsecSetting::Ah), Just(IpsecSetting::Esp), Just(IpsecSetting::AhAndEsp)].prop_map(Between::Configure),
    ]
}

impl Between {
    fn run(&self, nic: &mut Nic, handles: &[OffloadHandle]) -> Status {
        match *self {
            Self::Nothing => Status::SUCCESS,
            Self::Update(which, high) => {
                let spi = kinds()[which].esp.map_or(1, |esp| esp.spi);
                let update = UpdateSa { handle: handles[which], operation: Operation::Esp, spi: Spi(spi), sequence_number_high: high };
                nic.done(DirectOid::UpdateSa(update)).0
            }
            Self::Delete(which) => nic.done(DirectOid::DeleteSa(vec![handles[which].to_bits()])).0,
            Self::Configure(setting) => {
                nic.set_ipsec(setting);
                Status::SUCCESS
            }
        }
    }
}

/// A batch: packets, how each is spoilt, how many times it comes, and what is done after it.
type Batch = (Vec<(prop::sample::Index, Spoil, u8)>, Between);

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    // Runs of one packet's kind are as likely as a change with every packet.
    let packet = (any::<prop::sample::Index>(), spoil(), prop_oneof![2 => Just(1_u8), 1 => 1..30_u8]);
    proptest::collection::vec((proptest::collection::vec(packet, 1..60), between()), 1..4)
}

fn framed(link: Link, kind: &Kind, packet: &[u8]) -> Vec<u8> {
    [&link.header(kind.ipv6)[..], packet].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sends_are_the_same_on_both_ways(link in link(), batches in batches()) {
        let kinds = kinds();
        let mut pair = pair(link, Direction::Outbound);
        for (packets, between) in &batches {
            let results = pair.each_mut().map(|(nic, handles)| {
                let list = |(pick, spoil): (&prop::sample::Index, &Spoil)| -> NetBufferList {
                    let (index, built) = pick.get(&BUILT);
                    let header = link.header(kinds[*index].ipv6).len();
                    let esp = built.layers[0].esp.as_ref().map(|esp| esp.start);
                    let bytes = spoil.bytes(framed(link, &kinds[*index], &built.bytes), header, esp);
                    let handles: Vec<_> = match built.layers.len() {
                        1 => vec![handles[*index]],
                        _ => vec![handles[*index], handles[if built.layers[1].ah.is_some() { 15 } else { 14 }]],
                    };
                    let mut list = NetBufferList { buffer: Buffer::copy_from(&bytes), l3_offset: header as u16, ..built.list(&handles) };
                    match *spoil {
                        Spoil::L3(offset) => list.l3_offset = offset,
                        Spoil::Header(bits) => list.oob.set_bits(list.oob.ipsec_bits(), list.oob.tunnel_bits(), bits),
                        Spoil::Large => list.oob.large_send = 1,
                        Spoil::NoHandle => list.oob.set_offload_handle(None),
                        Spoil::Stale => list.oob.set_offload_handle(OffloadHandle::from_bits(77)),
                        Spoil::Second => list.more.push(Buffer::copy_from(&bytes)),
                        _ => {}
                    }
                    list
                };
                let batch = packets.iter().flat_map(|(pick, spoil, times)| std::iter::repeat_n((pick, spoil), usize::from(*times))).map(list).collect();
                let (done, wire) = nic.send(batch);
                let done: Vec<_> = done
                    .iter()
                    .map(|list| {
                        let buffers: Vec<_> = list.buffers().map(|buffer| buffer.as_slice().to_vec()).collect();
                        (list.status, list.l3_offset, list.oob.header_bits(), list.oob.tunnel_bits() != 0, buffers)
                    })
                    .collect();
                let wire: Vec<_> = wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
                (done, wire, between.run(nic, handles), nic.driver.counters())
            });
            let [plain, general] = results;
            for (number, (plain, general)) in plain.0.iter().zip(&general.0).enumerate() {
                prop_assert_eq!(plain, general, "list {}", number);
            }
            prop_assert_eq!(plain, general);
        }
    }

    #[test]
    fn receives_are_the_same_on_both_ways(link in link(), batches in batches()) {
        let kinds = kinds();
        let mut pair = pair(link, Direction::Inbound);
        for (packets, between) in &batches {
            let results = pair.each_mut().map(|(nic, handles)| {
                let frame = |(pick, spoil): (&prop::sample::Index, &Spoil)| -> Vec<u8> {
                    let which = pick.index(SEALED.len());
                    let (index, built) = &BUILT[which];
                    let header = link.header(kinds[*index].ipv6).len();
                    let esp = built.layers[0].esp.as_ref().map(|esp| esp.start);
                    spoil.bytes(framed(link, &kinds[*index], &SEALED[which]), header, esp)
                };
                let frames: Vec<_> =
                    packets.iter().flat_map(|(pick, spoil, times)| std::iter::repeat_n((pick, spoil), usize::from(*times))).map(frame).collect();
                let up: Vec<_> = nic.receive(&frames).iter().map(|list| (list.oob, list.l3_offset, list.buffer.as_slice().to_vec())).collect();
                (up, between.run(nic, handles), nic.driver.counters())
            });
            let [plain, general] = results;
            for (number, (plain, general)) in plain.0.iter().zip(&general.0).enumerate() {
                prop_assert_eq!(plain, general, "packet {} of {:?}", number, packets);
            }
            prop_assert_eq!(plain, general);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// OV2-CAP-4, OV2-SEND-9: whatever of checksums a card has, with tags in the frames and out of them.
    #[test]
    fn what_is_verified_is_the_same_on_both_ways(sets in (checksum_set(), checksum_set()), flags in 0_u32..8, apart: bool, tag in prop::option::of(1_u16..4095)) {
        let mut hardware = software_capabilities(64);
        (hardware.checksum.ipv4_receive, hardware.checksum.ipv6_receive) = sets;
        hardware.flags = OffloadFlags::from_bits_truncate(flags);
        let hardware = hardware.normalized();
        let kinds = &kinds()[..6];
        let frames: Vec<_> = kinds
            .iter()
            .enumerate()
            .flat_map(|(number, kind)| inner_sums().into_iter().skip(number % 2).step_by(2).map(move |(packet, next_header)| (*kind, packet, next_header)))
            .map(|(kind, packet, next_header)| framed(Link::Ethernet, &kind, &kind.build(&packet, next_header, 7).sealed()))
            .map(|frame| match tag {
                Some(tci) => [&frame[..12], &[0x81, 0], &tci.to_be_bytes(), &frame[12..]].concat(),
                None => frame,
            })
            .collect();
        let engine = move || SoftwareEngine::with_hardware(Crypto::default(), &hardware).unwrap();
        let parameters = || NicParameters::new("test");
        let [plain, general] = [Nic::with(parameters(), engine), Nic::with(parameters(), move || engine().without_plain_way())].map(|mut nic| {
            // What the card has not is refused as a whole, on both.
            let status = nic.set(Oid::SetParameters(all_sums(TxRx::Both)));
            let forms = if apart { Encapsulation::IEEE_802_3.union(Encapsulation::IEEE_802_3_P_AND_Q_IN_OOB) } else { Encapsulation::IEEE_802_3 };
            let on = SetEncapsulation::On { encapsulation: forms, header_size: 14 };
            let active = nic.set_encapsulation(on, on);
            for kind in kinds {
                nic.try_add(kind.bundle(Direction::Inbound)).unwrap();
            }
            let up: Vec<_> = nic.receive(&frames).iter().map(|list| (list.oob, list.l3_offset, list.buffer.as_slice().to_vec())).collect();
            (status, active, up)
        });
        prop_assert_eq!(plain, general);
    }
}

/// Every payload under every kind, one at a time and all in a row: checksums are verified on both ways, and the same ones.
#[test]
fn checksums_are_verified_alike_on_both_ways() {
    let kinds = kinds();
    let mut reports = std::collections::HashSet::new();
    for (turn, (packet, next_header)) in inner_sums().iter().enumerate() {
        for link in [Link::Ethernet, Link::Bare, Link::Vlan] {
            let frames: Vec<_> = kinds[..13].iter().map(|kind| framed(link, kind, &kind.build(packet, *next_header, 7).sealed())).collect();
            let [plain, general] = pair(link, Direction::Inbound).map(|(mut nic, _)| {
                let all: Vec<_> = nic.receive(&frames).iter().map(|list| (list.oob.ipsec_receive(), list.oob.checksum_report())).collect();
                all
            });
            assert_eq!(plain, general, "{turn} {link:?}");
            assert!(plain.iter().all(|(ipsec, _)| *ipsec == ndis::IpsecReceive::GOOD), "{turn} {link:?}");
            reports.extend(plain.iter().map(|(_, report)| (report.tcp, report.udp)));
        }
    }
    let expected = [(None, None), (Some(true), None), (Some(false), None), (None, Some(true)), (None, Some(false))];
    assert_eq!(reports, expected.into());
}

/// Each kind alone, good packets in a row: what the plain way is for does go well.
#[test]
fn good_packets_of_every_kind_are_done() {
    for link in [Link::Ethernet, Link::Bare] {
        let [(mut nic, handles), _] = pair(link, Direction::Outbound);
        let [(mut receiver, _), _] = pair(link, Direction::Inbound);
        for (number, kind) in kinds().iter().enumerate() {
            let built: Vec<_> = (1..=70).map(|low| kind.build(&[low as u8; 33], 6, low)).collect();
            let lists = built.iter().map(|built| {
                let bytes = framed(link, kind, &built.bytes);
                NetBufferList { buffer: Buffer::copy_from(&bytes), l3_offset: link.header(kind.ipv6).len() as u16, ..built.list(&handles[number..=number]) }
            });
            let (_, wire) = nic.send(lists.collect());
            let wire: Vec<_> = wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect();
            let expected: Vec<_> = built.iter().map(|built| framed(link, kind, &built.sealed())).collect();
            assert!(wire == expected, "{link:?} {kind:?}");
            for (list, built) in receiver.receive(&wire).iter().zip(&built) {
                assert_eq!(list.oob.ipsec_receive(), ndis::IpsecReceive::GOOD, "{link:?} {kind:?}");
                let header = link.header(kind.ipv6).len();
                let opened = built.opened(&built.sealed(), 1);
                assert!(list.buffer.as_slice()[header..] == opened[..], "{link:?} {kind:?}");
            }
        }
    }
}
