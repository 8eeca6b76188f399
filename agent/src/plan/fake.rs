//! A model of the kernel: does what actions say, as far as the next observation can tell.
