//! What a process gives up before it runs a stranger's script. It cannot be taken back.

use std::{collections::BTreeMap, fmt::Display};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior, set_parent_process_death_signal, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// Addresses the whole process may use, in bytes: the engine's own bound, and room for this program.
const ADDRESS_SPACE: u64 = 1024 * 1024 * 1024;

/// All a running engine asks of the kernel: memory, time, and its output. Everything else is refused: there is no file, no socket and no
/// process to be had.
const PERMITTED: [i64; 22] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Locks the process up. `cpu`: seconds of the processor, after which it is killed.
///
/// # Errors
/// What this kernel does not offer; the process may be locked up in part.
pub(super) fn lock(cpu: u64) -> Result<(), String> {
    let what = |what: &'static str| move |error: &dyn Display| format!("{what}: {error}");
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| what("a signal at the parent's end")(&error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| what("no dumps")(&error))?;
    for (resource, most) in
        [(Resource::As, ADDRESS_SPACE), (Resource::Cpu, cpu), (Resource::Core, 0), (Resource::Fsize, 0), (Resource::Nproc, 0)]
    {
        bound(resource, most).map_err(|error| what("limits")(&error))?;
    }
    landlock().map_err(|error| what("Landlock")(&error))?;
    // Behind the last file that has to be opened.
    bound(Resource::Nofile, 0).map_err(|error| what("limits")(&error))?;
    seccomp().map_err(|error| what("seccomp")(&error))
}

fn bound(resource: Resource, most: u64) -> rustix::io::Result<()> {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}

/// No file, no connection. Two walls: this one holds also where a system call was let through by mistake.
fn landlock() -> Result<(), String> {
    let text = |error: landlock::RulesetError| error.to_string();
    // What every kernel with Landlock has must be there; what later ones added is taken where it is.
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(text)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .map_err(text)?
        .handle_access(AccessNet::from_all(ABI::V4))
        .map_err(text)?
        .scope(Scope::from_all(ABI::V6))
        .map_err(text)?;
    let status = rules.create().and_then(landlock::RulesetCreated::restrict_self).map_err(text)?;
    if status.ruleset == RulesetStatus::NotEnforced { Err("this kernel has none".to_owned()) } else { Ok(()) }
}

fn seccomp() -> Result<(), String> {
    let target = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = PERMITTED.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, target).map_err(|error| error.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())?;
    apply_filter(&program).map_err(|error| error.to_string())
}
