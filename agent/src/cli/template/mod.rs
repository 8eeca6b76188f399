//! Go's templates, the language of `--format`, over JSON.
//!
//! Everything that is there in Go but `define`, `template`, `block` and `call`; and Docker's functions.
//! Maps are walked in the order of their keys, as in Go.

mod eval;
mod functions;
mod lex;
mod parse;
mod print;

use serde_json::Value;

use crate::error::Failure;

/// A template that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<parse::Node>);

impl Template {
    /// Reads a template.
    pub fn new(text: &str) -> Result<Self, Failure> {
        lex::pieces(text).and_then(parse::parse).map(Self).map_err(|why| wrong(&why))
    }

    /// Fills it from a value.
    pub fn fill(&self, value: &Value) -> Result<String, Failure> {
        eval::fill(&self.0, value).map_err(|why| wrong(&why))
    }
}

fn wrong(why: &str) -> Failure {
    Failure::usage(format!("template parsing error: {why}"))
        .hint("{{json .}} shows what there is; the language is that of Go's text/template")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str) -> Result<String, String> {
        let value = json!({
            "Id": "0123456789abcdef", "Name": "/c1", "State": {"Pid": 7, "Running": true},
            "Networks": {"b": {"IP": "10.0.0.2"}, "a": {"IP": "10.0.0.1", "Empty": ""}},
            "Labels": {"com.example/x": "1"}, "List": ["x", "y", "z"], "None": null, "Zero": 0,
        });
        let filled = Template::new(template).and_then(|template| template.fill(&value));
        filled.map_err(|failure| failure.to_string())
    }

    #[track_caller]
    fn gives(template: &str, text: &str) {
        assert_eq!(fill(template).as_deref(), Ok(text), "{template}");
    }

    #[test]
    fn s37_p2_fields_are_found() {
        gives("{{.State.Pid}} {{ .Name }}!", "7 /c1!");
        gives("{{.ID}}", "0123456789abcdef");
        gives("{{$.Name}}{{(.State).Pid}}", "/c17");
        gives("{{.None}} {{.Labels.nothing}}", "<no value> <no value>");
        gives("[{{.State.Absent}}]", "[]");
        gives("{{.Networks.a}}", "map[Empty: IP:10.0.0.1]");
        gives("{{.List}} {{.State.Running}}", "[x y z] true");
        gives("a\\tb\\n", "a\tb\n");
    }

    #[test]
    fn p2_functions_of_go_and_docker() {
        gives("{{json .State}}", r#"{"Pid":7,"Running":true}"#);
        gives("{{.Name | upper | json}}", "\"/C1\"");
        gives("{{index .Labels \"com.example/x\"}}{{index .List 1}}", "1y");
        gives("{{index (index .Networks \"a\") \"IP\"}}", "10.0.0.1");
        gives("{{join .List \", \"}} {{len .List}} {{slice .Id 0 4}}", "x, y, z 3 0123");
        gives("{{range split \"a/b\" \"/\"}}<{{.}}>{{end}}", "<a><b>");
        gives("{{printf \"%-4s|%04d|%q|%5.2f%%\" .Name 7 `x` 1.5}}", "/c1 |0007|\"x\"| 1.50%");
        gives("{{print 1 2 \"x\" 3}}{{println}}", "1 2x3\n");
        gives("{{title \"ab cd\"}} {{truncate .Id 3}} {{pad \"x\" 1 2}}.", "Ab Cd 012  x  .");
        gives("{{.Labels \"com.example/x\"}}{{.Labels \"other\"}}", "1");
        gives(
            "{{eq .State.Pid 1 7}} {{ne 1 2}} {{lt 1 2}} {{ge \"b\" \"a\"}}",
            "true true true true",
        );
        gives("{{and 1 0}} {{or 0 \"\" \"z\"}} {{not .None}}{{/* never */}}", "0 z true");
        gives("{{or .Name .Nope}} {{and .Zero .Nope}}", "/c1 0");
    }

    #[test]
    fn p2_blocks_choose_and_repeat() {
        gives(
            "{{range $name, $net := .Networks}}{{$name}}={{$net.IP}} {{end}}",
            "a=10.0.0.1 b=10.0.0.2 ",
        );
        gives("{{range .Networks}}{{.IP}},{{end}}", "10.0.0.1,10.0.0.2,");
        gives("{{range $i, $e := .List}}{{if $i}}, {{end}}{{$e}}{{end}}", "x, y, z");
        gives("{{range .None}}x{{else}}nothing{{end}}", "nothing");
        gives("{{if .Zero}}a{{else if .State.Running}}b{{else}}c{{end}}", "b");
        gives("{{with .State}}{{.Pid}}{{$.Name}}{{end}}{{with .None}}x{{else}}y{{end}}", "7/c1y");
        gives("{{range .List}}{{if eq . \"y\"}}{{continue}}{{end}}{{.}}{{end}}", "xz");
        gives("{{range .List}}{{if eq . \"y\"}}{{break}}{{end}}{{.}}{{end}}", "x");
        gives("{{$n := 0}}{{range .List}}{{$n = .}}{{end}}{{$n}}", "z");
        gives("a {{- /* gone */ -}} b{{- 1 -}} c", "ab1c");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (template, why) in [
            ("{{.Nope}}", "no field Nope"),
            ("{{.Name", "unclosed action"),
            ("{{nothing .Name}}", "function \"nothing\" not defined"),
            ("{{if .Name}}", "{{end}} is missing"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{}}", "missing value"),
            ("{{.Name | }}", "missing value"),
            ("{{(.Name}}", "unclosed left paren"),
            ("{{len .Name .Name}}", "wrong number of args for len"),
            ("{{index .List 9}}", "out of range"),
            ("{{$x}}", "undefined variable"),
            ("{{.Name.Deeper}}", "can't evaluate field Deeper"),
            ("{{range .Zero}}{{end}}", "range can't iterate over 0"),
            ("{{template \"x\"}}", "not understood"),
            ("{{\"x}}", "unterminated quoted string"),
        ] {
            let error = fill(template).expect_err(template);
            assert!(error.contains("template parsing error") && error.contains(why), "{error}");
        }
    }
}
