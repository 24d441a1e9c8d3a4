//! The stack with drivers that are test doubles.

mod control;
mod datapath;
mod direct;
mod double;
mod orders;
mod trace;
mod unbind;
