//! `nestling document`: writes documentation comments for functions that have none; shows the differences, or writes them
//! with `--apply`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;

use super::complete::repository;
use super::fix::remember;
use super::project::{diff, files, write};
use super::{ModelArgs, print, print_json, wrong_use};
use crate::generation::CancelToken;
use crate::suggest::document::{Documentation, Signature, document};
use crate::suggest::{Completer, ModelCompleter};
use crate::text::{TextEdit, apply};
use crate::workspace::{Document, Snapshot, read_file};

#[derive(clap::Args)]
pub(super) struct DocumentArgs {
    /// Files, or folders whose files are looked at
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only the function whose head is on this line; goes with one file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    line: Option<u64>,
    /// Write the comments into the files
    #[arg(long)]
    apply: bool,
    /// Let the names speak alone
    #[arg(long)]
    no_model: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was written for one file.
struct Written {
    path: PathBuf,
    before: String,
    after: String,
    functions: Vec<(Signature, Documentation)>,
    left: Vec<String>,
}

/// Files of a folder that show how its code is documented.
const MOST_OTHERS: usize = 50;

pub(super) fn run(args: DocumentArgs, model: &ModelArgs) -> Result<ExitCode> {
    let files = match files(&args.paths, args.line) {
        Ok(files) => files,
        Err(message) => return Ok(wrong_use(message)),
    };
    let mut completer = match args.no_model {
        true => None,
        false => Some(model.load_for(&args.paths[0])?.completer()),
    };
    let mut documents = Vec::new();
    for (path, from_folder) in &files {
        match read_file(path) {
            Ok(mut document) => {
                document.path = std::fs::canonicalize(path).ok().or(document.path);
                documents.push((path.clone(), Arc::new(document)));
            }
            // Of a folder, what cannot be read is passed over.
            Err(error) if *from_folder => eprintln!("nestling: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    let mut roots: Vec<PathBuf> = Vec::new();
    let mut all = Vec::new();
    for (path, document) in &documents {
        if let (Some(completer), Some(root)) = (&mut completer, repository(path))
            && !roots.contains(&root)
        {
            remember(completer, &root);
            roots.push(root);
        }
        let written = documented(completer.as_mut(), path, document, &args);
        if args.line.is_some() && written.functions.is_empty() && written.left.is_empty() {
            return Ok(wrong_use(format!(
                "{}: no function without a comment begins there, or its language has no convention that is known",
                path.display()
            )));
        }
        if args.apply && written.before != written.after {
            write(path, &written.before, &written.after)?;
        }
        all.push(written);
    }
    report(&args, &all)
}

fn documented(
    mut completer: Option<&mut ModelCompleter>,
    path: &Path,
    document: &Arc<Document>,
    args: &DocumentArgs,
) -> Written {
    let source = document.text.as_str();
    let others = beside(path, document);
    let snapshot = Snapshot { others, ..Snapshot::alone(document.clone()) };
    let mut functions = Vec::new();
    let mut left = Vec::new();
    let signatures = document.tree.as_ref().map(|tree| match args.line {
        Some(line) => {
            let line = (line as usize - 1).min(document.text.line_count().saturating_sub(1));
            let lines = document.text.line_range(line);
            Signature::at(tree, source, &lines).into_iter().collect()
        }
        None => Signature::all(tree, source),
    });
    for signature in signatures.unwrap_or_default() {
        let completer = completer.as_deref_mut().map(|own| own as &mut dyn Completer);
        match self::document(completer, &snapshot, &signature, &CancelToken::new()) {
            Ok(documentation) => functions.push((signature, documentation)),
            Err(reason) => left.push(reason),
        }
    }
    let edits: Vec<TextEdit> = functions.iter().map(|(_, made)| made.edit.clone()).collect();
    let after = apply(source, &edits);
    Written { path: path.to_path_buf(), before: source.to_string(), after, functions, left }
}

/// Files of the same kind in the same folder.
fn beside(path: &Path, document: &Document) -> Vec<Arc<Document>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries =
        std::fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|other| {
            other.extension() == path.extension() && other.file_name() != path.file_name()
        })
        .collect();
    names.sort();
    let read = names.iter().take(MOST_OTHERS).filter_map(|other| read_file(other).ok());
    let name = |document: &Document| document.language.map(|language| language.name);
    read.filter(|other| name(other) == name(document)).map(Arc::new).collect()
}

fn report(args: &DocumentArgs, all: &[Written]) -> Result<ExitCode> {
    let functions: usize = all.iter().map(|written| written.functions.len()).sum();
    if args.json {
        let files: Vec<_> = all
            .iter()
            .map(|written| {
                let functions: Vec<_> = written
                    .functions
                    .iter()
                    .map(|(signature, made)| {
                        json!({
                            "name": signature.name,
                            "style": made.style,
                            "parameters": signature.parameters,
                            "texts": made.texts,
                            "by_name": made.by_name,
                            "comment": made.edit.new_text,
                        })
                    })
                    .collect();
                json!({
                    "path": written.path,
                    "functions": functions,
                    "left": written.left,
                    "applied": args.apply && written.before != written.after,
                    "diff": diff(&written.path, &written.before, &written.after),
                })
            })
            .collect();
        print_json(&json!({ "files": files, "version": env!("CARGO_PKG_VERSION") }))?;
    } else {
        for written in all {
            if !args.apply {
                print(&diff(&written.path, &written.before, &written.after))?;
            }
            for (signature, made) in &written.functions {
                eprintln!("{}: {}: {made}", written.path.display(), signature.name);
            }
            for reason in &written.left {
                eprintln!("{}: {reason}", written.path.display());
            }
        }
        let end = if args.apply { ", written" } else { "" };
        eprintln!("{functions} documented{end}, in {} file(s)", all.len());
    }
    Ok(if functions == 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
