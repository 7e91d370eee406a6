//! The remote model of the settings or the command line: whether it may be asked, and what the status tells of it.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::status::percentiles;
use crate::config::Remote;
use crate::remote::RemoteModel;
use crate::store::Store;

/// The client for the server that the settings name; the one in use if it is for the same.
///
/// # Errors
/// Why it is not asked, in a sentence for the user. A server elsewhere must have been allowed by the user: settings may
/// come from a repository, and code must not leave the machine because a repository says so.
pub(super) fn client(
    wanted: &Remote,
    in_use: Option<RemoteModel>,
    store: Option<&Store>,
) -> Result<RemoteModel, String> {
    let origin = wanted.origin();
    if !wanted.is_local() && !store.is_some_and(|store| store.allows_remote(origin)) {
        return Err(format!(
            "nestling.remote: code would be sent to {origin}. If you want that, run `nestling trust --remote {origin}` \
             and start the editor anew."
        ));
    }
    match in_use.filter(|client| client.remote() == wanted) {
        Some(client) => Ok(client),
        None => RemoteModel::new(wanted.clone(), None)
            .map_err(|reason| format!("nestling.remote: {reason}; no remote model is asked.")),
    }
}

/// The part of the status about it; null if there is none. `refusal` is why the one in the settings is not asked.
pub(super) fn status(client: Option<&RemoteModel>, refusal: Option<&str>) -> Value {
    let Some(client) = client else {
        return refusal
            .map_or(Value::Null, |reason| json!({ "state": "refused", "reason": reason }));
    };
    let health = client.health();
    let state = match (&health.failure, health.answers) {
        (Some(_), _) => "failing",
        (None, 0) => "unused",
        (None, _) => "ready",
    };
    json!({
        "state": state,
        "url": client.remote().origin(),
        "protocol": client.remote().protocol,
        "reason": health.failure.as_ref().map(|(reason, _)| reason),
        "pauseMs": health.failure.as_ref().map(|(_, pause)| pause.as_millis() as u64),
        "answers": health.answers,
        "answerMs": percentiles(&VecDeque::from(health.times)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_elsewhere_before_the_user_allows_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let may = |url: &str, store| client(&Remote::at(url).unwrap(), None, store).map(|_| ());
        assert_eq!(may("http://127.0.0.1:8080", Some(&store)), Ok(()));
        let refusal = may("https://code.example:99/v1", Some(&store)).unwrap_err();
        assert!(refusal.contains("nestling trust --remote https://code.example:99`"), "{refusal}");
        store.allow_remote("https://code.example:99", true).unwrap();
        assert_eq!(may("https://code.example:99/v1", Some(&store)), Ok(()));
        assert!(may("https://code.example", Some(&store)).is_err(), "another port");
        assert!(may("https://code.example:99", None).is_err(), "no data folder");
        store.allow_remote("https://code.example:99", false).unwrap();
        assert!(may("https://code.example:99", Some(&store)).is_err());
    }
}
