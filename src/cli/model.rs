//! `nestling model`: which model is in use and what it is.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::{ModelArgs, print, print_json};

#[derive(clap::Subcommand)]
pub(super) enum ModelCommand {
    /// Describe the model that would be used
    Info {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: ModelCommand, args: &ModelArgs) -> Result<ExitCode> {
    let ModelCommand::Info { json: as_json } = command;
    let model = args.load()?;
    let config = model.config();
    let layout = model.tokenizer.fim().map(|layout| layout.name());
    if as_json {
        print_json(&json!({
            "name": model.name,
            "embedded": args.model.is_none(),
            "path": args.model,
            "family": config.model_type,
            "parameters": config.parameter_count(),
            "file_bytes": model.file_size,
            "context": model.engine.context(),
            "vocabulary": model.tokenizer.vocab_size(),
            "fim_layout": layout,
            "types": model.types.iter().map(|(part, types)| (part.name(), types.as_str())).collect::<BTreeMap<_, _>>(),
            "config": config,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let types = model.types.iter().map(|(part, types)| format!("{}: {types}", part.name()));
    let from = args.model.as_ref().map_or("inside the program".into(), |p| p.display().to_string());
    print(&format!(
        "{name}: {from}\n\
         family       {family}, {layers} layers of {hidden}, {heads} heads ({kv} key/value)\n\
         parameters   {parameters:.1} million, {size:.1} MB\n\
         context      {context} tokens\n\
         vocabulary   {vocabulary}\n\
         types        {types}\n\
         fill-in      {layout}\n",
        name = model.name,
        family = config.model_type.name(),
        layers = config.num_hidden_layers,
        hidden = config.hidden_size,
        heads = config.num_attention_heads,
        kv = config.num_key_value_heads,
        parameters = config.parameter_count() as f64 / 1e6,
        size = model.file_size as f64 / 1e6,
        context = model.engine.context(),
        vocabulary = model.tokenizer.vocab_size(),
        types = types.collect::<Vec<_>>().join("\n             "),
        layout = layout.unwrap_or("none: only the text before the cursor is used"),
    ))?;
    Ok(ExitCode::SUCCESS)
}
