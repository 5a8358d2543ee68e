// Kinesis Video Streams calls of the service, signed as its clients sign them (Signature Version 4).
import { createHash, createHmac } from "node:crypto";

const REGION = "us-east-1";
const SERVICE = "kinesisvideo";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const hmac = (key, text) => createHmac("sha256", key).update(text).digest();

/** A function that calls an operation, such as `getClip`, with an input, and answers its output. */
export function kinesis(origin, { accessKeyId, secretAccessKey }) {
  const { host } = new URL(origin);
  return async (operation, input) => {
    const body = JSON.stringify(input);
    const at = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
    const day = at.slice(0, 8);
    const scope = `${day}/${REGION}/${SERVICE}/aws4_request`;
    const signed = { host, "x-amz-date": at };
    const names = Object.keys(signed).join(";");
    const lines = Object.entries(signed).map(([name, value]) => `${name}:${value}\n`);
    const request = ["POST", `/${operation}`, "", lines.join(""), names, sha256(body)].join("\n");
    const text = ["AWS4-HMAC-SHA256", at, scope, sha256(request)].join("\n");
    const key = [day, REGION, SERVICE, "aws4_request"].reduce(hmac, `AWS4${secretAccessKey}`);
    const signature = hmac(key, text).toString("hex");
    const response = await fetch(`${origin}/${operation}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-amz-date": at,
        authorization: `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`,
      },
      body,
    });
    if (!response.ok) throw new Error(`${operation}: ${response.status} ${await response.text()}`);
    return response.json();
  };
}
