//! The IPsecOV2 contract in Rust: Microsoft's IPsec Offload Version 2 (NDIS 6.1 and later) as types and traits, and the stack that binds drivers.
//!
//! Four roles, as in NDIS:
//!
//! - A **miniport** ([`MiniportDriver`], [`Miniport`], [`MiniportQueue`]) speaks for a NIC: reports what it can do, holds SAs, does ESP and AH on packets.
//! - **Filters** ([`Filter`], [`FilterQueue`]) sit between; [`Tracer`] is one.
//! - A **protocol** ([`Protocol`]) is the transport above: policy, SAs, headers, sequence numbers, replay. It calls down through its [`Binding`].
//! - The [`Stack`] is NDIS itself: adapters, bindings, the registry with the keywords, the two OID paths, indications, and the [`Datapath`] of each lane.
//!
//! What they exchange: capability sets ([`Offload`], [`IpsecOffloadV2`]), standard requests ([`Oid`], served one at a time), direct requests ([`DirectOid`],
//! which add, update and delete SAs, any number at once), statuses ([`StatusIndication`]), and packets ([`NetBufferList`] with [`OutOfBand`] data).
//! Byte forms of all of them are in [`raw`].
//!
//! Nobody calls up while called from above. What ends later is fetched: requests and indications by [`Stack::pump`], packets by [`Datapath::poll`].
//!
//! Microsoft marks IPsec task offload as deprecated in Windows. The contract is useful still: it is the one published, complete description of how a
//! transport and a NIC divide IPsec between them, and this crate needs no Windows.
//!
//! # Example
//!
//! An adapter that offers ESP, and a protocol that offloads an SA to it.
//!
//! ```
//! use std::sync::{Arc, OnceLock};
//!
//! use ndis::*;
//! use packet::{FrameBatch, Medium, Spi};
//! use secret::SecretBytes;
//!
//! struct Nic;
//!
//! impl MiniportDriver for Nic {
//!     fn initialize(&self, keywords: &AdapterKeywords) -> Result<(Box<dyn Miniport>, AdapterAttributes), Status> {
//!         let hardware = Offload {
//!             ipsec_v2: IpsecOffloadV2 {
//!                 encapsulation: Encapsulation::IEEE_802_3,
//!                 esp: true,
//!                 transport: true,
//!                 tunnel: true,
//!                 encryption_algorithms: EncryptionAlgorithms::AES_GCM_128,
//!                 sa_offload_capacity: 1,
//!                 ..IpsecOffloadV2::default()
//!             },
//!             ..Offload::default()
//!         };
//!         let attributes = AdapterAttributes {
//!             version: NdisVersion::V6_30,
//!             medium: Medium::Ethernet,
//!             mtu: 1500,
//!             hardware_capabilities: hardware,
//!             default_configuration: hardware.configured(keywords),
//!             direct_requests: true,
//!             deviates_without_tunnel: false,
//!         };
//!         Ok((Box::new(Nic), attributes))
//!     }
//! }
//!
//! impl Miniport for Nic {
//!     fn direct_oid_request(&self, mut request: DirectOidRequest) -> Outcome {
//!         let DirectOid::AddSaEx(entry) = &mut request.body else { return Outcome::Done(Status::NOT_SUPPORTED, request) };
//!         // Here a NIC checks the bundle, and gives it a place in its SA table.
//!         entry.handle = OffloadHandle::from_bits(1);
//!         entry.status = Status::SUCCESS;
//!         Outcome::Done(Status::SUCCESS, request)
//!     }
//!     // ... its other requests, and its queues:
//! #   fn open_queue(&self) -> Box<dyn MiniportQueue> { Box::new(Nic) }
//! #   fn oid_request(&self, _: &mut OidRequest, _: &mut Upcalls) -> Status { Status::NOT_SUPPORTED }
//! #   fn cancel_direct_oid_request(&self, _: RequestId) {}
//! #   fn reset(&self, up: &mut Upcalls) { up.indications.push(StatusIndication::ResetEnd) }
//! #   fn halt(&self, _: &mut Upcalls) {}
//! #   fn poll_control(&self, _: &mut Upcalls) {}
//! }
//! # impl MiniportQueue for Nic {
//! #   fn send(&mut self, _: &mut LaneContext<'_>, batch: &mut NblBatch, done: &mut NblBatch, _: &mut FrameBatch) { done.append(batch) }
//! #   fn receive(&mut self, _: &mut LaneContext<'_>, _: &mut FrameBatch, _: &mut NblBatch) {}
//! #   fn poll(&mut self, _: &mut LaneContext<'_>, _: &mut NblBatch, _: &mut FrameBatch) {}
//! # }
//!
//! #[derive(Default)]
//! struct Transport(OnceLock<(BindParameters, Binding)>);
//!
//! impl Protocol for Transport {
//!     fn bind(&self, parameters: BindParameters, binding: Binding) {
//!         let _ = self.0.set((parameters, binding));
//!     }
//!     fn unbind(&self) {}
//!     fn status(&self, _: StatusIndication) {}
//!     fn direct_oid_complete(&self, _: Status, _: DirectOidRequest) {}
//! }
//!
//! let stack = Stack::new(Arc::new(MemoryRegistry::new()));
//! stack.add_adapter("nic0", Arc::new(Nic))?;
//! stack.attach_filter("nic0", Arc::new(Tracer::new(Arc::new(TraceLines::new(std::io::stderr())))))?;
//! let transport = Arc::new(Transport::default());
//! stack.bind(transport.clone(), "nic0")?;
//! let (parameters, binding) = transport.0.get().expect("bound");
//!
//! let bundle = SaBundle {
//!     direction: Direction::Outbound,
//!     endpoints: Endpoints { ipv6: false, source: Some([192, 0, 2, 1].into()), destination: Some([192, 0, 2, 2].into()) },
//!     udp_esp: None,
//!     associations: Associations::Esp(EspAssociation {
//!         spi: Spi(0x1001),
//!         extended_sequence_numbers: false,
//!         sequence_number_high: 0,
//!         encryption: Keyed {
//!             algorithm: EncryptionAlgorithm::AesGcm(AesKeySize::Aes128),
//!             key: SecretBytes::from_hex("000102030405060708090a0b0c0d0e0f10111213")?,
//!             additional_info: 16,
//!         },
//!         authentication: None,
//!     }),
//!     extension: SaExtension::default(),
//! };
//! // Only what the current configuration covers is asked for (OV2-TRANS-0).
//! parameters.default_offload_configuration.ipsec_v2.covers(&bundle, Some(SaMode::Tunnel))?;
//! match binding.direct_oid_request(DirectOid::AddSaEx(Box::new(AddSaEntry::new(bundle)))) {
//!     DirectAnswer::Done(Status::SUCCESS, DirectOid::AddSaEx(entry)) => assert!(entry.handle.is_some()),
//!     DirectAnswer::Done(status, _) => panic!("in software, then: {status}"),
//!     DirectAnswer::Pending(_) => { /* the answer comes to direct_oid_complete, by a later pump */ }
//! }
//! stack.pump();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod capability;
mod capability_v1;
mod driver;
mod indication;
mod keyword;
mod large_limits;
mod large_send;
mod nbl;
mod offload;
mod oid;
mod oob;
mod packed_checksum_set;
mod parameters;
pub mod raw;
mod registry;
mod sa;
pub mod stack;
mod status;
mod tasks;
mod tracer;
mod v1;
mod validate;
mod version;

pub use capability::*;
pub use capability_v1::*;
pub use driver::*;
pub use indication::*;
pub use keyword::*;
pub use large_limits::*;
pub use large_send::*;
pub use nbl::*;
pub use offload::*;
pub use oid::*;
pub use oob::*;
pub use packed_checksum_set::*;
pub use parameters::*;
pub use registry::*;
pub use sa::*;
pub use stack::{AdapterInfo, AdapterState, AttributeError, Binding, Datapath, DirectAnswer, OffloadPart, Stack, StackError};
pub use status::*;
pub use tasks::*;
pub use tracer::*;
pub use v1::*;
pub use validate::*;
pub use version::*;
