//! Cases as text: a line for each frame, `walk endpoint segment-size framed|bare hex`; lines that begin with `#` are
//! for readers.

use std::fmt;

use bascule_common::testing::Walk;

const WALKS: [(Walk, &str); 6] = [
    (Walk::FromContainer, "from_container"),
    (Walk::ToContainer, "to_container"),
    (Walk::FromUplink, "from_uplink"),
    (Walk::ToUplink, "to_uplink"),
    (Walk::ToBridge, "to_bridge"),
    (Walk::FromNames, "from_names"),
];

/// A frame and the program that it meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The program.
    pub walk: Walk,
    /// Whose interface, for the walks of containers.
    pub endpoint: u32,
    /// Payload of each segment that the frame stands for, or 0.
    pub segment_size: u32,
    /// Without an Ethernet header, on an uplink.
    pub bare: bool,
    pub bytes: Vec<u8>,
}

/// Frames, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case(pub Vec<Step>);

impl Case {
    /// Reads a case; says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let steps: Option<Vec<Step>> = lines.map(step).collect();
        steps.filter(|steps| !steps.is_empty()).map(Self).ok_or_else(|| "no case".to_owned())
    }
}

fn step(line: &str) -> Option<Step> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let (walk, _) = WALKS.into_iter().find(|(_, known)| *known == name)?;
    let endpoint = words.next()?.parse().ok()?;
    let segment_size = words.next()?.parse().ok()?;
    let bare = words.next()? == "bare";
    let hex = words.next()?;
    let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    Some(Step { walk, endpoint, segment_size, bare, bytes: bytes? })
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            let name =
                WALKS.into_iter().find(|(walk, _)| *walk == step.walk).map_or("", |(_, n)| n);
            let framed = if step.bare { "bare" } else { "framed" };
            write!(f, "{name} {} {} {framed} ", step.endpoint, step.segment_size)?;
            for byte in &step.bytes {
                write!(f, "{byte:02x}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[test]
fn cases_survive_a_round_trip() {
    let text = "from_container 1 0 framed 0a0b\nto_uplink 1 1400 bare ff\n";
    let case = Case::read(text).expect("a case");
    assert_eq!(case.to_string(), text);
    assert_eq!(Case::read(&format!("# a word\n\n{case}")), Ok(case));
    for wrong in ["", "# nothing", "sideways 1 0 framed 00", "to_uplink 1 0 framed 0"] {
        assert!(Case::read(wrong).is_err(), "{wrong}");
    }
}
