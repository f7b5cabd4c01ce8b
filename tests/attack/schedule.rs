//! The tests of the kit that run at the same time.
//!
//! In a sample run a few servers run at once, but while lateness is measured no other server is under attack: the others start,
//! or recover. In long mode one server runs at a time.

use std::sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::sample::is_long;

/// Servers that run at once in a sample run.
const MAX_RIGS: usize = 4;

static RUNNING: Mutex<usize> = Mutex::new(0);
static TEST_ENDED: Condvar = Condvar::new();

/// Held for writing by an attack whose lateness is measured, and for reading by any other.
static ATTACKS: RwLock<()> = RwLock::new(());

/// Permission to run a server; returned when dropped.
pub(crate) struct Permit(());

impl Permit {
    /// Waits for a permission.
    pub(crate) fn wait() -> Permit {
        let limit = if is_long() { 1 } else { MAX_RIGS };
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let running = TEST_ENDED.wait_while(running, |running| *running >= limit);
        *running.unwrap_or_else(PoisonError::into_inner) += 1;
        Permit(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TEST_ENDED.notify_one();
    }
}

/// Permission to attack; returned when dropped.
#[allow(dead_code, reason = "the guards are held")]
pub(crate) enum AttackTurn {
    Alone(RwLockWriteGuard<'static, ()>),
    SideBySide(RwLockReadGuard<'static, ()>),
}

impl AttackTurn {
    /// Waits until no attack runs (`alone`), or no attack runs whose lateness is measured.
    pub(crate) fn wait(alone: bool) -> AttackTurn {
        if alone {
            AttackTurn::Alone(ATTACKS.write().unwrap_or_else(PoisonError::into_inner))
        } else {
            AttackTurn::SideBySide(ATTACKS.read().unwrap_or_else(PoisonError::into_inner))
        }
    }
}
