//! Running the program, and making and reading what it works on.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ipsec::{Authentication, Crypto, EspParameters, EspSa, Provider as _};
use link::capture::{CaptureFormat, CaptureInterface, CaptureOptions, CaptureReader, CaptureWriter, PacketToWrite};
use packet::{BufferPool, IpProtocol, Ipv4Repr, Medium, Time};
use secret::SecretBytes;
use serde_json::Value;

use crate::every_card::same_under_every_card;

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) time: Time,
    pub(crate) medium: Medium,
    pub(crate) bytes: Vec<u8>,
    /// Bytes that the snap length cut off.
    pub(crate) cut: usize,
}

impl Packet {
    pub(crate) fn raw(bytes: Vec<u8>) -> Self {
        Self { time: Time::ZERO, medium: Medium::Ip, bytes, cut: 0 }
    }

    /// Offset of the IP header; `None` for what is not IP.
    pub(crate) fn ip(&self) -> Option<usize> {
        match self.medium {
            Medium::Ip => Some(0),
            Medium::Ethernet => {
                let frame = packet::EthernetFrame::new(self.bytes.as_slice()).ok()?;
                frame.ethertype()?.ip_version().map(|_| frame.l3_offset())
            }
        }
    }
}

/// A directory of its own, and the program in it.
pub(crate) struct Tool {
    directory: tempfile::TempDir,
}

impl Tool {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipsecov2"));
        command.current_dir(self.directory.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the program; captures come out the same under every NIC profile.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let run = Run::of(self.command(arguments).output().unwrap(), arguments);
        same_under_every_card(self, arguments, &run);
        run
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut child = self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Run::of(output, arguments)
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn write_capture(&self, name: &str, packets: &[Packet]) {
        let options = CaptureOptions::new(CaptureFormat::from_path(Path::new(name)));
        let mut writer = CaptureWriter::new(Vec::new(), name, &options).unwrap();
        let mut interfaces = Vec::new();
        for packet in packets {
            let there = interfaces.iter().find(|(medium, _)| *medium == packet.medium).map(|(_, interface)| *interface);
            let interface = there.unwrap_or_else(|| {
                let interface = writer.add_interface(&CaptureInterface::new(packet.medium)).unwrap();
                interfaces.push((packet.medium, interface));
                interface
            });
            let original_length = (packet.bytes.len() + packet.cut) as u32;
            let packet = PacketToWrite { interface, timestamp: packet.time, data: &packet.bytes, original_length, comments: &[], direction: None };
            writer.write_packet(&packet).unwrap();
        }
        self.write(name, writer.into_inner().unwrap());
    }

    pub(crate) fn capture(&self, name: &str) -> Vec<Packet> {
        capture(&self.path(name))
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        lines(&self.read(name))
    }
}

pub(crate) fn lines(text: &[u8]) -> Vec<Value> {
    String::from_utf8(text.to_vec()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The packets of a capture without link headers other than Ethernet's.
pub(crate) fn capture(path: &Path) -> Vec<Packet> {
    packets_of(&fs::read(path).unwrap())
}

pub(crate) fn packets_of(file: &[u8]) -> Vec<Packet> {
    let (mut reader, mut pool) = (CaptureReader::new(file, "capture").unwrap(), BufferPool::new());
    let mut packets = Vec::new();
    while let Some(captured) = reader.next_frame(&mut pool).unwrap() {
        let bytes = captured.frame.buffer.as_slice().to_vec();
        let cut = captured.original_length as usize - bytes.len();
        packets.push(Packet { time: captured.frame.timestamp, medium: captured.medium, bytes, cut });
    }
    packets
}

/// A file of the project's test data.
pub(crate) fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

/// How a run ended.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    what: String,
}

impl Run {
    fn of(output: Output, arguments: &[&str]) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
            what: format!("ipsecov2 {}", arguments.join(" ")),
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}: {}", self.what, self.stderr);
        self
    }

    /// Ends with this code, and this as all that standard error gets.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, message: &str) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(code), message), "{}", self.what);
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

/// Key of the SAs here.
pub(crate) const KEY: &str = "000102030405060708090a0b0c0d0e0f10111213";

/// One `[[sa]]` with AES-128-GCM; `more` are lines of the bundle, `esp` lines of the association.
pub(crate) fn sa(name: &str, direction: &str, mode: &str, ends: (&str, &str), spi: u32, more: &str, esp: &str) -> String {
    let (source, destination) = ends;
    format!(
        "[[sa]]\nname = \"{name}\"\ndirection = \"{direction}\"\nmode = \"{mode}\"\nsource = \"{source}\"\ndestination = \"{destination}\"\n{more}\n\
         [[sa.association]]\noperation = \"esp\"\nspi = {spi:#010x}\nencryption = \"aes-gcm-128\"\nencryption-key = \"{KEY}\"\n{esp}\n"
    )
}

/// The same SAs from the side of their receiver: the numbers that the first packet has.
pub(crate) fn inbound(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("sequence-number = "));
    lines.map(|line| line.replace("\"outbound\"", "\"inbound\"") + "\n").collect()
}

/// Makes ESP packets that no honest sender would.
pub(crate) struct Sealer {
    sa: EspSa<Crypto>,
    spi: u32,
}

impl Sealer {
    pub(crate) fn new(spi: u32) -> Self {
        let parameters = EspParameters {
            encryption: "aes-gcm-128".parse().unwrap(),
            encryption_key: &SecretBytes::from_hex(KEY).unwrap(),
            icv_length: 16,
            authentication: Authentication::None,
            authentication_key: &SecretBytes::default(),
            allow_unauthenticated: false,
            extended_sequence_numbers: false,
            iv_mask: 0,
        };
        Self { sa: EspSa::new(&Crypto::default(), &parameters).unwrap(), spi }
    }

    /// An IPv4 packet from 192.0.2.1 to 192.0.2.2 with ESP around `text`, which ends in a trailer or not.
    pub(crate) fn packet(&self, sequence: u32, text: &[u8]) -> Vec<u8> {
        let mut esp = vec![0; 8 + 8 + text.len() + 16];
        esp[..4].copy_from_slice(&self.spi.to_be_bytes());
        esp[4..8].copy_from_slice(&sequence.to_be_bytes());
        esp[16..16 + text.len()].copy_from_slice(text);
        let mut jobs = [self.sa.seal_job(&mut esp, u64::from(sequence)).unwrap()];
        Crypto::default().seal(&mut jobs);
        assert!(jobs[0].verdict.is_good());
        ipv4("192.0.2.1", "192.0.2.2", IpProtocol::ESP, &esp)
    }

    /// The same with a trailer made for it.
    pub(crate) fn sealed(&self, sequence: u32, payload: &[u8], next_header: IpProtocol) -> Vec<u8> {
        let padding = (4 - (payload.len() + 2) % 4) % 4;
        let mut text = payload.to_vec();
        text.extend((1..=padding as u8).chain([padding as u8, next_header.0]));
        self.packet(sequence, &text)
    }
}

pub(crate) fn ipv4(source: &str, destination: &str, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20 + payload.len()];
    Ipv4Repr::new(protocol, source.parse().unwrap(), destination.parse().unwrap(), payload.len()).emit(&mut packet).unwrap();
    packet[20..].copy_from_slice(payload);
    packet
}

/// A UDP packet over IPv4 with some bytes in it.
pub(crate) fn udp(source: &str, destination: &str, length: usize) -> Vec<u8> {
    let mut payload = vec![0x13, 0x88, 0x00, 0x35, 0, 0, 0, 0];
    payload.extend((0..length).map(|i| i as u8));
    let total = payload.len() as u16;
    payload[4..6].copy_from_slice(&total.to_be_bytes());
    ipv4(source, destination, IpProtocol::UDP, &payload)
}
