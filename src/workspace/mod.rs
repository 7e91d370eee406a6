//! Open documents, files on disk and recent edits, seen through an immutable [`Snapshot`].
