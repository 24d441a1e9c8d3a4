//! Statuses: how requests and sends end.

use core::fmt;

/// How a request or a send ended: an `NDIS_STATUS`, kept as the number so that unknown ones pass through.
///
/// `NOT_ACCEPTED` and `PENDING` are non-negative numbers and still no success: test with [`Status::is_success`], never by sign.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(pub u32);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Microsoft's name without its prefix, or `None` for a number that this crate does not know.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// Done.
    SUCCESS = 0x0000_0000,
    /// Will be completed later, exactly once.
    PENDING = 0x0000_0103,
    /// Refused because the adapter is resetting or gone (a success-class number, and no success).
    NOT_ACCEPTED = 0x0001_0003,
    /// Failed.
    FAILURE = 0xC000_0001,
    /// No room left: for SAs, the capacity is used up.
    RESOURCES = 0xC000_009A,
    /// This adapter, driver or configuration does not do that.
    NOT_SUPPORTED = 0xC000_00BB,
    /// A parameter names something that is not there or does not fit.
    INVALID_PARAMETER = 0xC000_000D,
    /// Not possible in this state.
    INVALID_STATE = 0xC000_0184,
    /// The binding is being closed.
    CLOSING = 0xC001_0002,
    /// The driver speaks a version that this side does not.
    BAD_VERSION = 0xC001_0004,
    /// There is no adapter of that name.
    ADAPTER_NOT_FOUND = 0xC001_0006,
    /// The request was cancelled, or a reset ended it.
    REQUEST_ABORTED = 0xC001_000C,
    /// The adapter is resetting.
    RESET_IN_PROGRESS = 0xC001_000D,
    /// The information buffer has an impossible length for this OID.
    INVALID_LENGTH = 0xC001_0014,
    /// The information buffer's content is malformed.
    INVALID_DATA = 0xC001_0015,
    /// The information buffer is too small for the answer.
    BUFFER_TOO_SHORT = 0xC001_0016,
    /// There is no such OID on this path.
    INVALID_OID = 0xC001_0017,
    /// The adapter is gone.
    ADAPTER_REMOVED = 0xC001_0018,
    /// The adapter is paused.
    PAUSED = 0xC023_002A,
    /// The send was cancelled.
    SEND_ABORTED = 0xC023_000C,
}

impl Status {
    /// Whether the request or send was done: only [`Status::SUCCESS`] is.
    #[inline]
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
