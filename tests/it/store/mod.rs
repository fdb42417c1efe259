//! The store on both databases: one list of tests, the database a parameter.

mod alerts;
mod crash_points;
mod durability;
mod engine;
mod journal;
mod letters;
mod lists;
mod retention;
mod support;
