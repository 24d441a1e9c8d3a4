//! What formats without names and directions leave open: which way an SA goes, and what it is called.

use core::fmt::Write as _;
use std::collections::HashSet;

use ndis::{Direction, Operation};
use packet::{IpAddress, Spi};

use super::error::Problem;

/// Which way an SA goes, seen from the host with the addresses `local`. `None` is any address.
///
/// Whoever has the destination receives. Only then does the source decide, so that a host that is given both ends of a capture as its own opens all of it.
pub(super) fn direction(source: Option<IpAddress>, destination: Option<IpAddress>, local: &[IpAddress]) -> Result<Direction, Problem> {
    let is_local = |address: Option<IpAddress>| address.is_some_and(|address| local.contains(&address));
    if local.is_empty() {
        let allowed = "the file does not say which end is this host: --local ADDRESS does".to_owned();
        Err(Problem::Missing { field: "direction", allowed })
    } else if is_local(destination) {
        Ok(Direction::Inbound)
    } else if is_local(source) {
        Ok(Direction::Outbound)
    } else if destination.is_none() {
        Ok(Direction::Inbound)
    } else {
        let shown = |address: Option<IpAddress>| address.map_or("any".to_owned(), |address| address.to_string());
        let found = format!("{} to {}", shown(source), shown(destination));
        Err(Problem::Invalid { field: "direction", found, allowed: "neither is an address that --local names".to_owned() })
    }
}

/// Makes names of SAs, the same for the same file.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// The name of an SA with these headers to `destination`, such as `esp-0x00001001-192.0.2.2`. If there was one already, a number follows.
    pub(super) fn name(&mut self, headers: &[(Operation, Spi)], destination: IpAddress) -> String {
        let mut name = String::new();
        for (operation, spi) in headers {
            name += match operation {
                Operation::Ah => "ah-",
                Operation::Esp => "esp-",
            };
            let _ = write!(name, "{:#010x}-", spi.0);
        }
        name += &if destination.is_unspecified() { "any".to_owned() } else { destination.to_string() };
        let first = name.clone();
        let mut count = 1_u32;
        while !self.0.insert(name.clone()) {
            count += 1;
            name = format!("{first}-{count}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_that_is_local_decides() {
        let address = |text: &str| text.parse::<IpAddress>().unwrap();
        let (a, b, c) = (address("192.0.2.1"), address("192.0.2.2"), address("2001:db8::1"));
        for (source, destination, local, expected) in [
            (Some(a), Some(b), &[b][..], Some(Direction::Inbound)),
            (Some(a), Some(b), &[a], Some(Direction::Outbound)),
            (Some(a), Some(b), &[a, b], Some(Direction::Inbound)),
            (Some(a), Some(b), &[c], None),
            (Some(a), Some(b), &[], None),
            (None, Some(b), &[b], Some(Direction::Inbound)),
            (None, Some(b), &[a], None),
            (Some(a), None, &[a], Some(Direction::Outbound)),
            (Some(a), None, &[b], Some(Direction::Inbound)),
            (None, None, &[b], Some(Direction::Inbound)),
            (None, None, &[], None),
        ] {
            assert_eq!(direction(source, destination, local).ok(), expected, "{source:?} {destination:?} {local:?}");
        }
    }

    #[test]
    fn names_are_unique_and_the_same_every_time() {
        let names = || {
            let mut names = Names::default();
            let one = names.name(&[(Operation::Esp, Spi(0x1001))], "192.0.2.2".parse().unwrap());
            let two = names.name(&[(Operation::Esp, Spi(0x1001))], "192.0.2.2".parse().unwrap());
            let both = names.name(&[(Operation::Esp, Spi(0x1001)), (Operation::Ah, Spi(7))], "::".parse().unwrap());
            [one, two, both]
        };
        assert_eq!(names(), ["esp-0x00001001-192.0.2.2", "esp-0x00001001-192.0.2.2-2", "esp-0x00001001-ah-0x00000007-any"]);
        assert_eq!(names(), names());
    }
}
