//! Every algorithm, mode and combination, by NIC and in software: the same bytes on the wire, the same packets and verdicts on receive.

mod damage;
mod ends;
mod equal;
mod kinds;
mod large;
