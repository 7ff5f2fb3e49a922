//! Compiles safetensors models to the exact form and measures their accuracy.
