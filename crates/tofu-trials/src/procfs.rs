//! What Linux tells of a process.

use std::fs;

use crate::Fallible;

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory.
    pub rss_kib: u64,
    /// The most that it ever was.
    pub rss_max_kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Processor time used so far, in hundredths of a second.
    pub cpu_ticks: u64,
}

/// Reads what the process with this id holds.
///
/// # Errors
/// There is no such process, or this is not Linux.
pub fn usage(id: u32) -> Fallible<Usage> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse().ok())
    };
    let rss_kib = number("VmRSS:").ok_or("no VmRSS: is it a zombie?")?;
    let rss_max_kib = number("VmHWM:").ok_or("no VmHWM")?;
    let threads = number("Threads:").ok_or("no Threads")?;
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let times = behind_name.split_whitespace().skip(11).take(2);
    Ok(Usage {
        rss_kib,
        rss_max_kib,
        descriptors: fs::read_dir(format!("/proc/{id}/fd"))?.count(),
        threads: usize::try_from(threads)?,
        cpu_ticks: times.filter_map(|time| time.parse::<u64>().ok()).sum(),
    })
}
