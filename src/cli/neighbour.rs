//! Being a good neighbour on the user's machine: low priority, and no training on battery.

use std::path::Path;

/// From now on everything else on the machine goes first.
pub(super) fn lower_priority() {
    #[cfg(unix)]
    // SAFETY: takes numbers only; a refusal changes nothing.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
    }
}

/// Whether the machine runs on battery, as Linux tells below `supplies`; false where nothing is told.
pub(super) fn on_battery(supplies: &Path) -> bool {
    let entries = std::fs::read_dir(supplies).into_iter().flatten().flatten();
    let read = |folder: &Path, name: &str| {
        std::fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_string()
    };
    let (mut plugged, mut discharging) = (false, false);
    for folder in entries.map(|entry| entry.path()) {
        match read(&folder, "type").as_str() {
            "Mains" | "USB" => plugged |= read(&folder, "online") == "1",
            "Battery" if read(&folder, "scope") != "Device" => {
                discharging |= read(&folder, "status") == "Discharging";
            }
            _ => {}
        }
    }
    discharging && !plugged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_on_battery_when_that_empties_and_nothing_is_plugged_in() {
        let folder = tempfile::tempdir().unwrap();
        let supply = |name: &str, files: &[(&str, &str)]| {
            let folder = folder.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(f, text)| std::fs::write(folder.join(f), text).unwrap());
        };
        assert!(!on_battery(folder.path()), "a desktop tells nothing");
        supply("hid", &[("type", "Battery\n"), ("scope", "Device\n"), ("status", "Discharging\n")]);
        assert!(!on_battery(folder.path()), "a mouse has a battery, too");
        supply("BAT0", &[("type", "Battery\n"), ("status", "Discharging\n")]);
        supply("AC", &[("type", "Mains\n"), ("online", "0\n")]);
        assert!(on_battery(folder.path()));
        supply("AC", &[("online", "1\n")]);
        assert!(!on_battery(folder.path()));
        assert!(!on_battery(Path::new("/nowhere")));
    }
}
