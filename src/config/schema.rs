//! The settings as data: what editors list, document and check is made of this table.

use serde_json::{Map, Value, json};

use super::{KEY_VARIABLE, MAX_DEBOUNCE_MS, MAX_ITEMS, PROTOCOLS, SECTION};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name below [`SECTION`].
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Its type, limits and default, as JSON Schema says them.
    schema: fn() -> Value,
}

/// All of them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "enable",
        about: "Whether anything is suggested; off, no model is loaded.",
        schema: || json!({ "type": "boolean", "default": true }),
    },
    Setting {
        name: "languages",
        about: "Switches single languages, as in {\"markdown\": false}.",
        schema: || json!({ "type": "object", "additionalProperties": { "type": "boolean" }, "default": {} }),
    },
    Setting {
        name: "debounce",
        about: "The wait after a keystroke: \"auto\" follows your rhythm and the speed of the answers, or milliseconds.",
        schema: || {
            json!({
                "type": ["string", "integer"],
                "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 0, "maximum": MAX_DEBOUNCE_MS }],
                "default": "auto",
            })
        },
    },
    Setting {
        name: "maxItems",
        about: "How many suggestions an explicit request gets at most.",
        schema: || json!({ "type": "integer", "minimum": 1, "maximum": MAX_ITEMS, "default": 3 }),
    },
    Setting {
        name: "precision",
        about: "Of what is shown while typing, so many percent should be right.",
        schema: || json!({ "type": "integer", "minimum": 10, "maximum": 95, "default": 50 }),
    },
    Setting {
        name: "memory",
        about: "Mix in what the repository says.",
        schema: || json!({ "type": "boolean", "default": true }),
    },
    Setting {
        name: "retrieval",
        about: "Put lines of other files into the prompt.",
        schema: || json!({ "type": "boolean", "default": true }),
    },
    Setting {
        name: "syntaxHints",
        about: "Show broken syntax as hints, in languages for which no other server reports anything.",
        schema: || json!({ "type": "boolean", "default": true }),
    },
    Setting {
        name: "optimizeHints",
        about: "Show what could be faster as hints.",
        schema: || json!({ "type": "boolean", "default": false }),
    },
    Setting {
        name: "check",
        about: "A command that checks the project, instead of the known checkers; run on a copy, and only after nestling trust.",
        schema: || json!({ "type": "string", "default": "" }),
    },
    Setting {
        name: "test",
        about: "A command that tests the project: what was repaired or rewritten is tested with it; only after nestling trust.",
        schema: || json!({ "type": "string", "default": "" }),
    },
    Setting {
        name: "trusted",
        about: "Whether the editor trusts the workspace; if not, nestling trust does not count either.",
        schema: || json!({ "type": "boolean", "default": true }),
    },
    Setting {
        name: "statistics",
        about: "Count on this machine what was shown, accepted and kept; nestling doctor --stats shows it.",
        schema: || json!({ "type": "boolean", "default": true }),
    },
    Setting {
        name: "remote",
        about: "A server that is asked as well, by its url, protocol, model and markers; its key comes from the environment variable that keyVariable names, or from the keyring of the system.",
        schema: || {
            json!({
                "type": "object",
                // Where code is sent is for the user to say, not for a workspace.
                "scope": "machine",
                "additionalProperties": false,
                "properties": {
                    "url": { "type": "string" },
                    "protocol": { "type": "string", "enum": PROTOCOLS },
                    "model": { "type": "string" },
                    "keyVariable": { "type": "string", "default": KEY_VARIABLE },
                    "markers": { "type": "string" },
                },
                "default": {},
            })
        },
    },
    Setting {
        name: "statusNotifications",
        about: "Send nestling/statusChanged at each change of the status.",
        schema: || json!({ "type": "boolean", "default": false }),
    },
];

impl Setting {
    /// Its JSON Schema, with its description.
    pub fn schema(&self) -> Value {
        let mut schema = (self.schema)();
        schema["description"] = self.about.into();
        schema
    }
}

/// A JSON Schema of an editor's settings: the keys are as `nestling.maxItems`.
pub fn schema() -> Value {
    let keyed = |setting: &Setting| (format!("{SECTION}.{}", setting.name), setting.schema());
    let properties: Map<String, Value> = SETTINGS.iter().map(keyed).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_setting_is_read_and_its_default_is_the_default() {
        let defaults = SETTINGS.iter().map(|s| (s.name.to_string(), s.schema()["default"].clone()));
        let (config, problems) = Config::from_json(&Value::Object(defaults.collect()));
        assert_eq!((config, problems), (Config::default(), Vec::new()));
    }

    #[test]
    fn the_readme_lists_every_setting_with_its_default() {
        let readme = include_str!("../../README.md");
        for setting in SETTINGS {
            let row = readme.lines().find(|l| l.starts_with(&format!("| `{}` |", setting.name)));
            let row = row.unwrap_or_else(|| panic!("README.md has no row for {}", setting.name));
            let default = setting.schema()["default"].to_string();
            assert!(row.contains(&format!("`{default}`")) || default == "\"\"", "{row}");
        }
    }
}
