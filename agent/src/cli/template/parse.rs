//! From pieces to a tree: what is printed, chosen and repeated.

use serde_json::Value;

use super::lex::{Piece, Token};

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// Commands, each of which has the value of the one before as its last argument.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pipeline {
    /// Variables that take its value.
    pub(super) variables: Vec<String>,
    /// Whether these are new ones.
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Term>>,
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// A value, and the fields that are asked of it.
    Of(Base, Vec<String>),
    Function(String),
}

/// Where fields begin.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Group(Box<Pipeline>),
}

/// Why a block ends.
#[derive(PartialEq)]
enum End {
    Template,
    Closed,
    Else(Vec<Token>),
}

/// Makes the tree of a template.
pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, String> {
    let mut pieces = pieces.into_iter();
    match block(&mut pieces)? {
        (nodes, End::Template) => Ok(nodes),
        (_, End::Closed) => Err("unexpected {{end}}".to_owned()),
        (_, End::Else(_)) => Err("unexpected {{else}}".to_owned()),
    }
}

fn block(pieces: &mut impl Iterator<Item = Piece>) -> Result<(Vec<Node>, End), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let keyword = match tokens.first() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let rest = || tokens[1..].to_vec();
        match keyword.as_str() {
            "end" => return Ok((nodes, End::Closed)),
            "else" => return Ok((nodes, End::Else(rest()))),
            "break" => nodes.push(Node::Break),
            "continue" => nodes.push(Node::Continue),
            "if" | "with" | "range" => nodes.push(branch(&keyword, rest(), pieces)?),
            "define" | "template" | "block" => {
                return Err(format!("{{{{{keyword}}}}} is not understood here"));
            }
            _ => nodes.push(Node::Print(pipeline(&tokens)?)),
        }
    }
    Ok((nodes, End::Template))
}

fn branch(
    keyword: &str,
    tokens: Vec<Token>,
    pieces: &mut impl Iterator<Item = Piece>,
) -> Result<Node, String> {
    if tokens.is_empty() {
        return Err(format!("missing value for {keyword}"));
    }
    let pipeline = pipeline(&tokens)?;
    let (body, end) = block(pieces)?;
    let otherwise = match end {
        End::Template => return Err("unexpected EOF: an {{end}} is missing".to_owned()),
        End::Closed => Vec::new(),
        End::Else(tokens) => match tokens.split_first() {
            None => match block(pieces)? {
                (otherwise, End::Closed) => otherwise,
                _ => return Err("expected {{end}} after {{else}}".to_owned()),
            },
            // What follows `else if` ends with the same `end`.
            Some((Token::Word(word), rest)) if word == "if" || word == "with" => {
                vec![branch(word, rest.to_vec(), pieces)?]
            }
            Some(_) => return Err("unexpected words after {{else}}".to_owned()),
        },
    };
    Ok(match keyword {
        "if" => Node::If(pipeline, body, otherwise),
        "with" => Node::With(pipeline, body, otherwise),
        _ => Node::Range(pipeline, body, otherwise),
    })
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut pipeline = Pipeline::default();
    let mut tokens = tokens;
    let mark = tokens.iter().position(|t| matches!(t, Token::Mark(":=" | "=")));
    if let Some(at) = mark {
        for token in &tokens[..at] {
            match token {
                Token::Variable(name) => pipeline.variables.push(name.clone()),
                Token::Mark(",") => {}
                _ => return Err("only variables can be set".to_owned()),
            }
        }
        pipeline.declares = tokens[at] == Token::Mark(":=");
        tokens = &tokens[at + 1..];
    }
    let mut tokens = tokens.iter().peekable();
    let (commands, closed) = commands(&mut tokens)?;
    if closed {
        return Err("unexpected right paren".to_owned());
    }
    pipeline.commands = commands;
    Ok(pipeline)
}

type Tokens<'a> = std::iter::Peekable<std::slice::Iter<'a, Token>>;

/// Reads commands up to the end, or up to a parenthesis that closes.
fn commands(tokens: &mut Tokens<'_>) -> Result<(Vec<Vec<Term>>, bool), String> {
    let mut commands = vec![Vec::new()];
    let mut closed = false;
    while let Some(token) = tokens.next() {
        let base = match token {
            Token::Mark(")") => {
                closed = true;
                break;
            }
            Token::Mark("|") => {
                commands.push(Vec::new());
                continue;
            }
            Token::Mark("(") => {
                let (commands, closed) = self::commands(tokens)?;
                if !closed {
                    return Err("unclosed left paren".to_owned());
                }
                Base::Group(Box::new(Pipeline { commands, ..Pipeline::default() }))
            }
            Token::Mark(mark) => return Err(format!("unexpected {mark:?} in command")),
            Token::Dot => Base::Dot,
            Token::Variable(name) => Base::Variable(name.clone()),
            Token::Text(text) => Base::Literal(Value::String(text.clone())),
            Token::Number(text) => Base::Literal(number(text)?),
            Token::Word(word) => match literal(word) {
                Some(value) => Base::Literal(value),
                None => {
                    push(&mut commands, Term::Function(word.clone()));
                    continue;
                }
            },
            Token::Field { name, .. } => {
                let mut fields = vec![name.clone()];
                fields.extend(glued(tokens));
                push(&mut commands, Term::Of(Base::Dot, fields));
                continue;
            }
        };
        let fields = glued(tokens);
        push(&mut commands, Term::Of(base, fields));
    }
    if commands.iter().any(Vec::is_empty) {
        return Err("missing value for command".to_owned());
    }
    Ok((commands, closed))
}

fn push(commands: &mut [Vec<Term>], term: Term) {
    if let Some(last) = commands.last_mut() {
        last.push(term);
    }
}

/// Takes the fields that follow a value without a blank.
fn glued(tokens: &mut Tokens<'_>) -> Vec<String> {
    let mut fields = Vec::new();
    while let Some(Token::Field { name, glued: true }) = tokens.peek() {
        fields.push(name.clone());
        tokens.next();
    }
    fields
}

fn literal(word: &str) -> Option<Value> {
    match word {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        "nil" => Some(Value::Null),
        _ => None,
    }
}

fn number(text: &str) -> Result<Value, String> {
    let whole = text.parse::<i64>().ok().map(Value::from);
    let broken = || text.parse::<f64>().ok().map(Value::from);
    whole.or_else(broken).ok_or_else(|| format!("bad number syntax: {text:?}"))
}
