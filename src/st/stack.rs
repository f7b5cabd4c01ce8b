//! Coroutine stacks: their size, the release of unused pages, and the end of the process at an overflow.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::task::{Task, with_current};

/// Size of a coroutine's stack in bytes. Only touched pages cost memory, so the size is generous.
///
/// Measured use (`may` fills a stack of an odd number of words and prints, at the coroutine's end, how much of it was used)
/// with ffmpeg and rtmpdump publishing and playing, refusals, other protocols, and AMF0 nested to its limit: in release at
/// most 6.6 KiB, 9.2 KiB for the nesting. Frames that are not optimised are larger: 256 KiB were too
/// few for the unit tests of a debug build.
pub const STACK_BYTES: usize = if cfg!(debug_assertions) { 1024 * 1024 } else { 64 * 1024 };

/// Returns the size in words, as `may` takes it. With an odd number `may` would fill and measure each stack.
pub(super) fn stack_words() -> usize {
    STACK_BYTES / size_of::<usize>()
}

const PAGE: usize = 4096;

/// Most bytes above the address given to [`set_current_top`]: the coroutine's entry and the generator's record.
const ABOVE_TOP: usize = 4 * PAGE;

/// Bytes below a function's own frame that may be in use: the red zone, and the call of madvise.
const KEPT_BELOW_FRAME: usize = 1024;

/// Returns the pages below the present depth of the current coroutine's stack to the system. Costs one system call; for a
/// coroutine whose deep calls are done and that will now wait for long.
#[allow(unsafe_code)]
pub fn trim() {
    let marker = 0u8;
    let here = std::ptr::from_ref(&marker).addr();
    let top = CURRENT_TOP.load(Ordering::Relaxed);
    // Not one of our coroutines, or deeper than any should be. The address in `top` is not the very top of the stack.
    if here > top + PAGE || top.saturating_sub(here) > STACK_BYTES / 2 {
        return;
    }
    let end = (here - KEPT_BELOW_FRAME) & !(PAGE - 1);
    let start = with_current(|task| save_mark(task, top)).flatten().unwrap_or(lowest_page(top) + ABOVE_TOP);
    if start < end {
        // SAFETY: `start..end` are whole pages within this coroutine's stack, below the frames in use: nothing that is ever read
        // again is lost, and a deeper call finds zeroed pages there. `top` lies at most `ABOVE_TOP` below the end of the stack's
        // STACK_BYTES, so the start is above the lowest page, unless its mark was saved.
        unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED) };
    }
}

/// Returns the lowest page of a stack whose highest one has the address `top` on it.
fn lowest_page(top: usize) -> usize {
    ((top & !(PAGE - 1)) + PAGE).saturating_sub(STACK_BYTES)
}

/// Keeps the mark in the lowest word of the current stack, so that its page can be released: half of a waiting player's stack.
/// `may` ends the process if the mark is gone at the coroutine's end. Returns the page, unless it may not be the lowest.
#[allow(unsafe_code)]
fn save_mark(task: &Task, top: usize) -> Option<usize> {
    // An event handler runs for its task on the stack of another.
    if task.stack_top.load(Ordering::Relaxed) != top {
        return None;
    }
    let page = lowest_page(top);
    if task.stack_mark.load(Ordering::Relaxed) == 0 {
        // The guard page is below the lowest. If the top is not on the highest page, `page` is the guard page, or below it in a
        // mapping of which the next lower page can be read as well.
        if !is_readable(page) || is_readable(page - PAGE) {
            return None;
        }
        // SAFETY: the kernel has just read it.
        let mark = unsafe { std::ptr::with_exposed_provenance::<usize>(page).read() };
        task.stack_mark.store(mark, Ordering::Relaxed);
    }
    Some(page)
}

/// Writes the mark that [`trim`] has released, at the end of the current coroutine.
#[allow(unsafe_code)]
pub(super) fn restore_mark(task: &Task) {
    let mark = task.stack_mark.load(Ordering::Relaxed);
    if mark != 0 {
        let page = lowest_page(task.stack_top.load(Ordering::Relaxed));
        // SAFETY: `save_mark` has found it to be the lowest page of this stack, which is far below the frames in use.
        unsafe { std::ptr::with_exposed_provenance_mut::<usize>(page).write(mark) };
    }
}

/// Returns whether the kernel can read a word at this address. Reading it here could end the process.
#[allow(unsafe_code)]
fn is_readable(address: usize) -> bool {
    const INVALID_HOW: libc::c_int = -1;
    let (no_result, set_bytes) = (0usize, 8usize);
    // SAFETY: copies the set from `address`, or fails with EFAULT; then fails with EINVAL, and changes no signal mask.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, INVALID_HOW, address, no_result, set_bytes) };
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

/// Returns whether more than a quarter of the current coroutine's stack is left, more than any call has been measured to need.
/// True outside coroutines.
pub(super) fn has_room() -> bool {
    let marker = 0u8;
    let here = std::ptr::from_ref(&marker).addr();
    // Without a value, `here` is on another thread's stack.
    let used = CURRENT_TOP.load(Ordering::Relaxed).checked_sub(here).filter(|&used| used <= STACK_BYTES);
    used.is_none_or(|used| used <= STACK_BYTES / 4 * 3)
}

/// Address near the top of the stack of the running coroutine.
static CURRENT_TOP: AtomicUsize = AtomicUsize::new(0);

pub(super) fn set_current_top(top: usize) {
    CURRENT_TOP.store(top, Ordering::Relaxed);
}

/// Message on standard error when a coroutine overflows its stack.
const OVERFLOW_MESSAGE: &[u8] =
    b"fatal: a coroutine overflowed its stack. This is a bug of the server, please report it.\n";

/// Installs a SIGSEGV handler that ends the process with a message when a coroutine touches its guard page.
///
/// No input can cause that: every recursion is bounded, and the deepest has been measured to need a seventh of the stack. The
/// handler of the coroutine crate would drop the coroutine without running its destructors, and whatever it held would stay
/// held: one place that ends the process is simpler than a rescue in every place that holds something.
#[allow(unsafe_code)]
pub(super) fn install_overflow_handler() {
    static ONCE: Once = Once::new();
    // The first coroutine calls this, so the crate's own handler is already installed and ours replaces it.
    ONCE.call_once(|| unsafe {
        // SAFETY: the struct is plain C data for which zero is a valid value; the handler below is async-signal-safe: it reads
        // an atomic, writes to a descriptor, and restores the default action.
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        action.sa_sigaction = on_fault as *const () as usize;
        libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
    });
}

#[allow(unsafe_code)]
unsafe extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() }.addr();
    let top = CURRENT_TOP.load(Ordering::Relaxed);
    let bottom = (address & !(PAGE - 1)) + PAGE;
    // Only the guard page can fault between a coroutine's top and one page below its stack: the rest is mapped for reading and
    // writing.
    if top > bottom && top - bottom <= STACK_BYTES && top - bottom + ABOVE_TOP >= STACK_BYTES {
        // SAFETY: writes a constant to standard error.
        unsafe { libc::write(libc::STDERR_FILENO, OVERFLOW_MESSAGE.as_ptr().cast(), OVERFLOW_MESSAGE.len()) };
    }
    // SAFETY: sigaction to the default action. The fault occurs again on return and ends the process, with a core if allowed.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
