//! Repairs: candidates → those that hold → the likeliest. What is offered says what was proven about it.

mod fix;
mod habits;
pub mod mistakes;
pub mod mutations;
mod nearest;
mod outcome;
mod propose;
pub mod syntax;
mod weigh;

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::generation::CancelToken;
use crate::syntax::SyntaxTree;
use crate::text::Text;

pub use fix::{Check, Fixing, fix, validated};
pub use habits::{Choice, Habits, Signals};
pub use outcome::{Evidence, Fixed, Outcome};
pub use propose::{Ask, Origin, Proposal, proposals};
pub use syntax::{Candidate, Change};
pub use weigh::Weigher;

/// Candidates that the model is asked about.
const MOST_WEIGHED: usize = 40;
/// Share of the time for the parser; the rest is the model's.
const PARSING: f64 = 0.4;

/// Edits that are parsed however late it is: a machine that is busy elsewhere is no reason to find nothing.
const LEAST_TRIALS: usize = 16;
/// Edits that are weighed however late it is: what was not weighed is no rival for what was.
const LEAST_WEIGHED: usize = 8;

/// Repairs of broken syntax, likeliest first. `weigher` weighs them; without it the parser alone decides.
pub fn syntax_repairs(
    (tree, text): (&SyntaxTree, &Text),
    within: Option<Range<usize>>,
    weigher: Option<&mut Weigher<'_>>,
    limit: Duration,
    cancel: &CancelToken,
) -> Vec<Candidate> {
    let start = Instant::now();
    let parsing = limit.mul_f64(PARSING);
    let is_early = |tried: usize| tried < LEAST_TRIALS || start.elapsed() < parsing;
    let go_on = |tried: usize| is_early(tried) && !cancel.is_cancelled();
    let mut found = syntax::candidates(tree, text, within, &go_on);
    for candidate in &mut found {
        candidate.worth += habit(candidate.change);
    }
    found.sort_by(|a, b| b.worth.total_cmp(&a.worth));
    found.truncate(MOST_WEIGHED);
    if let Some(weigher) = weigher {
        let edits: Vec<_> = found.iter().map(|candidate| &candidate.edit).collect();
        let is_early = |weighed: usize| weighed < LEAST_WEIGHED || start.elapsed() < limit;
        let go_on = |weighed: usize| is_early(weighed) && !cancel.is_cancelled();
        match weigher.gains(text, &edits, &go_on) {
            Ok(gains) => {
                for (candidate, gain) in found.iter_mut().zip(gains) {
                    // What there was no time for comes after what was weighed.
                    candidate.worth += gain.unwrap_or(-30.0);
                }
            }
            Err(error) => tracing::error!(%error, "repairs are not weighed"),
        }
        found.sort_by(|a, b| b.worth.total_cmp(&a.worth));
    }
    found
}

/// Nats that speak for a kind of mistake: how often people make it, against how many ways there are to repair it so.
fn habit(change: Change) -> f32 {
    match change {
        Change::Insert => 0.0,
        Change::Undouble => 2.0,
        Change::Delete => 0.0,
        Change::Swap => 1.0,
        Change::Replace => -4.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Language;

    /// All repairs of a text that the parser alone finds, as texts, likeliest first.
    fn repaired(language: &str, broken: &str) -> Vec<String> {
        let text = Text::new(broken);
        let language = Language::by_name(language).unwrap();
        let tree = SyntaxTree::parse(language, broken).unwrap();
        let found =
            syntax_repairs((&tree, &text), None, None, Duration::from_secs(5), &CancelToken::new());
        let apply = |c: &Candidate| crate::text::apply(broken, std::slice::from_ref(&c.edit));
        found.iter().map(apply).collect()
    }

    #[track_caller]
    fn check(language: &str, broken: &str, wanted: &str) {
        let found = repaired(language, broken);
        assert!(found.iter().any(|text| text == wanted), "{wanted:?} is not in {found:#?}");
    }

    #[test]
    fn one_token_that_is_missing_doubled_wrong_or_misplaced_is_found() {
        check("rust", "fn f() {\n    g(1, 2;\n}\n", "fn f() {\n    g(1, 2);\n}\n");
        check("rust", "fn f() {\n    let let x = 1;\n}\n", "fn f() {\n    let x = 1;\n}\n");
        check("rust", "fn f() {\n    let x 1 = ;\n}\n", "fn f() {\n    let x = 1 ;\n}\n");
        check("rust", "fun f() {}\n\nfn g() {}\n", "fn f() {}\n\nfn g() {}\n");
        check("python", "def f(a, b:\n    return a\n", "def f(a, b):\n    return a\n");
        check("python", "if a\n    b()\n", "if a:\n    b()\n");
        check("python", "x = [1, 2, 3]]\n", "x = [1, 2, 3]\n");
        check("typescript", "const a = {b: 1, c: 2;\n", "const a = {b: 1, c: 2};\n");
        check("go", "package p\n\nfunc f() \n\tg()\n}\n", "package p\n\nfunc f() {\n\tg()\n}\n");
        check("c", "int f(void) {\n  return 1\n}\n", "int f(void) {\n  return 1;\n}\n");
        check("json", "{\"a\": 1 \"b\": 2}\n", "{\"a\": 1, \"b\": 2}\n");
    }

    #[test]
    fn all_that_the_end_of_a_line_lacks_is_found() {
        let broken = "fn f() {\n    a();\n    g(&[h(1, 2\n}\n";
        check("rust", broken, "fn f() {\n    a();\n    g(&[h(1, 2)]);\n}\n");
        let broken = "const a = f({b: [1, 2;\nconst c = 1;\n";
        check("typescript", broken, "const a = f({b: [1, 2]});\nconst c = 1;\n");
        let broken = "def g():\n    pass\n\n\ndef f(a, b\n    return a\n";
        check("python", broken, &broken.replace("b\n", "b):\n"));
        let broken = "package p\n\nfunc f(a int, b func(int {\n\tg()\n}\n";
        check("go", broken, &broken.replace("int {", "int)) {"));
        // Before a comment, and before both characters that end a line.
        let broken = "fn f() {\n    a();\n    g(1, 2 // note\n}\n";
        check("rust", broken, &broken.replace("2 ", "2) "));
        let broken = broken.replace(" // note", "").replace('\n', "\r\n");
        check("rust", &broken, &broken.replace("2\r", "2);\r"));
    }

    #[test]
    fn a_brace_that_is_missing_is_put_where_the_indentation_says() {
        let broken = "fn f() {\n    if a {\n        b();\n    \n    c();\n}\n\nfn g() {}\n";
        let wanted = "fn f() {\n    if a {\n        b();\n    }\n    c();\n}\n\nfn g() {}\n";
        check("rust", broken, wanted);
    }

    #[test]
    fn names_do_not_grow_together_and_nothing_is_offered_for_what_is_whole() {
        let all = repaired("python", "def f(a):\n    return .b(a)\n").concat();
        assert!(!all.contains("returnb") && !all.contains("return b(a)b"), "{all}");
        assert!(repaired("rust", "fn f() {}\n").is_empty());
    }
}
