//! Fast integer kernels, each proven equal to the reference.
