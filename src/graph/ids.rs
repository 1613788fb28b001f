//! Typed handles into a [`Graph`](super::Graph).

use std::fmt;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// The handle of the `index`-th entry.
            ///
            /// A graph decoded from protobuf has fewer than 2^32 entries: each one
            /// takes at least two bytes of a message that is itself below 2 GB.
            #[must_use]
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }

            /// Position in the table that the handle points into.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

handle!(
    /// A node: its position in `GraphProto.node`.
    NodeId,
    "n"
);
handle!(
    /// A value: a graph input, an initializer or a node output.
    ValueId,
    "v"
);
