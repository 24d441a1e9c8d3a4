//! Key bytes that erase themselves and cannot be shown, compared in the open or serialised.
#![forbid(unsafe_code)]
