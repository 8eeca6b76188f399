//! From any start a few rounds lead to what is desired, and then there is nothing to do.
