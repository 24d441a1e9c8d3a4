//! Raw layouts, names and numbers of the NDIS structures that IPsec task offload uses.
#![forbid(unsafe_code)]
