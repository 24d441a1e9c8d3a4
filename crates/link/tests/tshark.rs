//! tshark as a second reader of what this crate reads and writes. Where it is not installed these tests say so and pass, unless `IPSECOV2_PEERS` is
//! `required`.

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use common::{captures, read_whole, testdata};
use link::capture::{CaptureFormat, CaptureInterface, CaptureOptions, CaptureWriter, EspAuthentication, EspEncryption, EspSecret, PacketToWrite, Secrets};
use packet::{Medium, Spi, Time};
use secret::SecretBytes;

fn tshark(test: &str) -> bool {
    let installed = Command::new("tshark").arg("--version").output().is_ok();
    if !installed {
        assert!(std::env::var_os("IPSECOV2_PEERS").is_none_or(|value| value != "required"), "tshark is not installed");
        // Not by `println!`, whose text the test runner keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: tshark is not installed");
    }
    installed
}

/// The values of `fields` of each packet, divided by tabs.
fn fields(path: &Path, options: &[String], fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(path).args(["-T", "fields", "-E", "separator=/t"]);
    command.args(fields.iter().flat_map(|field| ["-e", field])).args(options.iter().flat_map(|option| ["-o", option]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The same packets, times, lengths and comments in every capture, those included that this crate writes.
#[test]
fn tshark_reads_the_same() {
    if !tshark("tshark_reads_the_same") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut files = captures();
    for (name, format) in [("again.pcap", CaptureFormat::Pcap), ("again.pcapng", CaptureFormat::Pcapng)] {
        files.push(directory.path().join(name));
        common::rewrite(&std::fs::read(testdata("small-truncated.pcap")).unwrap(), files.last().unwrap(), format);
    }
    for path in files {
        let packets = read_whole(&std::fs::read(&path).unwrap());
        let lines = fields(&path, &[], &["frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment"]);
        assert_eq!(lines.len(), packets.len(), "{}", path.display());
        for (line, packet) in lines.iter().zip(&packets) {
            let mut fields = line.split('\t');
            let nanos = fields.next().unwrap().replace('.', "");
            assert_eq!(nanos.parse().unwrap_or(0), packet.timestamp.as_nanos(), "{}: {line}", path.display());
            assert_eq!(fields.next().unwrap().parse(), Ok(packet.original_length), "{line}");
            assert_eq!(fields.next().unwrap().parse(), Ok(packet.data.len()), "{line}");
            assert_eq!(fields.next().unwrap_or_default(), packet.comments.join(",").replace('\n', "\\n"), "{line}");
        }
    }
}

/// Pings of scapy in tunnel mode: AES-GCM with the key 00 to 0f and the salt 10 to 13, and AES-CBC with the same key and HMAC-SHA-256 with 00 to 1f.
const PINGS: [&str; 2] = [
    "45000058000100004032f66fc0000201c000020200001001000000010000000000000000248678124b6772a88683bee1ef2ee9c9a6772b8948c9b1cf113980e582b06c15d8\
     4fe9eb0097682eaaec83552f4873d075d9d24b",
    "4500006c000200004032f65ac0000201c000020200001002000000010000000000000000000000000000000081672b623608bdcf0f68868cab6a7ac97e2f53fed60ea63848\
     24f3c3a2b02dca7de2560f0515ee24e82ae02025787d1f260c1714b4b9308114a3e2502b9d556a",
];

fn secret(spi: u32, encryption: EspEncryption, key_length: u8, authentication: EspAuthentication) -> EspSecret {
    EspSecret {
        source: None,
        destination: "192.0.2.2".parse().unwrap(),
        spi: Spi(spi),
        encryption,
        encryption_key: SecretBytes::from((0..key_length).collect::<Vec<_>>()),
        authentication,
        authentication_key: SecretBytes::from((0..if authentication == EspAuthentication::Null { 0 } else { 32 }).collect::<Vec<_>>()),
        sequence_number_high: None,
    }
}

/// Preferences out of the text of the secrets block. (tshark 4.0 warns that it does not know the last two columns, and does without.)
fn preferences(secrets: &Secrets) -> Vec<String> {
    let data = secrets.data();
    let lines = core::str::from_utf8(data.expose()).unwrap().lines().map(|line| format!("uat:esp_sa:{line}"));
    ["esp.enable_encryption_decode:TRUE", "esp.enable_authentication_check:TRUE"].map(str::to_owned).into_iter().chain(lines).collect()
}

/// tshark 4.0 is too old to take keys from the secrets block. It reads the file all the same, and takes the block's lines as preferences.
#[test]
fn tshark_decrypts_with_the_lines_of_the_secrets_block() {
    if !tshark("tshark_decrypts_with_the_lines_of_the_secrets_block") {
        return;
    }
    let secrets = || {
        let cbc = secret(0x1002, EspEncryption::AesCbc, 16, EspAuthentication::HmacSha256_128);
        Secrets::Esp(vec![secret(0x1001, EspEncryption::AesGcm16, 20, EspAuthentication::Null), cbc])
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.pcapng");
    let options = CaptureOptions { secrets: Some(secrets()), ..CaptureOptions::new(CaptureFormat::Pcapng) };
    let mut writer = CaptureWriter::create(&path, &options).unwrap();
    let interface = writer.add_interface(&CaptureInterface::new(Medium::Ip)).unwrap();
    for ping in PINGS {
        let ping = SecretBytes::from_hex(ping).unwrap();
        let packet = PacketToWrite { interface, timestamp: Time::ZERO, data: ping.expose(), original_length: 0, comments: &[], direction: None };
        writer.write_packet(&packet).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(fields(&path, &preferences(&secrets()), &["esp.icv_good", "icmp.seq"]), ["1\t3", "1\t4"]);

    // All names that it can know are right: an unknown one would be refused.
    let mut all = Vec::new();
    for encryption in [
        EspEncryption::Null,
        EspEncryption::DesCbc,
        EspEncryption::TripleDesCbc,
        EspEncryption::AesCbc,
        EspEncryption::AesGcm8,
        EspEncryption::AesGcm12,
        EspEncryption::AesGcm16,
    ] {
        all.push(secret(1, encryption, 8, EspAuthentication::Null));
    }
    for authentication in [
        EspAuthentication::HmacMd5_96,
        EspAuthentication::HmacSha1_96,
        EspAuthentication::HmacSha256_128,
        EspAuthentication::HmacSha384_192,
        EspAuthentication::HmacSha512_256,
        EspAuthentication::Unchecked96,
        EspAuthentication::Unchecked128,
    ] {
        all.push(secret(2, EspEncryption::Null, 0, authentication));
    }
    assert_eq!(fields(&path, &preferences(&Secrets::Esp(all)), &["frame.number"]), ["1", "2"]);
}
