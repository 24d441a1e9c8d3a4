//! What `ip xfrm state` prints on Linux (iproute2's `ip/ipxfrm.c`), also with `-s` and `-o`.
//!
//! ```text
//! src 192.0.2.1 dst 192.0.2.2
//!         proto esp spi 0x00001001 reqid 1 mode tunnel
//!         replay-window 0 flag af-unspec esn
//!         aead rfc4106(gcm(aes)) 0x<key and salt> 128
//!         encap type espinudp sport 4500 dport 4500 addr 0.0.0.0
//!         anti-replay esn context:
//!          seq-hi 0x0, seq 0x1d, oseq-hi 0x0, oseq 0x0
//!          replay_window 128, bitmap-length 4
//!          00000000 00000000 00000000 1fffffff
//!         sel src 10.0.1.0/24 dst 10.0.2.0/24
//!         dir in
//! ```
//!
//! Lines are told apart by their first words, not by how far they are indented: people paste them out of documents. What a state is about beside IPsec
//! (marks, interfaces, lifetimes, statistics, offload) is read over by its name; a word that is not known is an error, so that nothing that changes bytes is
//! overlooked.

mod algorithms;
mod batch;
mod lines;
mod read;
mod state;
mod write;

pub(super) use batch::write as write_batch;
pub(super) use read::parse;
pub(super) use write::write;

#[cfg(test)]
mod tests;
