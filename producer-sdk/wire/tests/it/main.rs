//! The reader and writer against each other and against what real producers sent.

mod reader;
mod vectors;
