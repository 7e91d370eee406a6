//! The settings a user may change from the editor, read from JSON and validated once.
//! A wrong value never stops the server: it is reported and the default stays.

mod remote;
mod schema;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

pub use remote::{KEY_VARIABLE, PROTOCOLS, Remote};
pub use schema::{SETTINGS, Setting, schema};

/// The key under which an editor keeps our settings.
pub const SECTION: &str = "nestling";

/// The most suggestions that one request may ask for.
pub const MAX_ITEMS: usize = 10;

const MAX_DEBOUNCE_MS: u64 = 5_000;

/// How long an automatic request waits for the next key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Debounce {
    /// Follows the user's typing rhythm and the speed of the model.
    #[default]
    Auto,
    /// Always this long.
    Fixed(Duration),
}

/// All settings, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether anything is suggested at all. Off also means that no model is loaded.
    pub enable: bool,
    /// Switches single languages on or off, by name; a language that is not here is on.
    pub languages: BTreeMap<String, bool>,
    /// How long an automatic request waits for the next key.
    pub debounce: Debounce,
    /// How many suggestions an invoked request gets at most, 1 to [`MAX_ITEMS`].
    pub max_items: usize,
    /// Of all that is shown while typing, so many percent should be right, 10 to 95.
    pub precision_percent: u8,
    /// Whether what the repository says is mixed with the model.
    pub memory: bool,
    /// Whether lines of other files are put into the prompt.
    pub retrieval: bool,
    /// Whether broken syntax is shown as hints, in languages for which no other server reports anything.
    pub syntax_hints: bool,
    /// Whether code that could be faster is shown as hints.
    pub optimize_hints: bool,
    /// A command that checks the project, instead of the checkers that are known; run only in a workspace that is trusted.
    pub check: String,
    /// A command that runs the tests of the project; run only in a workspace that is trusted.
    pub test: String,
    /// Whether the editor trusts the workspace; if not, the user's own trust does not count.
    pub trusted: bool,
    /// Whether it is counted on this machine what was shown, accepted and kept.
    pub statistics: bool,
    /// A model on another machine that is asked as well, if the user has allowed its address.
    pub remote: Option<Remote>,
    /// Whether the client wants a `nestling/statusChanged` notification at each change.
    pub status_notifications: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            enable: true,
            languages: BTreeMap::new(),
            debounce: Debounce::Auto,
            max_items: 3,
            precision_percent: 50,
            memory: true,
            retrieval: true,
            syntax_hints: true,
            optimize_hints: false,
            check: String::new(),
            test: String::new(),
            trusted: true,
            statistics: true,
            remote: None,
            status_notifications: false,
        }
    }
}

/// A setting that was not understood, in a sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// Reads settings over the defaults. `value` is the object of settings, or an object that holds
    /// it under [`SECTION`]; null means none.
    pub fn from_json(value: &Value) -> (Config, Vec<Problem>) {
        let mut config = Config::default();
        let mut problems = Vec::new();
        match value.get(SECTION).unwrap_or(value) {
            Value::Null => {}
            Value::Object(settings) => config.read(settings, &mut problems),
            other => problems.push(wrong(SECTION, "an object", other)),
        }
        (config, problems)
    }

    /// Whether suggestions are wanted in a language; `None` is a language that is not in the table.
    pub fn is_enabled_for(&self, language: Option<&str>) -> bool {
        let switch = language.and_then(|name| self.languages.get(name));
        self.enable && switch.copied().unwrap_or(true)
    }

    fn read(&mut self, settings: &Map<String, Value>, problems: &mut Vec<Problem>) {
        for (key, value) in settings {
            let read = match key.as_str() {
                "enable" => read_bool(value, &mut self.enable),
                "languages" => self.read_languages(value, problems),
                "debounce" => self.read_debounce(value),
                "maxItems" => self.read_max_items(value),
                "precision" => self.read_precision(value),
                "memory" => read_bool(value, &mut self.memory),
                "retrieval" => read_bool(value, &mut self.retrieval),
                "syntaxHints" => read_bool(value, &mut self.syntax_hints),
                "optimizeHints" => read_bool(value, &mut self.optimize_hints),
                "check" => read_text(value, &mut self.check),
                "test" => read_text(value, &mut self.test),
                "trusted" => read_bool(value, &mut self.trusted),
                "statistics" => read_bool(value, &mut self.statistics),
                "remote" => {
                    // It tells what is wrong itself, without the value, which may be a key.
                    let told = match value.as_object() {
                        Some(settings) => Remote::from_json(settings),
                        None => Err("must be an object".into()),
                    };
                    match told {
                        Ok(remote) => self.remote = remote,
                        Err(reason) => problems.push(Problem(format!(
                            "{SECTION}.remote: {reason}; no remote model is asked."
                        ))),
                    }
                    Ok(())
                }
                "statusNotifications" => read_bool(value, &mut self.status_notifications),
                _ => {
                    let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
                    let known = known.join(", ");
                    problems.push(Problem(format!(
                        "{SECTION}.{key} is not a setting and is ignored; the settings are {known}."
                    )));
                    continue;
                }
            };
            if let Err(expected) = read {
                problems.push(wrong(&format!("{SECTION}.{key}"), &expected, value));
            }
        }
    }

    fn read_languages(&mut self, value: &Value, problems: &mut Vec<Problem>) -> Result<(), String> {
        let languages = value.as_object().ok_or("an object of language names and booleans")?;
        for (name, value) in languages {
            match value.as_bool() {
                Some(on) => _ = self.languages.insert(name.clone(), on),
                None => {
                    let key = format!("{SECTION}.languages.{name}");
                    problems.push(wrong(&key, "true or false", value));
                }
            }
        }
        Ok(())
    }

    fn read_debounce(&mut self, value: &Value) -> Result<(), String> {
        self.debounce = match (value.as_str(), value.as_u64()) {
            (Some("auto"), _) => Debounce::Auto,
            (_, Some(ms)) if ms <= MAX_DEBOUNCE_MS => Debounce::Fixed(Duration::from_millis(ms)),
            _ => return Err(format!("\"auto\" or milliseconds from 0 to {MAX_DEBOUNCE_MS}")),
        };
        Ok(())
    }

    /// The wanted share of right ones among what is shown, 0 to 1.
    pub fn precision(&self) -> f32 {
        f32::from(self.precision_percent) / 100.0
    }

    fn read_precision(&mut self, value: &Value) -> Result<(), String> {
        let percent = value.as_u64().and_then(|percent| u8::try_from(percent).ok());
        let valid = percent.filter(|percent| (10..=95).contains(percent));
        self.precision_percent = valid.ok_or("percent from 10 to 95")?;
        Ok(())
    }

    fn read_max_items(&mut self, value: &Value) -> Result<(), String> {
        let items = value.as_u64().and_then(|items| usize::try_from(items).ok());
        let valid = items.filter(|items| (1..=MAX_ITEMS).contains(items));
        self.max_items = valid.ok_or(format!("a number from 1 to {MAX_ITEMS}"))?;
        Ok(())
    }
}

fn read_bool(value: &Value, setting: &mut bool) -> Result<(), String> {
    *setting = value.as_bool().ok_or("true or false")?;
    Ok(())
}

fn read_text(value: &Value, setting: &mut String) -> Result<(), String> {
    *setting = value.as_str().ok_or("a command line")?.trim().to_string();
    Ok(())
}

fn wrong(key: &str, expected: &str, value: &Value) -> Problem {
    Problem(format!("{key} must be {expected}, not {value}; the default is used."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check_problem(settings: Value, expected: &str) {
        let (config, problems) = Config::from_json(&settings);
        assert_eq!(config, Config::default());
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains(expected), "{}", problems[0]);
    }

    #[test]
    fn settings_are_read_with_and_without_their_section() {
        let settings = json!({
            "enable": false, "languages": {"python": false}, "debounce": 40, "maxItems": 5
        });
        let (config, problems) = Config::from_json(&settings);
        assert_eq!(problems, []);
        assert_eq!(config.debounce, Debounce::Fixed(Duration::from_millis(40)));
        assert_eq!((config.enable, config.max_items), (false, 5));
        let (other, _) = Config::from_json(&json!({"memory": false}));
        assert_eq!((other.memory, other.retrieval), (false, true));
        assert_eq!(Config::from_json(&json!({"nestling": settings})).0, config);
    }

    #[test]
    fn a_language_can_be_switched_off_alone() {
        let (config, _) = Config::from_json(&json!({"languages": {"python": false}}));
        assert!(!config.is_enabled_for(Some("python")));
        assert!(config.is_enabled_for(Some("rust")));
        assert!(config.is_enabled_for(None));
    }

    #[test]
    fn nothing_means_the_defaults() {
        for nothing in [json!(null), json!({}), json!({"nestling": null})] {
            assert_eq!(Config::from_json(&nothing), (Config::default(), Vec::new()), "{nothing}");
        }
    }

    #[test]
    fn what_is_not_understood_is_reported_and_the_default_stays() {
        check_problem(json!({"enabled": true}), "nestling.enabled is not a setting");
        check_problem(json!({"enable": "yes"}), "nestling.enable must be true or false");
        check_problem(json!({"retrieval": 1}), "nestling.retrieval must be true or false");
        check_problem(json!({"maxItems": 0}), "nestling.maxItems must be a number from 1 to 10");
        check_problem(json!({"maxItems": -1}), "must be a number");
        check_problem(
            json!({"precision": 0.5}),
            "nestling.precision must be percent from 10 to 95",
        );
        check_problem(json!({"debounce": "fast"}), "\"auto\" or milliseconds");
        check_problem(json!({"languages": {"go": 1}}), "nestling.languages.go must be true");
        check_problem(json!({"remote": {"url": "host"}}), "nestling.remote: url must begin with");
        check_problem(json!({"remote": "sk-1"}), "nestling.remote: must be an object; no remote");
        check_problem(json!([1]), "nestling must be an object");
    }
}
