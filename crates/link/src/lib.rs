//! Where packets come from and go to: memory pair, pcap and pcapng files.
#![forbid(unsafe_code)]
