//! Where a policy is: on the CPU with its kernels, or on a candle device.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Var};

use crate::ops;

/// A device, by the name that users give it.
#[derive(Clone, Debug)]
pub struct Place {
    device: Device,
    /// Whether the kernels run there.
    kernels: bool,
}

/// Opened devices, by the name they were opened with.
static OPENED: Mutex<BTreeMap<String, Place>> = Mutex::new(BTreeMap::new());

impl Place {
    /// `cpu`, `cuda`, `cuda:1`, `metal`, or `composed`, which runs the operators of the other
    /// devices on the CPU (slow; for testing).
    ///
    /// A device is opened once, because tensors of two openings can't be mixed.
    ///
    /// # Errors
    /// An unknown name, or a device that this build or machine doesn't have.
    pub fn parse(name: &str) -> Result<Self> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = opened.get(name) {
            return Ok(place.clone());
        }
        let place = Self::open(name)?;
        opened.insert(name.to_owned(), place.clone());
        Ok(place)
    }

    fn open(name: &str) -> Result<Self> {
        let (kind, index) = match name.split_once(':') {
            Some((kind, index)) => {
                let index = index.parse().with_context(|| format!("run.device = {name:?} has no number"))?;
                (kind, index)
            }
            None => (name, 0),
        };
        let without = |feature: &str| {
            format!(
                "run.device = {name:?} can't be used; it needs a build with `--features {feature}` and the device"
            )
        };
        let device = match kind {
            "cpu" => return Ok(Self { device: Device::Cpu, kernels: true }),
            "composed" => {
                ops::compose_everywhere();
                Device::Cpu
            }
            "cuda" => Device::new_cuda(index).with_context(|| without("cuda"))?,
            "metal" => Device::new_metal(index).with_context(|| without("metal"))?,
            _ => bail!("run.device = {name:?} is unknown; there are cpu, cuda, cuda:N, metal and composed"),
        };
        Ok(Self { device, kernels: false })
    }

    /// Whether it is the CPU with its kernels.
    pub fn is_kernels(&self) -> bool {
        self.kernels
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// A copy on this device that shares nothing with `var`.
    pub(super) fn var(&self, var: &Var) -> Result<Var> {
        Ok(Var::from_tensor(&var.as_detached_tensor().to_device(&self.device)?)?)
    }
}
