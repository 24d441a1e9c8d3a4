//! An engine that ends nothing by itself: every operation pends until the test says how it ends.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use std::sync::{Arc, Mutex};

use ndis::{LaneContext, NblBatch, NetBufferList, Offload, OffloadHandle, SaBundle, Status, UpdateSa};
use nic::{Engine, EngineConfig, EngineEvent, EngineQueue, Progress, SoftwareEngine, Token};
use packet::FrameBatch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Add,
    Update(u32),
    Delete(OffloadHandle),
    Reset,
    RequestDelete(OffloadHandle),
}

#[derive(Debug, Default)]
pub struct Script {
    /// What was asked and has not been ended, oldest first.
    pub open: Vec<(Token, Call)>,
    pub events: Vec<EngineEvent>,
    pub configs: Vec<EngineConfig>,
    pub asked: Vec<OffloadHandle>,
    pub hardware: Option<Offload>,
    next_handle: u64,
}

/// Shares its script with the test.
#[derive(Clone, Debug, Default)]
pub struct Scripted(pub Arc<Mutex<Script>>);

impl Scripted {
    /// Ends the oldest open call, successfully.
    pub fn end(&self) -> Call {
        let call = self.0.lock().unwrap().open[0].1;
        self.end_with(call, Status::SUCCESS);
        call
    }

    /// Ends the oldest open call that is `call`.
    pub fn end_with(&self, call: Call, status: Status) -> Option<OffloadHandle> {
        let mut script = self.0.lock().unwrap();
        let at = script.open.iter().position(|(_, open)| *open == call).unwrap();
        let (token, _) = script.open.remove(at);
        let mut handle = None;
        let event = match call {
            Call::Add => {
                if status.is_success() {
                    script.next_handle += 1;
                    handle = OffloadHandle::from_bits(script.next_handle);
                }
                EngineEvent::Added { token, result: handle.ok_or(status) }
            }
            Call::Update(_) => EngineEvent::Updated { token, status },
            Call::Delete(_) => EngineEvent::Deleted { token },
            Call::Reset => EngineEvent::ResetDone { token },
            Call::RequestDelete(_) => unreachable!("it does not pend"),
        };
        script.events.push(event);
        handle
    }

    pub fn open(&self) -> Vec<Call> {
        self.0.lock().unwrap().open.iter().map(|(_, call)| *call).collect()
    }

    fn pend<T>(&self, token: Token, call: Call) -> Progress<T> {
        self.0.lock().unwrap().open.push((token, call));
        Progress::Pending
    }
}

impl Engine for Scripted {
    fn hardware_capabilities(&self) -> Offload {
        let capabilities = || SoftwareEngine::new(ipsec::Crypto::default(), 4).unwrap().hardware_capabilities();
        self.0.lock().unwrap().hardware.unwrap_or_else(capabilities)
    }

    fn configure(&self, config: &EngineConfig) {
        self.0.lock().unwrap().configs.push(config.clone());
    }

    fn add_sa(&self, token: Token, _bundle: &SaBundle) -> Progress<Result<OffloadHandle, Status>> {
        self.pend(token, Call::Add)
    }

    fn update_sa(&self, token: Token, update: &UpdateSa) -> Progress<Status> {
        self.pend(token, Call::Update(update.sequence_number_high))
    }

    fn delete_sa(&self, token: Token, handle: OffloadHandle) -> Progress<()> {
        self.pend(token, Call::Delete(handle))
    }

    fn reset(&self, token: Token) -> Progress<()> {
        self.pend(token, Call::Reset)
    }

    fn poll(&self, events: &mut Vec<EngineEvent>) {
        events.append(&mut self.0.lock().unwrap().events);
    }

    fn request_delete(&self, handle: OffloadHandle) {
        self.0.lock().unwrap().asked.push(handle);
    }

    fn queue(&self) -> Box<dyn EngineQueue> {
        Box::new(Deaf)
    }
}

/// Fails what is sent, and indicates what is received.
struct Deaf;

impl EngineQueue for Deaf {
    fn send(&mut self, _: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, _: &mut FrameBatch) {
        done.extend(batch.drain(..).map(|list| NetBufferList { status: Status::FAILURE, ..list }));
    }

    fn receive(&mut self, _: &mut LaneContext<'_>, frames: &mut FrameBatch, up: &mut NblBatch) {
        up.extend(frames.drain(..).map(|frame| NetBufferList::from_frame(frame, 0)));
    }
}
