//! The language server from outside: messages in, messages out, with a scripted completer.

mod client;
mod completion;
mod documents;
mod lifecycle;
mod memory;
mod model;
mod optimize;
mod repair;
mod script;
mod storm;
mod swap;
mod usage;
