//! The SimpleTags of a Tags element (RFC 9559 §5.1.8).

use super::element as el;
use crate::SimpleTag;
use crate::ebml::{self, Children, Id};

/// In their order, the outer before those within it; `depth` is how deeply they may be nested.
pub(super) fn read_tags(body: &[u8], depth: usize) -> Result<Vec<SimpleTag>, String> {
    let mut tags = Vec::new();
    collect(body, el::TAGS, depth, &mut tags)?;
    Ok(tags)
}

/// Appends those of a Tags, Tag or SimpleTag element.
fn collect(body: &[u8], parent: Id, depth: usize, tags: &mut Vec<SimpleTag>) -> Result<(), String> {
    if parent == el::SIMPLE_TAG {
        let mut tag = SimpleTag { name: String::new(), value: String::new() };
        for child in Children::of(body) {
            let (id, value) = child.map_err(|cause| cause.to_string())?;
            match id {
                el::TAG_NAME => tag.name = ebml::string(value),
                el::TAG_STRING => tag.value = ebml::string(value),
                _ => {}
            }
        }
        if tag.name.is_empty() {
            return Err("SimpleTag has no TagName".into());
        }
        tags.push(tag);
    }
    for child in Children::of(body) {
        let (id, value) = child.map_err(|cause| cause.to_string())?;
        match (parent, id) {
            (el::TAGS, el::TAG) | (el::TAG, el::SIMPLE_TAG) => {
                collect(value, id, depth, tags)?;
            }
            (el::SIMPLE_TAG, el::SIMPLE_TAG) => match depth.checked_sub(1) {
                Some(depth) => collect(value, id, depth, tags)?,
                None => return Err("SimpleTags are nested too deeply".into()),
            },
            _ => {}
        }
    }
    Ok(())
}
