//! The harness of the tests that need a kernel.
