//! The reader and writer against each other and against what real producers sent.

mod fuzz;
mod random;
mod reader;
mod vectors;
