//! Gates that decide while the model runs: what the latent and the timestep have moved since the last
//! refresh picks between the schedule's kind and one that refreshes.

use crate::analysis::Analysis;
use crate::analysis::inputs::InputKind;
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::{tensor_bool, tensor_f32, tensor_i64};
use crate::plan::{Adaptive, Kind};

use super::RewriteError;
use super::scribe::{Returned, Scribe, body, dtype};
use super::site::State;
use crate::convention::{ANCHOR, ANCHOR_LATENT, ANCHOR_TIME, FIRED, past, present, since};

/// What is looked at: the latent, its element type and dimensions, and the timestep.
#[derive(Clone, Debug)]
pub struct Sight<'m> {
    latent: (&'m str, i32, usize),
    time: &'m str,
}

impl<'m> Sight<'m> {
    /// The inputs of a model.
    ///
    /// # Errors
    /// [`RewriteError::Blind`] where it has none, or rows are not along the first axis.
    pub fn of(analysis: &Analysis<'m>) -> Result<Self, RewriteError> {
        let input = |kind: InputKind, what: &'static str| {
            let value = analysis.input(kind);
            let shape = value.and_then(|v| Some((v, analysis.shapes.get(v)?)));
            shape.ok_or(RewriteError::Blind { what })
        };
        let (latent, shape) = input(InputKind::Latent, "latent")?;
        if shape.batch_axis() != Some(0) {
            let what = "latent with the batch along its first axis";
            return Err(RewriteError::Blind { what });
        }
        let (time, _) = input(InputKind::Timestep, "timestep")?;
        Ok(Self {
            latent: (
                analysis.graph.name(latent),
                shape.elem_type,
                shape.dims.len(),
            ),
            time: analysis.graph.name(time),
        })
    }
}

/// Nodes, initializers and carried values of the decision.
pub struct Decision {
    pub nodes: Vec<NodeProto>,
    pub tensors: Vec<TensorProto>,
    pub states: Vec<State>,
}

/// Makes `kind` out of the `scheduled` one; `index` is this evaluation's row of tables that begin with
/// `named` rows for evaluations whose kind is named, which are not decided.
pub fn decide(
    scribe: Scribe<'_>,
    (adaptive, kinds): (&Adaptive, &[Kind]),
    sight: &Sight<'_>,
    (scheduled, index, kind): (&str, &str, &str),
) -> Decision {
    let s = scribe;
    let evaluations = adaptive.decided.len();
    let rows = kinds.len() + evaluations;
    let size = i64::try_from(rows).unwrap_or(i64::MAX);
    // Kinds that are named come first.
    let weights = |of: &[f32]| -> Vec<f32> {
        let named = std::iter::repeat_n(0.0, kinds.len());
        named.chain(of.iter().copied()).collect()
    };
    let named = std::iter::repeat_n(false, kinds.len());
    let decides = named.chain((0..evaluations).map(|e| adaptive.decides(e)));
    let instead = kinds.iter().position(|k| k.name == adaptive.instead);
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    #[allow(clippy::cast_precision_loss)]
    let number = |n: usize| n as f32;
    let anchors = adaptive.anchors(kinds);
    let tensors = vec![
        tensor_bool("hgc.may.table", &[size], &decides.collect::<Vec<_>>()),
        tensor_f32("hgc.moved.table", &[size], &weights(&adaptive.latent)),
        tensor_f32("hgc.passed.table", &[size], &weights(&adaptive.time)),
        tensor_bool("hgc.anchor.table", &[count(anchors.len())], &anchors),
        tensor_i64("hgc.instead", &[], &[count(instead.unwrap_or_default())]),
        // Just below, so that counts of whole evaluations compare safely.
        tensor_f32("hgc.most", &[1], &[number(adaptive.most) - 0.5]),
        tensor_f32("hgc.budget", &[1], &[number(adaptive.budget) - 0.5]),
        tensor_f32("hgc.decide.one", &[1], &[1.0]),
        tensor_f32("hgc.decide.none", &[1], &[0.0]),
        tensor_i64("hgc.decide.first", &[], &[0]),
        tensor_i64("hgc.decide.all", &[1], &[-1]),
    ];
    let (latent, latent_type, rank) = sight.latent;
    let time = sight.time;
    let (since, fired) = (since(ANCHOR), since(FIRED));
    let mut nodes = vec![
        s.look_up("hgc.may.table", index, "hgc.may"),
        s.look_up("hgc.moved.table", index, "hgc.moved.weight"),
        s.look_up("hgc.passed.table", index, "hgc.passed.weight"),
        // The largest of as many timesteps as there are.
        s.cast(time, "hgc.time.f32", dtype::F32),
        s.node(
            "Reshape",
            &["hgc.time.f32", "hgc.decide.all"],
            &["hgc.time.flat"],
        ),
        s.node("ReduceMax", &["hgc.time.flat"], &["hgc.time"]),
    ];
    // What was not written yet is not looked at.
    let moved = body(
        "hgc.moved.then",
        distance(s, latent, latent_type != dtype::F32),
        &[returned("hgc.moved.far")],
    );
    let still = body(
        "hgc.moved.else",
        vec![s.identity("hgc.decide.none", "hgc.moved.near")],
        &[returned("hgc.moved.near")],
    );
    let moved_name = ["hgc.moved".to_owned()];
    nodes.push(s.branch("hgc.if.moved", "hgc.may", &moved_name, moved, still));
    nodes.extend([
        s.node(
            "Sub",
            &["hgc.time", &past(ANCHOR_TIME)],
            &["hgc.passed.signed"],
        ),
        s.node("Abs", &["hgc.passed.signed"], &["hgc.passed"]),
        s.node(
            "Mul",
            &["hgc.moved", "hgc.moved.weight"],
            &["hgc.moved.share"],
        ),
        s.node(
            "Mul",
            &["hgc.passed", "hgc.passed.weight"],
            &["hgc.passed.share"],
        ),
        s.node(
            "Add",
            &["hgc.moved.share", "hgc.passed.share"],
            &["hgc.measure"],
        ),
        s.node("Less", &["hgc.decide.one", "hgc.measure"], &["hgc.far"]),
        s.node("Less", &["hgc.most", &past(&since)], &["hgc.long"]),
        s.node("Less", &[&past(&fired), "hgc.budget"], &["hgc.within"]),
        s.node("Or", &["hgc.far", "hgc.long"], &["hgc.wanted"]),
        s.node("And", &["hgc.wanted", "hgc.within"], &["hgc.granted"]),
        s.node("And", &["hgc.granted", "hgc.may"], &["hgc.fires"]),
        s.look_up("hgc.fires", "hgc.decide.first", "hgc.fires.scalar"),
        s.node(
            "Where",
            &["hgc.fires.scalar", "hgc.instead", scheduled],
            &[kind],
        ),
        // What the next evaluation finds.
        s.look_up("hgc.anchor.table", kind, "hgc.anchors"),
        s.node(
            "Where",
            &["hgc.anchors", "hgc.time", &past(ANCHOR_TIME)],
            &[&present(ANCHOR_TIME)],
        ),
        s.node(
            "Add",
            &[&past(&since), "hgc.decide.one"],
            &["hgc.since.next"],
        ),
        s.node(
            "Where",
            &["hgc.anchors", "hgc.decide.none", "hgc.since.next"],
            &[&present(&since)],
        ),
        s.cast("hgc.fires", "hgc.fires.count", dtype::F32),
        s.node(
            "Add",
            &[&past(&fired), "hgc.fires.count"],
            &[&present(&fired)],
        ),
    ]);
    let kept = Returned {
        name: "hgc.anchor.new".to_owned(),
        elem_type: latent_type,
        rank: Some(rank),
    };
    let old = Returned {
        name: "hgc.anchor.old".to_owned(),
        ..kept.clone()
    };
    let new = body(
        "hgc.anchor.then",
        vec![s.identity(latent, &kept.name)],
        &[kept],
    );
    let stays = vec![s.identity(&past(ANCHOR_LATENT), &old.name)];
    let stays = body("hgc.anchor.else", stays, &[old]);
    let outputs = [present(ANCHOR_LATENT)];
    nodes.push(s.branch("hgc.if.anchor", "hgc.anchors", &outputs, new, stays));
    let counted = |name: &str, elem_type, rank| State {
        name: name.to_owned(),
        elem_type,
        rank: Some(rank),
    };
    Decision {
        nodes,
        tensors,
        states: vec![
            counted(ANCHOR_LATENT, latent_type, rank),
            counted(ANCHOR_TIME, dtype::F32, 1),
            counted(&since, dtype::F32, 1),
            counted(&fired, dtype::F32, 1),
        ],
    }
}

fn returned(name: &str) -> Returned {
    Returned {
        name: name.to_owned(),
        elem_type: dtype::F32,
        rank: Some(1),
    }
}

/// Root mean square of the latent's change, of the row where it is largest.
fn distance(s: Scribe<'_>, latent: &str, casts: bool) -> Vec<NodeProto> {
    let anchor = past(ANCHOR_LATENT);
    let (mut now, mut then) = (latent, anchor.as_str());
    let mut nodes = vec![s.constant(&tensor_i64("hgc.moved.rows", &[3], &[0, 1, -1]))];
    if casts {
        nodes.push(s.cast(now, "hgc.moved.now", dtype::F32));
        nodes.push(s.cast(then, "hgc.moved.then", dtype::F32));
        (now, then) = ("hgc.moved.now", "hgc.moved.then");
    }
    nodes.extend([
        s.node("Sub", &[now, then], &["hgc.moved.change"]),
        s.node(
            "Mul",
            &["hgc.moved.change", "hgc.moved.change"],
            &["hgc.moved.square"],
        ),
        // A mean by row whose axes are no matter of the opset.
        s.node(
            "Reshape",
            &["hgc.moved.square", "hgc.moved.rows"],
            &["hgc.moved.pool"],
        ),
        s.node(
            "GlobalAveragePool",
            &["hgc.moved.pool"],
            &["hgc.moved.mean"],
        ),
        s.node("Sqrt", &["hgc.moved.mean"], &["hgc.moved.root"]),
        s.node(
            "Reshape",
            &["hgc.moved.root", "hgc.decide.all"],
            &["hgc.moved.by"],
        ),
        s.node("ReduceMax", &["hgc.moved.by"], &["hgc.moved.far"]),
    ]);
    nodes
}
