//! GGUF files: a bounds-checked reader over memory-mapped or embedded bytes, and a writer.
//!
//! Nothing in the file is trusted: every count, length, offset and shape is checked against what is
//! there before it is used, so a broken file is an error with a place, never a panic or a huge
//! allocation.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;

use candle_core::quantized::GgmlDType;

/// Why bytes are no GGUF file that can be used. The caller adds the path, and to what is broken the way out.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// It is not whole, or contradicts itself.
    #[error("{0}")]
    Broken(String),
    /// It has something that is not known here; the text says what is.
    #[error("{0}")]
    Unsupported(String),
}

type Result<T> = std::result::Result<T, GgufError>;

fn error<T>(text: impl Into<String>) -> Result<T> {
    Err(GgufError::Broken(text.into()))
}

/// A metadata value. Integers are widened; arrays keep their kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any integer type.
    Integer(i64),
    /// f32 or f64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// A list of values.
    List(Vec<Value>),
}

/// A tensor's type, shape (outermost first, as in checkpoints) and bytes in the file.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Element or block type.
    pub dtype: GgmlDType,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Which of the model's files holds it; 0 unless it comes in parts.
    pub file: usize,
    /// Bytes in that file.
    pub range: Range<usize>,
}

/// The parsed header of a GGUF file.
#[derive(Debug, Default)]
pub struct Gguf {
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by GGUF name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

const MAGIC: &[u8; 4] = b"GGUF";
pub(super) const ALIGNMENT: usize = 32;
const MAX_DEPTH: usize = 3;
/// Entries of all lists together: vocabularies and merges stay below half a million each.
const MAX_LIST: usize = 1 << 22;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Entries of the lists so far.
    listed: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return error(format!("truncated: {count} bytes wanted at offset {}", self.at));
        };
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take gives N bytes"))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things of at least `least` bytes each, which must still be in the file.
    fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.u64()?;
        let left = (self.bytes.len() - self.at) as u64;
        if count > left / least as u64 {
            return error(format!(
                "truncated, or a wrong count: {count} at offset {} exceeds the file",
                self.at
            ));
        }
        Ok(count as usize)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.count(1)?;
        let at = self.at;
        String::from_utf8(self.take(length)?.to_vec())
            .map_err(|_| GgufError::Broken(format!("text at offset {at} is not UTF-8")))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value> {
        Ok(match kind {
            0 => Value::Integer(self.array::<1>()?[0] as i64),
            1 => Value::Integer(self.array::<1>()?[0] as i8 as i64),
            2 => Value::Integer(u16::from_le_bytes(self.array()?) as i64),
            3 => Value::Integer(i16::from_le_bytes(self.array()?) as i64),
            4 => Value::Integer(self.u32()? as i64),
            5 => Value::Integer(self.u32()? as i32 as i64),
            6 => Value::Float(f32::from_le_bytes(self.array()?) as f64),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 if depth < MAX_DEPTH => {
                let kind = self.u32()?;
                let count = self.count(1)?;
                self.listed += count;
                if self.listed > MAX_LIST {
                    return error(format!(
                        "the lists up to offset {} have more than {MAX_LIST} entries",
                        self.at
                    ));
                }
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(kind, depth + 1)?);
                }
                Value::List(list)
            }
            10 => Value::Integer(self.u64()? as i64),
            11 => Value::Integer(self.u64()? as i64),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return error(format!("metadata of unknown kind {kind} at offset {}", self.at)),
        })
    }
}

impl Gguf {
    /// Parses the header of the whole file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Gguf> {
        let mut reader = Reader { bytes, at: 0, listed: 0 };
        if reader.take(4).ok() != Some(MAGIC) {
            return error("not a GGUF file (it does not start with \"GGUF\")");
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            let text = format!("GGUF version {version} is not supported; supported: 2 and 3");
            return Err(GgufError::Unsupported(text));
        }
        let (tensors, entries) = (reader.count(24)?, reader.count(12)?);
        let mut gguf = Gguf::default();
        for _ in 0..entries {
            let key = reader.text()?;
            let kind = reader.u32()?;
            gguf.metadata.insert(key, reader.value(kind, 0)?);
        }
        let mut infos = Vec::new();
        for _ in 0..tensors {
            let name = reader.text()?;
            let rank = reader.u32()? as usize;
            if !(1..=4).contains(&rank) {
                return error(format!("tensor {name} has {rank} dimensions"));
            }
            let mut shape = Vec::with_capacity(rank);
            for _ in 0..rank {
                shape.push(reader.u64()? as usize);
            }
            shape.reverse();
            let (kind, offset) = (reader.u32()?, reader.u64()?);
            infos.push((name, shape, kind, offset));
        }
        let alignment = match gguf.metadata.get("general.alignment") {
            Some(Value::Integer(a)) if (1..=1 << 16).contains(a) => *a as usize,
            Some(other) => return error(format!("general.alignment {other:?} is out of range")),
            None => ALIGNMENT,
        };
        let start = reader.at.next_multiple_of(alignment);
        for (name, shape, kind, offset) in infos {
            let info = tensor_info(&name, shape, kind, start, offset, bytes.len())?;
            gguf.tensors.insert(name, info);
        }
        let used = gguf.tensors.values().fold(0usize, |n, t| n.saturating_add(t.range.len()));
        if used > bytes.len() {
            return error("tensors overlap: together they are larger than the file");
        }
        Ok(gguf)
    }

    /// A text entry.
    pub fn text(&self, key: &str) -> Result<&str> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Ok(text),
            other => error(format!("metadata {key} is {}", describe(other))),
        }
    }

    /// An integer entry that is a size.
    pub fn size(&self, key: &str) -> Result<usize> {
        match self.metadata.get(key) {
            Some(Value::Integer(n)) if *n >= 0 => Ok(*n as usize),
            other => error(format!("metadata {key} is {}", describe(other))),
        }
    }

    /// A float entry, if it is there.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key) {
            Some(Value::Float(x)) => Some(*x),
            Some(Value::Integer(x)) => Some(*x as f64),
            _ => None,
        }
    }

    /// A list entry mapped element by element.
    pub fn list<T>(&self, key: &str, each: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>> {
        match self.metadata.get(key) {
            Some(Value::List(list)) => list
                .iter()
                .map(|v| {
                    each(v).ok_or_else(|| GgufError::Broken(format!("metadata {key} is mixed")))
                })
                .collect(),
            other => error(format!("metadata {key} is {}", describe(other))),
        }
    }
}

fn describe(value: Option<&Value>) -> String {
    match value {
        None => "missing".into(),
        Some(Value::List(list)) => format!("a list of {}", list.len()),
        Some(value) => format!("{value:?}"),
    }
}

/// GGUF's number of a type that candle can compute with.
const TYPES: [(u32, GgmlDType); 14] = [
    (0, GgmlDType::F32),
    (1, GgmlDType::F16),
    (2, GgmlDType::Q4_0),
    (3, GgmlDType::Q4_1),
    (6, GgmlDType::Q5_0),
    (7, GgmlDType::Q5_1),
    (8, GgmlDType::Q8_0),
    (10, GgmlDType::Q2K),
    (11, GgmlDType::Q3K),
    (12, GgmlDType::Q4K),
    (13, GgmlDType::Q5K),
    (14, GgmlDType::Q6K),
    (15, GgmlDType::Q8K),
    (30, GgmlDType::BF16),
];

/// Types that files have and nothing here computes with, for messages.
const FOREIGN_TYPES: [(u32, &str); 19] = [
    (9, "Q8_1"),
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

fn tensor_info(
    name: &str,
    shape: Vec<usize>,
    kind: u32,
    start: usize,
    offset: u64,
    file: usize,
) -> Result<TensorInfo> {
    let Some(&(_, dtype)) = TYPES.iter().find(|(number, _)| *number == kind) else {
        let known = FOREIGN_TYPES.iter().find(|(number, _)| *number == kind);
        return Err(GgufError::Unsupported(format!(
            "tensor {name} has type {}, which cannot be run; supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, \
             Q5_1, Q8_0, Q2_K to Q8_K; get the model in one of those, Q4_K_M for example",
            known.map_or(format!("{kind} (unknown)"), |(_, name)| (*name).into())
        )));
    };
    // Rows of a matrix are whole blocks; a vector is cut into elements.
    if shape.len() == 1 && dtype.block_size() > 1 {
        return error(format!(
            "tensor {name} is a vector and has type {dtype:?}, which is for matrices"
        ));
    }
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let bytes = elements
        .filter(|n| {
            *n > 0 && shape[shape.len() - 1].is_multiple_of(dtype.block_size()) && *n <= 1 << 40
        })
        .map(|n| n / dtype.block_size() * dtype.type_size());
    let Some(bytes) = bytes else {
        return error(format!("tensor {name} of shape {shape:?} does not fit type {dtype:?}"));
    };
    let begin = usize::try_from(offset).ok().and_then(|o| start.checked_add(o));
    let range = begin.and_then(|b| Some(b..b.checked_add(bytes)?)).filter(|r| r.end <= file);
    match range {
        Some(range) => Ok(TensorInfo { dtype, shape, file: 0, range }),
        None => error(format!("truncated: tensor {name} ({bytes} bytes) reaches past the end")),
    }
}

/// Writes a GGUF v3 file.
pub fn write(
    out: &mut impl Write,
    metadata: &[(String, Value)],
    tensors: &[(String, Vec<usize>, GgmlDType, Vec<u8>)],
) -> std::io::Result<()> {
    let mut head = Vec::new();
    head.extend(MAGIC);
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_text(&mut head, key);
        // Readers want sizes unsigned, and lists of token types signed.
        let kind = if matches!(value, Value::Integer(_)) { 4 } else { kind(value) };
        head.extend(kind.to_le_bytes());
        write_value(&mut head, value);
    }
    let mut offset = 0usize;
    for (name, shape, dtype, data) in tensors {
        write_text(&mut head, name);
        head.extend((shape.len() as u32).to_le_bytes());
        for size in shape.iter().rev() {
            head.extend((*size as u64).to_le_bytes());
        }
        let number = TYPES.iter().find(|(_, t)| t == dtype).map_or(0, |(number, _)| *number);
        head.extend(number.to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset = (offset + data.len()).next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&head)?;
    for (_, _, _, data) in tensors {
        out.write_all(data)?;
        out.write_all(&vec![0; data.len().next_multiple_of(ALIGNMENT) - data.len()])?;
    }
    out.flush()
}

fn kind(value: &Value) -> u32 {
    match value {
        Value::Integer(_) => 5,
        Value::Float(_) => 6,
        Value::Bool(_) => 7,
        Value::Text(_) => 8,
        Value::List(_) => 9,
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Integer(n) => out.extend((*n as i32).to_le_bytes()),
        Value::Float(x) => out.extend((*x as f32).to_le_bytes()),
        Value::Bool(b) => out.push(*b as u8),
        Value::Text(text) => write_text(out, text),
        Value::List(list) => {
            out.extend(list.first().map_or(5, kind).to_le_bytes());
            out.extend((list.len() as u64).to_le_bytes());
            for value in list {
                write_value(out, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let metadata = [
            ("general.architecture".to_string(), Value::Text("qwen3".into())),
            ("numbers".to_string(), Value::List(vec![Value::Integer(1), Value::Integer(-2)])),
        ];
        let tensors = [
            ("a".to_string(), vec![2, 3], GgmlDType::F32, vec![7u8; 24]),
            ("b".to_string(), vec![1, 32], GgmlDType::Q8_0, vec![9u8; 34]),
        ];
        let mut bytes = Vec::new();
        write(&mut bytes, &metadata, &tensors).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample();
        let gguf = Gguf::parse(&bytes).unwrap();
        assert_eq!(gguf.text("general.architecture").unwrap(), "qwen3");
        let b = &gguf.tensors["b"];
        assert_eq!((b.dtype, b.shape.as_slice()), (GgmlDType::Q8_0, &[1, 32][..]));
        assert_eq!(bytes[b.range.clone()], [9u8; 34]);
    }

    #[test]
    fn vectors_are_not_in_blocks_and_lists_have_an_end() {
        let parsed = |metadata: &[(String, Value)], shape: Vec<usize>| {
            let tensor = ("b".to_string(), shape, GgmlDType::Q8_0, vec![9u8; 34]);
            let mut bytes = Vec::new();
            write(&mut bytes, metadata, &[tensor]).unwrap();
            Gguf::parse(&bytes).map(|_| ()).map_err(|error| error.to_string())
        };
        assert!(parsed(&[], vec![32]).unwrap_err().contains("b is a vector and has type Q8_0"));
        let list = Value::List(vec![Value::Bool(true); MAX_LIST / 2]);
        let lists: Vec<_> = (0..3).map(|i| (i.to_string(), list.clone())).collect();
        assert_eq!(parsed(&lists[..2], vec![1, 32]), Ok(()));
        assert!(parsed(&lists, vec![1, 32]).unwrap_err().contains("more than 4194304 entries"));
    }

    proptest! {
        #[test]
        fn broken_files_are_errors(at in 0usize..300, byte: u8, cut in 0usize..400) {
            let mut bytes = sample();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut.min(length));
            if let Ok(gguf) = Gguf::parse(&bytes) {
                for info in gguf.tensors.values() {
                    prop_assert!(info.range.end <= bytes.len());
                }
            }
        }
    }
}
