//! What must hold of an NDIS 6.0 adapter whatever buffers of IPsecOV1, and whatever packets, it gets, beyond that nothing panics.
//!
//! The provider is the insecure one, so that made-up packets get past authentication, and to the filters behind it. Shared by the fuzz target and by the test
//! that replays its seeds and crashes.
//!
//! Input: operations, each a byte that says what it is, a length of two bytes, and so many bytes: the buffer or the packet (see [`Bench::step`]).

use std::collections::BTreeMap;

use ipsec::insecure::Toy;
use ndis::raw::v1;
use ndis::{
    AdapterKeywords, CryptoStatus, Encapsulation, IpsecReceive, IpsecSetting, LaneContext, Miniport, MiniportQueue, NblBatch, NdisVersion, NetBufferList,
    OffloadEncapsulation, OffloadHandle, OffloadParameters, Oid, OidRequest, RequestId, SetEncapsulation, Status, Upcalls, V1Request,
};
use nic::{NicDriver, NicMiniport, NicParameters, SoftwareEngine};
use packet::{Buffer, BufferPool, Frame, FrameBatch, Medium, Time};

const MAX_STEPS: usize = 64;
const OIDS: [u32; 4] = [0xfc01_0202, 0xfc01_0203, 0xfc01_0205, 0xfc01_0206];
/// SA bundles that the adapter may hold.
const CAPACITY: u32 = 8;

/// Takes `data` for what an adapter goes through.
pub(crate) fn check(data: &[u8]) {
    let mut bench = Bench::new();
    let mut rest = data;
    for _ in 0..MAX_STEPS {
        let Some((&[what, low, high], more)) = rest.split_first_chunk() else { break };
        let length = usize::from(u16::from_le_bytes([low, high]));
        let (content, next) = more.split_at(length.min(more.len()));
        bench.step(what, content);
        rest = next;
    }
    bench.end();
}

struct Bench {
    miniport: NicMiniport<SoftwareEngine<Toy>>,
    queue: Box<dyn MiniportQueue>,
    pool: BufferPool,
    up: Upcalls,
    /// Live SAs, and the entries of those in UDP.
    live: BTreeMap<u64, Option<u64>>,
}

impl Bench {
    fn new() -> Self {
        let parameters = NicParameters { medium: Medium::Ip, version: NdisVersion::V6_0, ..NicParameters::new("fuzz") };
        let driver = NicDriver::new(parameters, || SoftwareEngine::new(Toy, CAPACITY).expect("a small table"));
        let (miniport, attributes) = driver.start(&AdapterKeywords::defaults("fuzz"));
        assert!(attributes.hardware_capabilities.ipsec_v1.is_supported() && !attributes.hardware_capabilities.ipsec_v2.is_supported());
        let queue = miniport.open_queue();
        let mut bench = Self { miniport, queue, pool: BufferPool::new(), up: Upcalls::default(), live: BTreeMap::new() };
        let on = SetEncapsulation::On { encapsulation: Encapsulation::NULL, header_size: 0 };
        assert_eq!(bench.set(Oid::SetEncapsulation(OffloadEncapsulation { ipv4: on, ipv6: on })).0, Status::SUCCESS);
        bench
    }

    fn set(&mut self, body: Oid) -> (Status, Oid) {
        let mut request = OidRequest { id: RequestId(0), body };
        let status = self.miniport.oid_request(&mut request, &mut self.up);
        (status, request.body)
    }

    /// Low bits 0 to 3: a request (bit 3: keys the other way round; bit 4: handles in the buffer count live ones). 4: a packet comes in. 5: one is sent, under
    /// the SA that the high bits count. 6: a reset. 7: the setting that the high bits say.
    fn step(&mut self, what: u8, content: &[u8]) {
        match what & 7 {
            oid @ 0..=3 => self.request(OIDS[usize::from(oid)], what, content),
            4 => self.receive(content),
            5 => self.send(usize::from(what >> 3), content),
            6 => {
                self.miniport.reset(&mut self.up);
                self.miniport.poll_control(&mut self.up);
                self.live.clear();
                assert_eq!((self.miniport.sas().0, self.miniport.parser_entries()), (0, 0));
            }
            _ => {
                let setting = [IpsecSetting::Disabled, IpsecSetting::Ah, IpsecSetting::Esp, IpsecSetting::AhAndEsp][usize::from(what >> 3 & 3)];
                let parameters = OffloadParameters { ipsec_v1: Some(setting), ..OffloadParameters::default() };
                assert_eq!(self.set(Oid::SetParameters(parameters)).0, Status::SUCCESS);
            }
        }
    }

    fn nth(&self, bits: u64) -> u64 {
        self.live.keys().nth(bits as usize % self.live.len().max(1)).copied().unwrap_or(bits)
    }

    fn request(&mut self, oid: u32, what: u8, content: &[u8]) {
        let order = if what & 8 == 0 { v1::KeyOrder::ConfidentialityFirst } else { v1::KeyOrder::IntegrityFirst };
        assert!(matches!(v1::Request::parse_for(NdisVersion::V6_30, oid, order, &mut content.to_vec()), Ok(None)));
        let mut buffer = content.to_vec();
        let (raw, mut request) = match v1::Request::parse(oid, order, &mut buffer) {
            Ok(parsed) => parsed.expect("an OID of version 1"),
            Err(error) => {
                assert!([Status::INVALID_LENGTH, Status::INVALID_DATA].contains(&error.status()), "{error}");
                assert_eq!(buffer, content, "a refusal changes nothing");
                return;
            }
        };
        // What was read is written, and reads the same.
        let (again, bytes) = v1::encode(&request, order).expect("it came from bytes");
        let mut bytes = bytes.expose().to_vec();
        let (_, read) = v1::Request::parse(again, order, &mut bytes).expect("it was written").expect("an OID of version 1");
        assert_eq!((again, format!("{read:?}")), (oid, format!("{request:?}")));

        if what & 16 != 0 {
            match &mut request {
                V1Request::DeleteSa(bits) | V1Request::DeleteUdpEspSa { handle: bits, .. } => *bits = self.nth(*bits),
                V1Request::AddSa { .. } | V1Request::AddUdpEspSa { .. } => {}
            }
            if let V1Request::DeleteUdpEspSa { handle, entry_handle: Some(entry) } = &mut request
                && let Some(Some(used)) = self.live.get(handle)
            {
                *entry = OffloadHandle::from_bits(*used).expect("no handle is zero");
            }
        }
        let entries = self.miniport.parser_entries();
        let (status, body) = self.set(Oid::IpsecV1(request));
        let Oid::IpsecV1(answer) = body else { unreachable!("a request stays what it is") };
        raw.complete(status, &answer);
        self.note(status, &answer, entries);
        assert_eq!(self.miniport.sas().0, self.live.len());
        assert!(self.live.len() <= CAPACITY as usize);
    }

    fn note(&mut self, status: Status, answer: &V1Request, entries: usize) {
        let done = status.is_success();
        match *answer {
            V1Request::AddSa { handle, .. } => {
                assert_eq!(handle.is_some(), done);
                if let Some(handle) = handle {
                    assert!(self.live.insert(handle.to_bits(), None).is_none(), "a handle is given out once");
                }
                assert_eq!(self.miniport.parser_entries(), entries);
            }
            V1Request::AddUdpEspSa { handle, entry_handle, .. } => {
                assert_eq!(handle.is_some(), done);
                if let Some(handle) = handle {
                    let entry = entry_handle.expect("the entry that it uses").to_bits();
                    assert!(self.live.insert(handle.to_bits(), Some(entry)).is_none(), "a handle is given out once");
                    assert!(!self.live.contains_key(&entry), "handles of entries are others");
                } else {
                    assert_eq!(self.miniport.parser_entries(), entries, "a failed add leaves neither");
                }
            }
            V1Request::DeleteSa(bits) | V1Request::DeleteUdpEspSa { handle: bits, .. } => {
                if done {
                    assert!(self.live.remove(&bits).is_some(), "what was deleted was there");
                } else {
                    assert_eq!((status, self.miniport.parser_entries()), (Status::INVALID_PARAMETER, entries));
                }
            }
        }
        // No entry that an SA needs is gone.
        let mut used: Vec<u64> = self.live.values().filter_map(|entry| *entry).collect();
        used.sort_unstable();
        used.dedup();
        assert!(used.len() <= self.miniport.parser_entries());
    }

    fn receive(&mut self, content: &[u8]) {
        let mut frames: FrameBatch = vec![Frame::new(Buffer::copy_from(content))];
        let mut up = NblBatch::new();
        self.queue.receive(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut frames, &mut up);
        let [list] = &up[..] else { panic!("{} packets of one", up.len()) };
        let said = list.oob.ipsec_receive();
        // What was not decrypted carries SUCCESS and clear flags, and its bytes are as they came (OV1-3). So are those of what failed.
        if !said.crypto_done {
            assert_eq!(IpsecReceive { sa_delete_request: false, ..said }, IpsecReceive::UNTOUCHED);
        }
        if !said.crypto_done || said.crypto_status != CryptoStatus::Success && !said.next_crypto_done {
            assert_eq!(list.buffer.as_slice(), content);
        }
        assert_eq!((list.oob.tunnel_bits(), list.oob.header_bits()), (0, 0), "version 1 has one slot");
    }

    fn send(&mut self, which: usize, content: &[u8]) {
        let mut list = NetBufferList::new(Buffer::copy_from(content), 0);
        list.oob.set_offload_handle(self.live.keys().nth(which).and_then(|&bits| OffloadHandle::from_bits(bits)));
        let (mut batch, mut done, mut wire) = (vec![list], NblBatch::new(), FrameBatch::new());
        self.queue.send(&mut LaneContext { now: Time::ZERO, pool: &mut self.pool }, &mut batch, &mut done, &mut wire);
        let [list] = &done[..] else { panic!("{} completions of one", done.len()) };
        if list.status.is_success() {
            assert_eq!(wire.len(), 1);
        } else {
            assert_eq!((wire.len(), list.buffer.as_slice()), (0, content), "a list that fails is whole");
        }
    }

    /// All that is there can be deleted; then nothing is left but entries that nobody had deleted.
    fn end(mut self) {
        for (handle, entry) in core::mem::take(&mut self.live) {
            let entry_handle = entry.and_then(OffloadHandle::from_bits);
            assert_eq!(self.set(Oid::IpsecV1(V1Request::DeleteUdpEspSa { handle, entry_handle })).0, Status::SUCCESS);
        }
        self.queue.idle();
        self.miniport.poll_control(&mut self.up);
        assert_eq!(self.miniport.sas(), (0, 0));
    }
}
