//! `bascule policy ...`.

use super::{
    Context,
    args::{self, DenyAdd},
    output,
};
use crate::{
    api::{
        paths,
        policy::{Denial, Deny, PolicyRule, Undeny},
    },
    error::{Failure, exit},
};

/// Does a verb of `policy`.
pub fn policy(context: &Context, verb: args::Policy) -> Result<u8, Failure> {
    let verb = match verb {
        args::Policy::Ls(wanted) => return rules(context, &wanted),
        args::Policy::Deny(verb) => verb,
    };
    match verb {
        args::Deny::Add(add) => self::add(context, add),
        args::Deny::Rm { prefixes } => {
            let body = Undeny { prefixes };
            context.client()?.remove(paths::POLICY_DENY, &body)?;
            body.prefixes.iter().try_for_each(output::line)?;
            Ok(exit::OK)
        }
        args::Deny::Ls { quiet } => list(context, quiet),
    }
}

fn rules(context: &Context, wanted: &args::PolicyList) -> Result<u8, Failure> {
    let query = [("network", wanted.network.as_str()), ("container", &wanted.container)];
    let rules: Vec<PolicyRule> = context.client()?.get(&paths::query(paths::POLICY, &query))?;
    if context.wants_json() {
        output::json(&rules)?;
    } else {
        output::print(&rules_table(&rules))?;
    }
    Ok(exit::OK)
}

fn rules_table(rules: &[PolicyRule]) -> String {
    let row = |rule: &PolicyRule| {
        let verdict = match rule.applied {
            true => rule.verdict.clone(),
            false => format!("{} (pending)", rule.verdict),
        };
        [&rule.stage, &verdict, &rule.from, &rule.to, &rule.ports, &rule.why].map(String::clone)
    };
    let rows: Vec<_> = rules.iter().map(row).collect();
    output::table(["STAGE", "VERDICT", "FROM", "TO", "PORTS", "WHY"], &rows)
}

fn add(context: &Context, args: DenyAdd) -> Result<u8, Failure> {
    let DenyAdd { prefixes, comment, force } = args;
    let body = Deny { prefixes, comment, force };
    match context.client()?.act(paths::POLICY_DENY, Some(&body)) {
        Err(error) if error.is_forbidden() => {
            Err(Failure::from(error).hint("--force denies it nevertheless"))
        }
        other => {
            other?;
            body.prefixes.iter().try_for_each(output::line)?;
            Ok(exit::OK)
        }
    }
}

fn list(context: &Context, quiet: bool) -> Result<u8, Failure> {
    let denials: Vec<Denial> = context.client()?.get(paths::POLICY_DENY)?;
    if quiet {
        denials.iter().try_for_each(|denial| output::line(&denial.prefix))?;
    } else if context.wants_json() {
        output::json(&denials)?;
    } else {
        output::print(&table(&denials))?;
    }
    Ok(exit::OK)
}

fn table(denials: &[Denial]) -> String {
    let row = |d: &Denial| {
        [d.prefix.clone(), d.packets.to_string(), d.bytes.to_string(), d.comment.clone()]
    };
    let rows: Vec<_> = denials.iter().map(row).collect();
    output::table(["PREFIX", "PACKETS", "BYTES", "COMMENT"], &rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_list_is_a_table() {
        let denial = |prefix: &str, packets, comment: &str| Denial {
            prefix: prefix.into(),
            packets,
            bytes: 60 * packets,
            comment: comment.into(),
            ..Denial::default()
        };
        let list = [denial("198.51.100.0/24", 12_345, "scanners"), denial("2001:db8::/32", 0, "")];
        let golden = "\
PREFIX            PACKETS   BYTES     COMMENT
198.51.100.0/24   12345     740700    scanners
2001:db8::/32     0         0
";
        assert_eq!(table(&list), golden);
    }

    #[test]
    fn s106_rules_are_a_table() {
        let rule = |verdict: &str, to: &str, applied| PolicyRule {
            stage: "icc".into(),
            verdict: verdict.into(),
            from: "network blue".into(),
            to: to.into(),
            ports: "any".into(),
            why: "because".into(),
            applied,
            ..PolicyRule::default()
        };
        let rules = [rule("allow", "network blue", true), rule("deny", "outside", false)];
        let golden = "\
STAGE     VERDICT          FROM           TO             PORTS     WHY
icc       allow            network blue   network blue   any       because
icc       deny (pending)   network blue   outside        any       because
";
        assert_eq!(rules_table(&rules), golden);
    }

    #[test]
    fn verbs_are_understood() {
        let parse = |line: &str| args::Args::try_parse_from(line.split_whitespace());
        let add =
            parse("bascule policy deny add 198.51.100.0/24 ::1 --comment x -f").expect("good");
        let args::Verb::Policy(args::Policy::Deny(args::Deny::Add(add))) = add.verb else {
            panic!("{:?}", add.verb)
        };
        assert_eq!(add.prefixes, ["198.51.100.0/24", "::1"]);
        assert_eq!((add.comment.as_str(), add.force), ("x", true));
        for wrong in ["bascule policy", "bascule policy deny", "bascule policy deny add"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("bascule policy deny remove 198.51.100.0/24").is_ok());
        assert!(parse("bascule policy deny list -q").is_ok());
    }
}
