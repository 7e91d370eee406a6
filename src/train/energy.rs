//! What a run costs in energy: the processor's own counters where they can be read, else an estimate
//! that is called one.

use std::path::{Path, PathBuf};

/// Watts of one busy core, for the estimate: a server or desktop package under load, shared by its cores.
const WATTS_PER_CORE: f64 = 10.0;

/// The energy counters of the processor packages (Linux powercap).
pub(super) struct EnergyCounter {
    zones: Vec<Zone>,
}

/// One package; microjoules, which start again at zero after `range`.
struct Zone {
    path: PathBuf,
    last: u64,
    range: u64,
}

impl EnergyCounter {
    /// The counters below a folder such as `/sys/class/powercap`; none where they are missing, or open to
    /// the administrator only. Zones within zones are left out: their energy is counted already.
    pub(super) fn open(folder: &Path) -> EnergyCounter {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let zones = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let package = name.starts_with("intel-rapl:") && name.matches(':').count() == 1;
            let path = entry.path().join("energy_uj");
            let range = number(&entry.path().join("max_energy_range_uj")).unwrap_or(u64::MAX);
            package.then_some(())?;
            Some(Zone { last: number(&path)?, path, range })
        });
        EnergyCounter { zones: zones.collect() }
    }

    /// Joules since the last call. To be asked at least every few minutes: a counter that went round
    /// twice looks as if it went round once.
    pub(super) fn joules(&mut self) -> f64 {
        let since = self.zones.iter_mut().map(|zone| {
            let now = number(&zone.path).unwrap_or(zone.last);
            let past = match now >= zone.last {
                true => now - zone.last,
                false => (zone.range - zone.last.min(zone.range)).saturating_add(now),
            };
            zone.last = now;
            past as f64 / 1e6
        });
        since.sum()
    }
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The energy of a run in words: `joules` if they were measured, else from its processor time.
pub(super) fn describe(joules: f64, cpu_seconds: f64) -> String {
    if joules > 0.0 {
        return format!(
            "{:.1} Wh, by the processor's own counters: everything that ran on it",
            joules / 3600.0
        );
    }
    format!(
        "about {:.1} Wh, estimated: {cpu_seconds:.0} s of processor time at {WATTS_PER_CORE:.0} W a core",
        cpu_seconds * WATTS_PER_CORE / 3600.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up_and_may_start_again() {
        let folder = tempfile::tempdir().unwrap();
        let write = |zone: &str, energy: u64| {
            let zone = folder.path().join(zone);
            std::fs::create_dir_all(&zone).unwrap();
            std::fs::write(zone.join("energy_uj"), format!("{energy}\n")).unwrap();
            std::fs::write(zone.join("max_energy_range_uj"), "10000000").unwrap();
        };
        write("intel-rapl:0", 9_000_000);
        write("intel-rapl:1", 0);
        write("intel-rapl:0:0", 0);
        let mut counter = EnergyCounter::open(folder.path());
        write("intel-rapl:0", 1_000_000);
        write("intel-rapl:1", 3_000_000);
        write("intel-rapl:0:0", 500_000);
        assert_eq!(counter.joules(), 5.0);
        assert_eq!(counter.joules(), 0.0);
        assert_eq!(EnergyCounter::open(&folder.path().join("none")).joules(), 0.0);
        assert!(describe(7200.0, 1.0).starts_with("2.0 Wh"));
        assert!(describe(0.0, 3600.0).contains("about 10.0 Wh, estimated"));
    }
}
