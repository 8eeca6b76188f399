//! What can be written behind `bascule top`.

use clap::ValueEnum;

use super::Format;

/// What the keys do.
pub const KEYS: &str = "\
Keys:
  1 2 3 4, Tab      endpoints, drops, connections, published ports
  Up Down, j k      choose a row; PageUp, PageDown, Home, End as well
  Enter             look at an endpoint closely; Esc goes back
  < >               sort by another column; r turns the order round
  /                 show only what contains a text; Esc shows all again
  Space             hold still
  ?                 all keys
  q, Ctrl-C         quit

Rates are what counters grew by between two readings. Connections are those that are translated or
leave their network: within a network nothing is tracked.";

/// `top`.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Seconds between two readings, 0.2 to 60
    #[arg(short = 'd', long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    pub interval: f64,
    /// What to begin with: endpoints, drops, connections, ports
    #[arg(long, value_name = "PAGE", value_enum, default_value_t, hide_possible_values = true)]
    pub page: Page,
    /// Only what contains this text: a name, an address, a port, a reason
    #[arg(short, long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub filter: String,
    /// Print one reading, and end
    #[arg(long)]
    pub once: bool,
    /// `table`, or `json` for one reading of everything
    #[arg(short = 'o', value_name = "FORMAT", value_enum, hide_possible_values = true)]
    pub format: Option<Format>,
}

/// What is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// Containers' places on networks.
    #[default]
    Endpoints,
    /// What was dropped, and why.
    Drops,
    /// What is tracked.
    Connections,
    /// Published ports.
    Ports,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.2..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.2 to 60 is needed".to_owned()),
    }
}
