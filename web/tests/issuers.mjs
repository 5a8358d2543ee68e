// Two OIDC issuers as other people wrote them: oidc-provider, where people sign in, and
// oauth2-mock-server, which signs whatever it is asked to.
import { createServer } from "node:http";
import { OAuth2Server } from "oauth2-mock-server";
import Provider from "oidc-provider";

export const SECRET = "the viewer's secret: 100 % & more";
const SCRIPT_SECRET = "the script's secret";
/** What oidc-provider calls our API; its tokens are for `lookback`. */
const API = "https://lookback.example/api";

/**
 * An issuer that people sign in to, once it is told where the viewer is. Until then it answers 503.
 * Its host is `localhost`, which to a browser is another site than 127.0.0.1.
 */
export async function startProvider() {
  let answer = (_request, response) => response.writeHead(503).end();
  const server = createServer((request, response) => answer(request, response));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://localhost:${server.address().port}`;
  return {
    url,
    serve(viewer) {
      const provider = new Provider(url, {
        clients: [
          {
            client_id: "viewer",
            client_secret: SECRET,
            redirect_uris: [`${viewer}/auth/oidc/gate/callback`],
          },
          {
            client_id: "script",
            client_secret: SCRIPT_SECRET,
            grant_types: ["client_credentials"],
            redirect_uris: [],
            response_types: [],
          },
        ],
        claims: { openid: ["sub"], profile: ["name", "groups"] },
        // Claims of the asked scopes stand in the ID token, as most issuers have it.
        conformIdTokenClaims: false,
        cookies: { keys: ["cookie key"] },
        extraTokenClaims: () => ({ groups: ["guards"] }),
        findAccount: (_ctx, id) => ({
          accountId: id,
          claims: () => ({ sub: id, name: `${id} of the gate`, groups: ["staff", "guards"] }),
        }),
        features: {
          clientCredentials: { enabled: true },
          resourceIndicators: {
            enabled: true,
            getResourceServerInfo: () => ({
              audience: "lookback",
              scope: "api",
              accessTokenFormat: "jwt",
            }),
          },
        },
        pkce: { required: () => true },
      });
      answer = provider.callback();
    },
    /** An access token for a script, by its own credentials. */
    async token() {
      const basic = Buffer.from(`script:${encodeURIComponent(SCRIPT_SECRET)}`).toString("base64");
      const response = await fetch(`${url}/token`, {
        method: "POST",
        headers: { authorization: `Basic ${basic}` },
        body: new URLSearchParams({ grant_type: "client_credentials", resource: API }),
      });
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      return (await response.json()).access_token;
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** An issuer whose tokens say what a test wants them to. */
export async function startMock() {
  const server = new OAuth2Server();
  let { kid } = await server.issuer.keys.generate("RS256");
  await server.start(0, "127.0.0.1");
  const url = `http://127.0.0.1:${server.address().port}`;
  server.issuer.url = url;
  return {
    url,
    /** A token that a user brings, with these changes; null takes a claim away. */
    token(header = {}, payload = {}) {
      return server.issuer.buildToken({
        kid,
        scopesOrTransform: (tokenHeader, tokenPayload) => {
          Object.assign(tokenHeader, { typ: "at+jwt" }, header);
          Object.assign(tokenPayload, { aud: "lookback", sub: "user-1", name: "One" }, payload);
          for (const [claim, value] of Object.entries(tokenPayload)) {
            if (value === null) delete tokenPayload[claim];
          }
        },
      });
    },
    /** Signs with a new key from now on. */
    async rotate(algorithm) {
      ({ kid } = await server.issuer.keys.generate(algorithm));
    },
    stop: () => server.stop(),
  };
}
