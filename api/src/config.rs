//! Configuration: defaults, then a TOML file, then the environment, then flags.

/// Everything that can be set.
#[derive(Clone, Debug, Default)]
pub struct Config {}
