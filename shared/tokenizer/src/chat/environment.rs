//! Jinja as `transformers` sets it up for chat templates, within bounds.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

use super::vet::{KEPT, KEPT_INSIDE};

/// Values that a variable may contain, and how deep.
const KEPT_VALUES: usize = 4096;
const KEPT_DEPTH: usize = 16;

/// Parts that a string may be split into.
const PARTS: usize = 1 << 14;

/// Filters that build nested values, lay out text to any width, or escape for HTML.
const REMOVED: [&str; 12] = [
    "batch", "slice", "groupby", "zip", "chain", "map", "pprint", "format", "sum", "attr", "split",
    "lines",
];

/// A template's own refusal, as `raise_exception` is called.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Block tags take the white space before and the line break after them away.
pub(super) fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default()
}

/// An environment without templates. There is no `strftime_now`: a prompt must not depend on when it is
/// made, and templates that ask whether there is one have a date of their own.
pub(super) fn environment(max_bytes: usize) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_syntax(syntax());
    env.set_recursion_limit(64);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(print);
    env.set_unknown_method_callback(move |state, value, method, arguments| {
        call(state, value, method, arguments, max_bytes)
    });
    for name in REMOVED {
        env.remove_filter(name);
    }
    env.remove_global("dict");
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        let error = Error::new(ErrorKind::InvalidOperation, message.clone());
        Err(error.with_source(Raised(message)))
    });
    env.add_filter(KEPT, |state: &State, value: Value| kept(state, value, true));
    env.add_filter(KEPT_INSIDE, |state: &State, value: Value| kept(state, value, false));
    env.add_filter("string", |state: &State, value: Value| {
        simple(state, &value)?;
        Ok::<_, Error>(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    });
    env.add_filter("join", move |state: &State, value: Value, separator: Option<String>| {
        join(state, &value, &separator.unwrap_or_default(), max_bytes)
    });
    env.add_filter("tojson", move |state: &State, value: Value, options: Kwargs| {
        let indent: Option<usize> = options.get("indent")?;
        let sorted: Option<bool> = options.get("sort_keys")?;
        let ascii: Option<bool> = options.get("ensure_ascii")?;
        options.assert_all_used()?;
        if indent.is_some() || sorted == Some(true) || ascii == Some(true) {
            return Err(failed("tojson with options"));
        }
        let mut out = String::new();
        measure(state, &value)?;
        json(&value, &mut out, max_bytes)?;
        Ok(out)
    });
    env
}

fn failed(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn exhausted() -> Error {
    Error::from(ErrorKind::OutOfFuel)
}

/// Lets a value be kept: not too many values inside, and no namespace, which could come to contain itself.
fn kept(state: &State, value: Value, namespace: bool) -> Result<Value, Error> {
    // What is made as it is read is read once and for all.
    let value = match value.kind() {
        ValueKind::Iterable => {
            let values: Vec<Value> = value.try_iter()?.take(KEPT_VALUES + 1).collect();
            Value::from(values)
        }
        _ => value,
    };
    if namespace && is_namespace(&value) {
        for name in value.try_iter()? {
            measure(state, &value.get_item(&name)?)?;
        }
    } else {
        measure(state, &value)?;
    }
    Ok(value)
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|o| o.type_name().ends_with("Namespace"))
}

/// Counts the values inside, each as often as it is contained, and pays for them.
fn measure(state: &State, value: &Value) -> Result<(), Error> {
    let mut room = KEPT_VALUES;
    inside(value, KEPT_DEPTH, &mut room)?;
    state.consume_fuel((KEPT_VALUES - room) as u64)
}

fn inside(value: &Value, depth: usize, room: &mut usize) -> Result<(), Error> {
    *room = room.checked_sub(1).ok_or_else(exhausted)?;
    let container = matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable);
    if !container {
        return Ok(());
    }
    if is_namespace(value) {
        return Err(failed("a namespace inside another value"));
    }
    let depth = depth.checked_sub(1).ok_or_else(exhausted)?;
    let map = value.kind() == ValueKind::Map;
    for item in value.try_iter()? {
        inside(&item, depth, room)?;
        if map {
            inside(&value.get_item(&item)?, depth, room)?;
        }
    }
    Ok(())
}

/// Refuses lists, maps and objects where Python would print a representation.
fn simple(_: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Plain => {
            Err(failed(format!("a {} where text is expected", value.kind())))
        }
        _ => Ok(()),
    }
}

/// Prints as Python does: `None`, `True`, `False`.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    simple(state, value)?;
    let text = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(text).map_err(Error::from)
}

/// Python's methods of strings, lists and dictionaries. Those that can make more than they are given are
/// told how much before they do.
fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
    max_bytes: usize,
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        let argument = |i: usize| arguments.get(i).and_then(Value::as_str).unwrap_or_default();
        match method {
            "replace" => {
                let found = text.matches(argument(0)).count();
                let most = found.saturating_mul(argument(1).len()).saturating_add(text.len());
                if most > max_bytes {
                    return Err(exhausted());
                }
            }
            "split" | "splitlines" => {
                let by = if method == "split" { argument(0) } else { "\n" };
                let parts = match by {
                    "" => text.split_whitespace().count(),
                    by => text.matches(by).count(),
                };
                if parts > PARTS {
                    return Err(exhausted());
                }
            }
            "join" => {
                let list = arguments.first().cloned().unwrap_or_default();
                return join(state, &list, text, max_bytes).map(Value::from);
            }
            "format" => return Err(Error::from(ErrorKind::UnknownMethod)),
            _ => {}
        }
        // Each of them reads the text once or twice.
        state.consume_fuel(text.len() as u64 / 64)?;
    }
    pycompat::unknown_method_callback(state, value, method, arguments)
}

fn join(state: &State, list: &Value, by: &str, max_bytes: usize) -> Result<String, Error> {
    let mut out = String::new();
    for (i, item) in list.try_iter()?.enumerate() {
        state.consume_fuel(1)?;
        simple(state, &item)?;
        if i > 0 {
            out.push_str(by);
        }
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&item.to_string()),
        }
        if out.len() > max_bytes {
            return Err(exhausted());
        }
    }
    Ok(out)
}

/// Python's `json.dumps(value, ensure_ascii=False)`.
fn json(value: &Value, out: &mut String, max_bytes: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                json(&item, out, max_bytes)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                quote(&key.to_string(), out);
                out.push_str(": ");
                json(&value.get_item(&key)?, out, max_bytes)?;
            }
            out.push('}');
        }
        kind => return Err(failed(format!("tojson of a {kind}"))),
    }
    if out.len() > max_bytes { Err(exhausted()) } else { Ok(()) }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
