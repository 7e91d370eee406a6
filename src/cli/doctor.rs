//! `nestling doctor`: what works here, what does not, and what to do about it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use super::{ModelArgs, print, print_json, store};
use crate::eval::engine;
use crate::store::{Choice, DEFAULT, Installed, Store, Used, habit};
use crate::syntax::{Language, SyntaxTree};

#[derive(clap::Args)]
pub(super) struct DoctorArgs {
    /// What became of suggestions on this machine
    #[arg(long)]
    stats: bool,
    /// Delete that
    #[arg(long, conflicts_with = "stats")]
    forget_stats: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

pub(super) fn run(args: DoctorArgs, model: &ModelArgs) -> Result<ExitCode> {
    if args.stats || args.forget_stats {
        return usage(&args);
    }
    let checks =
        [processor(), loading(model), memory(), languages(), editor("nvim"), editor("code")];
    let ok = checks.iter().all(|check| check.ok);
    if args.json {
        let list: Vec<_> = checks
            .iter()
            .map(|c| json!({ "check": c.name, "ok": c.ok, "detail": c.detail }))
            .collect();
        print_json(&json!({ "version": env!("CARGO_PKG_VERSION"), "ok": ok, "checks": list }))?;
    } else {
        print(&format!("nestling {}\n", env!("CARGO_PKG_VERSION")))?;
        for check in &checks {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            print(&format!("{mark}  {:<10} {}\n", check.name, check.detail))?;
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What was shown, accepted and kept, by language; or nothing of it any more.
fn usage(args: &DoctorArgs) -> Result<ExitCode> {
    let store = Store::of_user().context("there is no data folder: set NESTLING_DATA")?;
    if args.forget_stats {
        let had = store.forget_usage()?;
        print(if had { "the statistics are deleted\n" } else { "there are no statistics\n" })?;
        return Ok(ExitCode::SUCCESS);
    }
    let all = store.usage();
    if all.is_empty() && !args.json {
        print("nothing was counted yet: ghost text is, once it was in sight\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows: BTreeMap<&str, Vec<&Used>> = BTreeMap::new();
    for one in &all {
        let language = if one.language.is_empty() { "other" } else { &one.language };
        rows.entry(language).or_default().push(one);
        rows.entry("all").or_default().push(one);
    }
    let sum = |rows: &[&Used]| {
        let mean = |kept: &dyn Fn(&Used) -> Option<f32>| {
            let known: Vec<f32> = rows.iter().filter_map(|one| kept(one)).collect();
            let share = known.iter().sum::<f32>() / known.len() as f32;
            (!known.is_empty()).then_some(100.0 * share)
        };
        json!({
            "shown": rows.len(),
            "accepted": rows.iter().filter(|one| one.accepted > 0).count(),
            "acceptedCharacters": rows.iter().map(|one| one.accepted).sum::<usize>(),
            "rightPercent": mean(&|one| one.was_right().map(|right| f32::from(u8::from(right)))),
            "kept30Percent": mean(&|one| one.kept30),
            "kept300Percent": mean(&|one| one.kept300),
        })
    };
    if args.json {
        let languages: BTreeMap<_, _> = rows.iter().map(|(name, rows)| (name, sum(rows))).collect();
        print_json(&json!({ "languages": languages, "habit": habit(&all) }))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!(
        "{:<12}{:>8}{:>10}{:>12}{:>14}{:>16}{:>16}\n",
        "language",
        "shown",
        "accepted",
        "characters",
        "as written %",
        "kept, 30 s %",
        "kept, 5 min %"
    ))?;
    for (name, rows) in &rows {
        let sum = sum(rows);
        let percent = |key: &str| sum[key].as_f64().map_or("–".into(), |p| format!("{p:.1}"));
        print(&format!(
            "{name:<12}{:>8}{:>10}{:>12}{:>14}{:>16}{:>16}\n",
            rows.len(),
            sum["accepted"].as_u64().unwrap_or(0),
            sum["acceptedCharacters"].as_u64().unwrap_or(0),
            percent("rightPercent"),
            percent("kept30Percent"),
            percent("kept300Percent"),
        ))?;
    }
    print(&format!(
        "answers count as {:+.2} logits surer than the model's scale says; nestling doctor --forget-stats deletes all of this\n",
        habit(&all)
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn processor() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = std::env::var("CANDLE_NUM_THREADS").unwrap_or_default();
    #[cfg(target_arch = "x86_64")]
    let (fast, kind) = {
        let fastest = std::arch::is_x86_feature_detected!("avx512vnni");
        let fast = std::arch::is_x86_feature_detected!("avx2");
        (
            fast,
            if fastest {
                "AVX-512 VNNI"
            } else if fast {
                "AVX2"
            } else {
                "no AVX2: slow"
            },
        )
    };
    #[cfg(not(target_arch = "x86_64"))]
    let (fast, kind) = (true, std::env::consts::ARCH);
    let detail = format!("{cores} cores, {threads} threads used, {kind}");
    Check { name: "processor", ok: fast, detail }
}

/// Which model is in use here, why, and whether it works.
fn loading(args: &ModelArgs) -> Check {
    let start = Instant::now();
    let check = |ok, detail| Check { name: "model", ok, detail };
    let (installed, why) = match chosen(args) {
        Ok(chosen) => chosen,
        Err(reason) => return check(false, reason),
    };
    let model = match args.load_installed(installed.as_ref()) {
        Ok(loaded) => loaded.model,
        Err(error) if installed.is_some() => {
            let way_out = format!("{DEFAULT} takes its place; `nestling model use {DEFAULT}`");
            return check(false, format!("{why} does not work: {error:#}; {way_out}"));
        }
        Err(error) => return check(false, format!("{error:#}")),
    };
    let (loaded, name) = (start.elapsed(), &model.name);
    match engine::measure(&model, 256, 32) {
        Ok(speed) => check(
            true,
            format!(
                "{why}, loaded in {} ms; reads {:.0} and writes {:.0} tokens/s",
                loaded.as_millis(),
                speed.prefill_tok_s,
                speed.decode_tok_s
            ),
        ),
        Err(error) => check(false, format!("{name} was loaded but does not run: {error}")),
    }
}

/// The model that the workspace here uses, and a word on why.
fn chosen(args: &ModelArgs) -> Result<(Option<Installed>, String), String> {
    if let Some(given) = &args.model {
        return Ok((None, format!("{}, given", given.display())));
    }
    let inside = || (None, format!("{DEFAULT}, inside the program"));
    let Some(store) = Store::of_user() else { return Ok(inside()) };
    let workspace = store.workspace(Path::new("."));
    let root = workspace.root().display();
    match workspace.in_use() {
        Choice::Default => {
            let (none, name) = inside();
            let others = workspace.models().len();
            let more = format!("{others} more installed for {root}");
            Ok((none, if others == 0 { name } else { format!("{name}, {more}") }))
        }
        Choice::Installed(model) => {
            let why = format!("{}, chosen for {root}", model.name);
            Ok((Some(model), why))
        }
        Choice::Missing { reason, .. } => Err(format!(
            "{reason}; {DEFAULT} takes its place; `nestling model use {DEFAULT}` settles it"
        )),
    }
}

fn languages() -> Check {
    let broken: Vec<_> = Language::all()
        .iter()
        .filter(|language| SyntaxTree::parse(language, "x").is_none())
        .map(|language| language.name)
        .collect();
    let names: Vec<_> = Language::all().iter().map(|language| language.name).collect();
    let detail = if broken.is_empty() {
        names.join(", ")
    } else {
        format!("no parser for {}", broken.join(", "))
    };
    Check { name: "languages", ok: broken.is_empty(), detail }
}

/// Where indexes of workspaces are kept, and whether they can be.
fn memory() -> Check {
    let check = |ok, detail| Check { name: "memory", ok, detail };
    let Some(folder) = store() else {
        return check(true, "no cache folder here: each start reads the workspace anew".into());
    };
    let shown = folder.display();
    if let Err(error) = std::fs::create_dir_all(&folder).and_then(|()| tempfile_in(&folder)) {
        return check(false, format!("{shown} cannot be written ({error}); check its permissions"));
    }
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let sizes: Vec<u64> = files.filter_map(|f| Some(f.metadata().ok()?.len())).collect();
    let size = sizes.iter().sum::<u64>() as f64 / 1e6;
    check(true, format!("{} files, {size:.1} MB in {shown}", sizes.len()))
}

/// Whether a file can be made there.
fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!("probe-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(probe)
}

/// Editors are never required.
fn editor(program: &'static str) -> Check {
    let output = Command::new(program).arg("--version").output();
    let version = output
        .ok()
        .filter(|o| o.status.success())
        .map(|o| String::from_utf8_lossy(&o.stdout).lines().next().unwrap_or_default().to_string());
    Check { name: program, ok: true, detail: version.unwrap_or("not found on PATH".into()) }
}
