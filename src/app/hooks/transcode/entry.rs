use super::specs::Key;
use super::task::Task;

pub(super) struct Entry {
    pub(super) stream: String,
    pub(super) key: Key,
    pub(super) task: Task,
}
