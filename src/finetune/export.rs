//! A fine-tune for other machines: the same data, split and settings as one here, as a folder with a job for
//! Transformers and PEFT that any number of processes can run. Its adapter comes back through [`super::accept`].

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::files;
use crate::generation::{EMBEDDED_NAME, Model, ModelSource};
use crate::model::engine::Precision;
use crate::model::lora::{Base, Method};
use crate::train::dataset::{Batch, Dataset};
use crate::train::documents::Documents;
use crate::train::output::{write_config, write_tensors};

use super::data::{Data, Part};
use super::search::{BATCH, Bench, METHODS};
use super::{Request, Watch, source_of};

const JOB: &str = include_str!("job.py");
/// Rows of newer lines that are judged by on the way.
const VALIDATION_ROWS: u64 = 32;

/// What an export came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Exported {
    /// Steps of the job.
    pub steps: u64,
    /// Rows of a step.
    pub batch: usize,
    /// Tokens of a row.
    pub sequence: usize,
    /// The peak learning rate, found here by a range test.
    pub learning_rate: f64,
}

/// Writes the job into a folder that is not there yet, or empty.
///
/// # Errors
/// A repository that gives too little, a folder that holds something, a full disk, a stop.
pub fn export(request: &Request, folder: &Path, watch: &mut Watch<'_>) -> Result<Exported> {
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: name another folder", folder.display());
    }
    let source = source_of(request)?;
    watch.note(format!("reading {}", request.repo.display()));
    let data = Data::read(&source, request.seed)?;
    let open = || Ok(request.model.weights()?);
    let weights = super::trainable(&request.model)?;
    let base = Arc::new(Base::load(&weights)?);
    let original = Model::of(&weights, Precision::Quantized, "base".into())?;
    std::fs::create_dir_all(folder.join("data"))
        .and_then(|()| std::fs::create_dir_all(folder.join("base")))
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let (tokenizer, config) = (original.tokenizer.clone(), weights.config);
    let bench = Bench {
        weights: &open,
        base: base.clone(),
        config: &config,
        tokenizer: &tokenizer,
        folder: folder.to_path_buf(),
        seed: request.seed,
    };
    let method = METHODS[1];
    let Method::Lora { rank, alpha } = method else { bail!("only an adapter can be exported") };
    let learn = bench.weighed(&data.last.learn, &original, watch)?;
    watch.note("finding the learning rate");
    let (learning_rate, _) = bench.range_test(method, &learn, watch)?;
    let steps = match request.steps {
        Some(steps) => super::Plan::of_steps(steps, None, 1).long,
        None => bench.longest(data.last.bytes, &learn),
    };
    let newer = bench.dataset(&newer_lines(&data.last))?;
    let rows = steps * BATCH as u64;
    for (name, dataset, rows) in [("train", &learn, rows), ("validation", &newer, VALIDATION_ROWS)]
    {
        watch.note(format!("writing {rows} rows of {name}"));
        let mut batch = Batch::default();
        for first in (0..rows).step_by(64) {
            watch.check()?;
            let part = dataset.batch(&tokenizer, first, 64.min(rows - first) as usize);
            batch.tokens.extend(part.tokens);
            batch.targets.extend(part.targets);
            batch.counts.extend(part.counts);
        }
        write_rows(&folder.join(format!("data/{name}.safetensors")), &batch, dataset)?;
    }
    let trainer = bench.trainer(method, learning_rate, 0.0)?;
    write_tensors(&folder.join("base/model.safetensors"), &trainer.merged(false, 0.0)?)?;
    write_config(&folder.join("base"), &config)?;
    files::write(&folder.join("base/tokenizer.json"), tokenizer.to_json()?.as_bytes())?;
    let settings = super::room::config_of(method, learning_rate, super::search::DECAY);
    let base_name = match &request.model {
        ModelSource::Embedded => EMBEDDED_NAME.into(),
        ModelSource::Path(path) => std::path::absolute(path)?.display().to_string(),
    };
    let job = json!({
        "base": base_name, "fingerprint": base.fingerprint(), "repository": source.name,
        "revision": data.last.judge.revision, "split": data.split, "seed": request.seed,
        "steps": steps, "batch": BATCH, "rank": rank, "alpha": alpha,
        "modules": crate::model::lora::module_names(),
        "learning_rate": learning_rate, "weight_decay": settings.optimizer.weight_decay,
        "betas": settings.optimizer.betas, "clip": settings.optimizer.clip,
        "warmup": settings.warmup, "decay": settings.decay,
    });
    files::write(&folder.join("job.json"), &serde_json::to_vec_pretty(&job)?)?;
    files::write(&folder.join("train.py"), JOB.as_bytes())?;
    let sequence = learn.config().sequence;
    Ok(Exported { steps, batch: BATCH, sequence, learning_rate })
}

/// The files that the result is judged by, of which only the newer lines count.
fn newer_lines(part: &Part) -> Documents {
    let added = part.judge.since.as_ref().map(|since| &since.added);
    let files: Vec<_> =
        part.judge.files.iter().filter_map(|file| Some((file, added?.get(&file.path)?))).collect();
    let texts = files.iter().map(|(file, _)| (file.path.as_str(), 0, file.text.as_str()));
    let mut each = files.iter();
    Documents::from_texts(texts).describe(|document| {
        let Some((file, lines)) = each.next() else { return };
        let mut counts = vec![0u8; file.text.len()];
        let mut at = 0;
        for (number, line) in file.text.split_inclusive('\n').enumerate() {
            if lines.iter().any(|run| run.contains(&number)) {
                counts[at..at + line.len()].fill(255);
            }
            at += line.len();
        }
        document.counts = Some(counts.into());
    })
}

/// Inputs, targets and what those count, each (rows, sequence).
fn write_rows(path: &Path, batch: &Batch, dataset: &Dataset) -> Result<()> {
    let sequence = dataset.config().sequence;
    let shape = vec![batch.tokens.len() / sequence, sequence];
    let whole = |ids: &[u32]| ids.iter().flat_map(|&id| (id as i32).to_le_bytes()).collect();
    let (tokens, targets): (Vec<u8>, Vec<u8>) = (whole(&batch.tokens), whole(&batch.targets));
    let ones;
    let counts = match batch.counts.is_empty() {
        true => {
            ones = vec![1f32; batch.tokens.len()];
            &ones
        }
        false => &batch.counts,
    };
    let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let views = [
        ("tokens", TensorView::new(Dtype::I32, shape.clone(), &tokens)?),
        ("targets", TensorView::new(Dtype::I32, shape.clone(), &targets)?),
        ("counts", TensorView::new(Dtype::F32, shape, &counts)?),
    ];
    files::write(path, &safetensors::serialize(views, None)?)
}
