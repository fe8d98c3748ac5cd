//! The machine that a measurement was made on, from /proc.

use std::fmt;
use std::fs;

use serde::Serialize;

/// The machine of the generator.
#[derive(Serialize)]
pub(crate) struct Machine {
    /// The model of its processors, or their architecture where the kernel reports no model.
    cpu: String,
    /// The number of its logical processors.
    cpus: usize,
    /// The kernel and its release.
    kernel: String,
}

impl Machine {
    /// Reads the description of this machine.
    pub(crate) fn read() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            cpu: cpu_model(&cpuinfo).unwrap_or(std::env::consts::ARCH).to_owned(),
            cpus: count_cpus(&cpuinfo),
            kernel: format!("Linux {}", release.trim()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.cpus == 1 { "CPU" } else { "CPUs" };
        write!(f, "{}, {} {noun}, {}", self.cpu, self.cpus, self.kernel)
    }
}

/// Returns the model of the first processor. Kernels for ARM report none.
fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let model = fields.find(|(name, _)| ["model name", "cpu model"].contains(&name.trim()));
    model
        .map(|(_, model)| model.trim())
        .filter(|model| !model.is_empty())
}

/// Returns the number of processors, or that which this process can use where /proc/cpuinfo lists none.
fn count_cpus(cpuinfo: &str) -> usize {
    let listed = cpuinfo.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        name.trim_end() == "processor" || name.starts_with("processor ")
    });
    match listed.count() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        listed => listed,
    }
}

#[cfg(test)]
mod tests {
    use super::{count_cpus, cpu_model};

    #[test]
    fn processors_are_counted_and_named_on_every_architecture() {
        for (cpuinfo, model, cpus) in [
            (
                "processor\t: 0\nmodel\t\t: 97\nmodel name\t: AMD EPYC 9R14\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 9R14\n",
                Some("AMD EPYC 9R14"),
                2,
            ),
            ("processor\t: 0\nBogoMIPS\t: 243.75\nCPU part\t: 0xd40\n", None, 1),
            (
                "vendor_id : IBM/S390\nprocessor 0: version = FF\nprocessor 1: version = FF\n",
                None,
                2,
            ),
        ] {
            assert_eq!((cpu_model(cpuinfo), count_cpus(cpuinfo)), (model, cpus));
        }
        assert!(count_cpus("") >= 1);
    }
}
