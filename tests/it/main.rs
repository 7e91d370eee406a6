//! The one integration binary: each module below is one question about the whole program.
//! Tests of a single module live beside its code.

mod architecture;
mod chat;
mod cli;
mod document;
mod download;
mod eval;
mod factory;
mod finetune;
mod fix;
mod formats;
mod house;
mod keyring;
mod lora;
mod memory;
mod offline;
mod optimize;
mod parity;
mod preparation;
mod program;
mod prose;
mod quantize;
mod remote;
mod server;
mod session;
mod split;
mod store;
mod training;
