//! Keys of servers in the keyring of the system, each under the address of its server. It is reached by the programs
//! that such systems come with, one row each: a key goes in by their input and comes out by their output, never in an
//! argument, which others could read.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::check::{Ended, Finished, Program};

/// How long a keyring has to answer: its user may have to unlock it first.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a program is told. `{address}` is the server's, `{key}` its key, `{hex}` that in hexadecimal digits.
struct Call {
    words: &'static [&'static str],
    input: &'static str,
}

/// The keyring of a kind of system.
struct Keyring {
    /// As `std::env::consts::OS` has it; empty for all others.
    system: &'static str,
    /// Where its program comes from, if it is not part of the system.
    from: &'static str,
    store: Call,
    look_up: Call,
    forget: Call,
}

/// The words of a command about `$vault`, the vault of Windows.
macro_rules! vault {
    ($command:literal) => {
        &[
            "powershell",
            "-NoProfile",
            "-Command",
            concat!(
                "$null = [Windows.Security.Credentials.PasswordVault, Windows.Security.Credentials, \
                 ContentType=WindowsRuntime]; \
                 $vault = New-Object Windows.Security.Credentials.PasswordVault; ",
                $command
            ),
        ]
    };
}

const KEYRINGS: [Keyring; 3] = [
    Keyring {
        system: "macos",
        from: "the system",
        store: Call {
            words: &["security", "-i"],
            input: "add-generic-password -U -s nestling -a {address} -X {hex}\n",
        },
        look_up: Call {
            words: &[
                "security",
                "find-generic-password",
                "-s",
                "nestling",
                "-a",
                "{address}",
                "-w",
            ],
            input: "",
        },
        forget: Call {
            words: &["security", "delete-generic-password", "-s", "nestling", "-a", "{address}"],
            input: "",
        },
    },
    Keyring {
        system: "windows",
        from: "the system",
        store: Call {
            words: vault!(
                "$key = [Console]::In.ReadLine(); \
                 $new = New-Object Windows.Security.Credentials.PasswordCredential('nestling', '{address}', $key); \
                 $vault.Add($new)"
            ),
            input: "{key}\n",
        },
        look_up: Call {
            words: vault!(
                "$found = $vault.Retrieve('nestling', '{address}'); $found.RetrievePassword(); $found.Password"
            ),
            input: "",
        },
        forget: Call {
            words: vault!("$vault.Remove($vault.Retrieve('nestling', '{address}'))"),
            input: "",
        },
    },
    // The Secret Service, which GNOME, KDE and others have.
    Keyring {
        system: "",
        from: "the package libsecret-tools or libsecret",
        store: Call {
            words: &[
                "secret-tool",
                "store",
                "--label=nestling: {address}",
                "service",
                "nestling",
                "address",
                "{address}",
            ],
            input: "{key}",
        },
        look_up: Call {
            words: &["secret-tool", "lookup", "service", "nestling", "address", "{address}"],
            input: "",
        },
        forget: Call {
            words: &["secret-tool", "clear", "service", "nestling", "address", "{address}"],
            input: "",
        },
    },
];

/// That of this system.
fn here() -> &'static Keyring {
    let fits = |row: &&Keyring| row.system == std::env::consts::OS || row.system.is_empty();
    KEYRINGS.iter().find(fits).expect("the last row is for all others")
}

/// Why a keyring did not do what it should.
enum Trouble {
    /// Its program is not there.
    NoProgram,
    /// It did not answer in time, as one does that waits to be unlocked.
    Silent,
    /// It refused, with what it said.
    Refused(String),
}

/// Has one of the programs do something; returns what it printed.
fn run(call: &Call, address: &str, key: &str) -> Result<String, Trouble> {
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let filled = |text: &str| text.replace("{address}", address);
    let input = filled(call.input).replace("{hex}", &hex).replace("{key}", key);
    let program = Program::Direct(call.words.iter().map(|word| filled(word)).collect());
    match program.run_with_input(Path::new("."), &[], &input, PATIENCE, &|| true) {
        Ok(Finished { end: Ended::Itself(true), stdout, .. }) => Ok(stdout.trim().to_string()),
        Ok(Finished { end: Ended::OutOfTime, .. }) => Err(Trouble::Silent),
        Ok(finished) => {
            let said = finished.last_line();
            Err(Trouble::Refused(if key.is_empty() {
                said.into()
            } else {
                said.replace(key, "[key]")
            }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Trouble::NoProgram),
        Err(error) => Err(Trouble::Refused(error.to_string())),
    }
}

/// The same as a sentence with the way out.
fn told(trouble: Trouble, variable: &str) -> String {
    let Keyring { from, look_up, .. } = here();
    let program = look_up.words[0];
    let what = match trouble {
        Trouble::NoProgram => {
            format!(
                "the keyring of this system is reached by {program}, which is not here: install {from}"
            )
        }
        Trouble::Silent => "the keyring of this system does not answer: unlock it".into(),
        Trouble::Refused(said) => format!("the keyring of this system refuses ({program}: {said})"),
    };
    format!("{what}; or put the key into the environment variable {variable} instead")
}

/// Whether a text can be a key.
pub(super) fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}

/// The key for a server, if the keyring has one; `None` as well where there is no keyring.
///
/// # Errors
/// It does not answer in time, or holds something that is no key, in a sentence with the way out.
pub(super) fn key(address: &str, variable: &str) -> Result<Option<String>, String> {
    match run(&here().look_up, address, "") {
        Ok(key) if is_key(&key) => Ok(Some(key)),
        Ok(none) if none.is_empty() => Ok(None),
        Ok(_) => Err(format!(
            "what the keyring holds for it is no key: run `nestling remote login {address}` again"
        )),
        Err(Trouble::NoProgram | Trouble::Refused(_)) => Ok(None),
        Err(trouble) => Err(told(trouble, variable)),
    }
}

/// Puts the key for a server (scheme, host and port) into the keyring, and sees that it is there.
///
/// # Errors
/// What is no key, or a keyring that does not take it, in a sentence with the way out and without the key.
pub fn log_in(address: &str, key: &str, variable: &str) -> Result<(), String> {
    if !is_key(key) {
        return Err("that is no key: it is empty, or has spaces or other characters inside".into());
    }
    let at = |trouble| told(trouble, variable);
    run(&here().store, address, key).map_err(at)?;
    match run(&here().look_up, address, "").map_err(at)? == key {
        true => Ok(()),
        false => Err(at(Trouble::Refused("it did not keep the key".into()))),
    }
}

/// Takes the key for a server out of the keyring; false if there was none.
///
/// # Errors
/// There is no keyring, or it does not answer, in a sentence with the way out.
pub fn log_out(address: &str, variable: &str) -> Result<bool, String> {
    let was_there = match run(&here().look_up, address, "") {
        Ok(key) => !key.is_empty(),
        Err(Trouble::Refused(_)) => false,
        Err(trouble) => return Err(told(trouble, variable)),
    };
    if was_there {
        run(&here().forget, address, "").map_err(|t| told(t, variable))?;
    }
    Ok(was_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_puts_a_key_into_an_argument() {
        for row in &KEYRINGS {
            for call in [&row.store, &row.look_up, &row.forget] {
                let words = call.words.concat() + call.input;
                assert!(!call.words.concat().contains("{key}") && words.contains("{address}"));
                assert!(!call.words.concat().contains("{hex}"));
            }
            assert!(["{key}", "{hex}"].iter().any(|name| row.store.input.contains(name)));
        }
    }
}
