//! Image classifiers: a model, its run, and the interpreter that defines both.
//!
//! Images are integers, so nothing is lost on the way in. Every convolution is a product of the windows
//! laid out as rows, so that it is a linear stage like any other and can be given to a lane.

pub mod interpreter;
mod model;
mod run;
pub mod toy;

pub use model::{ClassifierModel, best};
pub use run::{ClassifierRun, ImageError, Pending};
