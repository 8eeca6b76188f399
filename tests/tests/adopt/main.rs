//! A real dockerd whose networks the agent has taken over: what users of Docker do, and what packets see.
//!
//! A daemon takes seconds to start, so each test is a journey, and the cases on its way are named where they are.

mod bench;
mod beside;
mod cases;
mod compose;
mod moving;
mod policy;
mod ports;
mod replaced;
mod restarts;
mod six;
mod stage;
mod taking;

use bascule_tests::dockerd::cases::at;
use stage::Stage;
