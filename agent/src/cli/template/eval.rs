//! Fills a tree with a value.

use std::ops::ControlFlow;

use serde_json::Value;

use super::{
    functions::{self, truth},
    parse::{Base, Node, Pipeline, Term},
    print,
};

/// Fills a tree from a value.
pub(super) fn fill(nodes: &[Node], root: &Value) -> Result<String, String> {
    let variables = vec![(String::new(), root.clone())];
    let mut filling = Filling { root, variables, text: String::new() };
    match filling.nodes(nodes, root)? {
        Flow::Continue(()) => Ok(filling.text),
        Flow::Break(_) => Err("{{break}} or {{continue}} outside of {{range}}".to_owned()),
    }
}

/// What a template sees while it is filled.
struct Filling<'a> {
    root: &'a Value,
    variables: Vec<(String, Value)>,
    text: String,
}

/// A loop that is left early: for good, or for the next round.
type Flow = ControlFlow<bool>;

impl Filling<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.text.push_str(text);
                    Flow::Continue(())
                }
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.text.push_str(&print::value(&value));
                    }
                    Flow::Continue(())
                }
                Node::If(pipeline, body, otherwise) => self.scoped(|filling| {
                    let value = filling.pipeline(pipeline, dot)?;
                    filling.nodes(if truth(&value) { body } else { otherwise }, dot)
                })?,
                Node::With(pipeline, body, otherwise) => {
                    self.scoped(|filling| match filling.pipeline(pipeline, dot)? {
                        value if truth(&value) => filling.nodes(body, &value),
                        _ => filling.nodes(otherwise, dot),
                    })?
                }
                Node::Range(pipeline, body, otherwise) => {
                    self.scoped(|filling| filling.range(pipeline, body, otherwise, dot))?
                }
                Node::Break => Flow::Break(true),
                Node::Continue => Flow::Break(false),
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue(()))
    }

    /// Does something, and forgets the variables that it has declared.
    fn scoped<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let depth = self.variables.len();
        let result = work(self);
        self.variables.truncate(depth);
        result
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let silent = Pipeline { variables: Vec::new(), ..pipeline.clone() };
        let items: Vec<(Value, Value)> = match self.pipeline(&silent, dot)? {
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect()
            }
            Value::Object(fields) => {
                fields.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Null => Vec::new(),
            other => return Err(format!("range can't iterate over {}", print::value(&other))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            let flow = self.scoped(|filling| {
                match pipeline.variables.as_slice() {
                    [] => {}
                    [one] => filling.set(one, item.clone(), pipeline.declares)?,
                    [first, second, ..] => {
                        filling.set(first, key, pipeline.declares)?;
                        filling.set(second, item.clone(), pipeline.declares)?;
                    }
                }
                filling.nodes(body, &item)
            })?;
            if flow == Flow::Break(true) {
                break;
            }
        }
        Ok(Flow::Continue(()))
    }

    fn set(&mut self, name: &str, value: Value, declares: bool) -> Result<(), String> {
        if declares {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let found = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        found
            .map(|(_, held)| *held = value)
            .ok_or_else(|| format!("undefined variable \"${name}\""))
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        let value = last.ok_or("missing value for command")?;
        if let Some(name) = pipeline.variables.first() {
            self.set(name, value.clone(), pipeline.declares)?;
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &[Term],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let (first, arguments) = command.split_first().ok_or("missing value for command")?;
        if let Term::Function(name) = first
            && ["and", "or"].contains(&name.as_str())
        {
            return self.either(name == "or", arguments, dot, last);
        }
        let mut values = Vec::new();
        for term in arguments {
            values.push(self.term(term, dot)?);
        }
        values.extend(last);
        match first {
            Term::Function(name) => functions::call(name, &values),
            Term::Of(..) => {
                let value = self.term(first, dot)?;
                match (&value, values.as_slice()) {
                    (_, []) => Ok(value),
                    // Docker's `.Label "key"`.
                    (Value::Object(fields), [Value::String(key)]) => {
                        Ok(fields.get(key).cloned().unwrap_or_else(|| "".into()))
                    }
                    _ => Err("can't give argument to non-function".to_owned()),
                }
            }
        }
    }

    /// `and` and `or` look no further than they must.
    fn either(
        &mut self,
        or: bool,
        terms: &[Term],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let mut value = None;
        for term in terms {
            let found = self.term(term, dot)?;
            if truth(&found) == or {
                return Ok(found);
            }
            value = Some(found);
        }
        last.or(value).ok_or_else(|| "wrong number of args for and, or: want at least 1".to_owned())
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Value, String> {
        let (base, fields) = match term {
            Term::Function(name) => return functions::call(name, &[]),
            Term::Of(base, fields) => (base, fields),
        };
        let value = match base {
            Base::Dot => dot.clone(),
            Base::Literal(value) => value.clone(),
            Base::Group(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.ok_or_else(|| format!("undefined variable \"${name}\""))?.1.clone()
            }
        };
        fields.iter().try_fold(value, |value, name| self.field(&value, name))
    }

    /// Returns a field: as it is written, or as Go writes it (`ID` for `Id`).
    fn field(&self, value: &Value, name: &str) -> Result<Value, String> {
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Ok(Value::Null),
            _ => return Err(format!("can't evaluate field {name} in {}", print::value(value))),
        };
        let folded = || fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        if let Some(found) = fields.get(name).or_else(|| folded().map(|(_, value)| value)) {
            return Ok(found.clone());
        }
        if value == self.root {
            return Err(format!("there is no field {name}"));
        }
        // What is left out of JSON is empty; in a map of somebody's own keys there is nothing.
        let is_struct =
            !fields.is_empty() && fields.keys().all(|k| k.starts_with(|c: char| c.is_uppercase()));
        Ok(if is_struct { "".into() } else { Value::Null })
    }
}
