//! A real dockerd with our driver.

mod addresses;
mod cases;
mod compose;
mod healing;
mod networks;
mod ports;
mod replaced;
mod restarts;
