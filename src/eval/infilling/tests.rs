//! Lines in, verdicts out.

use super::*;

fn problem() -> Problem {
    Problem {
        task_id: "SingleLineInfilling/Made/0/L0".into(),
        entry_point: "double".into(),
        prompt: "def double(x):\n".into(),
        suffix: "    return y\n".into(),
        canonical_solution: "    y = x * 2\n".into(),
        test: "def check(f):\n    assert f(4) == 8\n".into(),
    }
}

fn checker() -> Checker {
    let limits = Limits { wall: Duration::from_secs(5), ..Limits::default() };
    Checker::new("python3", Sandbox::new().unwrap_or(Sandbox::weak()), limits).unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_line_passes_only_by_passing_the_tests() {
    let lines = [
        ("    y = x * 2", Verdict::Passed),
        ("\n    y = x + x", Verdict::Passed),
        ("    y = x * 3", Verdict::Failed),
        ("", Verdict::Failed),
        ("    exit()", Verdict::Failed),
        ("    import os; os._exit(0)", Verdict::Failed),
        ("    y = (x * 2", Verdict::SyntaxError),
        ("  y = 1\n   z = 2", Verdict::SyntaxError),
    ];
    let (problems, checker) = (vec![problem(); lines.len()], checker());
    let written: Vec<String> = lines.iter().map(|(line, _)| line.to_string()).collect();
    let verdicts = checker.verdicts(&problems, &written, &mut |_| {}).unwrap();
    let expected: Vec<Verdict> = lines.iter().map(|&(_, verdict)| verdict).collect();
    assert_eq!(verdicts, expected);
    let score = score("model", &problems, &written, &verdicts, Duration::ZERO);
    assert_eq!((score.passed, score.exact, score.empty, score.syntax_errors), (2, 1, 1, 2));
    assert_eq!((score.pass_at_1, score.interval), (25.0, None), "one task");
    let endless = checker.run("while True: pass").unwrap();
    assert_eq!(endless, Verdict::OutOfTime);
}

#[test]
fn the_answer_is_its_first_line() {
    assert_eq!(first_line("    a = 1  \n    b"), "    a = 1");
    assert_eq!(first_line("\n\n  a\nb"), "\n\n  a");
    assert_eq!(first_line("  \n "), "");
}

#[test]
fn a_service_answer_is_cut_to_a_line_at_its_place() {
    struct Script(&'static str);
    impl Completer for Script {
        fn complete(
            &mut self,
            request: &CompletionRequest,
            _: &Progress,
            _: &CancelToken,
        ) -> crate::suggest::Completion {
            let edit =
                TextEdit { range: request.offset..request.offset, new_text: self.0.to_string() };
            let suggestions = vec![crate::suggest::Suggestion { edit, probability: 0.5 }];
            crate::suggest::Completion { suggestions, ..Default::default() }
        }
    }
    let mut script = Script("    y = x * 2\n    y = 0");
    let lines = service_lines(&mut script, &[problem()], &mut |_| {});
    assert_eq!(lines, ["    y = x * 2"]);
}

#[test]
fn a_suite_is_read_sampled_and_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("suite.jsonl");
    let line = |i: usize| {
        serde_json::json!({
            "task_id": format!("S/T/{i}/L0"), "entry_point": "f", "prompt": "a\n", "suffix": "b",
            "canonical_solution": "c\n", "test": "d"
        })
        .to_string()
    };
    let text: String = (0..30).map(|i| line(i) + "\n").collect();
    std::fs::write(&path, &text).unwrap();
    assert_eq!(read_suite(&path, None, 1).unwrap().len(), 30);
    let ids = |seed| -> Vec<String> {
        read_suite(&path, Some(5), seed).unwrap().into_iter().map(|p| p.task_id).collect()
    };
    assert_eq!(ids(1).len(), 5);
    assert_eq!(ids(1), ids(1));
    assert_ne!(ids(1), ids(2));
    std::fs::write(&path, text + "{}\n").unwrap();
    let error = format!("{:#}", read_suite(&path, None, 1).unwrap_err());
    assert!(error.contains("suite.jsonl:31"), "{error}");
    std::fs::write(&path, "\n").unwrap();
    assert!(read_suite(&path, None, 1).is_err());
    assert!(read_suite(&folder.path().join("none.jsonl.gz"), None, 1).is_err());
}
