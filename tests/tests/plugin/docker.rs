//! A real dockerd with our driver.

mod addresses;
mod compose;
mod networks;
mod ports;
mod restarts;
