//! JSON documents have the fields that docs/json.md lists, and no others.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::tool::{Tool, inbound, sa, testdata};

/// The field names of the tables below a heading that has `title` in it, up to the next heading.
pub(crate) fn documented(title: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut fields = BTreeSet::new();
    let mut below = false;
    for line in text.lines() {
        if line.starts_with('#') {
            below = line.contains(title);
        } else if let (true, Some(cell)) = (below, line.strip_prefix("| `").and_then(|rest| rest.split(" | ").next())) {
            fields.extend(cell.split('`').filter(|part| !part.trim_matches([',', ' ']).is_empty()).map(str::to_owned));
        }
    }
    assert!(!fields.is_empty(), "{title}");
    fields
}

/// The names of the fields of a document as docs/json.md writes them.
fn fields(value: &Value, prefix: &str, open: &[&str], found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = if open.contains(&prefix) { "*" } else { name };
                let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
                found.insert(path.clone());
                fields(value, &path, open, found);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| fields(element, &format!("{prefix}[]"), open, found)),
        _ => {}
    }
}

pub(crate) fn fields_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    fields(value, "", &["dropped", "software_because"], &mut found);
    found
}

fn captures() -> Tool {
    let tool = Tool::new();
    let text = sa("a", "outbound", "tunnel", ("192.0.2.1", "192.0.2.2"), 0x1001, "selectors = [ { source = \"0.0.0.0/0\" } ]", "");
    tool.write("out.toml", &text);
    tool.write("in.toml", inbound(&text));
    tool
}

#[test]
fn pcap_documents() {
    let tool = captures();
    let input = testdata("small-nanosecond.pcap");
    let run = tool.run(&["pcap", "protect", "--sa", "out.toml", "--json", input.to_str().unwrap(), "esp.pcap"]).succeeds();
    assert_eq!(run.json()["schema"], "ipsecov2-pcap-protect-1");
    // Without an adapter's help there are reasons for that.
    let again = tool.run(&["pcap", "protect", "--sa", "out.toml", "--no-offload", "--json", input.to_str().unwrap(), "again.pcap"]).succeeds();
    assert_eq!(again.json()["software_because"], serde_json::json!({ "sa-not-offloaded": again.json()["software"] }));
    assert_eq!(&fields_of(&run.json()) | &fields_of(&again.json()), documented("`ipsecov2-pcap-protect-1`"));

    // A second time the packets are replayed ones, so that there are reasons.
    let twice: Vec<_> = [tool.capture("esp.pcap"), tool.capture("esp.pcap")].concat();
    tool.write_capture("twice.pcap", &twice);
    let arguments = ["pcap", "open", "--sa", "in.toml", "--json", "--report", "report", "twice.pcap", "clear.pcap"];
    let run = tool.run(&arguments).succeeds();
    assert_eq!(run.json()["schema"], "ipsecov2-pcap-open-1");
    let again = tool.run(&["pcap", "open", "--sa", "in.toml", "--no-offload", "--json", "esp.pcap", "again.pcap"]).succeeds();
    assert_eq!(&fields_of(&run.json()) | &fields_of(&again.json()), documented("`ipsecov2-pcap-open-1`"));
    assert_eq!(run.json()["dropped"]["replayed"], twice.len() as u64 / 2);

    let mut found = BTreeSet::new();
    for line in tool.lines("report") {
        found.extend(fields_of(&line));
    }
    let mut listed = documented("Report of");
    // The table of verdicts is below the same heading.
    listed.retain(|field| !["delivered", "passed", "dropped"].contains(&field.as_str()));
    assert_eq!(found, listed);
}

/// The report's form is fixed to the byte.
#[test]
fn the_first_line_of_a_report() {
    let tool = captures();
    let input = testdata("small-raw.pcap");
    tool.run(&["pcap", "protect", "--sa", "out.toml", input.to_str().unwrap(), "esp.pcap"]).succeeds();
    let run = tool.run(&["pcap", "open", "--sa", "in.toml", "--report", "-", "esp.pcap", "clear.pcap"]).succeeds();
    assert_eq!(
        run.text().lines().next().unwrap(),
        r#"{"packet":1,"crypto_done":true,"next_crypto_done":false,"crypto_status":"SUCCESS","associations":[{"operation":"esp","spi":"0x00001001","sequence":1}],"verdict":"delivered","reason":null}"#
    );
}

#[test]
fn capabilities() {
    let tool = Tool::new();
    let document = tool.run(&["caps", "--json"]).succeeds().json();
    assert_eq!(document["schema"], "ipsecov2-caps-1");
    let all = fields_of(&document);
    let (sets, plain): (BTreeSet<_>, BTreeSet<_>) = all.into_iter().partition(|field| field.contains('.'));
    assert_eq!(plain, documented("`ipsecov2-caps-1`"));
    let listed = documented("Capability set");
    for set in ["hardware", "default", "current"] {
        let members: BTreeSet<_> = sets.iter().filter_map(|field| field.strip_prefix(&format!("{set}."))).map(str::to_owned).collect();
        let services: BTreeSet<_> = listed.iter().filter_map(|field| field.split_once('.')).map(|(service, _)| service.to_owned()).collect();
        assert_eq!(members, &listed | &services, "{set}");
        let v2 = &document[set]["ipsec_v2"];
        let aes = |mode: &str| ["128", "192", "256"].map(|bits| format!("AES_{mode}_{bits}"));
        let listed = |groups: &[&[String]]| serde_json::json!(groups.concat());
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let encryption = listed(&[&names(&["NONE", "DES_CBC", "TRIPLE_DES_CBC"]), &aes("GCM"), &aes("CBC"), &names(&["EXT_CHACHA20_POLY1305"])]);
        let authentication = listed(&[&names(&["MD5", "SHA_1", "SHA_256"]), &aes("GCM"), &names(&["EXT_SHA_384", "EXT_SHA_512"])]);
        assert_eq!((&v2["encryption_algorithms"], &v2["authentication_algorithms"]), (&encryption, &authentication));
        for service in ["ah", "esp", "ah_esp_combined", "transport", "tunnel", "transport_tunnel_combined", "extended_sequence_numbers", "ipv4_options"] {
            assert_eq!(v2[service], true, "{service}");
        }
        assert!(v2["udp_esp"].as_array().is_some_and(|types| types.len() == 4) && v2["sa_offload_capacity"].as_u64() > Some(0));
    }
    let text = tool.run(&["caps"]).succeeds().text();
    for line in ["ipsec_v2 ", "    AES_GCM_256                    yes            yes            yes", "not offered: "] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn bench_rows() {
    let rows = Tool::new().run(&["bench", "--json", "--table", "nic-send", "--bytes", "64", "--workers", "1,2", "--rounds", "1"]).succeeds().json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((&row["schema"], fields_of(row)), (&"ipsecov2-bench-1".into(), documented("`ipsecov2-bench-1`")));
    }
}
