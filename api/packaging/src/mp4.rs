//! ISO base media boxes.
