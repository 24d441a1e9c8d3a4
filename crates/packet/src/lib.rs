//! Typed views and small valid forms of packets, internet checksums, packet buffers.
#![forbid(unsafe_code)]
