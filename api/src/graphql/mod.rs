//! The GraphQL schema: one file per type, besides what all of them share. Resolvers decide nothing
//! about access and know no backend; what is exported is spelled as in `schema.graphql`.

pub mod asked;
pub mod calendar;
pub mod clip;
pub mod coverage;
pub mod credential;
pub mod device;
pub mod document;
pub mod execute;
pub mod fault;
pub mod ingest;
pub mod loader;
pub mod mutation;
pub mod node;
pub mod pagination;
pub mod plan;
pub mod playback;
pub mod query;
pub mod register;
pub mod scalar;
pub mod segment;
pub mod service;
pub mod stream;
pub mod time_range;
pub mod upload_grant;
pub mod user_error;
pub mod viewer;

use async_graphql::{EmptySubscription, SDLExportOptions};
use mutation::Mutation;
use query::Query;
use std::sync::LazyLock;

pub use asked::Asked;
pub use execute::{Outcome, Prepared, Request, execute, prepare};

pub type Schema = async_graphql::Schema<Query, Mutation, EmptySubscription>;

/// The schema; one serves every request, since what belongs to a request comes along with it.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    // Depth, cost and aliases are measured in `document`, before validation has to go through them.
    Schema::build(Query, Mutation, EmptySubscription).finish()
});

/// The schema as a document, sorted.
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items()
        .prefer_single_line_descriptions()
        .include_specified_by()
        .use_space_ident();
    SCHEMA.sdl_with_options(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_schema;
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};

    /// A schema's definitions without positions, their members and themselves sorted.
    fn sorted(text: &str) -> Vec<String> {
        let mut definitions: Vec<String> = parse_schema(text)
            .unwrap()
            .definitions
            .into_iter()
            .map(|mut definition| {
                if let TypeSystemDefinition::Type(definition) = &mut definition {
                    match &mut definition.node.kind {
                        TypeKind::Object(object) => {
                            object.fields.sort_by_key(|field| field.node.name.to_string());
                            object.implements.sort_by_key(ToString::to_string);
                        }
                        TypeKind::Interface(interface) => {
                            interface.fields.sort_by_key(|field| field.node.name.to_string());
                        }
                        TypeKind::Union(union) => union.members.sort_by_key(ToString::to_string),
                        TypeKind::Enum(values) => {
                            values.values.sort_by_key(|value| value.node.value.to_string());
                        }
                        TypeKind::InputObject(input) => {
                            input.fields.sort_by_key(|field| field.node.name.to_string());
                        }
                        TypeKind::Scalar => {}
                    }
                }
                let shown = format!("{definition:?}");
                let mut parts = shown.split("Pos(");
                let first = parts.next().unwrap_or_default().to_owned();
                parts.fold(first, |text, part| text + part.split_once(')').unwrap().1)
            })
            .collect();
        definitions.sort();
        definitions
    }

    #[test]
    fn the_contract_at_the_root_is_what_is_exported() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema.graphql");
        let contract = sorted(&std::fs::read_to_string(path).unwrap());
        let exported = sorted(&sdl());
        for definition in &exported {
            assert!(contract.contains(definition), "write schema.graphql anew: {definition}");
        }
        assert_eq!(contract.len(), exported.len(), "write schema.graphql anew");
    }
}
