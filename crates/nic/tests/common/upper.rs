//! A protocol that keeps its binding, and writes down what it is told.
#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use std::sync::Mutex;

use ndis::{
    AddSaEntry, BindParameters, Binding, DirectAnswer, DirectOid, DirectOidRequest, Direction, IpsecOffloadV2, OffloadHandle, Protocol, Status,
    StatusIndication,
};

use crate::common::Sa;

#[derive(Default)]
pub struct Upper {
    pub binding: Mutex<Option<(Binding, BindParameters)>>,
    told: Mutex<Vec<StatusIndication>>,
    pub completed: Mutex<Vec<(Status, DirectOidRequest)>>,
}

impl Protocol for Upper {
    fn bind(&self, parameters: BindParameters, binding: Binding) {
        *self.binding.lock().unwrap() = Some((binding, parameters));
    }

    fn unbind(&self) {
        *self.binding.lock().unwrap() = None;
    }

    fn status(&self, indication: StatusIndication) {
        self.told.lock().unwrap().push(indication);
    }

    fn direct_oid_complete(&self, status: Status, request: DirectOidRequest) {
        self.completed.lock().unwrap().push((status, request));
    }
}

impl Upper {
    pub fn binding(&self) -> Binding {
        self.binding.lock().unwrap().as_ref().unwrap().0.clone()
    }

    pub fn reported(&self) -> IpsecOffloadV2 {
        self.binding.lock().unwrap().as_ref().unwrap().1.default_offload_configuration.ipsec_v2
    }

    pub fn told(&self) -> Vec<StatusIndication> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    pub fn add(&self, sa: &Sa, direction: Direction) -> OffloadHandle {
        match self.binding().direct_oid_request(DirectOid::AddSaEx(Box::new(AddSaEntry::new(sa.bundle(direction))))) {
            DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSaEx(entry)) => entry.handle.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}
