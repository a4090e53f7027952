//! What tests of whole processes need: a small service that keeps a state and hands it over, and a daemon and gateway around it.
//!
//! Only for tests: nothing that users run imports this.
#![forbid(unsafe_code)]

pub mod harness;
pub mod service;
