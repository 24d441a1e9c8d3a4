//! Several lanes send under the same SAs: what they send reaches the wire in the order of its numbers, whoever is held up where.

mod common;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Connection, key, tunnel_v4};
use ipsec::{AesKeySize, Authentication, Encryption};
use ipsecov2::host::{HostConfig, HostControl, HostLane};
use ndis::{Direction, IpsecSetting, OffloadParameters, Status};
use packet::{Frame, FrameBatch, IpAddress, IpProtocol, Ipv4Repr, Medium, ParsedIp, Spi, Time};
use proptest::prelude::*;
use transport::{AddressRange, AssociationParameters, DropReason, InboundBatch, Mode, SaParameters, Selector};

const WINDOW: u32 = 64;
const NOW: Time = Time::from_nanos(1);

fn control() -> HostControl {
    HostControl::new(&HostConfig { medium: Medium::Ip, ..HostConfig::default() }).unwrap()
}

/// A packet between the networks of connection `number`, with a number of its own.
fn packet(lane: &mut HostLane, network: u8, number: u64) -> Frame {
    let payload = 8 + (number % 5) as usize * 11;
    let mut buffer = lane.pool().take(20 + payload);
    let (source, destination) = ([10, network, 1, 1], [10, network, 2, 1]);
    Ipv4Repr::new(IpProtocol(253), source.into(), destination.into(), payload).emit(buffer.as_mut_slice()).unwrap();
    buffer.as_mut_slice()[20..28].copy_from_slice(&number.to_be_bytes());
    Frame { tag: number, ..Frame::new(buffer) }
}

/// What stands in the outermost IPsec header of a frame: SPI and sequence number.
fn number_of(frame: &[u8]) -> (u32, u32) {
    let parsed = ParsedIp::parse(frame).unwrap();
    let at = match parsed.protocol() {
        IpProtocol::ESP => 0,
        IpProtocol::AH => 4,
        other => panic!("{other} on the wire"),
    };
    let word = |at: usize| u32::from_be_bytes(parsed.payload(frame)[at..at + 4].try_into().unwrap());
    (word(at), word(at + 4))
}

/// Numbers of every SPI ascend. Returns how many frames each had.
fn assert_ascending<'a>(wire: impl IntoIterator<Item = &'a Frame>) -> HashMap<u32, u64> {
    let (mut last, mut counts) = (HashMap::new(), HashMap::new());
    for frame in wire {
        let (spi, number) = number_of(frame.buffer.as_slice());
        let before = last.insert(spi, number);
        assert!(before.is_none_or(|before| before < number), "SPI {spi:#x}: {number} after {before:?}");
        *counts.entry(spi).or_default() += 1;
    }
    counts
}

/// A host that receives, and the SAs for it.
struct Receiver {
    control: HostControl,
    lane: HostLane,
    out: InboundBatch,
}

impl Receiver {
    fn new() -> Self {
        let control = control();
        let lane = control.open_lane().unwrap();
        Self { control, lane, out: InboundBatch::default() }
    }

    /// Takes frames in; the numbers of the packets that are delivered.
    fn receive(&mut self, frames: &mut FrameBatch) -> Vec<u64> {
        assert_eq!(self.lane.receive(NOW, frames, &mut self.out), 0);
        let number = |frame: Frame| u64::from_be_bytes(frame.buffer.as_slice()[20..28].try_into().unwrap());
        self.out.delivered.drain(..).map(number).collect()
    }

    fn replayed(&self) -> u64 {
        let inbound = self.control.transport().inbound();
        inbound.dropped_for(DropReason::Replayed).packets + inbound.dropped_for(DropReason::TooOld).packets
    }
}

/// One SA over which everything goes.
fn one_sa() -> Connection {
    Connection { replay_window: WINDOW, ..tunnel_v4() }
}

fn add(control: &HostControl, parameters: SaParameters) {
    let sa = control.transport().add_sa(parameters, NOW).unwrap();
    control.transport().protect(sa);
    control.service(NOW);
}

/// Two workers on threads of their own, which are held up now and then between the numbers and the wire. Returns how many packets the receiver dropped as
/// replayed.
fn run_two_workers(shared: bool, packets: u64) -> u64 {
    const BATCH: u64 = 32;
    let sender = control();
    add(&sender, one_sa().parameters(Direction::Outbound, true));
    if shared {
        sender.share_lanes().unwrap();
    }
    let lanes = [sender.open_lane().unwrap(), sender.open_lane().unwrap()];
    let mut receiver = Receiver::new();
    add(&receiver.control, one_sa().parameters(Direction::Inbound, true));
    // The wire is as long as one likes, and the receiver takes what there is.
    let wire = Mutex::new(FrameBatch::new());
    let ended = AtomicBool::new(false);
    let delivered = thread::scope(|scope| {
        let workers: Vec<_> = lanes
            .into_iter()
            .enumerate()
            .map(|(worker, mut lane)| {
                let wire = &wire;
                scope.spawn(move || {
                    let (mut frames, mut out) = (FrameBatch::new(), FrameBatch::new());
                    let each = packets / 2;
                    let mut random = 0x9e37_79b9_u64 + worker as u64;
                    for round in 0..each / BATCH {
                        let first = worker as u64 * each + round * BATCH;
                        frames.extend((first..first + BATCH).map(|number| packet(&mut lane, 0, number)));
                        lane.send(NOW, &mut frames, &mut out);
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        match random >> 33 {
                            // A worker that is stopped while the other goes on.
                            roll if roll % 512 == 0 => thread::sleep(Duration::from_millis(10)),
                            roll if roll % 16 == 1 => thread::yield_now(),
                            _ => {}
                        }
                        lane.transmit(&mut out, |_, frames| wire.lock().unwrap().append(frames));
                    }
                })
            })
            .collect();
        let (wire, ended, receiver) = (&wire, &ended, &mut receiver);
        let receiving = scope.spawn(move || {
            let (mut delivered, mut last) = (0, 0);
            loop {
                // In this order: what was sent before the end is taken.
                let over = ended.load(Ordering::Acquire);
                let mut frames = core::mem::take(&mut *wire.lock().unwrap());
                if frames.is_empty() {
                    if over {
                        return delivered;
                    }
                    thread::yield_now();
                    continue;
                }
                if shared {
                    for frame in &frames {
                        let (_, number) = number_of(frame.buffer.as_slice());
                        assert_eq!(number, last + 1, "on the wire");
                        last = number;
                    }
                }
                delivered += receiver.receive(&mut frames).len() as u64;
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        ended.store(true, Ordering::Release);
        receiving.join().unwrap()
    });
    let sent = sender.transport().outbound().offloaded.packets;
    let replayed = receiver.replayed();
    assert_eq!(sent, packets / 2 / BATCH * BATCH * 2);
    assert_eq!(delivered + replayed, sent);
    replayed
}

#[test]
fn two_workers_lose_nothing_to_a_window_of_64() {
    assert_eq!(run_two_workers(true, 200_000), 0);
}

#[test]
fn without_turns_they_do() {
    // What shows that the test above can fail.
    assert_ne!(run_two_workers(false, 200_000), 0);
}

#[test]
fn lanes_that_do_not_know_of_it_cannot_be_shared() {
    let host = control();
    let lane = host.open_lane().unwrap();
    assert!(host.share_lanes().is_err());
    drop(lane);
    host.share_lanes().unwrap();
    let _lane = host.open_lane().unwrap();
    host.share_lanes().unwrap();
}

/// What a bundle of the tests below is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Esp,
    Ah,
    AhEsp,
    /// ESP in transport mode inside of the first tunnel.
    Nested,
}

const FORMS: [Form; 4] = [Form::Esp, Form::Ah, Form::AhEsp, Form::Nested];

fn esp(spi: u32, last: u32) -> AssociationParameters {
    AssociationParameters {
        sequence_number: last,
        ..AssociationParameters::esp(Spi(spi), Encryption::AesGcm(AesKeySize::Aes128), key(Encryption::AesGcm(AesKeySize::Aes128), 3))
    }
}

fn ah(spi: u32, last: u32) -> AssociationParameters {
    AssociationParameters { sequence_number: last, ..AssociationParameters::ah(Spi(spi), Authentication::HmacSha256, vec![9; 32].into()) }
}

/// The bundles for all forms, in the direction: what network 0 to 3 has is carried in this form. The tunnel around [`Form::Nested`] is that of
/// [`Form::AhEsp`], which has packets of its own, too.
fn bundles(direction: Direction, last: u32) -> Vec<SaParameters> {
    let network = |network: u8| -> Selector {
        let range = |end: u8| AddressRange::prefix(IpAddress::v4([10, network, end, 0]), 24).unwrap();
        Selector { source: Some(range(1)), destination: Some(range(2)), ..Selector::ANY }
    };
    let base = || SaParameters { mode: Mode::Tunnel, ..one_sa().parameters(direction, true) };
    let tunnel = |number: u8, associations| SaParameters { name: format!("tunnel {number}"), associations, selectors: vec![network(number)], ..base() };
    vec![
        tunnel(0, vec![esp(0x1000, last)]),
        tunnel(1, vec![ah(0x1001, last)]),
        tunnel(2, vec![esp(0x1002, last), ah(0x1102, last)]),
        SaParameters {
            name: "nested".into(),
            mode: Mode::Transport,
            source: IpAddress::v4([10, 3, 1, 1]),
            destination: IpAddress::v4([10, 3, 2, 1]),
            associations: vec![esp(0x1003, last)],
            selectors: vec![network(3)],
            inside: Some("tunnel 2".into()),
            ..base()
        },
    ]
}

fn put_all(control: &HostControl, direction: Direction, last: u32) {
    for mut parameters in bundles(direction, last) {
        if direction == Direction::Inbound {
            parameters.associations.iter_mut().for_each(|association| association.sequence_number = 0);
        }
        add(control, parameters);
    }
}

fn offload_off(control: &HostControl) {
    assert_eq!(control.operator().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)), Status::SUCCESS);
}

/// Lanes of one host, whose caller decides who goes on.
struct Bench {
    sender: HostControl,
    receiver: Receiver,
    lanes: Vec<(HostLane, FrameBatch)>,
    wire: FrameBatch,
    next: u64,
}

impl Bench {
    fn new(lanes: usize, last: u32) -> Self {
        let sender = control();
        put_all(&sender, Direction::Outbound, last);
        let bench = Self::of(sender, lanes);
        put_all(&bench.receiver.control, Direction::Inbound, last);
        bench
    }

    /// The same with a sender that has its SAs, and a receiver that has none.
    fn of(sender: HostControl, lanes: usize) -> Self {
        sender.share_lanes().unwrap();
        let receiver = Receiver::new();
        let lanes = (0..lanes).map(|_| (sender.open_lane().unwrap(), FrameBatch::new())).collect();
        Self { sender, receiver, lanes, wire: FrameBatch::new(), next: 0 }
    }

    /// A lane takes packets of these networks.
    fn send(&mut self, lane: usize, networks: impl IntoIterator<Item = u8>) {
        let (lane, out) = &mut self.lanes[lane];
        let mut frames = FrameBatch::new();
        for network in networks {
            frames.push(packet(lane, network, self.next));
            self.next += 1;
        }
        lane.send(NOW, &mut frames, out);
    }

    fn transmit(&mut self, lane: usize) {
        let (lane, out) = &mut self.lanes[lane];
        lane.transmit(out, |_, frames| self.wire.append(frames));
        assert!(out.is_empty());
    }

    fn finish(&mut self) -> Vec<u64> {
        (0..self.lanes.len()).for_each(|lane| self.transmit(lane));
        assert_ascending(&self.wire);
        let mut delivered = self.receiver.receive(&mut self.wire);
        delivered.sort_unstable();
        delivered
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any lanes, any bundles, several in a batch, in any order of taking and sending: ascending on the wire, and nothing is lost to the window, also of
    /// what is inside of a tunnel.
    #[test]
    fn every_form_of_bundle_keeps_its_order(
        steps in prop::collection::vec((0_usize..3, prop::option::weighted(0.6, prop::collection::vec(0_u8..4, 1..40))), 1..40),
        software in any::<bool>(),
    ) {
        let mut bench = Bench::new(3, 0);
        if software {
            offload_off(&bench.sender);
            bench.sender.service(NOW);
        }
        for (lane, networks) in steps {
            match networks {
                // Fewer than have room to wait: here is only one thread.
                Some(networks) if bench.lanes.iter().map(|lane| lane.1.len()).sum::<usize>() < 500 => bench.send(lane, networks),
                _ => bench.transmit(lane),
            }
        }
        let delivered = bench.finish();
        prop_assert_eq!(bench.receiver.replayed(), 0);
        prop_assert!(delivered.into_iter().eq(0..bench.next), "{:?}", bench.receiver.control.transport().inbound());
        let out = bench.sender.transport().outbound();
        prop_assert_eq!(if software { out.software.packets } else { out.offloaded.packets }, bench.next);
    }
}

#[test]
fn a_run_that_is_due_last_takes_the_others_along() {
    let mut bench = Bench::new(4, 0);
    for lane in 0..4 {
        bench.send(lane, [0; 20]);
    }
    for (lane, sent) in [(3, 0), (1, 0), (2, 0), (0, 80)] {
        bench.transmit(lane);
        assert_eq!(bench.wire.len(), sent);
    }
    assert_eq!(assert_ascending(&bench.wire), HashMap::from([(0x1000, 80)]));
    assert_eq!(bench.finish().len(), 80);
}

#[test]
fn a_lane_that_ends_holds_nobody() {
    let mut bench = Bench::new(3, 0);
    for lane in 0..3 {
        bench.send(lane, [0, 1, 2, 3]);
    }
    bench.transmit(1);
    drop(bench.lanes.remove(0));
    bench.transmit(1);
    assert_eq!(bench.finish(), (4..12).collect::<Vec<_>>());
}

#[test]
fn what_waited_for_a_lane_that_ended_goes_with_whoever_polls() {
    let mut bench = Bench::new(3, 0);
    for lane in 0..2 {
        bench.send(lane, [0, 1, 2, 3]);
    }
    bench.transmit(1);
    bench.lanes.remove(0);
    assert!(bench.wire.is_empty());
    // It has never sent anything, and nobody sends anything any more.
    let (lane, out) = &mut bench.lanes[1];
    lane.poll(NOW, out);
    assert!(out.is_empty());
    bench.transmit(1);
    assert_eq!(bench.wire.len(), 4);
    assert_eq!(bench.finish(), (4..8).collect::<Vec<_>>());
}

#[test]
fn the_last_numbers_are_of_use_and_what_gets_none_holds_nobody() {
    for form in FORMS {
        let network = form as u8;
        let mut bench = Bench::new(2, u32::MAX - 100);
        for round in 0..4 {
            bench.send(round % 2, [network; 40]);
        }
        bench.transmit(1);
        bench.transmit(0);
        let wire: Vec<_> = bench.wire.iter().map(|frame| number_of(frame.buffer.as_slice()).1).collect();
        assert_eq!(wire, (u32::MAX - 99..=u32::MAX).collect::<Vec<_>>(), "{form:?}");
        assert_eq!(bench.sender.transport().outbound().dropped_for(DropReason::SequenceExhausted).packets, 60, "{form:?}");
    }
}

/// The numbers of one SA run out in the middle of batches that others of other SAs are in, too: packets without a number are refused with their reason, and
/// nobody waits for them, neither those that have got the last numbers nor what comes later under other SAs.
#[test]
fn numbers_that_run_out_in_shared_batches_hold_nobody() {
    const LEFT: usize = 50;
    for software in [false, true] {
        for form in FORMS {
            let sender = control();
            // The other forms have all the numbers that they want. The nested one shares those of the tunnel around it.
            let fresh = bundles(Direction::Outbound, 0);
            let worn = bundles(Direction::Outbound, u32::MAX - LEFT as u32);
            for (number, (fresh, worn)) in fresh.into_iter().zip(worn).enumerate() {
                add(&sender, if number == form as usize { worn } else { fresh });
            }
            if software {
                offload_off(&sender);
                sender.service(NOW);
            }
            let mut bench = Bench::of(sender, 3);
            let by_turns = |count: usize| (0..count).map(|number| (number % 4) as u8);
            // 20 of each form from each lane: the numbers run out in the middle of one of the batches.
            for lane in [0, 1, 2] {
                bench.send(lane, by_turns(80));
            }
            // Later runs, 10 of each form.
            bench.send(1, by_turns(40));
            bench.send(0, by_turns(40));
            for lane in [2, 1] {
                bench.transmit(lane);
                assert!(bench.wire.is_empty(), "{form:?}: overtakes");
            }
            bench.transmit(0);
            assert!(bench.lanes.iter().all(|lane| lane.1.is_empty()));
            let counts = assert_ascending(&bench.wire);
            // On the wire the nested form has the SPI of the tunnel around it.
            let seen: Vec<_> = [0x1000, 0x1001, 0x1102].iter().map(|spi| counts.get(spi).map_or(0, |&count| count as usize)).collect();
            let expected = match form {
                Form::Esp => [LEFT, 80, 160],
                Form::Ah => [80, LEFT, 160],
                Form::AhEsp => [80, 80, LEFT],
                Form::Nested => [80, 80, 80 + LEFT],
            };
            assert_eq!(seen, expected, "{form:?}");
            assert_eq!(counts.len(), 3);
            let outbound = bench.sender.transport().outbound();
            let refused = (320 - expected.iter().sum::<usize>()) as u64;
            assert_eq!(outbound.dropped_for(DropReason::SequenceExhausted).packets, refused, "{form:?}");
            assert_eq!(outbound.dropped_total().packets, refused, "{form:?}");
            // Nothing waits: what comes now goes at once.
            bench.wire.clear();
            bench.send(2, by_turns(4));
            bench.transmit(2);
            assert_eq!(bench.wire.len(), if form == Form::AhEsp { 2 } else { 3 });
        }
    }
}

/// The same where workers are quicker than one another: of the last numbers each is used once, and none is waited for that nobody got.
#[test]
fn workers_that_race_for_the_last_numbers_hold_nobody() {
    const LEFT: u32 = 3_000;
    const BATCH: u64 = 48;
    for form in [Form::Esp, Form::Ah, Form::AhEsp] {
        let sender = control();
        put_all(&sender, Direction::Outbound, u32::MAX - LEFT);
        sender.share_lanes().unwrap();
        let lanes: Vec<_> = (0..3).map(|_| sender.open_lane().unwrap()).collect();
        let wire = Mutex::new(FrameBatch::new());
        thread::scope(|scope| {
            for mut lane in lanes {
                let wire = &wire;
                scope.spawn(move || {
                    let (mut frames, mut out) = (FrameBatch::new(), FrameBatch::new());
                    for round in 0..u64::from(LEFT) / BATCH {
                        frames.extend((0..BATCH).map(|number| packet(&mut lane, form as u8, number)));
                        lane.send(NOW, &mut frames, &mut out);
                        if round % 8 == 0 {
                            thread::yield_now();
                        }
                        lane.transmit(&mut out, |_, frames| wire.lock().unwrap().append(frames));
                    }
                });
            }
        });
        let numbers: Vec<_> = wire.into_inner().unwrap().iter().map(|frame| number_of(frame.buffer.as_slice()).1).collect();
        assert!(numbers.into_iter().eq(u32::MAX - LEFT + 1..=u32::MAX), "{form:?}");
        let refused = sender.transport().outbound().dropped_for(DropReason::SequenceExhausted).packets;
        assert_eq!(refused, 3 * (u64::from(LEFT) / BATCH * BATCH) - u64::from(LEFT), "{form:?}");
    }
}

#[test]
fn packets_that_the_nic_gives_back_get_new_turns() {
    let mut bench = Bench::new(2, 0);
    bench.send(0, [0, 1, 2, 3, 0, 1, 2, 3]);
    // The transport does not hear of it yet: what it asks the NIC to do comes back, and is done in software.
    offload_off(&bench.sender);
    bench.send(1, [0, 1, 2, 3, 0, 1, 2, 3]);
    bench.send(0, [3, 3, 0, 0]);
    assert_eq!(bench.sender.transport().outbound().retried, 12);
    bench.transmit(1);
    bench.transmit(0);
    bench.sender.service(NOW);
    bench.send(1, [0, 1, 2, 3]);
    assert_eq!(bench.finish(), (0..24).collect::<Vec<_>>());
}

#[test]
fn a_reset_in_the_middle_holds_nobody() {
    let mut bench = Bench::new(2, 0);
    bench.send(0, [0, 1, 2, 3]);
    bench.sender.stack().reset_adapter(ipsecov2::host::ADAPTER).unwrap();
    // These wait for the adapter; their numbers hold nobody.
    bench.send(1, [0, 1, 2, 3]);
    bench.transmit(1);
    assert_eq!(bench.lanes[1].0.backlog(), 4);
    bench.transmit(0);
    assert_eq!(bench.wire.len(), 4);
    bench.sender.service(NOW);
    bench.send(0, [0, 1, 2, 3]);
    bench.send(1, [0, 1, 2, 3]);
    assert_eq!(bench.lanes[1].0.backlog(), 0);
    bench.transmit(1);
    bench.transmit(0);
    // What waited is exempt from the order, and is within the window here.
    let mut delivered = bench.receiver.receive(&mut bench.wire);
    delivered.sort_unstable();
    assert_eq!(delivered, (0..16).collect::<Vec<_>>());
}
