//! Other implementations: tshark decrypts what is protected here, scapy makes what is opened here and opens what is protected here.
//!
//! Where they are not installed the tests say so and pass; with `IPSECOV2_PEERS=required` they fail.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::tool::{Packet, Tool, capture, sa, testdata};

/// Whether a peer is there; if not, says so.
fn has(test: &str, peer: &str, is_there: bool) -> bool {
    if !is_there {
        assert!(std::env::var_os("IPSECOV2_PEERS").is_none_or(|wish| wish != "required"), "{peer} is required and not installed");
        // Not by `println!`, whose text the test runner keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {peer} is not installed");
    }
    is_there
}

pub(crate) fn tshark(test: &str) -> bool {
    has(test, "tshark", Command::new("tshark").arg("--version").output().is_ok_and(|output| output.status.success()))
}

/// The Python that has scapy.
pub(crate) fn scapy(test: &str) -> Option<PathBuf> {
    let python = std::env::var_os("IPSECOV2_SCAPY_PYTHON").map(PathBuf::from);
    let python = python.filter(|python| Command::new(python).args(["-c", "import scapy, cryptography"]).output().is_ok_and(|output| output.status.success()));
    has(test, "a Python with scapy (IPSECOV2_SCAPY_PYTHON)", python.is_some()).then_some(python).flatten()
}

/// Runs a script of `testdata/peers`, which succeeds.
pub(crate) fn run_script(tool: &Tool, python: &Path, script: &str, arguments: &[&str]) {
    let output = script_output(tool, python, script, arguments);
    assert!(output.status.success(), "{script} {arguments:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn script_output(tool: &Tool, python: &Path, script: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(testdata("peers").join(script)).args(arguments).current_dir(tool.path(""));
    command.output().unwrap()
}

fn run_scapy(tool: &Tool, python: &Path, arguments: &[&str]) {
    run_script(tool, python, "scapy_esp.py", arguments);
}

/// One SA for the captures of this project.
struct Row {
    name: &'static str,
    mode: &'static str,
    ends: (&'static str, &'static str),
    from: &'static str,
    to: &'static str,
    bits: usize,
    icv: usize,
}

const fn row(
    name: &'static str,
    mode: &'static str,
    ends: (&'static str, &'static str),
    (from, to): (&'static str, &'static str),
    bits: usize,
    icv: usize,
) -> Row {
    Row { name, mode, ends, from, to, bits, icv }
}

/// SAs of every key and ICV length, in both modes, over both versions.
const SAS: [Row; 6] = [
    row("t44", "tunnel", ("192.0.2.1", "192.0.2.2"), ("10.0.1.0/24", "10.0.2.0/24"), 128, 16),
    row("t46", "tunnel", ("2001:db8::1", "2001:db8::2"), ("10.0.2.0/24", "10.0.1.0/24"), 192, 12),
    row("x6", "transport", ("fd00:1::1", "fd00:2::1"), ("fd00:1::1", "fd00:2::1"), 256, 8),
    row("t64", "tunnel", ("192.0.2.2", "192.0.2.1"), ("fd00:2::/32", "fd00:1::/32"), 256, 16),
    row("t66", "tunnel", ("2001:db8::2", "2001:db8::1"), ("fe80::/10", "::/0"), 128, 8),
    row("any", "tunnel", ("2001:db8::3", "2001:db8::4"), ("::/0", "::/0"), 192, 8),
];

pub(crate) fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn key(bits: usize) -> String {
    hex((0..bits / 8 + 4).map(|byte| (byte * 7 + bits / 64) as u8))
}

fn sa_file() -> String {
    let mut text = String::new();
    for (number, Row { name, mode, ends, from, to, bits, icv }) in SAS.iter().enumerate() {
        // Transport mode cannot protect fragments, of which the captures have some of pings.
        let protocol = if *mode == "transport" { ", protocol = \"tcp\"" } else { "" };
        let selectors = format!("selectors = [ {{ source = \"{from}\", destination = \"{to}\"{protocol} }} ]");
        let one = sa(name, "outbound", mode, *ends, 0x2001 + number as u32, &selectors, &format!("icv-length = {icv}"));
        text += &one.replace(crate::tool::KEY, &key(*bits)).replace("aes-gcm-128", &format!("aes-gcm-{bits}"));
    }
    text
}

/// The IP packets of a capture in the order in which they are there, without link headers and padding.
pub(crate) fn ip_packets(packets: &[Packet]) -> Vec<Vec<u8>> {
    let ip = |packet: &Packet| {
        let bytes = &packet.bytes[packet.ip()?..];
        Some(bytes[..packet::ParsedIp::parse(bytes).ok()?.total_len()].to_vec())
    };
    packets.iter().filter_map(ip).collect()
}

#[test]
fn tshark_decrypts_what_is_protected() {
    if !tshark("tshark_decrypts_what_is_protected") {
        return;
    }
    let tool = Tool::new();
    tool.write("sa.toml", sa_file());
    let input = testdata("traffic.pcapng");
    tool.run(&["pcap", "protect", "--sa", "sa.toml", input.to_str().unwrap(), "esp.pcapng"]).succeeds();
    let clear = ip_packets(&capture(&input));
    let wire = tool.capture("esp.pcapng");

    let mut command = Command::new("tshark");
    command.args(["-n", "-r", "esp.pcapng", "-T", "fields", "-e", "ip.proto", "-e", "esp.spi", "-e", "esp.icv_good", "-e", "esp.contained_data"]);
    command.args(["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]);
    for (number, Row { bits, icv, .. }) in SAS.iter().enumerate() {
        for version in ["IPv4", "IPv6"] {
            let line = format!(
                "\"{version}\",\"*\",\"*\",\"{:#010x}\",\"AES-GCM with {icv} octet ICV [RFC4106]\",\"0x{}\",\"NULL\",\"\"",
                0x2001 + number,
                key(*bits)
            );
            command.arg("-o").arg(format!("uat:esp_sa:{line}"));
        }
    }
    let output = command.current_dir(tool.path("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), wire.len());

    // What is inside, in order; transport mode shows what follows the header that is outside.
    let flow = |packet: &[u8]| packet::ParsedIp::parse(packet).unwrap();
    let selected = |packet: &&Vec<u8>| {
        let (source, destination) = (flow(packet).src().to_string(), flow(packet).dst().to_string());
        !flow(packet).src().is_v4()
            || source.starts_with("10.0.1.") && destination.starts_with("10.0.2.")
            || source.starts_with("10.0.2.") && destination.starts_with("10.0.1.")
    };
    let inside: Vec<_> = clear.iter().filter(selected).collect();
    assert!(inside.len() > 1000);
    assert_eq!(lines.len(), inside.len());
    let mut seen = [0; SAS.len()];
    for (number, (line, packet)) in lines.iter().zip(inside).enumerate() {
        let spi = u32::from_str_radix(line[1].trim_start_matches("0x"), 16).unwrap();
        seen[spi as usize - 0x2001] += 1;
        // Newer versions write it as a word.
        assert!(["1", "True"].contains(&line[2]), "packet {}: {line:?}", number + 1);
        let wanted = if spi == 0x2003 { &packet[flow(packet).insertion_point().offset..] } else { &packet[..] };
        // Behind what is inside there are padding and trailer.
        assert!(line[3].replace(':', "").starts_with(&hex(wanted.iter().copied())), "packet {}: {}", number + 1, line[3]);
    }
    assert!(seen[..5].iter().all(|&packets| packets > 0), "{seen:?}");
}

#[test]
fn scapy_opens_what_is_protected() {
    let Some(python) = scapy("scapy_opens_what_is_protected") else { return };
    let tool = Tool::new();
    for link in ["raw", "ethernet"] {
        run_scapy(&tool, &python, &["clear", "plain.pcap", "sa.toml", "--link", link]);
        for flags in [&[][..], &["--no-offload"], &["--crypto", "rustcrypto"]] {
            tool.run(&[&["pcap", "protect", "--sa", "sa.toml", "plain.pcap", "esp.pcap"], flags].concat()).succeeds();
            run_scapy(&tool, &python, &["verify", "esp.pcap", "sa.toml", "plain.pcap"]);
        }
    }
    tool.write("sa.toml", sa_file());
    let input = testdata("traffic.pcapng");
    let input = input.to_str().unwrap();
    tool.run(&["pcap", "protect", "--sa", "sa.toml", input, "esp.pcapng"]).succeeds();
    run_scapy(&tool, &python, &["verify", "esp.pcapng", "sa.toml", input]);
}

#[test]
fn what_scapy_protects_is_opened() {
    let Some(python) = scapy("what_scapy_protects_is_opened") else { return };
    let tool = Tool::new();
    for link in ["raw", "ethernet"] {
        run_scapy(&tool, &python, &["make", "esp.pcap", "sa.toml", "plain.pcap", "--link", link]);
        let plain = tool.capture("plain.pcap");
        assert!(plain.len() > 100);
        for flags in [&[][..], &["--no-offload"], &["--crypto", "rustcrypto"], &["--batch", "1"]] {
            let arguments = [&["pcap", "open", "--sa", "sa.toml", "--report", "report", "--replay-window", "4096", "esp.pcap", "clear.pcap"], flags].concat();
            tool.run(&arguments).succeeds();
            let clear = tool.capture("clear.pcap");
            for line in tool.lines("report") {
                assert_eq!(line["verdict"], "delivered", "{flags:?} {line}");
            }
            assert_eq!(clear, plain, "{flags:?}");
        }
    }
}
