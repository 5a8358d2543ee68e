// The viewer's operations by the SHA-256 of the text that it sends, for the service to know them.

import { createHash } from "node:crypto";
import { plugin as typedDocuments } from "@graphql-codegen/typed-document-node";

export async function plugin(schema, documents, config) {
  const { content } = await typedDocuments(schema, documents, {
    ...config,
    documentMode: "string",
  });
  const manifest = {};
  for (const [, text] of content.matchAll(/new TypedDocumentString\(`([^`]*)`/g)) {
    manifest[`sha256:${createHash("sha256").update(text).digest("hex")}`] = text;
  }
  return `${JSON.stringify(manifest, null, 2)}\n`;
}
