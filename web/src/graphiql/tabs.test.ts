import { readFileSync } from "node:fs";
import {
  buildSchema,
  getVariableValues,
  type OperationDefinitionNode,
  parse,
  validate,
} from "graphql";
import { expect, test } from "vitest";
import { type Camera, tabs } from "./tabs";

const schema = buildSchema(readFileSync("../schema.graphql", "utf8"));
const camera: Camera = {
  id: "dev_1",
  timeZone: "Asia/Kolkata",
  stream: { id: "str_1", latest: "2026-11-22T09:30:00.000Z" },
};

for (const [whose, known] of [
  ["a camera that is there", camera],
  ["one without footage", { ...camera, stream: null }],
  ["none", null],
] as const) {
  test(`every tab is ready to run for ${whose}`, () => {
    const ready = tabs(known, Date.parse("2026-11-22T10:00:00Z"));
    expect(ready).toHaveLength(8);
    for (const { query, variables } of ready) {
      const document = parse(query);
      expect(validate(schema, document)).toEqual([]);
      const operation = document.definitions[0] as OperationDefinitionNode;
      const declared = operation.variableDefinitions ?? [];
      const { errors } = getVariableValues(schema, declared, JSON.parse(variables));
      expect(errors).toBeUndefined();
    }
  });
}

test("they ask about the camera's newest day, as its own zone cuts it", () => {
  const variables = tabs(camera, 0).map((tab) => JSON.parse(tab.variables));
  expect(variables[1]).toEqual({
    stream: "str_1",
    range: { start: "2026-11-21T18:30:00.000Z", end: "2026-11-22T18:30:00.000Z" },
  });
  expect(variables[4].devices).toEqual(["dev_1"]);
});
