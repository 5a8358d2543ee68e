//! Element identifiers (RFC 9559 §5, RFC 8794 §11) and their names.

use crate::ebml::Id;
use std::fmt;

macro_rules! elements {
    ($($constant:ident $name:ident = $id:literal;)*) => {
        $(pub const $constant: Id = Id($id);)*

        impl fmt::Display for Id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $($constant => f.write_str(stringify!($name)),)*
                    Id(id) => write!(f, "element 0x{id:X}"),
                }
            }
        }
    };
}

elements! {
    EBML EBML = 0x1A45_DFA3;
    EBML_VERSION EBMLVersion = 0x4286;
    EBML_READ_VERSION EBMLReadVersion = 0x42F7;
    EBML_MAX_ID_LENGTH EBMLMaxIDLength = 0x42F2;
    EBML_MAX_SIZE_LENGTH EBMLMaxSizeLength = 0x42F3;
    DOC_TYPE DocType = 0x4282;
    DOC_TYPE_VERSION DocTypeVersion = 0x4287;
    DOC_TYPE_READ_VERSION DocTypeReadVersion = 0x4285;
    VOID Void = 0xEC;
    CRC_32 CRC32 = 0xBF;

    SEGMENT Segment = 0x1853_8067;
    SEEK_HEAD SeekHead = 0x114D_9B74;
    INFO Info = 0x1549_A966;
    SEGMENT_UID SegmentUUID = 0x73A4;
    TIMECODE_SCALE TimestampScale = 0x2A_D7B1;
    MUXING_APP MuxingApp = 0x4D80;
    WRITING_APP WritingApp = 0x5741;

    TRACKS Tracks = 0x1654_AE6B;
    TRACK_ENTRY TrackEntry = 0xAE;
    TRACK_NUMBER TrackNumber = 0xD7;
    TRACK_UID TrackUID = 0x73C5;
    TRACK_TYPE TrackType = 0x83;
    TRACK_NAME Name = 0x536E;
    CODEC_ID CodecID = 0x86;
    CODEC_PRIVATE CodecPrivate = 0x63A2;
    DEFAULT_DURATION DefaultDuration = 0x23_E383;
    CONTENT_ENCODINGS ContentEncodings = 0x6D80;
    VIDEO Video = 0xE0;
    PIXEL_WIDTH PixelWidth = 0xB0;
    PIXEL_HEIGHT PixelHeight = 0xBA;
    AUDIO Audio = 0xE1;
    SAMPLING_FREQUENCY SamplingFrequency = 0xB5;
    CHANNELS Channels = 0x9F;
    BIT_DEPTH BitDepth = 0x6264;

    CLUSTER Cluster = 0x1F43_B675;
    TIMECODE Timestamp = 0xE7;
    SIMPLE_BLOCK SimpleBlock = 0xA3;
    BLOCK_GROUP BlockGroup = 0xA0;
    BLOCK Block = 0xA1;
    BLOCK_DURATION BlockDuration = 0x9B;
    REFERENCE_BLOCK ReferenceBlock = 0xFB;

    CUES Cues = 0x1C53_BB6B;
    CHAPTERS Chapters = 0x1043_A770;
    ATTACHMENTS Attachments = 0x1941_A469;
    TAGS Tags = 0x1254_C367;
    TAG Tag = 0x7373;
    SIMPLE_TAG SimpleTag = 0x67C8;
    TAG_NAME TagName = 0x45A3;
    TAG_STRING TagString = 0x4487;
}

/// Whether an element is a child of Segment, so that it ends a Cluster of unknown size (RFC 8794
/// §6.2).
pub fn is_segment_child(id: Id) -> bool {
    matches!(id, SEEK_HEAD | INFO | TRACKS | CLUSTER | CUES | CHAPTERS | ATTACHMENTS | TAGS)
}
