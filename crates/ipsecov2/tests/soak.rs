//! Soak: bad packets without end change nothing: no memory, no handle, no buffer more than after the first round, each in one counter.
//!
//! `IPSECOV2_SOAK` is how many packets there are; `scripts/soak` has ten million of them.

#[allow(unsafe_code, reason = "a global allocator is unsafe by definition")]
#[path = "../../nic/tests/counting/mod.rs"]
mod counting;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "host_suites/kinds.rs"]
mod kinds;

use counting::allocations;
use ipsecov2::host::{Host, HostConfig};
use kinds::{CBC, GATE4, GATE6, GCM, HOST4, HOST6, Kind, Spec};
use ndis::Direction;
use packet::{Frame, FrameBatch, IpProtocol, Ipv4Repr, Ipv6Repr, Medium, Time};
use transport::{InboundBatch, Mode, OffloadPolicy};

const NOW: Time = Time::from_nanos(1);
const PACKETS: u64 = 1_000_000;
const BATCH: usize = 64;
/// Rounds after which everything has grown to its size.
const WARM: usize = 4;

fn scenes() -> Vec<Kind> {
    vec![
        Kind::tunnel(vec![GCM]),
        Kind::transport(vec![GCM]).extended(40),
        Kind::single(Mode::Tunnel, GATE6, HOST6, vec![CBC]),
        Kind::tunnel(vec![GCM, Spec::ah(ipsec::Authentication::HmacSha1)]),
        Kind::nested(GATE4, HOST4, vec![CBC], vec![GCM]),
        Kind::tunnel(vec![GCM]).udp(0),
    ]
}

fn host(kind: &Kind, direction: Direction, policy: OffloadPolicy) -> Host {
    let mut host = Host::new(&HostConfig { medium: Medium::Ip, capacity: 16, ..HostConfig::default() }.with_nic_capacity(16)).unwrap();
    host.add_sas(kind.parameters(direction, policy), NOW).unwrap();
    host.service(NOW, &mut FrameBatch::new());
    host
}

/// What a peer sends that is good.
fn sealed(kind: &Kind, count: usize) -> Vec<Vec<u8>> {
    let mut host = host(kind, Direction::Outbound, OffloadPolicy::Prefer);
    let packets = (0..count).map(|number| {
        let payload = vec![number as u8; 40 + number * 29 % 900];
        let mut packet = vec![0; if kind.inner == HOST4 { 20 } else { 40 }];
        if kind.inner == HOST4 {
            Ipv4Repr::new(IpProtocol(253), HOST4.0.parse().unwrap(), HOST4.1.parse().unwrap(), payload.len()).emit(&mut packet).unwrap();
        } else {
            Ipv6Repr::new(IpProtocol(253), HOST6.0.parse().unwrap(), HOST6.1.parse().unwrap(), payload.len()).emit(&mut packet).unwrap();
        }
        [packet, payload].concat()
    });
    let packets: Vec<_> = packets.collect();
    let mut frames: FrameBatch = packets.iter().map(|packet| Frame::new(host.pool().copy_from(packet))).collect();
    let mut wire = FrameBatch::new();
    host.send(NOW, &mut frames, &mut wire);
    assert_eq!(wire.len(), count);
    wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect()
}

/// Packets that are bad in every way: forged, cut, of nobody, with headers that lie, fragments, repeated, of no kind at all.
fn bad(good: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut bad = Vec::new();
    for (number, packet) in good.iter().enumerate() {
        let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
        let mut changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = packet.clone();
            change(&mut packet);
            bad.push(packet);
        };
        changed(&|packet| *packet.last_mut().unwrap() ^= 1 << (number % 8));
        changed(&|packet| packet[header + 9 + number % 24] ^= 0x10);
        changed(&|packet| packet[header + 3] ^= 0x55);
        changed(&|packet| packet.truncate(packet.len() - 1 - number * 7 % 60));
        changed(&|packet| packet.truncate(number % (header + 12)));
        changed(&|packet| packet[0] = ((number % 16) as u8) << 4 | 0x0f);
        changed(&|packet| packet[if header == 20 { 9 } else { 6 }] = [51, 50, 17, 4, 41, 0, 44, 60][number % 8]);
        changed(&|packet| {
            if header == 20 {
                packet[6] = 0x20;
            } else {
                packet[6] = 44;
            }
        });
        changed(&|packet| packet[2 + header / 20] = packet[2 + header / 20].wrapping_add(number as u8 | 1));
        // As it was: repeated from the second round on.
        changed(&|_| {});
        changed(&|packet| {
            packet.clear();
            packet.extend((0..number * 11 % 300).map(|at| (at * number) as u8));
        });
    }
    bad
}

struct Soak {
    host: Host,
    frames: FrameBatch,
    out: InboundBatch,
    taken: u64,
}

impl Soak {
    /// Takes all of `bad` in, in batches; buffers go round as they do in a program.
    fn round(&mut self, bad: &[Vec<u8>]) {
        for batch in bad.chunks(BATCH) {
            for packet in batch {
                let buffer = self.host.pool().copy_from(packet);
                self.frames.push(Frame::new(buffer));
            }
            self.host.receive(NOW, &mut self.frames, &mut self.out);
            self.taken += batch.len() as u64;
            assert!(self.frames.is_empty() && self.out.verdicts.len() == batch.len());
            self.out.verdicts.clear();
            for list in [&mut self.out.delivered, &mut self.out.passed] {
                for frame in list.drain(..) {
                    self.host.pool().give(frame.buffer);
                }
            }
        }
    }

    /// SAs of the NIC, SAs of the transport.
    fn held(&self) -> (u64, usize) {
        let counters = self.host.nic_counters();
        (counters.sas_added - counters.sas_deleted, self.host.transport().sas().len())
    }
}

#[test]
fn r_35_bad_packets_change_nothing() {
    let packets = std::env::var("IPSECOV2_SOAK").map_or(PACKETS, |text| text.parse().expect("IPSECOV2_SOAK: a number of packets"));
    let scenes = scenes();
    let each = packets / (2 * scenes.len() as u64);
    for kind in scenes {
        let bad = bad(&sealed(&kind, 47));
        for policy in [OffloadPolicy::Prefer, OffloadPolicy::Forbid] {
            let out = InboundBatch { report: true, ..InboundBatch::default() };
            let mut soak = Soak { host: host(&kind, Direction::Inbound, policy), frames: vec![], out, taken: 0 };
            for _ in 0..WARM {
                soak.round(&bad);
            }
            let delivered = soak.host.transport().inbound();
            let held = soak.held();
            assert_eq!(held.0 == 0, policy == OffloadPolicy::Forbid);
            let memory = allocations(|| {
                while soak.taken < each {
                    soak.round(&bad);
                }
            });
            assert_eq!(memory, 0, "{} {policy:?}: allocations, reallocations and releases of memory", kind.name());
            assert_eq!(soak.held(), held, "{}", kind.name());
            let counts = soak.host.transport().inbound();
            assert_eq!((counts.seen.packets, counts.ended()), (soak.taken, soak.taken), "{}: each packet in one counter", kind.name());
            assert_eq!(soak.host.nic_counters().receives(), soak.taken);
            assert_eq!((counts.offloaded, counts.software), (delivered.offloaded, delivered.software), "{}: nothing of it is taken", kind.name());
            // What is kept for the audit is bounded, and so is what is told of it.
            let (audit, events) = (soak.host.transport().take_audit().len(), soak.host.transport().take_events().len());
            assert!((1..=1024).contains(&audit) && events == 0, "{audit} {events}");
            // And it works still.
            let mut frames = FrameBatch::new();
            let fresh = sealed(&kind, 60).pop().unwrap();
            frames.push(Frame::new(soak.host.pool().copy_from(&fresh)));
            soak.host.receive(NOW, &mut frames, &mut soak.out);
            assert_eq!(soak.out.delivered.len(), 1, "{} {policy:?}: {:?}", kind.name(), soak.out.verdicts);
        }
    }
}
