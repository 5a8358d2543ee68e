"""What botocore's own service models say of a request and its answer: values that a request must
not have, and whether an answer is as it should be."""

import datetime
import re

# Texts of which one at least breaks any pattern of the models.
STRANGE = ["*", " ", "\n", "!{}", "a b", "-"]


def pattern_of(shape):
    """The shape's pattern for `re.fullmatch`, which knows no classes of Unicode by their names."""
    pattern = shape.metadata.get("pattern")
    if pattern is None:
        return None
    for name, characters in (("L", "\\w"), ("Z", " "), ("N", "\\w")):
        pattern = pattern.replace("\\p{%s}" % name, characters)
    return pattern.removeprefix("^").removesuffix("$")


def bad_values(shape):
    """Values of the shape's type that the model does not allow, each with what is wrong with it."""
    limits = shape.metadata
    if shape.type_name == "string":
        if shape.enum:
            yield "not in the enum", "NO_SUCH_VALUE"
        if limits.get("min", 0) > 0:
            yield "too short", "a" * (limits["min"] - 1)
        if "max" in limits:
            yield "too long", "a" * (limits["max"] + 1)
        pattern = pattern_of(shape)
        if pattern is not None:
            yield "malformed", next(t for t in STRANGE if not re.fullmatch(pattern, t))
    elif shape.type_name in ("integer", "long"):
        if "min" in limits:
            yield "too small", limits["min"] - 1
        if "max" in limits:
            yield "too large", limits["max"] + 1
    elif shape.type_name == "list":
        if limits.get("min", 0) > 0:
            yield "too few", []


def bad_inputs(shape, good, path=()):
    """Inputs like `good` with one thing wrong; only members that `good` has are changed."""
    for name in shape.required_members:
        yield (*path, name, "missing"), {key: v for key, v in good.items() if key != name}
    for name, member in shape.members.items():
        if name not in good:
            continue
        value = good[name]

        def with_value(changed, name=name):
            return {**good, name: changed}

        for wrong, bad in bad_values(member):
            yield (*path, name, wrong), with_value(bad)
        if member.type_name == "structure":
            for where, bad in bad_inputs(member, value, (*path, name)):
                yield where, with_value(bad)
        elif member.type_name == "list":
            if member.member.type_name == "structure":
                for where, bad in bad_inputs(member.member, value[0], (*path, name)):
                    yield where, with_value([bad])
            else:
                for wrong, bad in bad_values(member.member):
                    yield (*path, name, wrong), with_value([bad])
            if "max" in member.metadata:
                many = [value[0]] * (member.metadata["max"] + 1)
                yield (*path, name, "too many"), with_value(many)
        elif member.type_name == "map":
            key, item = next(iter(value.items()))
            for wrong, bad in bad_values(member.key):
                yield (*path, name, "key", wrong), with_value({bad: item})
            for wrong, bad in bad_values(member.value):
                yield (*path, name, "value", wrong), with_value({key: bad})
            if member.metadata.get("min", 0) > 0:
                yield (*path, name, "empty"), with_value({})
            if "max" in member.metadata and not member.key.enum:
                many = {f"{key}{n}": item for n in range(member.metadata["max"] + 1)}
                yield (*path, name, "too many"), with_value(many)


def faults(shape, value, path="answer"):
    """Where an answer, as botocore has parsed it, is not what the model says."""
    limits = shape.metadata
    kind = shape.type_name
    if kind == "structure":
        for name in shape.required_members:
            if name not in value:
                yield f"{path}.{name} is missing"
        for name, member in value.items():
            if name == "ResponseMetadata":
                continue
            if name not in shape.members:
                yield f"{path}.{name} is unknown"
            else:
                yield from faults(shape.members[name], member, f"{path}.{name}")
    elif kind == "list":
        for n, item in enumerate(value):
            yield from faults(shape.member, item, f"{path}[{n}]")
    elif kind == "map":
        for key, item in value.items():
            yield from faults(shape.key, key, f"{path} key {key!r}")
            yield from faults(shape.value, item, f"{path}[{key!r}]")
    elif kind == "string":
        pattern = pattern_of(shape)
        if not isinstance(value, str):
            yield f"{path} is no text"
        elif shape.enum and value not in shape.enum:
            yield f"{path} {value!r} is not one of {shape.enum}"
        elif not limits.get("min", 0) <= len(value) <= limits.get("max", len(value)):
            yield f"{path} has {len(value)} characters"
        elif pattern is not None and not re.fullmatch(pattern, value):
            yield f"{path} {value!r} is not {pattern}"
    elif kind in ("integer", "long"):
        if type(value) is not int:
            yield f"{path} is no whole number"
        elif not limits.get("min", value) <= value <= limits.get("max", value):
            yield f"{path} is {value}"
    elif kind == "timestamp":
        if not isinstance(value, datetime.datetime):
            yield f"{path} is no time"


def statuses(operation):
    """The HTTP status of each error that an operation may answer."""
    return {
        error.error_code: error.metadata["error"]["httpStatusCode"]
        for error in operation.error_shapes
    }
