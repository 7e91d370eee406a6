//! Writing safetensors files the way Hugging Face Transformers expects them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use safetensors::tensor::{Dtype, TensorView};

use crate::files;

/// A tensor of f32: name, shape, values.
pub type OwnedTensor = (String, Vec<usize>, Vec<f32>);

/// Writes f32 tensors (name, shape, values) with the `format: pt` metadata, whole or not at all.
pub fn write(path: &Path, tensors: &[(String, Vec<usize>, &[f32])]) -> Result<()> {
    write_with(path, tensors, &[])
}

/// The same with more metadata (key, value).
pub fn write_with(
    path: &Path,
    tensors: &[(String, Vec<usize>, &[f32])],
    metadata: &[(&str, &str)],
) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, shape, data)| {
            let bytes = bytemuck::cast_slice(data);
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = [("format", "pt")].iter().chain(metadata);
    let metadata: HashMap<String, String> =
        metadata.map(|(key, value)| (key.to_string(), value.to_string())).collect();
    // Not serialize_to_file: that leaves a file which only its owner can read.
    files::write(path, &safetensors::serialize(views, Some(metadata))?)
}
