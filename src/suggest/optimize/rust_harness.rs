//! Builds the program that compares two versions of a function of Rust: its parameters' types say how inputs are made.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::prove::Effort;
use super::subject::Subject;
use crate::check::{Ended, Program};

/// Time to compile it.
const COMPILING: Duration = Duration::from_secs(60);

/// The program, or why it cannot be built.
pub(super) fn build(
    subject: &Subject,
    effort: &Effort,
    folder: &Path,
) -> Result<Result<PathBuf, String>> {
    let name = subject.function.as_deref().unwrap_or_default();
    let mut fields = Vec::new();
    for parameter in subject.parameters.iter().flatten() {
        match owned(parameter) {
            Some(field) => fields.push(field),
            None => return Ok(Err(format!("values of the type {parameter} are not made up"))),
        }
    }
    let mut text = String::from(include_str!("harness/prove.rs.in"));
    let _ = writeln!(text, "#[derive(Clone, Debug)]\nstruct Inputs {{");
    for (index, (owned, _)) in fields.iter().enumerate() {
        let _ = writeln!(text, "    p{index}: {owned},");
    }
    let _ = writeln!(
        text,
        "}}\nimpl Make for Inputs {{\n    fn make(rng: &mut Rng, size: usize) -> Self {{\n        Inputs {{"
    );
    for index in 0..fields.len() {
        let _ = writeln!(text, "            p{index}: Make::make(rng, size),");
    }
    let _ = writeln!(text, "        }}\n    }}\n}}");
    let arguments: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(i, (_, pass))| pass.replace('_', &format!("i.p{i}")))
        .collect();
    let call = format!("{name}({})", arguments.join(", "));
    for (module, slice) in [("before", &subject.before), ("after", &subject.after)] {
        let _ = writeln!(
            text,
            "mod {module} {{\n#![allow(warnings)]\n{slice}\npub(super) fn run(i: &mut super::Inputs) -> String {{ \
             format!(\"{{:?}}\", {call}) }}\npub(super) fn spin(i: &mut super::Inputs) {{ \
             let _ = std::hint::black_box({call}); }}\n}}"
        );
    }
    let literals = &subject.literals;
    let _ = writeln!(
        text,
        "const INTS: &[i64] = &{:?};\nconst STRINGS: &[&str] = &{:?};",
        literals.int, literals.str
    );
    let _ = writeln!(
        text,
        "const SEED: u64 = {};\nconst INPUTS: usize = {};\nconst PAIRS: usize = {};\nconst SECONDS: f64 = {:?};",
        effort.seed, effort.inputs, effort.pairs, effort.seconds
    );
    std::fs::write(folder.join("prove.rs"), text)?;
    let words = ["rustc", "--edition", "2021", "-O", "-A", "warnings", "-o", "prove", "prove.rs"];
    let program = Program::Direct(words.map(String::from).to_vec());
    let done = match program.run(folder, &[], COMPILING, &|| true) {
        Ok(done) => done,
        Err(_) => return Ok(Err("rustc is not installed".into())),
    };
    Ok(match done.end {
        Ended::Itself(true) => Ok(folder.join("prove")),
        Ended::Itself(false) => {
            let error =
                done.stderr.lines().find(|line| line.starts_with("error")).unwrap_or("error");
            Err(format!("the code around it does not compile alone: {error}"))
        }
        _ => Err("compiling it took too long".into()),
    })
}

/// The type of a value that a parameter can be made of, and how it is passed, with `_` for the value.
fn owned(parameter: &str) -> Option<(String, String)> {
    let text = parameter.trim();
    let (inner, pass) = match text.strip_prefix('&') {
        None => (text, "_.clone()"),
        Some(rest) => {
            let rest = rest.trim_start();
            // Lifetimes say nothing about values.
            let rest = match rest.strip_prefix('\'') {
                Some(named) => named.split_once(' ')?.1,
                None => rest,
            };
            match rest.trim_start().strip_prefix("mut ") {
                Some(rest) => (rest.trim(), "&mut _"),
                None => (rest.trim(), "&_"),
            }
        }
    };
    let own = match inner {
        "str" => "String".to_string(),
        slice if slice.starts_with('[') && !slice.contains(';') => {
            format!("Vec<{}>", slice.strip_prefix('[')?.strip_suffix(']')?)
        }
        other => other.to_string(),
    };
    let own = own.replace("&str", "&'static str").replace("&'a str", "&'static str");
    let bare = own.replace("&'static str", "");
    (!bare.contains(['&', '[', '\'']) && !bare.contains("fn") && !bare.contains("impl"))
        .then(|| (own, pass.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_owned_and_passed_as_the_parameter_says() {
        let made = |text| owned(text).map(|(own, pass)| format!("{own} {pass}"));
        assert_eq!(made("&[u32]").as_deref(), Some("Vec<u32> &_"));
        assert_eq!(made("&mut Vec<String>").as_deref(), Some("Vec<String> &mut _"));
        assert_eq!(made("&'a str").as_deref(), Some("String &_"));
        assert_eq!(made("Vec<&str>").as_deref(), Some("Vec<&'static str> _.clone()"));
        assert_eq!(made("&[&[u8]]"), None);
        assert_eq!(made("impl Fn(u8)"), None);
    }
}
