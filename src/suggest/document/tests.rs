//! Comments that the names alone make, in every convention, and what is never taken.

use super::*;
use crate::syntax::Language;

/// The file with the comments that its names alone make.
fn documented(language: &str, source: &str) -> String {
    let text = Text::new(source);
    let id = Language::by_name(language).unwrap().lsp_ids[0];
    let document = Document::new("untitled:a", id, 1, text);
    let signatures = Signature::all(document.tree.as_ref().unwrap(), source);
    let snapshot = Snapshot::alone(document);
    let edits: Vec<TextEdit> = signatures
        .iter()
        .map(|signature| {
            crate::suggest::document::document(None, &snapshot, signature, &CancelToken::new())
                .unwrap()
                .edit
        })
        .collect();
    apply(source, &edits)
}

#[test]
fn rust() {
    assert_eq!(
        documented(
            "rust",
            "impl Store {\n    #[must_use]\n    pub fn read_config(&self, path: &Path) -> Result<Config> {\n        x\n    }\n}\n"
        ),
        "impl Store {\n    /// Reads the configuration.\n    ///\n    /// - `path`: The path.\n    ///\n    /// # Errors\n    ///\n    /// When it fails to read the configuration.\n    #[must_use]\n    pub fn read_config(&self, path: &Path) -> Result<Config> {\n        x\n    }\n}\n"
    );
}

#[test]
fn python_in_the_convention_of_the_file() {
    let code = "def read_lines(path, max_size=3):\n    if not path:\n        raise ValueError('the path is empty')\n    return lines\n";
    assert_eq!(
        documented("python", code),
        "def read_lines(path, max_size=3):\n    \"\"\"Read the lines.\n\n    Args:\n        path: The path.\n        max_size: The largest size.\n\n    Returns:\n        The lines.\n\n    Raises:\n        ValueError: the path is empty.\n    \"\"\"\n    if not path:\n        raise ValueError('the path is empty')\n    return lines\n"
    );
    let sphinx = format!("def a(x):\n    '''A.\n\n    :param x: X.\n    '''\n\n\n{code}");
    let wanted = "    \"\"\"Read the lines.\n\n    :param path: The path.\n    :param max_size: The largest size.\n    :returns: The lines.\n    :raises ValueError: the path is empty.\n    \"\"\"\n";
    assert!(documented("python", &sphinx).contains(wanted), "{}", documented("python", &sphinx));
    let numpy = format!(
        "def a(x):\n    '''A.\n\n    Parameters\n    ----------\n    x\n        X.\n    '''\n\n\n{code}"
    );
    let wanted = "    Parameters\n    ----------\n    path\n        The path.\n    max_size\n        The largest size.\n\n    Returns\n    -------\n    object\n        The lines.\n";
    assert!(documented("python", &numpy).contains(wanted), "{}", documented("python", &numpy));
    assert_eq!(
        documented("python", "def run(\n    a: int\n):\n    # First.\n    work()\n"),
        "def run(\n    a: int\n):\n    \"\"\"Run the a.\n\n    Args:\n        a: The a.\n    \"\"\"\n    # First.\n    work()\n"
    );
    assert_eq!(
        documented("python", "def run():\n    work()\n"),
        "def run():\n    \"\"\"Run.\"\"\"\n    work()\n"
    );
}

#[test]
fn scripts_go_java_and_c() {
    assert_eq!(
        documented(
            "typescript",
            "export function isOpen(door: Door, ...rest: Door[]): boolean {\n  if (!door) throw new RangeError('there is no door');\n  return open;\n}\n"
        ),
        "/**\n * Returns whether it is open.\n *\n * @param door The door.\n * @param rest The rest.\n * @returns The open.\n * @throws {RangeError} there is no door.\n */\nexport function isOpen(door: Door, ...rest: Door[]): boolean {\n  if (!door) throw new RangeError('there is no door');\n  return open;\n}\n"
    );
    assert_eq!(
        documented("go", "func ReadAll(src io.Reader, n int) error {\n\treturn nil\n}\n"),
        "// ReadAll reads all the source.\n//\n//   - src: The source.\n//   - n: The n.\nfunc ReadAll(src io.Reader, n int) error {\n\treturn nil\n}\n"
    );
    assert_eq!(
        documented("java", "class Gate {\n  void close() throws IOException {}\n}\n"),
        "class Gate {\n  /**\n   * Closes the gate.\n   *\n   * @throws IOException When it fails to close the gate.\n   */\n  void close() throws IOException {}\n}\n"
    );
    assert_eq!(
        documented("c", "static int count_words(const char *text) {\n  return count;\n}\n"),
        "/**\n * Counts the words.\n *\n * @param text The text.\n * @return The count.\n */\nstatic int count_words(const char *text) {\n  return count;\n}\n"
    );
}

#[test]
fn parameters_that_are_missing_or_invented_are_noticed() {
    let style = Style::of("javascript", &mut std::iter::empty()).unwrap();
    assert_eq!(
        style.parameters_in("/**\n * A.\n *\n * @param a The a.\n * @param b2\n */\n"),
        ["a", "b2"]
    );
    let google = Style::of("python", &mut std::iter::empty()).unwrap();
    let comment = "    \"\"\"A note: this.\n\n    Args:\n        a: The a.\n        *rest: More.\n\n    Returns:\n        b: no.\n    \"\"\"\n";
    assert_eq!(google.parameters_in(comment), ["a", "*rest"]);
}

#[test]
fn what_is_no_prose_is_not_taken() {
    let source = "def read_lines(path):\n    return lines\n";
    let tree = SyntaxTree::parse_steadily(Language::by_name("python").unwrap(), source).unwrap();
    let signature = &Signature::all(&tree, source)[0];
    let takes = |text: &str, slot| is_prose(text, signature, slot);
    assert!(takes("Reads all lines of a file", Slot::Summary));
    assert!(takes("The path of the file", Slot::Parameter(0)));
    for text in [
        "Reads */ the lines",
        "read_lines(path) {",
        "Reads \"\"\" lines",
        "x",
        "Opens a door",
        "Reads the `lines",
    ] {
        assert!(!takes(text, Slot::Summary), "{text}");
    }
    assert!(!takes("The size of it", Slot::Parameter(0)));
}
