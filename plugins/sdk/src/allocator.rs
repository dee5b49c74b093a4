//! The memory of a guest: what was freed is kept by its size and handed out again.
//!
//! A call makes some dozens of short texts and drops them all. To look for the best
//! place for each, and for free neighbours to join, was a tenth of the time of a small
//! plugin's call. An instance is replaced after some hundreds of calls, so pieces that
//! are never joined do not add up.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Pieces of up to [`LARGEST`] bytes by size; what is larger is the system's.
#[derive(Debug)]
pub(crate) struct Allocator {
    /// For each class of sizes the piece freed last; in it stands the one freed before.
    free: UnsafeCell<[*mut u8; CLASSES]>,
    /// What is left of the last chunk taken from the system.
    rest: UnsafeCell<Rest>,
}

#[derive(Debug)]
struct Rest {
    at: *mut u8,
    bytes: usize,
}

/// Sizes are multiples of this, and so are addresses.
const STEP: usize = 16;
const LARGEST: usize = 1024;
const CLASSES: usize = LARGEST / STEP;
const CHUNK: Layout = match Layout::from_size_align(16 << 10, STEP) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};

// SAFETY: it is shared where guests run, and those have one thread.
#[expect(unsafe_code, reason = "a static must be Sync, and Wasm guests have one thread")]
unsafe impl Sync for Allocator {}

impl Allocator {
    /// Nothing taken from the system yet.
    pub(crate) const fn new() -> Self {
        let rest = Rest { at: ptr::null_mut(), bytes: 0 };
        Self { free: UnsafeCell::new([ptr::null_mut(); CLASSES]), rest: UnsafeCell::new(rest) }
    }

    /// A piece that nobody has had.
    #[cold]
    fn carve(&self, size: usize) -> *mut u8 {
        // SAFETY: one thread, and nothing in here comes back to this allocator. A piece lies
        // within the chunk, because `bytes` counts down to its end.
        #[expect(unsafe_code, reason = "an allocator hands out pointers")]
        unsafe {
            let rest = &mut *self.rest.get();
            if rest.bytes < size {
                let chunk = System.alloc(CHUNK);
                if chunk.is_null() {
                    return chunk;
                }
                *rest = Rest { at: chunk, bytes: CHUNK.size() };
            }
            let piece = rest.at;
            *rest = Rest { at: piece.add(size), bytes: rest.bytes - size };
            piece
        }
    }
}

/// Which class of sizes holds as much; none for what the system keeps.
fn class_of(layout: Layout) -> Option<usize> {
    let class = layout.size().wrapping_sub(1) / STEP;
    (class < CLASSES && layout.align() <= STEP).then_some(class)
}

// SAFETY: a piece is handed out once until it comes back, and has the size and the alignment
// of its class. A layout says the same when a piece is freed as when it was made.
#[expect(unsafe_code, reason = "GlobalAlloc is unsafe to implement")]
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else { return unsafe { System.alloc(layout) } };
        let last = unsafe { &mut (*self.free.get())[class] };
        let piece = *last;
        if piece.is_null() {
            return self.carve((class + 1) * STEP);
        }
        *last = unsafe { piece.cast::<*mut u8>().read() };
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else { return unsafe { System.dealloc(piece, layout) } };
        let last = unsafe { &mut (*self.free.get())[class] };
        unsafe { piece.cast::<*mut u8>().write(*last) };
        *last = piece;
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (class_of(layout), class_of(wanted)) {
            (None, None) => return unsafe { System.realloc(piece, layout, bytes) },
            (had, has) if had == has => return piece,
            _ => {}
        }
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            unsafe {
                ptr::copy_nonoverlapping(piece, moved, layout.size().min(bytes));
                self.dealloc(piece, layout);
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece in use, filled with one byte.
    struct Piece {
        at: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Piece {
        #[expect(unsafe_code, reason = "the memory is the piece's own")]
        fn fill(&mut self) {
            unsafe { self.at.write_bytes(self.mark, self.layout.size()) }
        }

        #[expect(unsafe_code, reason = "as many were filled")]
        fn is_whole(&self, bytes: usize) -> bool {
            let filled = unsafe { std::slice::from_raw_parts(self.at, bytes) };
            filled.iter().all(|it| *it == self.mark)
        }
    }

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).expect("a power of two")
    }

    #[test]
    #[expect(unsafe_code, reason = "GlobalAlloc is unsafe to call")]
    fn no_piece_is_handed_out_twice_and_each_keeps_its_bytes() {
        let allocator = Allocator::new();
        let mut random = 1_u64;
        let mut below = |most: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % most
        };
        let mut held: Vec<Piece> = Vec::new();
        for turn in 0..100_000_u32 {
            match below(3) {
                0 if !held.is_empty() => {
                    let piece = held.swap_remove(below(held.len()));
                    assert!(piece.is_whole(piece.layout.size()));
                    unsafe { allocator.dealloc(piece.at, piece.layout) };
                }
                1 if !held.is_empty() => {
                    let at = below(held.len());
                    let piece = &mut held[at];
                    let bytes = 1 + below(2 * LARGEST);
                    let both = piece.layout.size().min(bytes);
                    piece.at = unsafe { allocator.realloc(piece.at, piece.layout, bytes) };
                    assert!(piece.is_whole(both));
                    piece.layout = layout(bytes, piece.layout.align());
                    piece.fill();
                }
                _ => {
                    let layout = layout(1 + below(2 * LARGEST), 1 << below(7));
                    let at = unsafe { allocator.alloc(layout) };
                    assert_eq!(at.addr() % layout.align(), 0);
                    let mut piece = Piece { at, layout, mark: turn as u8 };
                    piece.fill();
                    held.push(piece);
                }
            }
        }
        assert!(held.iter().all(|it| it.is_whole(it.layout.size())));
        held.iter().for_each(|it| unsafe { allocator.dealloc(it.at, it.layout) });
    }

    #[test]
    #[expect(unsafe_code, reason = "GlobalAlloc is unsafe to call")]
    fn what_is_freed_is_handed_out_next() {
        let allocator = Allocator::new();
        for bytes in [1, STEP, STEP + 1, LARGEST - 1, LARGEST] {
            let layout = layout(bytes, 8);
            let first = unsafe { allocator.alloc(layout) };
            unsafe { allocator.dealloc(first, layout) };
            assert_eq!(unsafe { allocator.alloc(layout) }, first, "{bytes} bytes");
        }
    }
}
