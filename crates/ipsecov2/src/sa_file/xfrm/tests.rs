use proptest::prelude::*;

use ipsec::Authentication;
use ndis::{Direction, Operation};
use packet::{IpAddress, Spi};
use transport::{AddressRange, Mode, OffloadPolicy, SaParameters, Selector, TrafficFlow, UdpEncapsulation};

use super::super::tests::{parameters, picture};
use super::super::{Format, Loss, SaFile, SaFileRules, Target, write};

/// What `ip xfrm state` of an OpenShift host with libreswan shows, as its guide to IPsec with external hosts has it: indented by two spaces.
const LIBRESWAN: &str = "\
src 10.1.232.10 dst 10.1.28.190
  proto esp spi 0xa62a05aa reqid 16393 mode tunnel
  replay-window 0 flag af-unspec esn
  auth-trunc hmac(sha1) 0x8c59f680c8ea1e667b665d8424e2ab749cec12dc 96
  enc cbc(aes) 0x2818a489fe84929c8ab72907e9ce2f0eac6f16f2258bd22240f4087e0326badb
  anti-replay esn context:
   seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0
   replay_window 128, bitmap-length 4
   00000000 00000000 00000000 00000000
src 10.1.28.190 dst 10.1.232.10
  proto esp spi 0x8e96e9f9 reqid 16393 mode tunnel
  replay-window 0 flag af-unspec esn
  auth-trunc hmac(sha1) 0xd960ddc0a6baaccb343396a51295e08cfd8aaddd 96
  enc cbc(aes) 0x0273c02e05b4216d5e652de3fc9b3528fea94648bc2b88fa01139fdf0beb27ab
  anti-replay esn context:
   seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0
   replay_window 128, bitmap-length 4
   00000000 00000000 00000000 00000000
";

/// strongSwan behind a NAT, from a public guide to VPN gateways in two clouds.
const STRONGSWAN: &str = "\
src 192.168.0.2 dst 35.184.203.133
\tproto esp spi 0x2f09cd79 reqid 1 mode tunnel
\treplay-window 0 flag af-unspec
\tauth-trunc hmac(sha1) 0xc2ee36f1aa6d335d015548ef05faf1224e69cb91 96
\tenc cbc(aes) 0xf07963ea41e43e968ed664f238b733ac09c073fc875eaab7bac42a38d3c2cd84
\tencap type espinudp sport 4500 dport 4500 addr 0.0.0.0
\tanti-replay context: seq 0x0, oseq 0x1a, bitmap 0x00000000
src 35.184.203.133 dst 192.168.0.2
\tproto esp spi 0xc540db4a reqid 1 mode tunnel
\treplay-window 32 flag af-unspec
\tauth-trunc hmac(sha1) 0x7349e75f2099d135e2afbe1c1822e914bc6fa367 96
\tenc cbc(aes) 0xc6847b37afef24fc618a09e4cd8a86e004176373b75328413342adb050fba1c1
\tencap type espinudp sport 4500 dport 4500 addr 0.0.0.0
\tanti-replay context: seq 0x14, oseq 0x0, bitmap 0x000fffff
";

/// From the commit message of Linux's mlx5 driver about policies and request ids: an SA that a card does.
const OFFLOADED: &str = "\
src 192.169.101.2 dst 192.169.101.1
        proto esp spi 0xc88b7652 reqid 1 mode tunnel
        replay-window 0 flag af-unspec esn
        aead rfc4106(gcm(aes)) 0xe406a01083986e14d116488549094710e9c57bc6 128
        anti-replay esn context:
         seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0
         replay_window 1, bitmap-length 1
         00000000
        crypto offload parameters: dev eth2 dir out mode packet
";

/// From the netdev list (August 2024), with the direction that newer kernels know; there it was of mode iptfs.
const DIRECTED: &str = "\
src 2001:db8:1:2::45 dst 2001:db8:1:2::23
\tproto esp spi 0x64b502a7 reqid 16393 mode tunnel
\tflag af-unspec esn
\taead rfc4106(gcm(aes)) 0x4bf7846c1418b14213487da785fb4019cfa47396c8c1968fb3a38559e7e39709fa87dfd9 128
\tlastused 2024-08-29 09:30:00
\tanti-replay esn context:\t oseq-hi 0x0, oseq 0xa
\tdir out
src 2001:db8:1:2::23 dst 2001:db8:1:2::45
\tproto esp spi 0xc5b34ddd reqid 16393 mode tunnel
\treplay-window 0 flag af-unspec esn
\taead rfc4106(gcm(aes)) 0x9029a5ad6da74a19086946836152a6a5d1abbdd81b7a8b997785d23b271413e522da9a11 128
\tlastused 2024-08-29 09:30:00
\tanti-replay esn context:
\t seq-hi 0x0, seq 0xa
\t replay_window 128, bitmap-length 4
\t 00000000 00000000 00000000 000003ff
\tdir in
";

/// `ip -s xfrm state`, as a strongSwan user reported it (keys put in where they were blanked).
const STATISTICS: &str = "\
src 10.1.1.2 dst 2.2.2.2
    proto esp spi 0xc1a2b3c4(3248665540) reqid 1(0x00000001) mode tunnel
    replay-window 32 seq 0x00000000 flag af-unspec (0x00100000)
    mark 0x2a/0xffffffff
    auth-trunc hmac(sha256) 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f (256 bits) 128
    enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f (256 bits)
    encap type espinudp sport 4500 dport 4500 addr 0.0.0.0
    anti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000
    sel src 10.0.1.0/24 dst 10.0.2.0/24 uid 0
    lifetime config:
      limit: soft (INF)(bytes), hard (INF)(bytes)
      limit: soft (INF)(packets), hard (INF)(packets)
      expire add: soft 9745(sec), hard 10800(sec)
      expire use: soft 0(sec), hard 0(sec)
    lifetime current:
      0(bytes), 0(packets)
      add 2019-07-23 10:20:22 use -
    stats:
      replay-window 0 replay 0 failed 0
";

fn address(text: &str) -> IpAddress {
    text.parse().unwrap()
}

fn read_as(text: &str, local: &str) -> Result<SaFile, String> {
    let local = [address(local)];
    let rules = SaFileRules { local: &local, format: Some(Format::Xfrm), ..SaFileRules::default() };
    SaFile::parse(text, "xfrm", rules).map_err(|error| error.to_string())
}

fn read(text: &str) -> Result<SaFile, String> {
    read_as(text, "192.0.2.2")
}

/// A state from 192.0.2.1 to 192.0.2.2 with these lines.
fn state(proto: &str, mode: &str, lines: &[&str]) -> String {
    let head = format!("src 192.0.2.1 dst 192.0.2.2\n\tproto {proto} spi 0x00001001 reqid 1 mode {mode}\n\treplay-window 32 \n");
    lines.iter().fold(head, |text, line| text + "\t" + line + "\n")
}

const GCM: &str = "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128";
const MD5: &str = "auth-trunc hmac(md5) 0x000102030405060708090a0b0c0d0e0f 96";

#[test]
fn what_real_hosts_print_is_read() {
    let picture = |file: &SaFile| {
        let picture = |sa: &SaParameters| {
            let association = &sa.associations[0];
            format!(
                "{} {:?} {:?} {} {} window {} numbers {:#x} {:#x}{}{}",
                sa.name,
                sa.direction,
                sa.mode,
                association.encryption,
                association.authentication,
                sa.replay_window,
                association.sequence_number_high,
                association.sequence_number,
                if association.extended_sequence_numbers { " esn" } else { "" },
                if sa.udp_encapsulation.is_some() { " udp" } else { "" },
            )
        };
        file.bundles.iter().map(|bundle| picture(&bundle.parameters)).collect::<Vec<_>>()
    };
    for (text, local, expected) in [
        (
            LIBRESWAN,
            "10.1.232.10",
            &[
                "esp-0xa62a05aa-10.1.28.190 Outbound Tunnel aes-cbc-256 hmac-sha1-96 window 128 numbers 0x0 0x0 esn",
                "esp-0x8e96e9f9-10.1.232.10 Inbound Tunnel aes-cbc-256 hmac-sha1-96 window 128 numbers 0x0 0x0 esn",
            ][..],
        ),
        (
            STRONGSWAN,
            "192.168.0.2",
            &[
                "esp-0x2f09cd79-35.184.203.133 Outbound Tunnel aes-cbc-256 hmac-sha1-96 window 0 numbers 0x0 0x1a udp",
                "esp-0xc540db4a-192.168.0.2 Inbound Tunnel aes-cbc-256 hmac-sha1-96 window 32 numbers 0x0 0x14 udp",
            ],
        ),
        // These say the direction themselves.
        (OFFLOADED, "::1", &["esp-0xc88b7652-192.169.101.1 Outbound Tunnel aes-gcm-128 none window 1 numbers 0x0 0x0 esn"]),
        (
            DIRECTED,
            "::1",
            &[
                "esp-0x64b502a7-2001:db8:1:2::23 Outbound Tunnel aes-gcm-256 none window 0 numbers 0x0 0xa esn",
                "esp-0xc5b34ddd-2001:db8:1:2::45 Inbound Tunnel aes-gcm-256 none window 128 numbers 0x0 0xa esn",
            ],
        ),
        (STATISTICS, "2.2.2.2", &["esp-0xc1a2b3c4-2.2.2.2 Inbound Tunnel aes-cbc-256 hmac-sha-256-128 window 32 numbers 0x0 0x0 udp"]),
    ] {
        // As it is, pasted without what it is indented by, and with `ip -o`.
        let bare = text.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
        let one_line = text.replace('\n', "\\").replace("\\src", "\\\nsrc");
        for text in [text.to_owned(), bare, one_line, text.replace('\n', "\r\n")] {
            assert_eq!(Format::of(&text), Format::Xfrm);
            let file = read_as(&text, local).unwrap();
            assert_eq!(picture(&file), expected);
            assert!(file.notes.is_empty(), "{:?}", file.notes);
        }
    }
    let statistics = read_as(STATISTICS, "2.2.2.2").unwrap();
    let range = |text: &str| AddressRange::prefix(address(text), 24);
    let selector = Selector { source: range("10.0.1.0"), destination: range("10.0.2.0"), ..Selector::ANY };
    assert_eq!(statistics.bundles[0].parameters.selectors, [selector]);
}

/// Every algorithm of Linux that the program has, by the kernel's names and by those of old versions.
#[test]
fn algorithms_are_read_by_their_names() {
    let hex = |bytes: usize| format!("0x{}", "a5".repeat(bytes));
    for (names, key, expected) in [
        (&["cbc(des)", "des"][..], 8, "des-cbc"),
        (&["cbc(des3_ede)", "des3_ede"], 24, "3des-cbc"),
        (&["cbc(aes)", "aes"], 16, "aes-cbc-128"),
        (&["cbc(aes)", "aes"], 24, "aes-cbc-192"),
        (&["cbc(aes)", "aes"], 32, "aes-cbc-256"),
    ] {
        for name in names {
            let file = read(&state("esp", "tunnel", &[MD5, &format!("enc {name} {}", hex(key))])).unwrap();
            let association = &file.bundles[0].parameters.associations[0];
            assert_eq!((association.encryption.name(), association.encryption_key.len(), association.icv_length), (expected, key, 0));
        }
    }
    for null in ["enc ecb(cipher_null)", "enc ecb(cipher_null) 0x", "enc cipher_null", "enc ecb(cipher_null)  (0 bits)"] {
        let file = read(&state("esp", "tunnel", &[MD5, null])).unwrap();
        assert_eq!(file.bundles[0].parameters.associations[0].encryption.name(), "null");
    }
    for (line, expected) in [
        (format!("auth hmac(md5) {}", hex(16)), "hmac-md5-96"),
        (format!("auth md5 {} (128 bits)", hex(16)), "hmac-md5-96"),
        (format!("auth hmac(sha1) {}", hex(20)), "hmac-sha1-96"),
        (format!("auth sha1 {}", hex(20)), "hmac-sha1-96"),
        (format!("auth hmac(sha384) {}", hex(48)), "hmac-sha-384-192"),
        (format!("auth hmac(sha512) {}", hex(64)), "hmac-sha-512-256"),
        (format!("auth-trunc hmac(md5) {} 96", hex(16)), "hmac-md5-96"),
        (format!("auth-trunc hmac(sha1) {} (160 bits) 96", hex(20)), "hmac-sha1-96"),
        (format!("auth-trunc hmac(sha256) {} 128", hex(32)), "hmac-sha-256-128"),
        (format!("auth-trunc sha256 {} 128", hex(32)), "hmac-sha-256-128"),
        (format!("auth-trunc hmac(sha384) {} 192", hex(48)), "hmac-sha-384-192"),
        (format!("auth-trunc hmac(sha512) {} 256", hex(64)), "hmac-sha-512-256"),
    ] {
        for (proto, more) in [("ah", ""), ("esp", "enc ecb(cipher_null)")] {
            let file = read(&state(proto, "tunnel", &[&line, more])).unwrap();
            assert_eq!(file.bundles[0].parameters.associations[0].authentication.name(), expected);
        }
    }
    for (name, key, bits, encryption, authentication, icv) in [
        ("rfc4106(gcm(aes))", 20, 64, "aes-gcm-128", "none", 8),
        ("rfc4106(gcm(aes))", 28, 96, "aes-gcm-192", "none", 12),
        ("rfc4106(gcm(aes))", 36, 128, "aes-gcm-256", "none", 16),
        ("rfc7539esp(chacha20,poly1305)", 36, 128, "chacha20-poly1305", "none", 16),
        ("rfc4543(gcm(aes))", 20, 128, "null", "aes-gmac-128", 0),
        ("rfc4543(gcm(aes))", 28, 128, "null", "aes-gmac-192", 0),
        ("rfc4543(gcm(aes))", 36, 128, "null", "aes-gmac-256", 0),
    ] {
        let file = read(&state("esp", "tunnel", &[&format!("aead {name} {} {bits}", hex(key))])).unwrap();
        let association = &file.bundles[0].parameters.associations[0];
        assert_eq!((association.encryption.name(), association.authentication.name(), association.icv_length), (encryption, authentication, icv));
        assert_eq!(association.encryption_key.len() + association.authentication_key.len(), key);
    }
}

#[test]
fn lines_beside_ipsec_are_read_over_by_name() {
    let lines = [
        "mark 0x3e00/0xff00 output-mark 0xe00/0xf00",
        "output-mark 0x6/0xab",
        GCM,
        "lastused 2024-09-03 01:35:57",
        "if_id 0x37",
        "nat_keepalive_interval 20",
        "pcpu-num 3",
        "security context system_u:object_r:ipsec_spd_t:s0 ",
        "tfcpad 1400",
        "dir in",
    ];
    let sa = read(&state("esp", "tunnel", &lines)).unwrap().bundles.remove(0).parameters;
    assert_eq!((sa.direction, sa.traffic_flow), (Direction::Inbound, TrafficFlow { pad_to: 1400, dummy_every: 0 }));
    // What will not be done as the state says is told.
    let flagged = state("esp", "tunnel", &[GCM]).replace("32 \n", "32 flag noecn decap-dscp nopmtudisc icmp af-unspec\n");
    let notes: Vec<_> = read(&flagged).unwrap().notes.iter().map(|note| format!("{} {}", note.position, note.text)).collect();
    assert_eq!(
        notes,
        [
            "3:24 flag noecn: congestion marks of the outer header are carried into the inner one all the same",
            "3:30 flag decap-dscp: the inner header keeps its own DSCP",
            "3:41 flag nopmtudisc: the outer header's DF bit is set as for any other SA",
        ]
    );
    // So is a state that has no keys yet; without any other there is nothing.
    let larval = "src 0.0.0.0 dst 192.0.2.9\n\tproto esp spi 0x00000000 reqid 1 mode tunnel\n\treplay-window 0 \n\tsel src 10.0.1.1/32 dst 10.0.2.1/32 \n";
    let file = read(&format!("{larval}{}", state("esp", "tunnel", &[GCM]))).unwrap();
    assert_eq!((file.bundles.len(), file.notes.len()), (1, 1));
    assert_eq!(file.notes[0].text, "a state without keys, which are being negotiated: left out");
    assert_eq!(read(larval).unwrap_err(), "xfrm:1:1: SA is missing; a state with keys");
}

/// Linux aligns AH over IPv4 to 8 bytes unless `align4` is set.
#[test]
fn alignment_of_ah_is_linuxs() {
    for (text, alignment) in [
        (state("ah", "transport", &[MD5]), Some(8)),
        (state("ah", "transport", &[MD5]).replace("32 \n", "32 flag align4\n"), None),
        (state("ah", "tunnel", &[MD5]).replace("192.0.2.1", "2001:db8::1").replace("192.0.2.2", "2001:db8::2"), None),
        (state("esp", "transport", &[GCM]), None),
    ] {
        let local = [address("192.0.2.2"), address("2001:db8::2")];
        let file = SaFile::parse(&text, "xfrm", SaFileRules { local: &local, ..SaFileRules::default() }).unwrap();
        assert_eq!(file.bundles[0].parameters.ah_alignment, alignment, "{text}");
    }
}

#[test]
fn ah_over_esp_is_joined_where_it_is_clear() {
    let esp = state("esp", "transport", &[MD5, "enc ecb(cipher_null)"]);
    let ah = state("ah", "transport", &[MD5]).replace("0x00001001", "0x00001002").replace("32 \n", "64 flag align4\n");
    let shapes = |text: &str| {
        let file = read(text).unwrap();
        let shape = |sa: &SaParameters| {
            let operations = sa.associations.iter().map(|association| format!("{:?}", association.operation)).collect::<Vec<_>>().join("+");
            format!("{operations} {:?} {}", sa.mode, sa.replay_window)
        };
        file.bundles.iter().map(|bundle| shape(&bundle.parameters)).collect::<Vec<_>>()
    };
    for text in [format!("{esp}{ah}"), format!("{ah}{esp}")] {
        assert_eq!(shapes(&text), ["Esp+Ah Transport 32"]);
        let sa = read(&text).unwrap().bundles.remove(0).parameters;
        assert_eq!((sa.name.as_str(), sa.ah_alignment), ("esp-0x00001001-ah-0x00001002-192.0.2.2", None));
        assert_eq!(sa.associations.iter().map(|association| association.spi).collect::<Vec<_>>(), [Spi(0x1001), Spi(0x1002)]);
    }
    assert_eq!(shapes(&format!("{}{ah}", esp.replace("transport", "tunnel"))), ["Esp+Ah Tunnel 32"]);
    // Encryption of a pair needs no authentication of its own.
    let cbc = state("esp", "transport", &["enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f"]);
    assert_eq!(shapes(&format!("{cbc}{ah}")), ["Esp+Ah Transport 32"]);
    for apart in [
        format!("{esp}{}", ah.replace("reqid 1", "reqid 2")),
        format!("{}{}", esp.replace("reqid 1", "reqid 0"), ah.replace("reqid 1", "reqid 0")),
        format!("{esp}{}", ah.replace("192.0.2.1", "192.0.2.3")),
        format!("{esp}{}", ah.replace("transport", "tunnel")),
    ] {
        assert_eq!(shapes(&apart).len(), 2, "{apart}");
    }
    // Old and new SAs at once: which go together cannot be said.
    assert_eq!(shapes(&format!("{esp}{ah}{}{}", esp.replace("0x00001001", "0x00001003"), ah.replace("0x00001002", "0x00001004"))).len(), 4);
}

#[test]
fn selectors_are_read_as_linux_means_them() {
    let read = |mode: &str, flag: &str, sel: &str| {
        let text = state("esp", mode, &[GCM, sel]).replace("32 \n", &format!("32 {flag}\n"));
        read(&text).map(|mut file| file.bundles.remove(0).parameters.selectors)
    };
    let v4 = AddressRange::prefix(IpAddress::UNSPECIFIED_V4, 0);
    let net = AddressRange::prefix(address("10.0.1.0"), 24);
    let any = "sel src 0.0.0.0/0 dst 0.0.0.0/0 ";
    assert_eq!(read("tunnel", "", any).unwrap(), [Selector { source: v4, destination: v4, ..Selector::ANY }]);
    assert_eq!(read("tunnel", "flag af-unspec", any).unwrap(), []);
    assert_eq!(read("transport", "", any).unwrap(), []);
    assert_eq!(read("tunnel", "flag af-unspec", "").unwrap(), []);
    // Linux looks at the first bits only.
    assert_eq!(read("tunnel", "", "sel src 10.0.1.77/24 dst 0.0.0.0/0").unwrap(), [Selector { source: net, ..Selector::ANY }]);
    let udp = read("tunnel", "", "sel src 10.0.1.0/24 dst 10.0.1.0/24 proto udp sport 53 dport 1701 ").unwrap();
    let port = |number| transport::PortRange { first: number, last: number };
    let expected = Selector { source: net, destination: net, protocol: Some(packet::IpProtocol::UDP), source_port: port(53), destination_port: port(1701) };
    assert_eq!(udp, [expected]);
    for (name, number) in [("ipv6-icmp", 58), ("icmp", 1), ("89", 89), ("ipencap", 4)] {
        assert_eq!(read("tunnel", "", &format!("sel src ::/0 dst ::1/128 proto {name}")).unwrap()[0].protocol, Some(packet::IpProtocol(number)));
    }
    for (sel, expected) in [
        ("sel src 10.0.1.0/33 dst ::/0", "5:10: sel: \"10.0.1.0/33\" found, a prefix such as 10.0.1.0/24 expected"),
        ("sel src 10.0.1.0/24 dst ::/0", "5:26: sel: ::, IPv6, found, the source is IPv4"),
        ("sel src ::/0 dst ::/0 dev eth0", "5:24: sel: \"dev\" found, allowed: proto, sport, dport"),
        ("sel src ::/0 dst ::/0 proto icmp type 8", "5:35: sel: \"type\" found, allowed: proto, sport, dport"),
        ("sel src ::/0 dst ::/0 proto gre key 7", "5:34: sel: \"key\" found, allowed: proto, sport, dport"),
        ("sel src ::/0 dst ::/0 uid 7", "5:28: sel: \"7\" found, a number from 0 to 0 allowed"),
        ("sel src ::/0 dst ::/0 proto icmp sport 7", "5:2: sel: ports of a protocol without ports found, only TCP, UDP, SCTP, DCCP and UDP-Lite have ports"),
    ] {
        assert_eq!(read("tunnel", "", sel).unwrap_err(), format!("xfrm:{expected}"));
    }
    assert_eq!(read("transport", "", "sel src ::/0 dst ::/0").unwrap_err(), "xfrm:5:2: sel: IPv6 found, the SA is IPv4");
}

#[test]
fn errors_say_where_what_was_found_and_what_is_allowed() {
    let good = state("esp", "tunnel", &[GCM]);
    for (old, new, expected) in [
        ("src 192.0.2.1", "src 192.0.2", "1:5: src: \"192.0.2\" found, an IPv4 or IPv6 address expected"),
        ("dst 192.0.2.2", "dst", "1:18: dst: the end of the line found, an address expected"),
        ("dst 192.0.2.2", "dst ::1", "1:19: dst: ::1, IPv6, found, the source 192.0.2.1 is IPv4"),
        ("dst 192.0.2.2", "to 192.0.2.2", "1:15: src: \"to\" found, \"dst\" expected"),
        ("192.0.2.2\n", "192.0.2.2 more\n", "1:29: dst: \"more\" found, the end of the line expected"),
        ("proto esp", "proto comp", "2:8: proto: \"comp\" found, \"esp\" or \"ah\" allowed"),
        ("proto esp", "proto route2", "2:8: proto: another word found, \"esp\" or \"ah\" allowed"),
        ("spi 0x00001001", "spi 0x000000ff", "2:16: spi: 0x000000ff found, 0x100 to 0xffffffff allowed"),
        ("spi 0x00001001", "spi 0x00000000", "2:16: spi: 0 found, 0x100 to 0xffffffff allowed"),
        ("spi 0x00001001", "spi 0x100000000", "2:16: spi: \"0x100000000\" found, a number from 0 to 4294967295 allowed"),
        ("reqid 1", "reqid x", "2:33: reqid: \"x\" found, a number from 0 to 4294967295 allowed"),
        ("mode tunnel", "mode beet", "2:40: mode: \"beet\" found, \"transport\" or \"tunnel\" allowed"),
        ("mode tunnel", "mode ro", "2:40: mode: \"ro\" found, \"transport\" or \"tunnel\" allowed"),
        ("mode tunnel", "mode in_trigger", "2:40: mode: \"in_trigger\" found, \"transport\" or \"tunnel\" allowed"),
        ("mode tunnel", "mode iptfs", "2:40: mode: \"iptfs\" found, \"transport\" or \"tunnel\" allowed"),
        ("mode tunnel", "mode 7", "2:40: mode: another word found, \"transport\" or \"tunnel\" allowed"),
        (
            "32 \n",
            "32 flag wildrecv\n",
            "3:24: flag: \"wildrecv\" found, allowed: noecn, decap-dscp, nopmtudisc, icmp, af-unspec, align4, esn, dont-encap-dscp, oseq-may-wrap",
        ),
        ("replay-window 32", "replay-window 65537", "3:16: replay-window: \"65537\" found, a number from 0 to 65536 allowed"),
        (
            "rfc4106(gcm(aes))",
            "rfc4309(ccm(aes))",
            "4:7: aead: \"rfc4309(ccm(aes))\" found, allowed: rfc4106(gcm(aes)), rfc7539esp(chacha20,poly1305), rfc4543(gcm(aes))",
        ),
        (
            "aead rfc4106(gcm(aes))",
            "enc rfc3686(ctr(aes))",
            "4:6: enc: \"rfc3686(ctr(aes))\" found, allowed: ecb(cipher_null), cbc(des), cbc(des3_ede), cbc(aes)",
        ),
        (
            "aead rfc4106(gcm(aes))",
            "enc rfc4106(gcm(aes))",
            "4:6: enc: \"rfc4106(gcm(aes))\" found, allowed: ecb(cipher_null), cbc(des), cbc(des3_ede), cbc(aes)",
        ),
        ("0x0001", "<<Keys hidden>> 0x0001", "4:25: aead: a hidden key found, the key expected: ip xfrm state without nokeys, run as root, prints it"),
        ("0x0001", "(ERROR truncated) 0x0001", "4:25: aead: an error of ip in place of the key found, 0x and hexadecimal digits expected"),
        ("0x0001", "0001", "4:25: aead: no 0x before the key found, 0x and hexadecimal digits expected"),
        ("0x000102030405060708090a0b0c0d0e0f10111213 ", "0x ", "4:25: aead: 0 bytes found, rfc4106(gcm(aes)) takes 20, 28 or 36 (16, 24 or 32 key, 4 salt)"),
        ("0x000102030405060708090a0b0c0d0e0f10111213 ", "", "4:25: aead: 0 bytes found, rfc4106(gcm(aes)) takes 20, 28 or 36 (16, 24 or 32 key, 4 salt)"),
        ("11213 128", "11213", "4:67: aead: the end of the line found, the length of the ICV in bits expected"),
        ("11213 128", "11213 127", "4:68: aead: 127 bits found, rfc4106(gcm(aes)) takes 128, 96, 64"),
        ("11213 128", "11213 128 1", "4:72: aead: another word found, the end of the line expected"),
    ] {
        assert!(good.contains(old), "{old}");
        assert_eq!(read(&good.replacen(old, new, 1)).expect_err(new), format!("xfrm:{expected}"));
    }
    for (proto, mode, lines, expected) in [
        ("esp", "tunnel", &[GCM, "coa 192.0.2.7"][..], "5:2: line: \"coa\" found, only ESP and AH in transport and tunnel mode are supported"),
        ("esp", "tunnel", &["comp deflate"], "4:2: line: \"comp\" found, only ESP and AH in transport and tunnel mode are supported"),
        ("esp", "tunnel", &[GCM, GCM], "5:2: aead: a second line found, one allowed"),
        ("esp", "tunnel", &[GCM, MD5], "5:2: auth-trunc: a further algorithm found, aead stands alone; enc and auth once each allowed"),
        ("esp", "tunnel", &[MD5, "auth hmac(md5) 0x00"], "5:2: auth: a second line found, one allowed"),
        ("esp", "tunnel", &[MD5], "4:2: enc: no encryption found, enc or aead expected, ecb(cipher_null) for none"),
        ("esp", "tunnel", &["enc ecb(cipher_null)"], "4:2: auth: no authentication found, null encryption needs an authentication algorithm, or AH over it"),
        (
            "esp",
            "tunnel",
            &["enc cbc(des) 0x0001020304050607", "auth-trunc digest_null 0x30 0"],
            "4:2: auth: no authentication found, encryption needs an authentication algorithm, or --allow-unauthenticated",
        ),
        ("ah", "tunnel", &[MD5, "enc ecb(cipher_null)"], "4:2: aead: an algorithm of ESP found, AH has auth or auth-trunc"),
        ("ah", "tunnel", &[GCM], "4:2: enc: encryption found, AH has none"),
        ("ah", "tunnel", &["auth-trunc digest_null 0x30 0"], "4:2: auth: no authentication found, AH has auth or auth-trunc"),
        ("ah", "tunnel", &[MD5, "encap type espinudp sport 4500 dport 4500 addr 0.0.0.0"], "5:2: encap: AH found, only ESP goes in UDP"),
        (
            "esp",
            "tunnel",
            &[GCM, "encap type espinudp-nonike sport 4500 dport 4500 addr 0.0.0.0"],
            "5:13: encap: \"espinudp-nonike\" found, \"espinudp\" allowed (RFC 3948)",
        ),
        ("esp", "tunnel", &[GCM, "encap type espintcp sport 1 dport 2 addr 0.0.0.0"], "5:13: encap: \"espintcp\" found, \"espinudp\" allowed (RFC 3948)"),
        ("esp", "tunnel", &[GCM, "encap type espinudp sport 1 dport 65536 addr ::"], "5:36: encap: \"65536\" found, a number from 1 to 65535 allowed"),
        ("esp", "transport", &[GCM, "tfcpad 9"], "5:2: tfcpad: AH, or transport mode found, only ESP in a tunnel pads packets"),
        ("esp", "tunnel", &[GCM, "tfcpad 65536"], "5:9: tfcpad: \"65536\" found, a number from 0 to 65535 allowed"),
        ("esp", "tunnel", &[GCM, "dir fwd"], "5:6: dir: \"fwd\" found, \"in\" or \"out\" allowed"),
        (
            "esp",
            "tunnel",
            &[GCM, "anti-replay esn context:", "replay_window 4294967295, bitmap-length 1"],
            "6:16: anti-replay: \"4294967295,\" found, a number from 0 to 65536 allowed",
        ),
        ("esp", "tunnel", &[GCM, "anti-replay context: seq 0x1, xseq 0x0"], "5:32: anti-replay: \"xseq\" found, allowed: seq-hi, seq, oseq-hi, oseq, bitmap"),
    ] {
        assert_eq!(read(&state(proto, mode, lines)).expect_err(expected), format!("xfrm:{expected}"));
    }
    let unknown = read(&state("esp", "tunnel", &[GCM, "new-thing 7"])).unwrap_err();
    assert!(unknown.starts_with("xfrm:5:2: unknown field \"new-thing\"; allowed here: src, proto, replay-window, "), "{unknown}");
    assert_eq!(read("proto esp\n").unwrap_err(), "xfrm:1:1: line: another word found, a state expected, which begins with src ADDRESS dst ADDRESS");
    assert_eq!(read("src ::1 dst ::2\n").unwrap_err(), "xfrm:1:1: proto is missing; a line such as proto esp spi 0x00001001 reqid 1 mode tunnel");
    assert_eq!(read_as(&good, "192.0.2.9").unwrap_err(), "xfrm:1:1: direction: 192.0.2.1 to 192.0.2.2 found, neither is an address that --local names");
    let error = SaFile::parse(&good, "xfrm", SaFileRules::default()).unwrap_err();
    assert_eq!(error.to_string(), "xfrm:1:1: direction is missing; the file does not say which end is this host: --local ADDRESS does");
    let allowed = SaFileRules { allow_unauthenticated: true, local: &[address("192.0.2.2")], ..SaFileRules::default() };
    let alone = state("esp", "tunnel", &["enc cbc(des) 0x0001020304050607"]);
    assert!(SaFile::parse(&alone, "xfrm", allowed).unwrap().bundles[0].parameters.allow_unauthenticated);
}

/// `auth hmac(sha256)` is 96 bits to the kernel, and is never read as the 128 of RFC 4868.
#[test]
fn r_20_hmac_sha_256_without_a_length_is_refused_by_name() {
    let key = format!("0x{}", "a5".repeat(32));
    for name in ["hmac(sha256)", "sha256"] {
        for (proto, more) in [("ah", ""), ("esp", "enc ecb(cipher_null)")] {
            let expected =
                format!("xfrm:4:7: auth: {name} without a length, which is 96 bits, found, only 128 bits (RFC 4868) are supported: auth-trunc {name} KEY 128");
            assert_eq!(read(&state(proto, "tunnel", &[&format!("auth {name} {key}"), more])).unwrap_err(), expected);
            for bits in [0, 64, 95, 96, 127, 129, 160, 256] {
                let message = read(&state(proto, "tunnel", &[&format!("auth-trunc {name} {key} {bits}"), more])).unwrap_err();
                assert!(message.ends_with(&format!("auth-trunc: {bits} bits found, {name} takes 128")), "{message}");
            }
            assert!(read(&state(proto, "tunnel", &[&format!("auth-trunc {name} {key} 128"), more])).is_ok());
        }
    }
    for (name, bytes, bits) in [("hmac(md5)", 16, 128), ("hmac(sha1)", 20, 160), ("hmac(sha384)", 48, 384), ("hmac(sha512)", 64, 512), ("hmac(sha512)", 64, 96)]
    {
        assert!(read(&state("ah", "tunnel", &[&format!("auth-trunc {name} 0x{} {bits}", "00".repeat(bytes))])).is_err(), "{name} {bits}");
    }
}

/// windows and lengths beyond what there can be are refused, whichever line has them.
#[test]
fn r_13_windows_are_bounded() {
    let contexts = |window: &str| state("esp", "tunnel", &[GCM, "anti-replay esn context:", &format!("replay_window {window}, bitmap-length 1")]);
    for (window, is_taken) in [("0", true), ("65536", true), ("65537", false), ("4294967295", false), ("4294967296", false), ("-1", false)] {
        assert_eq!(read(&contexts(window)).is_ok(), is_taken, "{window}");
        assert_eq!(read(&state("esp", "tunnel", &[GCM]).replace("32 \n", &format!("{window} \n"))).is_ok(), is_taken, "{window}");
    }
    // A bitmap that says that it has more words than follow changes nothing: nobody allocates by it.
    let lying = contexts("64").replace("bitmap-length 1", "bitmap-length 4294967295");
    assert_eq!(read(&lying).unwrap().bundles[0].parameters.replay_window, 64);
}

/// the key has exactly the bytes of key and salt; an error has the expected and the given number.
#[test]
fn r_36_keys_have_exactly_key_and_salt() {
    for (line, lengths, takes) in [
        ("aead rfc4106(gcm(aes))", &[20, 28, 36][..], "rfc4106(gcm(aes)) takes 20, 28 or 36 (16, 24 or 32 key, 4 salt)"),
        ("aead rfc4543(gcm(aes))", &[20, 28, 36], "rfc4543(gcm(aes)) takes 20, 28 or 36 (16, 24 or 32 key, 4 salt)"),
        ("aead rfc7539esp(chacha20,poly1305)", &[36], "rfc7539esp(chacha20,poly1305) takes 36 (32 key, 4 salt)"),
        ("auth-trunc hmac(sha256)", &[32], "hmac(sha256) takes 32"),
    ] {
        let (proto, more) = if line.starts_with("aead") { ("esp", "") } else { ("ah", "") };
        for bytes in 0..100 {
            let text = state(proto, "tunnel", &[&format!("{line} 0x{} 128", "a5".repeat(bytes)), more]);
            match read(&text) {
                Ok(_) => assert!(lengths.contains(&bytes), "{line} {bytes}"),
                Err(message) => {
                    assert!(!lengths.contains(&bytes), "{line} {bytes}: {message}");
                    assert!(message.ends_with(&format!("{bytes} byte{} found, {takes}", if bytes == 1 { "" } else { "s" })), "{message}");
                }
            }
        }
    }
}

/// keys in their place, in every word's place, and cut into pieces.
#[test]
fn r_28_no_error_shows_a_key() {
    let good = state(
        "esp",
        "tunnel",
        &[
            MD5,
            "enc cbc(aes) KEY (128 bits)",
            "encap type espinudp sport 1 dport 2 addr ::",
            "anti-replay esn context:",
            "seq-hi 0x0, seq 0x0",
            "sel src ::/0 dst ::/0 proto tcp sport 7",
        ],
    );
    for canary in ["0xc0ffeed1a55eb79c0123456789abcdef", "c0ffeed1a55eb79c0123456789abcdef", "wP/u0aVet5wBI0VniavN7/7cupg=", "AAECAwQFBgcICQoLDA0ODxAREhM="] {
        let whole = good.replace("KEY", canary);
        let mut texts = vec![whole.clone()];
        // In place of each word, and before it.
        let words: Vec<&str> = whole.split_inclusive(char::is_whitespace).collect();
        for place in 0..words.len() {
            let end = words[place].trim_start_matches(|character: char| !character.is_whitespace());
            for replaced in [format!("{canary}{end}"), format!("{canary} {}", words[place]), format!("{canary}00{end}")] {
                let mut words = words.clone();
                words[place] = &replaced;
                texts.push(words.concat());
            }
        }
        // Cut, by a line's end or a blank.
        for at in (1..canary.len()).filter(|&at| canary.is_char_boundary(at)) {
            for cut in ["\n", " ", "\n\n", "\\"] {
                texts.push(whole.replace(canary, &format!("{}{cut}{}", &canary[..at], &canary[at..])));
            }
        }
        for text in texts {
            if let Err(message) = read(&text) {
                assert!((0..canary.len() - 5).all(|at| !message.contains(&canary[at..at + 6])), "{message}\n{text}");
            }
        }
    }
}

fn losses(parameters: &SaParameters, target: Target) -> Vec<String> {
    write(core::slice::from_ref(parameters), target).losses.iter().map(ToString::to_string).collect()
}

#[test]
fn what_linux_cannot_say_is_named() {
    let sa = || read(&state("esp", "tunnel", &[GCM])).unwrap().bundles.remove(0).parameters;
    assert_eq!(losses(&sa(), Target::Xfrm), [""; 0]);
    assert_eq!(losses(&sa(), Target::IpBatch), [""; 0]);
    let range = |first: &str, last: &str| AddressRange::new(address(first), address(last));
    let ports = |first, last| transport::PortRange { first, last };
    for (selectors, expected) in [
        (vec![Selector { source: range("10.0.0.1", "10.0.0.2"), ..Selector::ANY }], "selectors: 10.0.0.1-10.0.0.2 is no prefix"),
        (vec![Selector { source_port: ports(1, 2), ..Selector::ANY }], "selectors: ports 1 to 2; a state of Linux has one"),
        (vec![Selector { protocol: Some(packet::IpProtocol(0)), ..Selector::ANY }], "selectors: protocol 0, which means any in a state of Linux"),
        (vec![Selector::ANY; 2], "selectors: 2 of them; a state of Linux has one"),
    ] {
        assert_eq!(losses(&SaParameters { selectors, ..sa() }, Target::Xfrm), [expected]);
    }
    let inside = SaParameters { inside: Some("outer".into()), mode: Mode::Transport, ..sa() };
    assert_eq!(losses(&inside, Target::Xfrm), ["inside: states of Linux do not say it; policies do"]);
    let dummies = SaParameters { traffic_flow: TrafficFlow { pad_to: 9, dummy_every: 1 }, ..sa() };
    assert_eq!(losses(&dummies, Target::Xfrm), ["traffic-flow: Linux sends no dummy packets (dummy-every)"]);
    let large = SaParameters { replay_window: 4097, ..sa() };
    assert_eq!(losses(&large, Target::Xfrm), [""; 0]);
    assert_eq!(losses(&large, Target::IpBatch), ["replay-window: 4097; ip xfrm state add takes up to 4096"]);
    let port = SaParameters { selectors: vec![Selector { source_port: ports(0, 0), ..Selector::ANY }], ..sa() };
    assert_eq!(losses(&port, Target::IpBatch), ["selectors: port 0, which means any to ip xfrm state add"]);
}

#[test]
fn states_are_written_as_ip_prints_them() {
    let read = |text: &str| read(text).unwrap().bundles.into_iter().map(|bundle| bundle.parameters).collect::<Vec<_>>();
    let mut sas = read(&state("esp", "tunnel", &[GCM, "sel src 10.0.1.0/24 dst 10.0.2.0/24 proto tcp dport 443", "dir in"]));
    sas.extend(read(&state("ah", "transport", &[MD5, "anti-replay context: seq 0x0, oseq 0x7, bitmap 0x0", "dir out"])));
    sas.extend(read(&state("esp", "tunnel", &[MD5, "enc ecb(cipher_null)", "dir in"]).replace("32 \n", "64 flag esn\n")));
    sas[2].udp_encapsulation = Some(UdpEncapsulation { source_port: 4500, destination_port: 4501 });
    let expected = "\
src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0x00001001 reqid 0 mode tunnel
\treplay-window 32
\taead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128
\tanti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000
\tsel src 10.0.1.0/24 dst 10.0.2.0/24 proto tcp dport 443
\tdir in
src 192.0.2.1 dst 192.0.2.2
\tproto ah spi 0x00001001 reqid 0 mode transport
\treplay-window 32
\tauth-trunc hmac(md5) 0x000102030405060708090a0b0c0d0e0f 96
\tanti-replay context: seq 0x0, oseq 0x7, bitmap 0x00000000
\tdir out
src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0x00001001 reqid 0 mode tunnel
\treplay-window 0 flag af-unspec esn
\tauth-trunc hmac(md5) 0x000102030405060708090a0b0c0d0e0f 96
\tenc ecb(cipher_null) \n\
\tencap type espinudp sport 4500 dport 4501 addr 0.0.0.0
\tanti-replay esn context:
\t seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0
\t replay_window 64, bitmap-length 2
\t 00000000 00000000
\tdir in
";
    assert_eq!(*write(&sas, Target::Xfrm).text, expected);
    let commands = "\
xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00001001 reqid 0 mode tunnel replay-window 32 aead rfc4106(gcm(aes)) \
0x000102030405060708090a0b0c0d0e0f10111213 128 sel src 10.0.1.0/24 dst 10.0.2.0/24 proto tcp dport 443
xfrm state add src 192.0.2.1 dst 192.0.2.2 proto ah spi 0x00001001 reqid 0 mode transport replay-window 32 replay-oseq 0x7 auth-trunc hmac(md5) \
0x000102030405060708090a0b0c0d0e0f 96
xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00001001 reqid 0 mode tunnel replay-window 64 flag af-unspec esn auth-trunc hmac(md5) \
0x000102030405060708090a0b0c0d0e0f 96 enc ecb(cipher_null) \"\" encap espinudp 4500 4501 0.0.0.0
";
    assert_eq!(*write(&sas, Target::IpBatch).text, commands);
}

/// The same selectors written in one way: a range of all addresses is no range where the version is known otherwise.
fn canonical(selector: &Selector, mode: Mode) -> Selector {
    let all = |range: Option<AddressRange>| range.is_none_or(|range| range.as_prefix().is_some_and(|(_, length)| length == 0));
    let (mut source, mut destination) = (selector.source, selector.destination);
    match (mode, all(source), all(destination)) {
        (Mode::Transport, from, to) => {
            source = source.filter(|_| !from);
            destination = destination.filter(|_| !to);
        }
        (Mode::Tunnel, true, true) => {
            let one = source.or(destination);
            (source, destination) = (one, one);
        }
        (Mode::Tunnel, true, false) => source = None,
        (Mode::Tunnel, false, true) => destination = None,
        (Mode::Tunnel, false, false) => {}
    }
    Selector { source, destination, ..*selector }
}

/// What is left of parameters in states, in one way of several that mean the same.
fn in_states(mut parameters: SaParameters, losses: &[Loss]) -> SaParameters {
    parameters.name = "name".to_owned();
    parameters.traffic_flow.dummy_every = 0;
    parameters.offload = OffloadPolicy::Prefer;
    parameters.ah_alignment = parameters.ah_alignment.filter(|alignment| *alignment == 8);
    parameters.selectors = parameters.selectors.iter().map(|selector| canonical(selector, parameters.mode)).collect();
    if parameters.selectors == [Selector::ANY] || losses.iter().any(|loss| loss.field == "selectors") {
        parameters.selectors.clear();
    }
    let [association] = parameters.associations.as_slice() else {
        parameters.allow_unauthenticated = false;
        return parameters;
    };
    let is_bare = association.operation == Operation::Esp && association.authentication == Authentication::None && !association.encryption.is_combined();
    parameters.allow_unauthenticated = is_bare;
    parameters
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_written_reads_the_same(bundles in proptest::collection::vec(parameters(), 1..4)) {
        let written = write(&bundles, Target::Xfrm);
        let is_left_out = |number: usize| written.losses.iter().any(|loss| loss.bundle == number && loss.left_out);
        prop_assume!((0..bundles.len()).any(|number| !is_left_out(number)));
        let rules = SaFileRules { allow_unauthenticated: true, ..SaFileRules::default() };
        let file = SaFile::parse(&written.text, "xfrm", rules).unwrap();
        prop_assert_eq!(file.format, Format::Xfrm);
        prop_assert!(file.notes.is_empty());
        let kept: Vec<_> = bundles
            .into_iter()
            .enumerate()
            .filter(|(number, _)| !is_left_out(*number))
            .map(|(number, parameters)| {
                let losses: Vec<_> = written.losses.iter().filter(|loss| loss.bundle == number).cloned().collect();
                in_states(parameters, &losses)
            })
            .collect();
        prop_assert_eq!(file.bundles.len(), kept.len());
        for (read, kept) in file.bundles.into_iter().zip(&kept) {
            prop_assert_eq!(picture(&in_states(read.parameters, &[])), picture(kept));
        }
    }
}
