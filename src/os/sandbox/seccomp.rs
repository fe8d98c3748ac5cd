//! The seccomp filter: system calls that only an attacker would make fail with EPERM.
//!
//! It is a list of denied calls. A list of allowed calls would be stricter, and an update of the C library, the runtime
//! or the kernel would break the server at an unexpected time; the systemd unit has such a list, which systemd
//! maintains. Denied are: other programs and processes, the memory of other processes, mounts, namespaces, kernel
//! modules, BPF, keys, io_uring, the clock, files opened by handle (which the capability to read would permit, out of
//! any container), changes of files, their owner and mode (of which Landlock knows only some), further listeners,
//! sockets of families other than UNIX, IPv4, IPv6 and netlink, and typing into the terminal that started the server.
//!
//! Limits: the arguments of clone3(2) cannot be filtered, so it fails with ENOSYS, and the C library uses clone(2). The
//! 32-bit calls of a 64-bit kernel end the process.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Calls denied with any arguments.
const DENIED: &[c_long] = &[
    // Programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    // The kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_personality,
    libc::SYS_vhangup,
    // Files.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_truncate,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    // Sockets.
    libc::SYS_listen,
];

// From asm-generic/ioctls.h and tiocl.h, which x86-64 and arm64 share.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;

/// The number of fchmodat2(2), the same on every architecture.
const FCHMODAT2: c_long = 452;

/// Calls denied with any arguments that only this architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_ON_THIS_ARCH: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_creat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(target_arch = "aarch64")]
const DENIED_ON_THIS_ARCH: &[c_long] = &[
    // renameat and kexec_file_load, which libc defines for some C libraries only (asm-generic/unistd.h).
    38, 294,
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const DENIED_ON_THIS_ARCH: &[c_long] = &[];

/// Calls of these that a process needs that writes files.
const FILE_CHANGES: &[c_long] = &[
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
];
#[cfg(target_arch = "x86_64")]
const FILE_CHANGES_ON_THIS_ARCH: &[c_long] = &[
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_creat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_chmod,
];
#[cfg(target_arch = "aarch64")]
const FILE_CHANGES_ON_THIS_ARCH: &[c_long] = &[38];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FILE_CHANGES_ON_THIS_ARCH: &[c_long] = &[];

/// Returns the x32 numbers of a call, by which an x86-64 kernel may know it, too.
#[cfg(target_arch = "x86_64")]
fn x32_numbers(number: c_long) -> impl Iterator<Item = c_long> {
    const X32: c_long = 0x4000_0000;
    // Calls with a number of their own there (arch/x86/entry/syscalls/syscall_64.tbl).
    let own = match number {
        libc::SYS_execve => Some(520),
        libc::SYS_ptrace => Some(521),
        libc::SYS_kexec_load => Some(528),
        libc::SYS_ioctl => Some(514),
        libc::SYS_process_vm_readv => Some(539),
        libc::SYS_process_vm_writev => Some(540),
        libc::SYS_execveat => Some(545),
        _ => None,
    };
    [Some(number), own]
        .into_iter()
        .flatten()
        .map(|number| number | X32)
}
#[cfg(not(target_arch = "x86_64"))]
fn x32_numbers(_: c_long) -> impl Iterator<Item = c_long> {
    std::iter::empty()
}

/// Installs the filter for the calling thread and those that it starts.
pub fn install() -> io::Result<()> {
    install_except(&[])
}

/// Installs the filter for a process that writes files, which the file permissions and Landlock restrict.
pub fn install_for_writer() -> io::Result<()> {
    install_except(&[FILE_CHANGES, FILE_CHANGES_ON_THIS_ARCH].concat())
}

fn install_except(allowed: &[c_long]) -> io::Result<()> {
    for program in programs(allowed).map_err(io::Error::other)? {
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn programs(allowed: &[c_long]) -> Result<[BpfProgram; 2], BackendError> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut deny = |number: c_long, rules: &[SeccompRule]| {
        for number in x32_numbers(number).chain([number]) {
            denied.insert(number, rules.to_vec());
        }
    };
    let numbers = DENIED.iter().chain(DENIED_ON_THIS_ARCH);
    for number in numbers.filter(|number| !allowed.contains(number)) {
        deny(*number, &[]);
    }
    deny(libc::SYS_clone, &[process_clone()?]);
    deny(libc::SYS_socket, &[other_family()?]);
    deny(
        libc::SYS_ioctl,
        &[ioctl_request(TIOCSTI)?, ioctl_request(TIOCLINUX)?],
    );
    let mut missing = BTreeMap::new();
    for number in x32_numbers(libc::SYS_clone3).chain([libc::SYS_clone3]) {
        missing.insert(number, Vec::new());
    }
    Ok([program(denied, libc::EPERM)?, program(missing, libc::ENOSYS)?])
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, BackendError> {
    let action = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::try_from(ARCH)?)?.try_into()
}

/// Matches clone(2) of a process.
fn process_clone() -> Result<SeccompRule, BackendError> {
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(thread), 0)?])
}

/// Matches socket(2) of a family that the server does not use.
fn other_family() -> Result<SeccompRule, BackendError> {
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let others = families.map(|family| condition(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())));
    SeccompRule::new(others.into_iter().collect::<Result<_, _>>()?)
}

/// Matches ioctl(2) with this request.
fn ioctl_request(request: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?])
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}
