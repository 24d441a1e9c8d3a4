//! Text files that users write, SA files and NIC profiles: access to their tables, and errors that say where and what.

pub(crate) mod error;
pub(crate) mod reader;
