//! NIC profiles: every card gives the same capture; `explain` says which SAs a card takes; what must be offloaded is, or nothing happens.

use std::collections::BTreeSet;

use crate::json::{documented, fields_of};
use crate::tool::{Packet, Tool, inbound, sa, testdata, udp};

const ENDS: (&str, &str) = ("192.0.2.1", "192.0.2.2");
const CARDS: [&str; 10] = [
    "software",
    "ov2-full",
    "intel-82576",
    "intel-82599",
    "3com-3cr990",
    "intel-pro100s",
    "nvidia-connectx-6-dx",
    "chelsio-t6",
    "netronome-nfp",
    "marvell-octeon-cn10k",
];

/// A file of SAs that cards differ about.
fn several() -> String {
    let chosen = |port: u16| format!("selectors = [ {{ protocol = \"udp\", destination-port = {port} }} ]");
    let mut text = sa("tunnel", "outbound", "tunnel", ENDS, 0x1001, &chosen(1), "");
    text += &sa("short", "outbound", "tunnel", ENDS, 0x1002, &chosen(2), "icv-length = 8");
    text += &sa("extended", "outbound", "tunnel", ENDS, 0x1003, &chosen(3), "extended-sequence-numbers = true");
    text += &sa("udp", "outbound", "tunnel", ENDS, 0x1004, &(chosen(4) + "\nudp-encapsulation = { source-port = 4500, destination-port = 4500 }"), "");
    text += &sa("transport", "outbound", "transport", ("10.0.0.1", "10.0.0.2"), 0x1005, &chosen(5), "");
    text += &sa("software", "outbound", "tunnel", ENDS, 0x1006, &(chosen(6) + "\noffload = \"forbid\""), "");
    let key = "00".repeat(32);
    text + &format!(
        "[[sa]]\nname = \"authenticated\"\ndirection = \"outbound\"\nmode = \"transport\"\nsource = \"10.0.0.1\"\ndestination = \"10.0.0.2\"\n{}\n\
         [[sa.association]]\noperation = \"ah\"\nspi = 0x1007\nauthentication = \"hmac-sha-256-128\"\nauthentication-key = \"{key}\"\n",
        chosen(7)
    )
}

/// Three packets for each of them.
fn packets() -> Vec<Packet> {
    let to = |port: u8| {
        let mut packet = udp("10.0.0.1", "10.0.0.2", 64 + usize::from(port));
        packet[22..24].copy_from_slice(&[0, port]);
        Packet::raw(packet)
    };
    (0..21).map(|number| to(number % 7 + 1)).collect()
}

#[test]
fn every_card_gives_the_same_capture() {
    let tool = Tool::new();
    tool.write("out.toml", several());
    tool.write("in.toml", inbound(&several()));
    tool.write_capture("in.pcap", &packets());
    let protect = |input: &str, sa: &str, card: &str, out: &str, more: &[&str]| {
        let arguments = [&["pcap", "protect", "--json", "--sa", sa, "--iv-seed", "01", "--profile", card], more, &[input, out]].concat();
        tool.run(&arguments).succeeds().json()
    };
    let mut shares = BTreeSet::new();
    for card in CARDS {
        let out = format!("{card}.pcap");
        let counts = protect("in.pcap", "out.toml", card, &out, &[]);
        assert_eq!(tool.read(&out), tool.read("software.pcap"), "{card}");
        let share = counts["offloaded"].as_u64().unwrap();
        assert_eq!(share + counts["software"].as_u64().unwrap(), 21, "{card}: {counts}");
        shares.insert(share);
        let arguments = ["pcap", "open", "--json", "--sa", "in.toml", "--profile", card, out.as_str(), "clear.pcap"];
        let opened = tool.run(&arguments).succeeds().json();
        assert_eq!(opened["written"], 21, "{card}: {opened}");
        assert_eq!(tool.capture("clear.pcap"), tool.capture("in.pcap"), "{card}");
    }
    // Raw packets get an Ethernet header on their way through the adapter, so that cards do have a share; not all the same one.
    assert!(shares.len() > 3 && shares.contains(&0) && shares.contains(&18), "{shares:?}");

    // Real programs' traffic, under one SA.
    tool.write("all.toml", sa("all", "outbound", "tunnel", ENDS, 0x1001, "selectors = [ { source = \"0.0.0.0/0\" } ]", ""));
    for capture in ["traffic.pcapng", "small-nanosecond.pcap"] {
        let input = testdata(capture);
        for card in CARDS {
            protect(input.to_str().unwrap(), "all.toml", card, &format!("{card}-{capture}"), &["--bypass"]);
            assert_eq!(tool.read(&format!("{card}-{capture}")), tool.read(&format!("software-{capture}")), "{card} {capture}");
        }
    }
}

#[test]
fn every_card_can_be_shown() {
    let tool = Tool::new();
    for card in CARDS {
        let document = tool.run(&["demo", "--json", "--profile", card]).succeeds().json();
        assert_eq!((&document["profile"], &document["passed"]), (&card.into(), &true.into()), "{card}: {}", document["checks"]);
        let connections = document["connections"].as_array().unwrap();
        let has = connections.iter().filter(|connection| connection["offload"] == serde_json::json!(["offloaded", "offloaded"])).count();
        let packets = |host: &str, how: &str| document["hosts"][host]["totals"]["sent"][how]["packets"].as_u64().unwrap();
        for host in ["a", "b"] {
            assert_eq!(packets(host, "offloaded") > 0, has > 0, "{card}: {}", document["hosts"][host]["totals"]);
            // Host b is never switched off.
            assert!(card != "software" && has < connections.len() || host == "a" || packets(host, "software") < packets(host, "offloaded"), "{card}");
        }
        let phases = document["phases"].as_array().unwrap();
        let taken: Vec<u64> = phases.iter().map(|phase| phase["sas_offloaded"].as_u64().unwrap()).collect();
        assert!(taken[0] == taken[2] && taken[2] == taken[4] && taken[1] == 0 && taken[3] == 0, "{card}: {taken:?}");
        assert!(
            match card {
                "software" | "ov2-full" => has == connections.len(),
                "intel-82599" | "nvidia-connectx-6-dx" | "chelsio-t6" => has > 0 && has < connections.len(),
                _ => true,
            },
            "{card}: {connections:?}"
        );
    }
    let text = tool.run(&["demo", "--profile", "chelsio-t6"]).succeeds().text();
    assert!(text.contains("each with a software NIC as chelsio-t6 (NDIS "), "{text}");
    assert_eq!(tool.run(&["demo", "--profile", "no-card"]).code, Some(2));
}

#[test]
fn explain_says_what_each_card_takes_and_why_not() {
    let tool = Tool::new();
    tool.write("sa.toml", several());
    let document = tool.run(&["explain", "--sa", "sa.toml", "--json"]).succeeds().json();
    assert_eq!(document["schema"], "ipsecov2-explain-1");
    assert_eq!(fields_of(&document), documented("`ipsecov2-explain-1`"));
    let profiles = document["profiles"].as_array().unwrap();
    assert_eq!(profiles.iter().map(|profile| profile["profile"].as_str().unwrap()).collect::<Vec<_>>(), CARDS);
    let codes = |card: &str| {
        let profile = profiles.iter().find(|profile| profile["profile"] == card).unwrap();
        let sas = profile["sas"].as_array().unwrap();
        let offloaded = sas.iter().filter(|sa| sa["reason"]["code"] == "offloaded");
        assert_eq!(profile["offloaded"], offloaded.clone().count(), "{card}");
        assert!(offloaded.clone().all(|sa| sa["changes"] == serde_json::json!([])), "{card}");
        assert!(sas.iter().filter(|sa| sa["reason"]["code"] != "offloaded").all(|sa| !sa["changes"].as_array().unwrap().is_empty()), "{card}");
        sas.iter().map(|sa| sa["reason"]["code"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    for (card, expected) in [
        ("software", "offloaded offloaded offloaded offloaded offloaded forbidden offloaded"),
        ("intel-82599", "mode mode mode mode offloaded forbidden algorithm"),
        ("3com-3cr990", "algorithm algorithm extended-sequence-numbers udp-esp-type algorithm forbidden algorithm"),
        ("nvidia-connectx-6-dx", "offloaded icv-length offloaded offloaded offloaded forbidden operation"),
        ("chelsio-t6", "offloaded icv-length offloaded udp-esp-type offloaded forbidden operation"),
        ("netronome-nfp", "offloaded icv-length extended-sequence-numbers udp-esp-type offloaded forbidden offloaded"),
        ("marvell-octeon-cn10k", "offloaded icv-length offloaded offloaded offloaded forbidden operation"),
    ] {
        assert_eq!(codes(card), expected, "{card}");
    }

    tool.write("small.toml", "name = 'small'\n[ipsec-v2]\nencapsulation = ['ieee-802.3']\nesp = true\ntunnel = true\nencryption-algorithms = ['aes-gcm-256', 'aes-gcm-128']\nsa-offload-capacity = 1\n");
    let text = tool.run(&["explain", "--sa", "sa.toml", "--profile", "small.toml", "--profile", "intel-82599"]).succeeds().text();
    for line in [
        "  short: the adapter is full",
        "    would be offloaded with: at most 1 SAs on this NIC",
        "  tunnel: Tunnel: yes asked, no supported (confirmed)",
        "    would be offloaded with: transport mode; icv-length: one of ICV_16",
        "  note: Tunnel mode: the Linux driver",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let fit = text.lines().find(|line| line.starts_with("fit ")).unwrap();
    assert_eq!(fit.split_whitespace().collect::<Vec<_>>().join(" "), "fit 1 of 7 (holds 1) 1 of 7 (holds 1024)");
    let error = "ipsecov2: no-card: neither a file nor a profile; profiles: ";
    let run = tool.run(&["explain", "--sa", "sa.toml", "--profile", "no-card"]);
    assert!(run.code == Some(2) && run.stderr.starts_with(error), "{}", run.stderr);
}

/// OV1-1: the cards with IPsecOV1 do by it what it covers, and the capture is the same; the reason names the member of its structure.
#[test]
fn cards_of_version_1_use_it() {
    let tool = Tool::new();
    let old = |name: &str, spi: u32, port: u16, cipher: (&str, usize), integrity: (&str, usize)| {
        format!(
            "[[sa]]\nname = \"{name}\"\ndirection = \"outbound\"\nmode = \"tunnel\"\nsource = \"{}\"\ndestination = \"{}\"\n\
             selectors = [ {{ protocol = \"udp\", destination-port = {port} }} ]\n\
             [[sa.association]]\noperation = \"esp\"\nspi = {spi}\nencryption = \"{}\"\nencryption-key = \"{}\"\n\
             authentication = \"{}\"\nauthentication-key = \"{}\"\n",
            ENDS.0,
            ENDS.1,
            cipher.0,
            // 3DES wants three keys.
            &["5b", "6d", "8f"].map(|byte| byte.repeat(8)).concat()[..2 * cipher.1],
            integrity.0,
            "a7".repeat(integrity.1)
        )
    };
    let (sha_1, sha_256) = (("hmac-sha1-96", 20), ("hmac-sha-256-128", 32));
    let text = [
        old("triple", 0x1001, 1, ("3des-cbc", 24), sha_1),
        old("null", 0x1002, 2, ("null", 0), ("hmac-md5-96", 16)),
        old("sha-256", 0x1003, 3, ("3des-cbc", 24), sha_256),
        old("aes", 0x1004, 4, ("aes-cbc-128", 16), sha_1),
    ]
    .concat()
    .replace("encryption-key = \"\"\n", "");
    tool.write("out.toml", &text);
    tool.write("in.toml", inbound(&text));
    tool.write_capture("in.pcap", &packets());
    for (card, offloaded, codes) in [
        ("software", 12, ["offloaded"; 4]),
        ("3com-3cr990", 6, ["offloaded", "offloaded", "algorithm", "algorithm"]),
        ("intel-pro100s", 3, ["offloaded", "algorithm", "algorithm", "algorithm"]),
    ] {
        let out = format!("{card}.pcap");
        let arguments = ["pcap", "protect", "--json", "--sa", "out.toml", "--iv-seed", "01", "--profile", card, "--bypass", "in.pcap", out.as_str()];
        let counts = tool.run(&arguments).succeeds().json();
        assert_eq!(counts["offloaded"], offloaded, "{card}: {counts}");
        assert_eq!(tool.read(&out), tool.read("software.pcap"), "{card}");
        let arguments = ["pcap", "open", "--json", "--sa", "in.toml", "--profile", card, out.as_str(), "clear.pcap"];
        let opened = tool.run(&arguments).succeeds().json();
        assert_eq!(opened["offloaded"], offloaded, "{card}: {opened}");
        let document = tool.run(&["explain", "--sa", "out.toml", "--json", "--profile", card]).succeeds().json();
        let profile = &document["profiles"][0];
        let v1 = card != "software";
        let versions = if v1 { ["6.0", "IPsecOV1"] } else { ["6.30", "IPsecOV2"] };
        assert_eq!(["ndis_version", "ipsec_service"].map(|field| profile[field].as_str().unwrap()), versions, "{card}");
        let found: Vec<_> = profile["sas"].as_array().unwrap().iter().map(|sa| sa["reason"]["code"].as_str().unwrap()).collect();
        assert_eq!(found, codes, "{card}");
        if v1 {
            let aes = &profile["sas"][3];
            assert_eq!((&aes["reason"]["field"], &aes["reason"]["asked"]), (&"IPv4ESP".into(), &"AES_CBC_128".into()), "{card}");
            assert!(aes["changes"][0].as_str().unwrap().starts_with("encryption: one of "), "{card}: {aes}");
            assert_eq!((&profile["capacity"], &profile["capacity_confidence"]), (&16.into(), &"unknown".into()));
            let caps = tool.run(&["caps", "--profile", card, "--json"]).succeeds().json();
            assert_eq!((&caps["ndis_version"], &caps["ipsec_service"]), (&"6.0".into(), &"IPsecOV1".into()));
            assert_eq!(caps["hardware"]["ipsec_v2"]["encapsulation"], serde_json::json!([]));
        }
    }
    let null = tool.run(&["explain", "--sa", "out.toml", "--profile", "intel-pro100s"]).succeeds().text();
    assert!(null.contains("  null: IPv4ESP.NullEsp: NONE asked, DES_CBC | TRIPLE_DES_CBC supported (unknown)"), "{null}");
}

#[test]
fn what_must_be_offloaded_is_or_nothing_is_written() {
    let tool = Tool::new();
    tool.write("sa.toml", sa("must", "outbound", "tunnel", ENDS, 0x1001, "offload = \"require\"", ""));
    tool.write_capture("in.pcap", &packets());
    let arguments = |card| ["pcap", "protect", "--json", "--sa", "sa.toml", "--profile", card, "in.pcap", "out.pcap"];
    tool.run(&arguments("intel-82599"))
        .fails(1, "ipsecov2: SA \"must\": offload is required, and the adapter does not have it: Tunnel: yes asked, no supported\n");
    assert!(!tool.path("out.pcap").exists());
    assert_eq!(tool.run(&arguments("chelsio-t6")).succeeds().json()["offloaded"], 21);
    let off = [&arguments("chelsio-t6")[..7], &["--no-offload", "in.pcap", "out2.pcap"]].concat();
    let run = tool.run(&off);
    assert!(run.code == Some(1) && run.stderr.contains("switched off in the adapter's configuration"), "{}", run.stderr);
    assert!(!tool.path("out2.pcap").exists());
}

#[test]
fn caps_shows_a_card() {
    let document = Tool::new().run(&["caps", "--profile", "intel-82599", "--json"]).succeeds().json();
    let v2 = &document["hardware"]["ipsec_v2"];
    assert_eq!((&v2["tunnel"], &v2["sa_offload_capacity"]), (&false.into(), &1024.into()));
    assert_eq!(v2["ext_refused_icv_lengths"], serde_json::json!(["ICV_8", "ICV_12"]));
    assert_eq!(v2["encryption_algorithms"], serde_json::json!(["NONE", "AES_GCM_128"]));
}
