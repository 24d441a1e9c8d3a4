//! Counters of an adapter: one place, 64 bits each, summed over lanes when somebody looks.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ndis::{CryptoStatus, IpsecReceive, NblBatch, NetBufferList, Status};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a counter counts. Of those whose names begin with `sent`, `send` each list sent is in exactly one; of those that begin with
        /// `received` each received frame is in exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)]
        #[repr(usize)]
        enum Slot { $($name,)* }

        const SLOTS: usize = [$(Slot::$name,)*].len();

        /// A reading of an adapter's counters. They only grow, across restarts of the adapter too.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct NicCounters {
            $($(#[$doc])* pub $name: u64,)*
            /// What the engine that runs now counts beyond this, by name, since it was made.
            pub engine: Vec<(&'static str, u64)>,
        }

        impl NicCounters {
            fn from_slots(slots: &[u64; SLOTS]) -> Self {
                Self { $($name: slots[Slot::$name as usize],)* engine: Vec::new() }
            }

            /// Names and values, in order, the engine's own last.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name),)*].into_iter().chain(self.engine.iter().copied())
            }
        }
    };
}

counters! {
    /// Lists sent as they stood.
    sent_plain,
    /// Lists sent with IPsec offload.
    sent_offloaded,
    /// Lists that failed because IPsec offload is not configured (OV2-SEND-1).
    send_not_configured,
    /// Lists that came back because the adapter was resetting or gone.
    send_not_running,
    /// Lists that the engine completed with a failure.
    send_failed,
    /// Frames indicated without any processing: no SA, not configured, outside the capabilities, or not IPsec at all.
    received_untouched,
    /// Packets whose cryptography was good.
    received_crypto_good,
    /// Packets of which the ICV was good and the inner IP header not the announced one.
    received_generic_error,
    /// Packets that failed the AH of their transport portion.
    received_transport_ah_auth_failed,
    /// Packets that failed the ESP of their transport portion.
    received_transport_esp_auth_failed,
    /// Packets that failed the AH of their tunnel portion.
    received_tunnel_ah_auth_failed,
    /// Packets that failed the ESP of their tunnel portion.
    received_tunnel_esp_auth_failed,
    /// Packets whose lengths do not fit.
    received_invalid_packet_syntax,
    /// Packets whose IPsec headers are not those of their SA.
    received_invalid_protocol,
    /// Frames that were dropped because the adapter is gone.
    received_not_running,
    /// Bytes of the frames that went to the wire.
    bytes_sent,
    /// Bytes of the frames whose cryptography was good.
    bytes_received_crypto_good,
    /// Packets that carried a request to delete their SA (OV2-SA-8).
    delete_requests,
    /// SA bundles added.
    sas_added,
    /// SA bundles that were refused.
    sas_refused,
    /// SA bundles deleted, by request, reset or removal.
    sas_deleted,
    /// Updates of sequence numbers that were done.
    sas_updated,
    /// Handles in deletion requests that named no live SA (OV2-SA-7).
    unknown_handles,
    /// Direct requests that ended with `REQUEST_ABORTED`.
    requests_aborted,
    /// Resets begun.
    resets,
}

impl NicCounters {
    /// Lists that were sent or failed.
    pub fn sends(&self) -> u64 {
        sum(&[self.sent_plain, self.sent_offloaded, self.send_not_configured, self.send_not_running, self.send_failed])
    }

    /// Frames that were received.
    pub fn receives(&self) -> u64 {
        sum(&[
            self.received_untouched,
            self.received_crypto_good,
            self.received_generic_error,
            self.received_transport_ah_auth_failed,
            self.received_transport_esp_auth_failed,
            self.received_tunnel_ah_auth_failed,
            self.received_tunnel_esp_auth_failed,
            self.received_invalid_packet_syntax,
            self.received_invalid_protocol,
            self.received_not_running,
        ])
    }
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// Counters that one lane, or the control side, adds to. Nobody else does, so an addition is a load and a store to memory of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Block([AtomicU64; SLOTS]);

impl Block {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; SLOTS])
    }

    #[inline]
    fn add(&self, slot: Slot, n: u64) {
        let cell = &self.0[slot as usize];
        cell.store(cell.load(Ordering::Relaxed).saturating_add(n), Ordering::Relaxed);
    }
}

/// The counters of an adapter, shared by its driver, its miniports and their queues.
#[derive(Debug, Default)]
pub(crate) struct AdapterCounters {
    lanes: Mutex<Lanes>,
}

#[derive(Debug, Default)]
struct Lanes {
    live: Vec<Arc<Block>>,
    /// Sums of lanes that are gone.
    gone: Option<Box<[u64; SLOTS]>>,
}

impl AdapterCounters {
    pub(crate) fn open(self: &Arc<Self>) -> LaneCounters {
        let block = Arc::new(Block::new());
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).live.push(Arc::clone(&block));
        LaneCounters { block, adapter: Arc::clone(self) }
    }

    pub(crate) fn read(&self) -> NicCounters {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = lanes.gone.as_ref().map_or([0; SLOTS], |gone| **gone);
        for block in &lanes.live {
            add_block(&mut sums, block);
        }
        NicCounters::from_slots(&sums)
    }
}

fn add_block(sums: &mut [u64; SLOTS], block: &Block) {
    for (sum, cell) in sums.iter_mut().zip(&block.0) {
        *sum = sum.saturating_add(cell.load(Ordering::Relaxed));
    }
}

/// One lane's share of an adapter's counters; what it counted stays when it goes.
#[derive(Debug)]
pub(crate) struct LaneCounters {
    block: Arc<Block>,
    adapter: Arc<AdapterCounters>,
}

impl Drop for LaneCounters {
    fn drop(&mut self) {
        let mut lanes = self.adapter.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.live.retain(|other| !Arc::ptr_eq(other, &self.block));
        add_block(lanes.gone.get_or_insert_with(|| Box::new([0; SLOTS])), &self.block);
    }
}

/// Bytes of completed lists are no longer there to be counted, so they are counted on the wire.
impl LaneCounters {
    /// Lists that an engine completed.
    pub(crate) fn completed(&self, done: &[NetBufferList]) {
        // Without branches: additions that the compiler can do side by side.
        let (mut good, mut offloaded) = (0, 0);
        for list in done {
            let success = u64::from(list.status.is_success());
            good += success;
            offloaded += success & u64::from(list.oob.ipsec_bits() != 0);
        }
        let failed = done.len() as u64 - good;
        self.block.add(Slot::sent_plain, good - offloaded);
        self.block.add(Slot::sent_offloaded, offloaded);
        self.block.add(Slot::send_failed, failed);
    }

    pub(crate) fn wire_bytes(&self, bytes: u64) {
        self.block.add(Slot::bytes_sent, bytes);
    }

    pub(crate) fn not_configured(&self, lists: usize) {
        self.block.add(Slot::send_not_configured, lists as u64);
    }

    pub(crate) fn send_not_running(&self, lists: usize) {
        self.block.add(Slot::send_not_running, lists as u64);
    }

    pub(crate) fn receive_not_running(&self, frames: usize) {
        self.block.add(Slot::received_not_running, frames as u64);
    }

    pub(crate) fn untouched(&self, frames: usize) {
        self.block.add(Slot::received_untouched, frames as u64);
    }

    /// Packets that an engine indicated.
    pub(crate) fn indicated(&self, up: &[NetBufferList]) {
        let (mut untouched, mut good, mut bytes, mut requests) = (0, 0, 0, 0);
        for list in up {
            // As nearly always.
            if list.oob.ipsec_bits() == const { IpsecReceive::GOOD.to_bits() } {
                good += 1;
                bytes += list.buffer.len() as u64;
                continue;
            }
            let receive = list.oob.ipsec_receive();
            requests += u64::from(receive.sa_delete_request);
            if !receive.crypto_done {
                untouched += 1;
                continue;
            }
            let slot = match receive.crypto_status {
                CryptoStatus::Success => {
                    good += 1;
                    bytes += list.buffer.len() as u64;
                    continue;
                }
                CryptoStatus::GenericError => Slot::received_generic_error,
                CryptoStatus::TransportAhAuthFailed => Slot::received_transport_ah_auth_failed,
                CryptoStatus::TransportEspAuthFailed => Slot::received_transport_esp_auth_failed,
                CryptoStatus::TunnelAhAuthFailed => Slot::received_tunnel_ah_auth_failed,
                CryptoStatus::TunnelEspAuthFailed => Slot::received_tunnel_esp_auth_failed,
                CryptoStatus::InvalidPacketSyntax => Slot::received_invalid_packet_syntax,
                CryptoStatus::InvalidProtocol => Slot::received_invalid_protocol,
            };
            self.block.add(slot, 1);
        }
        self.block.add(Slot::received_untouched, untouched);
        self.block.add(Slot::received_crypto_good, good);
        self.block.add(Slot::bytes_received_crypto_good, bytes);
        self.block.add(Slot::delete_requests, requests);
    }

    pub(crate) fn sas_added(&self, n: u64) {
        self.block.add(Slot::sas_added, n);
    }

    pub(crate) fn sas_refused(&self, n: u64) {
        self.block.add(Slot::sas_refused, n);
    }

    pub(crate) fn sas_deleted(&self, n: u64) {
        self.block.add(Slot::sas_deleted, n);
    }

    pub(crate) fn sas_updated(&self) {
        self.block.add(Slot::sas_updated, 1);
    }

    pub(crate) fn unknown_handles(&self, n: u64) {
        self.block.add(Slot::unknown_handles, n);
    }

    pub(crate) fn request_ended(&self, status: Status) {
        self.block.add(Slot::requests_aborted, u64::from(status == Status::REQUEST_ABORTED));
    }

    pub(crate) fn reset(&self) {
        self.block.add(Slot::resets, 1);
    }
}

/// Takes lists out of `batch` that `fails` names, with `status`, and keeps the others in order.
pub(crate) fn fail_where(batch: &mut NblBatch, done: &mut NblBatch, status: Status, fails: impl Fn(&NetBufferList) -> bool) -> usize {
    let mut failed = 0;
    for mut list in batch.extract_if(.., |list| fails(list)) {
        list.status = status;
        done.push(list);
        failed += 1;
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: u64 = 1 << 32;

    /// counts of each lane, of lanes that are gone, and their sums pass 2^32 without a loss, and end at 2^64 - 1 without beginning again.
    #[test]
    fn r_39_counts_pass_32_bits_and_do_not_wrap_at_64() {
        for slot in [Slot::sent_plain, Slot::bytes_sent, Slot::received_invalid_protocol, Slot::resets] {
            let value = |adapter: &AdapterCounters| {
                let all = adapter.read();
                assert_eq!(all.iter().filter(|(_, count)| *count != 0).count(), 1);
                all.iter().map(|(_, count)| count).sum::<u64>()
            };
            let adapter = Arc::new(AdapterCounters::default());
            let (lane, other) = (adapter.open(), adapter.open());
            lane.block.add(slot, EDGE - 1);
            assert_eq!(value(&adapter), EDGE - 1);
            lane.block.add(slot, 1);
            assert_eq!(value(&adapter), EDGE);
            other.block.add(slot, EDGE + 1);
            assert_eq!(value(&adapter), 2 * EDGE + 1);
            drop(lane);
            assert_eq!(value(&adapter), 2 * EDGE + 1, "what a lane counted stays");
            other.block.add(slot, u64::MAX - EDGE - 1);
            assert_eq!(value(&adapter), u64::MAX);
            other.block.add(slot, 2);
            drop(other);
            assert_eq!(value(&adapter), u64::MAX);
        }
        let full = NicCounters { sent_plain: u64::MAX, send_failed: 1, received_untouched: EDGE, received_crypto_good: EDGE + 1, ..NicCounters::default() };
        assert_eq!((full.sends(), full.receives()), (u64::MAX, 2 * EDGE + 1));
    }

    /// a batch that is counted at once adds to what is beyond 2^32.
    #[test]
    fn r_39_batches_count_on_beyond_32_bits() {
        let adapter = Arc::new(AdapterCounters::default());
        let lane = adapter.open();
        for slot in [Slot::sent_plain, Slot::received_untouched] {
            lane.block.add(slot, EDGE - 2);
        }
        let lists = |count: usize| (0..count).map(|_| NetBufferList::new(packet::Buffer::copy_from(&[0; 20]), 0)).collect::<Vec<_>>();
        let mut sent = lists(3);
        for list in &mut sent {
            list.status = Status::SUCCESS;
        }
        lane.completed(&sent);
        lane.indicated(&lists(5));
        assert_eq!((adapter.read().sent_plain, adapter.read().received_untouched), (EDGE + 1, EDGE + 3));
    }
}
