//! The configuration in force, shared by the whole server.

use std::sync::{Arc, PoisonError, RwLock};

use super::Config;

/// Read access to the configuration in force. Clones are the same cell.
#[derive(Clone)]
pub struct ConfigCell(Arc<RwLock<Arc<Config>>>);

/// Write access to the same cell. There is one; the reload has it.
pub struct ConfigSetter(ConfigCell);

impl ConfigCell {
    /// Creates a cell that holds `config`.
    pub fn new(config: Arc<Config>) -> (Self, ConfigSetter) {
        let cell = Self(Arc::new(RwLock::new(config)));
        (cell.clone(), ConfigSetter(cell))
    }

    /// Returns the configuration in force. Do not keep it across a wait: a reload may replace it meanwhile.
    pub fn get(&self) -> Arc<Config> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ConfigSetter {
    /// Replaces the configuration.
    pub fn set(&self, new: Arc<Config>) {
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}
