//! The float lane in plain words: inputs as typed, outputs as read, agreement as evidence.

use nesa_messages::{
    FloatInput, FloatKind, FloatRate, FloatRates, FloatSize, FloatStanding, FloatTensor,
    FloatValues, FloatView, JobState,
};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::{
    format::{plural, thousands},
    sealed::{Mark, chance},
};

/// Values of all inputs together, at most: what fits into one sealed message with room to spare.
pub const MAX_VALUES: usize = 1 << 20;
/// Characters of a text that is read, at most.
pub const MAX_TEXT: usize = 16 << 20;
/// Size of an open dimension in an example, unless it is the first: that is one.
const EXAMPLE_SIZE: u32 = 6;
/// An example with more values than this would only fill the page.
const EXAMPLE_VALUES: usize = 4096;

/// Reads `{"name": [[…]], …}`: arrays of numbers whose nesting is the shape, one for each input.
///
/// # Errors
/// In words, what is wrong and where.
pub fn parse(text: &str, inputs: &[FloatInput]) -> Result<Vec<FloatTensor>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!(
            "The inputs are {} characters long; at most {} can be read.",
            thousands(text.len() as u64),
            thousands(MAX_TEXT as u64)
        ));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| format!("No JSON: {error}."))?;
    let Value::Object(given) = value else {
        return Err("Write one object: a name and an array for each input.".to_owned());
    };
    let names = || inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = given.keys().find(|name| !inputs.iter().any(|i| i.name == **name)) {
        return Err(format!("There is no input {name:?}. The model takes {}.", names()));
    }
    let mut sizes = BTreeMap::new();
    let mut left = MAX_VALUES;
    inputs
        .iter()
        .map(|input| {
            let value = given.get(&input.name);
            let value = value.ok_or_else(|| format!("Input {:?} is missing.", input.name))?;
            one(input, value, &mut sizes, &mut left)
        })
        .collect()
}

fn one<'a>(
    input: &'a FloatInput,
    value: &Value,
    sizes: &mut BTreeMap<&'a str, u32>,
    left: &mut usize,
) -> Result<FloatTensor, String> {
    let name = &input.name;
    let (mut shape, mut inner) = (Vec::new(), value);
    while let Value::Array(items) = inner {
        shape.push(u32::try_from(items.len()).unwrap_or(u32::MAX));
        match items.first() {
            Some(first) => inner = first,
            None => break,
        }
    }
    let fits = |(size, &got): (&'a FloatSize, &u32)| match size {
        FloatSize::Fixed(size) => *size == got,
        // The first input that names a size says what it is.
        FloatSize::Open(name) => *sizes.entry(name.as_str()).or_insert(got) == got,
    };
    let same = shape.len() == input.shape.len();
    if !same || !input.shape.iter().zip(&shape).all(fits) {
        let expected = shape_words(&input.shape);
        return Err(format!("Input {name:?} has shape {shape:?}, expected {expected}."));
    }
    let mut numbers = Vec::new();
    flatten(value, &shape, name, left, &mut numbers)?;
    let not = |what: &str| format!("Input {name:?} takes {what}.");
    let values = match input.kind {
        FloatKind::Floats => {
            let all = numbers.iter().map(|v| v.as_f64().map(|v| Some(v as f32)));
            FloatValues::Floats(all.collect::<Option<_>>().ok_or_else(|| not("numbers"))?)
        }
        FloatKind::Integers => {
            let all = numbers.iter().map(|v| v.as_i64());
            FloatValues::Integers(all.collect::<Option<_>>().ok_or_else(|| not("whole numbers"))?)
        }
        FloatKind::Booleans => {
            let all = numbers.iter().map(|v| v.as_bool());
            FloatValues::Booleans(all.collect::<Option<_>>().ok_or_else(|| not("true and false"))?)
        }
    };
    Ok(FloatTensor { name: name.clone(), shape, values })
}

fn flatten<'a>(
    value: &'a Value,
    shape: &[u32],
    name: &str,
    left: &mut usize,
    out: &mut Vec<&'a Value>,
) -> Result<(), String> {
    match (value, shape.split_first()) {
        (Value::Array(items), Some((&size, rest))) if items.len() == size as usize => {
            items.iter().try_for_each(|item| flatten(item, rest, name, left, out))
        }
        (Value::Array(_), _) | (_, Some(_)) => {
            Err(format!("Input {name:?} has arrays of different lengths."))
        }
        (value, None) => {
            let fewer = left.checked_sub(1);
            *left = fewer.ok_or_else(|| {
                format!("More than {} numbers in all.", thousands(MAX_VALUES as u64))
            })?;
            out.push(value);
            Ok(())
        }
    }
}

/// A shape in words: `[batch, 32]`.
pub fn shape_words(shape: &[FloatSize]) -> String {
    let size = |size: &FloatSize| match size {
        FloatSize::Fixed(size) => size.to_string(),
        FloatSize::Open(name) => name.clone(),
    };
    format!("[{}]", shape.iter().map(size).collect::<Vec<_>>().join(", "))
}

/// What an input takes, in one line: `x: numbers, [batch, 32]`.
pub fn input_words(input: &FloatInput) -> String {
    let kind = match input.kind {
        FloatKind::Floats => "numbers",
        FloatKind::Integers => "whole numbers",
        FloatKind::Booleans => "true or false",
    };
    format!("{}: {kind}, {}", input.name, shape_words(&input.shape))
}

/// Inputs that a model takes, made up so that there is something to send; empty for very large ones.
pub fn example(inputs: &[FloatInput]) -> String {
    let lines: Option<Vec<String>> = inputs
        .iter()
        .map(|input| {
            let sizes: Vec<u32> = input
                .shape
                .iter()
                .enumerate()
                .map(|(place, size)| match size {
                    FloatSize::Fixed(size) => *size,
                    FloatSize::Open(_) if place == 0 => 1,
                    FloatSize::Open(_) => EXAMPLE_SIZE,
                })
                .collect();
            let count = sizes.iter().try_fold(1usize, |all, &v| all.checked_mul(v as usize));
            count.filter(|&count| count <= EXAMPLE_VALUES)?;
            let mut next = 0;
            let values = nested(&sizes, &mut || {
                next += 1;
                made_up(input, next)
            });
            Some(format!("  {}: {values}", Value::from(input.name.as_str())))
        })
        .collect();
    lines.map(|lines| format!("{{\n{}\n}}", lines.join(",\n"))).unwrap_or_default()
}

fn nested(sizes: &[u32], next: &mut impl FnMut() -> String) -> String {
    match sizes.split_first() {
        None => next(),
        Some((&size, rest)) => {
            let items: Vec<String> = (0..size).map(|_| nested(rest, next)).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

fn made_up(input: &FloatInput, place: u32) -> String {
    match input.kind {
        FloatKind::Booleans => "true".to_owned(),
        FloatKind::Integers if input.name.contains("mask") => "1".to_owned(),
        FloatKind::Integers if input.name.contains("type") => "0".to_owned(),
        FloatKind::Integers => (place * 7 % 10).to_string(),
        // Hundredths from -1 to 1.
        FloatKind::Floats => {
            let hundredths = i64::from(place * 37 % 201) - 100;
            format!("{:.2}", hundredths as f64 / 100.0)
        }
    }
}

/// One value of an output, for reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Where it stands: `0, 3`.
    pub place: String,
    /// The value.
    pub value: String,
    /// Its size beside the largest, in percent.
    pub percent: u8,
}

/// The largest values of an output, the first of equals first; numbers that are none come last.
pub fn greatest(output: &FloatTensor, count: usize) -> Vec<Shown> {
    let sizes: Vec<f64> = match &output.values {
        FloatValues::Floats(all) => {
            all.iter().map(|v| v.map_or(f64::NEG_INFINITY, f64::from)).collect()
        }
        FloatValues::Integers(all) => all.iter().map(|&v| v as f64).collect(),
        FloatValues::Booleans(all) => all.iter().map(|&v| f64::from(u8::from(v))).collect(),
    };
    let text = |at: usize| match &output.values {
        FloatValues::Floats(all) => match all.get(at).copied().flatten() {
            Some(v) => v.to_string(),
            None => "no number".to_owned(),
        },
        FloatValues::Integers(all) => all.get(at).copied().unwrap_or_default().to_string(),
        FloatValues::Booleans(all) => all.get(at).copied().unwrap_or_default().to_string(),
    };
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| sizes[b].total_cmp(&sizes[a]).then(a.cmp(&b)));
    let most = order.first().map_or(0.0, |&at| sizes[at]).abs();
    order
        .into_iter()
        .take(count)
        .map(|at| {
            let size = sizes[at];
            let percent = if most > 0.0 { (size / most * 100.0).clamp(0.0, 100.0) } else { 0.0 };
            Shown { place: place(at, &output.shape), value: text(at), percent: percent as u8 }
        })
        .collect()
}

/// The indices of a value in row-major order.
fn place(mut at: usize, shape: &[u32]) -> String {
    let mut indices: Vec<String> = shape
        .iter()
        .rev()
        .map(|&size| {
            let index = at % (size as usize).max(1);
            at /= (size as usize).max(1);
            index.to_string()
        })
        .collect();
    indices.reverse();
    if indices.is_empty() { "alone".to_owned() } else { indices.join(", ") }
}

/// All outputs as JSON: name, then shape and values.
pub fn json(outputs: &[FloatTensor]) -> String {
    let one = |output: &FloatTensor| {
        let data = match &output.values {
            FloatValues::Floats(all) => serde_json::to_value(all),
            FloatValues::Integers(all) => serde_json::to_value(all),
            FloatValues::Booleans(all) => serde_json::to_value(all),
        };
        let data = data.unwrap_or_default();
        (output.name.clone(), serde_json::json!({ "shape": output.shape, "data": data }))
    };
    Value::Object(outputs.iter().map(one).collect()).to_string()
}

/// A rate in words: `none in 500 trials; with 95 % confidence at most 0.7 %`.
pub fn rate(rate: &FloatRate) -> String {
    if rate.trials == 0 {
        return "never tried".to_owned();
    }
    let errors = match rate.errors {
        0 => "none".to_owned(),
        errors => thousands(errors.into()),
    };
    let trials = plural(rate.trials.into(), "trial");
    let upper = chance(rate.upper);
    let upper = upper.split(',').next().unwrap_or_default();
    format!("{errors} in {trials}; with 95\u{a0}% confidence at most {upper}")
}

/// What the rates say together, in a sentence.
pub fn evidence(rates: &FloatRates) -> String {
    let passed: Vec<&FloatRate> =
        rates.classes.iter().filter(|class| class.demanded && class.trials > 0).collect();
    let worst = passed.iter().max_by(|a, b| a.upper.total_cmp(&b.upper));
    let Some(worst) = worst else {
        return "Nothing was measured that this rests on.".to_owned();
    };
    let names: Vec<&str> = passed.iter().map(|class| class.name.as_str()).collect();
    let first = |text: String| text.split(',').next().unwrap_or_default().to_owned();
    format!(
        "In trials beforehand a node with {} came as near in at most {} of all cases, and honest machines were told apart in at most {}.",
        names.join(" or a "),
        first(chance(worst.upper)),
        first(chance(rates.honest.upper)),
    )
}

/// Parts of a billion as a ratio: `3.1e-7 of the largest output`.
pub fn parts(ppb: u32) -> String {
    match ppb {
        0 => "none at all".to_owned(),
        ppb => format!("{:.1e} of the largest", f64::from(ppb) / 1e9),
    }
}

/// The mark of an answer of the float lane. None is green.
pub fn mark(view: &FloatView, state: JobState) -> Mark {
    let of = |name, label, words| Mark { name, label, words };
    match (view.standing, state) {
        (FloatStanding::Disagreed, _) => of(
            "disputed",
            "The nodes disagree",
            "Their answers differ by more than those of honest machines. No majority comes near each other, so there is no answer.",
        ),
        (FloatStanding::Undecided, _) => of(
            "unverified",
            "Undecided",
            "Too little came back to compare. There is no answer to rely on.",
        ),
        (FloatStanding::Broken, _) => of(
            "disputed",
            "Do not rely on this",
            "A node published another answer on the chain than it told this device.",
        ),
        (FloatStanding::Agreed, JobState::Answered) => of(
            "evidence",
            "Statistical evidence",
            "A majority of the nodes comes as near to each other as honest machines do. They have yet to publish that they stand by it.",
        ),
        (FloatStanding::Revealed, JobState::Answered) => of(
            "evidence",
            "Statistical evidence",
            "A majority of the nodes comes as near to each other as honest machines do, and stands by it. That is likely, not certain.",
        ),
        (FloatStanding::Unrevealed, _) => of(
            "unverified",
            "Weak evidence",
            "The nodes came near to each other, but not all of them stood by it in time.",
        ),
        (_, JobState::Running) => {
            of("provisional", "No evidence yet", "The nodes compute; then they are compared.")
        }
        _ => of("unverified", "No evidence", "The query ended before the nodes were compared."),
    }
}

/// How many agree: `2 of 3 nodes agree`.
pub fn agreement(view: &FloatView) -> String {
    let agreed = view.nodes.iter().filter(|node| node.agrees).count();
    format!("{agreed} of {} agree", plural(view.replicas.into(), "node"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nesa_messages::FloatNode;

    fn input(name: &str, kind: FloatKind, shape: Vec<FloatSize>) -> FloatInput {
        FloatInput { name: name.into(), kind, shape }
    }

    fn open(name: &str) -> FloatSize {
        FloatSize::Open(name.into())
    }

    fn encoder() -> Vec<FloatInput> {
        let shape = || vec![open("batch"), open("tokens")];
        vec![
            input("input_ids", FloatKind::Integers, shape()),
            input("attention_mask", FloatKind::Integers, shape()),
        ]
    }

    #[test]
    fn nesting_is_the_shape_and_inputs_stand_in_the_models_order() {
        let text = r#"{"attention_mask": [[1, 1, 0]], "input_ids": [[5, 6, 7]]}"#;
        let inputs = parse(text, &encoder()).unwrap();
        assert_eq!(inputs[0].name, "input_ids");
        assert_eq!(inputs[0].shape, [1, 3]);
        assert_eq!(inputs[0].values, FloatValues::Integers(vec![5, 6, 7]));
        let fixed = [input("x", FloatKind::Floats, vec![FloatSize::Fixed(1), FloatSize::Fixed(2)])];
        let x = parse(r#"{"x": [[1, 2.5]]}"#, &fixed).unwrap();
        assert_eq!(x[0].values, FloatValues::Floats(vec![Some(1.0), Some(2.5)]));
        let yes = [input("b", FloatKind::Booleans, vec![])];
        let b = parse(r#"{"b": true}"#, &yes).unwrap();
        assert_eq!((b[0].shape.len(), &b[0].values), (0, &FloatValues::Booleans(vec![true])));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let fixed = [input("x", FloatKind::Floats, vec![FloatSize::Fixed(1), FloatSize::Fixed(2)])];
        for (inputs, text, words) in [
            (encoder(), "[1]", "one object"),
            (encoder(), "{", "No JSON"),
            (encoder(), r#"{"ids": [[1]]}"#, "no input \"ids\". The model takes input_ids, att"),
            (encoder(), r#"{"input_ids": [[1]]}"#, "\"attention_mask\" is missing"),
            (encoder(), r#"{"input_ids": [[1, 2], [3]], "attention_mask": [[1]]}"#, "different"),
            (encoder(), r#"{"input_ids": [[1.5]], "attention_mask": [[1]]}"#, "whole numbers"),
            (encoder(), r#"{"input_ids": [["1"]], "attention_mask": [[1]]}"#, "whole numbers"),
            // One size, named twice.
            (encoder(), r#"{"input_ids": [[1, 2]], "attention_mask": [[1]]}"#, "[1, 1], expected"),
            (encoder(), r#"{"input_ids": [1], "attention_mask": [[1]]}"#, "[1], expected [batch"),
            (fixed.to_vec(), r#"{"x": [[1, 2, 3]]}"#, "[1, 3], expected [1, 2]"),
            (fixed.to_vec(), r#"{"x": [[1, null]]}"#, "takes numbers"),
        ] {
            let error = parse(text, &inputs).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let many = [input("x", FloatKind::Integers, vec![open("n")])];
        let text = format!("{{\"x\": [{}1]}}", "1,".repeat(MAX_VALUES));
        assert!(parse(&text, &many).unwrap_err().contains("More than 1"));
        let long = " ".repeat(MAX_TEXT + 1);
        assert!(parse(&long, &many).unwrap_err().contains("at most"));
    }

    #[test]
    fn an_example_is_an_input() {
        let mut inputs = encoder();
        inputs.push(input("x", FloatKind::Floats, vec![open("batch"), FloatSize::Fixed(3)]));
        inputs.push(input("b", FloatKind::Booleans, vec![]));
        let tensors = parse(&example(&inputs), &inputs).unwrap();
        assert_eq!(tensors.len(), 4);
        assert_eq!(tensors[0].shape, [1, EXAMPLE_SIZE]);
        assert_eq!(tensors[1].values, FloatValues::Integers(vec![1; EXAMPLE_SIZE as usize]));
        let FloatValues::Floats(x) = &tensors[2].values else { panic!("numbers") };
        assert!(x.iter().flatten().all(|v| v.abs() <= 1.0));
        let large = [input("x", FloatKind::Floats, vec![FloatSize::Fixed(1 << 20)])];
        assert_eq!(example(&large), "");
    }

    #[test]
    fn the_greatest_values_come_first_with_their_places() {
        let values = FloatValues::Floats(vec![Some(0.25), None, Some(-1.0), Some(0.5)]);
        let output = FloatTensor { name: "y".into(), shape: vec![2, 2], values };
        let shown = greatest(&output, 3);
        let of =
            |at: usize| (shown[at].place.as_str(), shown[at].value.as_str(), shown[at].percent);
        assert_eq!(of(0), ("1, 1", "0.5", 100));
        assert_eq!(of(1), ("0, 0", "0.25", 50));
        assert_eq!(of(2), ("1, 0", "-1", 0));
        assert_eq!(greatest(&output, 9)[3].value, "no number");
        let alone =
            FloatTensor { values: FloatValues::Integers(vec![7]), ..FloatTensor::default() };
        assert_eq!(greatest(&alone, 1)[0].place, "alone");
        let text = json(&[output]);
        assert_eq!(text, r#"{"y":{"data":[0.25,null,-1.0,0.5],"shape":[2,2]}}"#);
    }

    #[test]
    fn rates_are_said_with_their_bounds() {
        let honest = FloatRate { trials: 500, errors: 1, upper: 0.0111, ..FloatRate::default() };
        assert_eq!(rate(&honest), "1 in 500 trials; with 95\u{a0}% confidence at most 1.1\u{a0}%");
        let none = FloatRate { trials: 500, upper: 0.0073, ..FloatRate::default() };
        assert!(rate(&none).starts_with("none in 500 trials"), "{}", rate(&none));
        assert_eq!(rate(&FloatRate::default()), "never tried");
        let classes = vec![
            FloatRate { name: "int8 weights".into(), demanded: true, ..none.clone() },
            FloatRate { name: "swapped model".into(), demanded: true, ..none.clone() },
            FloatRate { name: "weights moved by 1 ppm".into(), upper: 0.87, ..none },
        ];
        let said = evidence(&FloatRates { honest, classes, ..FloatRates::default() });
        assert!(said.contains("int8 weights or a swapped model"), "{said}");
        assert!(said.contains("0.73\u{a0}%") && said.contains("1.1\u{a0}%"), "{said}");
        assert!(evidence(&FloatRates::default()).starts_with("Nothing was measured"));
        assert_eq!(parts(310), "3.1e-7 of the largest");
    }

    /// Whatever the standing: no mark is the green one, and none says verified, right or proved.
    #[test]
    fn no_mark_promises_more_than_evidence() {
        for standing in [
            FloatStanding::Open,
            FloatStanding::Agreed,
            FloatStanding::Revealed,
            FloatStanding::Unrevealed,
            FloatStanding::Broken,
            FloatStanding::Disagreed,
            FloatStanding::Undecided,
        ] {
            for state in [JobState::Running, JobState::Answered, JobState::Failed] {
                let view = FloatView { standing, ..FloatView::default() };
                let mark = mark(&view, state);
                assert_ne!(mark.name, "agreed");
                let said = format!("{} {}", mark.label, mark.words).to_lowercase();
                for word in ["verified", "proved", "proven", "correct", "right"] {
                    assert!(!said.contains(word), "{standing:?}: {said}");
                }
                let good = matches!(standing, FloatStanding::Agreed | FloatStanding::Revealed);
                assert_eq!(mark.name == "evidence", good && state == JobState::Answered);
            }
        }
        let node = |agrees| FloatNode { agrees, ..FloatNode::default() };
        let nodes = vec![node(true), node(false), node(true)];
        let view = FloatView { replicas: 3, nodes, ..FloatView::default() };
        assert_eq!(agreement(&view), "2 of 3 nodes agree");
    }
}
