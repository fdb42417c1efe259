//! Tables as SeaORM sees them: one file a table, columns only.
//!
//! Times are milliseconds since 1970, ids are UUIDs, and what is a list or a structure is JSON text.

pub mod audit;
pub mod audit_size;
pub mod bulk_operations;
pub mod dead_letters;
pub mod deliveries;
pub mod events;
pub mod hooks;
pub mod journal_state;
pub mod key_blocks;
pub mod key_pages;
pub mod key_segments;
pub mod kv;
pub mod kv_spaces;
pub mod letter_counts;
pub mod letter_groups;
pub mod outcome_blocks;
pub mod outcome_late;
pub mod recordings;
pub mod runs;
pub mod scheduled;
pub mod script_versions;
pub mod scripts;
pub mod secrets;
pub mod sessions;
pub mod size_marks;
pub mod subscription_definitions;
pub mod subscriptions;
pub mod tokens;
