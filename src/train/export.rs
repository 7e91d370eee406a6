//! Examples for trainers in other languages: rows of token ids in NumPy files.
//! They are the rows that this trainer would see, in the same order.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files;
use crate::tokenizer::Tokenizer;

use super::dataset::Dataset;

impl Dataset {
    /// Writes the first `rows` examples as NumPy files of (rows, sequence + 1) 16-bit ids, at most
    /// `per_file` rows in each, for trainers in other languages. Rows of an earlier export are deleted.
    ///
    /// # Errors
    /// A vocabulary over 65,536; a folder that cannot be written (nothing half-written stays).
    pub fn export(
        &self,
        tokenizer: &Tokenizer,
        rows: u64,
        per_file: u64,
        folder: &Path,
        mut say: impl FnMut(u64),
    ) -> Result<()> {
        if tokenizer.vocab_size() > 1 << 16 {
            bail!("a vocabulary of {} does not fit 16-bit ids", tokenizer.vocab_size());
        }
        let cannot = || format!("cannot write {}", folder.display());
        std::fs::create_dir_all(folder).with_context(cannot)?;
        // Rows of an earlier export would be read as rows of this one.
        for entry in std::fs::read_dir(folder).with_context(cannot)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("rows-") && name.ends_with(".npy") {
                std::fs::remove_file(&path).with_context(cannot)?;
            }
        }
        files::clear_leftovers(folder);
        let per_file = per_file.max(1);
        for (number, first) in (0..rows).step_by(per_file as usize).enumerate() {
            let count = per_file.min(rows - first);
            let path = folder.join(format!("rows-{number:04}.npy"));
            let mut file = npy_header(count as usize, self.config.sequence + 1);
            for from in (first..first + count).step_by(256) {
                let size = 256.min(first + count - from) as usize;
                for row in self.rows(tokenizer, from, size) {
                    file.extend(row.iter().flat_map(|&id| (id as u16).to_le_bytes()));
                }
                say(from + size as u64);
            }
            files::write(&path, &file)?;
        }
        Ok(())
    }
}

/// The head of a NumPy file (format 1.0) of little-endian 16-bit integers.
fn npy_header(rows: usize, columns: usize) -> Vec<u8> {
    let text =
        format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{text:<width$}\n", width = length - 1).bytes());
    header
}

#[cfg(test)]
mod tests {
    use crate::train::dataset::{ExampleConfig, tests::dataset};

    #[test]
    fn exported_rows_are_those_of_the_batches() {
        let (dataset, tokenizer) = dataset(ExampleConfig::default());
        let folder = tempfile::tempdir().unwrap();
        dataset.export(&tokenizer, 9, 3, folder.path(), |_| {}).unwrap();
        let mut done = Vec::new();
        dataset.export(&tokenizer, 5, 3, folder.path(), |n| done.push(n)).unwrap();
        assert_eq!(done, [3, 5]);
        let names = || std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(names().count(), 2, "no rows of the export before");
        let mut rows: Vec<u32> = Vec::new();
        for (name, count) in [("rows-0000.npy", 3), ("rows-0001.npy", 2)] {
            let file = std::fs::read(folder.path().join(name)).unwrap();
            let head = u16::from_le_bytes([file[8], file[9]]) as usize + 10;
            assert!(head.is_multiple_of(64) && file[head - 1] == b'\n');
            let text = String::from_utf8_lossy(&file[10..head]);
            assert!(text.contains(&format!("'shape': ({count}, 513)")), "{text}");
            let ids = file[head..].chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]) as u32);
            rows.extend(ids);
        }
        assert_eq!(rows, dataset.rows(&tokenizer, 0, 5).concat());
        // A folder that is a file.
        let file = folder.path().join("rows-0000.npy");
        let error = dataset.export(&tokenizer, 1, 1, &file, |_| {}).unwrap_err();
        assert!(format!("{error:#}").contains("cannot write"), "{error:#}");
    }
}
