//! SA files as the program takes them; what is wrong in them in detail is tested with the parser.

use crate::tool::{Packet, Tool, sa, testdata, udp};

const ENDS: (&str, &str) = ("192.0.2.1", "192.0.2.2");

fn tool(text: &str) -> Tool {
    let tool = Tool::new();
    tool.write("sa.toml", text);
    tool.write_capture("in.pcap", &[Packet::raw(udp("10.0.1.1", "10.0.2.1", 7))]);
    tool
}

#[test]
fn mistakes_are_shown_on_one_line_with_their_place() {
    let good = sa("a", "inbound", "tunnel", ENDS, 0x1001, "", "");
    for (old, new, message) in [
        ("0f10111213", "0f101112", "sa.toml:12:18: encryption-key: 19 bytes found, aes-gcm-128 takes 20 (16 key, 4 salt)"),
        ("aes-gcm-128", "aes-cbc-128", "sa.toml:12:18: encryption-key: 20 bytes found, aes-cbc-128 takes 16"),
        ("0x00001001", "255", "sa.toml:10:7: spi: 255 found, 0x100 to 0xffffffff allowed"),
        (
            "mode",
            "Mode",
            "sa.toml:4:1: unknown field \"Mode\"; allowed here: name, direction, mode, source, destination, replay-window, udp-encapsulation, inside, ah-alignment, traffic-flow, allow-unauthenticated, offload, selectors, association",
        ),
        ("direction = ", "direction ", "sa.toml:3:11: not TOML: key with no value, expected `=`"),
    ] {
        let tool = tool(&good.replace(old, new));
        for command in ["open", "protect"] {
            tool.run(&["pcap", command, "--sa", "sa.toml", "in.pcap", "out.pcap"]).fails(1, &format!("ipsecov2: {message}\n"));
        }
        assert!(!tool.path("out.pcap").exists());
    }
    // A key in Base64, and in a wrong place.
    let encoded = tool(&good.replace("\"aes-gcm-128\"", "\"AAECAwQFBgcICQoLDA0ODxAREhM=\""));
    let run = encoded.run(&["pcap", "open", "--sa", "sa.toml", "in.pcap", "out.pcap"]);
    assert!(run.stderr.starts_with("ipsecov2: sa.toml:11:14: encryption: a text of 28 characters found, allowed: null, "), "{}", run.stderr);
    let tool = tool("");
    tool.write("latin.toml", b"# caf\xe9");
    tool.run(&["pcap", "open", "--sa", "latin.toml", "in.pcap", "out.pcap"]).fails(1, "ipsecov2: latin.toml:1:6: not UTF-8 text\n");
    let run = tool.run(&["pcap", "open", "--sa", "missing.toml", "in.pcap", "out.pcap"]);
    assert!(run.code == Some(1) && run.stderr.starts_with("ipsecov2: missing.toml: "), "{}", run.stderr);
}

#[test]
fn two_inbound_sas_with_one_spi_are_refused_with_the_place_of_the_second() {
    let text = sa("a", "inbound", "tunnel", ENDS, 0x1001, "", "") + &sa("b", "inbound", "tunnel", ENDS, 0x1001, "", "");
    let message = "ipsecov2: sa.toml:14:1: SA \"b\": another inbound SA has SPI 0x00001001 and destination 192.0.2.2\n";
    tool(&text).run(&["pcap", "open", "--sa", "sa.toml", "in.pcap", "out.pcap"]).fails(1, message);
    // As outbound ones they are the receiver's business.
    tool(&text.replace("inbound", "outbound")).run(&["pcap", "protect", "--sa", "sa.toml", "in.pcap", "out.pcap"]).succeeds();
}

#[test]
fn selectors_of_transport_mode_stay_within_its_addresses() {
    let ends = ("10.0.1.1", "10.0.2.1");
    let with = |selectors: &str| tool(&sa("a", "outbound", "transport", ends, 0x1001, &format!("selectors = [ {selectors} ]"), ""));
    let packets = [udp(ends.0, ends.1, 7), udp("10.0.1.2", ends.1, 7), udp(ends.0, "10.0.2.2", 7)].map(Packet::raw);
    for selectors in ["{}", "{ protocol = \"udp\" }", "{ source = \"10.0.0.0/8\" }, { source = \"10.0.1.2\" }"] {
        let tool = with(selectors);
        tool.write_capture("in.pcap", &packets);
        let document = tool.run(&["pcap", "protect", "--sa", "sa.toml", "--json", "in.pcap", "out.pcap"]).succeeds().json();
        assert_eq!((&document["offloaded"], &document["dropped"]["policy"]), (&1.into(), &2.into()), "{selectors}: {document}");
    }
    let run = with("{ source = \"10.0.1.2\" }").run(&["pcap", "protect", "--sa", "sa.toml", "in.pcap", "out.pcap"]);
    assert!(run.code == Some(1) && run.stderr.starts_with("ipsecov2: sa.toml:1:1: SA \"a\": selectors "), "{}", run.stderr);
}

#[test]
fn reserved_spis_need_the_flag() {
    let text = sa("a", "outbound", "tunnel", ENDS, 7, "", "");
    let tool = tool(&text);
    tool.run(&["pcap", "protect", "--sa", "sa.toml", "in.pcap", "out.pcap"])
        .fails(1, "ipsecov2: sa.toml:10:7: spi: 0x00000007 found, 0x100 to 0xffffffff allowed\n");
    tool.run(&["pcap", "protect", "--sa", "sa.toml", "--allow-reserved-spi", "in.pcap", "esp.pcap"]).succeeds();
    tool.write("in.toml", text.replace("outbound", "inbound"));
    let run = tool.run(&["pcap", "open", "--sa", "in.toml", "--allow-reserved-spi", "--json", "esp.pcap", "out.pcap"]).succeeds();
    assert_eq!((run.json()["offloaded"].as_u64(), run.json()["sas"][0]["offloaded"].as_bool()), (Some(1), Some(true)));
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let tool = tool(&sa("a", "inbound", "tunnel", ENDS, 0x1001, "", ""));
    let run = |mode| {
        std::fs::set_permissions(tool.path("sa.toml"), PermissionsExt::from_mode(mode)).unwrap();
        tool.run(&["pcap", "open", "--sa", "sa.toml", "--json", "in.pcap", "out.pcap"]).succeeds().stderr
    };
    assert_eq!(run(0o600), "");
    for mode in [0o640, 0o604, 0o644] {
        assert_eq!(run(mode), "ipsecov2: warning: sa.toml: others than its owner can read this file, and it holds keys\n");
    }
}

#[test]
fn a_file_without_sas_of_the_direction_is_warned_of() {
    let tool = tool(&sa("a", "inbound", "tunnel", ENDS, 0x1001, "", ""));
    let run = tool.run(&["pcap", "protect", "--sa", "sa.toml", "--json", "in.pcap", "out.pcap"]).succeeds();
    assert_eq!(run.stderr, "ipsecov2: warning: sa.toml: no SA in it is outbound: none will be used\n");
}

#[cfg(unix)]
#[test]
fn keys_are_written_into_a_capture_only_on_demand_and_only_for_the_owner() {
    use std::os::unix::fs::PermissionsExt;
    let tool = tool(&sa("a", "outbound", "tunnel", ENDS, 0x1001, "", ""));
    let shows_key = |name: &str| String::from_utf8_lossy(&tool.read(name)).contains(crate::tool::KEY);
    tool.run(&["pcap", "protect", "--sa", "sa.toml", "in.pcap", "without.pcapng"]).succeeds();
    tool.run(&["pcap", "protect", "--sa", "sa.toml", "--decryption-secrets", "in.pcap", "with.pcapng"]).succeeds();
    assert!(!shows_key("without.pcapng") && shows_key("with.pcapng"));
    assert_eq!(std::fs::metadata(tool.path("with.pcapng")).unwrap().permissions().mode() & 0o777, 0o600);
    tool.run(&["pcap", "protect", "--sa", "sa.toml", "--decryption-secrets", "in.pcap", "with.pcap"])
        .fails(2, "ipsecov2: with.pcap: a pcap file has no place for keys; pcapng has\n");
}

/// An address of zeros is any, of the version that the SA is of.
#[test]
fn keys_of_sas_without_addresses_are_for_any() {
    let any = |name: &str, ends, spi| sa(name, "outbound", "transport", ends, spi, "", "");
    let text = any("a", ("0.0.0.0", "0.0.0.0"), 0x1001)
        + &any("b", ("2001:db8::1", "::"), 0x1002)
        + &any("c", ("::", "2001:db8::2"), 0x1003)
        + &any("d", ("192.0.2.1", "192.0.2.2"), 0x1004);
    let tool = tool(&text);
    tool.run(&["pcap", "protect", "--sa", "sa.toml", "--decryption-secrets", "in.pcap", "with.pcapng"]).succeeds();
    let block = tool.read("with.pcapng");
    let block = String::from_utf8_lossy(&block);
    for line in [
        "\"IPv4\",\"*\",\"*\",\"0x00001001\",",
        "\"IPv6\",\"2001:db8::1\",\"*\",\"0x00001002\",",
        "\"IPv6\",\"*\",\"2001:db8::2\",\"0x00001003\",",
        "\"IPv4\",\"192.0.2.1\",\"192.0.2.2\",\"0x00001004\",",
    ] {
        assert!(block.contains(line), "{line}: {block}");
    }
}

#[test]
fn nothing_that_the_program_says_has_a_key_in_it() {
    let text = sa("a", "outbound", "tunnel", ENDS, 0x1001, "", "") + &sa("b", "inbound", "tunnel", ENDS, 0x1001, "", "");
    let tool = tool(&text);
    let input = testdata("small-raw.pcap");
    for arguments in [
        &["pcap", "protect", "--sa", "sa.toml", input.to_str().unwrap(), "esp.pcap"][..],
        &["pcap", "protect", "--sa", "sa.toml", "--json", input.to_str().unwrap(), "esp.pcap"],
        &["pcap", "open", "--sa", "sa.toml", "--report", "-", "esp.pcap", "clear.pcap"],
        &["pcap", "open", "--sa", "sa.toml", "--json", "esp.pcap", "clear.pcap"],
    ] {
        let run = tool.run(arguments).succeeds();
        let said = run.text() + &run.stderr;
        assert!((0..crate::tool::KEY.len() - 7).all(|at| !said.contains(&crate::tool::KEY[at..at + 8])), "{said}");
    }
}
