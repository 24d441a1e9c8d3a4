//! Sending and receiving through a whole host allocate nothing per packet once its lane has warmed up: offloaded and in software.

mod common;
#[path = "../../nic/tests/counting/mod.rs"]
mod counting;

use common::{Connection, Pair, tunnel_v4};
use counting::allocations;
use ipsec::Crypto;
use ipsecov2::host::{HostConfig, HostControl, HostLane};
use ndis::{Direction, IpsecSetting, OffloadParameters, Status};
use packet::{Frame, FrameBatch, FrameForm, IpAddress, IpProtocol, Ipv4Repr, Medium, ParsedIp, Segments, Spi, TcpFlags, TcpRepr, Time, segment};
use transport::{AddressRange, InboundBatch, Mode, Selector};

/// Packets in a batch: more than go through the stages together.
const BATCH: usize = 100;
/// Batches until every recycled list has its length.
const WARM: usize = 4;
const MEASURED: usize = 8;
/// One in so many packets is forged.
const FORGED: usize = 10;

/// What a lane does in one round.
struct Round {
    packets: Vec<Vec<u8>>,
    wire: FrameBatch,
    frames: FrameBatch,
    out: InboundBatch,
}

impl Round {
    fn new(medium: Medium, connection: &Connection) -> Self {
        let (from, to) = match connection.mode {
            Mode::Transport => ("192.0.2.1", "192.0.2.2"),
            Mode::Tunnel => ("10.0.1.1", "10.0.2.1"),
        };
        let link: &[u8] = if medium == Medium::Ethernet { &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0] } else { &[] };
        let packet = |number: usize| {
            let length = number * 13 % 1400;
            let mut ip = vec![number as u8; 20 + length];
            Ipv4Repr::new(IpProtocol(253), from.parse().unwrap(), to.parse().unwrap(), length).emit(&mut ip).unwrap();
            [link, &ip].concat()
        };
        let out = InboundBatch { report: true, ..InboundBatch::default() };
        Self { packets: (0..BATCH).map(packet).collect(), wire: FrameBatch::new(), frames: FrameBatch::new(), out }
    }

    /// Sends a batch from a to b. Returns the allocations of either side; taking buffers from and giving them to the pools counts with them.
    fn go(&mut self, pair: &mut Pair) -> (u64, u64) {
        let Self { packets, wire, frames, out } = self;
        let sent = allocations(|| {
            for packet in &*packets {
                let buffer = pair.a.pool().copy_from(packet);
                frames.push(Frame::new(buffer));
            }
            pair.a.send(pair.now, frames, wire);
        });
        assert_eq!(wire.len(), BATCH);
        let mut forged = 0;
        for place in (0..BATCH).step_by(FORGED) {
            *wire[place].buffer.as_mut_slice().last_mut().unwrap() ^= 1;
            forged += 1;
        }
        let received = allocations(|| {
            pair.b.receive(pair.now, wire, out);
            assert_eq!(out.verdicts.len(), BATCH);
            assert_eq!(out.delivered.len(), BATCH - forged);
            out.verdicts.clear();
            // In these tests the buffers go round: those of packets that b dropped it has kept for itself.
            for _ in 0..forged {
                let buffer = pair.b.pool().take(0);
                pair.a.pool().give(buffer);
            }
            for frame in out.delivered.drain(..) {
                pair.a.pool().give(frame.buffer);
            }
        });
        (sent, received)
    }
}

#[test]
fn a_warm_host_allocates_nothing() {
    for crypto in Crypto::with_paths() {
        for medium in [Medium::Ip, Medium::Ethernet] {
            for (mode, esn) in [(Mode::Tunnel, false), (Mode::Transport, false), (Mode::Tunnel, true)] {
                for offload in [true, false] {
                    let what = format!("{crypto}, {medium:?}, {mode:?}, ESN {esn}, offload {offload}");
                    let connection = Connection { mode, esn, ..tunnel_v4() };
                    let mut pair = Pair::with(&HostConfig { medium, crypto, ..HostConfig::default() });
                    let mut round = Round::new(medium, &connection);
                    pair.connect(connection);
                    if !offload {
                        for host in [&pair.a, &pair.b] {
                            let off = OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled);
                            assert_eq!(host.operator().set_parameters(off), Status::SUCCESS);
                        }
                        pair.service();
                    }
                    for _ in 0..WARM {
                        round.go(&mut pair);
                    }
                    for _ in 0..MEASURED {
                        let (sent, received) = round.go(&mut pair);
                        assert_eq!((sent, received), (0, 0), "{what}: in a batch of {BATCH}");
                    }
                    let rounds = (WARM + MEASURED) as u64;
                    let (out, inward) = (pair.a.transport().outbound(), pair.b.transport().inbound());
                    let (done, not_done) = if offload { (out.offloaded, out.software) } else { (out.software, out.offloaded) };
                    assert_eq!((done.packets, not_done.packets), (rounds * BATCH as u64, 0), "{what}");
                    assert_eq!(inward.ended(), rounds * BATCH as u64, "{what}");
                }
            }
        }
    }
}

/// Large packets cost no allocation either, whoever cuts them.
#[test]
fn large_packets_allocate_nothing() {
    let mut large = vec![7; 40 + 50_000];
    Ipv4Repr::new(IpProtocol::TCP, "10.0.1.1".parse().unwrap(), "10.0.2.1".parse().unwrap(), 0).emit(&mut large).unwrap();
    let tcp = TcpRepr { src_port: 1, dst_port: 2, sequence: 3, acknowledgment: 4, flags: TcpFlags::ACK, window: 5, urgent: 0 };
    tcp.emit(&mut large[20..], &[]).unwrap();
    let parsed = ParsedIp::parse_whole(&large).unwrap();
    assert!(segment::plant_seed(&mut large, 20, &parsed));
    for offload in [true, false] {
        let mut pair = Pair::with(&HostConfig { medium: Medium::Ip, ..HostConfig::default() });
        pair.connect(tunnel_v4());
        if !offload {
            assert_eq!(pair.a.operator().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)), Status::SUCCESS);
            pair.service();
        }
        let (mut frames, mut wire) = (FrameBatch::new(), FrameBatch::new());
        for round in 0..WARM + MEASURED {
            let sent = allocations(|| {
                for _ in 0..4 {
                    let buffer = pair.a.pool().copy_from(&large);
                    frames.push(Frame { form: FrameForm::large(Segments::Tcp, 1300), ..Frame::new(buffer) });
                }
                pair.a.send(pair.now, &mut frames, &mut wire);
            });
            assert_eq!(wire.iter().map(|frame| frame.packets().count()).sum::<usize>(), 4 * 39);
            assert_eq!(wire.iter().any(|frame| frame.train().is_some()), offload);
            assert!(round < WARM || sent == 0, "offload {offload}: {sent} allocations");
            wire.drain(..).for_each(|frame| pair.a.pool().give(frame.buffer));
        }
    }
}

const NOW: Time = Time::from_nanos(1);
/// Rounds until every vector that goes round has met the longest run.
const WARM_SHARED: usize = 10 * WARM;
/// SAs that are shared.
const SHARED: usize = 3;

/// Lanes of one host that share SAs, and whose caller decides who goes on.
struct Sharing {
    control: HostControl,
    lanes: Vec<(HostLane, FrameBatch, FrameBatch)>,
    /// What is on the wire, and the number used last under each SA.
    wire: FrameBatch,
    last: [u32; SHARED],
    allocations: u64,
}

impl Sharing {
    fn new(lanes: usize, offload: bool) -> Self {
        let control = HostControl::new(&HostConfig { medium: Medium::Ip, ..HostConfig::default() }).unwrap();
        for network in 0..SHARED as u8 {
            let mut parameters = tunnel_v4().parameters(Direction::Outbound, true);
            let range = |end: u8| AddressRange::prefix(IpAddress::v4([10, network, end, 0]), 24).unwrap();
            parameters.name = format!("tunnel {network}");
            parameters.associations[0].spi = Spi(0x1000 + u32::from(network));
            parameters.selectors = vec![Selector { source: Some(range(1)), destination: Some(range(2)), ..Selector::ANY }];
            control.add_sa(parameters, NOW).unwrap();
        }
        control.service(NOW);
        if !offload {
            assert_eq!(control.operator().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)), Status::SUCCESS);
            control.service(NOW);
        }
        control.share_lanes().unwrap();
        let lanes = (0..lanes).map(|_| (control.open_lane().unwrap(), FrameBatch::new(), FrameBatch::new())).collect();
        Self { control, lanes, wire: FrameBatch::new(), last: [0; SHARED], allocations: 0 }
    }

    /// A lane takes numbers for this many packets, which belong to the SAs by turns, `each` of them together.
    fn send(&mut self, lane: usize, count: usize, each: usize) {
        let (host, frames, out) = &mut self.lanes[lane];
        self.allocations += allocations(|| {
            for at in 0..count {
                let network = (at / each % SHARED) as u8;
                let payload = 100 + at * 13 % 1000;
                let mut buffer = host.pool().take(20 + payload);
                Ipv4Repr::new(IpProtocol(253), [10, network, 1, 1].into(), [10, network, 2, 1].into(), payload).emit(buffer.as_mut_slice()).unwrap();
                frames.push(Frame { tag: lane as u64, ..Frame::new(buffer) });
            }
            host.send(NOW, frames, out);
        });
        assert!(frames.is_empty());
    }

    /// A lane puts on the wire what it may. Returns how many frames went out; their numbers follow those before without a gap, and their buffers go back to
    /// where they came from.
    fn transmit(&mut self, lane: usize) -> usize {
        let Self { lanes, wire, .. } = self;
        let (host, _, out) = &mut lanes[lane];
        self.allocations += allocations(|| host.transmit(out, |_, frames| wire.append(frames)));
        assert!(out.is_empty());
        let sent = wire.len();
        for frame in wire.drain(..) {
            let parsed = ParsedIp::parse(frame.buffer.as_slice()).unwrap();
            let word = |at: usize| u32::from_be_bytes(parsed.payload(frame.buffer.as_slice())[at..at + 4].try_into().unwrap());
            let last = &mut self.last[(word(0) - 0x1000) as usize];
            assert_eq!(word(4), *last + 1, "on the wire");
            *last += 1;
            lanes[frame.tag as usize].0.pool().give(frame.buffer);
        }
        sent
    }
}

/// Nor do lanes that share SAs, where runs of packets have to wait and others release them: runs of many packets and of few, of one SA and of several, one
/// and many at a time.
#[test]
fn lanes_that_wait_for_one_another_allocate_nothing() {
    for offload in [true, false] {
        for each in [BATCH, 7] {
            let mut host = Sharing::new(3, offload);
            let mut sent = 0;
            for round in 0..WARM_SHARED + 3 * MEASURED {
                if round == WARM_SHARED {
                    host.allocations = 0;
                }
                // One that is always held up, and one that is always early.
                host.send(0, BATCH, each);
                host.send(1, BATCH, each);
                assert_eq!(host.transmit(1), 0);
                assert_eq!(host.transmit(0), 2 * BATCH);
                // It changes who is held up, and for how long.
                let (late, early) = ([1, 2, 0][round % 3], [2, 0, 1][round % 3]);
                host.send(late, 5, each);
                for _ in 0..4 {
                    host.send(early, BATCH / 2, each);
                    host.transmit(early);
                }
                host.transmit(late);
                sent += 4 * BATCH + 5;
                assert_eq!(host.last.iter().sum::<u32>() as usize, sent);
            }
            assert_eq!(host.allocations, 0, "offload {offload}, {each} of an SA together");
            let out = host.control.transport().outbound();
            assert_eq!(if offload { out.offloaded.packets } else { out.software.packets }, sent as u64);
        }
    }
}
