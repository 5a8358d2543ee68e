//! What is past keeping, by the clock it is given.
