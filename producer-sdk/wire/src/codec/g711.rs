//! G.711 (ITU-T G.711) in a WAVEFORMATEX, as `A_MS/ACM` carries it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    Mu,
    A,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct G711Config {
    pub law: Law,
    pub sampling_hz: u32,
    pub channels: u32,
}
