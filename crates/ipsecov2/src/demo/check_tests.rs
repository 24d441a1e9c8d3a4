//! The checks can fail: frames that are damaged, missing, doubled, out of order or in clear, one fault at a time.

use link::capture::{CaptureFormat, CaptureOptions, CaptureReader, CaptureWriter};
use packet::{Buffer, Frame};

use super::*;
use crate::demo::plan;

const PACKETS: u8 = 4;

/// What a packet hides: no two packets have the same.
fn text(number: u8) -> Vec<u8> {
    (0..100u8).map(|i| i.wrapping_mul(37).wrapping_add(number.wrapping_mul(11)) ^ (i >> 2)).collect()
}

/// ICMP packets from 10.0.0.1 to 10.0.0.2, which get a connection in transport mode, and TCP from there, which goes through a tunnel; as many as
/// [`PACKETS`] of either. With `ethernet` there is an ARP frame behind them.
fn traffic(ethernet: bool) -> Traffic {
    let mut writer = CaptureWriter::new(Vec::new(), "test", &CaptureOptions::new(CaptureFormat::Pcapng)).unwrap();
    let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
    let link = |ethertype: u16| {
        let mut header = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        header.extend(ethertype.to_be_bytes());
        if ethernet { header } else { vec![] }
    };
    let mut write = |bytes: &[u8]| writer.write_frame(&Frame::new(Buffer::copy_from(bytes)), medium).unwrap();
    for number in 0..2 * PACKETS {
        let mut packet = link(0x0800);
        let protocol = if number < PACKETS { 1 } else { 6 };
        let mut header = vec![0x45, 0, 0, 120, 0, number, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let sum = packet::checksum::ipv4_header_checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(header);
        packet.extend(text(number));
        write(&packet);
    }
    if ethernet {
        let mut arp = link(0x0806);
        arp.extend([9; 28]);
        write(&arp);
    }
    let file = writer.into_inner().unwrap();
    Traffic::read(CaptureReader::new(file.as_slice(), "test").unwrap(), "test").unwrap()
}

/// A wire between hosts that do everything right.
struct Wire<'a> {
    traffic: &'a Traffic,
    connections: &'a [Connection],
    checker: Checker<'a>,
    next: Vec<u32>,
}

impl<'a> Wire<'a> {
    fn new(traffic: &'a Traffic, connections: &'a [Connection]) -> Self {
        Self { traffic, connections, checker: Checker::new(traffic, connections), next: vec![0; connections.len()] }
    }

    /// The frame that packet `tag` becomes.
    fn frame(&mut self, tag: u64) -> Vec<u8> {
        let packet = &self.traffic.packets[tag as usize];
        let Some(ip) = &packet.ip else { return packet.bytes.clone() };
        let at = self.checker.connection_of[tag as usize].unwrap();
        let sa = self.connections[at].way(packet.from).unwrap().sa();
        self.next[at] += 1;
        let number = sa.associations[0].sequence_number + self.next[at];
        let mut frame = packet.bytes[..ip.offset].to_vec();
        frame.extend([0x45, 0, 0, 156, 0, 0, 0, 0, 64, 50, 0, 0]);
        frame.extend(sa.source.as_bytes());
        frame.extend(sa.destination.as_bytes());
        frame.extend(sa.associations[0].spi.to_be_bytes());
        frame.extend(number.to_be_bytes());
        frame.extend((u64::from(number) ^ 0x1122_3344_5566_7788).to_be_bytes());
        frame.extend((0..120u32).map(|i| (i.wrapping_mul(i).wrapping_mul(2_654_435_761).rotate_left(number) >> 11) as u8));
        frame
    }

    /// Sends all packets, each as `change` makes it, and lets them arrive.
    fn run(mut self, mut change: impl FnMut(u64, &mut Vec<u8>)) -> Vec<CheckResult> {
        for tag in 0..self.traffic.packets.len() as u64 {
            self.checker.sent(tag);
            let mut frame = self.frame(tag);
            change(tag, &mut frame);
            self.checker.on_wire(Side::A, tag, &frame);
            self.arrive(tag);
        }
        self.checker.finish()
    }

    fn arrive(&mut self, tag: u64) {
        let packet = &self.traffic.packets[tag as usize];
        if packet.ip.is_some() {
            self.checker.delivered(Side::B, tag, packet.expected());
        } else {
            self.checker.passed(Side::B, tag, packet.expected());
        }
    }
}

fn failed(results: &[CheckResult]) -> Vec<(Check, u64)> {
    assert!(results.iter().all(|result| result.passed == (result.failures == 0) && result.passed == result.first.is_empty()));
    results.iter().filter(|result| !result.passed).map(|result| (result.check, result.failures)).collect()
}

fn with_change(ethernet: bool, change: impl FnMut(u64, &mut Vec<u8>)) -> Vec<(Check, u64)> {
    let traffic = traffic(ethernet);
    let connections = plan::connections(&traffic).unwrap();
    failed(&Wire::new(&traffic, &connections).run(change))
}

#[test]
fn what_is_right_passes() {
    for ethernet in [false, true] {
        assert_eq!(with_change(ethernet, |_, _| {}), [], "{ethernet}");
    }
    let traffic = traffic(true);
    let connections = plan::connections(&traffic).unwrap();
    let names: Vec<_> = connections.iter().map(|connection| connection.name.as_str()).collect();
    assert_eq!(names, ["host4", "tcp4"]);
    let results = Wire::new(&traffic, &connections).run(|_, _| {});
    assert_eq!(results[Check::Delivery as usize].looked_at, "9 of 9");
    assert!(results[Check::ClearText as usize].looked_at.starts_with("8 protected, 1 bypassed;"), "{results:?}");
}

#[test]
fn clear_text_is_found_wherever_it_is() {
    for tag in 0..2 * u64::from(PACKETS) {
        // A piece of the packet's own text, of another one's, and of a packet of the other kind; at every place behind the IV.
        for source in [tag as u8, (tag as u8 + 1) % (2 * PACKETS)] {
            for at in [36, 37, 60, 156 - 31] {
                let piece = text(source)[13..44].to_vec();
                let change = |number, frame: &mut Vec<u8>| {
                    if number == tag {
                        frame[at..at + 31].copy_from_slice(&piece);
                    }
                };
                assert_eq!(with_change(false, change), [(Check::ClearText, 1)], "{tag} {source} {at}");
            }
        }
    }
}

#[test]
fn a_packet_that_is_not_protected_is_found() {
    let traffic = traffic(true);
    let plain = |number: u64, frame: &mut Vec<u8>| {
        if number == 2 {
            frame.clone_from(&traffic.packets[2].bytes);
        }
    };
    assert_eq!(with_change(true, plain), [(Check::ClearText, 1)]);
    // Also if it is hidden in a frame that says that it is not IP.
    let mislabelled = |number: u64, frame: &mut Vec<u8>| {
        if number == 2 {
            frame.clone_from(&traffic.packets[2].bytes);
            frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        }
    };
    assert_eq!(with_change(true, mislabelled), [(Check::ClearText, 1)]);
    // What is bypassed goes as it is.
    let changed = |number: u64, frame: &mut Vec<u8>| {
        if number == 8 {
            frame[20] ^= 1;
        }
    };
    assert_eq!(with_change(true, changed), [(Check::ClearText, 1)]);
}

#[test]
fn esp_of_nobody_is_found() {
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 9] = [
        |frame| frame[20] ^= 1,      // SPI
        |frame| frame[19] ^= 8,      // destination
        |frame| frame[15] ^= 8,      // source
        |frame| frame[9] = 17,       // not ESP
        |frame| frame[6] = 0x20,     // a fragment
        |frame| frame.push(0),       // something behind it
        |frame| frame.truncate(100), // less than the header says
        |frame| frame.truncate(0),   // nothing
        |frame| {
            frame.truncate(20 + 16 + 16); // no more than headers and ICV
            frame[3] = 52;
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let failed = with_change(false, |number, frame| {
            if number == 5 {
                change(frame);
            }
        });
        assert_eq!(failed, [(Check::ClearText, 1)], "change {at}");
    }
}

#[test]
fn numbers_and_ivs_that_come_twice_are_found() {
    let traffic = traffic(false);
    let connections = plan::connections(&traffic).unwrap();
    let mut before = Vec::new();
    let again = |number: u64, frame: &mut Vec<u8>| {
        if number == 2 {
            before.clone_from(frame);
        } else if number == 3 {
            frame.clone_from(&before);
        }
    };
    assert_eq!(failed(&Wire::new(&traffic, &connections).run(again)), [(Check::Ivs, 1), (Check::SequenceNumbers, 1)]);
    let mut iv = [0; 8];
    let only_iv = |number: u64, frame: &mut Vec<u8>| {
        if number == 2 {
            iv.copy_from_slice(&frame[28..36]);
        } else if number == 3 {
            frame[28..36].copy_from_slice(&iv);
        }
    };
    assert_eq!(failed(&Wire::new(&traffic, &connections).run(only_iv)), [(Check::Ivs, 1)]);
    let back = |number: u64, frame: &mut Vec<u8>| {
        if number == 3 {
            frame[27] = 1;
        }
    };
    assert_eq!(failed(&Wire::new(&traffic, &connections).run(back)), [(Check::SequenceNumbers, 1)]);
}

#[test]
fn extended_numbers_go_on_over_the_wrap_of_what_is_shown() {
    let traffic = traffic(false);
    let connections = plan::connections(&traffic).unwrap();
    for (esn, faults) in [(true, 0), (false, 2)] {
        let mut wire = Wire::new(&traffic, &connections);
        for sa in wire.checker.numbers.values_mut() {
            (sa.esn, sa.last) = (esn, 0xffff_fffd);
        }
        // Both connections: 0xfffffffe, 0xffffffff, 0, 1. Without extended numbers the last two are too small.
        let results = wire.run(|number, frame| {
            let shown = 0xffff_fffe_u32.wrapping_add(number as u32 % u32::from(PACKETS));
            frame[24..28].copy_from_slice(&shown.to_be_bytes());
        });
        assert_eq!(results[Check::SequenceNumbers as usize].failures, 2 * faults, "{results:?}");
    }
}

#[test]
fn packets_that_a_nic_could_not_have_been_told_of_are_counted() {
    let traffic = traffic(false);
    let connections = plan::connections(&traffic).unwrap();
    let mut wire = Wire::new(&traffic, &connections);
    for sa in wire.checker.numbers.values_mut() {
        (sa.esn, sa.last) = (true, 0xffff_fffe);
    }
    let mut untold = Vec::new();
    for (tag, shown) in [(0, u32::MAX), (1, 0), (2, 1), (3, 2)] {
        let mut frame = wire.frame(tag);
        frame[24..28].copy_from_slice(&shown.to_be_bytes());
        if tag == 3 {
            wire.checker.told();
        }
        untold.push(wire.checker.on_wire(Side::A, tag, &frame));
    }
    assert_eq!((untold, wire.checker.untold(Side::A), wire.checker.untold(Side::B)), (vec![false, true, true, false], 2, 0));
}

#[test]
fn packets_that_do_not_arrive_as_they_were_sent_are_found() {
    let traffic = traffic(true);
    let connections = plan::connections(&traffic).unwrap();
    let last = traffic.packets.len() as u64 - 1;
    let run = |deliver: &dyn Fn(&mut Wire<'_>, u64)| {
        let mut wire = Wire::new(&traffic, &connections);
        for tag in 0..=last {
            wire.checker.sent(tag);
            let frame = wire.frame(tag);
            wire.checker.on_wire(Side::A, tag, &frame);
        }
        for tag in 0..=last {
            deliver(&mut wire, tag);
        }
        failed(&wire.checker.finish())
    };
    assert_eq!(run(&|wire, tag| wire.arrive(tag)), []);
    let delivery = |failures| vec![(Check::Delivery, failures)];
    // Missing.
    assert_eq!(
        run(&|wire, tag| if tag != 3 {
            wire.arrive(tag);
        }),
        delivery(1)
    );
    assert_eq!(
        run(&|wire, tag| if tag != 7 {
            wire.arrive(tag);
        }),
        delivery(1)
    );
    assert_eq!(
        run(&|wire, tag| if tag != last {
            wire.arrive(tag);
        }),
        delivery(1)
    );
    // Twice.
    assert_eq!(run(&|wire, tag| (0..=u64::from(tag == 3)).for_each(|_| wire.arrive(tag))), delivery(1));
    // Out of order.
    assert_eq!(run(&|wire, tag| wire.arrive(if tag < 8 { tag ^ 1 } else { tag })), delivery(4));
    // At the wrong host, and as something that had not been protected: neither expected there, nor arrived where it should.
    let wrong_host = |wire: &mut Wire<'_>, tag: u64| match tag {
        7 => wire.checker.delivered(Side::A, tag, traffic.packets[7].expected()),
        _ => wire.arrive(tag),
    };
    assert_eq!(run(&wrong_host), delivery(2));
    let wrong_way = |wire: &mut Wire<'_>, tag: u64| match tag {
        7 => wire.checker.passed(Side::B, tag, traffic.packets[7].expected()),
        _ => wire.arrive(tag),
    };
    assert_eq!(run(&wrong_way), delivery(2));
    // Changed, longer, shorter, and another one's bytes.
    for change in [|bytes: &mut Vec<u8>| bytes[50] ^= 1, |bytes: &mut Vec<u8>| bytes.push(0), |bytes: &mut Vec<u8>| bytes.truncate(40)] {
        let changed = |wire: &mut Wire<'_>, tag: u64| {
            let mut bytes = traffic.packets[tag as usize].expected().to_vec();
            if tag == 5 {
                change(&mut bytes);
                wire.checker.delivered(Side::B, tag, &bytes);
            } else {
                wire.arrive(tag);
            }
        };
        assert_eq!(run(&changed), delivery(1));
    }
    // One that was never sent.
    assert_eq!(
        run(&|wire, tag| {
            wire.arrive(tag);
            if tag == 4 {
                wire.checker.delivered(Side::B, 1000, &[1, 2, 3]);
            }
        }),
        delivery(1)
    );
}

#[test]
fn only_packets_of_a_batch_that_partly_came_back_may_overtake_one_another() {
    let traffic = traffic(false);
    let connections = plan::connections(&traffic).unwrap();
    let in_order_of = |order: [u64; 8]| {
        let mut wire = Wire::new(&traffic, &connections);
        for tag in 0..8 {
            wire.checker.sent(tag);
            let frame = wire.frame(tag);
            wire.checker.on_wire(Side::A, tag, &frame);
        }
        wire.checker.may_overtake(2..5);
        for tag in order {
            wire.arrive(tag);
        }
        failed(&wire.checker.finish())
    };
    assert_eq!(in_order_of([0, 1, 4, 2, 3, 5, 6, 7]), []);
    assert_eq!(in_order_of([0, 2, 1, 3, 4, 5, 6, 7]), [(Check::Delivery, 1)]);
    assert_eq!(in_order_of([0, 1, 2, 3, 5, 4, 6, 7]), [(Check::Delivery, 1)]);
    assert_eq!(in_order_of([0, 1, 4, 2, 5, 6, 3, 7]), [(Check::Delivery, 1)]);
    assert_eq!(in_order_of([0, 1, 2, 3, 4, 6, 5, 7]), [(Check::Delivery, 1)]);
}

#[test]
fn a_frame_too_many_on_the_wire_is_found() {
    let traffic = traffic(true);
    let connections = plan::connections(&traffic).unwrap();
    let mut wire = Wire::new(&traffic, &connections);
    // Nothing is wrong with it, but that nobody sent it.
    let frame = wire.frame(0);
    wire.checker.on_wire(Side::A, 0, &frame);
    assert_eq!(failed(&wire.run(|_, _| {})), [(Check::Delivery, 1)]);
}

#[test]
fn what_is_required_fails_where_it_belongs() {
    let traffic = traffic(false);
    let connections = plan::connections(&traffic).unwrap();
    for check in [Check::Counters, Check::Offload] {
        let mut wire = Wire::new(&traffic, &connections);
        wire.checker.require(check, true, || unreachable!("it holds"));
        wire.checker.require(check, false, || "told".to_owned());
        let results = wire.run(|_, _| {});
        assert_eq!(failed(&results), [(check, 1)]);
        assert_eq!(results[check as usize].first, ["told"]);
    }
}

#[test]
fn many_failures_are_counted_and_some_are_told() {
    let traffic = traffic(false);
    let connections = plan::connections(&traffic).unwrap();
    let results = Wire::new(&traffic, &connections).run(|_, frame| frame.clear());
    let result = &results[Check::ClearText as usize];
    assert_eq!((result.failures, result.first.len()), (8, TOLD));
}

#[test]
fn numbers_are_grouped() {
    for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567"), (u64::MAX, "18,446,744,073,709,551,615")] {
        assert_eq!(group(number), text);
    }
}
