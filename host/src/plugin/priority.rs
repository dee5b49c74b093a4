//! How the kernel shares the processors between a guest that takes long and the others.
//!
//! A thread that wakes is let in at once only when its slice is shorter than that of the
//! one that computes; otherwise it may wait for a tick of the kernel, 4 ms. So the
//! clock, at whose ticks such a guest steps aside, has the shortest slice there is.

use rustix::process::getpriority_process;

/// By how much a side thread is below everything else in the process.
const BELOW: i32 = 10;

/// Nanoseconds after which another thread's turn comes. Of a side thread: longer than the
/// clock's, and shorter than what the kernel gives by itself.
const SIDE_SLICE: u64 = 1_000_000;
const SHORTEST_SLICE: u64 = 100_000;

/// Make this a thread that lets others pass.
pub(super) fn lower() {
    set(BELOW, SIDE_SLICE);
}

/// Make this a thread that computes next to nothing, and is let in when it wakes.
pub(super) fn prompt() {
    set(0, SHORTEST_SLICE);
}

/// A kernel before Linux 6.12 passes over the slice.
fn set(below: i32, slice: u64) {
    let process = getpriority_process(None).unwrap_or_default();
    let wish = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: process + below,
        sched_priority: 0,
        sched_runtime: slice,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: it reads as many bytes as `size` says; 0 means the calling thread.
    #[expect(unsafe_code, reason = "sched_setattr has no safe wrapper")]
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) };
    if result != 0 {
        tracing::debug!("a thread of plugins keeps its priority");
    }
}
