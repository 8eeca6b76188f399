//! What can be written behind `bascule flows`.

use std::path::PathBuf;

use jiff::{Span, Timestamp, Zoned, civil, tz::TimeZone};

use super::{Format, Whose};

pub(super) const EXAMPLES: &str = "\
Examples:
  bascule flows --last 20
  bascule flows --since 1h --related-to web
  bascule flows --since 2026-01-02T03:00 --until 2026-01-02T04:00 --verdict dropped
  bascule flows --last 10 --follow -o json

The agent writes the log where it is told to (`bascule agent --flow-log FILE`, or `flow-log` in the
configuration): a line for each connection that has ended, with what went both ways, for drops, and
for what was lost. It is read without an agent, too. Names are those of the time. A time is RFC 3339,
one without a zone is the host's, a date is its beginning; 30s, 10m, 2h, 3d and the like are so long
ago, and a number is seconds since 1970.";

/// `flows`.
#[derive(Debug, clap::Args)]
pub struct Flows {
    /// Only these: close, drop, policy, lost
    #[arg(short, long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = ["close", "drop", "policy", "lost"], hide_possible_values = true)]
    pub types: Vec<String>,
    /// Whose.
    #[command(flatten)]
    pub whose: Whose,
    /// Only what was then or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Timestamp>,
    /// Only what was before
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<Timestamp>,
    /// Only the last so many of them
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub last: Option<usize>,
    /// Go on with what comes to it, until this is interrupted
    #[arg(short, long, conflicts_with = "until")]
    pub follow: bool,
    /// The log [default: what the configuration says]
    #[arg(long, env = "BASCULE_FLOW_LOG", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// `table` or `json`, as --output
    #[arg(short = 'o', value_name = "FORMAT", value_enum, hide_possible_values = true)]
    pub format: Option<Format>,
}

/// Reads a time, or how long ago it was.
fn time(text: &str) -> Result<Timestamp, String> {
    let now = Zoned::now();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return time.to_zoned(TimeZone::system()).map(|t| t.timestamp()).map_err(|e| e.to_string());
    }
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        let nanoseconds = (seconds * 1e9) as i128;
        return Timestamp::from_nanosecond(nanoseconds).map_err(|error| error.to_string());
    }
    let ago = text.parse::<Span>().map(|span| now.checked_sub(span.abs()));
    match ago {
        Ok(Ok(time)) => Ok(time.timestamp()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            Err("it is no time such as 2026-01-02T03:04:05Z, and no span such as 10m".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p81_a_time_is_a_moment_or_so_long_ago() {
        let of = |text: &str| time(text).expect(text);
        assert_eq!(of("2026-01-02T03:04:05Z").to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(of("1767323045"), of("2026-01-02T03:04:05Z"));
        assert_eq!(of("1767323045.5"), of("2026-01-02T03:04:05.5Z"));
        let local = "2026-01-02T03:04".parse::<civil::DateTime>().expect("a time");
        let local = local.to_zoned(TimeZone::system()).expect("a moment").timestamp();
        assert_eq!(of("2026-01-02T03:04"), local);
        for (text, seconds) in [("10m", 600), ("1h30m", 5400), ("2 hours", 7200), ("1d", 86_400)] {
            let ago = Timestamp::now().duration_since(of(text)).as_secs();
            assert!((seconds - 3700..=seconds + 3700).contains(&ago), "{text}: {ago}");
        }
        for wrong in ["", "soon", "-", "nan", "99999999999999999999", "10x", "99999999y"] {
            let read = time(wrong);
            assert!(read.is_err(), "{wrong}: {read:?}");
        }
    }
}
