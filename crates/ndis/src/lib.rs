//! The IPsecOV2 contract in Rust: capabilities, keywords, OIDs, net buffer lists, status indications, drivers and the stack that binds them.
#![forbid(unsafe_code)]
