//! The language table: one row for all that differs from language to language.
//! To add a language, add a row here and a folder under `queries/`; the tests visit every row.

use std::sync::OnceLock;

use super::language::{BlockStyle, Language, QuerySources};

macro_rules! query_sources {
    ($folder:literal) => {
        QuerySources {
            scopes: include_str!(concat!("queries/", $folder, "/scopes.scm")),
            imports: include_str!(concat!("queries/", $folder, "/imports.scm")),
        }
    };
}

const SLASHES: Option<&str> = Some("//");
const HASH: Option<&str> = Some("#");
const STARS: Option<(&str, &str)> = Some(("/*", "*/"));

#[rustfmt::skip]
const SCRIPT_STOPS: &[&str] = &[
    "function ", "async function ", "class ", "export ", "import ", "const ", "let ", "var ",
];
#[rustfmt::skip]
const TYPESCRIPT_STOPS: &[&str] = &[
    "function ", "async function ", "class ", "abstract class ", "export ", "import ", "const ",
    "let ", "var ", "interface ", "type ", "enum ", "namespace ", "declare ",
];
#[rustfmt::skip]
const C_STOPS: &[&str] = &[
    "static ", "void ", "int ", "char ", "struct ", "enum ", "union ", "typedef ", "extern ",
    "inline ", "const ", "#include", "#define",
];
#[rustfmt::skip]
const CPP_STOPS: &[&str] = &[
    "static ", "void ", "int ", "auto ", "class ", "struct ", "enum ", "template", "namespace ",
    "using ", "typedef ", "extern ", "inline ", "constexpr ", "#include", "#define",
];
#[rustfmt::skip]
const SCRIPT_CONTAINERS: &[&str] =
    &["program", "statement_block", "class_body", "switch_body", "switch_case", "switch_default"];
#[rustfmt::skip]
const TYPESCRIPT_CONTAINERS: &[&str] = &[
    "program", "statement_block", "class_body", "switch_body", "switch_case", "switch_default",
    "interface_body", "object_type", "enum_body",
];
#[rustfmt::skip]
const C_CONTAINERS: &[&str] = &[
    "translation_unit", "compound_statement", "case_statement", "field_declaration_list",
    "enumerator_list", "declaration_list", "preproc_if", "preproc_ifdef", "preproc_else",
];

// By hand, because the formatter would put each string on its own line.
#[rustfmt::skip]
pub(super) static LANGUAGES: [Language; 13] = [
    Language {
        name: "rust",
        lsp_ids: &["rust"],
        extensions: &["rs"],
        file_names: &[],
        line_comment: SLASHES,
        block_comment: STARS,
        indent: "    ",
        block: BlockStyle::Braces,
        stops: &[
            "fn ", "pub ", "pub(", "impl ", "impl<", "struct ", "enum ", "trait ", "mod ", "use ",
            "const ", "static ", "type ", "unsafe ", "async ", "extern ", "macro_rules!", "#[",
        ],
        containers: &[
            "source_file", "block", "declaration_list", "match_block", "field_declaration_list",
            "enum_variant_list",
        ],
        grammar: || tree_sitter_rust::LANGUAGE.into(),
        sources: query_sources!("rust"),
        queries: OnceLock::new(),
    },
    Language {
        name: "python",
        lsp_ids: &["python"],
        extensions: &["py", "pyi", "pyw"],
        file_names: &["SConstruct", "SConscript", "wscript"],
        line_comment: HASH,
        block_comment: None,
        indent: "    ",
        block: BlockStyle::Indentation,
        stops: &["def ", "async def ", "class ", "@", "import ", "from ", "if __name__"],
        containers: &["module", "block"],
        grammar: || tree_sitter_python::LANGUAGE.into(),
        sources: query_sources!("python"),
        queries: OnceLock::new(),
    },
    Language {
        name: "javascript",
        lsp_ids: &["javascript", "javascriptreact", "javascript.jsx", "jsx"],
        extensions: &["js", "mjs", "cjs", "jsx"],
        file_names: &[],
        line_comment: SLASHES,
        block_comment: STARS,
        indent: "  ",
        block: BlockStyle::Braces,
        stops: SCRIPT_STOPS,
        containers: SCRIPT_CONTAINERS,
        grammar: || tree_sitter_javascript::LANGUAGE.into(),
        sources: query_sources!("javascript"),
        queries: OnceLock::new(),
    },
    Language {
        name: "typescript",
        lsp_ids: &["typescript"],
        extensions: &["ts", "mts", "cts"],
        file_names: &[],
        line_comment: SLASHES,
        block_comment: STARS,
        indent: "  ",
        block: BlockStyle::Braces,
        stops: TYPESCRIPT_STOPS,
        containers: TYPESCRIPT_CONTAINERS,
        grammar: || tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        sources: query_sources!("typescript"),
        queries: OnceLock::new(),
    },
    Language {
        name: "tsx",
        lsp_ids: &["typescriptreact", "typescript.tsx", "tsx"],
        extensions: &["tsx"],
        file_names: &[],
        line_comment: SLASHES,
        block_comment: STARS,
        indent: "  ",
        block: BlockStyle::Braces,
        stops: TYPESCRIPT_STOPS,
        containers: TYPESCRIPT_CONTAINERS,
        grammar: || tree_sitter_typescript::LANGUAGE_TSX.into(),
        sources: query_sources!("typescript"),
        queries: OnceLock::new(),
    },
    Language {
        name: "go",
        lsp_ids: &["go"],
        extensions: &["go"],
        file_names: &[],
        line_comment: SLASHES,
        block_comment: STARS,
        indent: "\t",
        block: BlockStyle::Braces,
        stops: &["func ", "type ", "var ", "const ", "import ", "package "],
        containers: &[
            "source_file", "block", "statement_list", "expression_case", "default_case",
            "type_case", "communication_case", "field_declaration_list", "interface_type",
        ],
        grammar: || tree_sitter_go::LANGUAGE.into(),
        sources: query_sources!("go"),
        queries: OnceLock::new(),
    },
    Language {
        name: "c",
        lsp_ids: &["c"],
        extensions: &["c", "h"],
        file_names: &[],
        line_comment: SLASHES,
        block_comment: STARS,
        indent: "    ",
        block: BlockStyle::Braces,
        stops: C_STOPS,
        containers: C_CONTAINERS,
        grammar: || tree_sitter_c::LANGUAGE.into(),
        sources: query_sources!("c"),
        queries: OnceLock::new(),
    },
    Language {
        name: "cpp",
        lsp_ids: &["cpp", "c++"],
        extensions: &["cpp", "cc", "cxx", "c++", "hpp", "hh", "hxx", "h++", "ipp", "inl"],
        file_names: &[],
        line_comment: SLASHES,
        block_comment: STARS,
        indent: "    ",
        block: BlockStyle::Braces,
        stops: CPP_STOPS,
        containers: C_CONTAINERS,
        grammar: || tree_sitter_cpp::LANGUAGE.into(),
        sources: query_sources!("cpp"),
        queries: OnceLock::new(),
    },
    Language {
        name: "java",
        lsp_ids: &["java"],
        extensions: &["java"],
        file_names: &[],
        line_comment: SLASHES,
        block_comment: STARS,
        indent: "    ",
        block: BlockStyle::Braces,
        stops: &[
            "public ", "class ", "final ", "abstract ", "interface ", "enum ", "record ", "@",
            "import ", "package ",
        ],
        containers: &[
            "program", "block", "class_body", "interface_body", "enum_body",
            "enum_body_declarations", "constructor_body", "annotation_type_body", "switch_block",
            "switch_block_statement_group",
        ],
        grammar: || tree_sitter_java::LANGUAGE.into(),
        sources: query_sources!("java"),
        queries: OnceLock::new(),
    },
    Language {
        name: "json",
        lsp_ids: &["json", "jsonc", "json5"],
        extensions: &["json", "jsonc", "json5", "ipynb", "webmanifest"],
        file_names: &[".babelrc", ".eslintrc", ".prettierrc"],
        line_comment: None,
        block_comment: None,
        indent: "  ",
        block: BlockStyle::Braces,
        stops: &[],
        containers: &["document", "object", "array"],
        grammar: || tree_sitter_json::LANGUAGE.into(),
        sources: query_sources!("json"),
        queries: OnceLock::new(),
    },
    Language {
        name: "toml",
        lsp_ids: &["toml"],
        extensions: &["toml"],
        file_names: &["Cargo.lock", "poetry.lock", "uv.lock"],
        line_comment: HASH,
        block_comment: None,
        indent: "  ",
        block: BlockStyle::None,
        stops: &["["],
        containers: &["document", "table", "table_array_element"],
        grammar: || tree_sitter_toml_ng::LANGUAGE.into(),
        sources: query_sources!("toml"),
        queries: OnceLock::new(),
    },
    Language {
        name: "bash",
        lsp_ids: &["shellscript", "sh", "bash", "zsh"],
        extensions: &["sh", "bash", "zsh", "ksh"],
        file_names: &[".bashrc", ".bash_profile", ".profile", ".zshrc", "PKGBUILD"],
        line_comment: HASH,
        block_comment: None,
        indent: "  ",
        block: BlockStyle::Braces,
        stops: &["function "],
        containers: &[
            "program", "compound_statement", "do_group", "subshell", "if_statement", "elif_clause",
            "else_clause", "case_item",
        ],
        grammar: || tree_sitter_bash::LANGUAGE.into(),
        sources: query_sources!("bash"),
        queries: OnceLock::new(),
    },
    Language {
        name: "markdown",
        lsp_ids: &["markdown"],
        extensions: &["md", "markdown", "mkd"],
        file_names: &[],
        line_comment: None,
        block_comment: Some(("<!--", "-->")),
        indent: "  ",
        block: BlockStyle::None,
        stops: &["# ", "## "],
        containers: &["document", "section", "list", "block_quote"],
        grammar: || tree_sitter_md::LANGUAGE.into(),
        sources: query_sources!("markdown"),
        queries: OnceLock::new(),
    },
];
