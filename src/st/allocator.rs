//! The allocator of the process: jemalloc, which returns freed memory to the system by itself.
//!
//! With glibc's, the memory of a busy hour stayed in its arenas: after 6,000 streams had come and gone, 30 MB were kept for 2.8
//! MB in use, and returning them needed estimates and calls that stopped every thread for milliseconds. `trunk-scripts/soak.sh`
//! measures what is left. How jemalloc is set up stands in `.cargo/config.toml`.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;
