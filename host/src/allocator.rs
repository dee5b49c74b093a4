//! The allocator. Deliveries are many small allocations on a few threads: measured,
//! this one costs a tenth less processor time per delivery than the system's.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Give what is free back to the system. It does so by itself while there is
/// work; an engine that has just loaded its plugins may have none.
pub(crate) fn give_back() {
    // SAFETY: it may be called at any time, from any thread.
    #[expect(unsafe_code, reason = "the allocator's own interface is C")]
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}
