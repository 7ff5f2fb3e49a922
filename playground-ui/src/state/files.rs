//! Files in and out of the page.

use js_sys::{Array, Uint8Array};
use leptos::prelude::document;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, BlobPropertyBag, File, HtmlAnchorElement, Url};

/// Largest document taken as text, in bytes: far above what one would pay to embed.
pub(crate) const MAX_DOCUMENT: f64 = 2e6;

/// Reads a dropped file as text.
///
/// # Errors
/// In plain words, naming the file.
pub(crate) async fn read_text(file: &File) -> Result<String, String> {
    let name = file.name();
    if file.size() > MAX_DOCUMENT {
        return Err(format!("{name} is larger than 2 MB"));
    }
    let text = JsFuture::from(file.text()).await.ok().and_then(|t| t.as_string());
    match text {
        Some(text) if text.contains('\0') || text.contains('\u{fffd}') => {
            Err(format!("{name} is not a text file"))
        }
        Some(text) if text.trim().is_empty() => Err(format!("{name} is empty")),
        Some(text) => Ok(text),
        None => Err(format!("{name} could not be read")),
    }
}

/// Reads a dropped file as bytes.
///
/// # Errors
/// In plain words, naming the file.
pub(crate) async fn read_bytes(file: &File) -> Result<Uint8Array, String> {
    /// An opened receipt holds every response of its query; more than this cannot be one.
    const MAX_RECEIPT: f64 = 512e6;
    if file.size() > MAX_RECEIPT {
        return Err(format!("{} is larger than any receipt", file.name()));
    }
    JsFuture::from(file.array_buffer())
        .await
        .map(|buffer| Uint8Array::new(&buffer))
        .map_err(|_| format!("{} could not be read", file.name()))
}

/// Offers bytes to the user as a file, through a link that lives for one click.
pub(crate) fn download(name: &str, mime: &str, bytes: &Uint8Array) -> Result<(), JsValue> {
    let options = BlobPropertyBag::new();
    options.set_type(mime);
    let blob = Blob::new_with_u8_array_sequence_and_options(&Array::of1(bytes), &options)?;
    let url = Url::create_object_url_with_blob(&blob)?;
    let link: HtmlAnchorElement = document().create_element("a")?.unchecked_into();
    link.set_href(&url);
    link.set_download(name);
    link.click();
    Url::revoke_object_url(&url)
}
