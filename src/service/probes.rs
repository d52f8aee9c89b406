//! What the doctor tries: the disk's speed, other programs.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// What a disk is asked to write.
const PROBE_BYTES: usize = 8 << 20;

/// Megabytes per second of a large synced write, and milliseconds of a small one.
pub fn write_speed(folder: &Path) -> std::io::Result<(f64, f64)> {
    let path = folder.join(".metwatch-doctor");
    let bytes = vec![0x5A; PROBE_BYTES];
    let timed = |bytes: &[u8]| {
        let began = Instant::now();
        let mut file = std::fs::File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok::<f64, std::io::Error>(began.elapsed().as_secs_f64().max(1e-6))
    };
    let both = timed(&bytes).and_then(|large| Ok((PROBE_BYTES as f64 / 1e6 / large, timed(&bytes[..512])? * 1000.0)));
    let removed = std::fs::remove_file(&path);
    let both = both?;
    removed?;
    Ok(both)
}

/// What a program prints; `None` where it is not there or fails.
pub fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `glibc 2.36` as numbers.
pub fn glibc_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(glibc_version("glibc 2.36"), Some((2, 36)));
        assert!(glibc_version("glibc 2.9").unwrap() < (2, 35), "by number, not by text");
        assert_eq!(glibc_version("musl"), None);
    }

    #[test]
    fn a_disk_is_tried_and_left_as_it_was() {
        let folder = std::env::temp_dir().join(format!("metwatch-probe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (mb_per_s, sync_ms) = write_speed(&folder).unwrap();
        assert!(0.0 < mb_per_s && 0.0 < sync_ms);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(write_speed(&folder).is_err());
        assert_eq!(
            (run("true", &[]).as_deref(), run("false", &[]), run("no-such-program", &[])),
            (Some(""), None, None)
        );
    }
}
