//! Classifiers from ONNX: the f32 yardstick is onnxruntime's, the exact form keeps its answers, the
//! committed model is what the recipe makes, and other graphs are refused by name.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use nesa_compiler::onnx::{
    Classifier, OnnxError, Samples, compile_classifier, evaluate_classifier,
};
use nesa_model::classifier::ClassifierModel;
use nesa_model::manifest::Layer;
use prost::Message;
use std::path::{Path, PathBuf};

fn digits(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits").join(file)
}

/// Written by tools/train/digits.py: what onnxruntime gives for the first held-out images.
#[test]
fn the_yardstick_equals_onnxruntime() {
    let model = Classifier::open(&digits("digits.onnx")).unwrap();
    assert_eq!((model.image, model.layers.len()), ([1, 8, 8], 9));
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("data/digits_logits.json")).unwrap();
    let samples = Samples::open(&digits("held_out.npy")).unwrap();
    let expected = vectors["probabilities"].as_array().unwrap();
    assert!(expected.len() >= 40);
    for (sample, expected) in samples.iter().zip(expected) {
        let image: Vec<f32> = sample.iter().map(|&v| f32::from(v) / 16.0).collect();
        let logits = model.logits(&image);
        let sum: f32 = logits.iter().map(|l| l.exp()).sum();
        for (logit, expected) in logits.iter().zip(expected.as_array().unwrap()) {
            assert!((f64::from(logit.exp() / sum) - expected.as_f64().unwrap()).abs() < 1e-4);
        }
    }
}

#[test]
fn the_committed_model_is_what_the_recipe_makes_and_as_good() {
    let original = Classifier::open(&digits("digits.onnx")).unwrap();
    let calibration = Samples::open(&digits("calibration.npy")).unwrap();
    let made = compile_classifier(&original, &calibration, 16).unwrap();
    let committed = std::fs::read(digits("digits.nesa")).unwrap();
    assert_eq!(made.to_file(), committed);

    let exact = ClassifierModel::open(&made).unwrap();
    let samples = Samples::open(&digits("held_out.npy")).unwrap();
    let labels = Samples::open(&digits("held_out_labels.npy")).unwrap();
    let accuracy = evaluate_classifier(&original, &exact, &samples, &labels).unwrap();
    assert_eq!(accuracy.samples, 360);
    assert!(accuracy.original > 0.98 && accuracy.exact > 0.98, "{accuracy:?}");
    assert!(accuracy.agreement > 0.995, "{accuracy:?}");

    let refused = evaluate_classifier(&original, &exact, &samples, &samples).unwrap_err();
    assert!(matches!(refused, OnnxError::Samples(_)), "{refused}");
    assert!(compile_classifier(&original, &labels, 16).is_err());
    assert!(compile_classifier(&original, &calibration, 15).is_err());
}

/// The messages of onnx.proto that these tests write.
mod write {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Model {
        #[prost(message, optional, tag = "7")]
        pub(super) graph: Option<Graph>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub(super) node: Vec<Node>,
        #[prost(message, repeated, tag = "5")]
        pub(super) initializer: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub(super) input: Vec<Value>,
        #[prost(message, repeated, tag = "12")]
        pub(super) output: Vec<Value>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Node {
        #[prost(string, repeated, tag = "1")]
        pub(super) input: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub(super) output: Vec<String>,
        #[prost(string, tag = "4")]
        pub op_type: String,
        #[prost(message, repeated, tag = "5")]
        pub(super) attribute: Vec<Attribute>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Attribute {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int64, tag = "3")]
        pub(super) i: i64,
        #[prost(int64, repeated, tag = "8")]
        pub(super) ints: Vec<i64>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        pub(super) dims: Vec<i64>,
        #[prost(int32, tag = "2")]
        pub data_type: i32,
        #[prost(float, repeated, tag = "4")]
        pub float_data: Vec<f32>,
        #[prost(int64, repeated, tag = "7")]
        pub int64_data: Vec<i64>,
        #[prost(string, tag = "8")]
        pub(super) name: String,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Value {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, optional, tag = "2")]
        pub(super) r#type: Option<Type>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Type {
        #[prost(message, optional, tag = "1")]
        pub(super) tensor: Option<TensorType>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct TensorType {
        #[prost(int32, tag = "1")]
        pub elem_type: i32,
        #[prost(message, optional, tag = "2")]
        pub(super) shape: Option<Shape>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub(super) dim: Vec<Dimension>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Dimension {
        #[prost(int64, tag = "1")]
        pub(super) value: i64,
    }
}

/// A graph on images of this shape; each node takes what the one before gives, then its own tensors.
struct Chain {
    graph: write::Graph,
    last: String,
}

impl Chain {
    fn new(shape: &[i64]) -> Self {
        let dim = shape.iter().map(|&value| write::Dimension { value }).collect();
        let shape = Some(write::Shape { dim });
        let tensor = Some(write::TensorType { elem_type: 1, shape });
        let r#type = Some(write::Type { tensor });
        let input = vec![write::Value { name: "image".into(), r#type }];
        let graph = write::Graph { input, ..Default::default() };
        Self { graph, last: "image".into() }
    }

    fn node(mut self, operator: &str, attributes: &[(&str, &[i64])], tensors: &[&[i64]]) -> Self {
        let output = format!("{operator}{}", self.graph.node.len());
        let mut input = vec![self.last];
        for (i, dims) in tensors.iter().enumerate() {
            let name = format!("{output}.{i}");
            let count = dims.iter().product::<i64>() as usize;
            // Different everywhere, small, of both signs.
            let float_data = (0..count).map(|i| (i * 37 % 19) as f32 / 19.0 - 0.4).collect();
            let tensor = write::Tensor {
                dims: dims.to_vec(),
                data_type: 1,
                float_data,
                name: name.clone(),
                ..Default::default()
            };
            self.graph.initializer.push(tensor);
            input.push(name);
        }
        let attribute = attributes
            .iter()
            .map(|(name, ints)| write::Attribute {
                name: (*name).into(),
                i: ints[0],
                ints: ints.to_vec(),
            })
            .collect();
        let op_type = operator.into();
        self.graph.node.push(write::Node {
            input,
            output: vec![output.clone()],
            op_type,
            attribute,
        });
        self.last = output;
        self
    }

    /// A reshape to `to`.
    fn reshape(mut self, to: &[i64]) -> Self {
        let name = format!("shape{}", self.graph.node.len());
        self = self.node("Reshape", &[], &[]);
        if let Some(node) = self.graph.node.last_mut() {
            node.input.push(name.clone());
        }
        let (dims, int64_data) = (vec![to.len() as i64], to.to_vec());
        let tensor = write::Tensor { dims, data_type: 7, int64_data, name, ..Default::default() };
        self.graph.initializer.push(tensor);
        self
    }

    fn open(mut self) -> Result<Classifier, OnnxError> {
        self.graph.output = vec![write::Value { name: self.last, r#type: None }];
        Classifier::parse(&write::Model { graph: Some(self.graph) }.encode_to_vec(), "chain")
    }
}

#[test]
fn every_operator_reaches_the_exact_form() {
    let pool: &[(&str, &[i64])] = &[("kernel_shape", &[2, 2]), ("strides", &[2, 1])];
    let padded: &[(&str, &[i64])] = &[("kernel_shape", &[3, 3]), ("pads", &[1, 0, 1, 1])];
    let model = Chain::new(&[0, 12])
        .reshape(&[-1, 2, 3, 2])
        .reshape(&[-1, 1, 4, 3])
        .node("Conv", &[("pads", &[1, 1, 1, 1])], &[&[3, 1, 3, 3], &[3]])
        .node("Relu", &[], &[])
        .node("MaxPool", padded, &[])
        .node("Conv", &[], &[&[2, 3, 1, 1]])
        .node("AveragePool", pool, &[])
        .node("Identity", &[], &[])
        .node("Conv", &[("group", &[1])], &[&[4, 2, 1, 1]])
        .node("GlobalAveragePool", &[], &[])
        .node("Flatten", &[("axis", &[1])], &[])
        .node("MatMul", &[], &[&[4, 6]])
        .node("Add", &[], &[&[6]])
        .node("Relu", &[], &[])
        .node("Gemm", &[("transB", &[1])], &[&[5, 6], &[5]])
        .node("Dropout", &[], &[])
        .node("Gemm", &[], &[&[5, 3]])
        .node("LogSoftmax", &[], &[])
        .open()
        .unwrap();
    assert_eq!(model.layers.last(), Some(&Layer::Dense { outputs: 3 }));
    assert_eq!((model.image, model.linear.len()), ([1, 4, 3], 6));

    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (30, 4, 3), }\n";
    let values = (0..360u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    let len = (header.len() as u16).to_le_bytes();
    let start = [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes()].concat();
    let file: Vec<u8> = start.into_iter().chain(values).collect();
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("samples.npy");
    std::fs::write(&path, file).unwrap();
    let samples = Samples::open(&path).unwrap();
    let exact = ClassifierModel::open(&compile_classifier(&model, &samples, 255).unwrap()).unwrap();

    // Logits stand in the same relation to the original's everywhere.
    let images: Vec<&[u8]> = samples.iter().collect();
    let run = nesa_model::classifier::ClassifierRun::start(&exact, &images).unwrap();
    let all = run.run(&nesa_model::PlainClassifier(&exact)).unwrap();
    let floats =
        |image: &[u8]| -> Vec<f32> { image.iter().map(|&v| f32::from(v) / 255.0).collect() };
    let pairs: Vec<(f64, f64)> = images
        .iter()
        .zip(&all)
        .flat_map(|(image, exact)| {
            let original = model.logits(&floats(image));
            original
                .into_iter()
                .map(f64::from)
                .zip(exact.iter().map(|&e| f64::from(e)))
                .collect::<Vec<_>>()
        })
        .collect();
    let sum = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>();
    let cosine = sum(&|p| p.0 * p.1) / (sum(&|p| p.0 * p.0) * sum(&|p| p.1 * p.1)).sqrt();
    assert!(cosine > 0.9995, "{cosine}");
}

#[test]
fn what_is_not_supported_is_named() {
    let conv = |attributes: &[(&str, &[i64])], weight: &[i64]| {
        Chain::new(&[1, 2, 8, 8]).node("Conv", attributes, &[weight])
    };
    let refused = |chain: Chain, parts: &[&str]| {
        let error = chain.open().unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error}, expected {part}");
        }
    };
    let image = || Chain::new(&[1, 2, 8, 8]);
    refused(
        image().node("Sigmoid", &[], &[]),
        &["Sigmoid0", "unknown operator", "Conv, BatchNormalization"],
    );
    refused(conv(&[("group", &[2])], &[4, 2, 3, 3]), &["Conv0", "2 groups"]);
    refused(conv(&[("group", &[0])], &[4, 2, 3, 3]), &["Conv0", "0 groups"]);
    refused(conv(&[("group", &[2])], &[3, 1, 3, 3]), &["Conv0", "2 groups"]);
    refused(conv(&[("dilations", &[4, 4])], &[4, 2, 3, 3]), &["windows within"]);
    refused(conv(&[("dilations", &[65535, 65535])], &[4, 2, 3, 3]), &["Conv0"]);
    refused(conv(&[], &[4, 3, 3, 3]), &["2 channels"]);
    refused(conv(&[], &[4, 2, 9, 9]), &["windows within"]);
    refused(conv(&[("strides", &[0, 1])], &[4, 2, 3, 3]), &["windows within"]);
    refused(conv(&[("pads", &[-1, 0, 0, 0])], &[4, 2, 3, 3]), &["two dimensions"]);
    refused(image().node("Gemm", &[], &[&[127, 3]]), &["[127, 3]", "128 values"]);
    refused(image().node("Flatten", &[("axis", &[2])], &[]), &["axis 2"]);
    refused(image().node("Softmax", &[], &[]).node("Relu", &[], &[]), &["Relu1", "softmax"]);
    refused(image().node("Add", &[], &[&[8]]), &["Add0", "bias of a MatMul"]);
    refused(
        image().node("MaxPool", &[("kernel_shape", &[2, 2]), ("ceil_mode", &[1])], &[]),
        &["ceil"],
    );
    let pads: &[(&str, &[i64])] = &[("kernel_shape", &[2, 2]), ("pads", &[1, 1, 1, 1])];
    refused(image().node("AveragePool", pads, &[]), &["averages without pads"]);
    refused(image().node("Relu", &[], &[]).reshape(&[-1, 8, 4, 4]), &["Reshape1"]);
    refused(Chain::new(&[1, 2, 8, 8, 8]), &["input image"]);
    refused(Chain::new(&[1, 2, -8, 8]), &["input image"]);
    let mut branch = image().node("Relu", &[], &[]).node("Relu", &[], &[]);
    branch.graph.node[1].input = vec!["nowhere".into()];
    refused(branch, &["Relu1", "takes nowhere", "nodes in order"]);
    // Sums and joins that do not fit, with the node's name.
    let two = |operator: &str, second: &str| {
        let mut chain = conv(&[], &[2, 2, 3, 3]).node(operator, &[("axis", &[1])], &[]);
        chain.graph.node[1].input.push(second.into());
        chain
    };
    refused(two("Add", "image"), &["Add1", "[2, 6, 6] and [2, 8, 8]"]);
    refused(two("Concat", "image"), &["Concat1", "[2, 6, 6] and [2, 8, 8]"]);
    refused(two("Mul", "Conv0"), &["Mul1", "2 computed tensors"]);
    let mut last = two("Concat", "Conv0");
    last.graph.node[1].attribute[0].i = 2;
    refused(last, &["Concat1", "another axis"]);
    let norm = |channels: &[i64]| image().node("BatchNormalization", &[], &[channels; 4]);
    refused(norm(&[3]), &["BatchNormalization0", "3 values, expected 2"]);
    let mut negative = norm(&[2]);
    negative.graph.initializer[3].float_data = vec![-1.0; 2];
    refused(negative, &["BatchNormalization0", "variance"]);
    refused(image().node("ReduceMean", &[("axes", &[1, 2])], &[]), &["ReduceMean0", "[1, 2]"]);
    let mut nan = conv(&[], &[1, 2, 1, 1]);
    nan.graph.initializer[0].float_data[0] = f32::NAN;
    refused(nan, &["Conv0.0", "not finite"]);
    let mut short = conv(&[], &[1, 2, 3, 3]);
    short.graph.initializer[0].float_data.pop();
    refused(short, &["17 values, expected 18"]);
    for dims in [[i64::MAX, 2, 3, 3], [65536, 2, 65535, 65535], [0, 2, 3, 3], [-1, 2, 3, 3]] {
        let mut huge = conv(&[], &[1, 2, 3, 3]);
        huge.graph.initializer[0].dims = dims.to_vec();
        refused(huge, &["Conv0"]);
    }
    refused(Chain::new(&[1, 12]).reshape(&[-1, i64::MAX, i64::MAX]), &["Reshape0"]);
    assert!(Classifier::parse(b"\xff\xff\xff\xff", "x").is_err());
    assert!(Classifier::parse(b"", "x").is_err());
}

/// Residual sums, joined channels, groups, dilations, padding by name and normalisations: `tools/conformance/
/// onnx_branches.py` made the model and asked onnxruntime for the logits.
#[test]
fn branches_equal_onnxruntime() {
    #[derive(serde::Deserialize)]
    struct Case {
        images: Vec<Vec<u8>>,
        logits: Vec<Vec<f32>>,
    }
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let case: Case =
        serde_json::from_str(&std::fs::read_to_string(format!("{data}/branches.json")).unwrap())
            .unwrap();
    let model = Classifier::open(Path::new(&format!("{data}/branches.onnx"))).unwrap();
    let kinds = |of: fn(&Layer) -> bool| model.layers.iter().filter(|l| of(l)).count();
    assert!(kinds(|l| matches!(l, Layer::Add(_))) >= 2);
    assert!(kinds(|l| matches!(l, Layer::Join(_))) >= 2);

    let shape = format!("({}, 3, 10, 9)", case.images.len());
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    let len = (header.len() as u16).to_le_bytes();
    let file = [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), &case.images.concat()].concat();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples.npy");
    std::fs::write(&path, file).unwrap();
    let samples = Samples::open(&path).unwrap();
    let artifact = compile_classifier(&model, &samples, 255).unwrap();
    let exact = ClassifierModel::open(&artifact).unwrap();
    let images: Vec<&[u8]> = samples.iter().collect();
    let run = nesa_model::classifier::ClassifierRun::start(&exact, &images).unwrap();
    let all = run.run(&nesa_model::PlainClassifier(&exact)).unwrap();
    let (mut dot, mut ours, mut theirs) = (0.0, 0.0, 0.0);
    for ((image, exact), expected) in images.iter().zip(&all).zip(&case.logits) {
        let floats: Vec<f32> = image.iter().map(|&v| f32::from(v) / 255.0).collect();
        for (got, expected) in model.logits(&floats).iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4, "{got}, expected {expected}");
        }
        for (e, o) in exact.iter().zip(expected) {
            let (e, o) = (f64::from(*e), f64::from(*o));
            (dot, ours, theirs) = (dot + e * o, ours + e * e, theirs + o * o);
        }
    }
    let cosine = dot / (ours * theirs).sqrt();
    assert!(cosine > 0.9995, "{cosine}");
}
