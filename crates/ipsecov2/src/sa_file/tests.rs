use proptest::prelude::*;

use ipsec::{Authentication, Encryption};
use ndis::Operation;
use packet::{IpAddress, IpProtocol, Spi};
use secret::SecretBytes;
use transport::{AddressRange, AssociationParameters, OffloadPolicy, PortRange, Selector, TrafficFlow, UdpEncapsulation};

use super::*;

const KEY: &str = "000102030405060708090a0b0c0d0e0f10111213";

/// A bundle of which single lines are replaced.
fn good() -> String {
    format!(
        r#"[[sa]]
name = "b-from-a"
direction = "inbound"
mode = "tunnel"
source = "192.0.2.1"
destination = "192.0.2.2"
[[sa.association]]
operation = "esp"
spi = 0x00001001
encryption = "aes-gcm-128"
encryption-key = "{KEY}"
"#
    )
}

fn message(text: &str, rules: SaFileRules<'_>) -> String {
    SaFile::parse(text, "sa.toml", rules).expect_err(text).to_string()
}

/// The error after `old` was replaced by `new`.
fn after(old: &str, new: &str) -> String {
    let text = good();
    assert!(text.contains(old), "{old}");
    message(&text.replacen(old, new, 1), SaFileRules::default())
}

#[test]
fn defaults_are_those_of_the_grammar() {
    let file = SaFile::parse(&good(), "sa.toml", SaFileRules::default()).unwrap();
    let [Bundle { parameters, position }] = file.bundles.as_slice() else { panic!("{file:?}") };
    assert_eq!(position.to_string(), "1:1");
    assert_eq!((parameters.direction, parameters.mode, parameters.replay_window), (Direction::Inbound, Mode::Tunnel, 64));
    assert!(parameters.selectors.is_empty() && parameters.udp_encapsulation.is_none() && parameters.inside.is_none());
    assert!(!parameters.allow_unauthenticated && !parameters.allow_reserved_spi);
    let [association] = parameters.associations.as_slice() else { panic!("{parameters:?}") };
    assert_eq!((association.spi, association.icv_length, association.authentication), (Spi(0x1001), 16, Authentication::None));
    assert!(association.encryption_key.ct_eq(&SecretBytes::from_hex(KEY).unwrap()));
    assert!(!association.extended_sequence_numbers && association.sequence_number == 0 && association.sequence_number_high == 0);
}

#[test]
fn every_field_of_the_grammar_is_read() {
    let text = r#"
        [[sa]]
        name = "outer"
        direction = "outbound"
        mode = "tunnel"
        source = "2001:db8::1"
        destination = "2001:db8::2"
        replay-window = 4096
        [[sa.association]]
        operation = "esp"
        spi = 0x1001
        encryption = "aes-cbc-256"
        encryption-key = "0000000000000000000000000000000000000000000000000000000000000000"
        [[sa.association]]
        operation = "ah"
        spi = 4294967295
        authentication = "aes-gmac-128"
        authentication-key = "000102030405060708090a0b0c0d0e0f10111213"
        extended-sequence-numbers = true
        sequence-number-high = 0xffffffff
        sequence-number = 7

        [[sa]]
        name = "inner"
        direction = "outbound"
        mode = "transport"
        source = "10.0.1.1"
        destination = "10.0.2.1"
        replay-window = 0
        udp-encapsulation = { source-port = 4500, destination-port = 4501 }
        inside = "outer"
        allow-unauthenticated = true
        selectors = [
            { source = "10.0.1.0/24", destination = "10.0.2.0-10.0.2.99", protocol = "tcp", source-port = "1024-65535", destination-port = 443 },
            { protocol = 58 }, { protocol = "17", destination-port = "53" }, {},
        ]
        [[sa.association]]
        operation = "esp"
        spi = 256
        encryption = "des-cbc"
        encryption-key = "0x0011223344556677"
        authentication = "none"
        authentication-key = ""
    "#;
    let file = SaFile::parse(text, "sa.toml", SaFileRules::default()).unwrap();
    let [outer, inner] = file.bundles.as_slice() else { panic!("{file:?}") };
    assert_eq!((outer.position.line, inner.position.line), (2, 23));
    let ah = &outer.parameters.associations[1];
    assert_eq!((ah.operation, ah.spi, ah.sequence_number_high, ah.sequence_number), (Operation::Ah, Spi(u32::MAX), u32::MAX, 7));
    let inner = &inner.parameters;
    assert_eq!(inner.udp_encapsulation, Some(UdpEncapsulation { source_port: 4500, destination_port: 4501 }));
    assert_eq!((inner.inside.as_deref(), inner.replay_window, inner.allow_unauthenticated), (Some("outer"), 0, true));
    let range = |first: &str, last: &str| AddressRange::new(first.parse().unwrap(), last.parse().unwrap());
    assert_eq!(
        inner.selectors,
        [
            Selector {
                source: range("10.0.1.0", "10.0.1.255"),
                destination: range("10.0.2.0", "10.0.2.99"),
                protocol: Some(IpProtocol::TCP),
                source_port: PortRange { first: 1024, last: 65535 },
                destination_port: PortRange { first: 443, last: 443 },
            },
            Selector { protocol: Some(IpProtocol::ICMPV6), ..Selector::ANY },
            Selector { protocol: Some(IpProtocol::UDP), destination_port: PortRange { first: 53, last: 53 }, ..Selector::ANY },
            Selector::ANY,
        ]
    );
}

#[test]
fn errors_say_where_what_was_found_and_what_is_allowed() {
    let with = |line: &str| format!("destination = \"192.0.2.2\"\n{line}");
    let selector = |inside: &str| with(&format!("selectors = [ {{ {inside} }} ]"));
    for (old, new, expected) in [
        ("\"b-from-a\"", "\"\"", "sa.toml:2:8: name: \"\" found, a name without control characters expected"),
        ("name = \"b-from-a\"\n", "", "sa.toml:1:1: name is missing; a name that no other SA of the file has"),
        ("\"b-from-a\"", "7", "sa.toml:2:8: name: an integer found, a text expected"),
        ("\"inbound\"", "\"in\"", "sa.toml:3:13: direction: \"in\" found, \"inbound\" or \"outbound\" allowed"),
        ("\"tunnel\"", "\"Tunnel\"", "sa.toml:4:8: mode: \"Tunnel\" found, \"transport\" or \"tunnel\" allowed"),
        ("\"192.0.2.1\"", "\"192.0.2\"", "sa.toml:5:10: source: \"192.0.2\" found, an IPv4 or IPv6 address expected"),
        ("\"192.0.2.2\"", "\"2001:db8::1\"", "sa.toml:6:15: destination: 2001:db8::1, IPv6, found, the source 192.0.2.1 is IPv4"),
        ("\"192.0.2.2\"", "\"0.0.0.0\"", "sa.toml:6:15: destination: 0.0.0.0 found, the address of the tunnel's other end expected"),
        (
            "mode",
            "mod",
            "sa.toml:4:1: unknown field \"mod\"; allowed here: name, direction, mode, source, destination, replay-window, udp-encapsulation, inside, ah-alignment, traffic-flow, allow-unauthenticated, offload, selectors, association",
        ),
        ("operation = \"esp\"\n", "", "sa.toml:7:1: operation is missing; \"esp\" or \"ah\""),
        ("\"esp\"", "\"ESP\"", "sa.toml:8:13: operation: \"ESP\" found, \"esp\" or \"ah\" allowed"),
        ("spi = 0x00001001\n", "", "sa.toml:7:1: spi is missing; 0x100 to 0xffffffff"),
        ("0x00001001", "0", "sa.toml:9:7: spi: 0 found, 0x100 to 0xffffffff allowed"),
        ("0x00001001", "255", "sa.toml:9:7: spi: 255 found, 0x100 to 0xffffffff allowed"),
        ("0x00001001", "-1", "sa.toml:9:7: spi: -1 found, 0x100 to 0xffffffff allowed"),
        ("0x00001001", "0x100000000", "sa.toml:9:7: spi: 0x100000000 found, 0x100 to 0xffffffff allowed"),
        ("0x00001001", "\"0x00001001\"", "sa.toml:9:7: spi: a text found, 0x100 to 0xffffffff expected"),
        (
            "\"aes-gcm-128\"",
            "\"aes-gcm\"",
            "sa.toml:10:14: encryption: \"aes-gcm\" found, allowed: null, des-cbc, 3des-cbc, aes-cbc-128, aes-cbc-192, aes-cbc-256, aes-gcm-128, aes-gcm-192, aes-gcm-256, chacha20-poly1305",
        ),
        ("\"aes-gcm-128\"", "\"aes-gcm-256\"", "sa.toml:11:18: encryption-key: 20 bytes found, aes-gcm-256 takes 36 (32 key, 4 salt)"),
        ("10111213\"", "101112\"", "sa.toml:11:18: encryption-key: 19 bytes found, aes-gcm-128 takes 20 (16 key, 4 salt)"),
        ("10111213\"", "1011121\"", "sa.toml:11:18: encryption-key: an odd number of hexadecimal digits found, pairs of hexadecimal digits expected"),
        ("10111213\"", "1011121x\"", "sa.toml:11:18: encryption-key: no hexadecimal digit at character 40 found, pairs of hexadecimal digits expected"),
        ("encryption-key", "authentication-key", "sa.toml:7:1: encryption-key is missing; aes-gcm-128 takes 20 (16 key, 4 salt) bytes in hexadecimal"),
        ("encryption-key", "icv-length = 10\nencryption-key", "sa.toml:11:14: icv-length: 10 found, aes-gcm-128 takes 16, 12, 8"),
        (
            "encryption-key",
            "authentication = \"hmac-sha-256-128\"\nencryption-key",
            "sa.toml:11:18: authentication: \"hmac-sha-256-128\" found, aes-gcm-128 authenticates by itself and takes only \"none\"",
        ),
        ("encryption-key", "authentication-key = \"00\"\nencryption-key", "sa.toml:11:22: authentication-key: 1 byte found, none takes no key"),
        (
            "encryption-key",
            "sequence-number-high = 1\nencryption-key",
            "sa.toml:11:24: sequence-number-high: 1 found, only 0 without extended-sequence-numbers allowed",
        ),
        (
            "encryption-key",
            "extended-sequence-numbers = 1\nencryption-key",
            "sa.toml:11:29: extended-sequence-numbers: an integer found, true or false expected",
        ),
        ("\"aes-gcm-128\"", "\"chacha20-poly1305\"", "sa.toml:11:18: encryption-key: 20 bytes found, chacha20-poly1305 takes 36 (32 key, 4 salt)"),
        ("[[sa]]", "[sa]", "sa.toml:1:1: sa: a table found, an array of tables ([[sa]]) expected"),
        ("[[sa]]", "[[sas]]", "sa.toml:1:3: unknown field \"sas\"; allowed here: sa"),
    ] {
        assert_eq!(after(old, new), expected);
    }
    for (line, expected) in [
        ("offload = \"never\"", "sa.toml:7:11: offload: \"never\" found, \"require\" or \"prefer\" or \"forbid\" allowed"),
        ("replay-window = 65537", "sa.toml:7:17: replay-window: 65537 found, 0 (off) to 65536 allowed"),
        ("replay-window = \"off\"", "sa.toml:7:17: replay-window: a text found, 0 (off) to 65536 expected"),
        ("udp-encapsulation = { source-port = 4500 }", "sa.toml:7:21: destination-port is missing; 1 to 65535"),
        ("udp-encapsulation = { source-port = 1, destination-port = 0 }", "sa.toml:7:59: destination-port: 0 found, 1 to 65535 allowed"),
        ("ah-alignment = 4", "sa.toml:7:16: ah-alignment: 4 found, only AH has it"),
        ("ah-alignment = 6", "sa.toml:7:16: ah-alignment: 6 found, 4 or 8 allowed"),
        ("ah-alignment = 16", "sa.toml:7:16: ah-alignment: 16 found, 4 or 8 allowed"),
        ("traffic-flow = 1400", "sa.toml:7:16: traffic-flow: an integer found, a table such as { pad-to = 1400, dummy-every = 10 } expected"),
        ("traffic-flow = { pad-to = 65536 }", "sa.toml:7:27: pad-to: 65536 found, 0 (off) to 65535 allowed"),
        ("traffic-flow = { dummy-every = -1 }", "sa.toml:7:32: dummy-every: -1 found, 0 (never) to 0xffffffff allowed"),
        ("traffic-flow = { pad = 1 }", "sa.toml:7:18: unknown field \"pad\"; allowed here: pad-to, dummy-every"),
        (
            "udp-encapsulation = 4500",
            "sa.toml:7:21: udp-encapsulation: an integer found, a table such as { source-port = 4500, destination-port = 4500 } expected",
        ),
        ("inside = \"x\"", "sa.toml:7:10: inside: \"x\" found, only a transport bundle can be inside another"),
        ("selectors = []", "sa.toml:7:13: selectors: an empty array found, leave the field out for the default, or write [ {} ] for everything"),
        ("selectors = [ 7 ]", "sa.toml:7:15: selectors: an integer found, an array of tables such as [ { protocol = \"tcp\" } ] expected"),
    ] {
        assert_eq!(after("destination = \"192.0.2.2\"", &with(line)), expected);
    }
    for (inside, column, expected) in [
        ("source = \"10.0.1.0/33\"", 26, "source: \"10.0.1.0/33\" found, a prefix length of 0 to 32 allowed"),
        ("source = \"10.0.1.0/+1\"", 26, "source: \"10.0.1.0/+1\" found, a prefix length of 0 to 32 allowed"),
        ("source = \"10.0.1.1/24\"", 26, "source: \"10.0.1.1/24\" found, the bits after the first 24 must be zero"),
        ("source = \"10.0.1.9-10.0.1.1\"", 26, "source: \"10.0.1.9-10.0.1.1\" found, two addresses of one version, the lower one first, allowed"),
        ("source = \"any\"", 26, "source: \"any\" found, an address, a prefix such as \"10.0.1.0/24\" or a range such as \"10.0.2.0-10.0.2.99\" expected"),
        ("source = \"::/0\", destination = \"10.0.0.0/8\"", 48, "destination: 10.0.0.0/8, IPv4, found, the selector's source is IPv6"),
        ("protocol = \"tcpp\"", 28, "protocol: \"tcpp\" found, a name such as \"tcp\" or a number from 0 to 255 expected"),
        ("protocol = 256", 28, "protocol: 256 found, 0 to 255 allowed"),
        ("source-port = \"2-1\"", 31, "source-port: \"2-1\" found, the lower port comes first"),
        ("source-port = \"1-65536\"", 31, "source-port: \"1-65536\" found, a port such as 443 or a range such as \"1024-65535\" expected"),
        ("source-port = true", 31, "source-port: a boolean found, a port such as 443 or a range such as \"1024-65535\" expected"),
        ("protocol = \"icmp\", source-port = 7", 50, "source-port: ports of \"icmp\" found, only TCP, UDP, SCTP, DCCP and UDP-Lite have ports"),
        ("port = 7", 17, "unknown field \"port\"; allowed here: source, destination, protocol, source-port, destination-port"),
    ] {
        assert_eq!(after("destination = \"192.0.2.2\"", &selector(inside)), format!("sa.toml:7:{column}: {expected}"));
    }
    assert_eq!(message("", SaFileRules::default()), "sa.toml:1:1: sa is missing; at least one [[sa]] expected");
}

#[test]
fn bundles_are_checked_against_one_another() {
    let one = good();
    assert_eq!(message(&format!("{one}{one}"), SaFileRules::default()), "sa.toml:13:8: name: \"b-from-a\" found, another SA has this name at 2:8");
    let transport = |direction: &str, inside: &str| {
        let text = good().replace("\"tunnel\"", "\"transport\"").replace("\"b-from-a\"", "\"t\"").replace("\"inbound\"", direction);
        text.replace("destination", &format!("inside = \"{inside}\"\ndestination"))
    };
    let both = |direction: &str, inside: &str| format!("{one}{}", transport(direction, inside));
    assert!(SaFile::parse(&both("\"inbound\"", "b-from-a"), "sa.toml", SaFileRules::default()).is_ok());
    assert_eq!(
        message(&both("\"outbound\"", "b-from-a"), SaFileRules::default()),
        "sa.toml:17:10: inside: \"b-from-a\" found, that SA is inbound, this one outbound"
    );
    assert_eq!(message(&both("\"inbound\"", "c"), SaFileRules::default()), "sa.toml:17:10: inside: \"c\" found, no SA of the file has this name");
    assert_eq!(message(&both("\"inbound\"", "t"), SaFileRules::default()), "sa.toml:17:10: inside: \"t\" found, that SA is no tunnel");
    // Whichever comes first in the file.
    let inner_first = format!("{}{one}", transport("\"inbound\"", "b-from-a"));
    assert!(SaFile::parse(&inner_first, "sa.toml", SaFileRules::default()).is_ok());
    // One of the two has the UDP header, not both (OV2-RECV-7).
    let udp = "udp-encapsulation = { source-port = 4500, destination-port = 4500 }\ndestination";
    let in_udp = |text: &str| text.replace("destination", udp);
    for fine in [format!("{}{}", in_udp(&one), transport("\"inbound\"", "b-from-a")), format!("{one}{}", in_udp(&transport("\"inbound\"", "b-from-a")))] {
        assert!(SaFile::parse(&fine, "sa.toml", SaFileRules::default()).is_ok());
    }
    assert_eq!(
        message(&in_udp(&both("\"inbound\"", "b-from-a")), SaFileRules::default()),
        "sa.toml:18:10: inside: \"b-from-a\" found, that SA has udp-encapsulation, too; it stands only on the one that has the UDP header"
    );
}

#[test]
fn associations_go_together_or_are_refused() {
    let esp = "[[sa.association]]\noperation = \"esp\"\nspi = 257\nencryption = \"aes-cbc-128\"\nencryption-key = \"00112233445566778899aabbccddeeff\"\n";
    let ah = "[[sa.association]]\noperation = \"ah\"\nspi = 258\nauthentication = \"hmac-md5-96\"\nauthentication-key = \"00112233445566778899aabbccddeeff\"\n";
    let head = good().split("[[sa.association]]").next().unwrap().to_owned();
    let read = |rest: &str, rules| SaFile::parse(&format!("{head}{rest}"), "sa.toml", rules).map_err(|error| error.to_string());
    for fine in [ah.to_owned(), format!("{esp}{ah}")] {
        assert!(read(&fine, SaFileRules::default()).is_ok(), "{:?}", read(&fine, SaFileRules::default()));
    }
    for (rest, rules, expected) in [
        (String::new(), SaFileRules::default(), "1:1: association is missing; one [[sa.association]], or two: ESP, then AH"),
        (
            "association = []\n".to_owned(),
            SaFileRules::default(),
            "7:15: association: 0 associations found, one [[sa.association]], or two: ESP, then AH allowed",
        ),
        (format!("{esp}{ah}{ah}"), SaFileRules::default(), "17:1: association: 3 associations found, one [[sa.association]], or two: ESP, then AH allowed"),
        (format!("{ah}{esp}"), SaFileRules::default(), "8:13: operation: \"ah\" as the first of two found, ESP comes first, then AH"),
        (
            format!("{esp}{ah}").replace("\"ah\"", "\"esp\""),
            SaFileRules::default(),
            "13:13: operation: \"esp\" as the second of two found, ESP comes first, then AH",
        ),
        (
            format!("traffic-flow = {{ dummy-every = 1 }}\n{ah}"),
            SaFileRules::default(),
            "7:1: traffic-flow: AH alone found, only ESP hides lengths and numbers",
        ),
        (
            esp.to_owned(),
            SaFileRules::default(),
            "7:1: authentication is missing; encryption needs an authentication algorithm, AH over it, or allow-unauthenticated = true",
        ),
        (esp.replace("aes-cbc-128", "null"), SaFileRules::default(), "11:18: encryption-key: 16 bytes found, null takes no key"),
        (format!("{ah}icv-length = 12\n"), SaFileRules::default(), "12:14: icv-length: a value found, AH has no encryption fields"),
        (
            ah.replace("hmac-md5-96", "none"),
            SaFileRules::default(),
            "10:18: authentication: \"none\" found, an authentication algorithm such as \"hmac-sha-256-128\" expected",
        ),
        (
            ah.replace("authentication = \"hmac-md5-96\"\n", ""),
            SaFileRules::default(),
            "7:1: authentication is missing; an authentication algorithm such as \"hmac-sha-256-128\"",
        ),
        (
            format!("{esp}authentication = \"aes-gmac-128\"\n"),
            SaFileRules::default(),
            "12:18: authentication: \"aes-gmac-128\" found, AES-GMAC goes only with encryption = \"null\"",
        ),
        (
            format!("udp-encapsulation = {{ source-port = 1, destination-port = 2 }}\n{ah}"),
            SaFileRules::default(),
            "7:1: udp-encapsulation: AH found, only ESP alone goes in UDP",
        ),
        (
            format!("allow-unauthenticated = true\n{}", esp.replace("aes-cbc-128", "null").replace("00112233445566778899aabbccddeeff", "")),
            SaFileRules::default(),
            "8:1: authentication is missing; null encryption needs an authentication algorithm, or AH over it",
        ),
    ] {
        assert_eq!(read(&rest, rules).unwrap_err(), format!("sa.toml:{expected}"));
    }
    assert!(read(&format!("allow-unauthenticated = true\n{esp}"), SaFileRules::default()).is_ok());
}

#[test]
fn fields_of_ah_and_of_traffic_flow_stand_where_they_mean_something() {
    let ah = good()
        .replace("\"esp\"", "\"ah\"")
        .replace("encryption = \"aes-gcm-128\"", "authentication = \"aes-gmac-128\"")
        .replace("encryption-key", "authentication-key");
    let with = |text: &str, line: &str| text.replace("[[sa.association]]", &format!("{line}\n[[sa.association]]"));
    for (line, alignment) in [("ah-alignment = 4", Some(4)), ("ah-alignment = 8", Some(8)), ("", None)] {
        let file = SaFile::parse(&with(&ah, line), "sa.toml", SaFileRules::default()).unwrap();
        assert_eq!(file.bundles[0].parameters.ah_alignment, alignment);
    }
    let v6 = with(&ah, "ah-alignment = 8").replace("192.0.2.1", "2001:db8::1").replace("192.0.2.2", "2001:db8::2");
    assert_eq!(message(&v6, SaFileRules::default()), "sa.toml:7:16: ah-alignment: 8 found, only AH over IPv4 has it; over IPv6 it is always 8");
    for (line, pad_to, dummy_every) in
        [("{ pad-to = 1400, dummy-every = 10 }", 1400, 10), ("{ pad-to = 65535 }", 65535, 0), ("{ dummy-every = 4294967295 }", 0, u32::MAX), ("{}", 0, 0)]
    {
        let file = SaFile::parse(&with(&good(), &format!("traffic-flow = {line}")), "sa.toml", SaFileRules::default()).unwrap();
        assert_eq!(file.bundles[0].parameters.traffic_flow, TrafficFlow { pad_to, dummy_every });
    }
    let transport = |line: &str| with(&good(), line).replace("\"tunnel\"", "\"transport\"");
    assert_eq!(
        message(&transport("traffic-flow = { pad-to = 1 }"), SaFileRules::default()),
        "sa.toml:7:27: pad-to: transport mode found, only packets in a tunnel can be padded"
    );
    assert!(SaFile::parse(&transport("traffic-flow = { dummy-every = 1 }"), "sa.toml", SaFileRules::default()).is_ok());
}

#[test]
fn selectors_of_transport_mode_are_of_its_version() {
    let text = |selector: &str| good().replace("\"tunnel\"", "\"transport\"").replace("[[sa.", &format!("selectors = [ {{ {selector} }} ]\n[[sa."));
    assert!(SaFile::parse(&text("source = \"10.0.0.0/8\""), "sa.toml", SaFileRules::default()).is_ok());
    assert_eq!(message(&text("destination = \"::/0\""), SaFileRules::default()), "sa.toml:7:31: destination: ::/0, IPv6, found, the SA is IPv4");
}

#[test]
fn reserved_spis_are_taken_on_demand_and_zero_never() {
    let rules = SaFileRules { reserved_spi: true, ..SaFileRules::default() };
    let read = |spi: &str| SaFile::parse(&good().replace("0x00001001", spi), "sa.toml", rules);
    assert!(read("1").unwrap().bundles[0].parameters.allow_reserved_spi);
    assert_eq!(read("0").unwrap_err().to_string(), "sa.toml:9:7: spi: 0 found, 1 to 0xffffffff allowed");
}

/// Keys in their place, in a wrong place, and next to every kind of mistake: no error shows any part of one.
#[test]
fn no_error_shows_a_key() {
    let hexadecimal = "c0ffeed1a55eb79c0123456789abcdeffedcba98";
    // In Base64, too, in either alphabet.
    for canary in [hexadecimal, "wP/u0aVet5wBI0VniavN7/7cupg=", "wP-u0aVet5wBI0VniavN7_7cupg", "AAECAwQFBgcICQoLDA0ODxAREhM="] {
        // All but the one whose name is the canary, which is a name.
        assert_eq!(taken_with(hexadecimal, canary), 1, "{canary}");
    }
}

/// Puts `canary` into many places of a file with the key `key`. Returns how many of these files are taken; the errors of the others show no part of it.
fn taken_with(key: &str, canary: &str) -> usize {
    let line = format!("encryption-key = \"{key}\"");
    let lines = [
        format!("encryption-key = {canary}"),
        format!("encryption-key = \"{canary}"),
        format!("encryption-key = \"{canary}\" \""),
        format!("encryption-key \"{canary}\""),
        format!("encryption-key = '{canary}"),
        format!("encryption-key = \"{canary}00\""),
        format!("encryption-key = \"{canary}0\""),
        format!("encryption-key = \"{canary}\"\nencryption-key = \"{canary}\""),
        format!("encryption-key = \"\\x{canary}\""),
        format!("encryption-key = \"\\q{canary}\""),
        format!("encryption-key = \"{}\"", canary.replace('c', "\\u0063").replace("98", "9")),
        format!("encryption-key = [\"{canary}\"]"),
        format!("encryption-key = {{ hex = \"{canary}\" }}"),
        format!("encryption-key = 0x{canary}"),
        format!("{canary} = 7\n{line}"),
        format!("\"{canary}\" = 7\n{line}"),
        format!("authentication = \"{canary}\"\n{line}"),
        format!("authentication-key = \"{canary}\"\n{line}"),
        format!("icv-length = 0x{canary}\n{line}"),
        format!("sequence-number = \"{canary}\"\n{line}"),
        format!("encryption-key = \"{canary}\"\nencryption-key.x = 1"),
        format!("# {canary}\n]{line}"),
        format!("{line}\n{canary}"),
        format!("{line} {canary}"),
        format!("{line}\n[sa.{canary}]"),
        format!("authentication = \"{canary} or so\"\n{line}"),
    ];
    let good = good().replace(&format!("encryption-key = \"{KEY}\""), &line);
    assert!(SaFile::parse(&good, "sa.toml", SaFileRules::default()).is_ok());
    let mut texts: Vec<String> = lines.iter().map(|wrong| good.replace(&line, wrong)).collect();
    for field in ["name", "direction", "mode", "source", "destination", "operation", "encryption"] {
        let start = good.find(&format!("{field} = ")).unwrap();
        let end = start + good[start..].find('\n').unwrap();
        texts.push(format!("{}{field} = \"{canary}\"{}", &good[..start], &good[end..]));
    }
    for field in ["source", "destination", "protocol", "source-port", "destination-port"] {
        texts.push(good.replace("[[sa.association]]", &format!("selectors = [ {{ {field} = \"{canary}\" }} ]\n[[sa.association]]")));
        texts.push(good.replace("[[sa.association]]", &format!("selectors = [ {{ {field} = \"{canary}-{canary}\" }} ]\n[[sa.association]]")));
    }
    for field in ["inside", "replay-window", "udp-encapsulation", "allow-unauthenticated"] {
        texts.push(good.replace("[[sa.association]]", &format!("{field} = \"{canary}\"\n[[sa.association]]")));
    }
    let mut taken = 0;
    for text in texts {
        let Err(error) = SaFile::parse(&text, "sa.toml", SaFileRules::default()) else {
            taken += 1;
            continue;
        };
        for shown in [error.to_string(), format!("{error:?}")] {
            for secret in [key, canary] {
                assert!((0..secret.len() - 5).all(|at| !shown.contains(&secret[at..at + 6])), "{shown}\n{text}");
            }
        }
    }
    taken
}

fn address(v4: bool) -> impl Strategy<Value = IpAddress> {
    any::<u128>().prop_map(move |number| numbered(v4, number))
}

fn numbered(v4: bool, number: u128) -> IpAddress {
    if v4 { IpAddress::v4((number as u32 | 1).to_be_bytes()) } else { IpAddress::v6((number | 1).to_be_bytes()) }
}

fn is_v4(range: &AddressRange) -> bool {
    !range.to_string().contains(':')
}

fn range(v4: bool) -> impl Strategy<Value = Option<AddressRange>> {
    let between = (address(v4), address(v4)).prop_map(|(one, other)| AddressRange::new(one.min(other), one.max(other)));
    let prefix = (address(v4), 0..=128_u8).prop_map(move |(address, length)| {
        let (width, length) = if v4 { (32, length % 33) } else { (128, length) };
        let keep = if length == 0 { 0 } else { u128::MAX << (width - length) };
        AddressRange::prefix(IpAddress::from_number(address.version(), address.to_number() & keep)?, length)
    });
    prop_oneof![Just(None), between, prefix]
}

fn ports() -> impl Strategy<Value = PortRange> {
    prop_oneof![Just(PortRange::ANY), (any::<u16>(), any::<u16>()).prop_map(|(one, other)| PortRange { first: one.min(other), last: one.max(other) })]
}

fn selector() -> impl Strategy<Value = Selector> {
    (any::<bool>(), proptest::option::of(any::<u8>())).prop_flat_map(|(v4, protocol)| {
        let protocol = protocol.map(IpProtocol);
        (range(v4), range(v4), ports(), ports()).prop_map(move |(source, destination, source_port, destination_port)| {
            if protocol.is_none_or(IpProtocol::has_ports) {
                Selector { source, destination, protocol, source_port, destination_port }
            } else {
                Selector { source, destination, protocol, ..Selector::ANY }
            }
        })
    })
}

fn key(length: usize) -> impl Strategy<Value = SecretBytes> {
    proptest::collection::vec(any::<u8>(), length).prop_map(SecretBytes::from)
}

fn esp(with_ah: bool) -> impl Strategy<Value = AssociationParameters> {
    let algorithms =
        (0..Encryption::ALL.len(), 0..Authentication::ALL.len(), any::<prop::sample::Index>()).prop_map(move |(encryption, authentication, icv)| {
            let encryption = Encryption::ALL[encryption];
            let authentication = match Authentication::ALL[authentication] {
                _ if encryption.is_combined() => Authentication::None,
                Authentication::AesGmac(_) if encryption != Encryption::Null => Authentication::HmacSha256,
                Authentication::None if !with_ah && encryption == Encryption::Null => Authentication::HmacSha1,
                other => other,
            };
            let lengths = encryption.icv_lengths();
            (encryption, authentication, if lengths.is_empty() { 0 } else { lengths[icv.index(lengths.len())] as u8 })
        });
    algorithms.prop_flat_map(|(encryption, authentication, icv_length)| {
        let numbers = (256..=u32::MAX, any::<bool>(), any::<u32>(), any::<u32>());
        (numbers, key(encryption.key_length()), key(authentication.key_length())).prop_map(
            move |((spi, esn, high, low), encryption_key, authentication_key)| AssociationParameters {
                icv_length,
                authentication,
                authentication_key,
                extended_sequence_numbers: esn,
                sequence_number_high: if esn { high } else { 0 },
                sequence_number: low,
                ..AssociationParameters::esp(Spi(spi), encryption, encryption_key)
            },
        )
    })
}

fn ah() -> impl Strategy<Value = AssociationParameters> {
    (1..Authentication::ALL.len(), 256..=u32::MAX, any::<u32>()).prop_flat_map(|(authentication, spi, low)| {
        let authentication = Authentication::ALL[authentication];
        key(authentication.key_length()).prop_map(move |authentication_key| AssociationParameters {
            sequence_number: low,
            ..AssociationParameters::ah(Spi(spi), authentication, authentication_key)
        })
    })
}

fn associations() -> impl Strategy<Value = Vec<AssociationParameters>> {
    prop_oneof![esp(false).prop_map(|esp| vec![esp]), ah().prop_map(|ah| vec![ah]), (esp(true), ah()).prop_map(|(esp, ah)| vec![esp, ah]),]
}

pub(super) fn parameters() -> impl Strategy<Value = SaParameters> {
    let head = ("[^\\p{C}]{1,12}", any::<bool>(), any::<bool>(), any::<bool>(), 0..=65_536_u32, proptest::option::of((any::<u16>(), 1..=u16::MAX)));
    let ends = (any::<u128>(), any::<u128>());
    let offload = prop::sample::select(vec![OffloadPolicy::Require, OffloadPolicy::Prefer, OffloadPolicy::Forbid]);
    let flow = (any::<u16>(), any::<u32>(), proptest::option::of(prop_oneof![Just(4_u8), Just(8)]), offload);
    (head, associations(), proptest::collection::vec(selector(), 0..4), ends, flow).prop_map(
        |((name, inbound, tunnel, v4, window, udp), associations, selectors, (source, destination), (pad_to, dummy_every, alignment, offload))| {
            let has = |operation| associations.iter().any(|association: &AssociationParameters| association.operation == operation);
            let (has_ah, has_esp) = (has(Operation::Ah), has(Operation::Esp));
            SaParameters {
                udp_encapsulation: udp.filter(|_| !has_ah).map(|(source_port, destination_port)| UdpEncapsulation { source_port, destination_port }),
                // In transport mode they are of the SA's version.
                selectors: selectors
                    .into_iter()
                    .filter(|selector| tunnel || [selector.source, selector.destination].iter().flatten().all(|range| is_v4(range) == v4))
                    .collect(),
                replay_window: window,
                ah_alignment: alignment.filter(|_| v4 && has_ah),
                traffic_flow: TrafficFlow { pad_to: if tunnel && has_esp { pad_to } else { 0 }, dummy_every: if has_esp { dummy_every } else { 0 } },
                allow_unauthenticated: true,
                offload,
                ..SaParameters::new(
                    name,
                    if inbound { Direction::Inbound } else { Direction::Outbound },
                    if tunnel { Mode::Tunnel } else { Mode::Transport },
                    (numbered(v4, source), numbered(v4, destination)),
                    associations,
                )
            }
        },
    )
}

/// Everything of parameters in a comparable form, keys included.
pub(super) fn picture(parameters: &SaParameters) -> String {
    let keys: Vec<_> = parameters.associations.iter().map(|a| (a.encryption_key.expose().to_vec(), a.authentication_key.expose().to_vec())).collect();
    format!("{parameters:?} {keys:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_written_reads_the_same(mut bundles in proptest::collection::vec(parameters(), 1..4)) {
        for (number, bundle) in bundles.iter_mut().enumerate() {
            bundle.name = format!("{} \"{number}\\", bundle.name);
        }
        let text = to_toml(&bundles);
        let read = SaFile::parse(&text, "sa.toml", SaFileRules::default()).unwrap();
        prop_assert_eq!(read.bundles.len(), bundles.len());
        for (read, written) in read.bundles.iter().zip(&bundles) {
            prop_assert_eq!(picture(&read.parameters), picture(written));
        }
    }

    #[test]
    fn any_change_is_read_or_refused(at in any::<prop::sample::Index>(), replacement in "\\PC{0,3}", cut in 0..4_usize) {
        let mut text: Vec<char> = good().chars().collect();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, replacement.chars());
        let text: String = text.into_iter().collect();
        for rules in [SaFileRules::default(), SaFileRules { reserved_spi: true, ..SaFileRules::default() }] {
            if let Err(error) = SaFile::parse(&text, "sa.toml", rules) {
                prop_assert!(error.to_string().starts_with("sa.toml:"), "{}", error);
            }
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_text() {
    let names = |text: &str| -> Vec<String> {
        let file = SaFile::parse(text, "sa.toml", SaFileRules::default()).unwrap();
        file.bundles.into_iter().map(|bundle| bundle.parameters.name).collect()
    };
    assert_eq!(names(&format!("\u{feff}{}", good())), names(&good()));
}
