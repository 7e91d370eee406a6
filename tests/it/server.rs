//! The language server from outside: messages in, messages out, with a scripted completer.

mod client;
mod completion;
mod document;
mod documents;
mod explain;
mod lifecycle;
mod memory;
mod model;
mod optimize;
mod repair;
mod script;
mod storm;
mod swap;
mod usage;
