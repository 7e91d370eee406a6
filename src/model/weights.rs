//! Where weights come from: a GGUF file, or a Hugging Face directory with one or several safetensors
//! files. Both answer the same question: the tensor of this checkpoint name, in which type.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};

use super::config::{ModelConfig, gguf_config, gguf_vocabulary};
use super::family::{NormKind, Place, Rows, in_gguf, in_safetensors};
use super::gguf::{Gguf, GgufError, TensorInfo};
use super::peft::Adapter;
use super::safetensors::OwnedTensor;
use super::split;
use crate::tokenizer::Tokenizer;

/// Why a model cannot be loaded. The text names the path, what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct LoadError {
    path: String,
    reason: String,
}

impl LoadError {
    /// An error about this path.
    pub fn new(path: &Path, reason: impl ToString) -> LoadError {
        LoadError { path: path.display().to_string(), reason: reason.to_string() }
    }

    /// An error about a file or directory that is not whole.
    pub(super) fn broken(path: &Path, reason: impl std::fmt::Display) -> LoadError {
        LoadError::new(path, format!("{reason}; download or copy it again"))
    }
}

type Result<T> = std::result::Result<T, LoadError>;

/// Bytes that live as long as the weights are read from.
enum Bytes {
    Mapped(memmap2::Mmap),
    Embedded(&'static [u8]),
}

impl Bytes {
    fn map(path: &Path) -> Result<Bytes> {
        let file = File::open(path).map_err(|e| LoadError::new(path, e))?;
        // SAFETY: the map is read-only. A file that another program shortens meanwhile would raise
        // SIGBUS; models are replaced by renaming, never rewritten in place.
        match unsafe { memmap2::Mmap::map(&file) } {
            Ok(map) => Ok(Bytes::Mapped(map)),
            Err(e) => Err(LoadError::new(path, e)),
        }
    }

    /// These bytes were copied: the system may have the memory back. They are read from the file again if need be.
    fn release(&self, range: &std::ops::Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: nothing is written to the map, so its pages come back from the file as they were.
            let _ = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }
}

enum Source {
    Gguf { files: Vec<Bytes>, header: Gguf },
    Safetensors { files: Vec<Bytes>, tensors: HashMap<String, SafeTensor> },
}

struct SafeTensor {
    file: usize,
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    range: std::ops::Range<usize>,
}

/// An opened model: its shape and the place of its tensors.
pub struct Weights {
    /// The shape.
    pub config: ModelConfig,
    /// Bytes of all weight files.
    pub file_size: u64,
    path: PathBuf,
    source: Source,
    /// What is added to the matrices of the file, and how much of it.
    pub(super) adapter: Option<(Adapter, f32)>,
    /// What stands in place of tensors of the file.
    replaced: HashMap<String, Vec<f32>>,
}

impl Weights {
    /// Opens a GGUF file or a directory with config.json, tokenizer.json and *.safetensors. The kind is
    /// told by content, not by name. Any part of a model in several GGUF files stands for all of them.
    ///
    /// # Errors
    /// No such model, one of its files is missing or broken, or it cannot be run here.
    pub fn open(path: &Path) -> Result<Weights> {
        let metadata = std::fs::metadata(path).map_err(|e| {
            let reason = match e.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".into(),
                _ => e.to_string(),
            };
            LoadError::new(path, format!("{reason}; give a GGUF file or a model directory"))
        })?;
        if metadata.is_dir() {
            let has_config = path.join("config.json").exists();
            return match split::in_folder(path).filter(|_| !has_config) {
                Some(gguf) => Weights::gguf(Bytes::map(&gguf)?, &gguf),
                None => Weights::directory(path),
            };
        }
        if metadata.len() == 0 {
            return Err(LoadError::broken(path, "the file is empty"));
        }
        let bytes = Bytes::map(path)?;
        if !bytes.starts_with(b"GGUF") && bytes.get(8) == Some(&b'{') {
            let reason = "is a safetensors file; give the directory that holds it, with its \
                          config.json and tokenizer.json";
            return Err(LoadError::new(path, reason));
        }
        Weights::gguf(bytes, path)
    }

    /// Opens GGUF bytes that are part of the program; `path` stands for them in messages.
    pub fn embedded(bytes: &'static [u8], path: &Path) -> Result<Weights> {
        Weights::gguf(Bytes::Embedded(bytes), path)
    }

    fn gguf(bytes: Bytes, path: &Path) -> Result<Weights> {
        let at = |e: GgufError| gguf_error(path, e);
        let header = Gguf::parse(&bytes).map_err(at)?;
        let parts = split::parts(path, &header)?;
        let (files, header) = match parts.is_empty() {
            true => (vec![bytes], header),
            false => joined(&parts)?,
        };
        let values = |info: &TensorInfo| {
            let data = files[info.file][info.range.clone()].as_chunks::<4>().0;
            let values = data.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            (info.dtype == GgmlDType::F32).then_some(values)
        };
        let config = gguf_config(&header, values).map_err(at)?;
        let file_size = files.iter().map(|f| f.len() as u64).sum();
        let path = path.to_path_buf();
        let source = Source::Gguf { files, header };
        Weights { config, file_size, path, source, adapter: None, replaced: HashMap::new() }
            .checked()
    }

    fn directory(path: &Path) -> Result<Weights> {
        let json = read_part(path, "config.json")?;
        let config = ModelConfig::from_json(&json)
            .map_err(|e| LoadError::new(&path.join("config.json"), e))?;
        let entries = std::fs::read_dir(path).map_err(|e| LoadError::new(path, e))?;
        let mut names: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        names.sort();
        if names.is_empty() {
            return Err(LoadError::broken(path, "holds no *.safetensors file"));
        }
        let (mut files, mut tensors) = (Vec::new(), HashMap::new());
        for name in &names {
            let bytes = Bytes::map(name)?;
            let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes)
                .map_err(|e| LoadError::broken(name, format!("no whole safetensors file: {e}")))?;
            let start = header + 8;
            for (tensor, info) in metadata.tensors() {
                let range = start + info.data_offsets.0..start + info.data_offsets.1;
                if range.end > bytes.len() {
                    return Err(LoadError::broken(name, format!("truncated: {tensor} is cut off")));
                }
                let (dtype, shape) = (info.dtype, info.shape.clone());
                tensors.insert(tensor, SafeTensor { file: files.len(), dtype, shape, range });
            }
            files.push(bytes);
        }
        let file_size = files.iter().map(|f| f.len() as u64).sum();
        let (path, source) = (path.to_path_buf(), Source::Safetensors { files, tensors });
        Weights { config, file_size, path, source, adapter: None, replaced: HashMap::new() }
            .checked()
    }

    /// The tokenizer that came with the weights: tokenizer.json, or the metadata of the GGUF file.
    ///
    /// # Errors
    /// It is missing or broken, or has more tokens than the embedding table.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let at = |e: GgufError| gguf_error(&self.path, e);
        let (tokenizer, place) = match &self.source {
            Source::Gguf { header, .. } => {
                (Tokenizer::from_gguf(gguf_vocabulary(header).map_err(at)?), self.path.clone())
            }
            Source::Safetensors { .. } => {
                let json = read_part(&self.path, "tokenizer.json")?;
                (Tokenizer::from_json(json.as_bytes()), self.path.join("tokenizer.json"))
            }
        };
        let tokenizer = tokenizer.map_err(|e| LoadError::broken(&place, format!("{e:#}")))?;
        let (tokens, rows) = (tokenizer.vocab_size(), self.config.vocab_size);
        if tokens > rows {
            let reason = format!(
                "the tokenizer has {tokens} tokens but the model only {rows}: \
                 they do not belong together; use the one that came with the model"
            );
            return Err(LoadError::new(&place, reason));
        }
        Ok(tokenizer)
    }

    /// Where they were read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata, if they are a GGUF file.
    pub(super) fn metadata(&self) -> Option<&Gguf> {
        match &self.source {
            Source::Gguf { header, .. } => Some(header),
            Source::Safetensors { .. } => None,
        }
    }

    /// Every tensor is there with its shape.
    fn checked(self) -> Result<Weights> {
        for (name, mut wanted) in self.config.tensors() {
            let Place { tensor, rows } = self.place(&name);
            wanted[0] = rows.stored(wanted[0]);
            match self.stored_shape(&tensor) {
                Some(found) if found == wanted => {}
                Some(found) => {
                    let reason = format!(
                        "tensor {tensor} is {found:?}, the model's configuration says {wanted:?}"
                    );
                    return Err(LoadError::new(&self.path, reason));
                }
                None => {
                    return Err(LoadError::broken(
                        &self.path,
                        format!("tensor {tensor} is missing"),
                    ));
                }
            }
        }
        Ok(self)
    }

    /// Where the file has a tensor of the network.
    fn place(&self, name: &str) -> Place {
        match &self.source {
            Source::Gguf { header, .. } => {
                in_gguf(&self.config, name, |tensor| header.tensors.contains_key(tensor))
            }
            Source::Safetensors { .. } => in_safetensors(&self.config, name),
        }
    }

    /// The shape of a tensor of the file.
    fn stored_shape(&self, tensor: &str) -> Option<&[usize]> {
        match &self.source {
            Source::Gguf { header, .. } => header.tensors.get(tensor).map(|info| &*info.shape),
            Source::Safetensors { tensors, .. } => tensors.get(tensor).map(|t| &*t.shape),
        }
    }

    /// An error about this model.
    pub fn error(&self, reason: impl ToString) -> LoadError {
        LoadError::new(&self.path, reason)
    }

    /// These weights with other values for some tensors, (name, shape, values): what reads or writes a model from
    /// now on sees those.
    ///
    /// # Errors
    /// A tensor that the model does not have, or of another shape.
    pub fn with_values(mut self, tensors: Vec<OwnedTensor>) -> Result<Weights> {
        let known: HashMap<String, Vec<usize>> = self.config.tensors().into_iter().collect();
        for (name, shape, values) in tensors {
            let count: usize = shape.iter().product();
            let fits = known.get(&name) == Some(&shape) && values.len() == count;
            if !fits {
                return Err(self.error(format!("has no tensor {name} of the shape {shape:?}")));
            }
            self.replaced.insert(name, values);
        }
        Ok(self)
    }

    /// The type that the file holds a tensor in, as it is called there, in lower case.
    pub fn stored_type(&self, name: &str) -> &'static str {
        let tensor = self.place(name).tensor;
        match &self.source {
            Source::Gguf { header, .. } => {
                header.tensors.get(&tensor).map_or("none", |info| type_name(info.dtype))
            }
            Source::Safetensors { tensors, .. } => match tensors.get(&tensor).map(|t| t.dtype) {
                Some(safetensors::Dtype::F32) => "f32",
                Some(safetensors::Dtype::F16) => "f16",
                Some(safetensors::Dtype::BF16) => "bf16",
                Some(_) => "unsupported",
                None => "none",
            },
        }
    }

    /// Whether the file holds this tensor in blocks.
    pub fn is_quantized(&self, name: &str) -> bool {
        !matches!(self.stored_type(name), "f32" | "f16" | "bf16")
    }

    /// Bytes of this tensor in the file.
    pub fn stored_bytes(&self, name: &str) -> usize {
        self.bytes(name).len()
    }

    /// The bytes of a tensor that is there, its rows as the file has them; its own rows alone where the file
    /// holds several tensors in one.
    fn bytes(&self, name: &str) -> Cow<'_, [u8]> {
        let place = self.place(name);
        match place.rows {
            Rows::All | Rows::Paired { .. } => Cow::Borrowed(self.file_bytes(&place.tensor)),
            Rows::Part { .. } | Rows::OfHeads { .. } => self.rows(name, &place).0,
        }
    }

    /// The bytes of a tensor of the file.
    fn file_bytes(&self, tensor: &str) -> &[u8] {
        match &self.source {
            Source::Gguf { files, header } => {
                let info = &header.tensors[tensor];
                &files[info.file][info.range.clone()]
            }
            Source::Safetensors { files, tensors } => {
                let tensor = &tensors[tensor];
                &files[tensor.file][tensor.range.clone()]
            }
        }
    }

    /// The bytes of a tensor with its rows in the network's order, and its shape.
    fn rows(&self, name: &str, place: &Place) -> (Cow<'_, [u8]>, Vec<usize>) {
        let data = self.file_bytes(&place.tensor);
        let mut shape = self.stored_shape(&place.tensor).unwrap_or_default().to_vec();
        if place.rows == Rows::All {
            return (Cow::Borrowed(data), shape);
        }
        let row_bytes = data.len() / shape[0];
        shape[0] = match name.rsplit('.').nth(1) {
            Some("q_proj") => self.config.query_size(),
            Some("gate_proj" | "up_proj") => self.config.intermediate_size,
            _ => self.config.kv_size(),
        };
        let mut out = Vec::with_capacity(shape[0] * row_bytes);
        for row in 0..shape[0] {
            let at = place.rows.source(row) * row_bytes;
            out.extend_from_slice(&data[at..at + row_bytes]);
        }
        (Cow::Owned(out), shape)
    }

    /// A number that tells these weights, as they are stored, from all others: the same for the same
    /// tensors of the same types wherever they lie. It is made against mix-ups, not against malice.
    pub fn fingerprint(&self) -> String {
        const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];
        let mut state = FACTORS;
        let mut word = |word: u64| {
            for (state, factor) in state.iter_mut().zip(FACTORS) {
                *state = (*state ^ word).wrapping_mul(factor).rotate_left(29);
            }
        };
        let mut add = |part: &[u8]| {
            let (words, rest) = part.as_chunks::<8>();
            words.iter().for_each(|bytes| word(u64::from_le_bytes(*bytes)));
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            word(u64::from_le_bytes(last));
            word(part.len() as u64);
        };
        for (name, _) in self.config.tensors() {
            let bytes = self.bytes(&name);
            let parts = [name.as_bytes(), self.stored_type(&name).as_bytes(), &bytes];
            parts.into_iter().for_each(&mut add);
        }
        for (name, _) in self.config.tensors() {
            if let Some(values) = self.replaced.get(&name) {
                add(bytemuck::cast_slice(values));
            }
        }
        if let Some((adapter, strength)) = &self.adapter {
            add(&strength.to_le_bytes());
            adapter.bytes().for_each(&mut add);
        }
        // The last words pass through everything.
        add(&[0; 16]);
        format!("{:016x}{:016x}", state[0], state[1])
    }

    /// The values of a tensor as f32, in checkpoint order, with what an adapter adds to them.
    pub fn dense(&self, name: &str) -> Result<Tensor> {
        let Some(adapter) = self.low_rank(name) else { return self.stored_dense(name) };
        let at = |e: candle_core::Error| LoadError::new(&self.path, format!("{name}: {e}"));
        let stored = self.stored_dense(name)?;
        let mut values = stored.flatten_all().and_then(|t| t.to_vec1()).map_err(at)?;
        super::lora::merge(&mut values, adapter);
        Tensor::from_vec(values, stored.dims(), &Device::Cpu).map_err(at)
    }

    fn stored_dense(&self, name: &str) -> Result<Tensor> {
        let at = |e: candle_core::Error| LoadError::new(&self.path, format!("{name}: {e}"));
        if let Some(values) = self.replaced.get(name) {
            let shape = self.config.tensors().into_iter().find(|(known, _)| known == name);
            let shape = shape.map_or(vec![values.len()], |(_, shape)| shape);
            return Tensor::from_slice(values, shape, &Device::Cpu).map_err(at);
        }
        let (tensors, place) = match &self.source {
            Source::Gguf { .. } => {
                let quantized = self.stored(name)?;
                return quantized.dequantize(&Device::Cpu).map_err(at);
            }
            Source::Safetensors { tensors, .. } => (tensors, self.place(name)),
        };
        let dtype = match tensors[&place.tensor].dtype {
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            other => {
                let reason = format!("{name} is {other:?}; supported: F32, F16, BF16");
                return Err(LoadError::new(&self.path, reason));
            }
        };
        let (bytes, shape) = self.rows(name, &place);
        // llama.cpp's converter adds the one, too.
        let is_less_one = self.config.model_type.traits().norm == NormKind::RmsLessOne;
        let less = if is_less_one && name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        let values = Tensor::from_raw_buffer(&bytes, dtype, &shape, &Device::Cpu)
            .and_then(|t| t.to_dtype(DType::F32));
        let values = if less == 0.0 { values } else { values.and_then(|t| t + less) };
        values.map_err(at)
    }

    /// The values of a tensor in a vector.
    pub fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let values = self.dense(name)?.flatten_all().and_then(|t| t.to_vec1());
        values.map_err(|e| LoadError::new(&self.path, format!("{name}: {e}")))
    }

    /// Whether a tensor is served as the file has it: no adapter changes it.
    fn is_as_stored(&self, name: &str) -> bool {
        self.low_rank(name).is_none() && !self.replaced.contains_key(name)
    }

    /// The type that [`Weights::quantized`] gives a matrix, as far as the headers tell.
    pub fn held_type(&self, name: &str) -> &'static str {
        if self.is_as_stored(name) { self.stored_type(name) } else { "q8_0" }
    }

    /// A matrix in the type the file holds it in, if that is a block type and no adapter changes it; else
    /// quantized to Q8_0 if its rows are whole blocks; else `None`.
    pub fn quantized(&self, name: &str) -> Result<Option<QTensor>> {
        let is_gguf = matches!(self.source, Source::Gguf { .. });
        if is_gguf && self.is_quantized(name) && self.is_as_stored(name) {
            return self.stored(name).map(Some);
        }
        let dense = self.dense(name)?;
        let rows_are_blocks =
            dense.dims().last().is_some_and(|d| d % GgmlDType::Q8_0.block_size() == 0);
        if !rows_are_blocks {
            return Ok(None);
        }
        QTensor::quantize(&dense, GgmlDType::Q8_0)
            .map(Some)
            .map_err(|e| LoadError::new(&self.path, format!("{name}: {e}")))
    }

    fn stored(&self, name: &str) -> Result<QTensor> {
        let Source::Gguf { files, header } = &self.source else {
            return Err(LoadError::new(&self.path, "no GGUF file"));
        };
        let place = self.place(name);
        let info = &header.tensors[&place.tensor];
        let (data, shape) = self.rows(name, &place);
        // The kernels want whole words; the bytes of a file or of the program need not start at one.
        let data = match data {
            Cow::Borrowed(data) if !(data.as_ptr() as usize).is_multiple_of(4) => {
                Cow::Owned(data.to_vec())
            }
            data => data,
        };
        let tensor = QStorage::from_data(data, &Device::Cpu, info.dtype)
            .and_then(|storage| QTensor::new(storage, shape))
            .map_err(|e| LoadError::new(&self.path, format!("{name}: {e}")));
        files[info.file].release(&info.range);
        tensor
    }
}

/// The files of a model in parts, and their headers as one.
fn joined(parts: &[PathBuf]) -> Result<(Vec<Bytes>, Gguf)> {
    let (mut files, mut headers) = (Vec::new(), Vec::new());
    for (at, path) in parts.iter().enumerate() {
        if !path.exists() {
            let text = format!("part {} of {} is missing", at + 1, parts.len());
            return Err(LoadError::broken(path, text));
        }
        let bytes = Bytes::map(path)?;
        headers.push(Gguf::parse(&bytes).map_err(|e| gguf_error(path, e))?);
        files.push(bytes);
    }
    Ok((files, split::join(parts, headers)?))
}

fn gguf_error(path: &Path, error: GgufError) -> LoadError {
    match error {
        GgufError::Broken(reason) => LoadError::broken(path, reason),
        GgufError::Unsupported(reason) => LoadError::new(path, reason),
    }
}

fn type_name(dtype: GgmlDType) -> &'static str {
    match dtype {
        GgmlDType::F32 => "f32",
        GgmlDType::F16 => "f16",
        GgmlDType::BF16 => "bf16",
        GgmlDType::Q4_0 => "q4_0",
        GgmlDType::Q4_1 => "q4_1",
        GgmlDType::Q5_0 => "q5_0",
        GgmlDType::Q5_1 => "q5_1",
        GgmlDType::Q8_0 => "q8_0",
        GgmlDType::Q8_1 => "q8_1",
        GgmlDType::Q2K => "q2_k",
        GgmlDType::Q3K => "q3_k",
        GgmlDType::Q4K => "q4_k",
        GgmlDType::Q5K => "q5_k",
        GgmlDType::Q6K => "q6_k",
        GgmlDType::Q8K => "q8_k",
    }
}

fn read_part(directory: &Path, name: &str) -> Result<String> {
    let file = directory.join(name);
    std::fs::read_to_string(&file).map_err(|e| {
        let reason =
            format!("{e}; a model directory needs config.json, tokenizer.json and *.safetensors");
        LoadError::new(&file, reason)
    })
}
