//! Two hosts wired in memory, with virtual time and a wire that is looked at.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::collections::HashSet;
use std::time::Duration;

use ipsec::Encryption;
use ipsecov2::host::{Host, HostConfig};
use ndis::Direction;
use packet::{Frame, FrameBatch, IpAddress, IpProtocol, Ipv4Repr, Medium, Spi, Time};
use secret::SecretBytes;
use transport::{AssociationParameters, InboundBatch, Limits, Mode, SaParameters};

/// What both SAs of a connection share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub mode: Mode,
    pub a: IpAddress,
    pub b: IpAddress,
    pub encryption: Encryption,
    pub icv_length: u8,
    pub esn: bool,
    pub sequence: u64,
    pub replay_window: u32,
    pub soft: Limits,
    pub hard: Limits,
}

pub(crate) fn tunnel_v4() -> Connection {
    Connection {
        mode: Mode::Tunnel,
        a: "192.0.2.1".parse().unwrap(),
        b: "192.0.2.2".parse().unwrap(),
        encryption: Encryption::AesGcm(ipsec::AesKeySize::Aes128),
        icv_length: 16,
        esn: false,
        sequence: 0,
        replay_window: 64,
        soft: Limits::NONE,
        hard: Limits::NONE,
    }
}

pub(crate) fn key(encryption: Encryption, seed: u8) -> SecretBytes {
    (0..encryption.key_length()).map(|i| (i as u8).wrapping_mul(7).wrapping_add(seed)).collect::<Vec<u8>>().into()
}

impl Connection {
    /// The parameters of one SA: `from_a` says which way its packets go.
    pub(crate) fn parameters(&self, direction: Direction, from_a: bool) -> SaParameters {
        let (source, destination) = if from_a { (self.a, self.b) } else { (self.b, self.a) };
        let seed = if from_a { 1 } else { 2 };
        // Outbound: the number used last; inbound: the high half of the one that comes first.
        let high = if direction == Direction::Outbound { self.sequence } else { self.sequence + 1 } >> 32;
        SaParameters {
            replay_window: self.replay_window,
            iv_mask: 0x5eed << seed,
            soft_limits: self.soft,
            hard_limits: self.hard,
            ..SaParameters::new(
                format!("{}-{}", if from_a { "a-to-b" } else { "b-to-a" }, if direction == Direction::Inbound { "in" } else { "out" }),
                direction,
                self.mode,
                (source, destination),
                vec![AssociationParameters {
                    icv_length: self.icv_length,
                    extended_sequence_numbers: self.esn,
                    sequence_number_high: high as u32,
                    sequence_number: self.sequence as u32,
                    ..AssociationParameters::esp(Spi(0x1000 + u32::from(seed)), self.encryption, key(self.encryption, seed))
                }],
            )
        }
    }
}

/// Two hosts, and the wire between them.
pub(crate) struct Pair {
    pub a: Host,
    pub b: Host,
    pub now: Time,
    pub wire: FrameBatch,
    /// Every (SPI, IV) that was on the wire: none may come twice (OV2-SEND-7).
    pub ivs: HashSet<([u8; 4], [u8; 8])>,
    next: u32,
    pub clear_text: Vec<Vec<u8>>,
}

/// What every clear text of these tests has in it.
pub(crate) const CANARY: &[u8] = b"this is clear text and must not be seen on the wire";

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(&HostConfig { medium: Medium::Ip, ..HostConfig::default() })
    }

    pub(crate) fn with(config: &HostConfig) -> Self {
        let host = || Host::new(config).unwrap();
        Self { a: host(), b: host(), now: Time::from_nanos(1), wire: vec![], ivs: HashSet::new(), next: 0, clear_text: vec![] }
    }

    /// Adds the four SAs of a connection.
    pub(crate) fn connect(&mut self, connection: Connection) {
        for from_a in [true, false] {
            self.a.add_sa(connection.parameters(if from_a { Direction::Outbound } else { Direction::Inbound }, from_a), self.now).unwrap();
            self.b.add_sa(connection.parameters(if from_a { Direction::Inbound } else { Direction::Outbound }, from_a), self.now).unwrap();
        }
        self.service();
    }

    pub(crate) fn service(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.a.service(self.now, &mut self.wire);
        self.b.service(self.now, &mut self.wire);
    }

    /// A packet that no other is equal to.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        self.next += 1;
        let length = CANARY.len() + 4 + (self.next as usize * 7) % 900;
        let mut packet = vec![0; 20 + length];
        Ipv4Repr::new(IpProtocol(253), "10.0.1.1".parse().unwrap(), "10.0.2.1".parse().unwrap(), length).emit(&mut packet).unwrap();
        packet[20..24].copy_from_slice(&self.next.to_be_bytes());
        packet[24..24 + CANARY.len()].copy_from_slice(CANARY);
        for (i, byte) in packet[24 + CANARY.len()..].iter_mut().enumerate() {
            *byte = i as u8;
        }
        packet
    }

    /// Sends `count` packets from a, and leaves what they became in `wire`, looked at.
    pub(crate) fn send(&mut self, count: usize) -> Vec<Vec<u8>> {
        let packets: Vec<_> = (0..count).map(|_| self.packet()).collect();
        let mut frames: FrameBatch = packets.iter().map(|packet| Frame::new(self.a.pool().copy_from(packet))).collect();
        let mut wire = FrameBatch::new();
        self.a.send(self.now, &mut frames, &mut wire);
        assert!(frames.is_empty());
        self.wire.append(&mut wire);
        packets
    }

    /// Looks at what is on the wire: no clear text, no IV twice.
    pub(crate) fn inspect(&mut self) {
        for frame in &self.wire {
            let bytes = frame.buffer.as_slice();
            assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY), "clear text on the wire");
            let esp = if bytes[0] >> 4 == 4 { 20 } else { 40 };
            let spi = bytes[esp..esp + 4].try_into().unwrap();
            let iv = bytes[esp + 8..esp + 16].try_into().unwrap();
            assert!(self.ivs.insert((spi, iv)), "IV {iv:02x?} of SPI {spi:02x?} twice");
        }
    }

    /// Lets b take what is on the wire, and returns what it delivers.
    pub(crate) fn receive(&mut self) -> Vec<Vec<u8>> {
        self.inspect();
        let mut out = InboundBatch { report: true, ..InboundBatch::default() };
        let mut wire = core::mem::take(&mut self.wire);
        self.b.receive(self.now, &mut wire, &mut out);
        assert!(out.passed.is_empty());
        out.delivered.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect()
    }

    /// Sends packets and wants them back as they were.
    pub(crate) fn exchange(&mut self, count: usize) {
        let sent = self.send(count);
        let delivered = self.receive();
        assert_eq!(sent.len(), delivered.len());
        for (number, (sent, delivered)) in sent.iter().zip(&delivered).enumerate() {
            assert_eq!(sent, delivered, "packet {number}");
        }
    }
}
