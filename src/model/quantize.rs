//! Which type each matrix gets, and writing a model as GGUF: matrices in block types, norms and biases
//! in f32, the tokenizer in the metadata. llama.cpp and our own engine read the same file.
//!
//! K-quants are blocks of 256 weights whose scales are quantized themselves. Their scales are searched so
//! that the squared error of a row is least where its inputs are large: each weight's error counts by the
//! mean square of its input ([`Moments`]), llama.cpp's idea of an importance matrix.

mod metadata;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::config::{ModelConfig, ROPE};
use super::family::{Place, Rows, in_gguf};
use super::gguf;
use super::groups::{Group, Part, types_by_part};
use super::weights::Weights;
use crate::files;

/// The types that matrices can be written in, largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum FileType {
    /// 32-bit floats.
    #[serde(rename = "f32")]
    F32,
    /// 8-bit integers in blocks of 32 with a 16-bit scale: 8.5 bits per weight.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 6-bit integers in blocks of 256 with 16 scales of 8 bits: 6.56 bits per weight.
    #[serde(rename = "q6_k")]
    Q6K,
    /// 4-bit integers in blocks of 256 with 8 scales and minima of 6 bits: 4.5 bits per weight.
    #[serde(rename = "q4_k")]
    Q4K,
}

impl FileType {
    /// All of them, largest first.
    pub const ALL: [FileType; 4] = [FileType::F32, FileType::Q8_0, FileType::Q6K, FileType::Q4K];

    fn dtype(self) -> GgmlDType {
        match self {
            FileType::F32 => GgmlDType::F32,
            FileType::Q8_0 => GgmlDType::Q8_0,
            FileType::Q6K => GgmlDType::Q6K,
            FileType::Q4K => GgmlDType::Q4K,
        }
    }

    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            FileType::F32 => "f32",
            FileType::Q8_0 => "q8_0",
            FileType::Q6K => "q6_k",
            FileType::Q4K => "q4_k",
        }
    }

    /// llama.cpp's number of a file that is mostly of this type, for its display only.
    fn number(self) -> i64 {
        match self {
            FileType::F32 => 0,
            FileType::Q8_0 => 7,
            FileType::Q6K => 18,
            FileType::Q4K => 15,
        }
    }

    /// This type, or the next larger one whose blocks fill rows of that many weights.
    pub fn fitting(self, columns: usize) -> FileType {
        let fits = |kind: FileType| columns.is_multiple_of(kind.dtype().block_size());
        let larger = FileType::ALL.into_iter().rev().filter(|kind| *kind <= self);
        larger.into_iter().find(|kind| fits(*kind)).unwrap_or(FileType::F32)
    }
}

/// Mean square of each input feature of a group's matrices, over some text.
pub type Moments = BTreeMap<Group, Vec<f32>>;

/// A type for every group of matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The types wanted; a matrix whose rows are no whole blocks gets the next larger type that fits.
    pub kinds: BTreeMap<Group, FileType>,
    /// What the scales of K-quants are fitted to; a group without any counts all inputs alike.
    pub moments: Moments,
}

impl Plan {
    /// One type for all, but never less than Q6_K for embedding and head: every token passes through
    /// them, and at Q4_K they cost more quality than any other group.
    pub fn uniform(config: &ModelConfig, kind: FileType) -> Plan {
        let kind_of = |group: &Group| match group.part {
            Part::Embedding | Part::Head => kind.min(FileType::Q6K),
            _ => kind,
        };
        let kinds = Group::all(config).into_keys().map(|group| (group, kind_of(&group))).collect();
        Plan { kinds, moments: Moments::new() }
    }

    /// The type that a tensor of that name and shape is written in.
    pub fn stored(&self, name: &str, shape: &[usize]) -> FileType {
        let kind = Group::of(name).and_then(|group| self.kinds.get(&group));
        let kind = kind.copied().unwrap_or(FileType::F32);
        kind.fitting(shape.last().copied().unwrap_or(0))
    }

    /// The types of each part's matrices.
    pub fn types(&self, config: &ModelConfig) -> Vec<(Part, String)> {
        let shapes: BTreeMap<String, Vec<usize>> = config.tensors().into_iter().collect();
        types_by_part(config, |name| self.stored(name, &shapes[name]).name())
    }

    /// Bytes of a tensor's data.
    pub fn bytes(&self, name: &str, shape: &[usize]) -> u64 {
        let dtype = self.stored(name, shape).dtype();
        (shape.iter().product::<usize>() / dtype.block_size() * dtype.type_size()) as u64
    }

    /// Bytes of all tensors' data in a file, which is padded.
    pub fn tensor_bytes(&self, config: &ModelConfig) -> u64 {
        let bytes = |part: &InFile| self.bytes(&part.name, &part.shape);
        let sizes = layout(config).into_iter().map(|(_, parts)| parts.iter().map(bytes).sum());
        let rope = rope_tensor(config).map(|tensor| tensor.3.len() as u64);
        sizes.chain(rope).map(|size: u64| size.next_multiple_of(gguf::ALIGNMENT as u64)).sum()
    }

    /// Matrices that do not get the type wanted for them, with the type they get.
    pub fn fallbacks(&self, config: &ModelConfig) -> Vec<(String, FileType)> {
        let matrices = Group::all(config).into_iter().flat_map(|(group, matrices)| {
            matrices.into_iter().map(move |(name, shape)| (group, name, shape))
        });
        matrices
            .filter_map(|(group, name, shape)| {
                let stored = self.stored(&name, &shape);
                (self.kinds.get(&group) != Some(&stored)).then_some((name, stored))
            })
            .collect()
    }

    /// A dense matrix in its planned type.
    pub(super) fn quantize(&self, name: &str, dense: &Tensor) -> candle_core::Result<QTensor> {
        let kind = self.stored(name, dense.dims());
        if !matches!(kind, FileType::Q6K | FileType::Q4K) {
            return QTensor::quantize(dense, kind.dtype());
        }
        let moments = Group::of(name).and_then(|group| self.moments.get(&group));
        let columns = dense.dims().last().copied().unwrap_or(0);
        let mut importance = match moments {
            Some(moments) if moments.len() == columns => moments.clone(),
            _ => vec![1.0; columns],
        };
        // An input that was never seen may still come: no weight is worth nothing.
        let mean = importance.iter().sum::<f32>() / columns.max(1) as f32;
        importance.iter_mut().for_each(|x| *x += 1e-3 * mean + f32::MIN_POSITIVE);
        QTensor::quantize_imatrix(dense, &importance, kind.dtype())
    }

    /// The type that most weights have.
    fn main_kind(&self, config: &ModelConfig) -> FileType {
        let mut weights: BTreeMap<FileType, usize> = BTreeMap::new();
        for (name, shape) in config.tensors() {
            *weights.entry(self.stored(&name, &shape)).or_default() +=
                shape.iter().product::<usize>();
        }
        weights.into_iter().max_by_key(|(_, n)| *n).map_or(FileType::F32, |(kind, _)| kind)
    }
}

/// Writes every matrix in one type; see [`write_plan`].
pub fn write_gguf(weights: &Weights, name: &str, kind: FileType, out: &Path) -> Result<()> {
    write_plan(weights, name, &Plan::uniform(&weights.config, kind), out)
}

/// Quantizes every matrix and writes the file whole or not at all.
///
/// # Errors
/// A model that GGUF has no words for; a folder that cannot be written.
pub fn write_plan(weights: &Weights, name: &str, plan: &Plan, out: &Path) -> Result<()> {
    let config = &weights.config;
    let metadata = metadata::of(weights, name, plan.main_kind(config))?;
    let mut tensors = layout(config)
        .into_par_iter()
        .map(|tensor| {
            let mut data = Vec::new();
            for part in &tensor.1 {
                let dense = part.in_order(weights.dense(&part.name)?)?;
                data.extend_from_slice(&plan.quantize(&part.name, &dense)?.data()?);
            }
            let (name, shape, dtype, _) = described(plan, tensor);
            Ok((name, shape, dtype, data))
        })
        .collect::<Result<Vec<_>>>()?;
    tensors.extend(rope_tensor(config));
    files::replace(out, |file| {
        gguf::write(file, &metadata, &tensors)?;
        file.flush()?;
        Ok(file.get_ref().sync_all()?)
    })
}

/// The size in bytes of the file that [`write_plan`] would write.
pub fn file_size(weights: &Weights, name: &str, plan: &Plan) -> Result<u64> {
    let config = &weights.config;
    let metadata = metadata::of(weights, name, plan.main_kind(config))?;
    let tensors = layout(config).into_iter().map(|tensor| described(plan, tensor));
    let rope = rope_tensor(config).map(|(name, shape, dtype, _)| (name, shape, dtype, Vec::new()));
    // Offsets have a fixed width: the head is as long without the data.
    let mut head = Vec::new();
    gguf::write(&mut head, &metadata, &tensors.chain(rope).collect::<Vec<_>>())?;
    Ok(head.len() as u64 + plan.tensor_bytes(config))
}

/// A tensor as it is written: name, shape, type, bytes.
type Written = (String, Vec<usize>, GgmlDType, Vec<u8>);

/// A tensor of the network within one of a file.
struct InFile {
    name: String,
    shape: Vec<usize>,
    rows: Rows,
}

impl InFile {
    /// Its values with their rows in the file's order.
    fn in_order(&self, dense: Tensor) -> candle_core::Result<Tensor> {
        if !matches!(self.rows, Rows::Paired { .. }) {
            return Ok(dense);
        }
        let mut order = vec![0; self.shape[0]];
        (0..self.shape[0]).for_each(|row| order[self.rows.source(row)] = row as u32);
        dense.index_select(&Tensor::new(order, &Device::Cpu)?, 0)
    }
}

/// The tensors of a file, each with those of the network that lie in it one behind the other.
fn layout(config: &ModelConfig) -> Vec<(String, Vec<InFile>)> {
    let is_fused = config.model_type.traits().fused;
    let mut list: Vec<(String, Vec<InFile>)> = Vec::new();
    for (name, shape) in config.tensors() {
        let Place { tensor, rows } = in_gguf(config, &name, |_| is_fused);
        let part = InFile { name, shape, rows };
        match list.last_mut() {
            Some((last, parts)) if *last == tensor => parts.push(part),
            _ => list.push((tensor, vec![part])),
        }
    }
    list
}

/// Name, shape and type of a tensor of a file, without its bytes.
fn described(plan: &Plan, (name, parts): (String, Vec<InFile>)) -> Written {
    let mut shape = parts[0].shape.clone();
    shape[0] = parts.iter().map(|part| part.shape[0]).sum();
    // Matrices that lie in one are of one group, so they have one type.
    (name, shape, plan.stored(&parts[0].name, &parts[0].shape).dtype(), Vec::new())
}

/// The divisors of the rotary frequencies, where they are not one factor that the metadata hold.
fn rope_tensor(config: &ModelConfig) -> Option<Written> {
    let divisors = &config.details.rope_divisors;
    let is_one = divisors.windows(2).all(|pair| pair[0] == pair[1]);
    let bytes = || bytemuck::cast_slice(divisors).to_vec();
    (!is_one).then(|| (ROPE.into(), vec![divisors.len()], GgmlDType::F32, bytes()))
}
