//! What a name says, in plain words: `read_config` reads the configuration.

/// The words of an identifier, in lower case but for abbreviations: `parseHTTPHeader` is "parse HTTP header".
pub(super) fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1).copied();
        let lower = |c: Option<char>| c.is_some_and(|c| c.is_lowercase() || c.is_ascii_digit());
        let starts = letter.is_uppercase() && (lower(before) || lower(after) && before.is_some());
        if !letter.is_alphanumeric() || starts {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().unwrap_or(&mut String::new()).push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    for word in &mut words {
        let is_abbreviation = word.chars().count() > 1 && !word.chars().any(char::is_lowercase);
        if !is_abbreviation || name == name.to_uppercase() {
            *word = word.to_lowercase();
        }
        if let Some((_, long)) = LONG.iter().find(|(short, _)| short == word) {
            *word = long.to_string();
        }
    }
    words
}

/// Abbreviations that are written out in prose.
#[rustfmt::skip]
const LONG: &[(&str, &str)] = &[
    ("addr", "address"), ("arg", "argument"), ("args", "arguments"), ("attr", "attribute"),
    ("attrs", "attributes"), ("buf", "buffer"), ("cb", "callback"), ("cfg", "configuration"),
    ("cmd", "command"), ("conf", "configuration"), ("config", "configuration"),
    ("conn", "connection"), ("ctx", "context"), ("db", "database"), ("deps", "dependencies"),
    ("desc", "description"), ("dest", "destination"), ("dir", "directory"),
    ("dirs", "directories"), ("dst", "destination"), ("elem", "element"), ("env", "environment"),
    ("err", "error"), ("expr", "expression"), ("fmt", "format"), ("fn", "function"),
    ("func", "function"), ("idx", "index"), ("iter", "iterator"), ("kwargs", "named arguments"),
    ("len", "length"), ("msg", "message"), ("num", "number"), ("obj", "object"),
    ("opts", "options"), ("params", "parameters"), ("pos", "position"), ("prev", "previous"),
    ("ptr", "pointer"), ("req", "request"), ("resp", "response"), ("src", "source"),
    ("str", "string"), ("tmp", "temporary"), ("tok", "token"), ("val", "value"),
    ("vals", "values"), ("vec", "vector"),
];

/// What functions do.
#[rustfmt::skip]
const VERBS: &[&str] = &[
    "accept", "add", "allocate", "append", "apply", "assert", "assign", "attach", "begin", "bind",
    "build", "calculate", "call", "cancel", "change", "check", "choose", "clean", "clear", "clone",
    "close", "collect", "combine", "commit", "compare", "compile", "compute", "connect", "consume",
    "convert", "copy", "count", "create", "decode", "decrease", "delete", "describe", "detach",
    "detect", "disable", "disconnect", "dispatch", "display", "divide", "download", "draw", "drop",
    "dump", "emit", "enable", "encode", "end", "ensure", "escape", "estimate", "evaluate",
    "execute", "expand", "export", "extend", "extract", "fetch", "fill", "filter", "find",
    "finish", "fix", "flatten", "flush", "fold", "follow", "forget", "format", "free", "generate",
    "get", "give", "group", "guess", "handle", "hash", "hide", "import", "increase", "increment",
    "infer", "init", "initialize", "insert", "install", "interpret", "invoke", "iterate", "join",
    "keep", "launch", "learn", "limit", "link", "list", "listen", "load", "lock", "log", "lookup",
    "make", "map", "mark", "match", "measure", "merge", "modify", "move", "multiply", "normalize",
    "notify", "open", "order", "pack", "pad", "parse", "partition", "patch", "pause", "peek",
    "perform", "pick", "play", "pop", "predict", "prepare", "prepend", "print", "process",
    "produce", "publish", "pull", "push", "put", "query", "quote", "raise", "read", "rebuild",
    "receive", "record", "reduce", "refresh", "register", "reject", "release", "reload", "remove",
    "rename", "render", "repeat", "replace", "report", "request", "require", "reset", "resize",
    "resolve", "restart", "restore", "resume", "retrieve", "retry", "return", "reverse", "rewrite",
    "rotate", "round", "run", "sample", "save", "scale", "scan", "search", "select", "send",
    "serialize", "serve", "set", "setup", "show", "shuffle", "shutdown", "skip", "sleep", "slice",
    "sort", "spawn", "split", "start", "step", "stop", "store", "strip", "submit", "subscribe",
    "subtract", "suggest", "sum", "swap", "sync", "take", "tell", "tokenize", "toggle", "track",
    "train", "transform", "translate", "traverse", "trigger", "trim", "truncate", "try",
    "unescape", "unlock", "unpack", "unregister", "unwrap", "update", "upload", "use", "validate",
    "verify", "visit", "wait", "walk", "warn", "watch", "wrap", "write", "yield", "zip",
];

/// Words between which no article stands.
#[rustfmt::skip]
const PREPOSITIONS: &[&str] = &[
    "about", "after", "all", "any", "as", "at", "before", "between", "by", "each", "every", "for",
    "from", "if", "in", "into", "of", "on", "over", "through", "to", "until", "with", "without",
];

fn is_one_of(list: &[&str], word: &str) -> bool {
    list.contains(&word)
}

/// A verb as "it …s".
fn third(verb: &str) -> String {
    let ends = |ending: &&str| verb.ends_with(*ending);
    if verb.ends_with('y') && !["ay", "ey", "oy", "uy"].iter().any(ends) {
        return format!("{}ies", &verb[..verb.len() - 1]);
    }
    match ["s", "x", "z", "ch", "sh", "o"].iter().any(ends) {
        true => format!("{verb}es"),
        false => format!("{verb}s"),
    }
}

fn a(noun: &str) -> String {
    match noun.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) {
        true => format!("an {noun}"),
        false => format!("a {noun}"),
    }
}

/// Some words as a noun: with the article, unless they begin with a word that takes none.
fn the(words: &[String]) -> String {
    let text = words.join(" ");
    match words.first() {
        None => String::new(),
        Some(first) if is_one_of(PREPOSITIONS, first) => text,
        Some(_) => format!("the {text}"),
    }
}

/// What a function does, by its name, as a sentence without its end: `Reads the file`, or in the mood of commands `Read
/// the file`. `given` is its first parameter.
pub(super) fn sentence(
    name: &str,
    class: Option<&str>,
    given: Option<&str>,
    returns: bool,
    commands: bool,
) -> String {
    let words = words(name);
    let given = given.map(parameter);
    let verb = |verb: &str| if commands { verb.to_string() } else { third(verb) };
    let rest = |from: usize| words.get(from..).unwrap_or_default();
    let own = class.map(|class| self::words(class).join(" "));
    let it = own.clone().map_or("it".into(), |own| format!("the {own}"));
    let first = words.first().map_or("", String::as_str);
    let text = match first {
        "new" | "init" | "constructor" if class.is_some() => {
            let with = match rest(1).is_empty() {
                true => String::new(),
                false => format!(" {}", rest(1).join(" ")),
            };
            format!("{} {}{with}", verb("make"), a(own.as_deref().unwrap_or("value")))
        }
        "is" | "has" | "can" | "should" if words.len() > 1 => {
            let what = rest(1).join(" ");
            format!("{} whether {it} {first} {what}", verb("return"))
        }
        "to" | "into" | "as" if words.len() > 1 => {
            format!("{} {it} to {}", verb("convert"), a(&rest(1).join(" ")))
        }
        "from" if words.len() > 1 => {
            let made = own.as_deref().map_or("it".into(), a);
            format!("{} {made} from {}", verb("make"), a(&rest(1).join(" ")))
        }
        "on" if words.len() > 1 => format!("{} {}", verb("handle"), the(rest(1))),
        "main" if words.len() == 1 => format!("{} the program", verb("run")),
        _ if is_one_of(VERBS, first) && words.len() == 1 => match (&given, class) {
            (Some(given), _) => format!("{} {given}", verb(first)),
            (None, Some(_)) => format!("{} {it}", verb(first)),
            (None, None) => verb(first),
        },
        _ if is_one_of(VERBS, first) => {
            let link = rest(1).iter().position(|word| ["or", "and"].contains(&word.as_str()));
            match link.map(|at| at + 1).filter(|at| words.get(at + 1).is_some()) {
                Some(at) if is_one_of(VERBS, &words[at + 1]) => {
                    let (before, after) = (the(&words[1..at]), the(rest(at + 2)));
                    let parts =
                        [verb(first), before, words[at].clone(), verb(&words[at + 1]), after];
                    parts
                        .iter()
                        .filter(|part| !part.is_empty())
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(" ")
                }
                _ => format!("{} {}", verb(first), the(rest(1))),
            }
        }
        _ if returns => format!("{} {}", verb("return"), the(&words)),
        _ => words.join(" "),
    };
    let is_open = words.len() > 1 && words.last().is_some_and(|last| is_one_of(PREPOSITIONS, last));
    let text = match given.filter(|_| is_open) {
        Some(given) => format!("{text} {given}"),
        None => text,
    };
    capital(text.trim())
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

pub(super) fn small(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// What a parameter is, by its name.
pub(super) fn parameter(name: &str) -> String {
    let bare = name.trim_start_matches('*').trim_start_matches("...");
    match name.len() - bare.len() {
        0 => {}
        _ if ["args", "kwargs"].contains(&bare) => {
            return if name.starts_with("**") {
                "further named arguments"
            } else {
                "further arguments"
            }
            .into();
        }
        _ => return the(&words(bare)),
    }
    let words = words(bare);
    let rest = || words[1..].join(" ");
    if words.len() < 2 {
        return the(&words);
    }
    match words[0].as_str() {
        "n" | "number" | "count" | "total" => {
            format!("the number of {}", rest().trim_start_matches("of "))
        }
        "max" | "maximum" => format!("the largest {}", rest()),
        "min" | "minimum" => format!("the smallest {}", rest()),
        first @ ("is" | "has" | "can") => format!("whether it {first} {}", rest()),
        "should" => format!("whether to {}", rest()),
        first @ ("allow" | "enable" | "disable" | "include" | "ignore" | "keep" | "use"
        | "skip") => {
            format!("whether to {first} {}", rest())
        }
        "on" => format!("called on {}", rest()),
        _ => the(&words),
    }
}

/// What a function fails to do: `fails to read the file`.
pub(super) fn failure(name: &str, class: Option<&str>, given: Option<&str>) -> String {
    let words = words(name);
    if !words.first().is_some_and(|first| is_one_of(VERBS, first)) {
        return "it cannot be done".into();
    }
    let done = sentence(name, class, given, false, true);
    format!("it fails to {}", small(&done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_sentences() {
        for (name, class, returns, commands, wanted) in [
            ("read_config", None, true, false, "Reads the configuration"),
            ("parseHTTPHeader", None, true, false, "Parses the HTTP header"),
            ("parse_from_str", None, true, true, "Parse from string"),
            ("is_empty", Some("TokenList"), true, false, "Returns whether the token list is empty"),
            ("get_or_insert_default", None, true, false, "Gets or inserts the default"),
            ("new", Some("Index"), true, false, "Makes an index"),
            ("__init__", Some("Server"), false, true, "Make a server"),
            ("clear", Some("Cache"), false, false, "Clears the cache"),
            ("apply", None, false, false, "Applies"),
            ("to_json", Some("Report"), true, false, "Converts the report to a json"),
            ("total_size", None, true, false, "Returns the total size"),
            ("main", None, false, false, "Runs the program"),
        ] {
            assert_eq!(sentence(name, class, None, returns, commands), wanted, "{name}");
        }
    }

    #[test]
    fn what_a_name_leaves_open_is_the_first_parameter() {
        let of = |name, class| sentence(name, class, Some("item_len"), true, false);
        assert_eq!(of("push", Some("Queue")), "Pushes the item length");
        assert_eq!(of("offset_of", None), "Returns the offset of the item length");
    }

    #[test]
    fn parameters_become_phrases() {
        for (name, wanted) in [
            ("path", "the path"),
            ("max_tokens", "the largest tokens"),
            ("num_rows", "the number of rows"),
            ("numberOfRows", "the number of rows"),
            ("is_open", "whether it is open"),
            ("ignore_case", "whether to ignore case"),
            ("*args", "further arguments"),
            ("**kwargs", "further named arguments"),
            ("...rest", "the rest"),
            ("srcDir", "the source directory"),
            ("MAX", "the max"),
        ] {
            assert_eq!(parameter(name), wanted, "{name}");
        }
    }

    #[test]
    fn any_name_becomes_something_or_nothing() {
        for name in ["", "_", "__", "x", "Ünïcode_größe", "名前", "a1b2", "$el", "🦀"] {
            words(name);
            sentence(name, Some(name), Some(name), true, false);
            parameter(name);
            failure(name, None, Some(name));
        }
    }
}
