//! Kernels and their verifiers: every program is accepted by this one and by the oldest that is
//! supported, and the main job is done there too.

mod main_job;
mod programs;
