//! Arguments, exit codes, help.

use crate::tool::{Packet, Tool, sa, testdata, udp};

fn tool() -> Tool {
    let tool = Tool::new();
    tool.write("sa.toml", sa("a", "outbound", "tunnel", ("192.0.2.1", "192.0.2.2"), 0x1001, "", ""));
    tool.write_capture("in.pcap", &[Packet::raw(udp("10.0.1.1", "10.0.2.1", 7))]);
    tool
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let tool = tool();
    for arguments in [
        &[][..],
        &["fly"],
        &["pcap"],
        &["pcap", "protect"],
        &["pcap", "protect", "in.pcap", "out.pcap"],
        &["pcap", "protect", "--sa", "sa.toml", "in.pcap"],
        &["pcap", "protect", "--sa", "sa.toml", "in.pcap", "out.pcap", "more"],
        &["pcap", "protect", "--sa", "sa.toml", "--batch", "0", "in.pcap", "out.pcap"],
        &["pcap", "protect", "--sa", "sa.toml", "--iv-seed", "xy", "in.pcap", "out.pcap"],
        &["pcap", "protect", "--sa", "sa.toml", "--iv-seed", "", "in.pcap", "out.pcap"],
        &["pcap", "protect", "--sa", "sa.toml", "--iv-seed", &"00".repeat(33), "in.pcap", "out.pcap"],
        &["pcap", "open", "--sa", "sa.toml", "--replay-window", "65537", "in.pcap", "out.pcap"],
        &["pcap", "open", "--sa", "sa.toml", "--decryption-secrets", "in.pcap", "out.pcap"],
        &["--crypto", "none", "caps"],
    ] {
        let run = tool.run(arguments);
        assert_eq!((run.code, run.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(!run.stderr.is_empty());
    }
    assert!(!tool.path("out.pcap").exists());
}

#[test]
fn no_file_and_no_stream_is_used_twice() {
    let tool = tool();
    std::fs::hard_link(tool.path("in.pcap"), tool.path("hard.pcap")).unwrap();
    let before = tool.read("in.pcap");
    for (arguments, message) in [
        (&["in.pcap", "in.pcap"][..], "in.pcap: OUT and IN are the same file"),
        (&["in.pcap", "./in.pcap"], "./in.pcap: OUT and IN are the same file"),
        (&["in.pcap", "hard.pcap"], "hard.pcap: OUT and IN are the same file"),
        (&["in.pcap", "sa.toml"], "sa.toml: OUT and the SA file are the same file"),
        (&["--report", "in.pcap", "in.pcap", "out.pcap"], "in.pcap: the report and IN are the same file"),
        (&["--report", "out.pcap", "in.pcap", "out.pcap"], "out.pcap: the report and OUT are the same file"),
        (&["--json", "in.pcap", "-"], "OUT and --json cannot both go to standard output"),
        (&["--report", "-", "in.pcap", "-"], "OUT and the report cannot both go to standard output"),
        (&["--report", "-", "--json", "in.pcap", "out.pcap"], "--json and the report cannot both go to standard output"),
    ] {
        tool.run(&[&["pcap", "open", "--sa", "sa.toml"], arguments].concat()).fails(2, &format!("ipsecov2: {message}\n"));
    }
    tool.run(&["pcap", "protect", "--sa", "sa.toml", "in.pcap", "in.pcap"]).fails(2, "ipsecov2: in.pcap: OUT and IN are the same file\n");
    tool.run(&["pcap", "open", "--sa", "-", "-", "out.pcap"]).fails(2, "ipsecov2: IN and the SA file cannot both be standard input\n");
    assert_eq!(tool.read("in.pcap"), before);
}

/// Equal paths are refused whatever is there: a pipe would give out what was put in. Only where everything goes away two outputs may go.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_not_used_twice() {
    let tool = tool();
    assert!(std::process::Command::new("mkfifo").arg(tool.path("pipe")).status().unwrap().success());
    std::os::unix::fs::symlink(tool.path("pipe"), tool.path("other")).unwrap();
    for (arguments, message) in [
        (&["pipe", "pipe"][..], "pipe: OUT and IN are the same file"),
        (&["pipe", "./pipe"], "./pipe: OUT and IN are the same file"),
        (&["pipe", "other"], "other: OUT and IN are the same file"),
        (&["missing", "missing"], "missing: OUT and IN are the same file"),
        (&["/dev/null", "/dev/null"], "/dev/null: OUT and IN are the same file"),
        (&["--report", "other", "in.pcap", "pipe"], "other: the report and OUT are the same file"),
        (&["--report", "pipe", "pipe", "out.pcap"], "pipe: the report and IN are the same file"),
    ] {
        tool.run(&[&["pcap", "open", "--sa", "sa.toml"], arguments].concat()).fails(2, &format!("ipsecov2: {message}\n"));
    }
    tool.run(&["pcap", "open", "--sa", "sa.toml", "--report", "/dev/null", "in.pcap", "/dev/null"]).succeeds();
}

#[test]
fn a_capture_that_cannot_be_read_is_exit_code_1_and_leaves_no_output() {
    let tool = tool();
    tool.write("out.pcap", "what was there before");
    tool.write("report", "an older report");
    let mut whole = std::fs::read(testdata("small-raw.pcap")).unwrap();
    // A link type that nobody understands, in the header of the file: of all its packets.
    whole[20..22].copy_from_slice(&147_u16.to_le_bytes());
    tool.write("other.pcap", &whole);
    tool.write("text.pcap", "this is no capture");
    tool.write("empty.pcap", "");
    for arguments in [&["protect"][..], &["open", "--report", "report"]] {
        for name in ["missing.pcap", "other.pcap", "text.pcap", "empty.pcap"] {
            let run = tool.run(&[&["pcap"], arguments, &["--sa", "sa.toml", name, "out.pcap"]].concat());
            let last = run.stderr.lines().last().unwrap();
            assert!(run.code == Some(1) && last.starts_with(&format!("ipsecov2: {name}: ")), "{arguments:?} {name}: {}", run.stderr);
        }
        let command = arguments[0];
        let run = tool.run(&["pcap", command, "--sa", "sa.toml", "in.pcap", "missing/out.pcap"]);
        assert!(run.code == Some(1) && run.stderr.contains("missing/out.pcap: "), "{}", run.stderr);
    }
    let run = tool.run(&["pcap", "open", "--sa", "sa.toml", "--report", "missing/report", "in.pcap", "out.pcap"]);
    assert!(run.code == Some(1) && run.stderr.contains("missing/report: cannot write: "), "{}", run.stderr);
    assert_eq!(tool.read("out.pcap"), b"what was there before");
    assert_eq!(tool.read("report"), b"an older report");
    assert!(!std::fs::read_dir(tool.path("")).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(".part")));
}

#[test]
fn help_has_examples_everywhere_and_says_what_sa_files_are_not_for() {
    let tool = tool();
    for command in [&[][..], &["demo"], &["pcap"], &["pcap", "protect"], &["pcap", "open"], &["caps"], &["bench"]] {
        for flag in ["--help", "-h"] {
            let run = tool.run(&[command, &[flag]].concat()).succeeds();
            let text = run.text();
            assert!(text.contains("Usage: ipsecov2") && text.contains("Examples:\n  ipsecov2 ") && run.stderr.is_empty(), "{command:?}: {text}");
        }
    }
    let text = tool.run(&["--help"]).text();
    for word in ["demo", "pcap", "caps", "--crypto", "mbcrypto", "aws-lc", "rustcrypto", "Exit codes: 0 success, 1 failure, 2 wrong usage."] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let text = tool.run(&["pcap", "protect", "--help"]).text();
    for word in
        ["<IN> <OUT>", "--sa <SAFILE>", "--bypass", "--iv-seed <HEX>", "--decryption-secrets", "--batch <N>", "SA files are for captures, not for traffic"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    let text = tool.run(&["pcap", "open", "--help"]).text();
    for word in ["<IN> <OUT>", "--sa <SAFILE>", "--replay-window <N|off>", "--report <FILE>", "--json"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(tool.run(&["--version"]).succeeds().text(), format!("ipsecov2 {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn counts_are_for_people_unless_json_is_asked_for() {
    let tool = tool();
    let run = tool.run(&["pcap", "protect", "--sa", "sa.toml", "in.pcap", "out.pcap"]).succeeds();
    assert_eq!(
        (run.text().as_str(), run.stderr.as_str()),
        (
            "",
            "1 packets read, 1 written\n  protected        1  (1 by the NIC, 0 in software)\n  in clear         0\n  dropped          0\n\
             SA \"a\" 0x00001001: 1 packets, 35 bytes, sequence number 1, offloaded\n"
        )
    );
    let run = tool.run(&["pcap", "protect", "--sa", "sa.toml", "--json", "in.pcap", "out.pcap"]).succeeds();
    assert!(run.stderr.is_empty() && run.json()["schema"] == "ipsecov2-pcap-protect-1");
}
