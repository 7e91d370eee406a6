//! What figures were measured on: the machine in one line.

/// Processor, cores, the vector instructions that matter here, system.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = information.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':'])).trim();
    let name = if name.is_empty() { std::env::consts::ARCH } else { name };
    let flags = flags().join(" ");
    let flags = if flags.is_empty() { flags } else { format!(", {flags}") };
    format!("{name}, {cores} cores{flags}, {}", std::env::consts::OS)
}

#[cfg(target_arch = "x86_64")]
fn flags() -> Vec<&'static str> {
    let found = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    found.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn flags() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_is_one_line_with_its_cores() {
        let line = super::machine();
        assert!(line.contains(" cores") && !line.contains('\n'), "{line}");
    }
}
