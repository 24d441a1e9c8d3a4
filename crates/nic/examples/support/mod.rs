//! The other side of the examples: a stack with a protocol driver that keeps what it is told, and one packet to send.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use ipsec::write_trailer;
use ndis::{
    AddSaEntry, AesKeySize, Associations, BindParameters, Binding, DirectAnswer, DirectOid, DirectOidRequest, Direction, EncryptionAlgorithm, Endpoints,
    EspAssociation, HeaderTransmit, Keyed, MemoryRegistry, MiniportDriver, NetBufferList, OffloadHandle, Protocol, SaBundle, SaExtension, Stack, Status,
    StatusIndication,
};
use packet::{Buffer, IpProtocol, Ipv4Repr, Spi};
use secret::SecretBytes;

/// A protocol driver that keeps its binding and what completes.
#[derive(Default)]
pub(crate) struct Keeper {
    binding: Mutex<Option<Binding>>,
    completed: Mutex<Vec<(Status, DirectOidRequest)>>,
}

impl Protocol for Keeper {
    fn bind(&self, _parameters: BindParameters, binding: Binding) {
        *self.binding.lock().unwrap_or_else(PoisonError::into_inner) = Some(binding);
    }

    fn unbind(&self) {}

    fn status(&self, _indication: StatusIndication) {}

    fn direct_oid_complete(&self, status: Status, request: DirectOidRequest) {
        self.completed.lock().unwrap_or_else(PoisonError::into_inner).push((status, request));
    }
}

/// A stack with one adapter, "card", and a protocol bound to it.
pub(crate) fn stack(driver: Arc<dyn MiniportDriver>) -> Result<(Stack, Arc<Keeper>), Box<dyn Error>> {
    let (stack, keeper) = (Stack::new(Arc::new(MemoryRegistry::new())), Arc::new(Keeper::default()));
    stack.add_adapter("card", driver)?;
    stack.bind(keeper.clone(), "card")?;
    Ok((stack, keeper))
}

/// Issues a direct request and waits for its end: whether it was pended, its status, and its answer.
pub(crate) fn request(stack: &Stack, keeper: &Keeper, body: DirectOid) -> Result<(bool, Status, DirectOid), Box<dyn Error>> {
    let binding = keeper.binding.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or("not bound")?;
    match binding.direct_oid_request(body) {
        DirectAnswer::Done(status, body) => Ok((false, status, body)),
        DirectAnswer::Pending(_) => {
            stack.pump();
            let (status, request) = keeper.completed.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or("not completed")?;
            Ok((true, status, request.body))
        }
    }
}

/// Asks for an outbound ESP SA with SPI 0x1001.
pub(crate) fn add_sa() -> DirectOid {
    let esp = EspAssociation {
        spi: Spi(0x1001),
        extended_sequence_numbers: false,
        sequence_number_high: 0,
        encryption: Keyed { algorithm: EncryptionAlgorithm::AesGcm(AesKeySize::Aes128), key: SecretBytes::from(vec![7; 20]), additional_info: 0 },
        authentication: None,
    };
    DirectOid::AddSaEx(Box::new(AddSaEntry::new(SaBundle {
        direction: Direction::Outbound,
        endpoints: Endpoints { ipv6: false, source: None, destination: None },
        udp_esp: None,
        associations: Associations::Esp(esp),
        extension: SaExtension::default(),
    })))
}

/// The handle in the answer to [`add_sa`].
pub(crate) fn handle(answer: &DirectOid) -> Option<OffloadHandle> {
    match answer {
        DirectOid::AddSaEx(entry) => entry.handle,
        _ => None,
    }
}

/// A packet under that SA as a transport hands it over: everything but IV, ciphertext and ICV is there (OV2-SEND-8).
pub(crate) fn packet(handle: OffloadHandle, sequence: u32) -> Result<NetBufferList, Box<dyn Error>> {
    let payload = b"attack at dawn";
    let mut esp = [&0x1001_u32.to_be_bytes()[..], &sequence.to_be_bytes(), &[0; 8], payload, &[0; 2 + 16]].concat();
    let trailer = write_trailer(&mut esp[16..32], payload.len(), IpProtocol::UDP.0)?;
    let mut bytes = vec![0; 20];
    Ipv4Repr::new(IpProtocol::ESP, Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), esp.len()).emit(&mut bytes)?;
    bytes.append(&mut esp);
    let mut list = NetBufferList::new(Buffer::copy_from(&bytes), 0);
    list.oob.set_offload_handle(Some(handle));
    list.oob.set_header_transmit(HeaderTransmit {
        next_header: trailer.next_header,
        pad_length: trailer.pad_length,
        ah_header_offset: 0,
        esp_header_offset: 5,
    });
    Ok(list)
}
