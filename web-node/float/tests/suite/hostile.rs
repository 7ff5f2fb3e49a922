//! Graphs from strangers: refused by name, and never a panic.

use super::{MODELS, file, inputs, open};
use nesa_float::{FloatError, Graph, Limits};
use prost::Message as _;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    tensor_proto::DataLocation,
};

fn changed(name: &str, change: impl FnOnce(&mut GraphProto)) -> Result<Graph, FloatError> {
    let mut model = ModelProto::decode(&file(name)[..]).expect("committed");
    change(model.graph.as_mut().expect("a graph"));
    Graph::open(&model.encode_to_vec(), Limits::default())
}

fn node(operator: &str) -> NodeProto {
    NodeProto {
        name: "bad".into(),
        op_type: operator.into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        ..NodeProto::default()
    }
}

#[test]
fn what_is_refused_is_named() {
    let refused = |error: Result<Graph, FloatError>| error.expect_err("refused").to_string();
    let unknown = refused(changed("mlp", |graph| graph.node.push(node("Loop"))));
    assert_eq!(unknown, "node \"bad\" is Loop of domain \"\", which the engine does not have");
    let random = refused(changed("mlp", |graph| graph.node.push(node("RandomNormalLike"))));
    assert!(random.contains("\"bad\" is RandomNormalLike"), "{random}");
    let external = refused(changed("mlp", |graph| {
        let tensor = &mut graph.initializer[0];
        tensor.raw_data.clear();
        tensor.data_location = Some(DataLocation::External as i32);
        let entry = |key: &str, value: &str| StringStringEntryProto {
            key: key.into(),
            value: value.into(),
        };
        tensor.external_data = vec![entry("location", "/etc/passwd")];
    }));
    assert!(external.contains("another file"), "{external}");
    let large = refused(changed("mlp", |graph| graph.initializer[0].dims = vec![1 << 40, 1 << 40]));
    assert!(large.contains("1099511627776"), "{large}");
    let negative = refused(changed("mlp", |graph| graph.initializer[0].dims = vec![-1]));
    assert!(negative.contains("[-1]"), "{negative}");
    let nothing = refused(changed("mlp", |graph| graph.output.clear()));
    assert!(nothing.contains("no outputs"), "{nothing}");
    assert!(matches!(Graph::open(&[0xff; 40], Limits::default()), Err(FloatError::Malformed(_))));
    assert!(matches!(Graph::open(&[], Limits::default()), Err(FloatError::Malformed(_))));
}

#[test]
fn limits_hold() {
    let bytes = file("encoder");
    let all = Limits::default();
    let few = |limits| Graph::open(&bytes, limits).expect_err("too large");
    assert!(matches!(few(Limits { bytes: 1000, ..all }), FloatError::Bytes { max: 1000, .. }));
    assert!(matches!(few(Limits { nodes: 3, ..all }), FloatError::Nodes { max: 3 }));
    assert!(matches!(few(Limits { tensor: 100, ..all }), FloatError::Tensor { max: 100, .. }));
    // Weights fit, what a run holds does not.
    let values = Limits { values: 20_000, ..all };
    let mut graph = Graph::open(&bytes, values).expect("the file is small");
    let x = inputs(&graph, 1);
    assert!(matches!(graph.run(&x), Err(FloatError::Values { max: 20_000, .. })));
}

/// What shapes tell is known before anything is computed.
#[test]
fn a_run_that_would_compute_too_much_is_refused() {
    let bytes = file("encoder");
    for operations in [1u64, 100_000] {
        let limits = Limits { operations, ..Limits::default() };
        let mut graph = Graph::open(&bytes, limits).expect("the file is small");
        let x = inputs(&graph, 1);
        let refused = graph.run(&x);
        let Err(FloatError::Operations { got, max, .. }) = refused else { panic!("{refused:?}") };
        assert!(max == operations && got > max, "{got}");
    }
    // Four times the tokens are more than four times the operations: the estimate follows the shapes.
    let counted = |tokens| {
        let limits = Limits { operations: 1, ..Limits::default() };
        let mut graph = Graph::open(&bytes, limits).expect("the file is small");
        let mut recipe = super::recipe();
        recipe.dimensions.insert("tokens".to_owned(), tokens);
        let x = nesa_float::inputs::make(&graph, &recipe, 1).expect("small");
        match graph.run(&x) {
            Err(FloatError::Operations { got, .. }) => got,
            other => panic!("{other:?}"),
        }
    };
    assert!(counted(64) > counted(16), "{} and {}", counted(64), counted(16));
}

/// A size that stands in the file as a number: nothing of that size is set aside.
#[test]
fn a_graph_that_asks_for_too_much_memory_is_refused() {
    let shape = || TensorProto {
        name: "shape".into(),
        dims: vec![3],
        data_type: 7,
        int64_data: vec![1 << 14, 1 << 14, 1 << 14],
        ..TensorProto::default()
    };
    for (operator, input) in [("ConstantOfShape", vec!["shape"]), ("Expand", vec!["x", "shape"])] {
        let input = input.into_iter().map(str::to_owned).collect();
        let fill = NodeProto { input, ..node(operator) };
        let error = changed("mlp", |graph| {
            graph.initializer.push(shape());
            graph.node.push(fill);
            graph.output[0].name = "y".into();
        });
        let error = error.expect_err("too large");
        assert!(matches!(&error, FloatError::Tensor { name, .. } if name == "bad"), "{error:?}");
    }
}

#[test]
fn raw_data_shorter_than_its_shape_is_refused() {
    let graph = changed("mlp", |graph| graph.initializer[0].raw_data.truncate(9));
    let mut graph = graph.expect("seen when it is read");
    let x = inputs(&graph, 1);
    assert!(matches!(graph.run(&x), Err(FloatError::Engine { .. })));
}

/// Bytes flipped all over the files. Whatever still opens and runs gives an answer or an error.
#[test]
fn damaged_files_do_no_harm() {
    for name in MODELS {
        let (bytes, x) = (file(name), inputs(&open(name), 1));
        let limits = Limits { tensor: 1 << 22, values: 1 << 24, ..Limits::default() };
        let step = bytes.len() / 60;
        for place in (0..bytes.len()).step_by(step.max(1)) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x41;
            if let Ok(mut graph) = Graph::open(&damaged, limits)
                && let Ok(answer) = graph.run(&x)
            {
                assert!(answer.consistent(), "{name}, byte {place}");
            }
        }
        for keep in [1, 10, bytes.len() / 2, bytes.len() - 1] {
            let _ = Graph::open(&bytes[..keep], limits).map(|mut graph| graph.run(&x));
        }
    }
}
