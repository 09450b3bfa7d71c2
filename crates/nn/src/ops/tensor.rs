//! What every operator does with candle's tensors: check shapes, borrow elements, build results.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use candle_core::{CpuStorage, DType, Device, Error, Layout, Shape, Storage, StorageRef, Tensor};

use super::tape::is_recording;

/// candle's own result, which its traits want.
pub(super) type Candle<T> = candle_core::Result<T>;

static COMPOSED: AtomicBool = AtomicBool::new(false);

/// From now on computes on the CPU, too, with what other devices compute with: slow, and good for finding out what
/// they will do.
pub fn compose_everywhere() {
    COMPOSED.store(true, Ordering::Relaxed);
}

/// Whether operators on `t` are composed of candle's, because the kernels are the CPU's.
pub(super) fn is_elsewhere(t: &Tensor) -> bool {
    !t.device().is_cpu() || COMPOSED.load(Ordering::Relaxed)
}

/// A contiguous f32 tensor, or an error that names the operator's argument.
pub(super) fn argument(name: &str, t: &Tensor) -> Result<Tensor> {
    ensure!(t.dtype() == DType::F32, "{name} is {:?}; the operators compute in f32: convert it", t.dtype());
    ensure!(t.is_contiguous() || !is_recording(), "{name} is strided: the copy would cut the backward pass");
    Ok(t.contiguous()?)
}

/// [`argument`] of two dimensions, with their sizes.
pub(super) fn matrix(name: &str, t: &Tensor) -> Result<(Tensor, usize, usize)> {
    ensure!(t.rank() == 2, "{name} has shape {:?}; it must have two dimensions", t.dims());
    Ok((argument(name, t)?, t.dims()[0], t.dims()[1]))
}

/// The elements a custom operator was given.
pub(super) fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Candle<&'a [f32]> {
    let (from, to) = layout.contiguous_offsets().ok_or_else(|| Error::Msg("a strided argument".into()))?;
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// A borrow of a tensor's elements.
pub(super) struct Elements<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Elements<'a> {
    /// `t` must be contiguous and on the CPU.
    pub(super) fn of(t: &'a Tensor) -> Self {
        let (storage, layout) = t.storage_and_layout();
        Self { storage, layout }
    }

    pub(super) fn get(&self) -> Candle<&[f32]> {
        match &*self.storage {
            Storage::Cpu(storage) => elements(storage, self.layout),
            _ => Err(Error::Msg("a tensor that is not on the CPU".into())),
        }
    }
}

/// A result of a custom operator.
pub(super) fn output(data: Vec<f32>, shape: impl Into<Shape>) -> Candle<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(data), shape.into()))
}

/// A gradient shaped like `like`.
pub(super) fn gradient(data: Vec<f32>, like: &Tensor) -> Candle<Option<Tensor>> {
    Ok(Some(Tensor::from_vec(data, like.shape(), &Device::Cpu)?))
}

/// Lends a tensor's values, in row-major order, wherever it lives.
pub fn with_values<T>(tensor: &Tensor, with: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else { bail!("the tensor could not be brought to the CPU") };
    Ok(with(&cpu.as_slice::<f32>()?[layout.start_offset()..][..layout.shape().elem_count()]))
}
