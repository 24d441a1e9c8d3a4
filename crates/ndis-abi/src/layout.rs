//! How a structure is described once and used three times: as a Rust type, as compile-time assertions, and as a table.
//!
//! [`AbiType`] is what every type of this crate implements. The macros below declare the types; each number that they
//! are given (size, alignment, offset, for 64-bit and for 32-bit Windows) is asserted against what the compiler does on
//! the target at hand, and kept in the table for both, so that tests and tools can read it on any host.

use core::marker::PhantomData;

/// A number that depends on the pointer width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Both {
    /// On 64-bit Windows (x64 and arm64 agree).
    pub x64: usize,
    /// On 32-bit Windows (x86).
    pub x86: usize,
}

impl Both {
    /// The number that holds for the target of this build.
    pub const fn here(self) -> usize {
        if cfg!(target_pointer_width = "32") { self.x86 } else { self.x64 }
    }

    /// `count` times the number.
    pub const fn times(self, count: usize) -> Self {
        Self { x64: self.x64 * count, x86: self.x86 * count }
    }
}

/// A type of the binary interface: integers, arrays of them, and structures of them; every bit pattern is a value.
pub trait AbiType: Copy + 'static {
    /// The value whose bytes are all zero.
    const ZERO: Self;
    /// C's `sizeof`, in bytes.
    const SIZE: Both;
    /// What the type consists of.
    const PARTS: Parts;
}

/// What a type consists of.
#[derive(Clone, Copy, Debug)]
pub enum Parts {
    /// A number, a handle, an array: nothing inside has a name.
    Whole,
    /// A structure with fields.
    Fields(&'static [FieldLayout]),
    /// A word with bit fields.
    Bits(&'static [BitLayout]),
}

/// A structure and where its fields are.
#[derive(Clone, Copy, Debug)]
pub struct StructLayout {
    /// Microsoft's name.
    pub name: &'static str,
    /// C's `sizeof`, in bytes.
    pub size: Both,
    /// Alignment in bytes.
    pub align: Both,
    /// Fields in order of declaration, then other forms of the same bytes, then the open tail.
    pub fields: &'static [FieldLayout],
}

/// One field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct FieldLayout {
    /// Microsoft's name.
    pub name: &'static str,
    /// The type, as this crate spells it.
    pub type_name: &'static str,
    /// Bytes from the start of the structure.
    pub offset: Both,
    /// Size in bytes.
    pub size: Both,
    /// What the field's type consists of.
    pub parts: Parts,
}

/// One bit field of a word.
#[derive(Clone, Copy, Debug)]
pub struct BitLayout {
    /// Microsoft's name.
    pub name: &'static str,
    /// Number of the lowest bit, counted from the least significant.
    pub shift: u32,
    /// Number of bits.
    pub width: u32,
}

/// A named number. Signed codes are given as the unsigned number with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Microsoft's name.
    pub name: &'static str,
    /// The value.
    pub value: u32,
}

/// An `NDIS_SIZEOF_..._REVISION_n` constant.
#[derive(Clone, Copy, Debug)]
pub struct SizeConstant {
    /// Microsoft's name.
    pub name: &'static str,
    /// Bytes through the end of the last field of the revision.
    pub value: Both,
    /// Structure and last field, as in `NDIS_OFFLOAD.Flags`.
    pub through: &'static str,
}

/// The bits `lowest..=highest` of a word of type `W`.
///
/// `W` ties the field to its word: a field of one word cannot be used on another.
#[derive(Debug)]
pub struct BitField<W> {
    shift: u32,
    width: u32,
    word: PhantomData<fn() -> W>,
}

impl<W> BitField<W> {
    pub(crate) const fn new(lowest: u32, highest: u32) -> Self {
        assert!(lowest <= highest && highest < 32, "a bit field lies within its word");
        Self { shift: lowest, width: highest - lowest + 1, word: PhantomData }
    }

    /// Number of the lowest bit, counted from the least significant.
    pub const fn shift(self) -> u32 {
        self.shift
    }

    /// Number of bits.
    pub const fn width(self) -> u32 {
        self.width
    }

    /// The field's bits, in place.
    pub const fn mask(self) -> u32 {
        self.max() << self.shift
    }

    /// The largest value that the field holds.
    pub const fn max(self) -> u32 {
        u32::MAX >> (32 - self.width)
    }
}

impl<W> Clone for BitField<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for BitField<W> {}

/// Checks, at compile time, size and alignment of a structure. With an open tail, Rust's type ends where the tail
/// begins (or in the padding that the tail lies in), and C's `sizeof` counts the tail's declared length.
pub(crate) const fn check_struct(size: usize, align: usize, expected: Both, alignment: Both, tail: Option<Both>) {
    assert!(align == alignment.here(), "alignment differs from the ABI's");
    match tail {
        None => assert!(size == expected.here(), "size differs from the ABI's"),
        Some(at) => assert!(at.here() <= size && size <= expected.here(), "the fixed part reaches up to the tail, and C's size covers it"),
    }
}

macro_rules! both {
    ($x64:expr) => {
        $crate::layout::Both { x64: $x64, x86: $x64 }
    };
    ($x64:expr, $x86:expr) => {
        $crate::layout::Both { x64: $x64, x86: $x86 }
    };
}

/// Declares a structure. Numbers are `64-bit / 32-bit`, one number where both agree:
///
/// - `pub struct NAME = SIZE align ALIGNMENT { FIELD: TYPE = OFFSET, }`;
/// - `or { NAME: TYPE = OFFSET, }`: the other members of a C union, whose widest member is a field;
/// - `then { NAME: [TYPE; n] = OFFSET, }`: a tail of open length. It is no field, because its bytes (keys, mostly) have
///   no place in a type that can be copied and shown; the constant of its name is its offset.
macro_rules! layout {
    (
        $(#[$meta:meta])*
        pub struct $name:ident = $s64:literal align $a64:literal $(/ $s32:literal align $a32:literal)? {
            $( $(#[$fmeta:meta])* $field:ident: $ty:ty = $o64:literal $(/ $o32:literal)?, )*
        }
        $( or { $( $(#[doc = $vdoc:literal])+ $variant:ident: $vty:ty = $v64:literal $(/ $v32:literal)?, )+ } )?
        $( then { $(#[doc = $tdoc:literal])+ $tail:ident: [$tty:ty; $tlen:literal] = $t64:literal / $t32:literal, } )?
    ) => {
        $(#[$meta])*
        $(
            #[doc = "\n# Other forms of the same bytes\n"]
            $( #[doc = concat!("- `", stringify!($variant), "` ([`", stringify!($vty), "`]):", $($vdoc),+)] )+
        )?
        $( #[doc = concat!("\n# Tail\n\n`", stringify!($tail), "`:", $($tdoc),+)] )?
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
        }

        impl $name {
            /// C's `sizeof` of the structure on this target, in bytes.
            pub const SIZEOF: usize = <Self as $crate::layout::AbiType>::SIZE.here();
            /// Where the fields are.
            pub const LAYOUT: $crate::layout::StructLayout = $crate::layout::StructLayout {
                name: stringify!($name),
                size: <Self as $crate::layout::AbiType>::SIZE,
                align: both!($a64 $(, $a32)?),
                fields: &[
                    $( $crate::layout::FieldLayout {
                        name: stringify!($field),
                        type_name: stringify!($ty),
                        offset: both!($o64 $(, $o32)?),
                        size: <$ty as $crate::layout::AbiType>::SIZE,
                        parts: <$ty as $crate::layout::AbiType>::PARTS,
                    }, )*
                    $( $( $crate::layout::FieldLayout {
                        name: stringify!($variant),
                        type_name: stringify!($vty),
                        offset: both!($v64 $(, $v32)?),
                        size: <$vty as $crate::layout::AbiType>::SIZE,
                        parts: <$vty as $crate::layout::AbiType>::PARTS,
                    }, )+ )?
                    $( $crate::layout::FieldLayout {
                        name: stringify!($tail),
                        type_name: concat!("[", stringify!($tty), "; ", stringify!($tlen), "]"),
                        offset: both!($t64, $t32),
                        size: <$tty as $crate::layout::AbiType>::SIZE.times($tlen),
                        parts: $crate::layout::Parts::Whole,
                    }, )?
                ],
            };
            $(
                #[doc = concat!("Offset of `", stringify!($tail), "` on this target, in bytes.")]
                pub const $tail: usize = both!($t64, $t32).here();
            )?
        }

        impl $crate::layout::AbiType for $name {
            const ZERO: Self = Self { $( $field: <$ty as $crate::layout::AbiType>::ZERO, )* };
            const SIZE: $crate::layout::Both = both!($s64 $(, $s32)?);
            const PARTS: $crate::layout::Parts = $crate::layout::Parts::Fields(Self::LAYOUT.fields);
        }

        impl Default for $name {
            fn default() -> Self {
                <Self as $crate::layout::AbiType>::ZERO
            }
        }

        const _: () = {
            #[allow(unused_mut, unused_assignments, reason = "most structures have no tail")]
            let mut tail = None;
            $( tail = Some(both!($t64, $t32)); )?
            $crate::layout::check_struct(
                size_of::<$name>(), align_of::<$name>(), both!($s64 $(, $s32)?), both!($a64 $(, $a32)?), tail,
            );
            $(
                assert!(core::mem::offset_of!($name, $field) == both!($o64 $(, $o32)?).here());
                assert!(size_of::<$ty>() == <$ty as $crate::layout::AbiType>::SIZE.here());
            )*
            $( $(
                assert!(size_of::<$vty>() == <$vty as $crate::layout::AbiType>::SIZE.here());
                assert!(both!($v64 $(, $v32)?).here() + size_of::<$vty>() <= size_of::<$name>());
            )+ )?
        };
    };
}

/// Declares a word of bit fields, each as `NAME = LOWEST..=HIGHEST` counted from the least significant bit.
macro_rules! bits {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($word:ident) {
            $( $(#[$fmeta:meta])* $field:ident = $low:literal..=$high:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub $word);

        impl $name {
            $(
                $(#[$fmeta])*
                pub const $field: $crate::layout::BitField<Self> = $crate::layout::BitField::new($low, $high);
            )*
            /// The bit fields by name.
            pub const BITS: &'static [$crate::layout::BitLayout] = &[
                $( $crate::layout::BitLayout {
                    name: stringify!($field),
                    shift: Self::$field.shift(),
                    width: Self::$field.width(),
                }, )*
            ];

            /// The value of one field.
            #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "words of 16 and 32 bits")]
            pub const fn get(self, field: $crate::layout::BitField<Self>) -> u32 {
                (self.0 as u32 >> field.shift()) & field.max()
            }

            /// The word with one field replaced; bits of `value` beyond the field's width are left out.
            #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "words of 16 and 32 bits")]
            pub const fn with(self, field: $crate::layout::BitField<Self>, value: u32) -> Self {
                let rest = self.0 as u32 & !field.mask();
                Self((rest | ((value & field.max()) << field.shift())) as $word)
            }
        }

        impl $crate::layout::AbiType for $name {
            const ZERO: Self = Self(0);
            const SIZE: $crate::layout::Both = <$word as $crate::layout::AbiType>::SIZE;
            const PARTS: $crate::layout::Parts = $crate::layout::Parts::Bits(Self::BITS);
        }

        const _: () = {
            $( assert!($high < $word::BITS, "a bit field lies within its word"); )*
        };
    };
}

/// Declares a C enumeration as a number with associated constants, so that unknown values are kept.
macro_rules! enumeration {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $value:literal, )* }
    ) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            $( $(#[$vmeta])* pub const $variant: Self = Self($value); )*
            /// The enumerators by name.
            pub const ENUMERATORS: &'static [$crate::layout::Constant] = &[
                $( $crate::layout::Constant { name: stringify!($variant), value: $value }, )*
            ];
        }

        $crate::layout::whole!($name, Self(0), 4;);
    };
}

/// Declares constants of one type and, under the name of the group, their list.
macro_rules! constants {
    (
        $(#[$gmeta:meta])*
        pub const $group:ident: [$ty:ident] = {
            $( $(#[$meta:meta])* $name:ident = $value:literal, )*
        }
    ) => {
        $( $(#[$meta])*
        #[allow(clippy::cast_possible_wrap, clippy::unnecessary_cast, reason = "signed codes are written as bits")]
        pub const $name: $ty = {
            const BITS: u32 = $value;
            assert!((BITS as u64) >> (8 * size_of::<$ty>()) == 0, "the value fits the type");
            BITS as $ty
        }; )*

        $(#[$gmeta])*
        pub const $group: &[$crate::layout::Constant] = &[
            $( $crate::layout::Constant { name: stringify!($name), value: $value }, )*
        ];
    };
}

/// Declares `NDIS_SIZEOF_..._REVISION_n` constants: `NAME = SIZE through STRUCTURE.FIELD`.
macro_rules! sizes {
    (
        $(#[$gmeta:meta])*
        pub const $group:ident = {
            $( $(#[$meta:meta])* $name:ident = $x64:literal $(/ $x86:literal)? through $type:ident.$($field:ident).+, )*
        }
    ) => {
        $(
            $(#[$meta])*
            pub const $name: usize = both!($x64 $(, $x86)?).here();
            const _: () = assert!($crate::layout::sizes!(@ $type.$($field).+) == $name);
        )*

        $(#[$gmeta])*
        pub const $group: &[$crate::layout::SizeConstant] = &[
            $( $crate::layout::SizeConstant {
                name: stringify!($name),
                value: both!($x64 $(, $x86)?),
                through: concat!(stringify!($type) $(, ".", stringify!($field))+),
            }, )*
        ];
    };
    // The key bytes are an open tail; the macro of the header counts the one byte that C declares.
    (@ $type:ident.KeyData) => { $type::KeyData + 1 };
    (@ $type:ident.$($field:ident).+) => {
        core::mem::offset_of!($type, $($field).+) + $crate::layout::size_of_field(|all: &$type| &all.$($field).+)
    };
}

/// Marks types as having no named parts: `TYPE, ZERO, SIZE`, the size as `64-bit / 32-bit` where they differ.
macro_rules! whole {
    ($( $type:ty, $zero:expr, $x64:literal $(/ $x86:literal)?; )+) => {
        $(
            impl $crate::layout::AbiType for $type {
                const ZERO: Self = $zero;
                const SIZE: $crate::layout::Both = both!($x64 $(, $x86)?);
                const PARTS: $crate::layout::Parts = $crate::layout::Parts::Whole;
            }
            const _: () = assert!(size_of::<$type>() == both!($x64 $(, $x86)?).here());
        )+
    };
}

pub(crate) use {bits, both, constants, enumeration, layout, sizes, whole};

/// Size of the field that `_get` picks.
pub(crate) const fn size_of_field<S, F>(_get: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

whole! {
    u8, 0, 1;
    u16, 0, 2;
    i16, 0, 2;
    u32, 0, 4;
    i32, 0, 4;
    usize, 0, 8 / 4;
}

impl<T: AbiType, const N: usize> AbiType for [T; N] {
    const ZERO: Self = [T::ZERO; N];
    const SIZE: Both = T::SIZE.times(N);
    const PARTS: Parts = Parts::Whole;
}

/// A slot of out-of-band information: its index where it exists.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Microsoft's name.
    pub name: &'static str,
    /// Index on 64-bit Windows.
    pub x64: Option<u32>,
    /// Index on 32-bit Windows.
    pub x86: Option<u32>,
}

/// Declares the indexes of the slots, `64-bit / 32-bit`; where one is `none`, the constant does not exist.
macro_rules! slots {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$vmeta:meta])* $slot:ident = $x64:tt / $x86:tt, )* }
    ) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        $( $crate::layout::slots!(@ $name $(#[$vmeta])* $slot $x64 $x86); )*

        impl $name {
            /// The slots by name.
            pub const SLOTS: &'static [Slot] = &[
                $( Slot {
                    name: stringify!($slot),
                    x64: $crate::layout::slots!(# $x64),
                    x86: $crate::layout::slots!(# $x86),
                }, )*
            ];
        }
    };
    (@ $name:ident $(#[$meta:meta])* $slot:ident none $x86:literal) => {
        #[cfg(target_pointer_width = "32")]
        impl $name { $(#[$meta])* pub const $slot: Self = Self($x86); }
    };
    (@ $name:ident $(#[$meta:meta])* $slot:ident $x64:literal none) => {
        #[cfg(not(target_pointer_width = "32"))]
        impl $name { $(#[$meta])* pub const $slot: Self = Self($x64); }
    };
    (@ $name:ident $(#[$meta:meta])* $slot:ident $x64:literal $x86:literal) => {
        impl $name {
            $(#[$meta])*
            pub const $slot: Self = Self(if cfg!(target_pointer_width = "32") { $x86 } else { $x64 });
        }
    };
    (# none) => { None };
    (# $index:literal) => { Some($index) };
}

pub(crate) use slots;
