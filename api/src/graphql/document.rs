//! What a document may ask for: measured before it is parsed, and again before it is validated,
//! since both cost more than linear time.

use crate::config::Limits;
use async_graphql::parser::types::{
    Directive, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql::{Name, Pos, Positioned, ServerError, Value, Variables};
use std::collections::HashMap;

/// Brackets of any kind within each other: the parser goes one call deeper for each.
const MAX_NESTING: usize = 64;
/// The introspection query that tools send is 15 deep.
const MAX_INTROSPECTION_DEPTH: usize = 16;
/// Fields once fragments are written out: a few tokens could else double them 30 times over.
const MAX_FIELDS: usize = 4_000;
const MAX_DIRECTIVES_A_FIELD: usize = 5;
/// Values that variables hold, times the places where the document names one: validation copies a
/// variable for each. A hundred events with all the attributes they may have come to half of it.
const MAX_VARIABLE_VALUES: usize = 1 << 20;
/// GraphQL, September 2025, §5.2.4.1.
const MAX_SUBSCRIPTION_ROOTS: usize = 1;
/// Of a subscription: it is counted once against its caller's rate, and paid for again with every
/// change.
const MAX_SUBSCRIPTION_COST: usize = 200;
/// Each one is a signed URL, and on some backends a call that is charged for.
const MAX_PLAYBACK_SESSIONS: usize = 4;

/// A page beyond it is refused anyway.
const MAX_COUNTED: usize = 10_000;

/// Connections, and how long their page is unless said otherwise.
const PAGES: [(&str, usize); 6] = [
    ("devices", 20),
    ("clips", 50),
    ("segments", 50),
    ("events", 20),
    ("users", 20),
    ("auditLog", 50),
];
/// No input has more fields; validation refuses what lies behind them.
const MAX_INPUT_FIELDS: usize = 32;
/// Lists without pages, and how many are counted. They may be longer, and lead back to what they are
/// of: within each other they would come to millions.
const LISTS: [(&str, usize); 3] = [("streams", 2), ("shares", 20), ("holds", 20)];
/// Fields that read much for one small answer.
const HEAVY: [(&str, usize); 6] = [
    ("coverage", 10),
    ("calendar", 20),
    ("usage", 20),
    ("playbackSession", 10),
    ("snapshot", 5),
    ("thumbnails", 20),
];

/// A document over a limit, with the `extensions.code` of that limit.
fn over(code: &'static str, pos: Option<Pos>, message: impl Into<String>) -> ServerError {
    coded(code, ServerError::new(message, pos))
}

/// The error with an `extensions.code`.
pub fn coded(code: &'static str, mut error: ServerError) -> ServerError {
    error.extensions.get_or_insert_default().set("code", code);
    error
}

/// Measures a document's text.
pub fn check_text(text: &str, limits: &Limits) -> Result<(), ServerError> {
    let Limits { document_chars: max_chars, document_tokens: max_tokens, .. } = *limits;
    // Bytes bound characters from above, and counting those of a short text is cheap.
    if text.len() > max_chars && text.chars().count() > max_chars {
        let message = format!("the document has more than {max_chars} characters");
        return Err(over("TOKEN_LIMIT", None, message));
    }
    let mut nesting = 0usize;
    for (count, token) in Tokens(text.as_bytes()).enumerate() {
        if count >= max_tokens {
            let message = format!("the document has more than {max_tokens} tokens");
            return Err(over("TOKEN_LIMIT", None, message));
        }
        match token {
            b'{' | b'[' | b'(' => nesting += 1,
            b'}' | b']' | b')' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        if nesting > MAX_NESTING {
            let message = format!("the document has more than {MAX_NESTING} nested brackets");
            return Err(over("DEPTH_LIMIT", None, message));
        }
    }
    Ok(())
}

/// Measures what variables come to, all of them in each place that names one.
pub fn check_variables(text: &str, variables: &Variables) -> Result<(), ServerError> {
    let places = Tokens(text.as_bytes()).filter(|token| *token == b'$').count();
    let values = variables.values().map(count_values).fold(0, usize::saturating_add);
    if values.saturating_mul(places) > MAX_VARIABLE_VALUES {
        let message = format!("variables of {values} values in {places} places are too much");
        return Err(over("COST_LIMIT", None, message));
    }
    Ok(())
}

fn count_values(value: &Value) -> usize {
    let inner: usize = match value {
        Value::List(items) => items.iter().map(count_values).sum(),
        Value::Object(fields) => fields.values().map(count_values).sum(),
        _ => 0,
    };
    inner + 1
}

/// The first byte of each token (GraphQL, September 2025, §2.1). Errors are the parser's business.
struct Tokens<'a>(&'a [u8]);

impl Tokens<'_> {
    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        let len = self.0.iter().take_while(|&&byte| wanted(byte)).count();
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        self.0 = self.0.get(len..).unwrap_or_default();
    }

    fn skip_string(&mut self) {
        let (quote, is_block): (&[u8], bool) =
            if self.0.starts_with(b"\"\"\"") { (b"\"\"\"", true) } else { (b"\"", false) };
        self.skip(quote.len());
        while !self.0.is_empty() && !self.0.starts_with(quote) {
            let escape: &[u8] = if is_block { b"\\\"\"\"" } else { b"\\" };
            let escaped = if is_block { escape.len() } else { 2 };
            self.skip(if self.0.starts_with(escape) { escaped } else { 1 });
        }
        self.skip(quote.len());
    }
}

impl Iterator for Tokens<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            let first = *self.0.first()?;
            match first {
                b' ' | b'\t' | b'\r' | b'\n' | b',' => self.skip(1),
                b'#' => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
                b'"' => {
                    self.skip_string();
                    return Some(first);
                }
                b'.' => {
                    self.skip_while(|byte| byte == b'.');
                    return Some(first);
                }
                _ if is_word(first) => {
                    self.skip_while(|byte| is_word(byte) || byte == b'.');
                    return Some(first);
                }
                _ => {
                    self.skip(1);
                    return Some(first);
                }
            }
        }
    }
}

/// Names and numbers.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+')
}

/// What a selection comes to, fragments written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Fields, spreads and inline fragments.
    pub fields: usize,
    pub aliases: usize,
    pub directives: usize,
    pub depth: usize,
    /// One for each object that an answer may hold, page sizes multiplied in; leaves are free.
    pub cost: usize,
}

/// The operation of a document that is to run.
#[derive(Debug)]
pub struct Measured<'a> {
    pub kind: OperationType,
    /// Names of the fields at its root.
    pub roots: Vec<&'a str>,
    /// See [`Weight::cost`].
    pub cost: usize,
}

impl Default for Measured<'_> {
    fn default() -> Self {
        Self { kind: OperationType::Query, roots: Vec::new(), cost: 0 }
    }
}

/// Measures a parsed document; `operation_name` tells which operation is to run. where that
/// fits none, validation says so.
pub fn check<'a>(
    document: &'a ExecutableDocument,
    operation_name: Option<&str>,
    variables: &'a Variables,
    limits: &Limits,
) -> Result<Measured<'a>, ServerError> {
    let mut fields = 0usize;
    let mut fragments = 0usize;
    let mut measured = Measured::default();
    for fragment in document.fragments.values() {
        fragments = fragments.saturating_add(count_fragments(&fragment.node.selection_set));
    }
    for (name, operation) in document.operations.iter() {
        fragments = fragments.saturating_add(count_fragments(&operation.node.selection_set));
        if fragments > limits.fragments {
            let message = format!("the document has more than {} fragments", limits.fragments);
            return Err(over("COST_LIMIT", Some(operation.pos), message));
        }
        let mut scale =
            Scale { document, variables, operation: &operation.node, fragments: HashMap::new() };
        let weight = scale.selections(&operation.node.selection_set)?;
        // Validation goes through every operation, the run only through one.
        fields = fields.saturating_add(weight.fields);
        if fields > MAX_FIELDS {
            let message = format!("the document selects more than {MAX_FIELDS} fields");
            return Err(over("COST_LIMIT", Some(operation.pos), message));
        }
        if operation_name.is_none() || name.map(Name::as_str) == operation_name {
            let mut roots = Vec::new();
            scale.roots(&operation.node.selection_set, &mut roots);
            check_roots(operation, &roots, limits)?;
            check_weight(operation, weight, &roots, limits)?;
            measured = Measured {
                kind: operation.node.ty,
                roots: roots.iter().map(|field| field.name.node.as_str()).collect(),
                cost: weight.cost,
            };
        }
    }
    Ok(measured)
}

/// Fragment spreads and inline fragments, as they are written.
fn count_fragments(set: &Positioned<SelectionSet>) -> usize {
    let count = |selection: &Positioned<Selection>| match &selection.node {
        Selection::Field(field) => count_fragments(&field.node.selection_set),
        Selection::InlineFragment(inline) => 1 + count_fragments(&inline.node.selection_set),
        Selection::FragmentSpread(_) => 1,
    };
    set.node.items.iter().map(count).sum()
}

fn check_weight(
    operation: &Positioned<OperationDefinition>,
    weight: Weight,
    roots: &[&Field],
    limits: &Limits,
) -> Result<(), ServerError> {
    let introspects = roots.iter().all(|field| field.name.node.starts_with("__"));
    let max_depth =
        if introspects { MAX_INTROSPECTION_DEPTH.max(limits.depth) } else { limits.depth };
    let max_cost = match operation.node.ty {
        OperationType::Query | OperationType::Mutation => limits.cost,
        OperationType::Subscription => MAX_SUBSCRIPTION_COST.min(limits.cost),
    };
    for (value, max, code, what) in [
        (weight.depth, max_depth, "DEPTH_LIMIT", "deep"),
        (weight.cost, max_cost, "COST_LIMIT", "in cost"),
        (weight.aliases, limits.aliases, "ALIAS_LIMIT", "aliases"),
        (weight.directives, limits.directives, "COST_LIMIT", "directives"),
    ] {
        if value > max {
            let message = format!("the operation is {value} {what}; at most {max} are allowed");
            return Err(over(code, Some(operation.pos), message));
        }
    }
    Ok(())
}

fn check_roots(
    operation: &Positioned<OperationDefinition>,
    roots: &[&Field],
    limits: &Limits,
) -> Result<(), ServerError> {
    let mutates = operation.node.ty == OperationType::Mutation;
    let max = match operation.node.ty {
        OperationType::Query => limits.query_roots,
        OperationType::Mutation => limits.mutation_roots,
        OperationType::Subscription => MAX_SUBSCRIPTION_ROOTS,
    };
    if roots.len() > max {
        let message = format!("the operation has more than {max} fields at its root");
        return Err(over("COST_LIMIT", Some(operation.pos), message));
    }
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for field in roots {
        let name = field.name.node.as_str();
        let count = uses.entry(name).or_default();
        *count += 1;
        if mutates && *count > 1 && name != "__typename" {
            let message = format!("{name} may be called once in an operation");
            return Err(over("ALIAS_LIMIT", Some(field.name.pos), message));
        }
        if name == "playbackSession" && *count > MAX_PLAYBACK_SESSIONS {
            let message = format!("at most {MAX_PLAYBACK_SESSIONS} playback sessions at a time");
            return Err(over("COST_LIMIT", Some(field.name.pos), message));
        }
    }
    Ok(())
}

struct Scale<'a> {
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    operation: &'a OperationDefinition,
    /// Each fragment is weighed once; `None` while it is being weighed.
    fragments: HashMap<&'a str, Option<Weight>>,
}

impl<'a> Scale<'a> {
    fn selections(&mut self, set: &'a Positioned<SelectionSet>) -> Result<Weight, ServerError> {
        let mut sum = Weight::default();
        for selection in &set.node.items {
            let own = count_directives(selection.node.directives(), selection.pos)?;
            let weight = match &selection.node {
                Selection::Field(field) => self.field(&field.node)?,
                Selection::InlineFragment(inline) => self.selections(&inline.node.selection_set)?,
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node, selection.pos)?
                }
            };
            // The selection itself counts, so that spreads of nothing are no way round the limit.
            sum = Weight {
                fields: sum.fields.saturating_add(weight.fields).saturating_add(1),
                aliases: sum.aliases.saturating_add(weight.aliases),
                directives: sum.directives.saturating_add(weight.directives).saturating_add(own),
                depth: sum.depth.max(weight.depth),
                cost: sum.cost.saturating_add(weight.cost),
            };
        }
        Ok(sum)
    }

    fn field(&mut self, field: &'a Field) -> Result<Weight, ServerError> {
        let inner = self.selections(&field.selection_set)?;
        let is_leaf = field.selection_set.node.items.is_empty();
        let own = HEAVY
            .iter()
            .chain(&LISTS)
            .find(|(name, _)| *name == field.name.node)
            .map_or(usize::from(!is_leaf), |&(_, cost)| cost);
        Ok(Weight {
            fields: inner.fields,
            aliases: inner.aliases.saturating_add(usize::from(field.alias.is_some())),
            directives: inner.directives,
            depth: inner.depth.saturating_add(1),
            cost: inner.cost.saturating_mul(self.multiplier(field)).saturating_add(own),
        })
    }

    fn fragment(&mut self, name: &'a Name, pos: Pos) -> Result<Weight, ServerError> {
        match self.fragments.get(name.as_str()) {
            Some(Some(weight)) => return Ok(*weight),
            Some(None) => {
                let message = format!("fragment {name} contains itself");
                return Err(over("GRAPHQL_VALIDATION_FAILED", Some(pos), message));
            }
            None => {}
        }
        let document = self.document;
        let Some(fragment) = document.fragments.get(name) else {
            // Validation says so with more words.
            return Ok(Weight::default());
        };
        self.fragments.insert(name.as_str(), None);
        let weight = self.selections(&fragment.node.selection_set)?;
        self.fragments.insert(name.as_str(), Some(weight));
        Ok(weight)
    }

    /// How many times a field's inner selection may be answered.
    fn multiplier(&self, field: &Field) -> usize {
        let name = field.name.node.as_str();
        if let Some(&(_, default)) = PAGES.iter().find(|(page, _)| *page == name) {
            return match self.argument(field, "first") {
                Some(Value::Number(first)) => {
                    first.as_u64().map_or(default, |first| first.min(MAX_COUNTED as u64) as usize)
                }
                _ => default,
            };
        }
        if let Some(&(_, counted)) = LISTS.iter().find(|(list, _)| *list == name) {
            return counted;
        }
        // Each identifier is answered, and of each list of an input each item.
        self.listed(field, "ids").max(self.listed(field, "input"))
    }

    /// Items of the longest list in an argument; else one.
    fn listed(&self, field: &Field, name: &str) -> usize {
        let Some(argument) = field.get_argument(name) else { return 1 };
        let mut longest = 1;
        let written = argument.node.clone().into_const_with(|name| {
            longest = longest.max(self.variable(&name).map_or(1, items));
            Ok::<_, ()>(Value::Null)
        });
        written.map_or(longest, |written| longest.max(items(&written)))
    }

    fn variable(&self, name: &Name) -> Option<&Value> {
        let declared = || {
            let all = &self.operation.variable_definitions;
            let found = all.iter().find(|definition| definition.node.name.node == *name)?;
            found.node.default_value.as_ref().map(|value| &value.node)
        };
        self.variables.get(name).or_else(declared)
    }

    fn argument(&self, field: &Field, name: &str) -> Option<Value> {
        let value = field.get_argument(name)?.node.clone();
        value.into_const_with(|name| self.variable(&name).cloned().ok_or(())).ok()
    }

    /// The fields at the root, fragments written out; called on what was weighed, so it ends.
    fn roots(&self, set: &'a Positioned<SelectionSet>, roots: &mut Vec<&'a Field>) {
        for selection in &set.node.items {
            match &selection.node {
                Selection::Field(field) => roots.push(&field.node),
                Selection::InlineFragment(inline) => self.roots(&inline.node.selection_set, roots),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = self.document.fragments.get(name) {
                        self.roots(&fragment.node.selection_set, roots);
                    }
                }
            }
        }
    }
}

/// Of a list, or of the longest list in an object; else one.
fn items(value: &Value) -> usize {
    let of_list = |value: &Value| match value {
        Value::List(list) => list.len(),
        _ => 1,
    };
    match value {
        Value::Object(fields) => {
            fields.values().take(MAX_INPUT_FIELDS).map(of_list).max().unwrap_or(1)
        }
        value => of_list(value),
    }
}

fn count_directives(directives: &[Positioned<Directive>], pos: Pos) -> Result<usize, ServerError> {
    if directives.len() > MAX_DIRECTIVES_A_FIELD {
        let message = format!("more than {MAX_DIRECTIVES_A_FIELD} directives in one place");
        return Err(over("COST_LIMIT", Some(pos), message));
    }
    Ok(directives.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_query;

    /// The code that a document is refused with.
    fn refusal(text: &str, variables: serde_json::Value) -> Option<String> {
        let run = || {
            let limits = Limits::default();
            let variables = Variables::from_json(variables);
            check_text(text, &limits)?;
            check_variables(text, &variables)?;
            let document = parse_query(text).map_err(ServerError::from)?;
            check(&document, None, &variables, &limits).map(|_| ())
        };
        let code = |error: ServerError| match error.extensions.as_ref().and_then(|e| e.get("code"))
        {
            Some(Value::String(code)) => code.clone(),
            _ => error.message,
        };
        run().err().map(code)
    }

    fn check_refusal(text: &str, expected: Option<&str>) {
        let start: String = text.chars().take(80).collect();
        assert_eq!(refusal(text, serde_json::json!({})).as_deref(), expected, "{start}");
    }

    fn nested(levels: usize) -> String {
        "{a".repeat(levels) + &"}".repeat(levels)
    }

    #[test]
    fn limits() {
        let doubling = (0..40)
            .map(|n| format!("fragment f{n} on Query {{ ...f{m} ...f{m} }} ", m = n + 1))
            .collect::<String>()
            + "{ ...f0 }";
        for (text, expected) in [
            ("{ service { version } }".to_owned(), None),
            (nested(12), None),
            (nested(13), Some("DEPTH_LIMIT")),
            (nested(65), Some("DEPTH_LIMIT")),
            (format!("{{ a(x: {}1{}) }}", "[".repeat(65), "]".repeat(65)), Some("DEPTH_LIMIT")),
            (format!("{{ __schema {} }}", nested(15)), None),
            (format!("{{ __schema {} }}", nested(16)), Some("DEPTH_LIMIT")),
            (format!("{{ a __schema {} }}", nested(12)), Some("DEPTH_LIMIT")),
            (format!("{{ a }} #{}", "x".repeat(15_000)), Some("TOKEN_LIMIT")),
            (format!("{{ a(x: \"{}\") }}", "é".repeat(14_900)), None),
            (format!("{{ {} }}", "a ".repeat(1_999)), Some("TOKEN_LIMIT")),
            (format!("{{ x {{ {} }} }}", "a ".repeat(1_990)), None),
            (format!("{{ x {{ {} }} }}", "b: a ".repeat(15)), None),
            (format!("{{ x {{ {} }} }}", "b: a ".repeat(16)), Some("ALIAS_LIMIT")),
            (format!("{{ {} }}", "a ".repeat(20)), None),
            (format!("{{ {} }}", "a ".repeat(21)), Some("COST_LIMIT")),
            ("mutation { a b c d e }".into(), None),
            ("mutation { a b c d e f }".into(), Some("COST_LIMIT")),
            ("mutation { a b: a }".into(), Some("ALIAS_LIMIT")),
            ("mutation { a ...{ ...{ a } } }".into(), Some("ALIAS_LIMIT")),
            ("{ a: playbackSession b: playbackSession }".into(), None),
            (format!("{{ {} }}", "playbackSession ".repeat(5)), Some("COST_LIMIT")),
            (format!("{{ a {} }}", "@x ".repeat(5)), None),
            (format!("{{ a {} }}", "@x ".repeat(6)), Some("COST_LIMIT")),
            (format!("{{ x {{ {} }} }}", "a @x @y @z ".repeat(17)), Some("COST_LIMIT")),
            (doubling, Some("COST_LIMIT")),
            (format!("{{ {} }}", "...{ a } ".repeat(51)), Some("COST_LIMIT")),
            (format!("{{ x {{ {} }} }}", "...{ a } ".repeat(50)), None),
            ("fragment f on Query { ...f } { ...f }".into(), Some("GRAPHQL_VALIDATION_FAILED")),
            ("{ a { clips(first: 300) { nodes { size } } } }".into(), None),
            ("subscription { a { clips(first: 150) { nodes { size } } } }".into(), None),
            (
                "subscription { a { clips(first: 300) { nodes { size } } } }".into(),
                Some("COST_LIMIT"),
            ),
        ] {
            check_refusal(&text, expected);
        }
    }

    #[test]
    fn long_variables_are_not_named_often() {
        for (values, places, is_refused) in
            [(64_000, 1, false), (64_000, 6, false), (64_000, 10, true), (900, 280, false)]
        {
            let list: Vec<_> = (0..values).map(|_| serde_json::json!({"a": 0})).collect();
            let text = format!("query($x: X) {{ a {{ {} }} }}", "a(x:$x)".repeat(places));
            let refused = refusal(&text, serde_json::json!({ "x": list }));
            let expected = is_refused.then_some("COST_LIMIT");
            assert_eq!(refused.as_deref(), expected, "{values} in {places}");
        }
    }

    #[test]
    fn cost_counts_pages() {
        let cost = |text: &str, variables: serde_json::Value| {
            let document = parse_query(text).unwrap();
            let (_, operation) = document.operations.iter().next().unwrap();
            let variables = Variables::from_json(variables);
            let mut scale = Scale {
                document: &document,
                variables: &variables,
                operation: &operation.node,
                fragments: HashMap::new(),
            };
            scale.selections(&operation.node.selection_set).unwrap().cost
        };
        let none = serde_json::json!({});
        for (text, variables, expected) in [
            ("{ service { version limits { maxDepth } } }", none.clone(), 2),
            ("{ devices { nodes { id } } }", none.clone(), 21),
            ("{ devices(first: 100) { nodes { id name } } }", none.clone(), 101),
            ("query($n: Int) { devices(first: $n) { nodes { id } } }", none.clone(), 21),
            ("query($n: Int = 7) { devices(first: $n) { nodes { id } } }", none.clone(), 8),
            (
                "query($n: Int) { devices(first: $n) { nodes { id } } }",
                serde_json::json!({"n": 50}),
                51,
            ),
            ("{ devices { nodes { streams { clips { nodes { size } } } } } }", none.clone(), 2101),
            ("{ a { holds { stream { holds { id } } } } }", none.clone(), 441),
            ("{ nodes(ids: [1, 2, 3]) { ... on Device { stream { id } } } }", none.clone(), 4),
            (
                "query($a: ID!) { nodes(ids: [$a, $a]) { ... on Device { stream { id } } } }",
                serde_json::json!({"a": "a"}),
                3,
            ),
            (
                "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Device { stream { id } } } }",
                serde_json::json!({"ids": ["a", "b", "c", "d"]}),
                5,
            ),
            ("{ a { coverage { coveredSeconds } } }", none, 11),
            (
                "mutation($n: ID!) { a(input: { ids: [$n, $n, $n] }) { nodes { device { id } } } }",
                serde_json::json!({"n": "x"}),
                7,
            ),
            (
                "mutation($i: In!) { a(input: $i) { results { segment { id } } } }",
                serde_json::json!({"i": {"sentAt": "", "segments": [{}, {}, {}, {}]}}),
                9,
            ),
            (
                "mutation($s: [S!]!) { a(input: { sentAt: \"\", segments: $s }) { results { id } } }",
                serde_json::json!({"s": [{}, {}, {}]}),
                4,
            ),
        ] {
            assert_eq!(cost(text, variables), expected, "{text}");
        }
        for text in [
            "{ devices(first: 100) { nodes { streams { clips { nodes { size } } } } } }",
            "{ a { holds { stream { holds { stream { holds { id } } } } } } }",
            "{ a { shares { device { shares { device { shares { id } } } } } } }",
        ] {
            check_refusal(text, Some("COST_LIMIT"));
        }
    }

    #[test]
    fn tokens() {
        for (text, expected) in [
            ("", 0),
            (" ,\t\r\n# a comment { } \n", 0),
            ("{ a }", 3),
            ("{a(b:-1.5e+3)...F@x}", 12),
            (r#""a \" b" "#, 1),
            (r#"""" a " \""" b """ c"#, 2),
            (r#""open"#, 1),
            (r#""open\"#, 1),
            ("$a: [Int!]! = 1", 10),
        ] {
            assert_eq!(Tokens(text.as_bytes()).count(), expected, "{text:?}");
        }
    }
}
