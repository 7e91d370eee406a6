//! What is known about a language, and how to find a language by what editors and files say.
//! The languages themselves are the rows of `table.rs`.

use std::path::Path;
use std::sync::OnceLock;

use super::query::Queries;
use super::table::LANGUAGES;

/// How a language shows where a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockStyle {
    /// Between brackets or keywords; indentation is only style.
    Braces,
    /// By indentation alone.
    Indentation,
    /// There are no nested blocks.
    None,
}

/// What is known about one language before any text is seen. There is one value per language, so
/// compare by `name`.
#[derive(Debug)]
pub struct Language {
    /// The name used in settings, prompts and reports; usually also the folder of its queries.
    pub name: &'static str,
    /// What editors call it: language identifiers of the protocol, and file types of editors that
    /// send those instead.
    pub lsp_ids: &'static [&'static str],
    /// File name extensions, in lower case, without the dot.
    pub extensions: &'static [&'static str],
    /// Whole file names that decide before any extension does.
    pub file_names: &'static [&'static str],
    /// What starts a comment that runs to the end of the line.
    pub line_comment: Option<&'static str>,
    /// What starts and ends a comment within a line or over several.
    pub block_comment: Option<(&'static str, &'static str)>,
    /// The usual unit of indentation, for files too short to show their own.
    pub indent: &'static str,
    /// How blocks end.
    pub block: BlockStyle,
    /// What stands at column 0 where the next top-level item starts: generated text that reaches one
    /// has gone past what was asked for.
    pub stops: &'static [&'static str],
    /// Node kinds whose named children are statements, items, members or entries.
    pub(super) containers: &'static [&'static str],
    pub(super) grammar: fn() -> tree_sitter::Language,
    pub(super) sources: QuerySources,
    pub(super) queries: OnceLock<Queries>,
}

/// The text of a language's query files.
#[derive(Debug)]
pub(super) struct QuerySources {
    pub(super) scopes: &'static str,
    pub(super) imports: &'static str,
}

impl Language {
    /// Every language, in the order of the table.
    pub fn all() -> &'static [Language] {
        &LANGUAGES
    }

    /// The language with this `name`.
    pub fn by_name(name: &str) -> Option<&'static Language> {
        LANGUAGES.iter().find(|language| language.name == name)
    }

    /// The language that an editor means with this identifier.
    pub fn by_lsp_id(id: &str) -> Option<&'static Language> {
        LANGUAGES.iter().find(|language| language.lsp_ids.contains(&id))
    }

    /// The language of a file, by its name alone. Nothing is read.
    pub fn by_path(path: &Path) -> Option<&'static Language> {
        let name = path.file_name()?.to_str()?;
        let by_name = LANGUAGES.iter().find(|language| language.file_names.contains(&name));
        by_name.or_else(|| {
            let extension = path.extension()?.to_str()?.to_lowercase();
            LANGUAGES.iter().find(|language| language.extensions.contains(&extension.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_path(path: &str, expected: Option<&str>) {
        assert_eq!(Language::by_path(Path::new(path)).map(|language| language.name), expected);
    }

    #[test]
    fn files_are_known_by_name_before_extension() {
        check_path("src/main.rs", Some("rust"));
        check_path("a/b.TSX", Some("tsx"));
        check_path("Cargo.lock", Some("toml"));
        check_path(".bashrc", Some("bash"));
        check_path("notes.txt", None);
        check_path("..", None);
    }

    #[test]
    fn editors_are_understood() {
        let name = |id| Language::by_lsp_id(id).map(|language| language.name);
        assert_eq!(name("typescriptreact"), Some("tsx"));
        assert_eq!(name("sh"), Some("bash"));
        assert_eq!(name("klingon"), None);
        assert_eq!(Language::by_name("c").map(|language| language.name), Some("c"));
    }

    #[test]
    fn nothing_in_the_table_is_claimed_twice() {
        let columns: [fn(&Language) -> &'static [&'static str]; 3] =
            [|row| row.lsp_ids, |row| row.extensions, |row| row.file_names];
        for column in columns {
            let mut entries: Vec<&str> = Language::all().iter().flat_map(column).copied().collect();
            let count = entries.len();
            entries.sort_unstable();
            entries.dedup();
            assert_eq!(entries.len(), count, "{entries:?}");
        }
    }
}
