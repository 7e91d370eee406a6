//! What a workspace's models go through: installed, used, removed, broken off.

use std::fs;
use std::time::Duration;

use anyhow::bail;
use tempfile::TempDir;

use super::*;

fn workspace() -> (TempDir, Workspace) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("my project");
    fs::create_dir_all(root.join(".git")).unwrap();
    fs::create_dir_all(root.join("src/deep")).unwrap();
    let workspace = Store::at(folder.path().join("data")).workspace(&root);
    (folder, workspace)
}

fn install(workspace: &Workspace, name: &str, weights: &str) -> Installed {
    let fill = |folder: &Path| Ok(fs::write(folder.join("model.gguf"), weights)?);
    workspace.install(name, fill).unwrap()
}

fn names(workspace: &Workspace) -> Vec<String> {
    workspace.models().into_iter().map(|model| model.name).collect()
}

#[test]
fn every_folder_of_a_repository_has_the_same_models_and_other_repositories_have_others() {
    let (folder, workspace) = workspace();
    let store = Store::at(folder.path().join("data"));
    let root = folder.path().join("my project");
    fs::write(root.join("src/a.rs"), "").unwrap();
    for inside in ["", "src", "src/deep", "src/../src", "src/a.rs"] {
        assert_eq!(store.workspace(&root.join(inside)), workspace, "{inside}");
    }
    let name = workspace.folder().file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("my_project-"), "{name}");
    let other = folder.path().join("other/my project");
    fs::create_dir_all(&other).unwrap();
    assert_ne!(store.workspace(&other), workspace);
}

#[test]
fn the_name_of_a_workspace_stays_the_same_for_years() {
    let named = Store::at("/data").workspace(Path::new("/no/such/place"));
    assert_eq!(named.folder(), Path::new("/data/workspaces/place-2495c1b263952ce9"));
}

#[test]
fn a_model_is_installed_then_used_then_removed() {
    let (_folder, workspace) = workspace();
    assert_eq!(workspace.in_use(), Choice::Default);
    let first = install(&workspace, "first", "one");
    assert_eq!(workspace.in_use(), Choice::Default, "installing alone changes nothing");
    assert_eq!(first.size(), 3);
    workspace.set_in_use(Some("first")).unwrap();
    assert_eq!(workspace.in_use(), Choice::Installed(first));
    install(&workspace, "second", "two");
    assert_eq!(names(&workspace), ["first", "second"]);
    assert!(!workspace.remove("second").unwrap());
    assert!(workspace.remove("first").unwrap(), "it was in use");
    assert_eq!((workspace.in_use(), names(&workspace)), (Choice::Default, Vec::new()));
    let error = workspace.remove("first").unwrap_err().to_string();
    assert!(error.contains("there are: default"), "{error}");
}

#[test]
fn each_choice_can_be_told_from_the_one_before() {
    let (_folder, workspace) = workspace();
    install(&workspace, "a", "one");
    workspace.set_in_use(Some("a")).unwrap();
    let first = workspace.use_text();
    std::thread::sleep(Duration::from_millis(2));
    workspace.set_in_use(Some("a")).unwrap();
    assert_ne!(workspace.use_text(), first);
    workspace.set_in_use(Some(DEFAULT)).unwrap();
    assert_eq!(workspace.use_text(), None);
    workspace.set_in_use(None).unwrap();
}

#[test]
fn what_is_not_there_or_cannot_be_read_is_missing() {
    let (_folder, workspace) = workspace();
    let error = workspace.set_in_use(Some("b")).unwrap_err().to_string();
    assert!(error.contains("\"b\"") && error.contains("there are: default"), "{error}");
    let installed = install(&workspace, "a", "one");
    workspace.set_in_use(Some("a")).unwrap();
    fs::remove_dir_all(&installed.folder).unwrap();
    assert!(matches!(workspace.in_use(), Choice::Missing { name, .. } if name == "a"));
    for broken in ["", "{", "[]", r#"{"model": 3}"#, r#"{"model": "../../etc"}"#] {
        fs::write(workspace.folder().join("use.json"), broken).unwrap();
        assert!(matches!(workspace.in_use(), Choice::Missing { .. }), "{broken}");
    }
}

#[test]
fn names_stay_inside_the_folder() {
    let (_folder, workspace) = workspace();
    for wrong in ["", ".", "..", ".x", "a/b", "../a", "default", "use.json", "typing", "ä", "-a"] {
        let error = workspace.install(wrong, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("cannot be a model's name"), "{wrong}: {error}");
    }
    assert!(workspace.install(&"a".repeat(81), |_| Ok(())).is_err());
    install(&workspace, "Qwen2.5-Coder_0.5B", "x");
    assert_eq!(workspace.free_name("Qwen2.5-Coder_0.5B"), "Qwen2.5-Coder_0.5B-2");
    for (asked, given) in [("a b", "a_b"), ("", "model"), ("..", "model"), (DEFAULT, "default-2")] {
        assert_eq!(workspace.free_name(asked), given);
    }
}

#[test]
fn a_taken_name_and_a_failure_leave_everything_as_it_was() {
    let (_folder, workspace) = workspace();
    let first = install(&workspace, "a", "one");
    let error = workspace.install("a", |_| Ok(())).unwrap_err();
    assert!(format!("{error:#}").contains("already a model \"a\""), "{error:#}");
    assert_eq!(first.text("model.gguf").as_deref(), Some("one"));
    let error = workspace.install("b", |folder| {
        fs::write(folder.join("model.gguf"), "half")?;
        bail!("no space left")
    });
    assert!(format!("{:#}", error.unwrap_err()).contains("no space left"));
    assert_eq!(names(&workspace), ["a"]);
    let all = fs::read_dir(workspace.folder()).unwrap().count();
    assert_eq!(all, 2, "the model and the file that names the root");
}

#[test]
fn leftovers_of_processes_that_are_gone_are_removed() {
    let (_folder, workspace) = workspace();
    install(&workspace, "a", "one");
    // No process has this number.
    let dead = workspace.folder().join(".part-2147483646-0-b");
    let alive = workspace.folder().join(format!(".part-{}-9-c", std::process::id()));
    for part in [&dead, &alive] {
        fs::create_dir(part).unwrap();
        fs::write(part.join("model.gguf"), "half").unwrap();
    }
    assert_eq!(names(&workspace), ["a"]);
    install(&workspace, "d", "two");
    assert!(!dead.exists() && alive.exists());
}

#[test]
fn typing_is_told_per_workspace() {
    let (folder, workspace) = workspace();
    let second = Duration::from_secs(1);
    workspace.touch_typing();
    assert!(!workspace.folder().exists(), "nobody has asked");
    assert!(!workspace.is_typing(second));
    workspace.touch_typing();
    assert!(workspace.is_typing(60 * second));
    let other = Store::at(folder.path().join("data")).workspace(folder.path());
    assert!(!other.is_typing(60 * second));
}
