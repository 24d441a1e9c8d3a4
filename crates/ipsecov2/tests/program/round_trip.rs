//! What `protect` protects, `open` opens: the same packets, in the same order, with the same times, whatever the capture is like.

use std::collections::HashSet;
use std::path::Path;

use packet::Medium;

use crate::tool::{Packet, Tool, capture, inbound, packets_of, sa, testdata, udp};

/// SAs that take all IP packets of the captures: tunnels with ends of the other version, one of them near the wrap of extended numbers.
fn tunnels() -> String {
    let esn = "extended-sequence-numbers = true\nsequence-number-high = 6\nsequence-number = 0xfffffff0";
    sa("four in six", "outbound", "tunnel", ("2001:db8::1", "2001:db8::2"), 0x1001, "selectors = [ { source = \"0.0.0.0/0\" } ]", "icv-length = 12")
        + &sa("six in four", "outbound", "tunnel", ("192.0.2.1", "192.0.2.2"), 0x1002, "", esn)
}

/// The packet as it is on an output with the input's link, and without what pads an Ethernet frame.
fn expected(packets: Vec<Packet>) -> Vec<Packet> {
    let whole = packets.into_iter().filter(|packet| packet.cut == 0);
    whole
        .filter_map(|mut packet| {
            let ip = packet.ip()?;
            let total = packet::ParsedIp::parse(packet.bytes.get(ip..)?).ok()?.total_len();
            packet.bytes.truncate(ip + total);
            Some(packet)
        })
        .collect()
}

fn round_trip(tool: &Tool, input: &Path, output: &str, flags: &[&str]) -> (Vec<Packet>, Vec<Packet>) {
    let input = input.to_str().unwrap();
    tool.run(&[&["pcap", "protect", "--sa", "out.toml", input, output], flags].concat()).succeeds();
    tool.run(&[&["pcap", "open", "--sa", "in.toml", "--report", "report", output, "clear.pcapng"], flags].concat()).succeeds();
    (tool.capture(output), tool.capture("clear.pcapng"))
}

fn with_sas(text: &str) -> Tool {
    let tool = Tool::new();
    tool.write("out.toml", text);
    tool.write("in.toml", inbound(text));
    tool
}

#[test]
fn every_form_of_capture_comes_back() {
    let tool = with_sas(&tunnels());
    let mut names: Vec<_> = std::fs::read_dir(testdata("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|suffix| suffix == "pcap" || suffix == "pcapng"));
    names.sort();
    assert!(names.len() >= 12, "{names:?}");
    for path in names {
        let wanted = expected(capture(&path));
        let (wire, clear) = round_trip(&tool, &path, "esp.pcapng", &[]);
        assert!(wanted.len() > 6, "{path:?}");
        assert_eq!(clear.len(), wanted.len(), "{path:?}");
        for (number, (clear, wanted)) in clear.iter().zip(&wanted).enumerate() {
            assert_eq!(clear, wanted, "{path:?} {number}");
        }
        for (wire, clear) in wire.iter().zip(&wanted) {
            assert_eq!((wire.time, wire.medium), (clear.time, clear.medium));
        }
        let report = tool.lines("report");
        assert_eq!(report.len(), wire.len());
        for (number, line) in report.iter().enumerate() {
            assert_eq!((&line["packet"], &line["verdict"], &line["crypto_done"]), (&(number + 1).into(), &"delivered".into(), &true.into()), "{line}");
        }
    }
}

#[test]
fn software_and_nic_make_the_same_bytes() {
    let tool = with_sas(&tunnels());
    let traffic = testdata("traffic.pcapng");
    for crypto in ["aws-lc", "rustcrypto", "mbcrypto"] {
        let flags = ["--crypto", crypto, "--iv-seed", "c0ffee"];
        for (name, more) in [("nic", &[][..]), ("software", &["--no-offload"]), ("batches", &["--batch", "1"]), ("large", &["--batch", "4096"])] {
            let output = format!("{crypto}-{name}.pcap");
            let input = traffic.to_str().unwrap();
            tool.run(&[&["pcap", "protect", "--sa", "out.toml", input, output.as_str()], &flags[..], more].concat()).succeeds();
            assert!(tool.read(&output) == tool.read("aws-lc-nic.pcap"), "{crypto} {name}");
        }
    }
    // Opened in software, too, and by the other library.
    for flags in [&["--no-offload"][..], &["--crypto", "rustcrypto"], &["--batch", "1"]] {
        tool.run(&[&["pcap", "open", "--sa", "in.toml", "--report", "report", "aws-lc-nic.pcap", "clear.pcap"], flags].concat()).succeeds();
        assert_eq!(tool.capture("clear.pcap"), expected(capture(&traffic)));
        let by_nic = tool.lines("report").iter().all(|line| line["crypto_done"] == true && line["crypto_status"] == "SUCCESS");
        assert_eq!(by_nic, flags != ["--no-offload"]);
    }
    let numbers: Vec<_> = tool
        .lines("report")
        .iter()
        .filter(|line| line["associations"][0]["spi"] == "0x00001002")
        .map(|line| line["associations"][0]["sequence"].as_u64().unwrap())
        .collect();
    let first = (6 << 32) + 0xffff_fff1;
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
    assert!(numbers.last().unwrap() >> 32 == 7);
}

#[test]
fn masks_are_fresh_with_every_run_and_derived_with_a_seed() {
    let tool = with_sas(&tunnels());
    let input = testdata("small-raw.pcap");
    let mut ivs = HashSet::new();
    let mut packets = 0;
    for run in 0..3 {
        let (wire, _) = round_trip(&tool, &input, &format!("{run}.pcap"), &[]);
        packets += wire.len();
        ivs.extend(wire.iter().map(|packet| if packet.bytes[0] >> 4 == 4 { packet.bytes[20..36].to_vec() } else { packet.bytes[40..56].to_vec() }));
    }
    assert_eq!(ivs.len(), packets, "SPI, sequence number and IV come once");
    let seeded = |seed: &str| {
        tool.run(&["pcap", "protect", "--sa", "out.toml", "--iv-seed", seed, input.to_str().unwrap(), "seeded.pcap"]).succeeds();
        tool.read("seeded.pcap")
    };
    assert!(seeded("00") == seeded("00") && seeded("00") != seeded("0000") && seeded("00") != seeded("01"));
}

#[test]
fn the_output_has_the_form_of_its_name_and_the_link_of_the_input() {
    let tool = with_sas(&tunnels());
    let magic = |name: &str| tool.read(name)[..4].to_vec();
    for (input, link) in [("small-nanosecond.pcap", 1), ("small-raw.pcap", 101), ("small-null.pcap", 101), ("small-sll.pcap", 101), ("small-vlan.pcap", 1)] {
        round_trip(&tool, &testdata(input), "esp.pcap", &[]);
        assert_eq!(magic("esp.pcap"), 0xa1b2_3c4d_u32.to_le_bytes());
        assert_eq!(tool.read("esp.pcap")[20], link, "{input}");
        assert_eq!(magic("clear.pcapng"), 0x0a0d_0d0a_u32.to_le_bytes());
    }
    // A VLAN's tags stay, and the type behind them is that of what follows.
    let (wire, clear) = round_trip(&tool, &testdata("small-vlan.pcap"), "esp.pcap", &[]);
    assert!(wire.iter().all(|packet| packet.bytes[12] != 0x08 && packet.ip().is_some_and(|at| at >= 18)));
    assert!(clear.iter().all(|packet| packet.medium == Medium::Ethernet));
    // Also an output without packets says what they would have been.
    tool.run(&["pcap", "open", "--sa", "in.toml", testdata("small-vlan.pcap").to_str().unwrap(), "none.pcap"]).succeeds();
    assert_eq!((tool.read("none.pcap").len(), tool.read("none.pcap")[20]), (24, 1));
    // One pcap file cannot hold two link types; pcapng can.
    let mixed = testdata("small-mixed.pcapng");
    let run = tool.run(&["pcap", "protect", "--sa", "out.toml", mixed.to_str().unwrap(), "mixed.pcap"]);
    assert!(run.code == Some(1) && run.stderr.contains("a pcap file has one for all packets") && !tool.path("mixed.pcap").exists(), "{}", run.stderr);
}

#[test]
fn streams_are_read_and_written() {
    let tool = with_sas(&tunnels());
    let input = std::fs::read(testdata("small-raw.pcap")).unwrap();
    let wire = tool.run_with_input(&["pcap", "protect", "--sa", "out.toml", "-", "-"], &input).succeeds();
    assert!(wire.stderr.contains("packets read"));
    let clear = tool.run_with_input(&["pcap", "open", "--sa", "in.toml", "-", "-"], &wire.stdout).succeeds();
    assert_eq!(packets_of(&clear.stdout), expected(capture(&testdata("small-raw.pcap"))));
    let report = tool.run_with_input(&["pcap", "open", "--sa", "in.toml", "--report", "-", "-", "x.pcap"], &wire.stdout).succeeds();
    assert_eq!(crate::tool::lines(&report.stdout).len(), packets_of(&wire.stdout).len());
    let sas = tool.read("in.toml");
    tool.write("wire.pcapng", &wire.stdout);
    tool.run_with_input(&["pcap", "open", "--sa", "-", "wire.pcapng", "y.pcap"], &sas).succeeds();
    assert_eq!(tool.read("x.pcap"), tool.read("y.pcap"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let tool = with_sas(&tunnels());
    let input = testdata("traffic.pcapng");
    let mut child = tool
        .command(&["pcap", "protect", "--sa", "out.toml", input.to_str().unwrap(), "-"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn bypass_writes_what_nothing_selects_as_it_is() {
    let text = sa("some", "outbound", "tunnel", ("192.0.2.1", "192.0.2.2"), 0x1001, "selectors = [ { protocol = \"tcp\" } ]", "");
    let tool = with_sas(&text);
    let input = testdata("small-nanosecond.pcap");
    let all = capture(&input);
    let tcp = |packet: &Packet| packet.ip().is_some_and(|at| packet::ParsedIp::parse(&packet.bytes[at..]).unwrap().protocol() == packet::IpProtocol::TCP);
    let (without, _) = round_trip(&tool, &input, "esp.pcap", &[]);
    assert_eq!(without.len(), all.iter().filter(|packet| tcp(packet)).count());
    let run = tool.run(&["pcap", "protect", "--sa", "out.toml", "--bypass", "--json", input.to_str().unwrap(), "all.pcap"]).succeeds();
    let with = tool.capture("all.pcap");
    assert_eq!(with.len(), all.len());
    for (with, clear) in with.iter().zip(&all) {
        assert_eq!(with == clear, !tcp(clear));
    }
    assert_eq!(run.json()["clear"], (all.len() - without.len()) as u64);
}

#[test]
fn policies_are_the_selectors_in_the_order_of_the_file() {
    let ends = ("192.0.2.1", "192.0.2.2");
    let text = sa("ports", "outbound", "tunnel", ends, 0x1001, "selectors = [ { protocol = 17, destination-port = \"53\" }, { source = \"10.9.9.9\" } ]", "")
        + &sa("range", "outbound", "tunnel", ends, 0x1002, "selectors = [ { source = \"10.0.0.5-10.0.0.9\", protocol = \"udp\" } ]", "")
        + &sa("transport", "outbound", "transport", ("10.0.0.1", "10.0.0.2"), 0x1003, "", "")
        + &sa("icmp", "outbound", "tunnel", ends, 0x1004, "selectors = [ { protocol = \"icmp\" } ]", "");
    let tool = with_sas(&text);
    let at_port = |mut packet: Vec<u8>, port: u8| {
        packet[23] = port;
        packet
    };
    let icmp = crate::tool::ipv4("10.0.0.1", "10.0.0.9", packet::IpProtocol::ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let rows = [
        (udp("10.0.0.5", "10.0.0.2", 9), Some(0x1001)),
        (at_port(udp("10.0.0.5", "10.0.0.2", 9), 54), Some(0x1002)),
        (at_port(udp("10.0.0.4", "10.0.0.2", 9), 54), None),
        (at_port(udp("10.9.9.9", "10.0.0.2", 9), 54), Some(0x1001)),
        (at_port(udp("10.0.0.1", "10.0.0.2", 9), 54), Some(0x1003)),
        (icmp, Some(0x1004)),
    ];
    let packets: Vec<_> = rows.iter().map(|(packet, _)| Packet::raw(packet.clone())).collect();
    tool.write_capture("in.pcap", &packets);
    tool.run(&["pcap", "protect", "--sa", "out.toml", "in.pcap", "esp.pcap"]).succeeds();
    let spis: Vec<_> = tool.capture("esp.pcap").iter().map(|packet| u32::from_be_bytes(packet.bytes[20..24].try_into().unwrap())).collect();
    assert_eq!(spis, rows.iter().filter_map(|(_, spi)| *spi).collect::<Vec<_>>());
}
