//! An ONNX graph that runs for hours, though every tensor in it is small: a scan over four million steps,
//! each a product of two matrices.

/// Protobuf: a field that holds bytes.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(field) << 3 | 2);
    out.extend(varint(content.len() as u64));
    out.extend(content);
    out
}

/// Protobuf: a field that holds a number.
fn number(field: u8, value: u64) -> Vec<u8> {
    [varint(u64::from(field) << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn text(field: u8, content: &str) -> Vec<u8> {
    bytes(field, content.as_bytes())
}

/// A float tensor's name and shape.
fn value(field: u8, name: &str, shape: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|&size| bytes(1, &number(1, size))).collect();
    let tensor = [number(1, 1), bytes(2, &dims)].concat();
    bytes(field, &[text(1, name), bytes(2, &bytes(1, &tensor))].concat())
}

/// A constant of 64-bit integers.
fn integers(name: &str, values: &[u64]) -> Vec<u8> {
    let listed: Vec<u8> = values.iter().flat_map(|&v| number(7, v)).collect();
    bytes(5, &[number(1, values.len() as u64), number(2, 7), listed, text(8, name)].concat())
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
    let head = [inputs, text(2, output), text(3, output), text(4, operator)].concat();
    bytes(1, &[&head, attributes].concat())
}

/// The file.
pub(crate) fn graph() -> Vec<u8> {
    const SIDE: u64 = 256;
    const STEPS: u64 = 1 << 22;
    let body = [
        node("MatMul", &["state", "state"], "product", &[]),
        node("Add", &["product", "step"], "next", &[]),
        text(2, "body"),
        value(11, "state", &[SIDE, SIDE]),
        value(11, "step", &[1]),
        value(12, "next", &[SIDE, SIDE]),
    ]
    .concat();
    // Attributes: type 5 is a graph, type 2 an integer.
    let scan = [
        bytes(5, &[text(1, "body"), bytes(6, &body), number(20, 5)].concat()),
        bytes(5, &[text(1, "num_scan_inputs"), number(3, 1), number(20, 2)].concat()),
    ]
    .concat();
    let graph = [
        node("Expand", &["x", "square"], "start", &[]),
        node("Expand", &["x", "long"], "steps", &[]),
        node("Scan", &["start", "steps"], "y", &scan),
        text(2, "slow"),
        integers("square", &[SIDE, SIDE]),
        integers("long", &[STEPS, 1]),
        value(11, "x", &[1]),
        value(12, "y", &[SIDE, SIDE]),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 17))].concat()
}
