//! The library that a camera links to.
