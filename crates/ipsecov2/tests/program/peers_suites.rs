//! Every suite and mode against other implementations: scapy opens what is protected here and makes what is opened here, tshark decrypts what it knows.

use std::fmt::Write as _;
use std::process::Command;

use packet::{IpProtocol, Ipv6Repr};
use serde_json::Value;

use crate::peers::{hex, ip_packets, run_script, scapy, script_output, tshark};
use crate::tool::{Packet, Tool, udp};

const SCRIPT: &str = "scapy_suites.py";

/// What the report says without a NIC that has done anything.
fn in_software(mut line: Value) -> Value {
    line["crypto_done"] = false.into();
    line["next_crypto_done"] = false.into();
    line["crypto_status"] = Value::Null;
    line
}

#[test]
fn what_scapy_protects_under_every_suite_is_opened() {
    let Some(python) = scapy("what_scapy_protects_under_every_suite_is_opened") else { return };
    let tool = Tool::new();
    run_script(&tool, &python, SCRIPT, &["make", "in.pcap", "sa.toml", "plain.pcap", "expected", "--link", "ethernet"]);
    let (plain, expected) = (tool.capture("plain.pcap"), tool.lines("expected"));
    assert!(plain.len() > 1500 && expected.len() > plain.len());
    let nested = expected.iter().filter(|line| line["next_crypto_done"] == true).count();
    assert!(nested > 200, "{nested}");
    for flags in [&[][..], &["--no-offload"], &["--crypto", "rustcrypto"], &["--batch", "1"]] {
        tool.run(&[&["pcap", "open", "--sa", "sa.toml", "--report", "report", "in.pcap", "clear.pcap"], flags].concat()).succeeds();
        let offload = !flags.contains(&"--no-offload");
        let wanted = expected.iter().map(|line| if offload { line.clone() } else { in_software(line.clone()) });
        let different: Vec<_> = tool.lines("report").into_iter().zip(wanted).filter(|(line, wanted)| line != wanted).collect();
        if let Some((line, wanted)) = different.first() {
            panic!("{flags:?}: {} lines differ; the first is {line} instead of {wanted}", different.len());
        }
        let clear = tool.capture("clear.pcap");
        assert_eq!(clear.len(), plain.len(), "{flags:?}");
        for (number, (clear, plain)) in clear.iter().zip(plain.iter()).enumerate() {
            assert_eq!(hex(clear.bytes.iter().copied()), hex(plain.bytes.iter().copied()), "{flags:?} packet {} of what was opened", number + 1);
        }
    }
}

#[test]
fn scapy_opens_what_is_protected_under_every_suite() {
    let Some(python) = scapy("scapy_opens_what_is_protected_under_every_suite") else { return };
    let tool = Tool::new();
    run_script(&tool, &python, SCRIPT, &["clear", "plain.pcap", "sa.toml"]);
    let mut made: Option<Vec<Packet>> = None;
    for flags in [&[][..], &["--no-offload"], &["--crypto", "rustcrypto"]] {
        let arguments = ["pcap", "protect", "--json", "--iv-seed", "5ca9", "--sa", "sa.toml", "plain.pcap", "out.pcap"];
        let summary = tool.run(&[&arguments, flags].concat()).succeeds().json();
        let offload = !flags.contains(&"--no-offload");
        for sa in summary["sas"].as_array().unwrap() {
            assert_eq!(sa["offloaded"], offload, "{sa}");
        }
        let packets = summary["packets"].as_u64().unwrap();
        // While the high halves of extended numbers are on their way to the NIC, a few packets go in software.
        let least = if offload { packets * 2 / 3 } else { 0 };
        assert!((least..=packets).contains(&summary["offloaded"].as_u64().unwrap()), "{flags:?} {summary}");
        // The same bytes whoever does it, so that looking at them once is enough.
        let packets = tool.capture("out.pcap");
        if let Some(made) = &made {
            assert!(*made == packets, "{flags:?}: other packets than the NIC's");
        } else {
            run_script(&tool, &python, SCRIPT, &["verify", "out.pcap", "sa.toml", "plain.pcap"]);
            made = Some(packets);
        }
    }
    // Not everything is accepted.
    let mut packets = made.unwrap();
    let damaged = packets.len() / 2;
    *packets[damaged].bytes.last_mut().unwrap() ^= 1;
    tool.write_capture("damaged.pcap", &packets);
    let output = script_output(&tool, &python, SCRIPT, &["verify", "damaged.pcap", "sa.toml", "plain.pcap"]);
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout, format!("{} packets, 1 differences\n", packets.len()), "{stderr}");
    assert!(stderr.starts_with(&format!("packet {}: IPSecIntegrityError", damaged + 1)), "{stderr}");
}

/// An SA that tshark knows.
struct Suite {
    encryption: &'static str,
    key: usize,
    icv: &'static str,
    authentication: &'static str,
    authentication_key: usize,
    /// What tshark calls them.
    names: (&'static str, &'static str),
    /// Whether there is an ICV that tshark checks.
    checked: bool,
}

const CIPHERS: [(&str, usize, &str); 6] = [
    ("null", 0, "NULL"),
    ("des-cbc", 8, "DES-CBC [RFC2405]"),
    ("3des-cbc", 24, "TripleDES-CBC [RFC2451]"),
    ("aes-cbc-128", 16, "AES-CBC [RFC3602]"),
    ("aes-cbc-192", 24, "AES-CBC [RFC3602]"),
    ("aes-cbc-256", 32, "AES-CBC [RFC3602]"),
];
const HMACS: [(&str, usize, &str); 5] = [
    ("hmac-md5-96", 16, "HMAC-MD5-96 [RFC2403]"),
    ("hmac-sha1-96", 20, "HMAC-SHA-1-96 [RFC2404]"),
    ("hmac-sha-256-128", 32, "HMAC-SHA-256-128 [RFC4868]"),
    ("hmac-sha-384-192", 48, "HMAC-SHA-384-192 [RFC4868]"),
    ("hmac-sha-512-256", 64, "HMAC-SHA-512-256 [RFC4868]"),
];
const GCM: [(&str, usize); 3] = [("aes-gcm-128", 20), ("aes-gcm-192", 28), ("aes-gcm-256", 36)];
const GCM_ICV: [(&str, &str); 3] = [
    ("icv-length = 8\n", "AES-GCM with 8 octet ICV [RFC4106]"),
    ("icv-length = 12\n", "AES-GCM with 12 octet ICV [RFC4106]"),
    ("icv-length = 16\n", "AES-GCM with 16 octet ICV [RFC4106]"),
];

fn suites() -> Vec<Suite> {
    let mut suites = Vec::new();
    for (encryption, key, cipher) in CIPHERS {
        for (authentication, authentication_key, mac) in HMACS {
            suites.push(Suite { encryption, key, icv: "", authentication, authentication_key, names: (cipher, mac), checked: true });
        }
        if encryption != "null" {
            suites.push(Suite { encryption, key, icv: "", authentication: "none", authentication_key: 0, names: (cipher, "NULL"), checked: false });
        }
    }
    for (encryption, key) in GCM {
        for (icv, name) in GCM_ICV {
            suites.push(Suite { encryption, key, icv, authentication: "none", authentication_key: 0, names: (name, "NULL"), checked: true });
        }
    }
    suites
}

fn key(length: usize, number: usize) -> String {
    hex((0..length).map(|byte| (byte * 7 + number) as u8))
}

/// A UDP packet over IPv6.
fn udp6(source: &str, destination: &str, length: usize) -> Vec<u8> {
    let udp = &udp("10.0.0.1", "10.0.0.2", length)[20..];
    let mut packet = vec![0; 40];
    Ipv6Repr::new(IpProtocol::UDP, source.parse().unwrap(), destination.parse().unwrap(), udp.len()).emit(&mut packet).unwrap();
    packet.extend_from_slice(udp);
    packet
}

#[test]
fn tshark_decrypts_every_suite_that_it_knows() {
    if !tshark("tshark_decrypts_every_suite_that_it_knows") {
        return;
    }
    let tool = Tool::new();
    let suites = suites();
    let (mut text, mut clear, mut lines) = (String::new(), Vec::new(), Vec::new());
    for (number, suite) in suites.iter().enumerate() {
        let (tunnel, v6, outer6) = (number % 2 == 0, number / 2 % 2 == 1, number / 4 % 2 == 1);
        let ends = if v6 { [format!("fd00:{number:x}::1"), format!("fd00:{number:x}::2")] } else { [format!("10.{number}.0.1"), format!("10.{number}.0.2")] };
        let outer = match (tunnel, outer6) {
            (false, _) => [ends[0].as_str(), ends[1].as_str()],
            (true, false) => ["192.0.2.1", "192.0.2.2"],
            (true, true) => ["2001:db8::1", "2001:db8::2"],
        };
        let Suite { encryption, icv, authentication, names, .. } = suite;
        let (encryption_key, authentication_key) = (key(suite.key, number), key(suite.authentication_key, number + 100));
        let spi = 0x3001 + number;
        let mode = if tunnel { "tunnel" } else { "transport" };
        writeln!(
            text,
            "[[sa]]\nname = \"{number}\"\ndirection = \"outbound\"\nmode = \"{mode}\"\nsource = \"{}\"\ndestination = \"{}\"\nallow-unauthenticated = true\n\
             selectors = [ {{ source = \"{}\", destination = \"{}\" }} ]\n[[sa.association]]\noperation = \"esp\"\nspi = {spi:#010x}\n\
             encryption = \"{encryption}\"\nencryption-key = \"{encryption_key}\"\n{icv}authentication = \"{authentication}\"\n\
             authentication-key = \"{authentication_key}\"",
            outer[0], outer[1], ends[0], ends[1]
        )
        .unwrap();
        let in_table = |key: String| if key.is_empty() { key } else { format!("0x{key}") };
        let version = if outer[0].contains(':') { "IPv6" } else { "IPv4" };
        lines.push(format!(
            "\"{version}\",\"{}\",\"{}\",\"{spi:#010x}\",\"{}\",\"{}\",\"{}\",\"{}\"",
            outer[0],
            outer[1],
            names.0,
            in_table(encryption_key),
            names.1,
            in_table(authentication_key)
        ));
        for length in [0, 1, 2, 3, 7, 12, 64, 333, 1300] {
            let mut bytes = if v6 { udp6(&ends[0], &ends[1], length) } else { udp(&ends[0], &ends[1], length) };
            // Ports of no protocol that tshark would look for, find malformed, and then say nothing of ESP.
            let ports = if v6 { 40 } else { 20 };
            bytes[ports..ports + 4].copy_from_slice(&[0xc3, 0x51, 0xc3, 0x52]);
            clear.push((number, bytes));
        }
    }
    tool.write("sa.toml", text);
    let packets: Vec<_> = clear.iter().map(|(_, bytes)| Packet::raw(bytes.clone())).collect();
    tool.write_capture("clear.pcap", &packets);
    for flags in [&[][..], &["--crypto", "rustcrypto"]] {
        tool.run(&[&["pcap", "protect", "--sa", "sa.toml", "--esp-sa", "esp_sa", "clear.pcap", "esp.pcap"], flags].concat()).succeeds();
        assert_eq!(String::from_utf8(tool.read("esp_sa")).unwrap().lines().collect::<Vec<_>>(), lines);
        assert_eq!(ip_packets(&tool.capture("esp.pcap")).len(), clear.len());
        let mut command = Command::new("tshark");
        command.args(["-n", "-r", "esp.pcap", "-T", "fields", "-e", "esp.spi", "-e", "esp.icv_good", "-e", "esp.contained_data"]);
        command.args(["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]);
        for line in &lines {
            command.arg("-o").arg(format!("uat:esp_sa:{line}"));
        }
        let output = command.current_dir(tool.path("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().count(), clear.len());
        for (line, (number, bytes)) in text.lines().zip(&clear) {
            let (suite, fields) = (&suites[*number], line.split('\t').collect::<Vec<_>>());
            let what = format!("{} {}, {} bytes: {fields:?}", suite.encryption, suite.authentication, bytes.len());
            assert_eq!(fields[0], format!("{:#010x}", 0x3001 + number), "{what}");
            // Newer versions write it as a word.
            assert!(!suite.checked || ["1", "True"].contains(&fields[1]), "{what}");
            let inside = if number % 2 == 0 { &bytes[..] } else { &bytes[if bytes[0] >> 4 == 4 { 20 } else { 40 }..] };
            // Behind what is inside there are padding and trailer.
            assert!(fields[2].replace(':', "").starts_with(&hex(inside.iter().copied())), "{what}");
        }
    }
}
