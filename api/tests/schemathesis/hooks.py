"""What schemathesis sends for the scalars of our own, and what it holds answers to."""

import dataclasses
import datetime

import graphql
import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes

# The pages that a server answers; what is longer is refused in one and the same way.
MAX_PAGE = 50
# What a caller did, or asked too much of.
CALLERS = {
    "ALIAS_LIMIT",
    "BAD_USER_INPUT",
    "COST_LIMIT",
    "DEPTH_LIMIT",
    "FORBIDDEN",
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
    "NOT_SUPPORTED",
    "PAGE_LIMIT",
    "TOKEN_LIMIT",
}

NOW = datetime.datetime.now()
LONG_AGO = datetime.datetime(1900, 1, 1)
FAR_AHEAD = datetime.datetime(2100, 1, 1)
ZONES = ["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Mars/Olympus", "", "+01:00"]


def spelled(at):
    return at.isoformat(timespec="milliseconds") + "Z"


def scalar(name, strategy):
    schemathesis.graphql.scalar(name, strategy.map(nodes.String))


# Mostly of the days around the recordings that are there.
recent = st.integers(-10 * 86_400, 600).map(lambda s: NOW + datetime.timedelta(seconds=s))
scalar("DateTime", (recent | recent | st.datetimes(LONG_AGO, FAR_AHEAD)).map(spelled))
scalar("LocalDate", (recent.map(datetime.datetime.date) | st.dates()).map(str))
scalar("TimeZone", st.sampled_from(ZONES))
scalar("ByteCount", st.integers(0).map(str))
scalar("URL", st.just("https://example.org/"))
attribute = st.text(max_size=5).map(nodes.String) | st.integers().map(nodes.Int)
schemathesis.graphql.scalar(
    "JSONObject",
    attribute.map(
        lambda value: graphql.ObjectValueNode(
            fields=(graphql.ObjectFieldNode(name=graphql.NameNode(value="a"), value=value),)
        )
    ),
)


class ShortPages(graphql.Visitor):
    def leave_argument(self, node, *_):
        if node.name.value == "first" and isinstance(node.value, graphql.IntValueNode):
            length = abs(int(node.value.value)) % (MAX_PAGE + 1)
            return dataclasses.replace(node, value=nodes.Int(length))
        return None


@schemathesis.hook
def map_body(_context, body):
    return graphql.visit(body, ShortPages())


@schemathesis.check
def answers(_context, response, case):
    """No fault of the service, and data as its schema promises."""
    assert response.status_code == 200, f"status {response.status_code}"
    answer = response.json()
    for error in answer.get("errors", []):
        code = error.get("extensions", {}).get("code")
        assert code in CALLERS, f"{code}: {error['message']}"
    if answer.get("data") is not None:
        schema = case.operation.schema.client_schema
        document = graphql.parse(case.body)
        (operation,) = (
            definition
            for definition in document.definitions
            if isinstance(definition, graphql.OperationDefinitionNode)
        )
        root = schema.get_root_type(operation.operation)
        hold_object(schema, root, operation.selection_set, answer["data"], ())


def hold(schema, of, selections, value, path):
    """Holds one value to its type."""
    if isinstance(of, graphql.GraphQLNonNull):
        assert value is not None, f"{path} is null"
        of = of.of_type
    if value is None:
        return
    if isinstance(of, graphql.GraphQLList):
        assert isinstance(value, list), f"{path} is no list"
        for place, item in enumerate(value):
            hold(schema, of.of_type, selections, item, (*path, place))
    elif isinstance(of, graphql.GraphQLEnumType):
        assert value in of.values, f"{path} is {value!r}"
    elif isinstance(of, graphql.GraphQLScalarType):
        kinds = {"Int": int, "Float": (int, float), "Boolean": bool, "JSONObject": dict}
        assert isinstance(value, kinds.get(of.name, str)), f"{path} is {value!r}"
    elif graphql.is_object_type(of):
        hold_object(schema, of, selections, value, path)
    else:
        # Of an interface or a union, only what tells the types apart is not known here.
        assert isinstance(value, dict), f"{path} is no object"


def hold_object(schema, of, selections, value, path):
    assert isinstance(value, dict), f"{path} is no object"
    for selection in selections.selections:
        if isinstance(selection, graphql.InlineFragmentNode):
            hold_object(schema, of, selection.selection_set, value, path)
            continue
        name = selection.name.value
        key = selection.alias.value if selection.alias else name
        if name == "__typename":
            assert value.get(key) == of.name, f"{path} is a {value.get(key)}"
            continue
        assert key in value, f"{path} lacks {key}"
        hold(schema, of.fields[name].type, selection.selection_set, value[key], (*path, key))
