//! An image classifier: convolutions, pools and dense layers, each on what the one before put out, or with
//! tensors from further back.

use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error, FixedSize, RangeCfg, Read, ReadExt, Write};

use super::{Name, StageConfig, fixed_record};

/// Most layers a manifest may name.
pub const MAX_CLASSIFIER_LAYERS: usize = 256;

/// A classifier's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassifierManifest {
    /// Human name; the digest, not the name, identifies a model.
    pub name: Name,
    /// What it looks at.
    pub image: ImageConfig,
    /// What happens to it, in order; the last is dense, and its outputs are the classes.
    pub layers: Vec<Layer>,
    /// Arithmetic of each linear stage, one for each convolution and dense layer.
    pub stages: Vec<StageConfig>,
}

/// Shape of an image and range of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// Channels.
    pub channels: u16,
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
    /// Greatest value; the least is 0.
    pub max_value: u8,
}

/// One layer, on a tensor `[channels, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A linear stage on every window; what is outside of the image is 0.
    Convolution {
        /// Channels that come out.
        outputs: u32,
        /// The windows.
        window: Window,
    },
    /// A linear stage on everything.
    Dense {
        /// Values that come out.
        outputs: u32,
    },
    /// Negative values become 0.
    Relu,
    /// The greatest of every window, channel by channel.
    MaxPool(Window),
    /// The mean of every window, channel by channel; no window reaches outside.
    AveragePool(Window),
    /// An earlier tensor instead of the one before: 0 is the image, `i` what layer `i − 1` put out.
    Take(u16),
    /// The sum with an earlier tensor of the same shape.
    Add(u16),
    /// The channels, then those of an earlier tensor with as many rows and columns.
    Join(u16),
}

/// Windows over rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
    /// Rows from one to the next.
    pub stride_y: u16,
    /// Columns from one to the next.
    pub stride_x: u16,
    /// Rows added above.
    pub top: u16,
    /// Columns added on the left.
    pub left: u16,
    /// Rows added below.
    pub bottom: u16,
    /// Columns added on the right.
    pub right: u16,
}

impl ClassifierManifest {
    /// How many classes there are.
    pub fn classes(&self) -> usize {
        match self.layers.last() {
            Some(Layer::Dense { outputs }) => *outputs as usize,
            _ => 0,
        }
    }
}

impl Layer {
    /// The earlier tensor it looks at, if any.
    pub fn earlier(&self) -> Option<usize> {
        match self {
            Self::Take(of) | Self::Add(of) | Self::Join(of) => Some((*of).into()),
            _ => None,
        }
    }

    /// Whether it is a linear stage.
    pub fn is_linear(&self) -> bool {
        matches!(self, Self::Convolution { .. } | Self::Dense { .. })
    }
}

fixed_record!(ImageConfig { channels: u16, height: u16, width: u16, max_value: u8 });
fixed_record!(Window {
    height: u16,
    width: u16,
    stride_y: u16,
    stride_x: u16,
    top: u16,
    left: u16,
    bottom: u16,
    right: u16,
});

impl Write for Layer {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Convolution { outputs, window } => {
                0u8.write(buf);
                outputs.write(buf);
                window.write(buf);
            }
            Self::Dense { outputs } => {
                1u8.write(buf);
                outputs.write(buf);
            }
            Self::Relu => 2u8.write(buf),
            Self::MaxPool(window) => {
                3u8.write(buf);
                window.write(buf);
            }
            Self::AveragePool(window) => {
                4u8.write(buf);
                window.write(buf);
            }
            Self::Take(of) => {
                5u8.write(buf);
                of.write(buf);
            }
            Self::Add(of) => {
                6u8.write(buf);
                of.write(buf);
            }
            Self::Join(of) => {
                7u8.write(buf);
                of.write(buf);
            }
        }
    }
}

impl EncodeSize for Layer {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Convolution { .. } => u32::SIZE + Window::SIZE,
            Self::Dense { .. } => u32::SIZE,
            Self::Relu => 0,
            Self::MaxPool(_) | Self::AveragePool(_) => Window::SIZE,
            Self::Take(_) | Self::Add(_) | Self::Join(_) => u16::SIZE,
        }
    }
}

impl Read for Layer {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        Ok(match u8::read(buf)? {
            0 => Self::Convolution { outputs: u32::read(buf)?, window: Window::read(buf)? },
            1 => Self::Dense { outputs: u32::read(buf)? },
            2 => Self::Relu,
            3 => Self::MaxPool(Window::read(buf)?),
            4 => Self::AveragePool(Window::read(buf)?),
            5 => Self::Take(u16::read(buf)?),
            6 => Self::Add(u16::read(buf)?),
            7 => Self::Join(u16::read(buf)?),
            _ => return Err(Error::Invalid("manifest", "unknown layer")),
        })
    }
}

impl Write for ClassifierManifest {
    fn write(&self, buf: &mut impl BufMut) {
        self.name.write(buf);
        self.image.write(buf);
        self.layers.write(buf);
        self.stages.write(buf);
    }
}

impl EncodeSize for ClassifierManifest {
    fn encode_size(&self) -> usize {
        self.name.encode_size()
            + self.image.encode_size()
            + self.layers.encode_size()
            + self.stages.encode_size()
    }
}

impl Read for ClassifierManifest {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, Error> {
        let name = Name::read(buf)?;
        let image = ImageConfig::read(buf)?;
        let some = RangeCfg::from(1..=MAX_CLASSIFIER_LAYERS);
        let layers: Vec<Layer> = Vec::read_cfg(buf, &(some, ()))?;
        let stages = layers.iter().filter(|l| l.is_linear()).count();
        let stages = Vec::read_cfg(buf, &((stages..=stages).into(), ()))?;
        Ok(Self { name, image, layers, stages })
    }
}
