//! IPsec algorithms and transforms: crypto providers, ESP seal and open, replay windows, extended sequence numbers, IV sources.
#![forbid(unsafe_code)]
