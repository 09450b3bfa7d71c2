//! What optimizers keep of a parameter between steps: in f32, or in half of that memory.
//!
//! bf16 has 8 bits of precision, and a moment often moves by less than the last of them: rounded to the nearest number it
//! would stay where it is. So it is rounded up or down at random, with the odds by which its mean is exact (stochastic
//! rounding; Zamirai et al. 2021, "Revisiting BFloat16 Training"). The draws have an address, below the one that an
//! optimizer is given, by parameter, buffer, update and element: the bits depend on nothing else.

use anyhow::{Result, ensure};
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::domain::{Address, Purpose};

/// What optimizers keep their moments in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MomentPrecision {
    #[default]
    F32,
    /// Half the memory, by stochastic rounding.
    Bf16,
}

impl MomentPrecision {
    /// Whether it is stored in f32.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// Of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// How an optimizer keeps its moments.
#[derive(Clone, Debug)]
pub struct MomentStorage {
    pub precision: MomentPrecision,
    /// Below it stand the draws that round moments in bf16.
    pub address: Address,
}

impl Default for MomentStorage {
    /// In f32.
    fn default() -> Self {
        let address = Address::new(0, Purpose::Training, 0, "moments", &[]);
        Self { precision: MomentPrecision::F32, address }
    }
}

/// A buffer of an optimizer, as long as the parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    F32(Vec<f32>),
    /// The bits of bf16 numbers.
    Bf16(Vec<u16>),
}

impl Moment {
    /// Zeros.
    pub(super) fn new(precision: MomentPrecision, count: usize) -> Self {
        match precision {
            MomentPrecision::F32 => Self::F32(vec![0.0; count]),
            MomentPrecision::Bf16 => Self::Bf16(vec![0; count]),
        }
    }

    /// Elements.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(bits) => bits.len(),
        }
    }

    /// The same buffer, if it is of this precision.
    pub(super) fn expect(self, precision: MomentPrecision) -> Result<Self> {
        let own = match self {
            Self::F32(_) => MomentPrecision::F32,
            Self::Bf16(_) => MomentPrecision::Bf16,
        };
        ensure!(own == precision, "a moment is kept in {own:?}, where {precision:?} is wanted");
        Ok(self)
    }

    /// The only element of a buffer in f32.
    pub(super) fn single(&self) -> Result<f32> {
        match self {
            Self::F32(values) if values.len() == 1 => Ok(values[0]),
            other => anyhow::bail!("an optimizer's step is {} values instead of one of f32", other.count()),
        }
    }

    /// Lends the buffer in shares of `share` elements, an even number.
    pub(super) fn shares(&mut self, length: usize) -> Vec<Share<'_>> {
        assert!(length.is_multiple_of(2), "shares of {length} elements");
        let parts: Vec<Part> = match self {
            Self::F32(values) => values.chunks_mut(length).map(Part::F32).collect(),
            Self::Bf16(bits) => bits.chunks_mut(length).map(Part::Bf16).collect(),
        };
        parts.into_iter().enumerate().map(|(i, part)| Share { first: i * length, part }).collect()
    }

    /// Lends all of it, in one share.
    pub(super) fn whole(&mut self) -> Share<'_> {
        let part = match self {
            Self::F32(values) => Part::F32(values),
            Self::Bf16(bits) => Part::Bf16(bits),
        };
        Share { first: 0, part }
    }
}

/// Elements of a buffer that one thread updates.
pub(super) struct Share<'a> {
    /// Where in the buffer it begins.
    first: usize,
    part: Part<'a>,
}

enum Part<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [u16]),
}

impl Share<'_> {
    /// Has the elements changed as f32; where they are kept in bf16, what comes out is rounded.
    pub(super) fn update(self, rounding: &Rounding<'_>, change: impl FnOnce(&mut [f32])) {
        match self.part {
            Part::F32(values) => change(values),
            Part::Bf16(bits) => {
                let mut values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).collect();
                change(&mut values);
                rounding.round(self.first, &values, bits);
            }
        }
    }
}

/// Where the draws stand that round one buffer in one update.
pub(super) struct Rounding<'a> {
    pub address: &'a Address,
    pub parameter: &'a str,
    pub buffer: &'a str,
    pub update: u32,
}

impl Rounding<'_> {
    /// Rounds elements `first..` of the buffer, which are finite: 16 drawn bits are added below those that stay.
    fn round(&self, first: usize, values: &[f32], to: &mut [u16]) {
        let mut address = self.address.child(self.update);
        // Names hold no slash.
        address.task = format!("{}/{}/{}", address.task, self.parameter, self.buffer);
        let mut stream = address.stream();
        // A word of the stream serves two elements.
        stream.set_word_pos(first as u128 / 2);
        let mut drawn = vec![0; 2 * to.len().next_multiple_of(2)];
        stream.fill_bytes(&mut drawn);
        for ((to, x), drawn) in to.iter_mut().zip(values).zip(drawn.as_chunks().0) {
            *to = ((x.to_bits() + u32::from(u16::from_le_bytes(*drawn))) >> 16) as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(buffer: &str, update: u32, first: usize, values: &[f32]) -> Vec<f32> {
        let mut bits = vec![0; values.len()];
        let address = &MomentStorage::default().address;
        Rounding { address, parameter: "p", buffer, update }.round(first, values, &mut bits);
        bits.into_iter().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()
    }

    #[test]
    fn a_number_goes_up_as_often_as_its_place_between_neighbours_says() {
        // The next bf16 number after 1 is 1 + 1/128.
        for (x, share) in [(1.0, 0.0), (1.0 + 0.25 / 128.0, 0.25), (1.0 + 0.9 / 128.0, 0.9), (0.0, 0.0)] {
            for sign in [1.0, -1.0] {
                let all = rounded("b", 3, 0, &[x * sign; 20_000]);
                let up = all.iter().filter(|&&y| y.abs() > x).count() as f64 / 20_000.0;
                assert!((up - share).abs() < 0.01, "{x} went up in {up}");
                assert!(all.iter().all(|&y| (y - x * sign).abs() < 1.0 / 128.0 && y.signum() == sign));
            }
        }
    }

    #[test]
    fn draws_depend_on_their_address_alone() {
        let values = [1.003; 99];
        let whole = rounded("b", 3, 0, &values);
        assert_eq!([rounded("b", 3, 0, &values[..34]), rounded("b", 3, 34, &values[34..])].concat(), whole);
        for other in [rounded("b", 4, 0, &values), rounded("c", 3, 0, &values), rounded("b", 3, 2, &values)] {
            assert_ne!(other, whole);
        }
        let base = MomentStorage::default().address;
        for address in [Address { seed: 1, ..base.clone() }, Address { iteration: 1, ..base }] {
            let mut bits = vec![0; 99];
            Rounding { address: &address, parameter: "p", buffer: "b", update: 3 }
                .round(0, &values, &mut bits);
            assert!(
                bits.iter().zip(&whole).any(|(bits, x)| u32::from(*bits) << 16 != x.to_bits()),
                "{address}"
            );
        }
    }
}
