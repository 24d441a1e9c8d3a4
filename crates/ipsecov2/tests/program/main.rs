//! The program as its users run it: arguments and files in, captures, reports and exit codes out.

mod arguments;
mod bench;
mod damage;
mod drops;
mod every_card;
mod json;
mod peers;
mod peers_suites;
mod profiles;
mod round_trip;
mod sa_convert;
mod sa_files;
mod tool;
