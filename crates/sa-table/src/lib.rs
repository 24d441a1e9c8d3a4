//! The concurrent table of security association slots with generational handles.
#![forbid(unsafe_code)]
