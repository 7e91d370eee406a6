//! The index as many threads see it: who types reads a version that never changes, who writes makes
//! the next one beside it.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::Retrieval;

/// An index that is read while it is being changed. A reader waits for nothing but the exchange of a
/// pointer.
#[derive(Default)]
pub struct SharedRetrieval {
    current: RwLock<Arc<Retrieval>>,
    /// Held while the next version is made, so that no change is lost.
    writing: Mutex<()>,
}

impl SharedRetrieval {
    /// Shares an index.
    pub fn new(retrieval: Retrieval) -> SharedRetrieval {
        SharedRetrieval { current: RwLock::new(Arc::new(retrieval)), writing: Mutex::new(()) }
    }

    /// The index as it is now.
    pub fn snapshot(&self) -> Arc<Retrieval> {
        self.current.read().clone()
    }

    /// Changes a copy and makes it the current one. The copy costs one reference for each file, so that
    /// many changes belong into one call. Only other writers wait for it.
    pub fn change(&self, change: impl FnOnce(&mut Retrieval)) {
        let _writing = self.writing.lock();
        let mut next = Retrieval::clone(&self.snapshot());
        change(&mut next);
        *self.current.write() = Arc::new(next);
    }
}
