//! A workspace with data and cache folders of its own, and the program in it.

use std::path::PathBuf;
use std::process::Command;

use tempfile::{TempDir, tempdir};

use crate::program::nestling;

/// All of it lies in one temporary folder.
pub(crate) struct House {
    pub(crate) folder: TempDir,
}

impl House {
    /// With an empty workspace.
    pub(crate) fn new() -> House {
        let folder = tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("work")).expect("a folder");
        House { folder }
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = nestling();
        command.current_dir(self.work()).env("NESTLING_DATA", self.data());
        command.env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        command
    }
}
