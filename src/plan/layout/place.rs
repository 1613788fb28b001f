//! A site's values, their shapes and the region that makes them.

use super::{LayoutError, Placed, SiteTensor};
use crate::analysis::Analysis;
use crate::analysis::dims::Shape;
use crate::graph::{Family, ValueId};
use crate::plan::data::{ModelPlan, Site};
use crate::plan::region;

/// Finds the values of `site` and derives the region that a refresh computes.
pub fn place(
    analysis: &Analysis<'_>,
    model: &ModelPlan,
    site: &Site,
) -> Result<Placed, LayoutError> {
    let graph = &analysis.graph;
    let name = || site.name.clone();
    let Some(gate) = model.gate(&site.gate) else {
        return Err(LayoutError::UnknownGate {
            site: name(),
            gate: site.gate.clone(),
        });
    };
    let mut values = Vec::new();
    for tensor in &site.tensors {
        let tensor = tensor.clone();
        let Some(value) = graph.value(&tensor) else {
            return Err(LayoutError::UnknownTensor {
                site: name(),
                tensor,
            });
        };
        if graph.producer(value).is_none() || graph.is_constant(value) {
            return Err(LayoutError::NotComputed {
                site: name(),
                tensor,
            });
        }
        values.push(value);
    }
    let region = region::derive(graph, &values);
    let made = |v: &ValueId| {
        graph
            .producer(*v)
            .is_some_and(|producer| region.nodes.contains(producer.index()))
    };
    if values.is_empty() || !values.iter().all(made) {
        return Err(LayoutError::EmptyRegion { site: name() });
    }
    let mut tensors: Vec<SiteTensor> = Vec::new();
    let count = values.len() + region.escapes.len();
    let all = values
        .iter()
        .map(|v| (*v, false))
        .chain(region.escapes.iter().map(|v| (*v, true)));
    for (i, (value, measure)) in all.enumerate() {
        let shape = analysis.shapes.get(value).cloned();
        // A shape is a vector; what is computed from it may be a number.
        let vector = measure
            && graph
                .producer(value)
                .is_some_and(|n| graph.family(n) == Family::Shape);
        if !vector && shape.as_ref().is_none_or(|s| s.elem_type == 0) {
            let tensor = graph.name(value).to_owned();
            return Err(LayoutError::UnknownShape {
                site: name(),
                tensor,
            });
        }
        let batch_axis = shape.as_ref().and_then(Shape::batch_axis);
        let suffix = if count == 1 {
            String::new()
        } else {
            format!(".{i}")
        };
        let cache = format!("{}{suffix}", site.name);
        tensors.push(SiteTensor {
            value,
            name: cache,
            shape,
            batch_axis,
            measure,
        });
    }
    let (region, schedule) = (region.nodes, gate.schedule.clone());
    Ok(Placed {
        site: site.clone(),
        tensors,
        region,
        parent: None,
        schedule,
    })
}
