//! `lookback_producer.h` declares what `src` defines, with the same types, sizes and numbers.

use crate::example::{compiler, folder};
use lookback_producer_c::{EventKind, EventView, HealthView, ReportView, Status};
use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};

const HEADER: &str = include_str!("../../include/lookback_producer.h");
const SOURCES: [&str; 3] = [
    include_str!("../../src/border.rs"),
    include_str!("../../src/config.rs"),
    include_str!("../../src/producer.rs"),
];

#[test]
fn functions_are_declared_as_they_are_defined() {
    let defined: BTreeMap<String, String> = SOURCES.iter().flat_map(|text| defined(text)).collect();
    assert!(defined.len() > 20, "functions were found in the sources");
    assert_eq!(declared(), defined);
}

/// Name and signature in C of each function, translated from Rust.
fn defined(source: &str) -> Vec<(String, String)> {
    let starts = source.split("#[unsafe(no_mangle)]").skip(1);
    let signatures =
        starts.filter_map(|text| text.split_once("extern \"C\" fn ")?.1.split_once(" {"));
    let translate = |(signature, _): (&str, &str)| {
        let (name, rest) = signature.split_once('(')?;
        let (parameters, result) = rest.rsplit_once(')')?;
        let parameters: Vec<_> = parameters
            .split(',')
            .filter_map(|parameter| parameter.trim().split_once(": "))
            .map(|(name, kind)| format!("{} {name}", c_type(kind)).replace("* ", "*"))
            .collect();
        let parameters =
            if parameters.is_empty() { "void".to_owned() } else { parameters.join(", ") };
        let result = result.trim().strip_prefix("-> ").map_or("void".to_owned(), c_type);
        Some((name.to_owned(), format!("{result} {name}({parameters})").replace("* ", "*")))
    };
    signatures.filter_map(translate).collect()
}

fn c_type(rust: &str) -> String {
    if let Some(target) = rust.strip_prefix("*const ") {
        return format!("const {} *", c_type(target));
    }
    if let Some(target) = rust.strip_prefix("*mut ") {
        let target = c_type(target);
        return if target.ends_with('*') { format!("{target}*") } else { format!("{target} *") };
    }
    match rust {
        "bool" => "bool",
        "u8" => "uint8_t",
        "u32" => "uint32_t",
        "u64" => "uint64_t",
        "i64" => "int64_t",
        "usize" => "size_t",
        "c_char" => "char",
        "c_void" => "void",
        "Status" => "lookback_status",
        "OnEvent" => "lookback_on_event",
        "ConfigHandle" => "lookback_config",
        "ProducerHandle" => "lookback_producer",
        "HealthView" => "lookback_health",
        "ReportView" => "lookback_report",
        other => other,
    }
    .to_owned()
}

fn declared() -> BTreeMap<String, String> {
    let without_comments: String = HEADER
        .split("/*")
        .map(|part| part.split_once("*/").map_or(part, |(_, code)| code))
        .collect();
    let words = without_comments.split_whitespace().collect::<Vec<_>>().join(" ");
    let statements = words.split(';').map(str::trim).filter(|text| text.ends_with(')'));
    let named = statements.filter_map(|text| {
        // What precedes a declaration on its own lines are preprocessor directives and braces.
        let (before, parameters) = text.split_once("(").filter(|_| !text.contains("typedef"))?;
        let before = before.trim_end();
        let name = before.rsplit([' ', '*']).next()?;
        let result = before.strip_suffix(name)?.trim_end();
        let result = ["const char *", "lookback_status", "void"]
            .into_iter()
            .find(|kind| result.ends_with(kind))?;
        let signature = format!("{result} {name}({parameters}").replace("* ", "*");
        name.starts_with("lookback_").then(|| (name.to_owned(), signature))
    });
    named.collect()
}

/// A line for each fact that Rust knows of the types, which the C compiler checks.
#[test]
fn types_are_laid_out_alike() {
    let mut facts = String::from("#include \"lookback_producer.h\"\n");
    let mut fact = |c: &str, number: usize| {
        facts.push_str(&format!("_Static_assert({c} == {number}, \"{c}\");\n"));
    };
    fact("sizeof(lookback_status)", size_of::<Status>());
    fact("sizeof(lookback_event)", size_of::<EventView>());
    fact("sizeof(lookback_health)", size_of::<HealthView>());
    fact("sizeof(lookback_report)", size_of::<ReportView>());
    macro_rules! offsets {
        ($rust:ty, $c:literal: $($field:ident)*) => {
            $(fact(
                concat!("offsetof(", $c, ", ", stringify!($field), ")"),
                offset_of!($rust, $field),
            );)*
        };
    }
    offsets!(EventView, "lookback_event": kind error_id start_ms end_ms count retry_in_ms text);
    offsets!(HealthView, "lookback_health": connected connects failures frames frames_skipped
        fragments_persisted bytes_persisted fragments_dropped bytes_written fragments_waiting
        bytes_waiting waiting_ms segments_announced segments_rejected segments_waiting);
    offsets!(ReportView, "lookback_report": health undelivered unannounced);
    macro_rules! numbers {
        ($kind:ident: $($name:ident $variant:ident)*) => {
            $(fact(concat!("LOOKBACK_", stringify!($name)), $kind::$variant as usize);)*
        };
    }
    numbers!(Status: OK Ok NULL_POINTER NullPointer INVALID_ARGUMENT InvalidArgument
        CONFIG_USED ConfigUsed START_FAILED StartFailed FRAME_REFUSED FrameRefused STOPPED Stopped
        TAGS_FULL TagsFull IN_CALLBACK InCallback PANICKED Panicked);
    numbers!(EventKind: CONNECTED Connected DISCONNECTED Disconnected
        FRAGMENT_PERSISTED FragmentPersisted FRAGMENT_REFUSED FragmentRefused
        FRAGMENT_DROPPED FragmentDropped FRAMES_SKIPPED FramesSkipped
        SEGMENT_ANNOUNCED SegmentAnnounced SEGMENT_REJECTED SegmentRejected
        ANNOUNCE_FAILED AnnounceFailed EVENTS_MISSED EventsMissed OTHER Other);
    let source = folder().join("facts.c");
    std::fs::write(&source, facts).unwrap();
    compiler("-std=c11", &[&source], &folder().join("facts.o"), &["-c"]);
    // A C++ compiler takes the header too.
    let cpp = folder().join("header.cpp");
    std::fs::write(&cpp, "#include \"lookback_producer.h\"\n").unwrap();
    compiler("-std=c++11", &[&cpp], &folder().join("header.o"), &["-c"]);
}
