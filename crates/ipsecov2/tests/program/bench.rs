//! Measuring: that everything is measured and told, not how fast it is.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::tool::Tool;

fn rows(arguments: &[&str]) -> Vec<Value> {
    let run = Tool::new().run(&[&["bench", "--json", "--rounds", "1"], arguments].concat()).succeeds();
    assert_eq!(run.stderr, "");
    let Value::Array(rows) = run.json() else { panic!("no array: {}", run.text()) };
    rows.iter().for_each(check);
    rows
}

/// What holds for every row.
#[track_caller]
fn check(row: &Value) {
    let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
    assert_eq!(row["schema"], "ipsecov2-bench-1");
    let (ns, mpps, gbps) = (number("ns"), number("mpps"), number("gbps"));
    assert!(ns > 0.0 && number("limit_ns") > 0.0 && number("of_limit") > 0.0 && number("spread") >= 0.0, "{row}");
    // Figures are rounded to six digits.
    assert!((mpps * ns / 1e3 - 1.0).abs() < 1e-4 && (gbps * ns / 8.0 / number("bytes") - 1.0).abs() < 1e-4, "{row}");
    assert_eq!(row["wide"], number("spread") > 0.1, "{row}");
    let (bytes, text) = (number("bytes"), number("text"));
    let provider = row["table"] == "provider";
    assert!(if provider { (bytes..bytes + 16.0).contains(&text) } else { (bytes + 2.0..bytes + 18.0).contains(&text) }, "{row}");
    assert_eq!(row["scaling"].as_f64().is_some(), number("workers") > 1.0, "{row}");
}

fn names(row: &Value, fields: &[&str]) -> Vec<String> {
    fields.iter().map(|&field| row[field].as_str().map_or_else(|| row[field].to_string(), str::to_owned)).collect()
}

#[test]
fn a_quick_run_has_all_that_it_must() {
    let rows = rows(&["--quick"]);
    let found: BTreeSet<_> = rows.iter().map(|row| names(row, &["table", "operation", "provider", "suite", "bytes", "workers", "sas", "batch"])).collect();
    assert_eq!(found.len(), rows.len(), "no row comes twice");
    let default = rows.iter().find(|row| row["table"] == "outbound").unwrap()["provider"].as_str().unwrap();
    let mut wanted = BTreeSet::new();
    for bytes in ["64", "576", "1420"] {
        let mut want = |table, operation, provider: &str| {
            wanted.insert([table, operation, provider, "aes-gcm-128", bytes, "1", "1", "64"].map(str::to_owned).to_vec());
        };
        for (table, operation) in [("nic-send", "seal"), ("nic-receive", "open"), ("outbound", "seal"), ("inbound", "open")] {
            want(table, operation, default);
        }
        for provider in ["mbcrypto", "aws-lc", "rustcrypto"] {
            want("provider", "seal", provider);
            want("provider", "open", provider);
        }
    }
    assert_eq!(found, wanted);
}

#[test]
fn what_is_asked_for_is_measured_and_nothing_else() {
    let rows = rows(&["--table", "software-in,nic-send", "--suite", "aes-cbc-128+hmac-sha1-96", "--bytes", "64,1420", "--batch", "4", "--crypto", "aws-lc"]);
    let found: BTreeSet<_> = rows.iter().map(|row| names(row, &["table", "provider", "suite", "bytes", "batch"])).collect();
    let expected = [("nic-send", "64"), ("nic-send", "1420"), ("software-in", "64"), ("software-in", "1420")];
    let expected = expected.map(|(table, bytes)| [table, "aws-lc", "aes-cbc-128+hmac-sha1-96", bytes, "4"].map(str::to_owned).to_vec());
    assert_eq!((rows.len(), found), (4, expected.into_iter().collect()));
}

#[test]
fn a_library_that_is_named_is_the_only_one() {
    let rows = rows(&["--table", "provider", "--bytes", "64", "--crypto", "rustcrypto"]);
    let found: Vec<_> = rows.iter().map(|row| names(row, &["operation", "provider"])).collect();
    assert_eq!(found, [["seal", "rustcrypto"], ["open", "rustcrypto"]]);
}

#[test]
fn workers_share_outbound_sas_and_have_inbound_ones_of_their_own() {
    let rows = rows(&["--bytes", "64", "--workers", "2"]);
    for row in &rows {
        assert_eq!((&row["workers"], &row["sas"]), (&2.into(), &u32::from(row["operation"] == "open").saturating_add(1).into()), "{row}");
    }
    assert_eq!(rows.len(), 12);
    let many = self::rows(&["--table", "outbound,inbound,nic-receive", "--bytes", "64", "--workers", "2", "--sas", "50"]);
    assert!(many.len() == 3 && many.iter().all(|row| row["sas"] == 50));
}

#[test]
fn every_suite_of_a_full_run_can_be_measured_everywhere() {
    let suites = "aes-gcm-256,aes-gmac-128,chacha20-poly1305,aes-cbc-128+hmac-sha1-96,aes-cbc-128+hmac-sha-256-128";
    let rows = rows(&["--suite", suites, "--bytes", "9000", "--batch", "1", "--crypto", "aws-lc"]);
    assert_eq!(rows.len(), 5 * 8);
}

#[test]
fn short_packets_have_no_udp_header_and_are_measured_all_the_same() {
    let rows = rows(&["--table", "nic-send,nic-receive,outbound,inbound", "--bytes", "20,27,28", "--sas", "3"]);
    assert_eq!(rows.len(), 12);
}

#[test]
fn a_card_is_measured_only_at_what_it_takes() {
    let engines = "nic-send,nic-receive,outbound,inbound";
    let found: Vec<_> =
        rows(&["--profile", "chelsio-t6", "--table", engines, "--suite", "aes-gcm-256", "--bytes", "64"]).iter().map(|row| names(row, &["table"])).collect();
    assert_eq!(found, [["nic-send"], ["nic-receive"], ["outbound"], ["inbound"]]);
    // No tunnel mode: only what needs no NIC.
    let without = ["--profile", "intel-82599", "--suite", "aes-gcm-128", "--bytes", "64", "--table", "provider,software-out,software-in"];
    assert_eq!(rows(&[&without[..], &["--crypto", "aws-lc"]].concat()).len(), 4);

    let tool = Tool::new();
    tool.write("one.toml", "name = 'one'\n[ipsec-v2]\nencapsulation = ['ieee-802.3']\nesp = true\ntunnel = true\nencryption-algorithms = ['aes-gcm-128']\nsa-offload-capacity = 1\n");
    for (arguments, error) in [
        (
            &["--profile", "intel-82599", "--table", "outbound"][..],
            "the NIC intel-82599 does not take aes-gcm-128 in tunnel mode: Tunnel: yes asked, no supported; without a NIC there are the tables provider, software-out, software-in",
        ),
        (&["--profile", "3com-3cr990", "--quick"], "the NIC 3com-3cr990 does not take aes-gcm-128 in tunnel mode: "),
        (
            &["--profile", "nvidia-connectx-6-dx", "--suite", "aes-gcm-128,chacha20-poly1305"],
            "the NIC nvidia-connectx-6-dx does not take chacha20-poly1305 in tunnel mode: ",
        ),
        (&["--profile", "nvidia-connectx-6-dx", "--suite", "chacha20-poly1305"], "; it takes aes-gcm-128, aes-gcm-256; without a NIC "),
        (&["--profile", "one.toml", "--sas", "2"], "the NIC one holds 1 SAs, 2 were asked for"),
    ] {
        let run = tool.run(&[&["bench"], arguments].concat());
        assert!(run.code == Some(1) && run.stdout.is_empty() && run.stderr.contains(error), "{arguments:?}: {}", run.stderr);
    }
    let run = tool.run(&["bench", "--quick", "--profile", "no-card"]);
    assert!(run.code == Some(2) && run.stderr.starts_with("ipsecov2: no-card: neither a file nor a profile; profiles: software, "), "{}", run.stderr);
}

#[test]
fn tables_for_people_say_what_was_measured_where() {
    let run = Tool::new().run(&["bench", "--table", "nic-send,provider", "--bytes", "64", "--rounds", "1", "--crypto", "aws-lc"]).succeeds();
    let text = run.text();
    for words in [
        " cores, ",
        "medians of 1 rounds of 1ms; NIC and transport by aws-lc\n",
        "\nprovider     suite ",
        "\nseal         aes-gcm-128  aws-lc ",
        "\nnic-send     ",
    ] {
        assert!(text.contains(words), "{words:?}: {text}");
    }
    assert!(!text.contains("\noutbound") && run.stderr.is_empty());
}

#[test]
fn wrong_values_are_named_with_the_right_ones() {
    let tool = Tool::new();
    for (arguments, words) in [
        (
            ["--table", "small-send"],
            &["small-send", "--table", "provider, nic-send, nic-receive, outbound, inbound, software-out, software-in, large-send"][..],
        ),
        (["--suite", "aes-ecb"], &["aes-ecb", "--suite", "aes-gcm-128", "aes-cbc-128+hmac-sha1-96"]),
        (["--bytes", "19"], &["19", "--bytes", "20..=65000"]),
        (["--batch", "1025"], &["1025", "--batch", "1..=1024"]),
        (["--workers", "0"], &["0", "--workers", "1..=64"]),
        (["--sas", "many"], &["many", "--sas"]),
        (["--rounds", "0"], &["0", "--rounds", "1..=1000"]),
        (["--milliseconds", "51"], &["51", "--milliseconds", "1..=50"]),
        (["--crypto", "openssl"], &["openssl", "--crypto", "aws-lc", "rustcrypto"]),
    ] {
        let run = tool.run(&[&["bench"], &arguments[..]].concat());
        assert!(run.code == Some(2) && run.stdout.is_empty() && words.iter().all(|word| run.stderr.contains(word)), "{arguments:?}: {}", run.stderr);
    }
    #[cfg(target_os = "linux")]
    {
        let run = tool.run(&["bench", "--core", "100000"]);
        assert!(run.code == Some(2) && run.stderr.starts_with("ipsecov2: --core 100000: expected one of "), "{}", run.stderr);
    }
}
