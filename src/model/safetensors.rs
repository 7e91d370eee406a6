//! Writing safetensors files the way Hugging Face Transformers expects them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
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
    files::write(path, &in_order(safetensors::serialize(views, Some(metadata))?)?)
}

/// A file with its metadata in the order of the keys, so that the same content is the same bytes: the library writes it
/// in that of a hash map, another one in each process.
fn in_order(mut file: Vec<u8>) -> Result<Vec<u8>> {
    let (length, rest) = file.split_first_chunk_mut().context("no header")?;
    let header = &mut rest[..u64::from_le_bytes(*length) as usize];
    let mut sorted: serde_json::Value = serde_json::from_slice(header)?;
    sorted["__metadata__"].as_object_mut().context("no metadata")?.sort_keys();
    let sorted = serde_json::to_vec(&sorted)?;
    // The rest is padding, as it was.
    header[..sorted.len()].copy_from_slice(&sorted);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tensors_are_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensors = [("b".to_string(), vec![2], &[1.0, 2.0][..]), ("a".into(), vec![1], &[3.0])];
        let metadata = [("where", "here"), ("base", "\"x\" of ü"), ("a", "b"), ("c", "d")];
        let written = |_| {
            write_with(&path, &tensors, &metadata).unwrap();
            std::fs::read(&path).unwrap()
        };
        let files: Vec<_> = (0..16).map(written).collect();
        assert!(files.iter().all(|file| *file == files[0]));
        let (_, header) = safetensors::SafeTensors::read_metadata(&files[0]).unwrap();
        let kept = header.metadata().as_ref().unwrap();
        assert!(metadata.iter().all(|(key, value)| kept[*key] == *value) && kept["format"] == "pt");
        let whole = safetensors::SafeTensors::deserialize(&files[0]).unwrap();
        assert_eq!(whole.tensor("a").unwrap().data(), 3f32.to_le_bytes());
    }
}
