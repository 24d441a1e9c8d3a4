//! Requests of IPsecOV1 (OV1-2, OV1-2a): its SAs become bundles of the same engine, which are told what they are for.
//!
//! Standard requests come one at a time and are answered at once. A deletion takes its SA out of reach before it is answered; the engine ends it, and frees
//! its place, when no batch uses the SA any more. An engine that ends an addition later is waited for, but not for long.

use ndis::{IpsecService, Offload, OffloadHandle, SaBundle, SaMode, SaRules, Status, V1ParserEntry, V1Request, V1Sa};

use super::{Control, Operation, State};
use crate::driver::{DeletePolicy, NicEvent};
use crate::engine::{Engine, Progress, Token};

/// How often an engine is asked whether it has ended an addition.
const PATIENCE: usize = 10_000;

impl Control {
    /// Answers a request.
    pub(crate) fn v1_request(&mut self, engine: &impl Engine, request: &mut V1Request) -> Status {
        if self.hardware.ipsec_service(self.parameters.version) != Some(IpsecService::V1) {
            return Status::NOT_SUPPORTED;
        }
        if self.state != State::Running {
            return Status::NOT_ACCEPTED;
        }
        match request {
            V1Request::AddSa { sa, handle } => {
                let added = self.add_v1(engine, sa, None);
                *handle = added.ok();
                status(added)
            }
            V1Request::AddUdpEspSa { sa, entry, entry_handle, handle } => {
                let added = self.add_udp_esp(engine, sa, *entry, *entry_handle);
                *handle = added.ok().map(|(handle, _)| handle);
                if let Ok((_, entry)) = added {
                    *entry_handle = Some(entry);
                }
                status(added)
            }
            V1Request::DeleteSa(handle) => self.delete_v1(engine, *handle, None),
            V1Request::DeleteUdpEspSa { handle, entry_handle } => self.delete_v1(engine, *handle, *entry_handle),
        }
    }

    /// Entries of the UDP-ESP parser.
    pub(crate) fn parser_entries(&self) -> usize {
        self.parser.len()
    }

    /// The current configuration as engines know it, which hear of IPsecOV2 only.
    pub(super) fn for_engine(&self) -> Offload {
        if self.serves_v1() { Offload { ipsec_v2: self.current.ipsec_v1.to_v2(self.v1_capacity()), ..self.current } } else { self.current }
    }

    pub(super) fn serves_v1(&self) -> bool {
        self.hardware.ipsec_service(self.parameters.version) == Some(IpsecService::V1)
    }

    /// How many bundles the engine may be asked to hold.
    pub(super) fn capacity(&self) -> u32 {
        if self.serves_v1() { self.v1_capacity() } else { self.current.ipsec_v2.sa_offload_capacity }
    }

    /// An engine that does not tell says so when it is full.
    fn v1_capacity(&self) -> u32 {
        match self.current.ipsec_v1.ext_sa_capacity {
            0 => u32::MAX,
            told => told,
        }
    }

    /// All SAs are gone, and with them the parser's entries.
    pub(super) fn clear_parser(&mut self, engine: &impl Engine) {
        for port in self.parser.clear() {
            engine.release_udp_esp_port(port);
        }
    }

    fn add_udp_esp(
        &mut self,
        engine: &impl Engine,
        sa: &V1Sa,
        what: V1ParserEntry,
        asked: Option<OffloadHandle>,
    ) -> Result<(OffloadHandle, OffloadHandle), Status> {
        if sa.associations.ah().is_some() {
            return Err(Status::INVALID_DATA);
        }
        let found = self.parser.find(what, sa.direction, asked)?;
        match self.add_v1(engine, sa, Some(what.destination_port)) {
            Ok(handle) => {
                self.parser.attach(found, handle);
                Ok((handle, found.handle))
            }
            Err(status) => {
                if let Some(port) = self.parser.withdraw(found) {
                    engine.release_udp_esp_port(port);
                }
                Err(status)
            }
        }
    }

    /// Adds an SA, in UDP to `port` if that is not `None`.
    fn add_v1(&mut self, engine: &impl Engine, sa: &V1Sa, port: Option<u16>) -> Result<OffloadHandle, Status> {
        let added = self.try_add_v1(engine, sa, port);
        match added {
            Ok(handle) => {
                self.counters.sas_added(1);
                self.parameters.tell(&NicEvent::Added { handle });
            }
            Err(status) => {
                self.counters.sas_refused(1);
                self.parameters.tell(&NicEvent::Refused { status });
            }
        }
        added
    }

    fn try_add_v1(&mut self, engine: &impl Engine, sa: &V1Sa, port: Option<u16>) -> Result<OffloadHandle, Status> {
        sa.validate(SaRules { reserved_spis: self.parameters.reserved_spis, unauthenticated_esp: self.parameters.allow_unauthenticated })?;
        let mode = if sa.tunnel.is_some() { SaMode::Tunnel } else { SaMode::Transport };
        let bundle = sa.to_bundle(port);
        self.current.ipsec_v1.covers(&bundle, mode)?;
        let record = match self.ledger.reserve(&bundle, self.capacity()) {
            Ok(record) => record,
            Err(status) => {
                if status == Status::RESOURCES && self.parameters.delete_policy != DeletePolicy::Never {
                    self.ask_one_to_go(engine);
                }
                return Err(status);
            }
        };
        let token = self.token();
        if let Some(result) = self.add_and_wait(engine, token, &bundle) {
            return self.added(engine, record, result);
        }
        // Whatever becomes of it, nobody has it.
        self.operations.insert(token, Operation::Add { request: None, entry: 0, record });
        Err(Status::FAILURE)
    }

    /// `None`: the engine has not ended it.
    fn add_and_wait(&mut self, engine: &impl Engine, token: Token, bundle: &SaBundle) -> Option<Result<OffloadHandle, Status>> {
        if let Progress::Done(result) = engine.add_sa(token, bundle) {
            return Some(result);
        }
        self.awaited = Some((token, None));
        for _ in 0..PATIENCE {
            self.drain(engine);
            if let Some((_, Some(result))) = self.awaited {
                self.awaited = None;
                return Some(result);
            }
            std::thread::yield_now();
        }
        self.awaited = None;
        None
    }

    fn delete_v1(&mut self, engine: &impl Engine, bits: u64, entry: Option<OffloadHandle>) -> Status {
        let handle = OffloadHandle::from_bits(bits);
        let known = handle.filter(|&handle| entry.is_none_or(|entry| self.parser.is_of(entry, handle)));
        let Some(handle) = known.filter(|&handle| self.ledger.strike(handle)) else {
            self.counters.unknown_handles(1);
            self.parameters.tell(&NicEvent::UnknownHandle { bits });
            return Status::INVALID_PARAMETER;
        };
        self.delete_struck(engine, handle, None);
        if let Some(port) = self.parser.detach(handle, entry.is_some()) {
            engine.release_udp_esp_port(port);
        }
        Status::SUCCESS
    }
}

fn status<T>(added: Result<T, Status>) -> Status {
    added.err().unwrap_or(Status::SUCCESS)
}
