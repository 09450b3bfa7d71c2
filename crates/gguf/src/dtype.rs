//! The types a GGUF tensor's elements can have: plain numbers, or blocks that share a scale.

use anyhow::{Result, bail};

/// How a tensor's elements are stored. Rows consist of whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    /// Something that can't be read, by its number in the format.
    Other(u32),
}

/// (type, its number, its name, elements of a block, bytes of a block)
const TYPES: [(Dtype, u32, &str, usize, usize); 11] = [
    (Dtype::F32, 0, "F32", 1, 4),
    (Dtype::F16, 1, "F16", 1, 2),
    (Dtype::Q4_0, 2, "Q4_0", 32, 18),
    (Dtype::Q4_1, 3, "Q4_1", 32, 20),
    (Dtype::Q5_0, 6, "Q5_0", 32, 22),
    (Dtype::Q5_1, 7, "Q5_1", 32, 24),
    (Dtype::Q8_0, 8, "Q8_0", 32, 34),
    (Dtype::Q4K, 12, "Q4_K", 256, 144),
    (Dtype::Q5K, 13, "Q5_K", 256, 176),
    (Dtype::Q6K, 14, "Q6_K", 256, 210),
    (Dtype::Bf16, 30, "BF16", 1, 2),
];

/// Names of types that can't be read, for messages.
const OTHERS: [(u32, &str); 22] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl Dtype {
    /// The type with the format's number; a number that is not known is kept.
    pub fn from_id(id: u32) -> Self {
        TYPES.iter().find(|row| row.1 == id).map_or(Self::Other(id), |row| row.0)
    }

    /// Its number in the format.
    pub fn id(self) -> u32 {
        match self {
            Self::Other(id) => id,
            known => TYPES.iter().find(|row| row.0 == known).map_or(u32::MAX, |row| row.1),
        }
    }

    /// The name as ggml writes it.
    pub fn name(self) -> String {
        match self {
            Self::Other(id) => {
                let known = OTHERS.iter().find(|(other, _)| *other == id);
                known.map_or_else(|| format!("of type {id}"), |(_, name)| (*name).to_owned())
            }
            known => TYPES.iter().find(|row| row.0 == known).map_or_else(String::new, |row| row.2.to_owned()),
        }
    }

    /// Elements and bytes of one block.
    pub fn block(self) -> Result<(usize, usize)> {
        match TYPES.iter().find(|row| row.0 == self) {
            Some((.., elements, bytes)) => Ok((*elements, *bytes)),
            None => {
                let supported = TYPES.map(|row| row.2).join(", ");
                bail!("{} tensors are not supported; supported: {supported}", self.name())
            }
        }
    }
}
