//! `ipsecov2 demo`, run as a user runs it.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use link::capture::{CaptureReader, LinkType};
use packet::{EthernetFrame, IpProtocol, ParsedIp};
use serde_json::Value;

/// More than any of these runs may take, on a slow machine and without optimisation.
const LONG: Duration = Duration::from_mins(1);

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    fn fails(self, code: i32, message: &str) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(self.stderr.contains(message) && self.stdout.is_empty(), "{}\n{}", self.stdout, self.stderr);
    }
}

fn demo(arguments: &[&str]) -> Run {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_ipsecov2")).arg("demo").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(started.elapsed() < LONG, "{arguments:?} took {:?}", started.elapsed());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn json(arguments: &[&str]) -> Value {
    let run = demo(&[&["--json"], arguments].concat()).succeeds();
    assert_eq!(run.stderr, "");
    serde_json::from_str(&run.stdout).unwrap()
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn testdata(name: &str) -> String {
    project().join("testdata").join(name).to_str().unwrap().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn people_get_a_short_report() {
    let run = demo(&[]).succeeds();
    assert_eq!(run.stderr, "", "progress is for terminals");
    for line in run.stdout.lines() {
        assert!(line.chars().count() <= 90 && !line.contains('\x1b'), "{line}");
    }
    assert!(run.stdout.lines().count() < 80);
    for text in [
        "the capture that comes with the program",
        "AES-GCM-128/192/256",
        "AH over ESP",
        "IPv4 and IPv6 on IEEE_802_3",
        "tunnel, v4 in v6",
        "a, b: offloaded",
        "OID_TCP_OFFLOAD_PARAMETERS: IPsecV2 off",
        "*IPsecOffloadV2 = 0, adapter restarted",
        "came back from the NIC",
    ] {
        assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
    }
    assert_eq!(run.stdout.matches("\n  ok      ").count(), 6);
    assert!(!run.stdout.contains("FAILED"));
}

#[test]
fn every_phase_does_what_it_says_and_no_packet_is_lost() {
    for crypto in ["aws-lc", "rustcrypto", "mbcrypto"] {
        let report = json(&["--crypto", crypto]);
        assert_eq!((&report["schema"], &report["passed"], &report["crypto"]), (&"ipsecov2-demo-1".into(), &true.into(), &crypto.into()));
        let (packets, protected) = (number(&report["traffic"]["packets"]), number(&report["traffic"]["protected"]));
        assert_eq!(number(&report["packets"]), packets);
        assert_eq!(number(&report["bytes"]), number(&report["traffic"]["bytes"]));
        let phases = report["phases"].as_array().unwrap();
        let offload: Vec<_> = phases.iter().map(|phase| phase["offload"].as_bool().unwrap()).collect();
        assert_eq!(offload, [true, false, true, false, true]);
        let (mut sent, mut received) = (0, 0);
        for phase in phases {
            let way = |host: &str, way: &str, how: &str| number(&phase[host][way][how]["packets"]);
            let (with, without) = if phase["offload"] == true { ("offloaded", "software") } else { ("software", "offloaded") };
            // Numbers that have just outgrown 32 bits are the transport's business until the NIC has been told.
            for way in [&phase["a"]["sent"], &phase["a"]["received"], &phase["b"]["sent"], &phase["b"]["received"]] {
                let because = way["software_because"].as_object().unwrap();
                assert_eq!(because.values().map(number).sum::<u64>(), number(&way["software"]["packets"]), "{way}");
                assert_eq!(because.get("given-back").map_or(0, number), number(&way["given_back"]), "{way}");
            }
            let untold = [0, 1].map(|host| number(&phase["before_update_sa"][host]));
            let allowed = if phase["offload"] == true { untold[0] } else { 0 };
            assert!(way("a", "sent", with) > 0 && way("a", "received", with) > 0, "{phase}");
            assert!(way("a", "sent", without) <= allowed && way("a", "received", without) == 0, "{phase}");
            assert!(way("b", "sent", "offloaded") > 0 && way("b", "sent", "software") <= untold[1] && way("b", "received", "software") == 0, "{phase}");
            assert_eq!(phase["in_flight"] == 0, phase["number"] == 1, "{phase}");
            // Only the second begins before the transport has heard of the change.
            assert_eq!(number(&phase["a"]["sent"]["given_back"]) > 0, phase["number"] == 2, "{phase}");
            for how in ["offloaded", "software"] {
                sent += way("a", "sent", how) + way("b", "sent", how);
                received += way("a", "received", how) + way("b", "received", how);
            }
        }
        assert_eq!((sent, received), (protected, protected));
        // The connections are of all kinds, and all are used: every IV was seen once.
        let connections = report["connections"].as_array().unwrap();
        let kinds: Vec<_> = connections.iter().map(|connection| ["mode", "inner", "outer"].map(|field| connection[field].as_str().unwrap())).collect();
        for kind in [
            ["transport", "IPv4", "IPv4"],
            ["transport", "IPv6", "IPv6"],
            ["tunnel", "IPv4", "IPv4"],
            ["tunnel", "IPv6", "IPv6"],
            ["tunnel", "IPv4", "IPv6"],
            ["tunnel", "IPv6", "IPv4"],
        ] {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
        let sas = 2 * connections.len() as u64;
        let requests = |host: &str, what: &str| number(&report["hosts"][host]["requests"][what]);
        // Added, and again after each loss; deleted by the one switch that leaves the NIC running.
        assert_eq!((requests("a", "added"), requests("a", "deleted"), requests("a", "refused")), (3 * sas, sas, 0));
        assert_eq!((requests("b", "added"), requests("b", "deleted"), requests("b", "refused")), (sas, 0, 0));
        assert!(requests("b", "updated") > 0, "a sequence number has outgrown 32 bits");
        for host in ["a", "b"] {
            for way in ["sent", "received"] {
                assert_eq!(report["hosts"][host]["totals"][way]["dropped"], serde_json::json!({}));
            }
        }
    }
}

/// A copy of `modes.toml` that only its owner reads: the file that ships is not secret, and the program says so.
fn modes(folder: &Path) -> String {
    let file = folder.join("sa.toml");
    std::fs::copy(testdata("modes.toml"), &file).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn the_sas_can_be_those_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = &modes(folder.path());
    let report = json(&["--sa", file]);
    assert_eq!((&report["passed"], number(&report["traffic"]["protected"])), (&true.into(), 1202));
    let connections = report["connections"].as_array().unwrap();
    let seen: Vec<_> = connections.iter().map(|connection| ["name", "carries", "algorithms"].map(|field| connection[field].as_str().unwrap())).collect();
    assert_eq!(
        seen,
        [
            ["carrier-out", "what other SAs protect", "chacha20-poly1305"],
            ["inside-out", "UDP between these two", "aes-cbc-128 hmac-sha1-96, ah aes-gmac-128"],
            ["rest-out", "IP packets", "ah hmac-sha-512-256"],
            ["rest-in", "IP packets", "3des-cbc"],
        ]
    );
    assert_eq!((&connections[1]["inside"], &connections[0]["udp_encapsulation"]), (&"carrier-out".into(), &true.into()));
    assert!(connections.iter().all(|connection| connection["offload"] == serde_json::json!(["offloaded", "offloaded"])), "{connections:?}");
    let text = demo(&["--sa", file]).succeeds().stdout;
    assert!(text.contains("the SAs of the file, on b the other way round") && text.contains("inside carrier-out"), "{text}");

    let none = std::fs::read_to_string(file)
        .unwrap()
        .replace("10.0.1.1", "10.9.9.9")
        .replace("mode = \"tunnel\"", "mode = \"tunnel\"\nselectors = [ { protocol = 200 } ]");
    std::fs::write(folder.path().join("none.toml"), none).unwrap();
    std::fs::set_permissions(folder.path().join("none.toml"), std::fs::metadata(file).unwrap().permissions()).unwrap();
    demo(&["--sa", folder.path().join("none.toml").to_str().unwrap()]).fails(1, "none of the 4 SAs carries a packet of the traffic (1202 that no SA is about");
}

/// OV1-1, OV1-4: with cards the run passes; those of version 1 use that, with its keyword and its member of the parameters.
#[test]
fn the_nics_can_be_cards() {
    let folder = tempfile::tempdir().unwrap();
    let file = &modes(folder.path());
    for (card, service) in [("3com-3cr990", "IPsecOV1"), ("intel-82599", "IPsecOV2"), ("chelsio-t6", "IPsecOV2")] {
        let report = json(&["--profile", card, "--sa", file]);
        assert_eq!(report["passed"], true, "{card}: {}", report["checks"]);
        assert_eq!(report["hosts"]["a"]["ipsec_service"], service, "{card}");
        let events: Vec<_> = report["phases"].as_array().unwrap().iter().map(|phase| phase["event"].as_str().unwrap()).collect();
        let keyword = if service == "IPsecOV1" { "*IPsecOffloadV1IPv4 = 0, adapter restarted" } else { "*IPsecOffloadV2 = 0, adapter restarted" };
        assert_eq!(events[3], keyword, "{card}");
        let of = |name: &str| report["connections"].as_array().unwrap().iter().find(|connection| connection["name"] == name).unwrap()["offload"].clone();
        if service == "IPsecOV1" {
            assert_eq!(of("rest-in"), serde_json::json!(["offloaded", "offloaded"]));
            assert_ne!(of("rest-out")[0], "offloaded");
            let did = |host: &str, way: &str| number(&report["hosts"][host]["totals"][way]["offloaded"]["packets"]);
            assert!(did("b", "sent") > 0 && did("a", "received") > 0 && did("a", "sent") == 0, "{}", report["hosts"]["a"]["totals"]);
        }
    }
    demo(&["--profile", "no-card"]).fails(2, "no-card: neither a file nor a profile");
}

#[test]
fn runs_have_their_own_secrets() {
    let spis = || -> HashSet<String> {
        let report = json(&[]);
        let connections = report["connections"].as_array().unwrap().iter();
        connections.flat_map(|connection| connection["spis"].as_array().unwrap().clone()).map(|spi| spi.as_str().unwrap().to_owned()).collect()
    };
    assert!(spis().is_disjoint(&spis()));
}

#[test]
fn repeated_traffic() {
    let report = json(&["--repeat", "7", "--traffic", &testdata("small-nanosecond.pcap")]);
    assert_eq!(number(&report["traffic"]["repeat"]), 7);
    assert_eq!(number(&report["packets"]), 7 * number(&report["traffic"]["packets"]));
    assert_eq!(report["passed"], true);
}

/// ESP packets, other frames, and what the comments say of the first.
fn wire(path: &Path) -> (usize, usize, Vec<String>) {
    let mut reader = CaptureReader::open(path).unwrap();
    let (mut esp, mut other, mut comments) = (0, 0, Vec::new());
    while let Some(packet) = reader.next_packet().unwrap() {
        assert!(!packet.is_cut() && packet.timestamp.as_nanos() > 0);
        let ip = if packet.link_type == LinkType::RAW {
            packet.data
        } else {
            let frame = EthernetFrame::new(packet.data).unwrap();
            if frame.ethertype().and_then(packet::EtherType::ip_version).is_none() {
                other += 1;
                continue;
            }
            &packet.data[frame.l3_offset()..]
        };
        let parsed = ParsedIp::parse(ip).unwrap();
        assert_eq!((parsed.protocol(), parsed.padding_len()), (IpProtocol::ESP, 0));
        esp += 1;
        comments.extend(packet.comments().map(std::borrow::Cow::into_owned));
    }
    (esp, other, comments)
}

#[test]
fn the_wire_is_esp_in_either_format() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["wire.pcapng", "wire.pcap"] {
        let path = directory.path().join(name);
        let report = json(&["--wire", path.to_str().unwrap()]);
        assert_eq!(report["wire"], path.to_str().unwrap());
        let (esp, other, comments) = wire(&path);
        assert_eq!((esp as u64, other as u64), (number(&report["traffic"]["protected"]), number(&report["traffic"]["bypassed"])));
        if name == "wire.pcapng" {
            let with = |text: &str| comments.iter().filter(|comment| comment.contains(text)).count() as u64;
            let sent = |host: &str, how: &str| number(&report["hosts"][host]["totals"]["sent"][how]["packets"]);
            assert_eq!(comments.len(), esp);
            assert_eq!(with("a to b: "), sent("a", "software") + sent("a", "offloaded"));
            assert_eq!(with("in software"), sent("a", "software") + sent("b", "software"));
            assert_eq!(with(", offloaded"), sent("a", "offloaded") + sent("b", "offloaded"));
        }
    }
    // To standard output: the report is on standard error then.
    let output = Command::new(env!("CARGO_BIN_EXE_ipsecov2")).args(["demo", "--wire", "-"]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && String::from_utf8(output.stderr).unwrap().contains("Checks"));
    let path = directory.path().join("piped.pcapng");
    std::fs::write(&path, output.stdout).unwrap();
    assert_eq!(wire(&path).0, wire(&directory.path().join("wire.pcap")).0);
}

#[test]
fn keys_are_in_the_file_only_if_asked_for_and_only_for_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let secrets = |path: &Path| {
        let mut reader = CaptureReader::open(path).unwrap();
        while reader.next_packet().unwrap().is_some() {}
        reader.secrets()
    };
    let path = directory.path().join("wire.pcapng");
    let file = path.to_str().unwrap();
    demo(&["--wire", file]).succeeds();
    assert_eq!(secrets(&path), 0);
    demo(&["--wire", file, "--decryption-secrets"]).succeeds();
    assert_eq!(secrets(&path), 1);
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
}

#[test]
fn captures_of_every_form() {
    // Packets that travel, and those that do not.
    for (name, medium, skipped) in [
        ("small-nanosecond.pcap", "ethernet", 0),
        ("small-microsecond.pcap", "ethernet", 0),
        ("small-big-endian.pcap", "ethernet", 0),
        ("small-vlan.pcap", "ethernet", 0),
        ("small-raw.pcap", "ip", 0),
        ("small-null.pcap", "ip", 0),
        ("small-big-endian.pcapng", "ip", 0),
        ("small-sll.pcap", "ip", 0),
        ("small-sll2.pcap", "ip", 0),
        ("small-mixed.pcapng", "ip", 0),
    ] {
        let report = json(&["--traffic", &testdata(name)]);
        let mut reader = CaptureReader::open(Path::new(&testdata(name))).unwrap();
        while reader.next_packet().unwrap().is_some() {}
        let traffic = &report["traffic"];
        assert_eq!((&traffic["medium"], &report["passed"]), (&medium.into(), &true.into()), "{name}");
        assert_eq!(number(&traffic["packets"]) + skipped, reader.packets(), "{name}");
        assert_eq!(report["packets"], traffic["packets"], "{name}");
    }
}

#[test]
fn cut_packets_are_skipped_and_counted() {
    let name = testdata("small-truncated.pcap");
    let report = json(&["--traffic", &name]);
    let (mut whole, mut cut) = (0, 0);
    let mut reader = CaptureReader::open(Path::new(&name)).unwrap();
    while let Some(packet) = reader.next_packet().unwrap() {
        *(if packet.is_cut() { &mut cut } else { &mut whole }) += 1;
    }
    assert!(whole > 0 && cut > 0);
    assert_eq!((number(&report["traffic"]["packets"]), number(&report["traffic"]["skipped"]["cut"])), (whole, cut));
    assert!(demo(&["--traffic", &name]).succeeds().stdout.contains(&format!("skipped: {cut} cut by the snap length")));
}

#[test]
fn broken_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = std::fs::read(testdata("small-raw.pcap")).unwrap();
    let traffic = |file: &str| demo(&["--traffic", file]);
    traffic(&write("cut.pcap", &whole[..whole.len() - 3])).fails(1, "cut.pcap: packet 36 at byte ");
    traffic(&write("text.pcap", b"this is no capture")).fails(1, "text.pcap: at byte 0: a pcap or pcapng file expected, ");
    traffic(&write("empty.pcap", b"")).fails(1, "empty.pcap: ");
    traffic(&write("nothing.pcap", &whole[..24])).fails(1, "nothing.pcap: a capture with IP packets expected, none found");
    traffic(directory.path().join("missing.pcap").to_str().unwrap()).fails(1, "missing.pcap: cannot open: ");
    let missing = directory.path().join("missing/wire.pcapng");
    demo(&["--wire", missing.to_str().unwrap()]).fails(1, "wire.pcapng: cannot create: ");
}

#[test]
fn wrong_usage_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("same.pcap");
    std::fs::copy(testdata("small-raw.pcap"), &capture).unwrap();
    let capture = capture.to_str().unwrap();
    demo(&["--traffic", capture, "--wire", capture]).fails(2, "the wire and the traffic are the same file");
    demo(&["--wire", "-", "--json"]).fails(2, "the wire and --json cannot both go to standard output");
    demo(&["--decryption-secrets"]).fails(2, "--wire");
    demo(&["--wire", "keys.pcap", "--decryption-secrets"]).fails(2, "keys.pcap: --decryption-secrets needs a pcapng file");
    demo(&["--repeat", "0"]).fails(2, "--repeat");
    demo(&["--crypto", "none"]).fails(2, "--crypto");
    assert_eq!(std::fs::read(capture).unwrap(), std::fs::read(testdata("small-raw.pcap")).unwrap());
}

#[test]
fn the_trace_shows_requests_and_statuses_and_no_key() {
    let run = demo(&["--trace", "--json"]).succeeds();
    assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap()["passed"], true);
    for host in ["a: request ", "b: request "] {
        let first = run.stderr.lines().find(|line| line.starts_with(host) && line.contains(" down: "));
        assert!(first.is_some_and(|line| line.contains(" down: set OFFLOAD_ENCAPSULATION")), "{host}{first:?}");
    }
    for text in ["ADD_SA_EX", "DELETE_SA", "UPDATE_SA", "status TASK_OFFLOAD_CURRENT_CONFIG", "20-byte key"] {
        assert!(run.stderr.contains(text), "{text}");
    }
    // A key would be a long run of hexadecimal digits; handles have 16 at most.
    let longest = run.stderr.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max();
    assert!(longest <= Some(16), "{longest:?}");
}

/// The fields of the tables below a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(project().join("docs/json.md")).unwrap();
    let lines = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with('#'));
    // The first table; others below the heading say what values mean.
    let table = lines.skip_while(|line| !line.starts_with("| field")).skip(2).take_while(|line| line.starts_with('|'));
    let cells = table.filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let fields: BTreeSet<_> = cells.flat_map(|cell| cell.split(", ")).map(|field| field.trim_matches('`').to_owned()).collect();
    assert!(!fields.is_empty(), "{heading}");
    fields
}

/// The fields of a value, as the tables write them. `forms` have tables of their own.
fn fields(value: &Value, path: &str, forms: &[&str], found: &mut BTreeSet<String>) {
    if forms.contains(&path) {
        found.insert(path.to_owned());
        return;
    }
    match value {
        Value::Object(members) if path == "hosts" || path.ends_with(".dropped") || path.ends_with(".software_because") => {
            found.extend((path != "hosts").then(|| path.to_owned()));
            for value in members.values() {
                fields(value, &format!("{path}.*"), forms, found);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                fields(value, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, forms, found);
            }
        }
        Value::Array(elements) if elements.iter().any(Value::is_object) => {
            found.insert(path.to_owned());
            for element in elements {
                fields(element, &format!("{path}[]"), forms, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn the_document_has_the_fields_that_are_documented_and_no_others() {
    let report = json(&[]);
    let mut found = BTreeSet::new();
    let forms = ["hosts.*.hardware", "hosts.*.default", "hosts.*.current", "hosts.*.totals", "phases[].a", "phases[].b"];
    fields(&report, "", &forms, &mut found);
    assert_eq!(found, documented("## `ipsecov2-demo-1`"));
    for host in [&report["hosts"]["a"]["totals"], &report["hosts"]["b"]["totals"], &report["phases"][1]["a"], &report["phases"][4]["b"]] {
        let mut found = BTreeSet::new();
        fields(host, "", &[], &mut found);
        let listed = documented("### What a host did");
        // Nothing is dropped here, and not on every host something done in software.
        let named = |fields: BTreeSet<String>| fields.into_iter().filter(|field| !field.ends_with('*')).collect::<BTreeSet<_>>();
        assert!(found.is_subset(&listed), "{found:?}");
        assert_eq!(named(found), named(listed));
    }
    let capabilities: Value = {
        let output = Command::new(env!("CARGO_BIN_EXE_ipsecov2")).args(["caps", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(report["hosts"]["a"]["hardware"], capabilities["hardware"]);
    assert_eq!(report["hosts"]["b"]["current"], capabilities["current"]);
}
