//! Every reason for which a packet is not delivered, or not protected.

use packet::IpProtocol;
use serde_json::{Value, json};

use crate::tool::{Packet, Sealer, Tool, ipv4, sa, udp};

const SPI: u32 = 0x2001;

fn opened(sas: &str, packets: &[Packet], flags: &[&str]) -> (Vec<Value>, Vec<Packet>) {
    let tool = Tool::new();
    tool.write("sa.toml", sas);
    tool.write_capture("in.pcap", packets);
    let run = tool.run(&[&["pcap", "open", "--sa", "sa.toml", "--report", "report", "--json", "in.pcap", "out.pcap"], flags].concat()).succeeds();
    let (report, out) = (tool.lines("report"), tool.capture("out.pcap"));
    // Every packet has one line and is in one counter, and only what was delivered is written.
    let document = run.json();
    let count = |verdict: &str| report.iter().filter(|line| line["verdict"] == verdict).count() as u64;
    assert_eq!(report.len(), packets.len());
    assert!(report.iter().enumerate().all(|(number, line)| line["packet"] == number as u64 + 1));
    assert_eq!(document["packets"], packets.len() as u64);
    assert_eq!((count("delivered"), out.len() as u64), (document["written"].as_u64().unwrap(), document["written"].as_u64().unwrap()));
    assert_eq!(document["offloaded"].as_u64().unwrap() + document["software"].as_u64().unwrap(), count("delivered"));
    assert_eq!(document["clear"], count("passed"));
    let because = document["software_because"].as_object().unwrap();
    assert_eq!(document["software"], because.values().map(|packets| packets.as_u64().unwrap()).sum::<u64>());
    for (reason, packets) in document["dropped"].as_object().unwrap() {
        assert_eq!(*packets, report.iter().filter(|line| line["reason"] == reason.as_str()).count() as u64, "{reason}");
    }
    assert_eq!(document["dropped"].as_object().unwrap().values().map(|packets| packets.as_u64().unwrap()).sum::<u64>(), count("dropped"));
    (report, out)
}

fn tunnel() -> String {
    let selectors = "selectors = [ { source = \"10.0.1.0/24\", destination = \"10.0.2.0/24\" } ]";
    sa("tunnel", "inbound", "tunnel", ("192.0.2.1", "192.0.2.2"), SPI, selectors, "")
}

fn outcome(line: &Value) -> (&str, Option<&str>) {
    (line["verdict"].as_str().unwrap(), line["reason"].as_str())
}

const TUNNEL_FAILED: Option<&str> = Some("TUNNEL_ESP_AUTH_FAILED");
const SUCCESS: Option<&str> = Some("SUCCESS");

/// A packet as it is recorded before the adapter cuts it into segments.
fn without_length(mut packet: Vec<u8>) -> Vec<u8> {
    let word = |at: usize| u32::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    // What the length takes out of the sum, the checksum gives back.
    let sum = word(2) + word(10);
    let checksum = (sum & 0xffff) + (sum >> 16);
    packet[2..4].fill(0);
    packet[10..12].copy_from_slice(&(checksum as u16).to_be_bytes());
    packet
}

/// A packet, what becomes of it, and what the NIC says of it; the sequence number of the association, if one matched.
type Row = (&'static str, Packet, (&'static str, Option<&'static str>), Option<&'static str>, Option<u64>);

fn rows() -> Vec<Row> {
    let sealer = Sealer::new(SPI);
    let inner = udp("10.0.1.1", "10.0.2.1", 40);
    let good = |sequence| sealer.sealed(sequence, &inner, IpProtocol::IPV4);
    let changed = |mut packet: Vec<u8>, at: usize| {
        packet[at] ^= 0x40;
        packet
    };
    let fragment = |mut packet: Vec<u8>, flags: [u8; 2]| {
        packet[6..8].copy_from_slice(&flags);
        packet::Ipv4Packet::new(packet.as_mut_slice()).unwrap().fill_checksum();
        packet
    };
    let cut = |packet: Vec<u8>| Packet { cut: 7, bytes: packet[..packet.len() - 7].to_vec(), ..Packet::raw(vec![]) };
    let short = ipv4("192.0.2.1", "192.0.2.2", IpProtocol::ESP, &[0, 0, 0x20, 0x01, 0, 0, 0, 9, 1, 2, 3]);
    let no_header = ipv4("192.0.2.1", "192.0.2.2", IpProtocol::ESP, &[0, 0, 0x20]);
    let ah = |spi: u8| ipv4("192.0.2.1", "192.0.2.2", IpProtocol::AH, &[17, 4, 0, 0, 0, 0, spi, 0x01, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let without_length = without_length(good(20));
    let last = good(5).len() - 1;
    let raw = Packet::raw;
    let (dropped, delivered, passed) = (|reason| ("dropped", Some(reason)), ("delivered", None), ("passed", None));
    vec![
        ("the first", raw(good(1)), delivered, SUCCESS, Some(1)),
        ("the same again", raw(good(1)), dropped("replayed"), SUCCESS, Some(1)),
        ("the same again, forged", raw(changed(good(1), 50)), dropped("auth-failed"), TUNNEL_FAILED, Some(1)),
        ("number 0", raw(good(0)), dropped("replayed"), SUCCESS, Some(0)),
        ("a bit of the IV", raw(changed(good(2), 30)), dropped("auth-failed"), TUNNEL_FAILED, Some(2)),
        ("a bit of the text", raw(changed(good(2), 50)), dropped("auth-failed"), TUNNEL_FAILED, Some(2)),
        ("a bit of the ICV", raw(changed(good(2), last)), dropped("auth-failed"), TUNNEL_FAILED, Some(2)),
        ("what was forged is not taken for received", raw(good(2)), delivered, SUCCESS, Some(2)),
        ("cut by the snap length", cut(good(3)), dropped("truncated"), None, None),
        ("nor what was cut", raw(good(3)), delivered, SUCCESS, Some(3)),
        ("too short for an IV", raw(short), dropped("malformed"), Some("INVALID_PACKET_SYNTAX"), Some(9)),
        ("too short for a header", raw(no_header), dropped("malformed"), None, None),
        ("pad length beyond the text", raw(sealer.packet(10, &[0, 0, 200, 4])), dropped("malformed"), Some("INVALID_PACKET_SYNTAX"), Some(10)),
        ("an IPv6 header that is none", raw(sealer.sealed(11, &inner, IpProtocol::IPV6)), dropped("malformed"), Some("GENERIC_ERROR"), Some(11)),
        ("an inner header that is cut", raw(sealer.sealed(12, &inner[..15], IpProtocol::IPV4)), dropped("malformed"), SUCCESS, Some(12)),
        ("the first fragment", raw(fragment(good(13), [0x20, 0])), dropped("fragment"), None, Some(13)),
        ("a later fragment", raw(fragment(good(13), [0, 0x30])), dropped("fragment"), None, None),
        ("a dummy", raw(sealer.sealed(14, &[1, 2, 3], IpProtocol::NO_NEXT_HEADER)), dropped("dummy"), SUCCESS, Some(14)),
        ("a source that the SA may not carry", raw(sealer.sealed(15, &udp("10.0.9.1", "10.0.2.1", 4), IpProtocol::IPV4)), dropped("policy"), SUCCESS, Some(15)),
        ("no IP packet inside", raw(sealer.sealed(16, &inner[20..], IpProtocol::UDP)), dropped("policy"), SUCCESS, Some(16)),
        ("far ahead", raw(good(1000)), delivered, SUCCESS, Some(1000)),
        ("left of the window", raw(good(936)), dropped("too-old"), SUCCESS, Some(936)),
        ("left of the window, forged", raw(changed(good(936), 50)), dropped("auth-failed"), TUNNEL_FAILED, Some(936)),
        ("the window's left edge", raw(good(937)), delivered, SUCCESS, Some(937)),
        ("clear text", raw(inner.clone()), passed, None, None),
        ("clear text that no selector fits", raw(udp("10.7.7.7", "10.8.8.8", 3)), passed, None, None),
        ("another SPI", raw(Sealer::new(0x3001).sealed(1, &inner, IpProtocol::IPV4)), passed, None, None),
        ("AH of nobody", raw(ah(0x30)), passed, None, None),
        ("AH under the SPI of an ESP SA", raw(ah(0x20)), dropped("invalid-protocol"), Some("INVALID_PROTOCOL"), Some(1)),
        ("no total length, as before segmentation", raw(without_length), dropped("malformed"), None, None),
        ("half an IP header", raw(inner[..12].to_vec()), dropped("malformed"), None, None),
        ("nothing", raw(vec![]), dropped("malformed"), None, None),
    ]
}

#[test]
fn packets_end_as_they_should() {
    let rows = rows();
    let packets: Vec<_> = rows.iter().map(|(_, packet, ..)| packet.clone()).collect();
    for (flags, software) in [(&[][..], false), (&["--batch", "1"], false), (&["--no-offload"], true)] {
        let (report, out) = opened(&tunnel(), &packets, flags);
        for ((name, _, expected, status, sequence), line) in rows.iter().zip(&report) {
            assert_eq!(outcome(line), *expected, "{flags:?} {name}: {line}");
            let matched = sequence.map_or(json!([]), |sequence| json!([{ "operation": "esp", "spi": "0x00002001", "sequence": sequence }]));
            let (done, status) = if software { (false, Value::Null) } else { (status.is_some(), json!(status)) };
            assert_eq!((&line["crypto_done"], &line["crypto_status"]), (&json!(done), &status), "{flags:?} {name}: {line}");
            assert_eq!((&line["associations"], &line["next_crypto_done"]), (&matched, &json!(false)), "{flags:?} {name}: {line}");
        }
        assert!(out.iter().all(|packet| packet.bytes == udp("10.0.1.1", "10.0.2.1", 40)));
    }
}

#[test]
fn the_replay_window_can_be_overridden() {
    let sealer = Sealer::new(SPI);
    let inner = udp("10.0.1.1", "10.0.2.1", 40);
    let packets: Vec<_> = [1, 1, 200, 100, 1].map(|sequence| Packet::raw(sealer.sealed(sequence, &inner, IpProtocol::IPV4))).into();
    let reasons =
        |sas: &str, flags: &[&str]| opened(sas, &packets, flags).0.iter().map(|line| line["reason"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>();
    let of_file = tunnel().replace("selectors", "replay-window = 128\nselectors");
    assert_eq!(reasons(&tunnel(), &[]), ["-", "replayed", "-", "too-old", "too-old"]);
    assert_eq!(reasons(&of_file, &[]), ["-", "replayed", "-", "-", "too-old"]);
    assert_eq!(reasons(&of_file, &["--replay-window", "32"]), ["-", "replayed", "-", "too-old", "too-old"]);
    assert_eq!(reasons(&of_file, &["--replay-window", "4096"]), ["-", "replayed", "-", "-", "replayed"]);
    for off in ["off", "0"] {
        assert_eq!(reasons(&of_file, &["--replay-window", off]), ["-", "-", "-", "-", "-"]);
    }
}

#[test]
fn no_flipped_bit_of_a_protected_packet_is_delivered() {
    let good = Sealer::new(SPI).sealed(1, &udp("10.0.1.1", "10.0.2.1", 4), IpProtocol::IPV4);
    let mut packets = Vec::new();
    for at in 20..good.len() {
        for bit in [0x01, 0x80] {
            let mut packet = good.clone();
            packet[at] ^= bit;
            packets.push(Packet::raw(packet));
        }
    }
    packets.push(Packet::raw(good));
    for flags in [&[][..], &["--no-offload"]] {
        let (report, out) = opened(&tunnel(), &packets, flags);
        assert_eq!(out.len(), 1);
        assert_eq!(outcome(report.last().unwrap()), ("delivered", None));
        // A changed SPI is another SA's, which there is not.
        assert!(report[..8].iter().all(|line| outcome(line) == ("passed", None)));
        // Its number says nothing before it is authentic, not even 0.
        assert!(report[8..].iter().any(|line| line["associations"][0]["sequence"] == 0));
        for line in &report[8..report.len() - 1] {
            assert_eq!(outcome(line), ("dropped", Some("auth-failed")), "{line}");
        }
    }
}

/// The NIC keeps an SA up to its last number: there is nobody who would replace it.
#[test]
fn the_nic_opens_up_to_the_last_number() {
    let sealer = Sealer::new(SPI);
    let inner = udp("10.0.1.1", "10.0.2.1", 40);
    for first in [0xffff_f001, u32::MAX - 199] {
        let packets: Vec<_> = (0..200).map(|number| Packet::raw(sealer.sealed(first + number, &inner, IpProtocol::IPV4))).collect();
        for batch in ["1", "64"] {
            let (report, out) = opened(&tunnel(), &packets, &["--batch", batch]);
            assert_eq!(out.len(), packets.len());
            for (number, line) in report.iter().enumerate() {
                assert_eq!((&line["crypto_done"], &line["crypto_status"], outcome(line)), (&json!(true), &json!("SUCCESS"), ("delivered", None)), "{line}");
                assert_eq!(line["associations"][0]["sequence"], u64::from(first) + number as u64);
            }
        }
    }
}

#[test]
fn what_cannot_be_protected_is_counted_and_not_written() {
    let tool = Tool::new();
    let fragment = |mut packet: Vec<u8>| {
        packet[6] = 0x20;
        packet
    };
    let ends = ("10.0.1.1", "10.0.2.1");
    tool.write("sa.toml", sa("transport", "outbound", "transport", ends, SPI, "", "sequence-number = 0xfffffffd"));
    let raw = Packet::raw;
    let good = || raw(udp(ends.0, ends.1, 40));
    let packets = [
        good(),
        raw(udp("10.0.1.2", ends.1, 40)),
        raw(fragment(udp(ends.0, ends.1, 40))),
        Packet { cut: 1, ..good() },
        raw(udp(ends.0, ends.1, 40)[..15].to_vec()),
        raw(without_length(udp(ends.0, ends.1, 40))),
        raw(udp(ends.0, ends.1, 65_535 - 28)),
        good(),
        good(),
        good(),
    ];
    tool.write_capture("in.pcap", &packets);
    let run = tool.run(&["pcap", "protect", "--sa", "sa.toml", "--json", "in.pcap", "out.pcap"]).succeeds();
    let document = run.json();
    let numbers: Vec<_> = tool.capture("out.pcap").iter().map(|packet| u32::from_be_bytes(packet.bytes[24..28].try_into().unwrap())).collect();
    // The NIC has the SA up to its last number.
    assert_eq!((numbers, &document["offloaded"]), (vec![u32::MAX - 1, u32::MAX], &json!(2)));
    let dropped = json!({ "policy": 1, "fragment": 1, "truncated": 1, "malformed": 2, "too-big": 1, "sequence-exhausted": 2 });
    assert_eq!(document["dropped"], dropped);
    assert_eq!(document["packets"], packets.len());
}
