//! `bascule why`: what would become of a packet, step by step.

use std::fmt::Write;

use super::{Context, args, output};
use crate::{
    api::{
        paths,
        why::{Answer, Part, Question},
    },
    error::{Failure, exit},
};

/// Prints what would become of a packet. It is an answer whether the packet would arrive or not.
pub fn why(context: &Context, args: args::Why) -> Result<u8, Failure> {
    let question = Question {
        source: args.source,
        destination: args.destination,
        from_port: args.from_port.unwrap_or_default(),
        from_address: args.from_address.map(|a| a.to_string()).unwrap_or_default(),
        family: args.family.unwrap_or_default(),
    };
    let answer: Answer = context.client()?.post(paths::WHY, &question)?;
    if context.wants_json() {
        output::json(&answer)?;
    } else {
        output::print(&text(&answer))?;
    }
    Ok(exit::OK)
}

fn text(answer: &Answer) -> String {
    let mut text = format!("{}\n  from {}\n", answer.packet, answer.source);
    for part in &answer.parts {
        add(&mut text, part);
    }
    // Writing to a string cannot fail.
    for remark in &answer.remarks {
        writeln!(text, "\nNote: {remark}.").ok();
    }
    writeln!(text, "\n{}", verdict(answer)).ok();
    if !answer.remedy.is_empty() {
        writeln!(text, "To allow it: {}.", answer.remedy).ok();
    }
    text
}

fn add(text: &mut String, part: &Part) {
    let title = match part.program.as_str() {
        "" => part.way.clone(),
        program => format!("{}: {program} at {}", part.way, part.interface),
    };
    writeln!(text, "\n{title}\n  {}", part.packet).ok();
    for step in &part.steps {
        writeln!(text, "    {:<10} {}", step.step, step.found).ok();
    }
    writeln!(text, "  => {}", part.text).ok();
}

/// Returns the end of an answer alone, in a line.
pub fn short(answer: &Answer) -> String {
    let mut text = verdict(answer);
    for remark in &answer.remarks {
        write!(text, " {remark}.").ok();
    }
    if !answer.remedy.is_empty() {
        write!(text, " To allow it: {}.", answer.remedy).ok();
    }
    text
}

fn verdict(answer: &Answer) -> String {
    let end = match answer.verdict.as_str() {
        "dropped" => return format!("Dropped. {}: {}", answer.reason, answer.explanation),
        "delivered" => "It is delivered",
        "left" => "It leaves the host",
        "host" => "It reaches the host itself",
        _ => return format!("It is {}.", answer.text),
    };
    match answer.answer.as_str() {
        "dropped" => {
            format!("{end}, and its answer is dropped. {}: {}", answer.reason, answer.explanation)
        }
        "" | "kernel" => format!("{end}."),
        _ => format!("{end}, and its answer comes back."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::why::Step;

    #[test]
    fn the_end_is_the_verdict_and_what_would_allow_it() {
        let answer = Answer {
            source: "container c1 on network n1".into(),
            packet: "echo request 172.18.0.2 -> 172.18.1.2".into(),
            parts: vec![Part {
                way: "request".into(),
                program: "from_container".into(),
                interface: "veth1".into(),
                packet: "echo request 172.18.0.2 -> 172.18.1.2".into(),
                steps: vec![Step { step: "subnet".into(), found: "172.18.1.2 is of n2".into() }],
                verdict: "dropped".into(),
                text: "dropped: policy_isolation: The destination is on another network.".into(),
                reason: "policy_isolation".into(),
            }],
            verdict: "dropped".into(),
            reason: "policy_isolation".into(),
            explanation: "The destination is on another network.".into(),
            remedy: "connect both".into(),
            ..Answer::default()
        };
        let golden = "\
echo request 172.18.0.2 -> 172.18.1.2
  from container c1 on network n1

request: from_container at veth1
  echo request 172.18.0.2 -> 172.18.1.2
    subnet     172.18.1.2 is of n2
  => dropped: policy_isolation: The destination is on another network.

Dropped. policy_isolation: The destination is on another network.
To allow it: connect both.
";
        assert_eq!(text(&answer), golden);
    }
}
