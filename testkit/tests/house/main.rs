//! What holds for the repository as a whole and no compiler checks: where unsafe code may stand, which licences are
//! linked, that the list of proofs is complete, and what its commands say. Who may depend on whom is in `arrows.rs` beside this folder.

mod commands;
mod files;
mod licences;
mod metadata;
mod proof_rows;
mod unsafe_code;
