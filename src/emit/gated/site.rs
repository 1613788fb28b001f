//! One gated site: the `If` with the region in its then-branch.

use crate::onnx::proto::NodeProto;
use crate::plan::layout::{Placed, SiteTensor};
use crate::plan::{Reuse, Rows};

use super::checks::Checks;
use super::rows::RowMaker;
use super::scribe::{Returned, Scribe, body};
use super::tables::{GateNames, way};
use crate::convention::{past, present, slope};

/// A cache: an input and an output of the rewritten model.
#[derive(Clone, Debug)]
pub struct State {
    /// Name, without `hgc.past.` and `hgc.present.`.
    pub name: String,
    /// `TensorProto.DataType`.
    pub elem_type: i32,
    /// Number of dimensions.
    pub rank: Option<usize>,
}

impl State {
    /// What a branch at nesting depth `depth` returns for it.
    fn returned(&self, prefix: &str, depth: usize) -> Returned {
        let name = format!("{prefix}.{}.d{depth}", self.name);
        Returned {
            name,
            elem_type: self.elem_type,
            rank: self.rank,
        }
    }

    /// Name of its new value in the scope at `depth`; the main graph's is the output.
    #[must_use]
    pub fn present_at(&self, depth: usize) -> String {
        if depth == 0 {
            present(&self.name)
        } else {
            format!("hgc.next.{}.d{depth}", self.name)
        }
    }
}

/// Element type of a cached tensor; measured sizes are int64.
#[must_use]
pub fn elem_type(tensor: &SiteTensor) -> i32 {
    if tensor.measure {
        7
    } else {
        tensor.shape.as_ref().map_or(1, |s| s.elem_type)
    }
}

fn rank(tensor: &SiteTensor) -> Option<usize> {
    tensor.shape.as_ref().map(|s| s.dims.len())
}

/// Whether the site forecasts this tensor.
#[must_use]
pub fn is_linear(placed: &Placed, tensor: &SiteTensor) -> bool {
    placed.site.reuse.forecasts() && !tensor.measure
}

/// Caches of one site, in order.
#[must_use]
pub fn states(placed: &Placed) -> Vec<State> {
    let mut found = Vec::new();
    for tensor in &placed.tensors {
        let (elem_type, rank) = (elem_type(tensor), rank(tensor));
        found.push(State {
            name: tensor.name.clone(),
            elem_type,
            rank,
        });
        if is_linear(placed, tensor) {
            found.push(State {
                name: slope(&tensor.name),
                elem_type,
                rank,
            });
        }
    }
    found
}

/// Name of a site's tensor inside its own region.
#[must_use]
pub fn fresh_name(tensor: &SiteTensor) -> String {
    format!("hgc.new.{}", tensor.name)
}

/// Everything needed to write one site.
pub struct SiteWriter<'a, 'm, 'r> {
    /// Node maker for this site.
    pub scribe: Scribe<'a>,
    /// Row arithmetic, where the model runs half-batch steps.
    pub rows: Option<&'r mut RowMaker<'a>>,
    /// Checks of what is read, where the batch is open.
    pub checks: Option<&'r mut Checks<'a, 'm>>,
    /// The site.
    pub placed: &'a Placed,
    /// Nesting depth of the scope that the `If` stands in.
    pub depth: usize,
    /// Caches of the sites inside, which pass through on a reuse.
    pub inner: Vec<State>,
}

impl SiteWriter<'_, '_, '_> {
    /// The `If` and what follows it; `used` gives the name that each tensor has outside.
    pub fn write(mut self, region: Vec<NodeProto>, used: &[String]) -> Vec<NodeProto> {
        let gate = GateNames::new(&self.placed.site.gate);
        let placed = self.placed;
        // A held value that needs no slicing is its own cache: one output does for both.
        let direct = placed.site.reuse == Reuse::Hold
            && placed.site.rows == Rows::All
            && self.rows.is_none();
        let mut then_nodes = region;
        let mut else_nodes = Vec::new();
        let (mut then_out, mut else_out, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        let mut after = Vec::new();
        for (tensor, used) in placed.tensors.iter().zip(used) {
            let own = Names::new(tensor, self.depth);
            let kind = |name: &str| Returned {
                name: name.to_owned(),
                elem_type: elem_type(tensor),
                rank: rank(tensor),
            };
            if direct || tensor.measure {
                let fresh = fresh_name(tensor);
                else_nodes.push(self.scribe.identity(&past(&tensor.name), &own.keep));
                then_out.push(kind(&fresh));
                else_out.push(kind(&own.keep));
                outputs.push(own.present.clone());
                after.extend(self.checked(tensor, &own.present, used));
                continue;
            }
            then_nodes.extend(self.refresh(tensor, &own, &gate));
            else_nodes.extend(self.reuse(tensor, &own, &gate));
            then_out.extend([kind(&fresh_name(tensor)), kind(&own.store)]);
            else_out.extend([kind(&own.forecast), kind(&own.keep)]);
            outputs.extend([used.clone(), own.present.clone()]);
            if is_linear(placed, tensor) {
                then_out.push(kind(&own.slope));
                else_out.push(kind(&own.keep_slope));
                outputs.push(own.present_slope.clone());
            }
        }
        for state in &self.inner {
            let kept = state.returned("hgc.keep", self.depth);
            else_nodes.push(self.scribe.identity(&past(&state.name), &kept.name));
            let next = state.present_at(self.depth + 1);
            then_out.push(Returned {
                name: next,
                ..kept.clone()
            });
            else_out.push(kept);
            outputs.push(state.present_at(self.depth));
        }
        let name = &placed.site.name;
        let then_branch = body(&format!("hgc.{name}.refresh"), then_nodes, &then_out);
        let else_branch = body(&format!("hgc.{name}.reuse"), else_nodes, &else_out);
        let node_name = if_name(name);
        let mut nodes = vec![self.scribe.branch(
            &node_name,
            &gate.refresh,
            &outputs,
            then_branch,
            else_branch,
        )];
        nodes.extend(after);
        nodes
    }

    /// `output` is the value `cached` with the rows and tokens of the call.
    fn checked(&mut self, tensor: &SiteTensor, cached: &str, output: &str) -> Vec<NodeProto> {
        match self.checks.as_deref_mut() {
            Some(checks) => checks.read(self.placed.site.rows, tensor, cached, output),
            None => vec![self.scribe.identity(cached, output)],
        }
    }

    /// What the cache keeps of a fresh value, and its slope since the last refresh.
    fn refresh(&mut self, tensor: &SiteTensor, own: &Names, gate: &GateNames) -> Vec<NodeProto> {
        let fresh = fresh_name(tensor);
        let rows = self.placed.site.rows;
        let mut nodes = match self.rows.as_deref_mut() {
            Some(maker) => maker.store(tensor, rows, &fresh, &own.store),
            None => vec![self.scribe.identity(&fresh, &own.store)],
        };
        if !is_linear(self.placed, tensor) {
            return nodes;
        }
        let elem_type = elem_type(tensor);
        let (zero, moved) = (
            format!("{}.none", own.slope),
            format!("{}.moved", own.slope),
        );
        let (before, change) = (
            format!("{}.before", own.slope),
            format!("{}.change", own.slope),
        );
        let old = format!("{}.old", own.slope);
        let mut measured = self.checked(tensor, &past(&tensor.name), &old);
        // The rows that ran may be fewer than those kept at the last refresh.
        measured.extend(match self.rows.as_deref_mut() {
            Some(maker) if rows == Rows::All => maker.read(tensor, &old, &before),
            _ => vec![self.scribe.identity(&old, &before)],
        });
        let gap = GateNames::typed(&gate.since, elem_type);
        measured.push(self.scribe.node("Sub", &[&own.store, &before], &[&change]));
        measured.push(self.scribe.node("Div", &[&change, &gap], &[&moved]));
        let returned = |name: &str| Returned {
            name: name.to_owned(),
            elem_type,
            rank: rank(tensor),
        };
        let none = self.scribe.zeros(&own.store, &zero, elem_type);
        nodes.push(self.scribe.branch(
            &format!("{}.if", own.slope),
            &gate.fresh,
            std::slice::from_ref(&own.slope),
            body(&format!("{}.first", own.slope), none, &[returned(&zero)]),
            body(
                &format!("{}.again", own.slope),
                measured,
                &[returned(&moved)],
            ),
        ));
        nodes
    }

    /// What a reuse gives, and the caches as they were.
    fn reuse(&mut self, tensor: &SiteTensor, own: &Names, gate: &GateNames) -> Vec<NodeProto> {
        let old = format!("{}.old", own.forecast);
        let mut nodes = vec![self.scribe.identity(&past(&tensor.name), &own.keep)];
        nodes.extend(self.checked(tensor, &past(&tensor.name), &old));
        let mut value = old.clone();
        if is_linear(self.placed, tensor) {
            let site = &self.placed.site;
            let way = way(site.reuse, &site.name, gate, elem_type(tensor));
            let old_slope = past(&slope(&tensor.name));
            let (moved, whole) = (
                format!("{}.moved", own.forecast),
                format!("{}.whole", own.forecast),
            );
            nodes.push(self.scribe.identity(&old_slope, &own.keep_slope));
            nodes.push(self.scribe.node("Mul", &[&old_slope, &way], &[&moved]));
            nodes.push(self.scribe.node("Add", &[&old, &moved], &[&whole]));
            value = whole;
        }
        nodes.extend(match self.rows.as_deref_mut() {
            Some(maker) if self.placed.site.rows == Rows::All => {
                maker.read(tensor, &value, &own.forecast)
            }
            _ => vec![self.scribe.identity(&value, &own.forecast)],
        });
        nodes
    }
}

/// Name of a site's `If` node.
#[must_use]
pub fn if_name(site: &str) -> String {
    format!("hgc.site.{site}")
}

struct Names {
    store: String,
    slope: String,
    forecast: String,
    keep: String,
    keep_slope: String,
    present: String,
    present_slope: String,
}

impl Names {
    fn new(tensor: &SiteTensor, depth: usize) -> Self {
        let name = &tensor.name;
        let at = |name: String| {
            State {
                name,
                elem_type: 0,
                rank: None,
            }
            .present_at(depth)
        };
        Self {
            store: format!("hgc.store.{name}"),
            slope: format!("hgc.slope.{name}"),
            forecast: format!("hgc.reuse.{name}"),
            keep: format!("hgc.keep.{name}"),
            keep_slope: format!("hgc.keep.{name}.slope"),
            present: at(name.clone()),
            present_slope: at(slope(name)),
        }
    }
}
