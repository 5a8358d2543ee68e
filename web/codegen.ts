import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../schema.graphql",
  documents: "src/**/*.graphql",
  generates: {
    "src/graphql/documents.json": { plugins: ["./codegen-documents.js"] },
    "src/graphql/operations.ts": {
      plugins: ["typescript-operations", "typed-document-node"],
      config: {
        documentMode: "string",
        enumType: "string-literal",
        useTypeImports: true,
        defaultScalarType: "unknown",
        scalars: {
          DateTime: "string",
          LocalDate: "string",
          TimeZone: "string",
          ByteCount: "string",
          URL: "string",
          JSONObject: "Record<string, unknown>",
        },
      },
    },
  },
};

export default config;
