//! The overlying protocol driver: SPD, SAD, outbound and inbound IPsec processing, the offload manager, software fallback.
#![forbid(unsafe_code)]
