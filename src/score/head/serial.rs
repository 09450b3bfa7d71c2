//! The head as a safetensors file, and back.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::features::Standard;
use super::network::{K, Network};
use super::{Critic, Platt};

const FORMAT: &str = "autodidact-critic-1";

pub(super) fn to_bytes(critic: &Critic) -> Result<Vec<u8>> {
    let Critic { network, standard, platt, .. } = critic;
    let mut rows: Vec<(&str, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, shape, range) in network.tensors() {
        rows.push((name, shape, f32_bytes(&network.parameters[range])));
    }
    rows.push(("standard.mean", vec![network.inputs], f32_bytes(&standard.mean)));
    rows.push(("standard.deviation", vec![network.inputs], f32_bytes(&standard.deviation)));
    let platt_bytes: Vec<u8> =
        platt.iter().flat_map(|p| [p.slope, p.offset]).flat_map(f64::to_le_bytes).collect();
    let mut views = Vec::new();
    for (name, shape, bytes) in &rows {
        views.push((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    views.push(("platt", TensorView::new(Dtype::F64, vec![K, 2], &platt_bytes)?));
    let metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

pub(super) fn from_bytes(bytes: &[u8]) -> Result<Critic> {
    let (_, header) = SafeTensors::read_metadata(bytes).context("the critic is not a safetensors file")?;
    let format = header.metadata().as_ref().and_then(|m| m.get("format")).map_or("none", String::as_str);
    ensure!(format == FORMAT, "the critic's format is `{format}`; this program reads `{FORMAT}`");
    let file = SafeTensors::deserialize(bytes)?;
    let shape = file.tensor("hidden.weight")?.shape().to_vec();
    ensure!(shape.len() == 2, "the critic's hidden.weight has shape {shape:?}; it needs two dimensions");
    let mut network = Network { inputs: shape[0], width: shape[1], parameters: Vec::new() };
    for (name, shape, _) in network.tensors() {
        let values = f32_values(&file, name, &shape)?;
        network.parameters.extend(values);
    }
    let standard = Standard {
        mean: f32_values(&file, "standard.mean", &[network.inputs])?,
        deviation: f32_values(&file, "standard.deviation", &[network.inputs])?,
    };
    let platt = tensor(&file, "platt", Dtype::F64, &[K, 2])?;
    let numbers: Vec<f64> =
        platt.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
    let platt = std::array::from_fn(|k| Platt { slope: numbers[2 * k], offset: numbers[2 * k + 1] });
    Critic::assembled(network, standard, platt)
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn f32_values(file: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let bytes = tensor(file, name, Dtype::F32, shape)?;
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect();
    ensure!(values.iter().all(|v| v.is_finite()), "the critic's {name} holds a value that is not finite");
    Ok(values)
}

fn tensor<'a>(file: &SafeTensors<'a>, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8]> {
    let view = file.tensor(name).with_context(|| format!("the critic lacks {name}"))?;
    ensure!(
        view.dtype() == dtype && view.shape() == shape,
        "the critic's {name} is {:?} {:?}; it must be {dtype:?} {shape:?}",
        view.dtype(),
        view.shape()
    );
    Ok(view.data())
}
