//! SA files in other formats: converted, and used as they are.

use std::process::Command;

use crate::peers;
use crate::tool::{KEY, Packet, Tool, inbound, sa, testdata, udp};

const ENDS: (&str, &str) = ("192.0.2.1", "192.0.2.2");

fn tool() -> Tool {
    let tool = Tool::new();
    let text = sa("a", "outbound", "tunnel", ENDS, 0x1001, "", "");
    tool.write("out.toml", &text);
    tool.write("in.toml", inbound(&text));
    tool
}

fn text_of(tool: &Tool, name: &str) -> String {
    String::from_utf8(tool.read(name)).unwrap()
}

/// One SA in three formats opens the same capture.
#[test]
fn a_capture_opens_with_sas_of_every_format() {
    let tool = tool();
    let input = testdata("small-raw.pcap");
    tool.run(&["pcap", "protect", "--sa", "out.toml", input.to_str().unwrap(), "esp.pcap"]).succeeds();
    tool.run(&["pcap", "open", "--sa", "in.toml", "esp.pcap", "clear.pcap"]).succeeds();
    tool.run(&["sa", "convert", "--to", "xfrm", "in.toml", "in.xfrm"]).succeeds();
    tool.run(&["sa", "convert", "--to", "esp-sa", "in.toml", "esp_sa"]).succeeds();
    for (name, flags) in [("in.xfrm", &[][..]), ("esp_sa", &["--local", "192.0.2.2"]), ("esp_sa", &["--local", "2001:db8::1", "--local", "192.0.2.2"])] {
        let run = tool.run(&[&["pcap", "open", "--json", "--sa", name, "esp.pcap", "again.pcap"], flags].concat()).succeeds();
        assert_eq!(run.stderr, "");
        assert_eq!(tool.read("again.pcap"), tool.read("clear.pcap"), "{name}");
        assert_eq!(run.json()["sas"][0]["name"], "esp-0x00001001-192.0.2.2");
        // Also from standard input.
        let sas = tool.read(name);
        tool.run_with_input(&[&["pcap", "open", "--sa", "-", "esp.pcap", "again.pcap"], flags].concat(), &sas).succeeds();
        assert_eq!(tool.read("again.pcap"), tool.read("clear.pcap"), "{name}");
    }
    // The same table is the sender's, too.
    tool.run(&["pcap", "protect", "--sa", "esp_sa", "--local", "192.0.2.1", input.to_str().unwrap(), "again.pcap"]).succeeds();
    tool.run(&["pcap", "open", "--sa", "in.toml", "again.pcap", "again-clear.pcap"]).succeeds();
    assert_eq!(tool.read("again-clear.pcap"), tool.read("clear.pcap"));
    let message = "ipsecov2: esp_sa:1:1: direction is missing; the file does not say which end is this host: --local ADDRESS does\n";
    tool.run(&["pcap", "open", "--sa", "esp_sa", "esp.pcap", "no.pcap"]).fails(1, message);
    // In the other mode the outer header stays.
    tool.run(&["pcap", "open", "--sa", "esp_sa", "--local", "192.0.2.2", "--mode", "transport", "esp.pcap", "transport.pcap"]).succeeds();
    let (transport, tunnel) = (tool.capture("transport.pcap"), tool.capture("clear.pcap"));
    assert_eq!(transport.len(), tunnel.len());
    assert!(transport.iter().zip(&tunnel).all(|(outer, inner)| outer.bytes.ends_with(&inner.bytes) && outer.bytes.len() == inner.bytes.len() + 20));
}

#[test]
fn conversions_come_back() {
    let tool = tool();
    tool.run(&["sa", "convert", "--to", "xfrm", "in.toml", "one.xfrm"]).succeeds();
    tool.run(&["sa", "convert", "--to", "toml", "one.xfrm", "two.toml"]).succeeds();
    tool.run(&["sa", "convert", "--to", "esp-sa", "two.toml", "three"]).succeeds();
    tool.run(&["sa", "convert", "--to", "toml", "--local", "192.0.2.2", "three", "four.toml"]).succeeds();
    assert_eq!(text_of(&tool, "two.toml"), text_of(&tool, "four.toml"));
    assert_eq!(text_of(&tool, "two.toml").replace("esp-0x00001001-192.0.2.2", "a"), {
        tool.run(&["sa", "convert", "--to", "toml", "in.toml", "five.toml"]).succeeds();
        text_of(&tool, "five.toml")
    });
    let line = format!("\"IPv4\",\"192.0.2.1\",\"192.0.2.2\",\"0x00001001\",\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{KEY}\",\"NULL\",\"\"\n");
    assert_eq!(text_of(&tool, "three"), line);
    let run = tool.run_with_input(&["sa", "convert", "--from", "toml", "--to", "ip-batch", "-", "-"], &tool.read("out.toml")).succeeds();
    let command = format!(
        "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00001001 reqid 0 mode tunnel replay-window 64 flag af-unspec aead rfc4106(gcm(aes)) 0x{KEY} 128\n"
    );
    assert_eq!((run.text(), run.stderr), (command, String::new()));
}

/// Linux has AH and ESP of a packet as two states. Read as one bundle or, where it is not clear that they belong together, as two, they open it.
#[test]
fn ah_over_esp_opens_with_two_states_of_linux() {
    let ends = ("10.0.1.1", "10.0.2.1");
    let ah = "[[sa.association]]\noperation = \"ah\"\nspi = 0x1002\nauthentication = \"hmac-sha-256-128\"\n\
              authentication-key = \"000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\"";
    for (mode, ends) in [("transport", ends), ("tunnel", ENDS)] {
        let tool = Tool::new();
        let text = sa("a", "outbound", mode, ends, 0x1001, "ah-alignment = 8", ah);
        tool.write("out.toml", &text);
        tool.write("in.toml", inbound(&text));
        let packets: Vec<_> = (0..5).map(|length| Packet::raw(udp("10.0.1.1", "10.0.2.1", length))).collect();
        tool.write_capture("clear.pcap", &packets);
        tool.run(&["pcap", "protect", "--sa", "out.toml", "clear.pcap", "wire.pcap"]).succeeds();
        tool.run(&["sa", "convert", "--to", "xfrm", "in.toml", "joined.xfrm"]).succeeds();
        let joined = text_of(&tool, "joined.xfrm");
        assert_eq!(joined.matches("reqid 1 ").count(), 2, "{joined}");
        tool.write("apart.xfrm", joined.replacen("reqid 1 ", "reqid 2 ", 1));
        for (name, sas) in [("joined.xfrm", 1), ("apart.xfrm", 2)] {
            let run = tool.run(&["pcap", "open", "--json", "--sa", name, "wire.pcap", "again.pcap"]).succeeds();
            assert_eq!(run.json()["sas"].as_array().unwrap().len(), sas);
            assert_eq!(tool.capture("again.pcap"), packets, "{mode} {name}: {}", run.text());
        }
    }
}

#[cfg(unix)]
#[test]
fn what_is_written_is_its_owners_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let tool = tool();
    let mode = |name: &str| std::fs::metadata(tool.path(name)).unwrap().permissions().mode() & 0o777;
    tool.run(&["sa", "convert", "--to", "xfrm", "in.toml", "out"]).succeeds();
    assert_eq!(mode("out"), 0o600);
    let before = tool.read("out");
    tool.run(&["sa", "convert", "--to", "toml", "in.toml", "out"]).fails(1, "ipsecov2: out: is there already; --force overwrites it\n");
    assert_eq!(tool.read("out"), before);
    std::fs::set_permissions(tool.path("out"), PermissionsExt::from_mode(0o644)).unwrap();
    tool.run(&["sa", "convert", "--to", "toml", "--force", "in.toml", "out"]).succeeds();
    assert!(tool.read("out") != before);
    assert_eq!(mode("out"), 0o600);
    tool.run(&["sa", "convert", "--to", "toml", "--force", "in.toml", "in.toml"]).fails(2, "ipsecov2: in.toml: IN and OUT are the same file\n");
    std::os::unix::fs::symlink("nowhere", tool.path("link")).unwrap();
    tool.run(&["sa", "convert", "--to", "toml", "in.toml", "link"]).fails(1, "ipsecov2: link: is there already; --force overwrites it\n");
    tool.run(&["sa", "convert", "--to", "toml", "in.toml", "/dev/null"]).succeeds();
}

#[test]
fn what_is_lost_is_an_error_or_a_warning() {
    let tool = tool();
    let text = sa("udp", "inbound", "tunnel", ENDS, 0x1001, "selectors = [ { protocol = \"tcp\" }, {} ]", "")
        + &sa("ah", "inbound", "transport", ENDS, 0x1002, "", "")
            .replace("\"esp\"", "\"ah\"")
            .replace("encryption = \"aes-gcm-128\"", "authentication = \"aes-gmac-128\"")
            .replace("encryption-key", "authentication-key");
    tool.write("sa.toml", text);
    let selectors = "sa.toml:1:1: SA \"udp\": selectors: an esp_sa table has no selectors";
    let ah = "sa.toml:14:1: SA \"ah\": operation: an esp_sa table has no AH; the SA is left out";
    tool.run(&["sa", "convert", "--to", "esp-sa", "sa.toml", "out"]).fails(1, &format!("ipsecov2: {selectors} (--lossy writes the rest)\n"));
    assert!(!tool.path("out").exists());
    let run = tool.run(&["sa", "convert", "--to", "esp-sa", "--lossy", "sa.toml", "out"]).succeeds();
    assert_eq!(run.stderr, format!("ipsecov2: warning: {selectors}\nipsecov2: warning: {ah}\n"));
    assert_eq!(text_of(&tool, "out").lines().count(), 1);
    let message = "ipsecov2: sa.toml:1:1: SA \"udp\": selectors: 2 of them; a state of Linux has one (--lossy writes the rest)\n";
    tool.run(&["sa", "convert", "--to", "xfrm", "sa.toml", "out2"]).fails(1, message);
}

#[test]
fn notes_of_a_file_are_warnings() {
    let tool = tool();
    tool.run(&["sa", "convert", "--to", "xfrm", "in.toml", "in.xfrm"]).succeeds();
    let flagged = text_of(&tool, "in.xfrm").replace("flag ", "flag decap-dscp ");
    tool.write("flagged.xfrm", flagged);
    let run = tool.run(&["sa", "convert", "--to", "toml", "flagged.xfrm", "-"]).succeeds();
    assert_eq!(run.stderr, "ipsecov2: warning: flagged.xfrm:3:23: flag decap-dscp: the inner header keeps its own DSCP\n");
}

#[cfg(unix)]
#[test]
fn protect_writes_the_table_for_viewers() {
    use std::os::unix::fs::PermissionsExt;
    let tool = tool();
    let input = testdata("small-raw.pcap");
    let input = input.to_str().unwrap();
    tool.run(&["pcap", "protect", "--sa", "out.toml", "--esp-sa", "esp_sa", input, "esp.pcap"]).succeeds();
    tool.run(&["sa", "convert", "--to", "esp-sa", "out.toml", "expected"]).succeeds();
    assert_eq!(text_of(&tool, "esp_sa"), text_of(&tool, "expected"));
    assert_eq!(std::fs::metadata(tool.path("esp_sa")).unwrap().permissions().mode() & 0o777, 0o600);
    for (arguments, message) in [
        (&["--esp-sa", "esp.pcap", input, "esp.pcap"][..], "esp.pcap: the esp_sa table and OUT are the same file"),
        (&["--esp-sa", "out.toml", input, "esp.pcap"], "out.toml: the esp_sa table and the SA file are the same file"),
        (&["--esp-sa", "-", input, "-"], "OUT and the esp_sa table cannot both go to standard output"),
    ] {
        tool.run(&[&["pcap", "protect", "--sa", "out.toml"], arguments].concat()).fails(2, &format!("ipsecov2: {message}\n"));
    }
    // What viewers do not know is told.
    let gmac = text_of(&tool, "out.toml")
        .replace("encryption = \"aes-gcm-128\"", "encryption = \"null\"\nauthentication = \"aes-gmac-128\"")
        .replace("encryption-key", "authentication-key");
    tool.write("gmac.toml", gmac);
    let run = tool.run(&["pcap", "protect", "--json", "--sa", "gmac.toml", "--esp-sa", "none", input, "esp.pcap"]).succeeds();
    assert_eq!(run.stderr, "ipsecov2: warning: gmac.toml:1:1: SA \"a\": authentication: an esp_sa table has no aes-gmac-128; the SA is left out\n");
    assert!(tool.read("none").is_empty());
}

/// tshark, with the table in its configuration directory, checks and decrypts packets of every algorithm that it knows.
#[test]
fn tshark_takes_the_table() {
    if !peers::tshark("tshark_takes_the_table") {
        return;
    }
    let key = |bytes: usize| peers::hex((0..bytes).map(|byte| (byte * 3 + bytes) as u8));
    let mut algorithms = vec![];
    for (encryption, length) in [("null", 0), ("des-cbc", 8), ("3des-cbc", 24), ("aes-cbc-128", 16), ("aes-cbc-192", 24), ("aes-cbc-256", 32)] {
        for (authentication, bytes) in [("hmac-md5-96", 16), ("hmac-sha1-96", 20), ("hmac-sha-256-128", 32), ("hmac-sha-384-192", 48), ("hmac-sha-512-256", 64)]
        {
            let keys = format!("encryption-key = \"{}\"\nauthentication-key = \"{}\"", key(length), key(bytes));
            algorithms.push(format!("encryption = \"{encryption}\"\nauthentication = \"{authentication}\"\n{keys}"));
        }
    }
    for (size, length) in [(128, 20), (192, 28), (256, 36)] {
        for icv in [8, 12, 16] {
            algorithms.push(format!("encryption = \"aes-gcm-{size}\"\nencryption-key = \"{}\"\nicv-length = {icv}", key(length)));
        }
    }
    let tool = Tool::new();
    let (mut sas, mut packets) = (vec![], vec![]);
    for (number, algorithm) in algorithms.iter().enumerate() {
        let inner = format!("10.0.3.{number}");
        sas.push(format!(
            "[[sa]]\nname = \"{number}\"\ndirection = \"outbound\"\nmode = \"tunnel\"\nsource = \"192.0.2.1\"\ndestination = \"192.0.2.2\"\n\
             selectors = [ {{ destination = \"{inner}\" }} ]\n[[sa.association]]\noperation = \"esp\"\nspi = {}\n{algorithm}\n",
            0x3000 + number
        ));
        // Ports that mean nothing: what tshark cannot make sense of within keeps it from showing what it found around.
        let mut packet = udp("10.0.1.1", &inner, 31);
        packet[20..24].copy_from_slice(&[0xfd, 0xe8, 0xfd, 0xe9]);
        packets.push(packet);
    }
    tool.write("sa.toml", sas.concat());
    tool.write_capture("clear.pcap", &packets.iter().cloned().map(Packet::raw).collect::<Vec<_>>());
    std::fs::create_dir_all(tool.path(".config/wireshark")).unwrap();
    tool.run(&["pcap", "protect", "--sa", "sa.toml", "--esp-sa", ".config/wireshark/esp_sa", "clear.pcap", "esp.pcap"]).succeeds();
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", "esp.pcap", "-T", "fields", "-e", "esp.icv_good", "-e", "esp.contained_data"]);
    command.args(["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]);
    command.env("HOME", tool.path("")).env_remove("XDG_CONFIG_HOME");
    let output = command.current_dir(tool.path("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("esp_sa"), "{said}");
    assert_eq!(shown.lines().count(), packets.len());
    for ((line, packet), algorithm) in shown.lines().zip(&packets).zip(&algorithms) {
        let (good, contained) = line.split_once('\t').unwrap();
        assert!(["1", "True"].contains(&good), "{algorithm}: {line}");
        let wanted = peers::hex(packet.iter().copied());
        assert!(contained.replace(':', "").starts_with(&wanted), "{algorithm}: {line}");
    }
}

/// R-28: what converts, warns or fails shows no key but in what it writes.
#[test]
fn r_28_conversions_say_no_key() {
    let tool = tool();
    for arguments in [
        &["--to", "xfrm", "in.toml", "one"][..],
        &["--to", "esp-sa", "in.toml", "two"],
        &["--from", "xfrm", "--to", "toml", "in.toml", "three"],
        &["--from", "esp-sa", "--to", "toml", "in.toml", "three"],
        &["--from", "toml", "--to", "toml", "one", "three"],
        &["--from", "esp-sa", "--to", "toml", "one", "three"],
        &["--from", "toml", "--to", "toml", "two", "three"],
        &["--from", "xfrm", "--to", "toml", "two", "three"],
        &["--to", "toml", "two", "three"],
    ] {
        let run = tool.run(&[&["sa", "convert"], arguments].concat());
        let said = run.text() + &run.stderr;
        assert!((0..KEY.len() - 7).all(|at| !said.contains(&KEY[at..at + 8])), "{said}");
    }
}
