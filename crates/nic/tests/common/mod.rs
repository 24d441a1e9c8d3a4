//! What the tests share: SAs, packets under them, an adapter to run them through, and an oracle that seals and opens with another library.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use std::sync::Arc;

use ipsec::{Authentication, EspParameters, EspSa, Provider, RustCrypto, Scratch};
use ndis::{
    AdapterKeywords, AddSaEntry, AesKeySize, Associations, ChecksumSet, DirectOid, DirectOidRequest, Direction, Encapsulation, EncryptionAlgorithm, Endpoints,
    EspAssociation, HeaderTransmit, IpsecSetting, Keyed, Keyword, LaneContext, Miniport, MiniportQueue, NblBatch, NetBufferList, OffloadEncapsulation,
    OffloadHandle, OffloadParameters, Oid, OidRequest, Outcome, RequestId, SaBundle, SaExtension, SetEncapsulation, Status, StatusIndication, TxRx, Upcalls,
};
use nic::{Engine, NicDriver, NicMiniport, NicParameters, SoftwareEngine};
use packet::{Buffer, BufferPool, Frame, FrameBatch, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Repr, Medium, Spi, Time};
use proptest::prelude::{Strategy, any};
use secret::SecretBytes;

pub const SRC4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const DST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const SRC6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const DST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// An ESP SA.
#[derive(Clone, Copy, Debug)]
pub struct Sa {
    pub spi: u32,
    pub ipv6: bool,
    pub key: AesKeySize,
    pub icv: u32,
    pub esn: bool,
    pub high: u32,
    pub iv_mask: u64,
    pub window: Option<u32>,
    pub source: bool,
    pub destination: bool,
}

impl Sa {
    pub const fn new(spi: u32) -> Self {
        Self { spi, ipv6: false, key: AesKeySize::Aes128, icv: 16, esn: false, high: 0, iv_mask: 0, window: Some(64), source: false, destination: true }
    }

    pub const fn v6(self) -> Self {
        Self { ipv6: true, ..self }
    }

    pub const fn esn(self, high: u32) -> Self {
        Self { esn: true, high, ..self }
    }

    pub fn secret(&self) -> SecretBytes {
        SecretBytes::from((0..self.key.bytes() + 4).map(|at| at as u8 ^ self.spi as u8).collect::<Vec<_>>())
    }

    pub fn bundle(&self, direction: Direction) -> SaBundle {
        let (source, destination): (IpAddr, IpAddr) = if self.ipv6 { (SRC6.into(), DST6.into()) } else { (SRC4.into(), DST4.into()) };
        SaBundle {
            direction,
            endpoints: Endpoints { ipv6: self.ipv6, source: self.source.then_some(source), destination: self.destination.then_some(destination) },
            udp_esp: None,
            associations: Associations::Esp(EspAssociation {
                spi: Spi(self.spi),
                extended_sequence_numbers: self.esn,
                sequence_number_high: self.high,
                encryption: Keyed { algorithm: EncryptionAlgorithm::AesGcm(self.key), key: self.secret(), additional_info: self.icv },
                authentication: None,
            }),
            extension: SaExtension { iv_mask: self.iv_mask, replay_window: self.window, ..SaExtension::default() },
        }
    }

    /// The same SA on another cryptographic library.
    pub fn oracle(&self) -> EspSa<RustCrypto> {
        self.on(&RustCrypto)
    }

    pub fn on<P: Provider>(&self, provider: &P) -> EspSa<P> {
        let size = match self.key {
            AesKeySize::Aes128 => ipsec::AesKeySize::Aes128,
            AesKeySize::Aes192 => ipsec::AesKeySize::Aes192,
            AesKeySize::Aes256 => ipsec::AesKeySize::Aes256,
        };
        let parameters = EspParameters {
            encryption: ipsec::Encryption::AesGcm(size),
            encryption_key: &self.secret(),
            icv_length: if self.icv == 0 { 16 } else { self.icv as usize },
            authentication: Authentication::None,
            authentication_key: &SecretBytes::default(),
            allow_unauthenticated: false,
            extended_sequence_numbers: self.esn,
            iv_mask: self.iv_mask,
        };
        EspSa::new(provider, &parameters).unwrap()
    }
}

/// What stands before the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Bare,
    Ethernet,
    Vlan,
    DoubleVlan,
}

impl Link {
    pub const fn medium(self) -> Medium {
        match self {
            Self::Bare => Medium::Ip,
            Self::Ethernet | Self::Vlan | Self::DoubleVlan => Medium::Ethernet,
        }
    }

    pub fn header(self, ipv6: bool) -> Vec<u8> {
        let ethertype: &[u8] = if ipv6 { &[0x86, 0xdd] } else { &[0x08, 0x00] };
        let macs = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match self {
            Self::Bare => Vec::new(),
            Self::Ethernet => [&macs, ethertype].concat(),
            Self::Vlan => [&macs[..], &[0x81, 0, 0, 7], ethertype].concat(),
            Self::DoubleVlan => [&macs[..], &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7], ethertype].concat(),
        }
    }
}

/// An ESP packet that is to be sealed, with what the transport says of it.
#[derive(Clone, Debug)]
pub struct Packet {
    pub bytes: Vec<u8>,
    pub l3: usize,
    pub esp: Range<usize>,
    pub header: HeaderTransmit,
}

/// How packets are made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub link: Link,
    /// IPv4 options, or an IPv6 destination options header.
    pub extras: bool,
    pub next_header: u8,
}

impl Shape {
    pub const BARE: Self = Self { link: Link::Bare, extras: false, next_header: 17 };
}

impl Sa {
    /// A frame with everything but what the NIC fills in (OV2-SEND-8). IV and ICV hold 0xEE.
    pub fn unsealed(&self, shape: Shape, low: u32, payload: &[u8]) -> Packet {
        let esp_sa = self.oracle();
        let esp_len = payload.len() + esp_sa.overhead(payload.len());
        let mut esp = vec![0xEE; esp_len];
        esp[..4].copy_from_slice(&self.spi.to_be_bytes());
        esp[4..8].copy_from_slice(&low.to_be_bytes());
        let text = esp_sa.text(esp_len).unwrap();
        esp[text.start..][..payload.len()].copy_from_slice(payload);
        let trailer = ipsec::write_trailer(&mut esp[text], payload.len(), shape.next_header).unwrap();
        let ip = if self.ipv6 {
            let extension: &[u8] = if shape.extras { &[50, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
            let next = if shape.extras { IpProtocol::DESTINATION_OPTIONS } else { IpProtocol::ESP };
            let mut ip = vec![0; 40];
            Ipv6Repr::new(next, SRC6, DST6, extension.len() + esp_len).emit(&mut ip).unwrap();
            [&ip, extension].concat()
        } else {
            let options: &[u8] = if shape.extras { &[1, 1, 1, 0] } else { &[] };
            let mut ip = vec![0; 20];
            Ipv4Repr::new(IpProtocol::ESP, SRC4, DST4, options.len() + esp_len).emit(&mut ip).unwrap();
            ip.extend_from_slice(options);
            ip[0] = 0x40 | (ip.len() / 4) as u8;
            Ipv4Packet::new(&mut [&ip[..], &esp].concat()).unwrap().fill_checksum();
            ip
        };
        let link = shape.link.header(self.ipv6);
        let esp_at = link.len() + ip.len();
        let header =
            HeaderTransmit { next_header: shape.next_header, pad_length: trailer.pad_length, ah_header_offset: 0, esp_header_offset: (ip.len() / 4) as u8 };
        Packet { l3: link.len(), esp: esp_at..esp_at + esp_len, bytes: [link, ip, esp].concat(), header }
    }

    /// What the packet looks like on the wire, by the oracle.
    pub fn sealed(&self, packet: &Packet, sequence: u64) -> Vec<u8> {
        let mut bytes = packet.bytes.clone();
        let esp_sa = self.oracle();
        let mut jobs = [esp_sa.seal_job(&mut bytes[packet.esp.clone()], sequence).unwrap()];
        RustCrypto.seal(&mut jobs);
        assert!(jobs[0].verdict.is_good());
        bytes
    }

    /// What the wire carries, in clear, by the oracle; `None`: it is not authentic.
    pub fn opened(&self, wire: &[u8], esp: Range<usize>, sequence: u64) -> Option<Vec<u8>> {
        let mut bytes = wire.to_vec();
        let esp_sa = self.oracle();
        let mut jobs = [esp_sa.open_job(&mut bytes[esp], sequence).ok()?];
        RustCrypto.open(&mut jobs, &mut Scratch::new());
        let good = jobs[0].verdict.is_good();
        good.then_some(bytes)
    }
}

impl Packet {
    pub fn list(&self, handle: Option<OffloadHandle>) -> NetBufferList {
        let mut list = NetBufferList::new(Buffer::copy_from(&self.bytes), self.l3 as u16);
        list.oob.set_offload_handle(handle);
        if handle.is_some() {
            list.oob.set_header_transmit(self.header);
        }
        list
    }
}

/// An adapter with one lane.
pub struct Nic<E: Engine = SoftwareEngine> {
    pub driver: NicDriver<E>,
    pub miniport: Arc<NicMiniport<E>>,
    pub queue: Box<dyn MiniportQueue>,
    pub pool: BufferPool,
    pub up: Upcalls,
    next: u64,
}

pub fn software() -> SoftwareEngine {
    SoftwareEngine::new(ipsec::Crypto::default(), 1024).unwrap()
}

/// Any set of checksums.
pub fn checksum_set() -> impl Strategy<Value = ChecksumSet> {
    (any::<[bool; 5]>(), 0_u32..16).prop_map(|([ip_options_supported, tcp_options_supported, tcp_checksum, udp_checksum, ip_checksum], bits)| ChecksumSet {
        encapsulation: Encapsulation::from_bits_truncate(bits),
        ip_options_supported,
        tcp_options_supported,
        tcp_checksum,
        udp_checksum,
        ip_checksum,
    })
}

/// All checksums, in these directions.
pub fn all_sums(setting: TxRx) -> OffloadParameters {
    let mut parameters = OffloadParameters::default();
    for keyword in [Keyword::IpChecksumIpv4, Keyword::TcpChecksumIpv4, Keyword::TcpChecksumIpv6, Keyword::UdpChecksumIpv4, Keyword::UdpChecksumIpv6] {
        assert!(parameters.set(keyword, Some(setting as u32)));
    }
    parameters
}

impl Nic {
    /// A running software NIC with receive offload active.
    pub fn new(link: Link) -> Self {
        let mut nic = Nic::with(NicParameters { medium: link.medium(), ..NicParameters::new("test") }, software);
        nic.activate();
        nic
    }
}

impl<E: Engine> Nic<E> {
    pub fn with(parameters: NicParameters, make: impl Fn() -> E + Send + Sync + 'static) -> Self {
        let driver = NicDriver::new(parameters, make);
        // Tests that are about checksums switch them on.
        let keywords =
            [Keyword::TcpUdpChecksumIpv4, Keyword::TcpUdpChecksumIpv6].into_iter().fold(AdapterKeywords::defaults("test"), |all, one| all.with(one, 0));
        let (miniport, _) = driver.start(&keywords);
        let queue = miniport.open_queue();
        Self { driver, miniport: Arc::new(miniport), queue, pool: BufferPool::new(), up: Upcalls::default(), next: 1000 }
    }

    pub fn set(&mut self, body: Oid) -> Status {
        self.miniport.oid_request(&mut OidRequest { id: RequestId(0), body }, &mut self.up)
    }

    pub fn set_encapsulation(&mut self, ipv4: SetEncapsulation, ipv6: SetEncapsulation) -> Status {
        self.set(Oid::SetEncapsulation(OffloadEncapsulation { ipv4, ipv6 }))
    }

    /// For engines that do bare IP only.
    pub fn activate_null(&mut self) {
        let on = SetEncapsulation::On { encapsulation: Encapsulation::NULL, header_size: 0 };
        assert_eq!(self.set_encapsulation(on, on), Status::SUCCESS);
        self.indications();
    }

    pub fn activate(&mut self) {
        assert_eq!(self.set_encapsulation(ON, ON), Status::SUCCESS);
    }

    pub fn set_ipsec(&mut self, setting: IpsecSetting) {
        assert_eq!(self.set(Oid::SetParameters(OffloadParameters::ipsec_v2_setting(setting))), Status::SUCCESS);
    }

    pub fn direct(&mut self, body: DirectOid) -> Outcome {
        self.next += 1;
        self.miniport.direct_oid_request(DirectOidRequest { id: RequestId(self.next), body })
    }

    /// A direct request that is done at once.
    pub fn done(&mut self, body: DirectOid) -> (Status, DirectOid) {
        match self.direct(body) {
            Outcome::Done(status, request) => (status, request.body),
            Outcome::Pending => panic!("pending"),
        }
    }

    pub fn try_add(&mut self, bundle: SaBundle) -> Result<OffloadHandle, Status> {
        let (status, body) = self.done(DirectOid::AddSaEx(Box::new(AddSaEntry::new(bundle))));
        let DirectOid::AddSaEx(entry) = body else { panic!("{body:?}") };
        assert_eq!(entry.handle.is_some(), status.is_success());
        assert_eq!(entry.status, status);
        entry.handle.ok_or(status)
    }

    pub fn add(&mut self, sa: &Sa, direction: Direction) -> OffloadHandle {
        self.try_add(sa.bundle(direction)).unwrap()
    }

    pub fn delete(&mut self, handle: OffloadHandle) {
        let (status, _) = self.done(DirectOid::DeleteSa(vec![handle.to_bits()]));
        assert_eq!(status, Status::SUCCESS);
    }

    pub fn send(&mut self, mut batch: NblBatch) -> (NblBatch, FrameBatch) {
        let (mut done, mut wire) = (NblBatch::new(), FrameBatch::new());
        self.queue.send(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut batch, &mut done, &mut wire);
        assert!(batch.is_empty());
        (done, wire)
    }

    /// Sends one list, and returns it with what got to the wire.
    pub fn send_one(&mut self, list: NetBufferList) -> (NetBufferList, Vec<Vec<u8>>) {
        let (mut done, wire) = self.send(vec![list]);
        assert_eq!(done.len(), 1);
        (done.remove(0), wire.iter().map(|frame| frame.buffer.as_slice().to_vec()).collect())
    }

    pub fn receive(&mut self, frames: &[Vec<u8>]) -> NblBatch {
        let mut frames: FrameBatch = frames.iter().map(|bytes| Frame::new(Buffer::copy_from(bytes))).collect();
        let mut up = NblBatch::new();
        self.queue.receive(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut frames, &mut up);
        assert!(frames.is_empty());
        up
    }

    pub fn receive_one(&mut self, frame: &[u8]) -> NetBufferList {
        let mut up = self.receive(&[frame.to_vec()]);
        assert_eq!(up.len(), 1);
        up.remove(0)
    }

    pub fn poll(&mut self) {
        self.miniport.poll_control(&mut self.up);
    }

    pub fn completions(&mut self) -> Vec<(Status, DirectOidRequest)> {
        self.poll();
        std::mem::take(&mut self.up.direct_completions)
    }

    pub fn indications(&mut self) -> Vec<StatusIndication> {
        self.poll();
        std::mem::take(&mut self.up.indications)
    }

    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.driver.counters();
        let value = counters.iter().find(|(found, _)| *found == name).map(|(_, value)| value);
        value.unwrap_or_else(|| panic!("no counter {name}"))
    }
}

pub const ON: SetEncapsulation = SetEncapsulation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: 14 };
