//! Which graph inputs each value depends on, by data and by shape.

use crate::graph::{Family, Graph, NodeId, ValueId};

use super::inputs::InputKind;

/// A set of input kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    const fn bit(kind: InputKind) -> u16 {
        1 << kind as u16
    }

    /// The set of one kind.
    #[must_use]
    pub const fn of(kind: InputKind) -> Self {
        Self(Self::bit(kind))
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn has(self, kind: InputKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    /// Whether the set is empty: nothing but initializers and shapes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all kinds stay the same over one generation.
    #[must_use]
    pub const fn is_invariant(self) -> bool {
        let invariant = Self::bit(InputKind::Text)
            | Self::bit(InputKind::PooledText)
            | Self::bit(InputKind::TimeIds)
            | Self::bit(InputKind::GuidanceEmbedding)
            | Self::bit(InputKind::ControlImage);
        self.0 & !invariant == 0
    }
}

/// For each value the kinds of input that its content depends on. A dependence on
/// the shape of a value alone does not count: sizes are constant in a generation.
#[must_use]
pub fn depends(graph: &Graph<'_>, kinds: &[InputKind]) -> Vec<Kinds> {
    let mut found = vec![Kinds::default(); graph.value_count()];
    for (value, kind) in graph.inputs().iter().zip(kinds) {
        found[value.index()] = Kinds::of(*kind);
    }
    for node in graph.nodes() {
        let set = node_kinds(graph, &found, node);
        for out in graph.outputs_of(node) {
            found[out.index()] = set;
        }
    }
    found
}

fn node_kinds(graph: &Graph<'_>, found: &[Kinds], node: NodeId) -> Kinds {
    match graph.family(node) {
        Family::Shape | Family::Size => Kinds::default(),
        // A random value differs on every evaluation.
        Family::Random => Kinds::of(InputKind::Other),
        _ => {
            let inputs = graph.inputs_of(node).iter();
            inputs.fold(Kinds::default(), |set, v: &ValueId| {
                set.union(found[v.index()])
            })
        }
    }
}
