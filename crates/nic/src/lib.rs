//! The software NIC: send and receive engines, and the miniport driver over trait Engine.
#![forbid(unsafe_code)]
