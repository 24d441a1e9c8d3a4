//! Proof of what the NIC has opened under a number that is in doubt: the packet is brought back to what it was, on a copy, and looked at in software.

use ipsec::{Provider, SealJob};
use ndis::{NetBufferList, Operation};
use packet::{AhPacket, ParsedIp};

use crate::inbound::{Chunk, Item, Layer, NicSays, nic_says};
use crate::look::Found;
use crate::parameters::Mode;
use crate::sa::Sa;

impl<P: Provider> Chunk<'_, '_, P> {
    /// Whether a header that the NIC found good is good under the layer's SA and `sequence`.
    ///
    /// What the NIC has decrypted is encrypted again, the innermost first: a ciphertext depends on the IV that the packet carries, and not on its number.
    #[cold]
    pub(crate) fn proves(&self, item: &Item<'_, P>, nbl: &NetBufferList, layer: &Layer<'_, P>, sequence: u64) -> bool {
        let Some(mut packet) = nbl.buffer.as_slice().get(item.l3..layer.end).map(<[u8]>::to_vec) else { return false };
        let at = layer.at - item.l3;
        let proof = match layer.association.operation {
            Operation::Esp => self.prove_esp(item, &mut packet, at, layer.sa, sequence),
            Operation::Ah => self.prove_ah(item, &mut packet, at, layer.sa, sequence),
        };
        proof.unwrap_or(false)
    }

    fn prove_esp(&self, item: &Item<'_, P>, packet: &mut [u8], at: usize, sa: &Sa<P>, sequence: u64) -> Option<bool> {
        let icv = self.close(item, packet, at, sa, sequence)?;
        // Without an ICV of its own there is nothing to prove: AH over it was proved, or the SA's owner allows what is not authenticated, and software would
        // take it, too.
        let expected = packet.get(packet.len().checked_sub(icv.len())?..)?;
        Some(icv.is_empty() || secret::ct_eq(&icv, expected))
    }

    fn prove_ah(&self, item: &Item<'_, P>, packet: &mut [u8], at: usize, sa: &Sa<P>, sequence: u64) -> Option<bool> {
        let ah = sa.ah.as_ref()?;
        let behind = at + AhPacket::new(packet.get(at..)?).ok()?.header_len();
        match &sa.esp {
            Some(_) if item.nic_says(sa, Operation::Esp) == NicSays::Good => {
                let low = packet.get(behind + 4..behind + 8)?.first_chunk().map(|&low| u32::from_be_bytes(low))?;
                self.close(item, packet, behind, sa, u64::from(low))?;
            }
            None if sa.mode == Mode::Tunnel => self.close_inner(item, packet.get_mut(behind..)?)?,
            _ => {}
        }
        Some(ah.transform.open_packet(&self.shared.provider, packet, at, sequence))
    }

    /// Encrypts the ESP at `at` of `packet`, which ends with it, in place; returns the ICV that it has under `sequence`.
    fn close(&self, item: &Item<'_, P>, packet: &mut [u8], at: usize, sa: &Sa<P>, sequence: u64) -> Option<Vec<u8>> {
        let half = sa.esp.as_ref()?;
        let esp = packet.get_mut(at..)?;
        if sa.mode == Mode::Tunnel {
            let text = half.transform.text(esp.len()).ok()?;
            self.close_inner(item, esp.get_mut(text)?)?;
        }
        encrypt(&self.shared.provider, sa, esp, sequence)
    }

    /// Does the same to the inner portion at the start of `data`, if the NIC has opened that, too.
    fn close_inner(&self, item: &Item<'_, P>, data: &mut [u8]) -> Option<()> {
        let portion = item.portion + 1;
        if !item.nic.next_crypto_done || portion != 1 {
            return Some(());
        }
        let parsed = ParsedIp::parse(data).ok()?;
        let Found::Sa(hit) = self.find(&parsed, data, 0) else { return None };
        if hit.sa.esp.is_none() || nic_says(item.nic, portion, hit.sa, Operation::Esp) != NicSays::Good {
            return Some(());
        }
        let at = if hit.operation == Operation::Ah { hit.at + AhPacket::new(data.get(hit.at..hit.end)?).ok()?.header_len() } else { hit.at };
        let esp = data.get_mut(at..hit.end)?;
        let low = esp.get(4..8)?.first_chunk().map(|&low| u32::from_be_bytes(low))?;
        encrypt(&self.shared.provider, hit.sa, esp, u64::from(low)).map(|_| ())
    }
}

/// Encrypts an opened ESP packet with the IV that it carries, and leaves its ICV; returns the one that it has under `sequence`.
fn encrypt<P: Provider>(provider: &P, sa: &Sa<P>, esp: &mut [u8], sequence: u64) -> Option<Vec<u8>> {
    let half = sa.esp.as_ref()?;
    // A job of opening has the packet's own IV; one of sealing would make another.
    let job = half.transform.open_job(esp, sequence).ok()?;
    let mut icv = vec![0; job.tag.len()];
    let mut jobs = [SealJob::new(job.key, job.nonce, job.aad, job.data, &mut icv)];
    provider.seal(&mut jobs);
    let sealed = jobs[0].verdict.is_good();
    sealed.then_some(icv)
}
