//! What the contract costs: the NIC's engines and the whole way of a packet, against the bare cryptography in the same run (docs/performance.md).
//!
//! AES-128-GCM in tunnel mode over IPv4 and Ethernet, one SA, one lane, batches of 64. All ways take turns, round after round, so that whatever else the
//! machine does meets all of them; every round compares each way with the raw one of the same round, and the medians over the rounds are printed. Only the
//! work itself is timed, batch by batch: packets are refilled in between.
//!
//! `cargo bench -p ipsecov2 --bench datapath -- [--rounds N] [--only NAME] [--check]`: `--only` measures the raw ways and those that have NAME in their
//! names (for a profiler), with `--check` a target that is missed is a failure.

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipsec::{Authentication, BATCH, Crypto, EspParameters, EspSa, OpenBatch, Provider, Scratch, SealBatch};
use ipsecov2::host::{Host, HostConfig};
use ndis::{
    AddSaEntry, BindParameters, Binding, Datapath, DirectAnswer, DirectOid, DirectOidRequest, Direction, Encapsulation, HeaderTransmit, IpsecSetting,
    LaneContext, MemoryRegistry, MiniportDriver, NblBatch, NetBufferList, OffloadEncapsulation, OffloadHandle, OffloadParameters, Operation, Protocol,
    SaBundle, SetEncapsulation, Stack, Status, StatusIndication,
};
use nic::{NicDriver, NicParameters, SoftwareEngine};
use packet::{Buffer, BufferPool, Frame, FrameBatch, IpProtocol, Ipv4Repr, Medium, Spi, Time};
use secret::SecretBytes;
use transport::{AssociationParameters, InboundBatch, Limits, Mode, OffloadPolicy, SaParameters};

/// Bytes of inner packets.
const SIZES: [usize; 2] = [64, 1420];
/// Batches that a way does in a row, before the next way has its turn.
const TURN: usize = 40;
const KEY: [u8; 20] = *b"sixteen byte key and";
const ICV: usize = 16;
const SPI: u32 = 0x1001;
const LINK: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
/// Length of the outer IP header.
const OUTER: usize = 20;

fn main() -> ExitCode {
    let mut rounds = 101;
    let (mut check, mut only) = (false, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => match arguments.next().and_then(|number| number.parse().ok()) {
                Some(number) if number > 0 => rounds = number,
                _ => return usage(),
            },
            "--only" => only = arguments.next().unwrap_or_default(),
            "--check" => check = true,
            // Cargo says so.
            "--bench" => {}
            _ => return usage(),
        }
    }
    println!("{}", machine());
    println!("AES-128-GCM, ICV {ICV}, IPv4 tunnel over Ethernet, one SA, batches of {BATCH}; medians of {rounds} rounds of {TURN} batches\n");
    println!("{:<28} {:>5} {:>11} {:>8} {:>8} {:>8}", "", "bytes", "ns/packet", "Mpps", "of raw", "target");
    let mut missed = false;
    for size in SIZES {
        missed |= measure(size, rounds, &only);
    }
    if missed && check { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn usage() -> ExitCode {
    eprintln!("usage: datapath [--rounds N] [--only NAME] [--check]");
    ExitCode::from(2)
}

/// What the figures depend on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let flags = info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let found: Vec<_> = ["aes", "pclmulqdq", "avx2", "vaes", "vpclmulqdq", "avx512f"].into_iter().filter(|flag| flags.split(' ').any(|f| f == *flag)).collect();
    format!("{cores} x {model} ({})", found.join(" "))
}

/// A way of packets that is measured: a batch at a time, in nanoseconds a packet.
struct Way<'a> {
    name: &'static str,
    /// The way that it is compared with, by place, and the least ratio that is wanted, by size.
    raw: Option<usize>,
    target: Option<[f64; 2]>,
    batch: Box<dyn FnMut() -> Duration + 'a>,
}

/// Measures all ways for inner packets of `size` bytes and prints a row for each. Returns whether a target was missed.
fn measure(size: usize, rounds: usize, only: &str) -> bool {
    let (mut offloaded, mut software) = (Pair::new(size, true), Pair::new(size, false));
    let (mut seal, mut open) = (RawSeal::new(size), RawOpen::new(size));
    let (mut nic_send, mut nic_receive) = (NicSend::new(size), NicReceive::new(size));
    let (offloaded, software) = (std::cell::RefCell::new(&mut offloaded), std::cell::RefCell::new(&mut software));
    let way = |name, raw, target, batch| Way { name, raw, target, batch };
    let mut ways = [
        way("raw seal", None, None, Box::new(|| seal.batch()) as Box<dyn FnMut() -> Duration>),
        way("NIC send", Some(0), Some([0.5, 0.75]), Box::new(|| nic_send.batch())),
        way("whole outbound, offloaded", Some(0), Some([0.4, 0.65]), Box::new(|| offloaded.borrow_mut().send())),
        way("whole outbound, software", Some(0), None, Box::new(|| software.borrow_mut().send())),
        way("raw open", None, None, Box::new(|| open.batch())),
        way("NIC receive", Some(4), None, Box::new(|| nic_receive.batch())),
        way("whole inbound, offloaded", Some(4), None, Box::new(|| offloaded.borrow_mut().receive())),
        way("whole inbound, software", Some(4), None, Box::new(|| software.borrow_mut().receive())),
    ];
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..=rounds {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            if way.raw.is_some() && !way.name.contains(only) {
                continue;
            }
            let total: Duration = (0..TURN).map(|_| (way.batch)()).sum();
            // The first round warms up.
            if round > 0 {
                times.push(total.as_secs_f64() * 1e9 / f64::from((TURN * BATCH) as u32));
            }
        }
    }
    let mut missed = false;
    for (at, way) in ways.iter().enumerate() {
        if times[at].is_empty() {
            continue;
        }
        let nanoseconds = median(times[at].clone());
        let mut row = format!("{:<28} {size:>5} {nanoseconds:>11.1} {:>8.3}", way.name, 1e3 / nanoseconds);
        if let Some(raw) = way.raw {
            let ratio = median(times[raw].iter().zip(&times[at]).map(|(raw, time)| raw / time).collect());
            let _ = write!(row, " {ratio:>8.3}");
            if let Some(target) = way.target {
                let target = target[usize::from(size != SIZES[0])];
                missed |= ratio < target;
                let _ = write!(row, " {target:>8.2}{}", if ratio < target { "  missed" } else { "" });
            }
        }
        println!("{row}");
    }
    println!();
    missed
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// An inner packet: IPv4, and no upper protocol that anybody knows.
fn inner(size: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; size];
    Ipv4Repr::new(IpProtocol(253), "10.0.1.1".parse().unwrap(), "10.0.2.1".parse().unwrap(), size - 20).emit(&mut packet).unwrap();
    packet
}

fn esp_sa() -> EspSa<Crypto> {
    let parameters = EspParameters {
        encryption: "aes-gcm-128".parse().unwrap(),
        encryption_key: &SecretBytes::copy_from_slice(&KEY),
        icv_length: ICV,
        authentication: Authentication::None,
        authentication_key: &SecretBytes::default(),
        allow_unauthenticated: false,
        extended_sequence_numbers: false,
        iv_mask: 0,
    };
    EspSa::new(&Crypto::default(), &parameters).unwrap()
}

/// A frame as the transport hands it to the NIC (OV2-SEND-8), with what it says of it; where its ESP begins.
fn framed(size: usize, sequence: u32) -> (Vec<u8>, HeaderTransmit) {
    let (sa, packet) = (esp_sa(), inner(size));
    let mut esp = vec![0; size + sa.overhead(size)];
    esp[..4].copy_from_slice(&SPI.to_be_bytes());
    esp[4..8].copy_from_slice(&sequence.to_be_bytes());
    let text = sa.text(esp.len()).unwrap();
    esp[text.start..][..size].copy_from_slice(&packet);
    let next_header = IpProtocol::IPV4.0;
    let trailer = ipsec::write_trailer(&mut esp[text], size, next_header).unwrap();
    let mut outer = vec![0; OUTER + esp.len()];
    Ipv4Repr::new(IpProtocol::ESP, "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), esp.len()).emit(&mut outer).unwrap();
    outer[OUTER..].copy_from_slice(&esp);
    let header = HeaderTransmit { next_header, pad_length: trailer.pad_length, ah_header_offset: 0, esp_header_offset: (OUTER / 4) as u8 };
    ([&LINK[..], &outer].concat(), header)
}

/// The same frame on the wire.
fn sealed(size: usize, sequence: u32) -> Vec<u8> {
    let (sa, (mut frame, _)) = (esp_sa(), framed(size, sequence));
    let mut jobs = [sa.seal_job(&mut frame[LINK.len() + OUTER..], u64::from(sequence)).unwrap()];
    Crypto::default().seal(&mut jobs);
    frame
}

fn buffers(frames: &[Vec<u8>]) -> Vec<Buffer> {
    let mut pool = BufferPool::new();
    frames.iter().map(|frame| pool.copy_from(frame)).collect()
}

fn refill(buffers: &mut [Buffer], frames: &[Vec<u8>]) {
    for (buffer, frame) in buffers.iter_mut().zip(frames) {
        buffer.as_mut_slice().copy_from_slice(frame);
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

/// The provider alone: jobs are made before the clock runs.
struct RawSeal {
    sa: EspSa<Crypto>,
    frames: Vec<Vec<u8>>,
    buffers: Vec<Buffer>,
}

impl RawSeal {
    fn new(size: usize) -> Self {
        let frames: Vec<_> = (1..=BATCH as u32).map(|sequence| framed(size, sequence).0).collect();
        Self { sa: esp_sa(), buffers: buffers(&frames), frames }
    }

    fn batch(&mut self) -> Duration {
        refill(&mut self.buffers, &self.frames);
        let mut jobs = SealBatch::new();
        for (sequence, buffer) in (1..).zip(&mut self.buffers) {
            jobs.push(self.sa.seal_job(&mut buffer.as_mut_slice()[LINK.len() + OUTER..], sequence).unwrap());
        }
        let time = timed(|| Crypto::default().seal(&mut jobs));
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
        time
    }
}

/// The same for packets that come in.
struct RawOpen {
    sa: EspSa<Crypto>,
    frames: Vec<Vec<u8>>,
    buffers: Vec<Buffer>,
    scratch: Scratch,
}

impl RawOpen {
    fn new(size: usize) -> Self {
        let frames: Vec<_> = (1..=BATCH as u32).map(|sequence| sealed(size, sequence)).collect();
        Self { sa: esp_sa(), buffers: buffers(&frames), frames, scratch: Scratch::new() }
    }

    fn batch(&mut self) -> Duration {
        refill(&mut self.buffers, &self.frames);
        let mut jobs = OpenBatch::new();
        for (sequence, buffer) in (1..).zip(&mut self.buffers) {
            jobs.push(self.sa.open_job(&mut buffer.as_mut_slice()[LINK.len() + OUTER..], sequence).unwrap());
        }
        let time = timed(|| Crypto::default().open(&mut jobs, &mut self.scratch));
        assert!(jobs.iter().all(|job| job.verdict.is_good()));
        time
    }
}

/// A protocol that does nothing but offload an SA.
#[derive(Default)]
struct Owner(Mutex<Option<Binding>>);

impl Protocol for Owner {
    fn bind(&self, _: BindParameters, binding: Binding) {
        *self.0.lock().unwrap() = Some(binding);
    }

    fn unbind(&self) {}

    fn status(&self, _: StatusIndication) {}

    fn direct_oid_complete(&self, _: Status, _: DirectOidRequest) {}
}

/// A software NIC in a stack without a transport, with one SA.
struct Nic {
    _stack: Stack,
    path: Datapath,
    pool: BufferPool,
    sa: OffloadHandle,
}

impl Nic {
    fn new(direction: Direction) -> Self {
        let stack = Stack::new(Arc::new(MemoryRegistry::new()));
        let driver = NicDriver::new(NicParameters::new("nic"), || SoftwareEngine::new(Crypto::default(), 16).unwrap());
        stack.add_adapter("nic", Arc::new(driver) as Arc<dyn MiniportDriver>).unwrap();
        let owner = Arc::new(Owner::default());
        stack.bind(Arc::clone(&owner) as Arc<dyn Protocol>, "nic").unwrap();
        let binding = owner.0.lock().unwrap().clone().unwrap();
        let on = SetEncapsulation::On { encapsulation: Encapsulation::IEEE_802_3, header_size: 14 };
        assert_eq!(binding.set_encapsulation(OffloadEncapsulation { ipv4: on, ipv6: on }), Status::SUCCESS);
        stack.pump();
        let DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSaEx(entry)) =
            binding.direct_oid_request(DirectOid::AddSaEx(Box::new(AddSaEntry::new(bundle(direction)))))
        else {
            panic!("the NIC refuses the SA");
        };
        let path = stack.open_datapath("nic").unwrap();
        Self { _stack: stack, path, pool: BufferPool::new(), sa: entry.handle.unwrap() }
    }
}

fn bundle(direction: Direction) -> SaBundle {
    use ndis::{AesKeySize, Associations, EncryptionAlgorithm, Endpoints, EspAssociation, Keyed, SaExtension};
    SaBundle {
        direction,
        endpoints: Endpoints { ipv6: false, source: Some([192, 0, 2, 1].into()), destination: Some([192, 0, 2, 2].into()) },
        udp_esp: None,
        associations: Associations::Esp(EspAssociation {
            spi: Spi(SPI),
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            encryption: Keyed {
                algorithm: EncryptionAlgorithm::AesGcm(AesKeySize::Aes128),
                key: SecretBytes::copy_from_slice(&KEY),
                additional_info: ICV as u32,
            },
            authentication: None,
        }),
        extension: SaExtension::default(),
    }
}

/// Framed packets through the stack to the NIC's send engine and to the wire.
struct NicSend {
    nic: Nic,
    frames: Vec<Vec<u8>>,
    header: HeaderTransmit,
    wire: FrameBatch,
    batch: NblBatch,
    done: NblBatch,
}

impl NicSend {
    fn new(size: usize) -> Self {
        let frames: Vec<_> = (1..=BATCH as u32).map(|sequence| framed(size, sequence).0).collect();
        let wire = buffers(&frames).into_iter().map(Frame::new).collect();
        Self { nic: Nic::new(Direction::Outbound), frames, header: framed(size, 1).1, wire, batch: NblBatch::new(), done: NblBatch::new() }
    }

    fn batch(&mut self) -> Duration {
        let Self { nic, frames, header, wire, batch, done } = self;
        for (mut frame, plain) in wire.drain(..).zip(frames) {
            frame.buffer.as_mut_slice().copy_from_slice(plain);
            let mut list = NetBufferList::from_frame(frame, LINK.len() as u16);
            list.oob.set_offload_handle(Some(nic.sa));
            list.oob.set_header_transmit(*header);
            batch.push(list);
        }
        let mut lane = LaneContext { now: Time::ZERO, pool: &mut nic.pool };
        let path = &mut nic.path;
        let time = timed(|| path.send(&mut lane, batch, done, wire));
        assert!(done.len() == BATCH && wire.len() == BATCH && done.iter().all(|list| list.status.is_success()));
        done.clear();
        time
    }
}

/// Frames from the wire through the NIC's receive engine and up the stack.
struct NicReceive {
    nic: Nic,
    frames: Vec<Vec<u8>>,
    arrived: FrameBatch,
    up: NblBatch,
}

impl NicReceive {
    fn new(size: usize) -> Self {
        let frames: Vec<_> = (1..=BATCH as u32).map(|sequence| sealed(size, sequence)).collect();
        let arrived = buffers(&frames).into_iter().map(Frame::new).collect();
        Self { nic: Nic::new(Direction::Inbound), frames, arrived, up: NblBatch::new() }
    }

    fn batch(&mut self) -> Duration {
        let Self { nic, frames, arrived, up } = self;
        for (frame, sealed) in arrived.iter_mut().zip(frames) {
            frame.buffer.as_mut_slice().copy_from_slice(sealed);
        }
        let mut lane = LaneContext { now: Time::ZERO, pool: &mut nic.pool };
        let path = &mut nic.path;
        let time = timed(|| path.receive(&mut lane, arrived, up));
        assert!(up.len() == BATCH && up.iter().all(|list| list.oob.header_receive().is_some()));
        arrived.extend(up.drain(..).map(|mut list| list.take_frame()));
        time
    }
}

/// Two hosts: what one sends the other receives.
struct Pair {
    a: Host,
    b: Host,
    inner: Vec<u8>,
    frames: FrameBatch,
    wire: FrameBatch,
    out: InboundBatch,
}

impl Pair {
    fn new(size: usize, offload: bool) -> Self {
        let host = |direction| {
            let mut host = Host::new(&HostConfig { medium: Medium::Ethernet, ..HostConfig::default() }).unwrap();
            if !offload {
                assert_eq!(host.operator().set_parameters(OffloadParameters::ipsec_v2_setting(IpsecSetting::Disabled)), Status::SUCCESS);
                host.service(Time::ZERO, &mut FrameBatch::new());
            }
            host.add_sa(parameters(direction), Time::ZERO).unwrap();
            host.service(Time::ZERO, &mut FrameBatch::new());
            host
        };
        let (a, b) = (host(Direction::Outbound), host(Direction::Inbound));
        Self { a, b, inner: [&LINK[..], &inner(size)].concat(), frames: FrameBatch::new(), wire: FrameBatch::new(), out: InboundBatch::default() }
    }

    fn send(&mut self) -> Duration {
        self.cross().0
    }

    fn receive(&mut self) -> Duration {
        self.cross().1
    }

    /// Every packet is received once: replay is checked.
    fn cross(&mut self) -> (Duration, Duration) {
        let Self { a, b, inner, frames, wire, out } = self;
        for _ in 0..BATCH {
            let buffer = a.pool().copy_from(inner);
            frames.push(Frame::new(buffer));
        }
        let sent = timed(|| a.send(Time::ZERO, frames, wire));
        assert_eq!(wire.len(), BATCH);
        let received = timed(|| b.receive(Time::ZERO, wire, out));
        assert_eq!(out.delivered.len(), BATCH);
        for frame in out.delivered.drain(..) {
            a.pool().give(frame.buffer);
        }
        (sent, received)
    }
}

fn parameters(direction: Direction) -> SaParameters {
    SaParameters {
        name: "bench".into(),
        direction,
        mode: Mode::Tunnel,
        source: "192.0.2.1".parse().unwrap(),
        destination: "192.0.2.2".parse().unwrap(),
        associations: vec![AssociationParameters {
            operation: Operation::Esp,
            spi: Spi(SPI),
            encryption: "aes-gcm-128".parse().unwrap(),
            encryption_key: SecretBytes::copy_from_slice(&KEY),
            icv_length: ICV as u8,
            authentication: Authentication::None,
            authentication_key: SecretBytes::default(),
            extended_sequence_numbers: false,
            sequence_number_high: 0,
            sequence_number: 0,
        }],
        selectors: Vec::new(),
        replay_window: SaParameters::DEFAULT_REPLAY_WINDOW,
        iv_mask: 0,
        udp_encapsulation: None,
        inside: None,
        ah_alignment: None,
        traffic_flow: transport::TrafficFlow::NONE,
        allow_unauthenticated: false,
        allow_reserved_spi: false,
        soft_limits: Limits::NONE,
        hard_limits: Limits::NONE,
        offload: OffloadPolicy::Prefer,
    }
}
