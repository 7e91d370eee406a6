//! The text that compression is judged on: halves of the files given, or of code that came with the
//! program and that no published model was trained on: its own.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::super::texts;
use crate::generation::Model;
use crate::model::engine::EngineError;
use crate::model::groups::Group;
use crate::model::quantize::Moments;
use crate::tokenizer::TokenId;
use crate::train::corpus::SourceFile;

/// Tokens of one window: long enough that most predictions have a function's context.
const WINDOW: usize = 512;
/// Bytes of each language looked at.
const MAX_BYTES: usize = 400_000;

/// Files in two halves: types and scales are chosen on the first, and judged on the second.
pub struct Texts {
    /// Where they are chosen.
    pub calibration: Vec<SourceFile>,
    /// Where quality is measured.
    pub judged: Vec<SourceFile>,
}

impl Texts {
    /// Splits whole files by the seed, each language by itself. With a single file of a language, both
    /// halves hold it.
    pub fn new(files: Vec<SourceFile>, seed: u64) -> Texts {
        let mut files = texts::sample(files, MAX_BYTES, seed);
        files.sort_by_key(|file| file.language);
        let (mut calibration, mut judged) = (Vec::new(), Vec::new());
        for files in files.chunk_by(|a, b| a.language == b.language) {
            for (index, file) in files.iter().enumerate() {
                if index % 2 == 0 || files.len() == 1 {
                    judged.push(file.clone());
                }
                if index % 2 == 1 || files.len() == 1 {
                    calibration.push(file.clone());
                }
            }
        }
        Texts { calibration, judged }
    }

    /// Text for whoever names no repository.
    pub fn built_in() -> Texts {
        let file = |&(path, language, text): &(&str, &'static str, &str)| SourceFile {
            path: path.into(),
            repository: "nestling".into(),
            language,
            text: text.into(),
        };
        Texts::new(BUILT_IN.iter().map(file).collect(), 1)
    }
}

macro_rules! own {
    ($($language:literal $path:literal),* $(,)?) => {
        [$(($path, $language, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)))),*]
    };
}

static BUILT_IN: [(&str, &str, &str); 18] = own![
    "rust" "src/generation/generator.rs",
    "rust" "src/model/config.rs",
    "rust" "src/model/gguf.rs",
    "rust" "src/model/weights.rs",
    "rust" "src/server/framing.rs",
    "rust" "src/server/mailbox.rs",
    "rust" "src/suggest/rules.rs",
    "rust" "src/suggest/shape.rs",
    "rust" "src/syntax/scope.rs",
    "rust" "src/text/content.rs",
    "rust" "src/tokenizer/mod.rs",
    "rust" "src/workspace/documents.rs",
    "python" "tests/bench/keystrokes.py",
    "python" "tests/bench/llama_cpp.py",
    "python" "tests/bench/lsp.py",
    "python" "tests/editors/editor.py",
    "python" "tests/editors/terminal.py",
    "python" "tests/editors/scripted_server.py",
];

/// At most `most` tokens of the files in windows, each with its file's header, drawn by the seed.
pub(super) fn windows(model: &Model, files: &[SourceFile], most: usize) -> Vec<Vec<TokenId>> {
    let length = WINDOW.min(model.engine.context());
    let mut windows = Vec::new();
    for file in files {
        let mut header = model.tokenizer.file_header(&file.path);
        header.truncate(length / 4);
        let text = model.tokenizer.encode(&file.text);
        windows.extend(text.chunks(length - header.len()).map(|part| [&header, part].concat()));
    }
    windows.retain(|window| window.len() > length / 8);
    windows.shuffle(&mut StdRng::seed_from_u64(1));
    let mut tokens = 0;
    windows.retain(|window| {
        let fits = tokens == 0 || tokens + window.len() <= most;
        tokens += if fits { window.len() } else { 0 };
        fits
    });
    windows
}

/// Mean squares of the inputs of every group of matrices over the calibration half.
pub fn moments(model: &Model, texts: &Texts) -> Result<Moments, EngineError> {
    const TOKENS: usize = 8_192;
    let mut cache = model.engine.new_cache();
    let (mut sums, mut tokens) = (Moments::new(), 0);
    for window in windows(model, &texts.calibration, TOKENS) {
        cache.truncate(0);
        let mut watch = |group: Group, x: &[f32]| {
            let features = x.len() / window.len();
            let sums = sums.entry(group).or_insert_with(|| vec![0.0; features]);
            for row in x.chunks_exact(features) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
            }
        };
        model.engine.forward_watched(&mut cache, &window, window.len(), &mut watch)?;
        tokens += window.len();
    }
    sums.values_mut().flatten().for_each(|sum| *sum /= tokens.max(1) as f32);
    Ok(sums)
}
