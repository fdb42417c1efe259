#![no_main]

use libfuzzer_sys::fuzz_target;
use tripline::{
    domain::{DataEncoding, Envelope, TypePattern},
    filter::{Filter, Index, KeyPath, Scratch, View},
};

#[allow(dead_code, reason = "each target calls one of the entries")]
#[path = "../entries/filter.rs"]
mod filter;

fuzz_target!(|text: &str| filter::matching(text));
