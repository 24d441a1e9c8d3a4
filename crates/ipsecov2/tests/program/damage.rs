//! Captures that are damaged, cut off, or hold something else besides: what is good in them is worked through all the same.

use packet::{IpProtocol, Medium};
use serde_json::{Value, json};

use crate::tool::{Packet, Sealer, Tool, packets_of, sa, udp};

const ENDS: (&str, &str) = ("192.0.2.1", "192.0.2.2");

/// Both ways, and captures of five packets for them: `clear` to be protected, `esp` to be opened.
fn tool(name: &str) -> Tool {
    let tool = Tool::new();
    tool.write("sa.toml", sa("out", "outbound", "tunnel", ENDS, 0x1001, "", "") + &sa("in", "inbound", "tunnel", ENDS, 0x2001, "", ""));
    let sealer = Sealer::new(0x2001);
    let inner = |number: u32| udp("10.0.1.1", "10.0.2.1", 40 + number as usize);
    let clear: Vec<_> = (1..=5).map(|number| Packet::raw(inner(number))).collect();
    let esp: Vec<_> = (1..=5).map(|number| Packet::raw(sealer.sealed(number, &inner(number), IpProtocol::IPV4))).collect();
    tool.write_capture(&format!("clear{name}"), &clear);
    tool.write_capture(&format!("esp{name}"), &esp);
    tool
}

/// The capture ends in its last packet, as it does when a recording program is killed.
#[test]
fn what_comes_before_a_damage_is_worked_through() {
    for suffix in [".pcap", ".pcapng"] {
        let tool = tool(suffix);
        for name in ["clear", "esp"] {
            let whole = tool.read(&format!("{name}{suffix}"));
            tool.write(&format!("cut-{name}{suffix}"), &whole[..whole.len() - 3]);
        }
        for batch in ["1", "3", "64"] {
            for (command, name, report) in [("protect", "clear", &[][..]), ("open", "esp", &["--report", "report"])] {
                let input = format!("cut-{name}{suffix}");
                let run = |more: &[&str]| {
                    tool.write("out.pcap", "what was there before");
                    tool.run(&[&["pcap", command, "--sa", "sa.toml", "--batch", batch], more, report, &[&input, "out.pcap"]].concat())
                };
                let text = run(&[]);
                assert_eq!(text.code, Some(1));
                let (first, last) = (text.stderr.lines().next().unwrap(), text.stderr.lines().last().unwrap());
                assert_eq!(first, "4 packets read, 4 written", "{command} {batch}");
                assert!(last.starts_with(&format!("ipsecov2: {input}: packet 5 at byte ")) && last.contains("before the end of the file"), "{last}");
                let document = run(&["--json"]);
                assert_eq!((document.code, &document.json()["packets"], &document.json()["offloaded"]), (Some(1), &json!(4), &json!(4)));
                assert_eq!(document.stderr, format!("{last}\n"));
                let out = tool.capture("out.pcap");
                assert_eq!(out.len(), 4);
                if command == "open" {
                    assert!(out == packets_of(&tool.read(&format!("clear{suffix}")))[..4]);
                    let lines: Vec<_> = tool.lines("report").iter().map(|line| (line["packet"].clone(), line["verdict"].clone())).collect();
                    assert_eq!(lines, [1, 2, 3, 4].map(|number| (json!(number), json!("delivered"))));
                }
            }
        }
    }
}

/// Also in a stream.
#[test]
fn a_stream_that_breaks_off_is_worked_through() {
    let tool = tool(".pcapng");
    let whole = tool.read("esp.pcapng");
    let run = tool.run_with_input(&["pcap", "open", "--sa", "sa.toml", "-", "-"], &whole[..whole.len() - 1]);
    assert!(run.code == Some(1) && run.stderr.contains("ipsecov2: standard input: packet 5 at byte "), "{}", run.stderr);
    assert_eq!(packets_of(&run.stdout).len(), 4);
}

/// Gives the interfaces of a little-endian pcapng file other link types: where there is one for it.
fn with_link_types(mut file: Vec<u8>, types: &[Option<u16>]) -> Vec<u8> {
    let (mut at, mut interface) = (0, 0);
    while at < file.len() {
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let (kind, length) = (word(at), word(at + 4) as usize);
        if kind == 1 {
            if let Some(link_type) = types[interface] {
                file[at + 8..at + 10].copy_from_slice(&link_type.to_le_bytes());
            }
            interface += 1;
        }
        at += length;
    }
    assert_eq!(interface, types.len());
    file
}

#[test]
fn packets_of_an_unknown_link_type_are_counted_and_left_out() {
    let tool = tool(".pcapng");
    let other = |packet: &Packet| Packet { medium: Medium::Ethernet, ..packet.clone() };
    for (command, name) in [("protect", "clear"), ("open", "esp")] {
        let all = tool.capture(&format!("{name}.pcapng"));
        // The first packet, so that the file begins with them, and some between.
        let mixed = [other(&all[0]), all[0].clone(), all[1].clone(), other(&all[1]), other(&all[2]), all[2].clone(), all[3].clone()];
        tool.write_capture("both.pcapng", &mixed);
        tool.write("mixed.pcapng", with_link_types(tool.read("both.pcapng"), &[Some(147), None]));
        for batch in ["1", "2", "64"] {
            let report: &[&str] = if command == "open" { &["--report", "report"] } else { &[] };
            let run = |input, output| tool.run(&[&["pcap", command, "--sa", "sa.toml", "--json", "--batch", batch], report, &[input, output]].concat());
            let document = run("mixed.pcapng", "out.pcap").succeeds().json();
            let expected = json!({ "packets": 7, "written": 4, "offloaded": 4, "software": 0, "clear": 0, "dropped": { "unsupported": 3 } });
            for (field, value) in expected.as_object().unwrap() {
                assert_eq!(document[field], *value, "{command} {batch} {field}");
            }
            assert!(tool.capture("out.pcap").iter().all(|packet| packet.medium == Medium::Ip));
            if command == "open" {
                let reasons: Vec<_> = tool.lines("report").iter().map(|line| (line["packet"].clone(), line["reason"].clone())).collect();
                let unsupported = [1, 4, 5];
                let reason = |number| if unsupported.contains(&number) { json!("unsupported") } else { Value::Null };
                assert_eq!(reasons, (1..=7).map(|number| (json!(number), reason(number))).collect::<Vec<_>>());
            }
        }
        // Where nothing is understood, the file is the wrong one.
        tool.write("none.pcapng", with_link_types(tool.read("both.pcapng"), &[Some(147), Some(148)]));
        let run = tool.run(&["pcap", command, "--sa", "sa.toml", "none.pcapng", "none.pcap"]);
        let message = "link type: ETHERNET, RAW, IPV4, IPV6, NULL, LOOP, LINUX_SLL or LINUX_SLL2 expected, 147 found\n";
        assert!(run.stderr.starts_with("ipsecov2: none.pcapng: packet 1 at byte ") && run.stderr.ends_with(message), "{}", run.stderr);
        assert!(run.code == Some(1) && !tool.path("none.pcap").exists());
    }
}
